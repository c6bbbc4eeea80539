//! A connection that speaks gRPC.
//!
//! Each request is a call of its own on one HTTP/2 connection. A session has two
//! streams besides: its events, and the nested calls of its programs, which may come
//! before the execution they belong to is known to have started. They name it, so
//! nothing needs to wait.

use super::cell::{Cell, Remote, lock};
use super::connection::{Answer, CANCELLED, Failure, Link, WaitId, Waiting};
use crate::protocol::ExecutionLimits;
use crate::protocol::frame::MAX_BYTES;
use crate::protocol::grpc::code_mode_host_client::CodeModeHostClient;
use crate::protocol::grpc::{self, execute_event, session_event};
use cellblock::{
    CellId, CodeModeNestedToolCall, ExecuteRequest, RuntimeResponse, ToolResult, WaitOutcome,
};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Bytes of an error's text that are passed on.
const MAX_ERROR: usize = 512;

/// The authority that requests name; nothing is looked up.
const AUTHORITY: &str = "http://code-mode-host";

/// Bytes that a message may have around its JSON.
const ENVELOPE: usize = 4_096;

/// Bytes that may be under way before the other side must have read them.
const WINDOW: u32 = 4 << 20;

type Client = CodeModeHostClient<Channel>;

/// A connection that is up.
pub(super) struct GrpcLink(Arc<State>);

struct State {
    client: Client,
    gone: CancellationToken,
    failed: Mutex<Option<String>>,
    /// Sessions that are open, and what ends their streams.
    sessions: Mutex<HashMap<String, (Arc<Remote>, CancellationToken)>>,
    last_id: AtomicU64,
}

impl GrpcLink {
    /// Opens the connection within `patience`.
    ///
    /// # Errors
    /// A text that says what went wrong.
    pub(super) async fn start(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        patience: Duration,
    ) -> Result<Self, String> {
        let mut stream = Some(TokioIo::new(stream));
        // There is one stream, so there is one connection.
        let connector = tower::service_fn(move |_| {
            let stream = stream.take();
            async move { stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
        });
        let endpoint = Endpoint::from_static(AUTHORITY)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW);
        let channel = timeout(patience, endpoint.connect_with_connector(connector))
            .await
            .map_err(|_| format!("no answer within {} s", patience.as_secs()))
            .and_then(|connected| connected.map_err(|error| chain(&error)))
            .map_err(|why| format!("code-mode host handshake failed: {why}"))?;
        let client = CodeModeHostClient::new(channel)
            .max_decoding_message_size(MAX_BYTES)
            .max_encoding_message_size(MAX_BYTES);
        Ok(Self(Arc::new(State {
            client,
            gone: CancellationToken::new(),
            failed: Mutex::default(),
            sessions: Mutex::default(),
            last_id: AtomicU64::new(0),
        })))
    }

    fn outcome(
        &self,
        answer: impl Future<Output = Result<tonic::Response<grpc::WaitResponse>, Status>>
        + Send
        + 'static,
    ) -> Answer<WaitOutcome> {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let response = state.or_gone(answer).await?.into_inner();
            response.try_into().map_err(|why: grpc::Malformed| state.broke(&why.to_string()))
        })
    }
}

impl Drop for GrpcLink {
    fn drop(&mut self) {
        self.fail("code-mode host connection was closed");
    }
}

impl Link for GrpcLink {
    fn gone(&self) -> &CancellationToken {
        &self.0.gone
    }

    fn fail(&self, reason: &str) {
        self.0.fail(reason);
    }

