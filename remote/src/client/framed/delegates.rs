//! Nested calls and notifications that a framed host asks for, and their answers.

use super::State;
use crate::client::connection::ConnectionError;
use crate::client::session::RemoteSession;
use crate::protocol::frame::{self, FrameError};
use crate::protocol::{ClientMessage, DelegateRequest, DelegateValue, MAX_VALUE_DEPTH, Outcome};
use cellblock::support::is_shallow_text;
use cellblock::{BoxFuture, ToolResult};
use serde_json::value::RawValue;
use std::sync::Arc;

impl State {
    pub(super) fn delegate(
        self: &Arc<Self>,
        id: i64,
        session: &RemoteSession,
        request: DelegateRequest,
    ) -> Result<(), ConnectionError> {
        let key = match &request {
            DelegateRequest::InvokeTool { invocation, .. } => invocation.cell_id.to_string(),
            DelegateRequest::Notify { cell_id, .. } => cell_id.to_string(),
        };
        let cancelled = match &request {
            DelegateRequest::InvokeTool { .. } => session.call_token(&key),
            DelegateRequest::Notify { .. } => session.notification_token(&key),
        };
        let Ok(in_flight) = self.delegates.insert(id, cancelled.clone()) else {
            return Err(ConnectionError::Protocol(format!(
                "the delegate request {id} was made twice"
            )));
        };
        let state = Arc::clone(self);
        match request {
            DelegateRequest::InvokeTool { invocation, resumed } => {
                let reply = move |result: Result<ToolResult, String>| -> BoxFuture<'static, ()> {
                    Box::pin(async move {
                        state.reply(id, result.and_then(tool_result)).await;
                        drop(in_flight);
                    })
                };
                session.invoke(&key, invocation, resumed, cancelled, Box::new(reply));
            }
            DelegateRequest::Notify { call_id, text, .. } => {
                let reply = move |result: Result<(), String>| -> BoxFuture<'static, ()> {
                    Box::pin(async move {
                        let delivered = result.map(|()| DelegateValue::NotificationDelivered {});
                        state.reply(id, delivered).await;
                        drop(in_flight);
                    })
                };
                session.notify(&key, call_id, text, cancelled, Box::new(reply));
            }
        }
        Ok(())
    }

    /// Answers the host, unless it has cancelled what it asked for.
    async fn reply(&self, id: i64, result: Result<DelegateValue, String>) {
        if self.delegates.complete(&id).is_none() {
            return;
        }
        let respond = |result| ClientMessage::DelegateResponse { id, result };
        let frame = match frame::encode(&respond(Outcome::from(result))) {
            Err(error @ FrameError::TooLong) => frame::encode(&respond(Outcome::Error {
                message: format!("tool result is too large: {error}"),
            })),
            frame => frame,
        };
        match frame {
            Ok(frame) => {
                let _ = self.outgoing.send(frame).await;
            }
            Err(error) => self.fail(ConnectionError::Protocol(error.to_string())),
        }
    }
}

/// A tool's result as an answer, unless it nests too deeply for the host to read.
fn tool_result(result: ToolResult) -> Result<DelegateValue, String> {
    let json =
        result.into_json(frame::MAX_BYTES).map_err(|error| format!("tool result is {error}"))?;
    if !is_shallow_text(&json, MAX_VALUE_DEPTH) {
        return Err(format!("tool result is nested more than {MAX_VALUE_DEPTH} levels deep"));
    }
    // It is valid: the result was checked, or was made from a value.
    let result = RawValue::from_string(json).map_err(|error| error.to_string())?;
    Ok(DelegateValue::ToolResult { result })
}
