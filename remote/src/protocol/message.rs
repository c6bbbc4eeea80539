//! The messages of framed JSON, version 1. Both sides refuse fields they do not know.

mod delegate_response;
mod seam;
mod timed;

pub use seam::{
    Base64, Regional, SeamExecute, SeamKeep, SeamOpen, SeamParked, SeamResponse, SeamResume,
    SeamWake, StoredDelta,
};
pub use timed::{TimedResponse, TimedWaitOutcome};

use cellblock::{CellId, CodeModeNestedToolCall, ExecuteRequest, WaitRequest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a client sends. It is read from JSON text alone, for a tool's result stays text:
/// see [`DelegateValue::ToolResult`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
#[serde(remote = "Self")]
pub enum ClientMessage {
    /// The first message: what the client speaks.
    #[serde(rename = "connection/hello")]
    Hello {
        /// Versions of the protocol, at least one, each at least 1.
        supported_versions: Vec<u32>,
        /// Capabilities without which the client cannot go on.
        required_capabilities: Vec<String>,
        /// Capabilities that the client would use.
        optional_capabilities: Vec<String>,
    },
    /// Requests an operation.
    #[serde(rename = "operation/request")]
    Request {
        /// Chosen by the client, never twice.
        id: i64,
        /// The operation.
        request: Box<OperationRequest>,
    },
    /// Gives up an execute that was not admitted, or a wait.
    #[serde(rename = "operation/cancel")]
    Cancel {
        /// The request.
        id: i64,
    },
    /// Answers a nested call or a notification.
    #[serde(rename = "delegate/response")]
    DelegateResponse {
        /// The host's id.
        id: i64,
        /// Its result.
        result: Outcome<DelegateValue>,
    },
}

/// An operation that a client requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum OperationRequest {
    /// Opens a session.
    #[serde(rename = "session/open")]
    Open {
        /// Chosen by the client, never twice on a connection; not blank.
        session_id: String,
        /// Limits of its cells. Needs [`LIMITS_CAPABILITY`](super::LIMITS_CAPABILITY).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cell_execution_limits: Option<ExecutionLimits>,
        /// Needs [`SEAM_CAPABILITY`](super::SEAM_CAPABILITY).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seam: Option<SeamOpen>,
    },
    /// Starts a program; answered twice, with the cell's id and with its first response.
    #[serde(rename = "session/execute")]
    Execute {
        /// The session.
        session_id: String,
        /// The program.
        request: ExecuteRequest,
        /// Needs [`SEAM_CAPABILITY`](super::SEAM_CAPABILITY).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seam: Option<Box<SeamExecute>>,
    },
    /// Waits for a cell.
    #[serde(rename = "session/wait")]
    Wait {
        /// The session.
        session_id: String,
        /// The cell, and how long.
        request: WaitRequest,
        /// Whether to wait until the program is frozen or has ended, however long that
        /// takes. Needs [`SEAM_CAPABILITY`](super::SEAM_CAPABILITY).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        until_frontier: bool,
        /// Whether to park the cell once its program waits, however long that takes. Needs
        /// [`SEAM_CAPABILITY`](super::SEAM_CAPABILITY).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        park: bool,
        /// With `park`: whether the host is to keep the cell, where its execute said how.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep: bool,
    },
    /// Ends a cell.
    #[serde(rename = "session/terminate")]
    Terminate {
        /// The session.
        session_id: String,
        /// The cell.
        cell_id: CellId,
    },
    /// Ends a session and its cells.
    #[serde(rename = "session/shutdown")]
    Shutdown {
        /// The session.
        session_id: String,
    },
}

/// Limits of a session's cells, as far as the protocols carry them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecutionLimits {
    /// Bound on yield times in milliseconds; see
    /// [`SessionLimits::max_yield_time_ms`](cellblock::SessionLimits::max_yield_time_ms).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_yield_time_ms: Option<u64>,
    /// Bytes of memory for JavaScript; see
    /// [`CellLimits::memory_bytes`](cellblock::CellLimits::memory_bytes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_heap_size_bytes: Option<u64>,
}

