//! One connection of framed JSON, version 1.
//!
//! One task reads and admits, one writes, and each request is a task of its own.
//! What breaks the protocol ends the connection, and its sessions with it; other
//! connections go on.

use super::session::{Admitted, Host, REQUESTS, Remembered, SESSIONS, SHUTDOWN_GRACE, Session};
use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use cellblock::protocol::frame::{self, FrameError};
use cellblock::protocol::{
    ClientMessage, DelegateRequest, DelegateValue, HostMessage, LIMITS_CAPABILITY,
    MAX_DELEGATE_CALLS, OperationRequest, OperationValue, Outcome, RejectionReason, VERSION,
};
use cellblock::{
    CellId, CodeModeNestedToolCall, CodeModeTurnHost, CodeModeTurnWorker, ToolResult, WaitRequest,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Writes what is queued, until nothing can come any more or the client stops reading.
async fn write<O>(
    mut queue: mpsc::Receiver<Bytes>,
    mut sink: O,
    gone: CancellationToken,
) -> Result<()>
where
    O: Sink<Bytes> + Unpin,
    O::Error: Display,
{
    let _gone = gone.drop_guard();
    let failed = |error: O::Error| anyhow::anyhow!("cannot write to the client: {error}");
    while let Some(frame) = queue.recv().await {
        let written = async {
            sink.feed(frame).await?;
            while let Ok(frame) = queue.try_recv() {
                sink.feed(frame).await?;
            }
            sink.flush().await
        };
        timeout(STALLED, written)
            .await
            .with_context(|| format!("the client has not read for {} s", STALLED.as_secs()))?
            .map_err(failed)?;
    }
    sink.close().await.map_err(failed)
}
