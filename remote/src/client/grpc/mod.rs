//! A connection that speaks gRPC.
//!
//! Each request is a call of its own on one HTTP/2 connection. A session has two
//! streams besides: its events, and the nested calls of its programs, which may come
//! before the execution they belong to is known to have started. They name it, so
//! nothing needs to wait.

mod session;

use super::cell::CellHandle;
use super::connection::{
    Answer, ConnectError, ConnectionError, Failure, HostConnection, HostResponse, Lifeline,
    Program, Wait, WaitId, Waiting,
};
use super::security::Bearer;
use super::session::RemoteSession;
use crate::protocol::frame::MAX_BYTES;
use crate::protocol::grpc::code_mode_host_client::CodeModeHostClient;
use crate::protocol::grpc::{self, execute_event, session_event};
use crate::protocol::{ExecutionLimits, SeamExecute, SeamOpen, StoredDelta};
use cellblock::{CellId, CellLimits, CodeModeError, ExecuteRequest, RuntimeResponse, ToolResult};
use hyper_util::rt::TokioIo;
use session::Session;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tonic::service::interceptor::InterceptedService;
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

type Client = CodeModeHostClient<InterceptedService<Channel, Bearer>>;

/// A connection that is up.
pub(super) struct GrpcConnection(Arc<State>);

struct State {
    client: Client,
    lifeline: Lifeline,
    last_id: AtomicU64,
}

impl GrpcConnection {
    /// Opens the connection within `patience`.
    pub(super) async fn start(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        bearer: Bearer,
        patience: Duration,
    ) -> Result<Self, ConnectError> {
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
            .map_err(ConnectError::Handshake)?;
        let client = CodeModeHostClient::with_interceptor(channel, bearer)
            .max_decoding_message_size(MAX_BYTES)
            .max_encoding_message_size(MAX_BYTES);
        Ok(Self(Arc::new(State {
            client,
            lifeline: Lifeline::default(),
            last_id: AtomicU64::new(0),
        })))
    }

    fn outcome(
        &self,
        answer: impl Future<Output = Result<tonic::Response<grpc::WaitResponse>, Status>>
        + Send
        + 'static,
    ) -> Answer<HostResponse> {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let response = state.or_lost(answer).await?.into_inner();
            match response.outcome {
                Some(grpc::wait_response::Outcome::LiveCell(outcome)) => state.read(outcome),
                Some(grpc::wait_response::Outcome::MissingCell(_)) => Err(Failure::Missing),
                None => Err(state.lifeline.violation(grpc::Malformed::Outcome)),
            }
        })
    }
}

impl Drop for GrpcConnection {
    fn drop(&mut self) {
        self.0.lifeline.fail(ConnectionError::Dropped);
    }
}

impl HostConnection for GrpcConnection {
    fn lifeline(&self) -> &Lifeline {
        &self.0.lifeline
    }

    fn fail(&self, reason: ConnectionError) {
        self.0.lifeline.fail(reason);
    }

    fn parks(&self, remote: &RemoteSession) -> bool {
        remote.has_seam.load(Ordering::Relaxed)
    }

