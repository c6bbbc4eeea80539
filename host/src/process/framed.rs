//! A connection that speaks framed JSON.
//!
//! Two tasks: one reads and hands out, one writes. A request waits in a table for
//! its answer; whatever breaks the protocol, or the stream, fails them all.

use super::cells::{Cell, Remote, lock};
use super::link::{Answer, Failure, Link, WaitId, Waiting};
use crate::backend::{
    CellId, ExecuteRequest, RuntimeResponse, ToolResult, WaitOutcome, WaitRequest,
};
use crate::json;
use crate::protocol::frame::{self, FrameError};
use crate::protocol::{
    ClientMessage, DelegateRequest, DelegateValue, ExecutionLimits, HostMessage, LIMITS_CAPABILITY,
    OperationRequest, OperationValue, Outcome, TimedResponse, VERSION,
};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

/// Frames that wait to be written.
const OUTGOING: usize = 128;

/// Levels of nesting that a message adds around a tool's result.
const ENVELOPE_DEPTH: usize = 4;

/// A connection that is up.
pub(super) struct FramedLink(Arc<State>);

struct State {
    outgoing: mpsc::Sender<Bytes>,
    table: Mutex<Table>,
    gone: CancellationToken,
    takes_limits: bool,
}

#[derive(Default)]
struct Table {
    last_id: i64,
    operations: HashMap<i64, Pending>,
    delegates: HashMap<i64, CancellationToken>,
    sessions: HashMap<String, Arc<Remote>>,
    /// Why the connection is gone.
    failed: Option<String>,
}

/// A request that awaits its answer.
enum Pending {
    Operation(oneshot::Sender<Result<OperationValue, Failure>>),
    Execute {
        remote: Arc<Remote>,
        cell: Arc<Cell>,
        initial: oneshot::Sender<Result<RuntimeResponse, Failure>>,
    },
}

impl FramedLink {
    /// Shakes hands within `patience`, and starts the two tasks.
    ///
    /// # Errors
    /// A text that says what went wrong.
    pub(super) async fn start(
        input: impl AsyncRead + Send + Unpin + 'static,
        mut output: impl AsyncWrite + Send + Unpin + 'static,
        patience: Duration,
    ) -> Result<Self, String> {
        let mut frames = FramedRead::new(input, frame::decoder());
        let hello = ClientMessage::Hello {
            supported_versions: vec![VERSION],
            required_capabilities: Vec::new(),
            optional_capabilities: vec![LIMITS_CAPABILITY.to_owned()],
        };
        let handshake = async {
            let hello = frame::encode(&hello).map_err(|error| error.to_string())?;
            output.write_all(&hello).await.map_err(|error| error.to_string())?;
            output.flush().await.map_err(|error| error.to_string())?;
            let frame = match frames.next().await {
                Some(frame) => frame.map_err(|error| error.to_string())?,
                None => return Err("it closed the connection".to_owned()),
            };
            match frame::decode(&frame).map_err(|error| error.to_string())? {
                HostMessage::Ready { selected_version: VERSION, capabilities, .. } => {
                    Ok(capabilities)
                }
                HostMessage::Rejected { reason } => Err(format!("it rejected it: {reason:?}")),
                other => Err(format!("it answered {other:?}")),
            }
        };
        let capabilities = timeout(patience, handshake)
            .await
            .map_err(|_| format!("no answer within {} s", patience.as_secs()))
            .flatten()
            .map_err(|why| format!("code-mode host handshake failed: {why}"))?;
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let state = Arc::new(State {
            outgoing,
            table: Mutex::default(),
            gone: CancellationToken::new(),
            takes_limits: capabilities.iter().any(|each| each == LIMITS_CAPABILITY),
        });
        tokio::spawn(read(frames, Arc::clone(&state)));
        tokio::spawn(write(queue, output, Arc::clone(&state)));
        Ok(Self(state))
    }

