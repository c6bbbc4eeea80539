//! One connection of gRPC, `codex.code_mode.v1`.
//!
//! Sessions belong to the connection that opened them: nobody else can name them.

mod delivery;
mod inbound;
mod session;

use super::access::Guard;
use super::admission::Arrival;
use super::error::ServeError;
use super::outgoing::Budget;
use super::session::{self as seam, CellRequest, SHUTDOWN_GRACE, Session};
use super::{AskedLimits, SESSIONS, Server};
use crate::protocol::frame::{FrameError, MAX_BYTES};
use crate::protocol::grpc::code_mode_host_server::{CodeModeHost, CodeModeHostServer};
use crate::protocol::grpc::{self, complete_tool_call_request, execute_event, session_event};
use crate::protocol::{ExecutionLimits, Refusal, SeamExecute, SeamOpen, TimedWaitOutcome};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::IntoResponse;
use cellblock::support::lock;
use cellblock::{CodeModeError, Language, RegionalSettings, ToolResult};
use delivery::Delivery;
use futures_util::{Stream, StreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use inbound::Inbound;
use prost::Message;
use serde::de::DeserializeOwned;
use session::{Messages, OpenSession, Wait};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

/// Tools that one subscription may name.
const FILTERS: usize = 64;
/// Requests that may be in flight on one connection, streams included.
const STREAMS: u32 = 1_024;
/// Bytes of one request that may be under way before they are read.
const STREAM_WINDOW: u32 = 64 << 10;
/// The same of all requests: one that waits for its turn must not hold up the others.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;

/// Serves a client until it has gone.
pub(super) async fn serve(
    server: Arc<Server>,
    arrival: Arc<Arrival>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    guard: Option<Guard>,
) -> Result<(), ServeError> {
    let budget = Budget::new();
    let connection = Arc::new(Connection {
        server,
        arrival: Arc::clone(&arrival),
        budget: budget.clone(),
        sessions: Arc::default(),
        tasks: TaskTracker::new(),
    });
    let service = CodeModeHostServer::from_arc(Arc::clone(&connection))
        .max_decoding_message_size(MAX_BYTES)
        .max_encoding_message_size(MAX_BYTES);
    let inbound = Inbound::new(&arrival);
    let asked = move |request, next: Next| {
        let guard = guard.clone();
        async move {
            match guard {
                Some(guard) => guard.ask(request, next).await,
                None => next.run(request).await,
            }
        }
    };
    let router = axum::Router::new()
        .fallback_service(service)
        .layer(map_response(async |response| Delivery::follow(response)))
        .layer(from_fn(move |request, next| inbound.clone().count(request, next)))
        .layer(from_fn(asked))
        .layer(from_fn(refuse_others))
        .route("/healthz", axum::routing::get(|| async { StatusCode::OK }))
        .layer(from_fn(super::listen::refuse_browsers));
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2()
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW);
    let stream = TokioIo::new(arrival.meter(stream));
    let serving = http.serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served.map_err(ServeError::Http),
        () = budget.gone.cancelled() => Err(ServeError::Stalled),
        () = connection.server.stopping.cancelled() => {
            // Streams end with their sessions, and answers are sent to their end.
            serving.as_mut().graceful_shutdown();
            let ended = async { tokio::join!(serving, connection.end()).0 };
            match timeout(SHUTDOWN_GRACE, ended).await {
                Ok(served) => served.map_err(ServeError::Http),
                Err(_) => Ok(()),
            }
        }
    };
    connection.end().await;
    served
}

/// Refuses requests that are not gRPC's, such as those that a page in a browser can make
/// without asking.
async fn refuse_others(
    method: Method,
    headers: HeaderMap,
    request: axum::extract::Request,
    next: Next,
) -> axum::response::Response {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if method != Method::POST || !kind.starts_with(b"application/grpc") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    next.run(request).await
}

/// A connection's sessions.
struct Connection {
    server: Arc<Server>,
    arrival: Arc<Arrival>,
    /// Bytes that wait to be written to the client.
    budget: Budget,
    sessions: Arc<Mutex<HashMap<String, Arc<OpenSession>>>>,
    tasks: TaskTracker,
}

impl Connection {
    fn session(&self, id: &str) -> Result<Arc<OpenSession>, Refusal> {
        Refusal::check_identifier("session_id", id)?;
        let open = lock(&self.sessions).get(id).cloned();
        open.ok_or_else(|| Refusal::UnknownSession(id.to_owned()))
    }

    /// Ends what the client has left behind.
    async fn end(&self) {
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        let closing = async {
            for open in sessions.values() {
                open.close().await;
            }
            self.tasks.close();
            self.tasks.wait().await;
        };
        if timeout(SHUTDOWN_GRACE, closing).await.is_err() {
            tracing::warn!("sessions did not end within {} s", SHUTDOWN_GRACE.as_secs());
        }
    }
}

