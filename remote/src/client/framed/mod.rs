//! A connection that speaks framed JSON.
//!
//! Two tasks: one reads and dispatches, one writes. What breaks the protocol, or the
//! stream, fails every request.

mod delegates;
mod websocket;

use super::cell::CellHandle;
use super::connection::{
    Answer, ConnectError, ConnectionError, Failure, HostConnection, HostResponse, Lifeline,
    Program, Wait, WaitId, Waiting,
};
use super::session::RemoteSession;
use crate::in_flight::InFlight;
use crate::protocol::frame;
use crate::protocol::{
    ClientMessage, ExecutionLimits, HostMessage, LIMITS_CAPABILITY, OperationRequest,
    OperationValue, Outcome, Refusal, SEAM_CAPABILITY, SeamExecute, SeamOpen, StoredDelta,
    TimedResponse, VERSION,
};
use cellblock::{CellId, CellLimits, CodeModeError, WaitRequest};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{BytesCodec, FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;

/// Frames that wait to be written.
const OUTGOING: usize = 128;

/// What this client asks for.
const CAPABILITIES: [&str; 2] = [LIMITS_CAPABILITY, SEAM_CAPABILITY];

/// A connection that is up.
pub(super) struct FramedConnection(Arc<State>);

struct State {
    outgoing: mpsc::Sender<Bytes>,
    lifeline: Lifeline,
    /// Why the stream is about to end, where that is known.
    ending: OnceLock<ConnectionError>,
    /// Whether the host takes limits of a session.
    takes_limits: bool,
    /// Whether the host has what this project adds to the protocol.
    has_seam: bool,
    last_id: AtomicI64,
    /// Requests of this side. The host bounds them.
    requests: InFlight<i64, Pending>,
    /// Nested calls and notifications that the host has asked for, and what cancels them.
    delegates: InFlight<i64, CancellationToken>,
}

/// A request that awaits its answer.
enum Pending {
    Operation(oneshot::Sender<Result<OperationValue, Failure>>),
    /// An execute is answered twice: when its cell has an id, and with its first response.
    Execute(Arc<RemoteSession>, CellHandle, oneshot::Sender<Result<HostResponse, Failure>>),
}

impl FramedConnection {
    /// Speaks over a stream of bytes; see [`FramedConnection::start`].
    pub(super) async fn over_bytes(
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
        patience: Duration,
    ) -> Result<Self, ConnectError> {
        let frames = FramedRead::new(input, frame::decoder());
        Self::start(frames, FramedWrite::new(output, BytesCodec::new()), patience).await
    }

    /// Speaks over a stream of bytes to a host of this project, which has all that this client
    /// may ask for. Its answer to the hello is not awaited: requests follow the hello at once.
    #[cfg(feature = "nats")]
    pub(super) fn pipelined(
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, ConnectError> {
        let mut frames = FramedRead::new(input, frame::decoder());
        let (state, queue) = State::new(&CAPABILITIES.map(str::to_owned));
        let hello = hello().map_err(ConnectError::Handshake)?;
        // The queue is empty.
        let _ = state.outgoing.try_send(hello);
        let output = FramedWrite::new(output, BytesCodec::new());
        tokio::spawn(write(queue, output, Arc::clone(&state)));
        let reading = Arc::clone(&state);
        tokio::spawn(async move {
            let ready = tokio::select! {
                biased;
                () = reading.lifeline.closed().cancelled() => return,
                ready = granted(&mut frames) => ready,
            };
            match ready {
                Ok(granted)
                    if CAPABILITIES.iter().all(|each| granted.iter().any(|g| g == each)) =>
                {
                    read(frames, reading).await;
                }
                Ok(granted) => {
                    let why = format!("it has {granted:?}, and {CAPABILITIES:?} are needed");
                    reading.fail(ConnectionError::Protocol(why));
                }
                Err(why) => {
                    let reason = reading.ending.get().cloned();
                    reading.fail(reason.unwrap_or(ConnectionError::Protocol(why)));
                }
            }
        });
        Ok(Self(state))
    }

    /// Shakes hands within `patience`, and starts the two tasks. `frames` are the payloads
    /// that come, and `output` takes whole frames.
    async fn start<F: AsRef<[u8]> + Send + 'static>(
        mut frames: impl Stream<Item = io::Result<F>> + Send + Unpin + 'static,
        mut output: impl Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
        patience: Duration,
    ) -> Result<Self, ConnectError> {
        let capabilities = timeout(patience, shake_hands(&mut frames, &mut output))
            .await
            .map_err(|_| format!("no answer within {} s", patience.as_secs()))
            .flatten()
            .map_err(ConnectError::Handshake)?;
        let (state, queue) = State::new(&capabilities);
        tokio::spawn(read(frames, Arc::clone(&state)));
        tokio::spawn(write(queue, output, Arc::clone(&state)));
        Ok(Self(state))
    }

    /// Says why the stream is about to end.
    #[cfg(feature = "nats")]
    pub(super) fn ends_for(&self, reason: ConnectionError) {
        // The first reason counts.
        let _ = self.0.ending.set(reason);
    }

    /// Requests an operation.
    fn operation(&self, request: OperationRequest) -> (i64, Answer<OperationValue>) {
        let (reply, answer) = oneshot::channel();
        let state = Arc::clone(&self.0);
        let id = state.next_id();
        let sent = state.request(id, Pending::Operation(reply), request);
        (
            id,
            Box::pin(async move {
                sent.await?;
                answer.await.unwrap_or_else(|_| Err(state.lifeline.failure()))
            }),
        )
    }

    fn outcome(&self, answer: Answer<OperationValue>) -> Answer<HostResponse> {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            match answer.await? {
                OperationValue::WaitCompleted { outcome } => outcome.try_into(),
                other => {
                    let what = format!("a wait was answered with {other:?}");
                    state.fail(ConnectionError::Protocol(what));
                    Err(state.lifeline.failure())
                }
            }
        })
    }
}