    fn operation(&self, request: OperationRequest) -> (i64, Answer<OperationValue>) {
        let (reply, answer) = oneshot::channel();
        let id = self.0.register(Pending::Operation(reply));
        let state = Arc::clone(&self.0);
        let answer = async move {
            state.request(id, request).await?;
            answer.await.unwrap_or_else(|_| Err(state.failure()))
        };
        (id, Box::pin(answer))
    }

    fn outcome(&self, answer: Answer<OperationValue>) -> Answer<WaitOutcome> {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            match answer.await? {
                OperationValue::WaitCompleted { outcome } => Ok(outcome.into()),
                other => {
                    state.fail(&format!("code-mode host answered a request with {other:?}"));
                    Err(state.failure())
                }
            }
        })
    }
}

impl Drop for FramedLink {
    fn drop(&mut self) {
        self.fail("code-mode host connection was closed");
    }
}

impl Link for FramedLink {
    fn gone(&self) -> &CancellationToken {
        &self.0.gone
    }

    fn fail(&self, reason: &str) {
        self.0.fail(reason);
    }

    fn open(&self, remote: Arc<Remote>, limits: ExecutionLimits) -> Answer<()> {
        let limited = limits != ExecutionLimits::default();
        if limited && !self.0.takes_limits {
            return Box::pin(std::future::ready(Err(Failure::Refused(
                "code-mode session provider does not support resource limits".to_owned(),
            ))));
        }
        let session_id = {
            let mut table = lock(&self.0.table);
            let session_id = format!("session-{}", table.last_id + 1);
            // Set once, here: a remote is opened on one connection only.
            let _ = remote.session_id.set(session_id.clone());
            table.sessions.insert(session_id.clone(), Arc::clone(&remote));
            session_id
        };
        let (_, answer) = self.operation(OperationRequest::Open {
            session_id: session_id.clone(),
            cell_execution_limits: limited.then_some(limits),
        });
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let opened = answer.await;
            if opened.is_err() {
                lock(&state.table).sessions.remove(&session_id);
            }
            opened.map(drop)
        })
    }

    fn execute(
        &self,
        remote: Arc<Remote>,
        cell: Arc<Cell>,
        request: ExecuteRequest,
    ) -> Answer<RuntimeResponse> {
        let (initial, answer) = oneshot::channel();
        let session_id = remote.session_id().to_owned();
        let id = self.0.register(Pending::Execute { remote, cell, initial });
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            state.request(id, OperationRequest::Execute { session_id, request }).await?;
            answer.await.unwrap_or_else(|_| Err(state.failure()))
        })
    }

    fn wait(&self, remote: &Remote, cell_id: CellId, yield_time_ms: u64) -> Waiting {
        let (id, answer) = self.operation(OperationRequest::Wait {
            session_id: remote.session_id().to_owned(),
            request: WaitRequest { cell_id, yield_time_ms },
        });
        Waiting { id: WaitId::Framed(id), answer: self.outcome(answer) }
    }

    fn cancel_wait(&self, _remote: &Remote, wait: WaitId) {
        #[cfg_attr(not(feature = "grpc"), expect(irrefutable_let_patterns, reason = "one kind"))]
        if let WaitId::Framed(id) = wait {
            let state = Arc::clone(&self.0);
            tokio::spawn(async move { state.send(&ClientMessage::Cancel { id }).await });
        }
    }

    fn terminate(&self, remote: &Remote, cell_id: CellId) -> Answer<WaitOutcome> {
        let session_id = remote.session_id().to_owned();
        let (_, answer) = self.operation(OperationRequest::Terminate { session_id, cell_id });
        self.outcome(answer)
    }

    fn close(&self, remote: &Remote) -> Answer<()> {
        let session_id = remote.session_id().to_owned();
        let (_, answer) =
            self.operation(OperationRequest::Shutdown { session_id: session_id.clone() });
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let closed = answer.await;
            lock(&state.table).sessions.remove(&session_id);
            closed.map(drop)
        })
    }
}

