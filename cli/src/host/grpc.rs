//! One connection of gRPC, `codex.code_mode.v1`.
//!
//! Sessions belong to the connection that opened them: nobody else can name them.

use super::session::{Host, Remembered, SESSIONS, SHUTDOWN_GRACE, Session};
use anyhow::{Context, Result};
use async_trait::async_trait;
use cellblock::protocol::frame::MAX_BYTES;
use cellblock::protocol::grpc::code_mode_host_server::{CodeModeHost, CodeModeHostServer};
use cellblock::protocol::grpc::{self, complete_tool_call_request, execute_event, session_event};
use cellblock::protocol::{
    ExecutionLimits, MAX_DELEGATE_CALLS, MAX_IDENTIFIER_BYTES, TimedWaitOutcome,
};
use cellblock::{
    CellId, CodeModeNestedToolCall, CodeModeTurnHost, CodeModeTurnWorker, RuntimeResponse,
    ToolName, ToolResult,
};
use futures_util::Stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context as TaskContext, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status};

/// Messages that wait to be taken from a stream.
const OUTGOING: usize = 128;
/// Tools that one subscription may name.
const FILTERS: usize = 64;
/// Subscriptions of one session.
const SUBSCRIPTIONS: usize = 128;
/// Requests that may be under way on one connection, streams included.
const STREAMS: u32 = 1_024;
/// Bytes that may be under way before the other side must have read them.
const WINDOW: u32 = 4 << 20;

/// Serves a client until it has gone.
pub async fn serve(
    host: Arc<Host>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<()> {
    let connection =
        Arc::new(Connection { host, sessions: Arc::default(), tasks: TaskTracker::new() });
    let service = CodeModeHostServer::from_arc(Arc::clone(&connection))
        .max_decoding_message_size(MAX_BYTES)
        .max_encoding_message_size(MAX_BYTES);
    let router = axum::Router::new()
        .route("/healthz", axum::routing::get(|| async { axum::http::StatusCode::OK }))
        .fallback_service(service);
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http2()
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW);
    let served = server
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
        .map_err(|error| anyhow::anyhow!(error))
        .context("the client's connection failed");
    connection.end().await;
    served
}

/// A connection's sessions.
struct Connection {
    host: Arc<Host>,
    sessions: Arc<Mutex<HashMap<String, Arc<Open>>>>,
    tasks: TaskTracker,
}

/// A session, and the streams it talks through.
struct Open {
    session: Arc<Session>,
    id: String,
    /// `None` when the session is closed, and its stream with it.
    events: Mutex<Option<mpsc::Sender<Result<grpc::SessionEvent, Status>>>>,
    state: Mutex<State>,
    worker: Mutex<Option<CodeModeTurnWorker>>,
}

#[derive(Default)]
struct State {
    executions: HashMap<CellId, Execution>,
    used: Remembered<String>,
    waits: HashMap<String, Waiting>,
    subscriptions: Vec<Subscription>,
    next_subscription: usize,
    calls: HashMap<String, oneshot::Sender<Result<ToolResult, String>>>,
}

struct Execution {
    id: String,
    /// Nested calls so far.
    calls: u64,
}

struct Subscription {
    tools: Vec<ToolName>,
    calls: mpsc::Sender<Result<grpc::ToolCall, Status>>,
}

/// A wait that is under way.
#[derive(Clone, Default)]
struct Waiting {
    /// Gives it up.
    cancelled: CancellationToken,
    /// It has ended, however it went.
    retired: CancellationToken,
}

impl State {
    /// Takes an execution's or a wait's id, which must be new.
    fn use_id(&mut self, id: &str) -> Result<(), Status> {
        if self.used.insert(id.to_owned()) {
            return Ok(());
        }
        Err(Status::already_exists(format!("the id {id} was used before")))
    }
}

impl Open {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    async fn event(&self, event: session_event::Event) {
        let events = lock(&self.events).clone();
        if let Some(events) = events {
            // A client that has dropped the stream has closed the session.
            let _ = events.send(Ok(grpc::SessionEvent { event: Some(event) })).await;
        }
    }

    /// Says that a cell is closed, when the answer on its way is its last.
    async fn told(&self, cell_id: &CellId) {
        if self.session.told(cell_id) {
            self.cell_closed(cell_id).await;
        }
    }