/// What a host sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum HostMessage {
    /// The answer to a hello that suits.
    #[serde(rename = "connection/ready")]
    Ready {
        /// The version both speak from here.
        selected_version: u32,
        /// Capabilities that were asked for and are granted.
        capabilities: Vec<String>,
        /// For a second connection; hosts that grant no `dual-websocket-v1` send none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bulk_connection_token: Option<String>,
    },
    /// The answer to a hello that does not; the connection ends.
    #[serde(rename = "connection/rejected")]
    Rejected {
        /// Why.
        reason: RejectionReason,
    },
    /// Answers a request.
    #[serde(rename = "operation/response")]
    Response {
        /// The request.
        id: i64,
        /// Its result.
        result: OperationResult,
    },
    /// The second answer to an execute.
    #[serde(rename = "execute/initialResponse")]
    InitialResponse {
        /// The request.
        id: i64,
        /// The cell's first response.
        result: Outcome<TimedResponse>,
    },
    /// Asks the client to run a tool or deliver a notification.
    #[serde(rename = "delegate/request")]
    DelegateRequest {
        /// Chosen by the host.
        id: i64,
        /// The session.
        session_id: String,
        /// The operation.
        request: DelegateRequest,
    },
    /// The answer to a delegate request is no longer wanted.
    #[serde(rename = "delegate/cancel")]
    DelegateCancel {
        /// The delegate request.
        id: i64,
    },
    /// A cell has ended, and its last response waits to be fetched. Only where
    /// [`SEAM_CAPABILITY`](super::SEAM_CAPABILITY) was granted.
    #[serde(rename = "cell/ended")]
    CellEnded {
        /// The session.
        session_id: String,
        /// The cell.
        cell_id: CellId,
    },
    /// The host asks its client to have the cell kept: to wait for it with `park` and `keep`.
    /// Only of a cell whose execute said how.
    #[serde(rename = "cell/leave")]
    CellLeave {
        /// The session.
        session_id: String,
        /// The cell.
        cell_id: CellId,
    },
    /// A cell that sleeps was kept where it outlives the host's process, or is not kept any more
    /// because its program runs on. Only where [`SEAM_CAPABILITY`](super::SEAM_CAPABILITY) was
    /// granted.
    #[serde(rename = "cell/kept")]
    CellKept {
        /// The session.
        session_id: String,
        /// The cell.
        cell_id: CellId,
        /// The name under which it was kept, the same each time; without one it runs on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A cell has ended and everything of it has been sent.
    #[serde(rename = "cell/closed")]
    CellClosed {
        /// The session.
        session_id: String,
        /// The cell.
        cell_id: CellId,
    },
}

/// Why a hello does not suit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum RejectionReason {
    /// No version is spoken by both.
    NoCompatibleVersion {
        /// What the host speaks.
        supported_versions: Vec<u32>,
    },
    /// The host lacks something the client needs.
    MissingRequiredCapability {
        /// What it lacks.
        capability: String,
    },
    /// The hello breaks a rule.
    InvalidHello {
        /// Which one.
        message: String,
    },
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome<T> {
    /// Success.
    Ok {
        /// What was asked for.
        value: T,
    },
    /// Failure.
    Error {
        /// Why.
        message: String,
    },
}

impl<T> From<Result<T, String>> for Outcome<T> {
    fn from(result: Result<T, String>) -> Self {
        match result {
            Ok(value) => Self::Ok { value },
            Err(message) => Self::Error { message },
        }
    }
}

impl<T> From<Outcome<T>> for Result<T, String> {
    fn from(outcome: Outcome<T>) -> Self {
        match outcome {
            Outcome::Ok { value } => Ok(value),
            Outcome::Error { message } => Err(message),
        }
    }
}

/// The result of an operation.
pub type OperationResult = Outcome<OperationValue>;

/// What an operation results in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum OperationValue {
    /// The session is open.
    #[serde(rename = "session/ready")]
    SessionReady {
        /// The session.
        session_id: String,
    },
    /// The cell was admitted; its first response follows.
    #[serde(rename = "execution/started")]
    ExecutionStarted {
        /// The cell.
        cell_id: CellId,
    },
    /// The answer to a wait or a termination.
    #[serde(rename = "wait/completed")]
    WaitCompleted {
        /// The answer.
        outcome: TimedWaitOutcome,
    },
    /// The session and its cells have ended.
    #[serde(rename = "session/closed")]
    SessionClosed {
        /// The session.
        session_id: String,
    },
}

/// What a host asks of its client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum DelegateRequest {
    /// To run a tool.
    #[serde(rename = "tool/invoke")]
    InvokeTool {
        /// The call.
        invocation: CodeModeNestedToolCall,
        /// Whether it was pending when its cell was parked: the tool may have run. Only where
        /// [`SEAM_CAPABILITY`](super::SEAM_CAPABILITY) was granted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        resumed: bool,
    },
    /// To deliver a notification.
    #[serde(rename = "notification/send")]
    Notify {
        /// The execute request's `tool_call_id`.
        call_id: String,
        /// The cell.
        cell_id: CellId,
        /// The text.
        text: String,
    },
}

/// What a delegate request results in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum DelegateValue {
    /// The tool returned.
    #[serde(rename = "tool/result")]
    ToolResult {
        /// Its value as JSON text. A tool may return anything, so it is not looked into
        /// here: one that nests too deeply is to fail its own call and no more.
        result: Box<RawValue>,
    },
    /// The notification arrived.
    #[serde(rename = "notification/delivered")]
    NotificationDelivered {},
}

impl OperationValue {
    /// Bytes that came from a cell.
    pub(crate) fn carried_bytes(&self) -> usize {
        match self {
            Self::WaitCompleted {
                outcome:
                    TimedWaitOutcome::LiveCell(response) | TimedWaitOutcome::MissingCell(response),
            } => response.carried_bytes(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