impl State {
    /// Fails every request with one reason, and closes every cell.
    fn fail(&self, reason: &str) {
        let (operations, sessions) = {
            let mut table = lock(&self.table);
            if table.failed.is_some() {
                return;
            }
            table.failed = Some(reason.to_owned());
            for (_, token) in table.delegates.drain() {
                token.cancel();
            }
            (std::mem::take(&mut table.operations), std::mem::take(&mut table.sessions))
        };
        self.gone.cancel();
        // Whoever waits finds its sender dropped, and the reason in the table.
        drop(operations);
        for remote in sessions.into_values() {
            remote.lost();
        }
    }

    fn failure(&self) -> Failure {
        let reason = lock(&self.table).failed.clone();
        Failure::Gone(reason.unwrap_or_else(|| "code-mode host connection was closed".to_owned()))
    }

    /// Gives a request its id. With the connection gone, its answer fails at once.
    fn register(&self, pending: Pending) -> i64 {
        let mut table = lock(&self.table);
        table.last_id += 1;
        let id = table.last_id;
        if table.failed.is_none() {
            table.operations.insert(id, pending);
        }
        id
    }

    /// Sends a request; one that is too long fails alone.
    async fn request(&self, id: i64, request: OperationRequest) -> Result<(), Failure> {
        match frame::encode(&ClientMessage::Request { id, request }) {
            Ok(frame) => {
                // A writer that has ended has said why.
                let _ = self.outgoing.send(frame).await;
                Ok(())
            }
            Err(error) => {
                lock(&self.table).operations.remove(&id);
                Err(Failure::Refused(format!("invalid code-mode execute request: {error}")))
            }
        }
    }