async fn shake_hands<F: AsRef<[u8]>>(
    frames: &mut (impl Stream<Item = io::Result<F>> + Unpin),
    output: &mut (impl Sink<Bytes, Error = io::Error> + Unpin),
) -> Result<Vec<String>, String> {
    output.send(hello()?).await.map_err(|error| error.to_string())?;
    granted(frames).await
}

/// The first message, as a frame.
fn hello() -> Result<Bytes, String> {
    let hello = ClientMessage::Hello {
        supported_versions: vec![VERSION],
        required_capabilities: Vec::new(),
        optional_capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
    };
    frame::encode(&hello).map_err(|error| error.to_string())
}

/// The capabilities in the answer to the hello.
async fn granted<F: AsRef<[u8]>>(
    frames: &mut (impl Stream<Item = io::Result<F>> + Unpin),
) -> Result<Vec<String>, String> {
    let frame = match frames.next().await {
        Some(frame) => frame.map_err(|error| error.to_string())?,
        None => return Err("it closed the connection".to_owned()),
    };
    match frame::decode(frame.as_ref()).map_err(|error| error.to_string())? {
        HostMessage::Ready { selected_version: VERSION, capabilities, .. } => Ok(capabilities),
        HostMessage::Rejected { reason } => Err(format!("it rejected it: {reason:?}")),
        other => Err(format!("it answered {other:?}")),
    }
}

impl Drop for FramedConnection {
    fn drop(&mut self) {
        self.0.fail(ConnectionError::Dropped);
    }
}

impl HostConnection for FramedConnection {
    fn lifeline(&self) -> &Lifeline {
        &self.0.lifeline
    }

    fn fail(&self, reason: ConnectionError) {
        self.0.fail(reason);
    }

    fn parks(&self, _session: &RemoteSession) -> bool {
        self.0.has_seam
    }