    fn open(
        &self,
        remote: Arc<RemoteSession>,
        limits: ExecutionLimits,
        cell: Option<CellLimits>,
    ) -> Answer<()> {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let limited = cell.is_some();
            let seam = encoded(&SeamOpen { cell_limits: cell })?;
            let ExecutionLimits { max_yield_time_ms, max_heap_size_bytes } = limits;
            let cell_execution_limits = (limits != ExecutionLimits::default()).then_some(
                grpc::SessionCellExecutionLimits { max_yield_time_ms, max_heap_size_bytes },
            );
            let mut client = state.client.clone();
            let request =
                grpc::OpenSessionRequest { cell_execution_limits, cellblock_seam_json: Some(seam) };
            let mut events = state.or_lost(client.open_session(request)).await?.into_inner();
            let first = state.or_lost(events.message()).await?.and_then(|event| event.event);
            let Some(session_event::Event::Opened(opened)) = first else {
                return Err(state.lifeline.violation("a session that does not open"));
            };
            let grpc::SessionOpened { session_id, cellblock_seam } = opened;
            let has_seam = cellblock_seam.unwrap_or_default();
            if limited && !has_seam {
                // The session ends with its stream.
                return Err(Failure::Refused(CodeModeError::Unsupported("limits of this kind")));
            }
            remote.has_seam.store(has_seam, Ordering::Relaxed);
            state.lifeline.insert(&session_id, &remote);
            let subscribe =
                grpc::SubscribeToToolCallsRequest { session_id, tool_names: Vec::new() };
            let calls =
                state.or_lost(client.subscribe_to_tool_calls(subscribe)).await?.into_inner();
            tokio::spawn(Session::new(&state, remote).serve(events, calls));
            Ok(())
        })
    }

    fn execute(
        &self,
        remote: Arc<RemoteSession>,
        cell: CellHandle,
        program: Program,
    ) -> Answer<HostResponse> {
        let state = Arc::clone(&self.0);
        let execution_id = state.next_id("execution");
        remote.announce(execution_id.clone(), &cell);
        Box::pin(async move {
            if remote.has_seam.load(Ordering::Relaxed) {
                return state.execute_whole(&remote, &cell, execution_id, program).await;
            }
            let request = grpc::ExecuteRequest::new(&remote, execution_id, program.plain()?);
            let mut events = state.started(request, &cell).await?;
            state.outcome(&mut events).await
        })
    }

    fn wait(&self, remote: &RemoteSession, cell_id: CellId, wait: Wait) -> Waiting {
        let id = self.0.next_id("wait");
        let (yield_time_ms, cellblock_until_frontier, cellblock_park) = match wait {
            Wait::Yield(yield_time_ms) => (yield_time_ms, None, None),
            Wait::Frontier => (0, Some(true), None),
            // Only workers of a fleet keep cells, and they do not speak this.
            Wait::Park | Wait::Keep => (0, None, Some(true)),
        };
        let request = grpc::WaitRequest {
            session_id: remote.id().to_owned(),
            cell_id: cell_id.to_string(),
            wait_id: id.clone(),
            yield_time_ms,
            cellblock_until_frontier,
            cellblock_park,
        };
        let mut client = self.0.client.clone();
        let answer = self.outcome(async move { client.wait(request).await });
        Waiting { id: WaitId::Grpc(id), answer }
    }

    fn cancel_wait(&self, remote: &RemoteSession, wait: WaitId) {
        if let WaitId::Grpc(wait_id) = wait {
            let session_id = remote.id().to_owned();
            let mut client = self.0.client.clone();
            // The answer to the wait says how it ended.
            tokio::spawn(async move {
                client.cancel_wait(grpc::CancelWaitRequest { session_id, wait_id }).await
            });
        }
    }

    fn terminate(&self, remote: &RemoteSession, cell_id: CellId) -> Answer<HostResponse> {
        let request = grpc::TerminateRequest {
            session_id: remote.id().to_owned(),
            cell_id: cell_id.to_string(),
        };
        let mut client = self.0.client.clone();
        self.outcome(async move { client.terminate(request).await })
    }

    fn close(&self, remote: &RemoteSession) -> Answer<()> {
        let (state, session_id) = (Arc::clone(&self.0), remote.id().to_owned());
        // The host may end the streams before its answer to the request is here.
        remote.closing.store(true, Ordering::Release);
        Box::pin(async move {
            let mut client = state.client.clone();
            let request = grpc::CloseSessionRequest { session_id: session_id.clone() };
            let closed = state.or_lost(client.close_session(request)).await;
            if let Some(remote) = state.lifeline.session(&session_id) {
                remote.ended.cancel();
            }
            state.lifeline.remove(&session_id);
            closed.map(drop)
        })
    }
}

impl State {
    fn next_id(&self, what: &str) -> String {
        format!("{what}-{}", self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The result of a call, unless the connection is closed first.
    async fn or_lost<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            result = call => result.map_err(|status| self.failure_of(&status)),
            () = self.lifeline.closed().cancelled() => Err(self.lifeline.failure()),
        }
    }

    /// A status comes from the host, unless the connection itself made it.
    fn failure_of(&self, status: &Status) -> Failure {
        let mut text = status.message().to_owned();
        text.truncate(text.floor_char_boundary(MAX_ERROR));
        match status.code() {
            Code::Cancelled if status.message().is_empty() => Failure::Cancelled,
            Code::Unavailable | Code::Unknown | Code::Internal => {
                self.lifeline.fail(ConnectionError::Failed(text));
                self.lifeline.failure()
            }
            _ => Failure::read(&text),
        }
    }

