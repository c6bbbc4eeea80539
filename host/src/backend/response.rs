//! What a backend answers.

use super::CellId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// One piece of a cell's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentItem {
    /// Made by `text`.
    InputText {
        /// The text.
        text: String,
    },
    /// Made by `image` and `generatedImage`.
    InputImage {
        /// A `data:` URL.
        image_url: String,
        /// How closely the model should look.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<ImageDetail>,
    },
    /// Made by `audio`.
    InputAudio {
        /// A `data:` URL.
        audio_url: String,
    },
}

impl ContentItem {
    /// Bytes of the text or URL in this item, as JSON holds them.
    pub fn escaped_len(&self) -> usize {
        crate::json::escaped_len(self.body())
    }

    /// Bytes of text or URL in this item.
    pub fn byte_len(&self) -> usize {
        self.body().len()
    }

    /// The text or URL.
    fn body(&self) -> &str {
        match self {
            Self::InputText { text: body }
            | Self::InputImage { image_url: body, .. }
            | Self::InputAudio { audio_url: body } => body,
        }
    }
}

/// How closely a model should look at an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageDetail {
    /// The model's choice.
    Auto,
    /// Coarse.
    Low,
    /// Fine; the default of `image`.
    High,
    /// As it is.
    Original,
}

/// A limit of [`CellLimits`](crate::CellLimits), or of its session or host, that ended a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitKind {
    /// Fuel for the cell.
    Fuel,
    /// Fuel for one step.
    StepFuel,
    /// Wall-clock time running.
    RunningTime,
    /// Wall-clock time in all.
    TotalTime,
    /// Memory.
    Memory,
    /// Stack depth.
    Stack,
    /// Bytes that the host holds for the cell.
    HostBytes,
    /// Bytes of output.
    OutputBytes,
    /// Content items and notifications.
    OutputItems,
    /// Nested calls in all.
    Calls,
    /// Nested calls in flight.
    CallsInFlight,
    /// Bytes of a nested call's input.
    InputBytes,
    /// Pending timers.
    Timers,
    /// Bytes of stored values.
    StoredBytes,
    /// Stored keys.
    StoredKeys,
    /// Bytes of stored values over the session.
    SessionStoredBytes,
    /// Stored keys over the session.
    SessionStoredKeys,
    /// Cells that wait for a sandbox on the host.
    SandboxQueue,
    /// Wall-clock time waiting for a sandbox on the host.
    SandboxWait,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fuel => "fuel",
            Self::StepFuel => "fuel per step",
            Self::RunningTime => "running time",
            Self::TotalTime => "total time",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::HostBytes => "host bytes",
            Self::OutputBytes => "output bytes",
            Self::OutputItems => "output items",
            Self::Calls => "nested calls",
            Self::CallsInFlight => "nested calls in flight",
            Self::InputBytes => "nested call input bytes",
            Self::Timers => "timers",
            Self::StoredBytes => "stored bytes",
            Self::StoredKeys => "stored keys",
            Self::SessionStoredBytes => "session stored bytes",
            Self::SessionStoredKeys => "session stored keys",
            Self::SandboxQueue => "sandbox queue",
            Self::SandboxWait => "sandbox wait",
        })
    }
}

/// What a cell has used since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellUsage {
    /// Fuel, about one unit for each WebAssembly instruction. The same program
    /// on the same inputs uses the same fuel on every machine; the figure may
    /// change with every version of Cellblock.
    pub fuel: u64,
    /// Largest size of the sandbox's memory in bytes, its stack aside.
    pub peak_memory_bytes: u64,
    /// Wall-clock time spent running, without time spent waiting.
    pub running_time: Duration,
    /// Nested calls made.
    pub calls: u64,
    /// Bytes of output and notifications, as JSON holds them.
    pub output_bytes: u64,
}

/// What a response says beyond the contract. Never part of the contract's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellReport {
    /// What the cell has used so far.
    pub usage: CellUsage,
    /// The limit that ended the cell, if one did.
    pub limit: Option<LimitKind>,
    /// What the author of the program should change, when its end shows one of the
    /// common mistakes: a sentence or two for a person or a model. It is not part of
    /// the error text, which reads as V8's.
    pub hint: Option<String>,
    /// The newest nested calls, oldest first, when the cell has ended; at most
    /// [`CellReport::MAX_CALLS`].
    pub calls: Vec<CallReport>,
    /// The value of a program that completed, when the request wanted it and it is not
    /// `undefined`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ProgramValue>,
}

/// The value of a program: that of its last expression statement, or of a `return` at its
/// top; of a promise, what that resolves to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramValue {
    /// As JSON text.
    Json(String),
    /// It is longer than the output may be, and was stored: a later program of the session
    /// gets it with `load(key)`.
    Stored {
        /// The key, which the host made.
        key: String,
        /// Bytes of its JSON.
        bytes: u64,
    },
    /// There is a value that cannot be had; the text says why.
    Refused(String),
}

impl ProgramValue {
    /// Bytes of JSON that a response carries at most, whatever the budget of its output. A
    /// longer value is stored.
    pub const MAX_BYTES: usize = 256 << 10;
}

impl CellReport {
    /// Nested calls that a report lists.
    pub const MAX_CALLS: usize = 100;
}

/// A nested call, in the report of the cell that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReport {
    /// `tool-1`, `tool-2`, ... in the order of the calls.
    pub runtime_tool_call_id: String,
    /// Name of the tool as the program knows it.
    pub tool: String,
    /// How it ended.
    pub end: CallEnd,
}