    async fn cell_closed(&self, cell_id: &CellId) {
        let execution = self.state().executions.remove(cell_id);
        if let Some(Execution { id, calls }) = execution {
            self.event(session_event::Event::CellClosed(grpc::CellClosed {
                execution_id: id,
                cell_id: cell_id.to_string(),
                final_tool_call_sequence: calls,
            }))
            .await;
        }
    }

    async fn close(&self) {
        for cell_id in self.session.close().await {
            self.cell_closed(&cell_id).await;
        }
        {
            let mut state = self.state();
            state.subscriptions.clear();
            state.calls.clear();
        }
        drop(lock(&self.worker).take());
        drop(lock(&self.events).take());
    }
}

impl Connection {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Open>>> {
        lock(&self.sessions)
    }

    fn session(&self, id: &str) -> Result<Arc<Open>, Status> {
        identifier("session_id", id)?;
        let open = self.sessions().get(id).cloned();
        open.ok_or_else(|| Status::not_found(format!("unknown code-mode session {id}")))
    }

    /// Ends what the client has left behind.
    async fn end(&self) {
        let sessions = std::mem::take(&mut *self.sessions());
        let closing = async {
            for open in sessions.values() {
                open.close().await;
            }
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(SHUTDOWN_GRACE, closing).await.is_err() {
            tracing::warn!("sessions did not end within {} s", SHUTDOWN_GRACE.as_secs());
        }
    }
}

/// A stream of messages from a queue. Dropped, it runs what it was given.
pub struct Messages<T> {
    queue: mpsc::Receiver<Result<T, Status>>,
    dropped: Option<Box<dyn FnOnce() + Send>>,
}

impl<T> Messages<T> {
    fn new(
        queue: mpsc::Receiver<Result<T, Status>>,
        dropped: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { queue, dropped: Some(Box::new(dropped)) }
    }
}

impl<T> Stream for Messages<T> {
    type Item = Result<T, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Self::Item>> {
        self.queue.poll_recv(context)
    }
}

impl<T> Drop for Messages<T> {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            dropped();
        }
    }
}

#[async_trait]
impl CodeModeHost for Connection {
    type OpenSessionStream = Messages<grpc::SessionEvent>;
    type SubscribeToToolCallsStream = Messages<grpc::ToolCall>;
    type ExecuteStream = Messages<grpc::ExecuteEvent>;

    async fn open_session(
        &self,
        request: Request<grpc::OpenSessionRequest>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let limits = request.into_inner().cell_execution_limits.unwrap_or_default();
        let grpc::SessionCellExecutionLimits { max_yield_time_ms, max_heap_size_bytes } = limits;
        let limits = ExecutionLimits { max_yield_time_ms, max_heap_size_bytes };
        let session = self.host.open(limits).map_err(Status::invalid_argument)?;
        let (events, queue) = mpsc::channel(OUTGOING);
        let id = unique();
        let opened = grpc::SessionOpened { session_id: id.clone() };
        let event = grpc::SessionEvent { event: Some(session_event::Event::Opened(opened)) };
        // A new queue has room.
        let _ = events.try_send(Ok(event));
        let open = Arc::new(Open {
            session,
            id: id.clone(),
            events: Mutex::new(Some(events)),
            state: Mutex::default(),
            worker: Mutex::default(),
        });
        let peer = Peer { open: Arc::downgrade(&open) };
        *lock(&open.worker) = Some(open.session.serve(Arc::new(peer)));
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS {
            return Err(Status::resource_exhausted("code-mode host has too many open sessions"));
        }
        sessions.insert(id.clone(), open);
        drop(sessions);
        let (sessions, tasks) = (Arc::clone(&self.sessions), self.tasks.clone());
        Ok(Response::new(Messages::new(queue, move || {
            let left = lock(&sessions).remove(&id);
            if let Some(open) = left {
                tasks.spawn(async move { open.close().await });
            }
        })))
    }

    async fn close_session(
        &self,
        request: Request<grpc::CloseSessionRequest>,
    ) -> Result<Response<grpc::CloseSessionResponse>, Status> {
        let id = request.into_inner().session_id;
        let open = self.session(&id)?;
        self.sessions().remove(&id);
        open.close().await;
        Ok(Response::new(grpc::CloseSessionResponse {}))
    }