    fn open(&self, remote: Arc<Remote>, limits: ExecutionLimits) -> Answer<()> {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let ExecutionLimits { max_yield_time_ms, max_heap_size_bytes } = limits;
            let cell_execution_limits = (limits != ExecutionLimits::default()).then_some(
                grpc::SessionCellExecutionLimits { max_yield_time_ms, max_heap_size_bytes },
            );
            let mut client = state.client.clone();
            let request = grpc::OpenSessionRequest { cell_execution_limits };
            let mut events = state.or_gone(client.open_session(request)).await?.into_inner();
            let first = state.or_gone(events.message()).await?.and_then(|event| event.event);
            let Some(session_event::Event::Opened(grpc::SessionOpened { session_id })) = first
            else {
                return Err(state.broke("a session that does not open"));
            };
            // Set once, here: a remote is opened on one connection only.
            let _ = remote.session_id.set(session_id.clone());
            let subscribe = grpc::SubscribeToToolCallsRequest {
                session_id: session_id.clone(),
                tool_names: Vec::new(),
            };
            let calls =
                state.or_gone(client.subscribe_to_tool_calls(subscribe)).await?.into_inner();
            let ended = state.gone.child_token();
            lock(&state.sessions).insert(session_id, (Arc::clone(&remote), ended.clone()));
            tokio::spawn(session(Arc::clone(&state), remote, events, calls, ended));
            Ok(())
        })
    }

    fn execute(
        &self,
        remote: Arc<Remote>,
        cell: Arc<Cell>,
        request: ExecuteRequest,
    ) -> Answer<RuntimeResponse> {
        let state = Arc::clone(&self.0);
        let execution_id = state.next_id("execution");
        remote.announce(execution_id.clone(), &cell);
        Box::pin(async move {
            let executed = state.execute(&remote, &cell, execution_id.clone(), request).await;
            if let (Err(Failure::Refused(_)), None) = (&executed, cell.host_id()) {
                remote.refused(&execution_id);
            }
            executed
        })
    }

    fn wait(&self, remote: &Remote, cell_id: CellId, yield_time_ms: u64) -> Waiting {
        let id = self.0.next_id("wait");
        let request = grpc::WaitRequest {
            session_id: remote.session_id().to_owned(),
            cell_id: cell_id.to_string(),
            wait_id: id.clone(),
            yield_time_ms,
        };
        let mut client = self.0.client.clone();
        let answer = self.outcome(async move { client.wait(request).await });
        Waiting { id: WaitId::Grpc(id), answer }
    }

    fn cancel_wait(&self, remote: &Remote, wait: WaitId) {
        if let WaitId::Grpc(wait_id) = wait {
            let session_id = remote.session_id().to_owned();
            let mut client = self.0.client.clone();
            // The wait itself tells how it ended.
            tokio::spawn(async move {
                client.cancel_wait(grpc::CancelWaitRequest { session_id, wait_id }).await
            });
        }
    }

    fn terminate(&self, remote: &Remote, cell_id: CellId) -> Answer<WaitOutcome> {
        let request = grpc::TerminateRequest {
            session_id: remote.session_id().to_owned(),
            cell_id: cell_id.to_string(),
        };
        let mut client = self.0.client.clone();
        self.outcome(async move { client.terminate(request).await })
    }

    fn close(&self, remote: &Remote) -> Answer<()> {
        let (state, session_id) = (Arc::clone(&self.0), remote.session_id().to_owned());
        Box::pin(async move {
            let mut client = state.client.clone();
            let request = grpc::CloseSessionRequest { session_id: session_id.clone() };
            let closed = state.or_gone(client.close_session(request)).await;
            if let Some((_, ended)) = lock(&state.sessions).remove(&session_id) {
                ended.cancel();
            }
            closed.map(drop)
        })
    }
}

impl State {
    fn next_id(&self, what: &str) -> String {
        format!("{what}-{}", self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn fail(&self, reason: &str) {
        {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.is_some() {
                return;
            }
            *failed = Some(reason.to_owned());
        }
        self.gone.cancel();
        for (remote, _) in std::mem::take(&mut *lock(&self.sessions)).into_values() {
            remote.lost();
        }
    }

    fn failure(&self) -> Failure {
        let reason = lock(&self.failed).clone();
        Failure::Gone(reason.unwrap_or_else(|| "code-mode host connection was closed".to_owned()))
    }

    fn broke(&self, why: &str) -> Failure {
        self.fail(&format!("code-mode host broke the protocol: {why}"));
        self.failure()
    }

    /// What a call comes to, unless the connection is gone first.
    async fn or_gone<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            result = call => result.map_err(|status| self.failure_of(&status)),
            () = self.gone.cancelled() => Err(self.failure()),
        }
    }