/// How a nested call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// The tool returned a value.
    Succeeded,
    /// The tool returned an error.
    Failed,
    /// The cell ended first, and the call was cancelled.
    Cancelled,
}

impl fmt::Display for CallEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "was cancelled",
        })
    }
}

/// A cell's answer. In JSON the variant is the one key of an object, as the
/// contract has it: `{"Yielded": {"cell_id": "1", "content_items": []}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeResponse {
    /// The cell still runs.
    Yielded {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// Usage so far.
        #[serde(skip)]
        report: CellReport,
    },
    /// The cell was terminated.
    Terminated {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// Usage in all.
        #[serde(skip)]
        report: CellReport,
    },
    /// The cell ended by itself or at a limit.
    Result {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// Why the program failed; `None` when it did not.
        error_text: Option<String>,
        /// Usage in all.
        #[serde(skip)]
        report: CellReport,
    },
}

impl RuntimeResponse {
    /// The cell that answered.
    pub fn cell_id(&self) -> &CellId {
        match self {
            Self::Yielded { cell_id, .. }
            | Self::Terminated { cell_id, .. }
            | Self::Result { cell_id, .. } => cell_id,
        }
    }

    /// Output since the last response.
    pub fn content_items(&self) -> &[ContentItem] {
        match self {
            Self::Yielded { content_items, .. }
            | Self::Terminated { content_items, .. }
            | Self::Result { content_items, .. } => content_items,
        }
    }

    /// What the cell has used, and the limit it met.
    pub fn report(&self) -> &CellReport {
        match self {
            Self::Yielded { report, .. }
            | Self::Terminated { report, .. }
            | Self::Result { report, .. } => report,
        }
    }

    /// The report, to be changed.
    pub fn report_mut(&mut self) -> &mut CellReport {
        match self {
            Self::Yielded { report, .. }
            | Self::Terminated { report, .. }
            | Self::Result { report, .. } => report,
        }
    }

    /// The output alone.
    pub fn into_content(self) -> Vec<ContentItem> {
        match self {
            Self::Yielded { content_items, .. }
            | Self::Terminated { content_items, .. }
            | Self::Result { content_items, .. } => content_items,
        }
    }

    /// Puts earlier output in front.
    pub fn prepend(&mut self, earlier: Vec<ContentItem>) {
        match self {
            Self::Yielded { content_items, .. }
            | Self::Terminated { content_items, .. }
            | Self::Result { content_items, .. } => {
                content_items.splice(0..0, earlier);
            }
        }
    }

    /// The failure of a program that waited for what cannot come
    /// ([`CellState::Stuck`]) and was terminated for that. `place` is where it waited,
    /// where that is known. Another response stays as it is: the program ended before.
    #[must_use]
    pub fn unsettled(self, place: Option<String>) -> Self {
        let Self::Terminated { cell_id, content_items, report } = self else { return self };
        let error_text = Some(unsettled_text(place));
        Self::Result { cell_id, content_items, error_text, report }
    }

    /// The `Result` of a cell that does not exist. `why` goes on after "not found".
    pub fn missing(cell_id: CellId, why: &str) -> Self {
        let error_text = Some(format!("exec cell {cell_id} not found{why}"));
        Self::Result {
            cell_id,
            content_items: Vec::new(),
            error_text,
            report: CellReport::default(),
        }
    }
}

/// The error of a program that awaits what nothing can settle, at this place.
pub(crate) fn unsettled_text(place: Option<String>) -> String {
    let place = place.map_or_else(String::new, |place| format!("\n    at {place}"));
    format!(
        "Unsettled top-level await: no nested call and no timer is left that could settle \
         it{place}"
    )
}

/// The answer to `wait` and `terminate`. A failed cell and a missing one both
/// look like a `Result` with an error; only the former is an event in a cell's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitOutcome {
    /// The cell answered.
    LiveCell(RuntimeResponse),
    /// There is no such cell, or no longer.
    MissingCell(RuntimeResponse),
}

impl From<WaitOutcome> for RuntimeResponse {
    fn from(outcome: WaitOutcome) -> Self {
        match outcome {
            WaitOutcome::LiveCell(response) | WaitOutcome::MissingCell(response) => response,
        }
    }
}

/// The answer to `execute_to_pending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecuteToPendingOutcome {
    /// The program waits for something outside, and is frozen there.
    Pending {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// Nested calls made since the last frontier, as `tool-1`, `tool-2`, ...
        pending_tool_call_ids: Vec<String>,
    },
    /// The cell ended.
    Completed(RuntimeResponse),
}

/// The answer to `wait_to_pending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitToPendingOutcome {
    /// The cell answered.
    LiveCell(ExecuteToPendingOutcome),
    /// There is no such cell, or no longer.
    MissingCell(RuntimeResponse),
}

/// What a cell is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellState {
    /// JavaScript is running.
    Running,
    /// It waits for nested calls or timers.
    Waiting,
    /// It waits, and no nested call, timer or notification is left that could wake it:
    /// it can only be terminated.
    Stuck,
    /// It is ending: outstanding calls and notifications are awaited.
    Ending,
    /// It has ended and nobody has fetched its result.
    Finished,
}

/// A line of [`CodeModeBackend::cells`](super::CodeModeBackend::cells).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellInfo {
    /// The cell.
    pub cell_id: CellId,
    /// What it is doing.
    pub state: CellState,
    /// Time since it was started.
    pub age: Duration,
    /// Nested calls that have not ended.
    pub calls_in_flight: usize,
    /// Of a cell that is stuck: the place of the top-level `await` at which it waits, as
    /// `exec_main.mjs:LINE:COLUMN`, where it is known.
    pub stuck_at: Option<String>,
}