    async fn subscribe_to_tool_calls(
        &self,
        request: Request<grpc::SubscribeToToolCallsRequest>,
    ) -> Result<Response<Self::SubscribeToToolCallsStream>, Status> {
        let request = request.into_inner();
        let open = self.session(&request.session_id)?;
        if request.tool_names.len() > FILTERS {
            return Err(Status::invalid_argument(format!(
                "a subscription names at most {FILTERS} tools"
            )));
        }
        let (calls, queue) = mpsc::channel(OUTGOING);
        let tools = request.tool_names.into_iter().map(Into::into).collect();
        let mut state = open.state();
        state.subscriptions.retain(|each| !each.calls.is_closed());
        if state.subscriptions.len() >= SUBSCRIPTIONS {
            return Err(Status::resource_exhausted("the session has too many subscriptions"));
        }
        state.subscriptions.push(Subscription { tools, calls });
        drop(state);
        Ok(Response::new(Messages::new(queue, || {})))
    }

    async fn complete_tool_call(
        &self,
        request: Request<grpc::CompleteToolCallRequest>,
    ) -> Result<Response<grpc::CompleteToolCallResponse>, Status> {
        use complete_tool_call_request::Outcome;
        let request = request.into_inner();
        let open = self.session(&request.session_id)?;
        let id = request.invocation_id;
        identifier("invocation_id", &id)?;
        let result = match request.outcome {
            Some(Outcome::Succeeded(grpc::ToolCallSucceeded { output_json })) => {
                String::from_utf8(output_json.into())
                    .map_err(|error| format!("the tool's result is no text: {error}"))
                    .and_then(ToolResult::from_json)
            }
            Some(Outcome::Failed(grpc::ToolCallFailed { message })) => Err(message),
            None => return Err(Status::invalid_argument("outcome is missing")),
        };
        let pending = open.state().calls.remove(&id);
        let reply = pending
            .ok_or_else(|| Status::not_found(format!("no nested call {id} awaits its result")))?;
        // The cell may have ended just now.
        let _ = reply.send(result);
        Ok(Response::new(grpc::CompleteToolCallResponse {}))
    }

    async fn acknowledge_notification(
        &self,
        request: Request<grpc::AcknowledgeNotificationRequest>,
    ) -> Result<Response<grpc::AcknowledgeNotificationResponse>, Status> {
        self.session(&request.into_inner().session_id)?;
        Ok(Response::new(grpc::AcknowledgeNotificationResponse {}))
    }

