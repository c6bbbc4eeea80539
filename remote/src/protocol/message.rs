//! The messages of framed JSON, version 1. Both sides refuse fields they do not know.

use cellblock::{
    CellId, CellReport, CodeModeNestedToolCall, ContentItem, ExecuteRequest, RuntimeResponse,
    WaitOutcome, WaitRequest,
};
use serde::de::{Deserializer, Error, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::time::Duration;

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
        request: OperationRequest,
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

/// The type of a message, whatever else is in it.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

impl<'de> Deserialize<'de> for ClientMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let message = <&RawValue>::deserialize(deserializer)?;
        let read = || {
            let head: Head<'_> = serde_json::from_str(message.get())?;
            if head.kind == "delegate/response" {
                let response: DelegateResponse<'_> = serde_json::from_str(message.get())?;
                let result = response.result()?;
                return Ok(Self::DelegateResponse { id: response.id, result });
            }
            Self::deserialize(&mut serde_json::Deserializer::from_str(message.get()))
        };
        read().map_err(|error: serde_json::Error| D::Error::custom(error))
    }
}

impl Serialize for ClientMessage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// A `delegate/response`, read without looking into the tool's result.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelegateResponse<'a> {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    id: i64,
    #[serde(borrow)]
    result: &'a RawValue,
}

/// Its result, whichever of the two it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelegateOutcome<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(default)]
    message: Option<String>,
}

/// The value of a success, of whichever type.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelegateSuccess<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
}

/// A field that is there, be it `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl DelegateResponse<'_> {
    fn result(&self) -> Result<Outcome<DelegateValue>, serde_json::Error> {
        let outcome: DelegateOutcome<'_> = serde_json::from_str(self.result.get())?;
        let value = match (&*outcome.status, outcome.value, outcome.message) {
            ("ok", Some(value), None) => value,
            ("error", None, Some(message)) => return Ok(Outcome::Error { message }),
            _ => return Err(Error::custom("the result is neither a success nor a failure")),
        };
        let success: DelegateSuccess<'_> = serde_json::from_str(value.get())?;
        let value = match (&*success.kind, success.result) {
            ("tool/result", Some(result)) => {
                DelegateValue::ToolResult { result: result.to_owned() }
            }
            ("notification/delivered", None) => DelegateValue::NotificationDelivered {},
            (kind, _) => return Err(Error::custom(format!("the value `{kind}` is not known"))),
        };
        Ok(Outcome::Ok { value })
    }
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
    },
    /// Starts a program; answered twice, with the cell's id and with its first response.
    #[serde(rename = "session/execute")]
    Execute {
        /// The session.
        session_id: String,
        /// The program.
        request: ExecuteRequest,
    },
    /// Waits for a cell.
    #[serde(rename = "session/wait")]
    Wait {
        /// The session.
        session_id: String,
        /// The cell, and how long.
        request: WaitRequest,
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

/// A [`RuntimeResponse`] with the times a host measured. Hosts of before 0.152
/// send none, so both are optional when read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum TimedResponse {
    /// The cell still runs.
    Yielded {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// From the request's arrival to this, in nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code_mode_host_duration_ns: Option<u64>,
    },
    /// The cell was terminated.
    Terminated {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// From the request's arrival to this, in nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code_mode_host_duration_ns: Option<u64>,
    },
    /// The cell ended.
    Result {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// Why the program failed.
        error_text: Option<String>,
        /// How long the result waited to be fetched, in nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result_buffered_for_ns: Option<u64>,
        /// From the request's arrival to this, in nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code_mode_host_duration_ns: Option<u64>,
    },
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

impl TimedResponse {
    /// Bytes that came from a cell.
    pub(crate) fn carried_bytes(&self) -> usize {
        let (Self::Yielded { content_items, .. }
        | Self::Terminated { content_items, .. }
        | Self::Result { content_items, .. }) = self;
        let error_text = match self {
            Self::Result { error_text, .. } => error_text.as_ref().map_or(0, String::len),
            _ => 0,
        };
        content_items.iter().map(ContentItem::byte_len).sum::<usize>() + error_text
    }

    /// A response that took `duration`; a result waited for `buffered` of it or before.
    pub fn new(response: RuntimeResponse, duration: Duration, buffered: Duration) -> Self {
        let nanos = |time: Duration| Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let code_mode_host_duration_ns = nanos(duration);
        match response {
            RuntimeResponse::Yielded { cell_id, content_items, .. } => {
                Self::Yielded { cell_id, content_items, code_mode_host_duration_ns }
            }
            RuntimeResponse::Terminated { cell_id, content_items, .. } => {
                Self::Terminated { cell_id, content_items, code_mode_host_duration_ns }
            }
            RuntimeResponse::Result { cell_id, content_items, error_text, .. } => Self::Result {
                cell_id,
                content_items,
                error_text,
                result_buffered_for_ns: nanos(buffered),
                code_mode_host_duration_ns,
            },
        }
    }
}

impl From<TimedResponse> for RuntimeResponse {
    fn from(response: TimedResponse) -> Self {
        let report = CellReport::default();
        match response {
            TimedResponse::Yielded { cell_id, content_items, .. } => {
                Self::Yielded { cell_id, content_items, report }
            }
            TimedResponse::Terminated { cell_id, content_items, .. } => {
                Self::Terminated { cell_id, content_items, report }
            }
            TimedResponse::Result { cell_id, content_items, error_text, .. } => {
                Self::Result { cell_id, content_items, error_text, report }
            }
        }
    }
}

/// A [`WaitOutcome`] with the times a host measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimedWaitOutcome {
    /// The cell answered.
    LiveCell(TimedResponse),
    /// There is no such cell, or no longer.
    MissingCell(TimedResponse),
}