    /// Sends a program, and returns once its cell was admitted.
    async fn started(
        &self,
        request: grpc::ExecuteRequest,
        cell: &CellHandle,
    ) -> Result<Streaming<grpc::ExecuteEvent>, Failure> {
        let mut client = self.client.clone();
        let mut events = self.or_lost(client.execute(request)).await?.into_inner();
        let first = self.or_lost(events.message()).await?.and_then(|event| event.event);
        let Some(execute_event::Event::Started(started)) = first else {
            return Err(self.lifeline.violation("an execution that does not start"));
        };
        cell.admitted(CellId::new(started.cell_id));
        Ok(events)
    }

    /// The first response of a cell that was admitted.
    async fn outcome(
        &self,
        events: &mut Streaming<grpc::ExecuteEvent>,
    ) -> Result<HostResponse, Failure> {
        match self.or_lost(events.message()).await?.and_then(|event| event.event) {
            Some(execute_event::Event::Outcome(outcome)) => self.read(outcome),
            _ => Err(self.lifeline.violation("an execution without an outcome")),
        }
    }

    /// Sends a program with what of the stored values the host does not have. Requests of a
    /// connection keep no order, so one program is admitted after the other.
    async fn execute_whole(
        &self,
        remote: &RemoteSession,
        cell: &CellHandle,
        execution_id: String,
        program: Program,
    ) -> Result<HostResponse, Failure> {
        let admission = remote.admission().await;
        let now = program.stored.to_json();
        // Until the host has it, it is not known what the host has.
        let known = remote.known_values().take();
        let seam = SeamExecute {
            stored: StoredDelta::between(known.as_ref(), &now),
            until_frontier: program.until_frontier,
            wants_value: program.request.wants_value,
            regional: program.request.regional.clone().into(),
            language: program.request.language,
            wake: program.wake,
            keep: None,
        };
        let mut request = grpc::ExecuteRequest::new(remote, execution_id, program.request);
        request.cellblock_seam_json = Some(encoded(&seam)?);
        let mut events = self.started(request, cell).await?;
        *remote.known_values() = Some(now);
        drop(admission);
        self.outcome(&mut events).await
    }

    /// A response of a cell.
    fn read(&self, mut outcome: grpc::ExecutionOutcome) -> Result<HostResponse, Failure> {
        let seam = outcome.cellblock_seam_json.take();
        let response = RuntimeResponse::try_from(outcome)
            .map_err(|why: grpc::Malformed| self.lifeline.violation(why))?;
        match seam.as_deref().map(serde_json::from_slice).transpose() {
            Ok(Some(seam)) => Ok(HostResponse::with_seam(response, seam)),
            Ok(None) => Ok(response.into()),
            Err(error) => Err(self.lifeline.violation(error)),
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
        let outcome = match result.and_then(|result| {
            result
                .into_json(MAX_BYTES - ENVELOPE)
                .map_err(|error| format!("tool result is {error}"))
        }) {
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
        // A call that the host has cancelled meanwhile is refused, which changes nothing.
        let _ = self.or_lost(self.client.clone().complete_tool_call(request)).await;
    }
}

impl grpc::ExecuteRequest {
    /// A program of a session, without what only hosts of this project take.
    fn new(remote: &RemoteSession, execution_id: String, program: ExecuteRequest) -> Self {
        Self {
            session_id: remote.id().to_owned(),
            execution_id,
            tool_call_id: program.tool_call_id,
            source: program.source,
            enabled_tools: program.enabled_tools.iter().map(Into::into).collect(),
            yield_time_ms: program.yield_time_ms,
            max_output_tokens: program.max_output_tokens.map(|tokens| tokens as u64),
            cellblock_seam_json: None,
        }
    }
}

/// An addition to a message, as JSON.
fn encoded(addition: &impl serde::Serialize) -> Result<Bytes, Failure> {
    let encoded = serde_json::to_vec(addition).map(Bytes::from);
    encoded.map_err(|error| Failure::Refused(CodeModeError::InvalidRequest(error.to_string())))
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
