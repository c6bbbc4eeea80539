//! What a turn offers the cells.

use super::CellId;
use crate::tools::{ToolKind, ToolName};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use tokio_util::sync::CancellationToken;

/// A nested call: a program calls a tool of its host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeModeNestedToolCall {
    /// The calling cell.
    pub cell_id: CellId,
    /// `tool-1`, `tool-2`, ... in the order of the cell's calls. Unique in the
    /// cell only: mint an id of your own where a global one is needed.
    pub runtime_tool_call_id: String,
    /// Identity of the tool, as its definition gave it.
    pub tool_name: ToolName,
    /// Kind of the tool, as its definition gave it.
    pub tool_kind: ToolKind,
    /// The argument; `None` when the program gave none.
    pub input: Option<Value>,
}

/// The host's side of a turn: it runs tools and takes notifications.
///
/// Each nested call and notification runs as a task of its own, so many run at
/// once; a panic rejects that one call. When the cell ends, its token is
/// cancelled, and the cell waits for the call to return, but not longer than
/// [`CellLimits::cancel_grace`](crate::CellLimits::cancel_grace); after that the
/// call's future is dropped where it awaits.
#[async_trait]
pub trait CodeModeTurnHost: Send + Sync + 'static {
    /// Runs a tool. The value resolves the promise; the error rejects it, as a string.
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<Value, String>;

    /// Delivers what a cell sent with `notify`. `call_id` is the request's
    /// `tool_call_id`. One cell's notifications come one after the other. An
    /// error is logged and goes no further.
    async fn notify(
        &self,
        call_id: String,
        cell_id: CellId,
        text: String,
        cancellation: CancellationToken,
    ) -> Result<(), String> {
        let _ = (call_id, cell_id, text, cancellation);
        Ok(())
    }

    /// A cell has ended and its result is decided; no call of it follows.
    fn cell_closed(&self, cell_id: &CellId) {
        let _ = cell_id;
    }
}

/// Keeps a turn's host serving. Dropping it ends that; calls in flight go on.
#[must_use = "dropping the worker ends the turn's service at once"]
pub struct CodeModeTurnWorker {
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl CodeModeTurnWorker {
    /// A guard that runs `end` when it is dropped; for implementors of a backend.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { end: Some(Box::new(end)) }
    }
}

impl Drop for CodeModeTurnWorker {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl fmt::Debug for CodeModeTurnWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeModeTurnWorker").finish_non_exhaustive()
    }
}