    fn open(
        &self,
        session: Arc<RemoteSession>,
        limits: ExecutionLimits,
        cell: Option<CellLimits>,
    ) -> Answer<()> {
        if cell.is_some() && !self.0.has_seam {
            let refused = CodeModeError::Unsupported("limits of this kind");
            return Box::pin(std::future::ready(Err(Failure::Refused(refused))));
        }
        let limited = limits != ExecutionLimits::default();
        if limited && !self.0.takes_limits {
            let why = "code-mode session provider does not support resource limits".to_owned();
            let refused = Failure::Refused(CodeModeError::Host(why));
            return Box::pin(std::future::ready(Err(refused)));
        }
        let state = Arc::clone(&self.0);
        let session_id = format!("session-{}", state.next_id());
        state.lifeline.insert(&session_id, &session);
        let (_, answer) = self.operation(OperationRequest::Open {
            session_id: session_id.clone(),
            cell_execution_limits: limited.then_some(limits),
            seam: cell.map(|cell| SeamOpen { cell_limits: Some(cell) }),
        });
        Box::pin(async move {
            answer.await.map(drop).inspect_err(|_| state.lifeline.remove(&session_id))
        })
    }

    fn execute(
        &self,
        session: Arc<RemoteSession>,
        cell: CellHandle,
        program: Program,
    ) -> Answer<HostResponse> {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let answer = state.execute(session, cell, program).await?;
            answer.await.unwrap_or_else(|_| Err(state.lifeline.failure()))
        })
    }

    fn wait(&self, session: &RemoteSession, cell_id: CellId, wait: Wait) -> Waiting {
        let (yield_time_ms, until_frontier) = match wait {
            Wait::Yield(yield_time_ms) => (yield_time_ms, false),
            Wait::Frontier => (0, true),
            Wait::Park | Wait::Keep => (0, false),
        };
        let (id, answer) = self.operation(OperationRequest::Wait {
            session_id: session.id().to_owned(),
            request: WaitRequest { cell_id, yield_time_ms },
            until_frontier,
            park: matches!(wait, Wait::Park | Wait::Keep),
            keep: matches!(wait, Wait::Keep),
        });
        Waiting { id: WaitId::Framed(id), answer: self.outcome(answer) }
    }

    fn cancel_wait(&self, _session: &RemoteSession, wait: WaitId) {
        if let WaitId::Framed(id) = wait {
            let state = Arc::clone(&self.0);
            tokio::spawn(async move { state.send(&ClientMessage::Cancel { id }).await });
        }
    }

    fn terminate(&self, session: &RemoteSession, cell_id: CellId) -> Answer<HostResponse> {
        let session_id = session.id().to_owned();
        let (_, answer) = self.operation(OperationRequest::Terminate { session_id, cell_id });
        self.outcome(answer)
    }

    fn close(&self, session: &RemoteSession) -> Answer<()> {
        let session_id = session.id().to_owned();
        let (_, answer) =
            self.operation(OperationRequest::Shutdown { session_id: session_id.clone() });
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let closed = answer.await;
            state.lifeline.remove(&session_id);
            closed.map(drop)
        })
    }
}

impl State {
    /// A connection whose host has granted capabilities, and what is to be written.
    fn new(capabilities: &[String]) -> (Arc<Self>, mpsc::Receiver<Bytes>) {
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let state = Self {
            outgoing,
            lifeline: Lifeline::default(),
            ending: OnceLock::new(),
            takes_limits: capabilities.iter().any(|each| each == LIMITS_CAPABILITY),
            has_seam: capabilities.iter().any(|each| each == SEAM_CAPABILITY),
            last_id: AtomicI64::new(0),
            requests: InFlight::new(usize::MAX),
            delegates: InFlight::new(usize::MAX),
        };
        (Arc::new(state), queue)
    }

    fn next_id(&self) -> i64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Fails every request with one reason, and closes every cell.
    fn fail(&self, reason: ConnectionError) {
        if self.lifeline.fail(reason) {
            // Calls end with their cells, or run on where those go on elsewhere.
            drop(self.delegates.close());
            // What waits for an answer finds its sender dropped.
            drop(self.requests.close());
        }
    }

