//! The two streams of a session: its events, and the nested calls of its programs.

use super::State;
use crate::client::connection::ConnectionError;
use crate::client::session::RemoteSession;
use crate::in_flight::InFlight;
use crate::protocol::MAX_DELEGATE_CALLS;
use crate::protocol::grpc::{self, session_event};
use cellblock::{BoxFuture, CodeModeNestedToolCall};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// A session's two streams.
pub(super) struct Session {
    state: Arc<State>,
    remote: Arc<RemoteSession>,
    /// Nested calls and notifications that run, and what cancels them.
    delegates: InFlight<String, CancellationToken>,
    closing: Closing,
}

impl Session {
    pub(super) fn new(state: &Arc<State>, remote: Arc<RemoteSession>) -> Self {
        Self {
            state: Arc::clone(state),
            remote,
            delegates: InFlight::new(MAX_DELEGATE_CALLS),
            closing: Closing::default(),
        }
    }

    /// Serves the streams until the session is closed. One that ends before fails the
    /// connection.
    pub(super) async fn serve(
        mut self,
        mut events: Streaming<grpc::SessionEvent>,
        mut calls: Streaming<grpc::ToolCall>,
    ) {
        let ended = |stream: &str, status: Option<Status>| {
            let why = status.map_or_else(String::new, |status| format!(": {}", status.message()));
            ConnectionError::StreamEnded(format!("{stream}{why}"))
        };
        let reason = loop {
            tokio::select! {
                biased;
                () = self.remote.ended.cancelled() => return,
                () = self.state.lifeline.closed().cancelled() => return,
                event = events.message() => match event {
                    Ok(Some(event)) => self.event(event),
                    Ok(None) => break ended("", None),
                    Err(status) => break ended("", Some(status)),
                },
                call = calls.message() => match call {
                    Ok(Some(call)) => {
                        if let Err(why) = self.call(call) {
                            break ConnectionError::Protocol(why.to_string());
                        }
                    }
                    Ok(None) => break ended("'s calls", None),
                    Err(status) => break ended("'s calls", Some(status)),
                },
            }
        };
        if !self.remote.closing.load(Ordering::Acquire) {
            self.state.lifeline.fail(reason);
        }
    }

    fn event(&mut self, event: grpc::SessionEvent) {
        use session_event::Event;
        match event.event {
            Some(
                Event::ToolCallCancelled(grpc::ToolCallCancelled { invocation_id: id })
                | Event::NotificationCancelled(grpc::NotificationCancelled { notification_id: id }),
            ) => {
                // One that has ended meanwhile is not there any more, and of one that is
                // taken out here no answer is sent.
                if let Some(cancelled) = self.delegates.complete(&id) {
                    cancelled.cancel();
                }
            }
            Some(Event::Notification(notification)) => self.notification(notification),
            Some(Event::CellblockCellEnded(ended)) => self.remote.ended(&ended.execution_id),
            Some(Event::CellblockCellKept(kept)) => {
                let name = Some(kept.name).filter(|name| !name.is_empty());
                self.remote.kept(&kept.execution_id, name);
            }
            Some(Event::CellClosed(closed)) => {
                let (id, made) = (closed.execution_id, closed.final_tool_call_sequence);
                self.closing.closed(&self.remote, id, made);
            }
            // An event that only a newer host sends is of no use to an older client.
            Some(Event::Opened(_)) | None => {}
        }
    }

    fn notification(&self, notification: grpc::Notification) {
        let grpc::Notification { notification_id, execution_id, call_id, text, .. } = notification;
        let cancelled = self.remote.notification_token(&execution_id);
        // Beyond the bound it is refused, and has nothing to cancel.
        let in_flight = self.delegates.insert(notification_id, cancelled.clone());
        let reply = move |_| -> BoxFuture<'static, ()> {
            drop(in_flight);
            Box::pin(std::future::ready(()))
        };
        self.remote.notify(&execution_id, call_id, text, cancelled, Box::new(reply));
    }

    fn call(&mut self, call: grpc::ToolCall) -> Result<(), grpc::Malformed> {
        let (execution_id, sequence) = (call.execution_id.clone(), call.sequence);
        let (session_id, id) = (call.session_id.clone(), call.invocation_id.clone());
        let is_resumed = call.cellblock_resumed.unwrap_or_default();
        let invocation = CodeModeNestedToolCall::try_from(call)?;
        let cancelled = self.remote.call_token(&execution_id);
        let in_flight = self.delegates.insert(id.clone(), cancelled.clone());
        let (delegates, state) = (self.delegates.clone(), Arc::clone(&self.state));
        let reply = move |result| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                // One that was refused for being one too many is answered, too.
                if in_flight.is_err() || delegates.complete(&id).is_some() {
                    state.complete(&session_id, &id, result).await;
                }
            })
        };
        self.remote.invoke(&execution_id, invocation, is_resumed, cancelled, Box::new(reply));
        self.closing.called(&self.remote, execution_id, sequence);
        Ok(())
    }
}

/// Executions whose calls have come, and those that are closed but for calls on their way:
/// the order of a session's two streams is not known.
#[derive(Default)]
struct Closing {
    /// Number of the last call that came, by execution.
    came: HashMap<String, u64>,
    /// Number of the last call that was made, by execution.
    made: HashMap<String, u64>,
}

impl Closing {
    /// A call has come, and with it perhaps the last one of a closed cell.
    fn called(&mut self, remote: &RemoteSession, execution_id: String, sequence: u64) {
        if self.made.get(&execution_id).is_some_and(|made| sequence >= *made) {
            self.made.remove(&execution_id);
            self.came.remove(&execution_id);
            remote.close(&execution_id);
        } else {
            self.came.insert(execution_id, sequence);
        }
    }

    /// A cell is closed, after so many calls.
    fn closed(&mut self, remote: &RemoteSession, execution_id: String, made: u64) {
        if self.came.get(&execution_id).copied().unwrap_or(0) >= made {
            self.came.remove(&execution_id);
            remote.close(&execution_id);
        } else {
            self.made.insert(execution_id, made);
        }
    }
}