    /// A status is the host's word, unless the connection made it.
    fn failure_of(&self, status: &Status) -> Failure {
        let mut text = status.message().to_owned();
        text.truncate(text.floor_char_boundary(MAX_ERROR));
        match status.code() {
            Code::Cancelled if status.message().is_empty() => {
                Failure::Refused(CANCELLED.to_owned())
            }
            Code::Unavailable | Code::Unknown | Code::Internal => {
                self.fail(&format!("code-mode host connection failed: {text}"));
                self.failure()
            }
            _ => Failure::Refused(text),
        }
    }

    async fn execute(
        &self,
        remote: &Remote,
        cell: &Cell,
        execution_id: String,
        request: ExecuteRequest,
    ) -> Result<RuntimeResponse, Failure> {
        let request = grpc::ExecuteRequest {
            session_id: remote.session_id().to_owned(),
            execution_id,
            tool_call_id: request.tool_call_id,
            source: request.source,
            enabled_tools: request.enabled_tools.iter().map(Into::into).collect(),
            yield_time_ms: request.yield_time_ms,
            max_output_tokens: request.max_output_tokens.map(|tokens| tokens as u64),
        };
        let mut client = self.client.clone();
        let mut events = self.or_gone(client.execute(request)).await?.into_inner();
        loop {
            let event = self.or_gone(events.message()).await?.and_then(|event| event.event);
            match event {
                Some(execute_event::Event::Started(started)) => {
                    Remote::admitted(cell, CellId::new(started.cell_id));
                }
                Some(execute_event::Event::Outcome(outcome)) => {
                    return outcome
                        .try_into()
                        .map_err(|why: grpc::Malformed| self.broke(&why.to_string()));
                }
                None => return Err(self.broke("an execution without an outcome")),
            }
        }
    }

    /// Answers a nested call. A value that cannot be sent fails that call alone.
    async fn complete(
        &self,
        session_id: &str,
        invocation_id: &str,
        result: Result<ToolResult, String>,
    ) {
        use grpc::complete_tool_call_request::Outcome;
        // The envelope is two identifiers and a few bytes.
        let outcome = match result.and_then(|result| result.into_json(MAX_BYTES - ENVELOPE)) {
            Ok(output) => {
                let output_json = Bytes::from(output);
                Outcome::Succeeded(grpc::ToolCallSucceeded { output_json })
            }
            Err(message) => Outcome::Failed(grpc::ToolCallFailed { message }),
        };
        let request = grpc::CompleteToolCallRequest {
            session_id: session_id.to_owned(),
            invocation_id: invocation_id.to_owned(),
            outcome: Some(outcome),
        };
        // A call that the host has given up meanwhile is refused, and that is all.
        let _ = self.or_gone(self.client.clone().complete_tool_call(request)).await;
    }
}

/// Serves a session's two streams until it ends.
async fn session(
    state: Arc<State>,
    remote: Arc<Remote>,
    mut events: Streaming<grpc::SessionEvent>,
    mut calls: Streaming<grpc::ToolCall>,
    ended: CancellationToken,
) {
    let running: Running = Arc::default();
    let mut closing = Closing::default();
    let broken = loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => return,
            event = events.message() => match event {
                Ok(Some(event)) => heard(&remote, &running, &mut closing, event),
                Ok(None) => break "code-mode host ended a session".to_owned(),
                Err(status) => break format!("code-mode host ended a session: {}", status.message()),
            },
            call = calls.message() => match call {
                Ok(Some(call)) => {
                    let (execution_id, sequence) = (call.execution_id.clone(), call.sequence);
                    if let Err(why) = called(&state, &remote, &running, call) {
                        break format!("code-mode host broke the protocol: {why}");
                    }
                    closing.called(&remote, execution_id, sequence);
                }
                Ok(None) => break "code-mode host ended a session's calls".to_owned(),
                Err(status) => {
                    break format!("code-mode host ended a session's calls: {}", status.message());
                }
            },
        }
    };
    if !ended.is_cancelled() {
        state.fail(&broken);
    }
}