#[async_trait::async_trait]
impl CodeModeHost for Connection {
    type OpenSessionStream = Messages<grpc::SessionEvent>;
    type SubscribeToToolCallsStream = Messages<grpc::ToolCall>;
    type ExecuteStream = Pin<Box<dyn Stream<Item = Result<grpc::ExecuteEvent, Status>> + Send>>;

    async fn open_session(
        &self,
        request: Request<grpc::OpenSessionRequest>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let grpc::OpenSessionRequest { cell_execution_limits, cellblock_seam_json } =
            request.into_inner();
        let limits = cell_execution_limits.unwrap_or_default();
        let seam: Option<SeamOpen> = decoded(cellblock_seam_json.as_deref())?;
        let grpc::SessionCellExecutionLimits { max_yield_time_ms, max_heap_size_bytes } = limits;
        self.arrival.admit().await.map_err(|_| Refusal::TooManyConnections)?;
        let execution = ExecutionLimits { max_yield_time_ms, max_heap_size_bytes };
        let has_seam = seam.is_some();
        let cell = seam.and_then(|seam| seam.cell_limits);
        let (session, closed) =
            Session::open(&self.server, AskedLimits { execution, cell }, has_seam)?;
        let (events, queue) = self.budget.channel();
        let open = OpenSession::new(session, events);
        let id = open.id.clone();
        {
            let mut sessions = lock(&self.sessions);
            if sessions.len() >= SESSIONS {
                return Err(Refusal::TooManySessions.into());
            }
            sessions.insert(id.clone(), Arc::clone(&open));
        }
        // A new queue has room, and the event is short.
        let opened = grpc::SessionOpened {
            session_id: id.clone(),
            cellblock_seam: has_seam.then_some(true),
        };
        let _ = open.event(session_event::Event::Opened(opened)).await;
        self.tasks.spawn(open.send_changes(closed));
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
        lock(&self.sessions).remove(&id);
        open.close().await;
        Ok(Response::new(grpc::CloseSessionResponse {}))
    }

    async fn subscribe_to_tool_calls(
        &self,
        request: Request<grpc::SubscribeToToolCallsRequest>,
    ) -> Result<Response<Self::SubscribeToToolCallsStream>, Status> {
        let grpc::SubscribeToToolCallsRequest { session_id, tool_names } = request.into_inner();
        let open = self.session(&session_id)?;
        if tool_names.len() > FILTERS {
            return Err(Refusal::TooManyFilters(FILTERS).into());
        }
        let (calls, queue) = self.budget.channel();
        open.subscribe(tool_names.into_iter().map(Into::into).collect(), calls)?;
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
        Refusal::check_identifier("invocation_id", &id)?;
        let result = match request.outcome {
            Some(Outcome::Succeeded(grpc::ToolCallSucceeded { output_json })) => {
                String::from_utf8(output_json.into())
                    .map_err(|error| format!("the tool's result is not valid UTF-8: {error}"))
                    .and_then(|json| {
                        ToolResult::from_json(json)
                            .map_err(|error| format!("tool result is {error}"))
                    })
            }
            Some(Outcome::Failed(grpc::ToolCallFailed { message })) => Err(message),
            None => return Err(Refusal::Malformed(grpc::Malformed::Outcome).into()),
        };
        let reply = open.calls.complete(&id).ok_or(Refusal::UnknownCall(id))?;
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
        let mut request = request.into_inner();
        let open = self.session(&request.session_id)?;
        let addition: Option<SeamExecute> = decoded(request.cellblock_seam_json.as_deref())?;
        // The contract's own programs are JavaScript.
        let (mut until_frontier, mut wants_value, mut language) = (false, false, Language::Js);
        let (mut regional, mut wake) = (RegionalSettings::default(), None);
        if let Some(addition) = addition {
            (until_frontier, wants_value) = (addition.until_frontier, addition.wants_value);
            wake = addition.wake;
            open.session.take_over_stored(addition.stored)?;
            language = addition.language;
            let invalid = |why| Refusal::from(CodeModeError::InvalidRequest(why));
            regional = addition.regional.0.map_err(invalid)?;
        }
        let execution_id = std::mem::take(&mut request.execution_id);
        open.use_id("execution_id", &execution_id)?;
        let mut program = cellblock::ExecuteRequest::try_from(request).map_err(Refusal::from)?;
        program.wants_value = wants_value;
        program.regional = regional;
        program.language = language;
        let cell = open.session.admit(&program)?;
        let cell_id = cell.cell_id().clone();
        open.started(cell_id.clone(), execution_id.clone());
        let started = grpc::ExecutionStarted { execution_id, cell_id: cell_id.to_string() };
        // Dropped before its outcome was taken, the execution is abandoned, and its cell ends.
        let abandoned =
            Abandoned { cell: Some(open.session.request(cell_id)), tasks: self.tasks.clone() };
        // Before the client knows the cell, which it may end at once.
        let running = self.tasks.spawn(seam::begun(async move {
            let program = seam::Program { request: program, until_frontier, wake, keep: None };
            (cell.execute(program).await, cell)
        }));
        let outcome = async move {
            let (response, _cell) =
                running.await.map_err(|error| Status::aborted(error.to_string()))?;
            abandoned.disarm();
            let outcome = grpc::ExecutionOutcome::from(response?);
            check_size(&outcome)?;
            Ok(execute_event::Event::Outcome(outcome))
        };
        let started = stream::iter([Ok(execute_event::Event::Started(started))]);
        let events = started.chain(stream::once(outcome));
        let event =
            |event: Result<_, Status>| event.map(|event| grpc::ExecuteEvent { event: Some(event) });
        Ok(Response::new(Box::pin(events.map(event))))
    }

