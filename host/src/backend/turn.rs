//! What a turn offers the cells.

use super::{CellId, Keeping};
use crate::json::{Json, JsonError};
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
    pub input: Option<ToolInput>,
}

/// The argument of a nested call. It stays JSON text until its host asks for the value,
/// because values take many times the memory of their text.
///
/// ```
/// use cellblock::ToolInput;
///
/// let input = ToolInput::from_json(r#"{"city":"Bern"}"#).unwrap();
/// assert_eq!(input.to_value()["city"], "Bern");
/// assert_eq!(input.into_json().unwrap(), r#"{"city":"Bern"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ToolInput(Json);

impl ToolInput {
    /// Takes JSON text.
    ///
    /// # Errors
    /// [`JsonError::Invalid`] and [`JsonError::TooDeep`].
    pub fn from_json(json: impl Into<String>) -> Result<Self, JsonError> {
        Json::from_text(json.into()).map(Self)
    }

    /// The JSON text.
    ///
    /// # Errors
    /// [`JsonError::TooDeep`], when it was made from a value that nests too deeply.
    pub fn into_json(self) -> Result<String, JsonError> {
        self.0.into_text(usize::MAX)
    }

    /// The JSON text without taking it; `None` when it was made from a value.
    pub fn as_json(&self) -> Option<&str> {
        match &self.0 {
            Json::Text(text) => Some(text.get()),
            Json::Value(_) => None,
        }
    }

    /// The parsed value.
    pub fn into_value(self) -> Value {
        self.0.into_value()
    }

    /// A parsed copy of the value.
    pub fn to_value(&self) -> Value {
        self.clone().into_value()
    }

    /// Bytes of its text; of a value, about so many.
    pub fn byte_len(&self) -> usize {
        self.0.byte_len()
    }

    /// Whether it nests at most `depth` levels deep: 0 for a string, 1 for `[]`.
    pub fn is_shallow(&self, depth: usize) -> bool {
        self.0.is_shallow(depth)
    }
}

impl From<Value> for ToolInput {
    fn from(value: Value) -> Self {
        Self(Json::Value(value))
    }
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
pub struct ToolResult(Json);

impl ToolResult {
    /// Takes JSON text, for tools that have it: no value is made of it on its way.
    ///
    /// # Errors
    /// [`JsonError::Invalid`] and [`JsonError::TooDeep`].
    pub fn from_json(json: impl Into<String>) -> Result<Self, JsonError> {
        Json::from_text(json.into()).map(Self)
    }

    /// The parsed value.
    pub fn into_value(self) -> Value {
        self.0.into_value()
    }

    /// The value without taking it; `None` when it is JSON text of more than `limit` bytes.
    pub(crate) fn look(&self, limit: usize) -> Option<Cow<'_, Value>> {
        match &self.0 {
            Json::Value(value) => Some(Cow::Borrowed(value)),
            Json::Text(text) if text.get().len() > limit => None,
            Json::Text(text) => serde_json::from_str(text.get()).ok().map(Cow::Owned),
        }
    }

    /// The same as JSON text, of which copies are cheap, and the bytes of that text.
    ///
    /// # Errors
    /// [`JsonError::TooDeep`].
    pub fn into_shared(self) -> Result<(Self, usize), JsonError> {
        let json = self.0.into_shared()?;
        let bytes = json.byte_len();
        Ok((Self(json), bytes))
    }

    /// JSON text of at most `limit` bytes.
    ///
    /// # Errors
    /// [`JsonError::TooLarge`] and [`JsonError::TooDeep`].
    pub fn into_json(self, limit: usize) -> Result<String, JsonError> {
        self.0.into_text(limit)
    }
}

impl From<Value> for ToolResult {
    fn from(value: Value) -> Self {
        Self(Json::Value(value))
    }
}

impl From<ToolInput> for ToolResult {
    fn from(input: ToolInput) -> Self {
        Self(input.0)
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

    /// Whether calls of a tool end without waiting for anything, in some microseconds: a look
    /// into a table, say. Such a call is made in the cell's own task, which saves it a task and
    /// a way back. One that does wait goes on in a task of its own all the same; one that blocks
    /// its thread or computes for long delays what else the cell has to do, and its time counts
    /// as the program's.
    fn answers_at_once(&self, tool: &ToolName) -> bool {
        let _ = tool;
        false
    }

    /// Goes on with a call that was pending when its cell was parked, and whose end the waker
    /// did not give. `call` is as it was made, but for the cell's id, which is the woken
    /// cell's. The tool may have run: a host that has not kept account of it must not run it
    /// again, and so the call is rejected unless a host says otherwise.
    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let _ = (call, cancellation);
        Err("the call was pending when its cell was parked, and its end is not known".to_owned())
    }

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

    /// A cell has ended and its result is decided, or it was parked; no call of it follows.
    fn cell_closed(&self, cell_id: &CellId) {
        let _ = cell_id;
    }

    /// A cell that sleeps was kept in its session's store, or was removed from it because its
    /// program runs on.
    fn cell_kept(&self, cell_id: &CellId, keeping: Keeping) {
        let _ = (cell_id, keeping);
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