    /// Sends a request; its answer goes to `pending`. One that is too long fails alone.
    fn request(
        self: &Arc<Self>,
        id: i64,
        pending: Pending,
        request: OperationRequest,
    ) -> impl Future<Output = Result<(), Failure>> + use<> {
        let state = Arc::clone(self);
        // It stays in the table until it is answered, also when its caller has gone.
        let inserted = self.requests.put(id, pending).is_ok();
        async move {
            if !inserted {
                return Err(state.lifeline.failure());
            }
            match frame::encode(&ClientMessage::Request { id, request: Box::new(request) }) {
                Ok(frame) => {
                    // A writer that has ended has failed the connection.
                    let _ = state.outgoing.send(frame).await;
                    Ok(())
                }
                Err(error) => {
                    state.requests.complete(&id);
                    Err(Failure::Refused(CodeModeError::InvalidRequest(error.to_string())))
                }
            }
        }
    }

    /// Sends a program, with what of the stored values the host does not have; its first
    /// response goes to the receiver.
    async fn execute(
        self: &Arc<Self>,
        session: Arc<RemoteSession>,
        cell: CellHandle,
        program: Program,
    ) -> Result<oneshot::Receiver<Result<HostResponse, Failure>>, Failure> {
        let session_id = session.id().to_owned();
        let (initial, answer) = oneshot::channel();
        let pending = Pending::Execute(Arc::clone(&session), cell, initial);
        let id = self.next_id();
        if !self.has_seam {
            let request =
                OperationRequest::Execute { session_id, request: program.plain()?, seam: None };
            self.request(id, pending, request).await?;
            return Ok(answer);
        }
        // A writer that has ended has failed the connection.
        let place = self.outgoing.reserve().await.map_err(|_| self.lifeline.failure())?;
        self.requests.put(id, pending).map_err(|_| self.lifeline.failure())?;
        let now = program.stored.to_json();
        // The host takes changes over in the order in which they are sent: they are found
        // out and queued in one go.
        let mut known = session.known_values();
        let seam = Box::new(SeamExecute {
            stored: StoredDelta::between(known.as_ref(), &now),
            until_frontier: program.until_frontier,
            wants_value: program.request.wants_value,
            regional: program.request.regional.clone().into(),
            language: program.request.language,
            wake: program.wake,
            keep: program.keep,
        });
        let request =
            OperationRequest::Execute { session_id, request: program.request, seam: Some(seam) };
        match frame::encode(&ClientMessage::Request { id, request: Box::new(request) }) {
            Ok(frame) => {
                place.send(frame);
                *known = Some(now);
                Ok(answer)
            }
            Err(error) => {
                self.requests.complete(&id);
                Err(Failure::Refused(CodeModeError::InvalidRequest(error.to_string())))
            }
        }
    }

    async fn send(&self, message: &ClientMessage) {
        match frame::encode(message) {
            Ok(frame) => {
                let _ = self.outgoing.send(frame).await;
            }
            Err(error) => self.fail(ConnectionError::Protocol(error.to_string())),
        }
    }

    fn handle(self: &Arc<Self>, message: HostMessage) -> Result<(), ConnectionError> {
        let violation = |what: String| Err(ConnectionError::Protocol(what));
        match message {
            HostMessage::Response { id, result } => self.answered(id, result),
            HostMessage::InitialResponse { id, result } => self.responded(id, result),
            HostMessage::DelegateRequest { id, session_id, request } => {
                match self.lifeline.session(&session_id) {
                    Some(session) => self.delegate(id, &session, request),
                    None => violation(format!("unknown session {session_id}")),
                }
            }
            HostMessage::DelegateCancel { id } => {
                // One that was answered meanwhile is not there any more, and of one that
                // is taken out here no answer is sent.
                if let Some(cancelled) = self.delegates.complete(&id) {
                    cancelled.cancel();
                }
                Ok(())
            }
            HostMessage::CellEnded { session_id, cell_id } => {
                if let Some(session) = self.lifeline.session(&session_id) {
                    session.ended(cell_id.as_ref());
                }
                Ok(())
            }
            HostMessage::CellLeave { session_id, cell_id } => {
                if let Some(session) = self.lifeline.session(&session_id) {
                    session.leave(cell_id.as_ref());
                }
                Ok(())
            }
            HostMessage::CellKept { session_id, cell_id, name } => {
                if let Some(session) = self.lifeline.session(&session_id) {
                    session.kept(cell_id.as_ref(), name);
                }
                Ok(())
            }
            HostMessage::CellClosed { session_id, cell_id } => {
                if let Some(session) = self.lifeline.session(&session_id) {
                    session.close(cell_id.as_ref());
                }
                Ok(())
            }
            HostMessage::Ready { .. } | HostMessage::Rejected { .. } => {
                violation("a second handshake".to_owned())
            }
        }
    }