    async fn wait(
        &self,
        request: Request<grpc::WaitRequest>,
    ) -> Result<Response<grpc::WaitResponse>, Status> {
        let grpc::WaitRequest {
            session_id,
            cell_id,
            wait_id,
            yield_time_ms,
            cellblock_until_frontier,
            cellblock_park,
        } = request.into_inner();
        let until = match (cellblock_park, cellblock_until_frontier) {
            (Some(true), _) => seam::Wait::Park,
            (_, Some(true)) => seam::Wait::Frontier,
            _ => seam::Wait::Yield(yield_time_ms),
        };
        let open = self.session(&session_id)?;
        open.use_id("wait_id", &wait_id)?;
        let cell = open.cell_request(cell_id)?;
        let wait = Wait::default();
        let _in_flight =
            open.waits.insert(wait_id, wait.clone()).map_err(|_| Refusal::TooManyRequests)?;
        let _ended = wait.ended.drop_guard();
        // Here and not in a task: a client that goes away ends it, and leaves its output to
        // the next request.
        let outcome = cell.wait(until, &wait.cancelled).await?;
        answer(cell, outcome)
    }

    async fn cancel_wait(
        &self,
        request: Request<grpc::CancelWaitRequest>,
    ) -> Result<Response<grpc::CancelWaitResponse>, Status> {
        let grpc::CancelWaitRequest { session_id, wait_id } = request.into_inner();
        let open = self.session(&session_id)?;
        Refusal::check_identifier("wait_id", &wait_id)?;
        if let Some(Wait { cancelled, ended }) = open.waits.get(&wait_id) {
            cancelled.cancel();
            ended.cancelled().await;
        }
        Ok(Response::new(grpc::CancelWaitResponse {}))
    }

    async fn terminate(
        &self,
        request: Request<grpc::TerminateRequest>,
    ) -> Result<Response<grpc::WaitResponse>, Status> {
        let grpc::TerminateRequest { session_id, cell_id } = request.into_inner();
        let open = self.session(&session_id)?;
        let cell = open.cell_request(cell_id)?;
        let outcome = cell.terminate().await?;
        answer(cell, outcome)
    }
}

/// Answers a request for a cell. What is not sent goes back to the cell.
fn answer(
    cell: CellRequest,
    outcome: TimedWaitOutcome,
) -> Result<Response<grpc::WaitResponse>, Status> {
    let kept = match &outcome {
        TimedWaitOutcome::LiveCell(response) => Some(response.clone().into()),
        TimedWaitOutcome::MissingCell(_) => None,
    };
    let answer = grpc::WaitResponse::from(outcome);
    check_size(&answer)?;
    let mut response = Response::new(answer);
    response.extensions_mut().insert(Delivery::new(cell, kept));
    Ok(response)
}

/// An addition to a message, from JSON.
fn decoded<T: DeserializeOwned>(json: Option<&[u8]>) -> Result<Option<T>, Refusal> {
    let decoded = json.map(serde_json::from_slice).transpose();
    decoded.map_err(|error| Refusal::Malformed(grpc::Malformed::Addition(error)))
}

/// An answer that is too long for a message fails alone.
fn check_size(answer: &impl Message) -> Result<(), Refusal> {
    if answer.encoded_len() > MAX_BYTES {
        Err(Refusal::TooLarge(FrameError::TooLong))
    } else {
        Ok(())
    }
}

/// An execution whose client has not taken the outcome. Dropped, it ends the cell.
struct Abandoned {
    cell: Option<CellRequest>,
    tasks: TaskTracker,
}

impl Abandoned {
    fn disarm(mut self) {
        self.cell = None;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            self.tasks.spawn(async move {
                // The client has gone: nobody is left to receive how it went.
                let _ = cell.terminate().await;
            });
        }
    }
}