    async fn execute(
        &self,
        request: Request<grpc::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let request = request.into_inner();
        let open = self.session(&request.session_id)?;
        let execution_id = request.execution_id;
        identifier("execution_id", &execution_id)?;
        let program = cellblock::ExecuteRequest {
            tool_call_id: request.tool_call_id,
            enabled_tools: request
                .enabled_tools
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, String>>()
                .map_err(Status::invalid_argument)?,
            source: request.source,
            yield_time_ms: request.yield_time_ms,
            max_output_tokens: request
                .max_output_tokens
                .map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX)),
        };
        let admitted = {
            let mut state = open.state();
            state.use_id(&execution_id)?;
            let admitted = open.session.admit(program).map_err(Status::resource_exhausted)?;
            let execution = Execution { id: execution_id.clone(), calls: 0 };
            state.executions.insert(admitted.cell_id.clone(), execution);
            admitted
        };
        let cell_id = admitted.cell_id.clone();
        let started = grpc::ExecutionStarted { execution_id, cell_id: cell_id.to_string() };
        let (events, queue) = mpsc::channel(2);
        let event = |event| grpc::ExecuteEvent { event: Some(event) };
        // The queue has room for both events.
        let _ = events.try_send(Ok(event(execute_event::Event::Started(started))));
        let abandoned = CancellationToken::new();
        let dropped = abandoned.clone();
        let requests = open.session.requests.clone();
        self.tasks.spawn(requests.track_future(async move {
            let running = open.session.run(admitted);
            let outcome = tokio::select! {
                biased;
                outcome = running => outcome,
                () = abandoned.cancelled() => {
                    open.session.look(&cell_id);
                    // Nobody is left to hear how it went.
                    let _ = open.session.terminate(cell_id.clone()).await;
                    let _ = open.session.told(&cell_id);
                    open.told(&cell_id).await;
                    return;
                }
            };
            open.told(&cell_id).await;
            let outcome = match outcome {
                Ok(response) => {
                    let response = RuntimeResponse::from(response);
                    Ok(event(execute_event::Event::Outcome(response.into())))
                }
                Err(error) => Err(Status::failed_precondition(error)),
            };
            let _ = events.try_send(outcome);
        }));
        Ok(Response::new(Messages::new(queue, move || dropped.cancel())))
    }

    async fn wait(
        &self,
        request: Request<grpc::WaitRequest>,
    ) -> Result<Response<grpc::WaitResponse>, Status> {
        let grpc::WaitRequest { session_id, cell_id, wait_id, yield_time_ms } =
            request.into_inner();
        let open = self.session(&session_id)?;
        identifier("wait_id", &wait_id)?;
        let Waiting { cancelled, retired } = {
            let mut state = open.state();
            state.use_id(&wait_id)?;
            state.waits.entry(wait_id.clone()).or_default().clone()
        };
        let cell_id = CellId::new(cell_id);
        open.session.look(&cell_id);
        // In a task of its own: a client that goes away must not lose the account.
        let requests = open.session.requests.clone();
        let waiting = self.tasks.spawn(requests.track_future(async move {
            let request = cellblock::WaitRequest { cell_id: cell_id.clone(), yield_time_ms };
            let outcome = tokio::select! {
                biased;
                outcome = open.session.wait(request) => outcome.map_err(Status::failed_precondition),
                () = cancelled.cancelled() => Err(Status::cancelled("code-mode request cancelled")),
            };
            open.state().waits.remove(&wait_id);
            open.told(&cell_id).await;
            retired.cancel();
            outcome
        }));
        Ok(answer(waiting.await.unwrap_or_else(|_| Err(ended_unexpectedly()))?))
    }

    async fn cancel_wait(
        &self,
        request: Request<grpc::CancelWaitRequest>,
    ) -> Result<Response<grpc::CancelWaitResponse>, Status> {
        let grpc::CancelWaitRequest { session_id, wait_id } = request.into_inner();
        let open = self.session(&session_id)?;
        identifier("wait_id", &wait_id)?;
        let waiting = open.state().waits.get(&wait_id).cloned();
        if let Some(Waiting { cancelled, retired }) = waiting {
            cancelled.cancel();
            retired.cancelled().await;
        }
        Ok(Response::new(grpc::CancelWaitResponse {}))
    }

    async fn terminate(
        &self,
        request: Request<grpc::TerminateRequest>,
    ) -> Result<Response<grpc::WaitResponse>, Status> {
        let grpc::TerminateRequest { session_id, cell_id } = request.into_inner();
        let open = self.session(&session_id)?;
        let cell_id = CellId::new(cell_id);
        open.session.look(&cell_id);
        let requests = open.session.requests.clone();
        let terminating = self.tasks.spawn(requests.track_future(async move {
            let outcome = open.session.terminate(cell_id.clone()).await;
            open.told(&cell_id).await;
            outcome.map_err(Status::failed_precondition)
        }));
        Ok(answer(terminating.await.unwrap_or_else(|_| Err(ended_unexpectedly()))?))
    }
}

fn answer(outcome: TimedWaitOutcome) -> Response<grpc::WaitResponse> {
    Response::new(cellblock::WaitOutcome::from(outcome).into())
}

fn ended_unexpectedly() -> Status {
    Status::new(Code::Aborted, cellblock::CodeModeError::EndedUnexpectedly.to_string())
}

/// The client as a session's turn host.
struct Peer {
    /// The session holds the peer.
    open: Weak<Open>,
}