    fn answered(&self, id: i64, result: Outcome<OperationValue>) -> Result<(), ConnectionError> {
        let violation = |what: String| Err(ConnectionError::Protocol(what));
        let Some(pending) = self.requests.complete(&id) else {
            return violation(format!("an answer to a request {id} that was never made"));
        };
        // A caller that has gone away has left nothing that is lost.
        match (pending, Result::from(result)) {
            (Pending::Operation(reply), result) => {
                let _ = reply.send(result.map_err(|text| Failure::read(&text)));
            }
            (pending @ Pending::Execute(..), Ok(OperationValue::ExecutionStarted { cell_id })) => {
                if let Pending::Execute(session, cell, _) = &pending {
                    session.announce(cell_id.to_string(), cell);
                    cell.admitted(cell_id);
                }
                // With the connection closed meanwhile, its caller finds the sender dropped.
                let _ = self.requests.put(id, pending);
            }
            (Pending::Execute(..), Ok(value)) => {
                return violation(format!("an execute was answered with {value:?}"));
            }
            (Pending::Execute(_, _, initial), Err(text)) => {
                let _ = initial.send(Err(Failure::read(&text)));
            }
        }
        Ok(())
    }

    fn responded(&self, id: i64, result: Outcome<TimedResponse>) -> Result<(), ConnectionError> {
        let Some(Pending::Execute(_, _, initial)) = self.requests.complete(&id) else {
            let what = format!("an initial response to {id}, which is not an execute");
            return Err(ConnectionError::Protocol(what));
        };
        let result = Result::from(result).map(Into::into);
        let _ = initial.send(result.map_err(|text: String| Failure::read(&text)));
        Ok(())
    }
}

impl Failure {
    /// A refusal of the host's, from its text.
    pub(super) fn read(text: &str) -> Self {
        match Refusal::read(text, None) {
            Refusal::Cancelled => Self::Cancelled,
            refusal => Self::Refused(refusal.into()),
        }
    }
}

/// Reads until the stream ends or breaks.
async fn read<F: AsRef<[u8]>>(
    mut frames: impl Stream<Item = io::Result<F>> + Unpin,
    state: Arc<State>,
) {
    let violation = |error: &dyn std::fmt::Display| ConnectionError::Protocol(error.to_string());
    let reason = loop {
        let frame = tokio::select! {
            biased;
            () = state.lifeline.closed().cancelled() => return,
            frame = frames.next() => frame,
        };
        let handled = match frame {
            None => break state.ending.get().cloned().unwrap_or(ConnectionError::Closed),
            Some(Err(error)) => Err(violation(&error)),
            Some(Ok(payload)) => frame::decode(payload.as_ref())
                .map_err(|error| violation(&error))
                .and_then(|message| state.handle(message)),
        };
        if let Err(reason) = handled {
            break reason;
        }
    };
    state.fail(reason);
}

/// Writes what is queued, until the connection is closed.
async fn write(
    mut queue: mpsc::Receiver<Bytes>,
    mut output: impl Sink<Bytes, Error = io::Error> + Unpin,
    state: Arc<State>,
) {
    let writing = async {
        while let Some(frame) = queue.recv().await {
            output.feed(frame).await?;
            while let Ok(frame) = queue.try_recv() {
                output.feed(frame).await?;
            }
            output.flush().await?;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        biased;
        () = state.lifeline.closed().cancelled() => {}
        written = writing => {
            if let Err(error) = written {
                state.fail(ConnectionError::Write(error.to_string()));
            }
        }
    }
}