impl TimedWaitOutcome {
    /// An outcome that took `duration`; see [`TimedResponse::new`].
    pub fn new(outcome: WaitOutcome, duration: Duration, buffered: Duration) -> Self {
        match outcome {
            WaitOutcome::LiveCell(response) => {
                Self::LiveCell(TimedResponse::new(response, duration, buffered))
            }
            WaitOutcome::MissingCell(response) => {
                Self::MissingCell(TimedResponse::new(response, duration, buffered))
            }
        }
    }
}

impl From<TimedWaitOutcome> for WaitOutcome {
    fn from(outcome: TimedWaitOutcome) -> Self {
        match outcome {
            TimedWaitOutcome::LiveCell(response) => Self::LiveCell(response.into()),
            TimedWaitOutcome::MissingCell(response) => Self::MissingCell(response.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn same<T: Serialize + serde::de::DeserializeOwned>(json: &Value) -> T {
        let message: T = serde_json::from_str(&json.to_string()).unwrap();
        assert_eq!(&serde_json::to_value(&message).unwrap(), json);
        message
    }

    /// Messages as a client and a host of 0.169 exchanged them.
    #[test]
    fn messages_have_the_recorded_shape() {
        for message in [
            json!({ "type": "connection/hello", "supportedVersions": [1],
                    "requiredCapabilities": [], "optionalCapabilities": ["x"] }),
            json!({ "type": "operation/request", "id": 14, "request": {
                    "method": "session/open", "sessionId": "t",
                    "cellExecutionLimits": { "maxYieldTimeMs": 5 } } }),
            json!({ "type": "operation/request", "id": 3, "request": {
                    "method": "session/execute", "sessionId": "s", "request": {
                        "tool_call_id": "c", "enabled_tools": [{
                            "name": "echo", "tool_name": { "name": "echo", "namespace": null },
                            "description": "echo", "kind": "function",
                            "input_schema": null, "output_schema": null }],
                        "source": "text(1)", "yield_time_ms": null, "max_output_tokens": null } } }),
            json!({ "type": "operation/request", "id": 5, "request": {
                    "method": "session/wait", "sessionId": "s",
                    "request": { "cell_id": "2", "yield_time_ms": 10 } } }),
            json!({ "type": "operation/request", "id": 8, "request": {
                    "method": "session/terminate", "sessionId": "s", "cellId": "3" } }),
            json!({ "type": "operation/cancel", "id": 10 }),
            json!({ "type": "delegate/response", "id": 2, "result": {
                    "status": "ok", "value": { "type": "tool/result", "result": { "a": 1 } } } }),
            json!({ "type": "delegate/response", "id": 1, "result": {
                    "status": "ok", "value": { "type": "notification/delivered" } } }),
            json!({ "type": "delegate/response", "id": 1, "result": {
                    "status": "error", "message": "no" } }),
        ] {
            same::<ClientMessage>(&message);
        }
        for message in [
            json!({ "type": "connection/ready", "selectedVersion": 1, "capabilities": [] }),
            json!({ "type": "connection/rejected", "reason": {
                    "type": "noCompatibleVersion", "supportedVersions": [1] } }),
            json!({ "type": "operation/response", "id": 3, "result": { "status": "ok", "value": {
                    "type": "execution/started", "cellId": "1" } } }),
            json!({ "type": "delegate/request", "id": 1, "sessionId": "s", "request": {
                    "type": "notification/send", "callId": "c", "cellId": "1", "text": "n" } }),
            json!({ "type": "delegate/request", "id": 2, "sessionId": "s", "request": {
                    "type": "tool/invoke", "invocation": {
                        "cell_id": "1", "runtime_tool_call_id": "tool-1",
                        "tool_name": { "name": "echo", "namespace": null },
                        "tool_kind": "function", "input": { "a": 1 } } } }),
            json!({ "type": "execute/initialResponse", "id": 3, "result": { "status": "ok",
                    "value": { "Result": { "cell_id": "1",
                        "content_items": [{ "type": "input_text", "text": "1" }],
                        "error_text": null, "result_buffered_for_ns": 0,
                        "code_mode_host_duration_ns": 34_643_519 } } } }),
            json!({ "type": "operation/response", "id": 8, "result": { "status": "ok", "value": {
                    "type": "wait/completed", "outcome": { "LiveCell": { "Terminated": {
                        "cell_id": "3", "content_items": [],
                        "code_mode_host_duration_ns": 938_713 } } } } } }),
            json!({ "type": "operation/response", "id": 2, "result": { "status": "error",
                    "message": "code-mode session ID `s` is already open" } }),
            json!({ "type": "delegate/cancel", "id": 4 }),
            json!({ "type": "cell/closed", "sessionId": "s", "cellId": "4" }),
        ] {
            same::<HostMessage>(&message);
        }
    }

    #[test]
    fn times_are_optional() {
        let response: TimedResponse = same(&json!({
            "Result": { "cell_id": "1", "content_items": [], "error_text": null },
        }));
        assert_eq!(RuntimeResponse::from(response).cell_id(), &CellId::from("1"));
    }

    #[test]
    fn unknown_fields_are_refused() {
        for message in [
            json!({ "type": "operation/cancel", "id": 1, "x": 1 }),
            json!({ "type": "operation/request", "id": 1, "request": {
                    "method": "session/shutdown", "sessionId": "s", "x": 1 } }),
            json!({ "type": "operation/request", "id": 1, "request": {
                    "method": "session/open", "sessionId": "s",
                    "cellExecutionLimits": { "x": 1 } } }),
            json!({ "type": "delegate/response", "id": 1, "result": {
                    "status": "ok", "value": { "type": "notification/delivered", "x": 1 } } }),
            json!({ "type": "delegate/response", "id": 1, "result": {
                    "status": "ok", "value": { "type": "notification/delivered" }, "x": 1 } }),
            json!({ "type": "operation/yield", "id": 1 }),
        ] {
            assert!(
                serde_json::from_str::<ClientMessage>(&message.to_string()).is_err(),
                "{message}"
            );
        }
    }

    #[test]
    fn a_tools_result_stays_text_at_any_depth() {
        for result in
            ["null".to_owned(), "1e999".to_owned(), "[".repeat(100_000) + &"]".repeat(100_000)]
        {
            let message = format!(
                r#"{{"type":"delegate/response","id":1,"result":{{"status":"ok","value":{{"type":"tool/result","result":{result}}}}}}}"#
            );
            let read: ClientMessage = serde_json::from_str(&message).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), message);
        }
    }
}
