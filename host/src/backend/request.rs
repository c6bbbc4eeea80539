//! What is asked of a backend.

use super::MonitorHandle;
use crate::regional::RegionalSettings;
use crate::tools::ToolDefinition;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Identity of a cell within its session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CellId(Arc<str>);

impl CellId {
    /// Wraps an id as it came from a backend or over the wire.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for CellId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CellId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

/// A program to run.
///
/// ```
/// let request: cellblock::ExecuteRequest = serde_json::from_value(serde_json::json!({
///     "tool_call_id": "call-1",
///     "enabled_tools": [],
///     "source": "text(1 + 1)",
///     "yield_time_ms": null,
///     "max_output_tokens": null,
/// })).unwrap();
/// assert_eq!(request.source, "text(1 + 1)");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecuteRequest {
    /// The model's call of `exec`; notifications carry it.
    pub tool_call_id: String,
    /// Tools that the program may call, in the order of the `tools` object.
    /// Shared, because sets of tools are large and seldom change.
    pub enabled_tools: Arc<[ToolDefinition]>,
    /// The program, without its pragma line.
    pub source: String,
    /// When to answer if the program still runs, in milliseconds. 10 000 when
    /// absent; one second of grace is added from there up.
    pub yield_time_ms: Option<u64>,
    /// The budget for truncating the output; backends carry it and ignore it.
    pub max_output_tokens: Option<usize>,
    /// Whether the program's value is wanted: that of its last expression statement, or of
    /// a `return`, which then works at its top. [`CellReport::value`](super::CellReport::value)
    /// has it. Not part of the contract: it is not in its JSON, and hosts of other
    /// projects send no value.
    #[serde(skip)]
    pub wants_value: bool,
    /// The locale and the time zone that the program finds where it names none. Not part
    /// of the contract either.
    #[serde(skip)]
    pub regional: RegionalSettings,
    /// What the program is written in. Not part of the contract either.
    #[serde(skip)]
    pub language: Language,
    /// Who follows the cell while it runs. Only [`WasmBackend`](crate::WasmBackend) sends to
    /// it: it does not reach cells in other processes.
    #[serde(skip)]
    pub monitor: MonitorHandle,
}

/// What a program is written in.
///
/// TypeScript is not checked: its types become blanks, so that every line and column
/// stays, and enums, namespaces and parameter properties become JavaScript.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// JavaScript; a program that does not parse as JavaScript and does as TypeScript is
    /// TypeScript. A program that is valid JavaScript runs as it is.
    #[default]
    Auto,
    /// JavaScript alone.
    Js,
    /// TypeScript, also where the program would be valid JavaScript.
    Ts,
}

impl ExecuteRequest {
    /// A program without tools.
    ///
    /// ```
    /// let request = cellblock::ExecuteRequest::new("text('hello')");
    /// assert!(request.enabled_tools.is_empty());
    /// ```
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), ..Self::default() }
    }
}

/// A question for a cell that still runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// The cell.
    pub cell_id: CellId,
    /// When to answer if the program still runs, in milliseconds.
    pub yield_time_ms: u64,
}