/// Executions whose calls came, and those that are closed but for calls on their way:
/// the two streams of a session know nothing of each other's order.
#[derive(Default)]
struct Closing {
    /// Number of the last call that came, by execution.
    came: HashMap<String, u64>,
    /// Number of the last call that was made, by execution.
    made: HashMap<String, u64>,
}

impl Closing {
    /// A call has come, and with it perhaps the last one of a closed cell.
    fn called(&mut self, remote: &Remote, execution_id: String, sequence: u64) {
        if self.made.get(&execution_id).is_some_and(|made| sequence >= *made) {
            self.made.remove(&execution_id);
            self.came.remove(&execution_id);
            remote.close(&execution_id);
        } else {
            self.came.insert(execution_id, sequence);
        }
    }

    /// A cell is closed, after so many calls.
    fn closed(&mut self, remote: &Remote, execution_id: String, made: u64) {
        if self.came.get(&execution_id).copied().unwrap_or(0) >= made {
            self.came.remove(&execution_id);
            remote.close(&execution_id);
        } else {
            self.made.insert(execution_id, made);
        }
    }
}

/// Calls and notifications that run, and what cancels them.
type Running = Arc<Mutex<HashMap<String, CancellationToken>>>;

fn heard(remote: &Remote, running: &Running, closing: &mut Closing, event: grpc::SessionEvent) {
    use session_event::Event;
    match event.event {
        Some(
            Event::ToolCallCancelled(grpc::ToolCallCancelled { invocation_id: id })
            | Event::NotificationCancelled(grpc::NotificationCancelled { notification_id: id }),
        ) => {
            // One that has ended meanwhile is not there any more, and of one that is
            // taken out here no answer is sent.
            let cancelled = lock(running).remove(&id);
            if let Some(token) = cancelled {
                token.cancel();
            }
        }
        Some(Event::Notification(notification)) => {
            let grpc::Notification { notification_id: id, execution_id, call_id, text, .. } =
                notification;
            lock(running).insert(id.clone(), CancellationToken::new());
            let (done, ended) = (Arc::clone(running), id.clone());
            let reply = move |_| -> cellblock::BoxFuture<'static, ()> {
                lock(&done).remove(&ended);
                Box::pin(std::future::ready(()))
            };
            let token = remote.notify(&execution_id, call_id, text, Box::new(reply));
            if let Some(entry) = lock(running).get_mut(&id) {
                *entry = token;
            }
        }
        Some(Event::CellClosed(closed)) => {
            closing.closed(remote, closed.execution_id, closed.final_tool_call_sequence);
        }
        // What a newer host says beside is nothing to an older client.
        Some(Event::Opened(_)) | None => {}
    }
}

fn called(
    state: &Arc<State>,
    remote: &Remote,
    running: &Running,
    call: grpc::ToolCall,
) -> Result<(), String> {
    let input = call
        .input_json
        .as_deref()
        .map(serde_json::from_slice)
        .transpose()
        .map_err(|error| format!("the input of a nested call is no JSON: {error}"))?;
    let tool_kind = call.tool_kind().into();
    let invocation = CodeModeNestedToolCall {
        cell_id: CellId::new(call.cell_id),
        runtime_tool_call_id: call.runtime_tool_call_id,
        tool_name: call.tool_name.ok_or("a nested call without a tool")?.into(),
        tool_kind,
        input,
    };
    let id = call.invocation_id;
    lock(running).insert(id.clone(), CancellationToken::new());
    let (done, ended, state, session) =
        (Arc::clone(running), id.clone(), Arc::clone(state), call.session_id);
    let reply = move |result| -> cellblock::BoxFuture<'static, ()> {
        Box::pin(async move {
            let wanted = lock(&done).remove(&ended).is_some();
            if wanted {
                state.complete(&session, &ended, result).await;
            }
        })
    };
    let token = remote.invoke(&call.execution_id, invocation, Box::new(reply));
    if let Some(entry) = lock(running).get_mut(&id) {
        *entry = token;
    }
    Ok(())
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
