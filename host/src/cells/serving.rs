//! The turn's host that serves a nested call or a notification, now or later.

use crate::backend::{CellId, CodeModeNestedToolCall, CodeModeTurnHost, ToolResult};
use crate::tools::ToolName;
use crate::turns::CurrentTurn;
use futures_util::FutureExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The worker that a callback is for.
pub(super) enum Serving {
    Now(Arc<dyn CodeModeTurnHost>),
    /// The first that starts.
    Later(CurrentTurn),
}

impl Serving {
    /// Whether calls of a tool may be made in place. A host that panics there has it in a task.
    pub(super) fn answers_at_once(&self, tool: &ToolName) -> bool {
        let Self::Now(host) = self else { return false };
        catch_unwind(AssertUnwindSafe(|| host.answers_at_once(tool))).unwrap_or(false)
    }

    /// The worker's host; `None` when one of the tokens was cancelled first.
    pub(super) async fn before(
        self,
        cancellation: &CancellationToken,
        other: Option<&CancellationToken>,
    ) -> Option<Arc<dyn CodeModeTurnHost>> {
        let mut turn = match self {
            Self::Now(host) => return Some(host),
            Self::Later(turn) => turn,
        };
        let other = async {
            match other {
                Some(token) => token.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let serving = async {
            loop {
                if let Some(host) = turn.host() {
                    return host;
                }
                turn.changed().await;
            }
        };
        tokio::select! {
            biased;
            host = serving => Some(host),
            () = cancellation.cancelled() => None,
            () = other => None,
        }
    }
}

/// Calls a tool, or goes on with a call of it.
pub(super) async fn invoke(
    host: Arc<dyn CodeModeTurnHost>,
    call: CodeModeNestedToolCall,
    is_resumed: bool,
    cancellation: CancellationToken,
) -> Result<ToolResult, String> {
    let cell_id = call.cell_id.clone();
    let running = async {
        if is_resumed {
            host.resume_call(call, cancellation).await
        } else {
            host.invoke_tool(call, cancellation).await
        }
    };
    AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a tool panicked in cell {cell_id}");
        Err("code mode tool task panicked".to_owned())
    })
}

/// Delivers a notification to its host.
pub(super) async fn deliver(
    host: Arc<dyn CodeModeTurnHost>,
    call_id: String,
    cell_id: CellId,
    text: String,
    cancellation: CancellationToken,
) -> Result<(), String> {
    let running = async { host.notify(call_id, cell_id, text, cancellation).await };
    AssertUnwindSafe(running)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err("code mode notification task panicked".to_owned()))
}
