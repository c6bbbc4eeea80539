//! What a turn offers the cells.

use super::CellId;
use crate::json;
use crate::tools::{ToolKind, ToolName};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
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

/// What a tool returned: a value, or JSON text that reaches the program as it is.
///
/// ```
/// use cellblock::ToolResult;
///
/// let value = ToolResult::from(serde_json::json!({ "degrees": 21 }));
/// let text = ToolResult::from_json(r#"{"degrees":21}"#).unwrap();
/// assert_eq!(value.into_value(), text.into_value());
/// assert!(ToolResult::from_json("{degrees: 21}").is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult(Form);

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Value(Value),
    /// Checked to be JSON that nests no deeper than can be read back.
    Json(String),
}

impl ToolResult {
    /// JSON text, for tools that have it: no value is made of it on its way.
    ///
    /// # Errors
    /// A text that says why it is no JSON, or that it nests too deeply.
    pub fn from_json(json: impl Into<String>) -> Result<Self, String> {
        let json = json.into();
        match serde_json::from_str::<serde::de::IgnoredAny>(&json) {
            Ok(_) => Ok(Self(Form::Json(json))),
            Err(error) => Err(format!("the tool's result is no JSON: {error}")),
        }
    }

    /// The value.
    pub fn into_value(self) -> Value {
        match self.0 {
            Form::Value(value) => value,
            // It was checked, so it is read.
            Form::Json(json) => serde_json::from_str(&json).unwrap_or_default(),
        }
    }

    /// The value without taking it; `None` when it is JSON text of more than `limit` bytes.
    pub(crate) fn look(&self, limit: usize) -> Option<Cow<'_, Value>> {
        match &self.0 {
            Form::Value(value) => Some(Cow::Borrowed(value)),
            Form::Json(json) if json.len() > limit => None,
            Form::Json(json) => serde_json::from_str(json).ok().map(Cow::Owned),
        }
    }

    /// JSON text of at most `limit` bytes.
    pub(crate) fn into_json(self, limit: usize) -> Result<String, String> {
        let json = match self.0 {
            Form::Value(value) if json::is_shallow(&value, json::MAX_DEPTH) => value.to_string(),
            Form::Value(value) => {
                json::dismantle(value);
                let depth = json::MAX_DEPTH;
                return Err(format!("tool result is nested more than {depth} levels deep"));
            }
            Form::Json(json) => json,
        };
        if json.len() > limit {
            let size = json.len();
            return Err(format!(
                "tool result is too large: {size} bytes of JSON, and the limit is {limit}; ask \
                 the tool for less"
            ));
        }
        Ok(json)
    }
}

impl From<Value> for ToolResult {
    fn from(value: Value) -> Self {
        Self(Form::Value(value))
    }
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
    /// Runs a tool. The result resolves the promise; the error rejects it, as a string.
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String>;

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