#[async_trait]
impl CodeModeTurnHost for Peer {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let cancelled = || "code mode nested tool call cancelled".to_owned();
        let open = self.open.upgrade().ok_or_else(cancelled)?;
        let subscription = open
            .state()
            .subscription(&call.tool_name)
            .ok_or_else(|| format!("no client serves the tool `{}`", call.tool_name))?;
        // A call has its number when it is sent: the client closes the cell once the last
        // has come.
        let place = tokio::select! {
            biased;
            place = subscription.reserve() => {
                place.map_err(|_| "the client has ended its subscription".to_owned())?
            }
            () = cancellation.cancelled() => return Err(cancelled()),
        };
        let id = unique();
        let (reply, answer) = oneshot::channel();
        let input = call.input.map(|input| Bytes::from(input.into_json()));
        {
            let mut state = open.state();
            if state.calls.len() >= MAX_DELEGATE_CALLS {
                return Err("code-mode host has too many pending delegate calls".to_owned());
            }
            let execution = state.executions.get_mut(&call.cell_id).ok_or_else(cancelled)?;
            execution.calls += 1;
            let (sequence, execution_id) = (execution.calls, execution.id.clone());
            state.calls.insert(id.clone(), reply);
            place.send(Ok(grpc::ToolCall {
                session_id: open.id.clone(),
                execution_id,
                cell_id: call.cell_id.to_string(),
                invocation_id: id.clone(),
                runtime_tool_call_id: call.runtime_tool_call_id,
                tool_name: Some((&call.tool_name).into()),
                tool_kind: grpc::ToolKind::from(call.tool_kind).into(),
                input_json: input,
                sequence,
            }));
        }
        let asked = async { answer.await.unwrap_or_else(|_| Err(cancelled())) };
        tokio::select! {
            biased;
            answered = asked => {
                open.state().calls.remove(&id);
                answered
            }
            () = cancellation.cancelled() => {
                open.state().calls.remove(&id);
                let call = grpc::ToolCallCancelled { invocation_id: id };
                open.event(session_event::Event::ToolCallCancelled(call)).await;
                Err(cancelled())
            }
        }
    }

    async fn notify(
        &self,
        call_id: String,
        cell_id: CellId,
        text: String,
        cancellation: CancellationToken,
    ) -> Result<(), String> {
        let cancelled = || "code mode notification cancelled".to_owned();
        let open = self.open.upgrade().ok_or_else(cancelled)?;
        let execution_id =
            open.state().executions.get(&cell_id).map(|execution| execution.id.clone());
        let notification = grpc::Notification {
            notification_id: unique(),
            execution_id: execution_id.ok_or_else(cancelled)?,
            cell_id: cell_id.to_string(),
            call_id,
            text,
        };
        // Sent is delivered: the client sees to the rest before it closes the cell.
        tokio::select! {
            biased;
            () = open.event(session_event::Event::Notification(notification)) => Ok(()),
            () = cancellation.cancelled() => Err(cancelled()),
        }
    }

    fn cell_closed(&self, cell_id: &CellId) {
        if let Some(open) = self.open.upgrade() {
            open.session.ended(cell_id);
        }
    }
}

impl State {
    /// The next subscription that wants a tool's calls, in turn.
    fn subscription(
        &mut self,
        tool: &ToolName,
    ) -> Option<mpsc::Sender<Result<grpc::ToolCall, Status>>> {
        let count = self.subscriptions.len();
        let wants = |each: &Subscription| {
            let named = |name: &ToolName| {
                name.name == tool.name && name.own_namespace() == tool.own_namespace()
            };
            !each.calls.is_closed() && (each.tools.is_empty() || each.tools.iter().any(named))
        };
        let at = (0..count)
            .map(|step| (self.next_subscription + step) % count)
            .find(|at| wants(&self.subscriptions[*at]))?;
        self.next_subscription = (at + 1) % count;
        Some(self.subscriptions[at].calls.clone())
    }
}

/// An identifier of the host's that nobody can guess.
fn unique() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The rules of a client's identifiers.
fn identifier(field: &str, id: &str) -> Result<(), Status> {
    if id.trim().is_empty() {
        return Err(Status::invalid_argument(format!("{field} is blank")));
    }
    if id.len() > MAX_IDENTIFIER_BYTES {
        return Err(Status::invalid_argument(format!(
            "{field} is {} bytes long, and the limit is {MAX_IDENTIFIER_BYTES}",
            id.len()
        )));
    }
    Ok(())
}

/// Locks what nothing panics under.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