    async fn send(&self, message: &ClientMessage) {
        match frame::encode(message) {
            Ok(frame) => {
                let _ = self.outgoing.send(frame).await;
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Hands a message to whom it is for.
    fn handle(self: &Arc<Self>, message: HostMessage) -> Result<(), String> {
        match message {
            HostMessage::Response { id, result } => self.answered(id, result),
            HostMessage::InitialResponse { id, result } => self.responded(id, result),
            HostMessage::DelegateRequest { id, session_id, request } => {
                let known = lock(&self.table).sessions.get(&session_id).cloned();
                let remote = known.ok_or_else(|| format!("unknown session {session_id}"))?;
                self.delegate(id, &remote, request)
            }
            HostMessage::DelegateCancel { id } => {
                // One that was answered meanwhile is not there any more, and of one that
                // is taken out here no answer is sent.
                let cancelled = lock(&self.table).delegates.remove(&id);
                if let Some(token) = cancelled {
                    token.cancel();
                }
                Ok(())
            }
            HostMessage::CellClosed { session_id, cell_id } => {
                let remote = lock(&self.table).sessions.get(&session_id).cloned();
                if let Some(remote) = remote {
                    remote.close(cell_id.as_ref());
                }
                Ok(())
            }
            HostMessage::Ready { .. } | HostMessage::Rejected { .. } => {
                Err("a second handshake".to_owned())
            }
        }
    }

    fn answered(&self, id: i64, result: Outcome<OperationValue>) -> Result<(), String> {
        let mut table = lock(&self.table);
        let pending = table.operations.remove(&id);
        match (pending, Result::from(result)) {
            (Some(Pending::Operation(reply)), result) => {
                drop(table);
                // A caller that has gone away has left nothing that is lost.
                let _ = reply.send(result.map_err(Failure::Refused));
                Ok(())
            }
            (Some(Pending::Execute { remote, cell, initial }), Ok(value)) => {
                let OperationValue::ExecutionStarted { cell_id } = value else {
                    return Err(format!("an execute was answered with {value:?}"));
                };
                remote.announce(cell_id.to_string(), &cell);
                Remote::admitted(&cell, cell_id);
                table.operations.insert(id, Pending::Execute { remote, cell, initial });
                Ok(())
            }
            (Some(Pending::Execute { initial, .. }), Err(refusal)) => {
                drop(table);
                let _ = initial.send(Err(Failure::Refused(refusal)));
                Ok(())
            }
            (None, _) => Err(format!("an answer to a request {id} that was never made")),
        }
    }

    fn responded(&self, id: i64, result: Outcome<TimedResponse>) -> Result<(), String> {
        let pending = lock(&self.table).operations.remove(&id);
        let Some(Pending::Execute { initial, .. }) = pending else {
            return Err(format!("an initial response to {id}, which is no execute"));
        };
        let result = Result::from(result).map(Into::into).map_err(Failure::Refused);
        let _ = initial.send(result);
        Ok(())
    }

    fn delegate(
        self: &Arc<Self>,
        id: i64,
        remote: &Remote,
        request: DelegateRequest,
    ) -> Result<(), String> {
        if lock(&self.table).delegates.insert(id, CancellationToken::new()).is_some() {
            return Err(format!("the delegate request {id} was made twice"));
        }
        let state = Arc::clone(self);
        let token = match request {
            DelegateRequest::InvokeTool { invocation } => {
                let key = invocation.cell_id.to_string();
                let reply = move |result: Result<ToolResult, String>| {
                    state.reply(id, result.and_then(tool_result))
                };
                remote.invoke(&key, invocation, Box::new(reply))
            }
            DelegateRequest::Notify { call_id, cell_id, text } => {
                let reply = move |result: Result<(), String>| {
                    state.reply(id, result.map(|()| DelegateValue::NotificationDelivered {}))
                };
                remote.notify(cell_id.as_ref(), call_id, text, Box::new(reply))
            }
        };
        // Answered meanwhile, it is not there any more.
        if let Some(entry) = lock(&self.table).delegates.get_mut(&id) {
            *entry = token;
        }
        Ok(())
    }

    fn reply(
        self: Arc<Self>,
        id: i64,
        result: Result<DelegateValue, String>,
    ) -> crate::BoxFuture<'static, ()> {
        Box::pin(async move {
            if lock(&self.table).delegates.remove(&id).is_none() {
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
                Err(error) => self.fail(&error.to_string()),
            }
        })
    }
}

/// A tool's value as an answer; one that nests too deeply could not be read.
fn tool_result(result: ToolResult) -> Result<DelegateValue, String> {
    const DEPTH: usize = json::MAX_DEPTH - ENVELOPE_DEPTH;
    let result = result.into_value();
    if json::depth_of_value(&result) <= DEPTH {
        return Ok(DelegateValue::ToolResult { result });
    }
    json::dismantle(result);
    Err(format!("tool result is nested more than {DEPTH} levels deep"))
}

/// Reads until the stream ends or breaks.
async fn read<R: AsyncRead + Unpin>(
    mut frames: FramedRead<R, tokio_util::codec::LengthDelimitedCodec>,
    state: Arc<State>,
) {
    let reason = loop {
        let frame = tokio::select! {
            biased;
            () = state.gone.cancelled() => return,
            frame = frames.next() => frame,
        };
        let handled = match frame {
            None => break "code-mode host closed the connection".to_owned(),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(payload)) => frame::decode(&payload)
                .map_err(|error| error.to_string())
                .and_then(|message| state.handle(message)),
        };
        if let Err(why) = handled {
            break format!("code-mode host broke the protocol: {why}");
        }
    };
    state.fail(&reason);
}

/// Writes what is queued, until the connection is gone.
async fn write(
    mut queue: mpsc::Receiver<Bytes>,
    output: impl AsyncWrite + Unpin,
    state: Arc<State>,
) {
    let mut output = BufWriter::new(output);
    let writing = async {
        while let Some(frame) = queue.recv().await {
            output.write_all(&frame).await?;
            while let Ok(frame) = queue.try_recv() {
                output.write_all(&frame).await?;
            }
            output.flush().await?;
        }
        std::io::Result::Ok(())
    };
    tokio::select! {
        biased;
        () = state.gone.cancelled() => {}
        written = writing => {
            if let Err(error) = written {
                state.fail(&format!("code-mode host cannot be written to: {error}"));
            }
        }
    }
}
