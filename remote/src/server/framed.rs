//! One connection of framed JSON, version 1.
//!
//! One task reads and admits, one writes, and each request is a task of its own.
//! What breaks the protocol ends the connection, and its sessions with it; other
//! connections go on.

use super::session::{Admitted, Host, REQUESTS, Remembered, SESSIONS, SHUTDOWN_GRACE, Session};
use crate::protocol::frame::{self, FrameError};
use crate::protocol::{
    ClientMessage, DelegateRequest, DelegateValue, HostMessage, LIMITS_CAPABILITY,
    MAX_DELEGATE_CALLS, OperationRequest, OperationValue, Outcome, RejectionReason, VERSION,
};
use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use cellblock::{
    CellId, CodeModeNestedToolCall, CodeModeTurnHost, CodeModeTurnWorker, ToolResult, WaitRequest,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a client may take to say hello.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long a client may leave a frame unread before it is given up.
const STALLED: Duration = Duration::from_secs(30);
/// Frames that wait to be written.
const OUTGOING: usize = 128;
/// Nesting of a nested call's input that still fits into a message.
const INPUT_DEPTH: usize = 123;
/// Names that a client may list in its hello.
const HELLO_ITEMS: usize = 1_024;

/// Serves a client until it has gone.
///
/// # Errors
/// What the client did wrong, or what happened to the connection.
pub async fn serve<I, O>(host: Arc<Host>, mut frames: I, sink: O) -> Result<()>
where
    I: Stream<Item = Result<Bytes>> + Unpin,
    O: Sink<Bytes> + Send + Unpin + 'static,
    O::Error: Display + Send,
{
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let gone = CancellationToken::new();
    let writer = tokio::spawn(write(queue, sink, gone.clone()));
    let served = match timeout(HANDSHAKE, hello(&mut frames, &outgoing)).await {
        Err(_) => Err(anyhow::anyhow!("no connection/hello within {} s", HANDSHAKE.as_secs())),
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(capabilities))) => {
            let connection = Arc::new(Connection {
                host,
                outgoing: outgoing.clone(),
                takes_limits: capabilities.iter().any(|each| each == LIMITS_CAPABILITY),
                table: Mutex::default(),
                tasks: TaskTracker::new(),
            });
            let read = tokio::select! {
                biased;
                () = gone.cancelled() => Ok(()),
                read = connection.read(&mut frames) => read,
            };
            connection.end().await;
            read
        }
    };
    drop(outgoing);
    // A writer that does not end was waiting for a client that does not read.
    match timeout(SHUTDOWN_GRACE, writer).await {
        Ok(Ok(written)) => served.and(written),
        Ok(Err(_)) | Err(_) => served,
    }
}

/// Takes the hello; `None` when it was rejected, and the connection ends.
async fn hello<I>(frames: &mut I, outgoing: &mpsc::Sender<Bytes>) -> Result<Option<Vec<String>>>
where
    I: Stream<Item = Result<Bytes>> + Unpin,
{
    let Some(payload) = frames.next().await else { return Ok(None) };
    let message: ClientMessage = frame::decode(&payload?)?;
    let ClientMessage::Hello { supported_versions, required_capabilities, optional_capabilities } =
        message
    else {
        bail!("the first message must be connection/hello");
    };
    let granted = |asked: &[String]| -> Vec<String> {
        asked.iter().filter(|each| *each == LIMITS_CAPABILITY).cloned().collect()
    };
    let missing = required_capabilities.iter().find(|each| *each != LIMITS_CAPABILITY);
    let reason = if let Err(message) =
        check_hello(&supported_versions, &required_capabilities, &optional_capabilities)
    {
        Some(RejectionReason::InvalidHello { message })
    } else if !supported_versions.contains(&VERSION) {
        Some(RejectionReason::NoCompatibleVersion { supported_versions: vec![VERSION] })
    } else {
        missing.map(|capability| RejectionReason::MissingRequiredCapability {
            capability: capability.clone(),
        })
    };
    if let Some(reason) = reason {
        outgoing.send(frame::encode(&HostMessage::Rejected { reason })?).await?;
        return Ok(None);
    }
    let mut capabilities = granted(&required_capabilities);
    capabilities.extend(granted(&optional_capabilities));
    let ready = HostMessage::Ready {
        selected_version: VERSION,
        capabilities: capabilities.clone(),
        bulk_connection_token: None,
    };
    outgoing.send(frame::encode(&ready)?).await?;
    Ok(Some(capabilities))
}

/// The rules of a hello: sets without blanks, and no capability both required and optional.
fn check_hello(versions: &[u32], required: &[String], optional: &[String]) -> Result<(), String> {
    if versions.is_empty() {
        return Err("supportedVersions is empty".to_owned());
    }
    if versions.contains(&0) {
        return Err("supportedVersions must be at least 1".to_owned());
    }
    if versions.len() + required.len() + optional.len() > HELLO_ITEMS {
        return Err("there are too many versions and capabilities".to_owned());
    }
    if versions.iter().collect::<HashSet<_>>().len() < versions.len() {
        return Err("supportedVersions has a duplicate".to_owned());
    }
    let mut seen = HashSet::new();
    for capability in required.iter().chain(optional) {
        if capability.trim().is_empty() {
            return Err("a capability is blank".to_owned());
        }
        if !seen.insert(capability) {
            return Err(format!("the capability `{capability}` is listed twice"));
        }
    }
    Ok(())
}

/// A connection whose client has said hello.
struct Connection {
    host: Arc<Host>,
    outgoing: mpsc::Sender<Bytes>,
    takes_limits: bool,
    table: Mutex<Table>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<String, Open>,
    /// Requests under way, and what gives them up.
    requests: HashMap<i64, CancellationToken>,
    used_requests: Remembered<i64>,
    used_sessions: Remembered<String>,
    delegates: HashMap<i64, oneshot::Sender<Result<DelegateValue, String>>>,
    last_delegate: i64,
}

/// A session, and what serves its programs.
struct Open {
    session: Arc<Session>,
    _worker: CodeModeTurnWorker,
}

impl Connection {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read<I>(self: &Arc<Self>, frames: &mut I) -> Result<()>
    where
        I: Stream<Item = Result<Bytes>> + Unpin,
    {
        while let Some(payload) = frames.next().await {
            match frame::decode(&payload?)? {
                ClientMessage::Hello { .. } => bail!("a second connection/hello"),
                ClientMessage::Request { id, request } => self.request(id, request).await?,
                ClientMessage::Cancel { id } => {
                    // One that was answered meanwhile is not there any more.
                    if let Some(token) = self.table().requests.get(&id) {
                        token.cancel();
                    }
                }
                ClientMessage::DelegateResponse { id, result } => {
                    // Late answers to what was cancelled are expected, and of no use.
                    let pending = self.table().delegates.remove(&id);
                    if let Some(reply) = pending {
                        let _ = reply.send(result.into());
                    }
                }
            }
        }
        Ok(())
    }

    /// Admits a request, in the order of arrival; the rest is a task of its own.
    async fn request(self: &Arc<Self>, id: i64, request: OperationRequest) -> Result<()> {
        let token = CancellationToken::new();
        let full = {
            let mut table = self.table();
            ensure!(table.used_requests.insert(id), "the request id {id} was used twice");
            // What ends cells is always taken.
            let ends = matches!(
                request,
                OperationRequest::Terminate { .. } | OperationRequest::Shutdown { .. }
            );
            let full = !ends && table.requests.len() >= REQUESTS;
            if !full {
                table.requests.insert(id, token.clone());
            }
            full
        };
        if full {
            let message = "code-mode host has too many in-flight requests".to_owned();
            self.respond(id, Err(message)).await;
            return Ok(());
        }
        match request {
            OperationRequest::Open { session_id, cell_execution_limits } => {
                let opened = self.open(&session_id, cell_execution_limits.unwrap_or_default());
                let value = opened.map(|()| OperationValue::SessionReady { session_id });
                self.respond(id, value).await;
            }
            OperationRequest::Execute { session_id, request } => {
                let admitted = self
                    .session(&session_id)
                    .and_then(|session| Ok((session.admit(request)?, session)));
                match admitted {
                    Ok((admitted, session)) => {
                        let cell_id = admitted.cell_id.clone();
                        let started = OperationValue::ExecutionStarted { cell_id };
                        self.send(&HostMessage::Response {
                            id,
                            result: Outcome::Ok { value: started },
                        })
                        .await;
                        let connection = Arc::clone(self);
                        let requests = session.requests.clone();
                        self.tasks.spawn(requests.track_future(async move {
                            connection.execute(id, &session_id, &session, admitted).await;
                        }));
                    }
                    Err(refusal) => self.respond(id, Err(refusal)).await,
                }
            }
            OperationRequest::Wait { session_id, request } => match self.session(&session_id) {
                Ok(session) => {
                    session.look(&request.cell_id);
                    let connection = Arc::clone(self);
                    let requests = session.requests.clone();
                    self.tasks.spawn(requests.track_future(async move {
                        connection.wait(id, &session_id, &session, request, token).await;
                    }));
                }
                Err(refusal) => self.respond(id, Err(refusal)).await,
            },
            OperationRequest::Terminate { session_id, cell_id } => {
                match self.session(&session_id) {
                    Ok(session) => {
                        session.look(&cell_id);
                        let connection = Arc::clone(self);
                        let requests = session.requests.clone();
                        self.tasks.spawn(requests.track_future(async move {
                            let outcome = session.terminate(cell_id.clone()).await;
                            let value =
                                outcome.map(|outcome| OperationValue::WaitCompleted { outcome });
                            connection.respond(id, value).await;
                            connection.told(&session_id, &session, cell_id).await;
                        }));
                    }
                    Err(refusal) => self.respond(id, Err(refusal)).await,
                }
            }
            OperationRequest::Shutdown { session_id } => {
                let closing = self.table().sessions.remove(&session_id);
                let Some(open) = closing else {
                    let refusal = format!("unknown code-mode session {session_id}");
                    self.respond(id, Err(refusal)).await;
                    return Ok(());
                };
                let connection = Arc::clone(self);
                self.tasks.spawn(async move {
                    connection.close(&session_id, &open).await;
                    let value = OperationValue::SessionClosed { session_id };
                    connection.respond(id, Ok(value)).await;
                });
            }
        }
        Ok(())
    }

    fn open(
        self: &Arc<Self>,
        session_id: &str,
        limits: crate::protocol::ExecutionLimits,
    ) -> Result<(), String> {
        if session_id.trim().is_empty() {
            return Err("code-mode session ID is blank".to_owned());
        }
        if limits != crate::protocol::ExecutionLimits::default() && !self.takes_limits {
            return Err(format!(
                "cellExecutionLimits needs the capability {LIMITS_CAPABILITY}, which was not asked for"
            ));
        }
        let mut table = self.table();
        if table.sessions.contains_key(session_id) {
            return Err(format!("code-mode session ID `{session_id}` is already open"));
        }
        if table.sessions.len() >= SESSIONS {
            return Err("code-mode host has too many open sessions".to_owned());
        }
        if table.used_sessions.contains(session_id) {
            return Err(format!("code-mode session ID `{session_id}` was reused"));
        }
        let session = self.host.open(limits)?;
        let peer = Peer {
            connection: Arc::clone(self),
            session_id: session_id.to_owned(),
            session: Arc::downgrade(&session),
        };
        let worker = session.serve(Arc::new(peer));
        table.used_sessions.insert(session_id.to_owned());
        table.sessions.insert(session_id.to_owned(), Open { session, _worker: worker });
        Ok(())
    }

    fn session(&self, session_id: &str) -> Result<Arc<Session>, String> {
        let table = self.table();
        let open = table.sessions.get(session_id);
        open.map(|open| Arc::clone(&open.session))
            .ok_or_else(|| format!("unknown code-mode session {session_id}"))
    }

    async fn execute(&self, id: i64, session_id: &str, session: &Session, admitted: Admitted) {
        let cell_id = admitted.cell_id.clone();
        let initial = session.run(admitted).await;
        self.table().requests.remove(&id);
        let respond = |result| HostMessage::InitialResponse { id, result };
        let frame = match frame::encode(&respond(initial.into())) {
            Err(FrameError::TooLong) => {
                let message = format!("code-mode response is too large: {}", FrameError::TooLong);
                frame::encode(&respond(Outcome::Error { message }))
            }
            frame => frame,
        };
        self.send_frame(frame).await;
        self.told(session_id, session, cell_id).await;
    }

    async fn wait(
        &self,
        id: i64,
        session_id: &str,
        session: &Session,
        request: WaitRequest,
        token: CancellationToken,
    ) {
        let cell_id = request.cell_id.clone();
        // Given up, it leaves its output to whoever asks next.
        let outcome = tokio::select! {
            biased;
            outcome = session.wait(request) => outcome,
            () = token.cancelled() => Err("code-mode request cancelled".to_owned()),
        };
        let value = outcome.map(|outcome| OperationValue::WaitCompleted { outcome });
        self.respond(id, value).await;
        self.told(session_id, session, cell_id).await;
    }

    /// Says that a cell is closed, when the answer just sent was its last.
    async fn told(&self, session_id: &str, session: &Session, cell_id: CellId) {
        if session.told(&cell_id) {
            self.send(&HostMessage::CellClosed { session_id: session_id.to_owned(), cell_id })
                .await;
        }
    }

    async fn close(&self, session_id: &str, open: &Open) {
        for cell_id in open.session.close().await {
            self.send(&HostMessage::CellClosed { session_id: session_id.to_owned(), cell_id })
                .await;
        }
    }

    /// Answers a request. What is too long for a frame fails that request alone.
    async fn respond(&self, id: i64, value: Result<OperationValue, String>) {
        self.table().requests.remove(&id);
        let frame = match frame::encode(&HostMessage::Response { id, result: value.into() }) {
            Err(FrameError::TooLong) => {
                let message = format!("code-mode response is too large: {}", FrameError::TooLong);
                frame::encode(&HostMessage::Response { id, result: Outcome::Error { message } })
            }
            frame => frame,
        };
        self.send_frame(frame).await;
    }

    async fn send(&self, message: &HostMessage) {
        self.send_frame(frame::encode(message)).await;
    }

    async fn send_frame(&self, frame: Result<Bytes, FrameError>) {
        match frame {
            // A writer that has ended has ended the connection.
            Ok(frame) => drop(self.outgoing.send(frame).await),
            Err(error) => tracing::error!("a message was not sent: {error}"),
        }
    }

    /// Asks the client for something, until `cancellation`.
    async fn delegate(
        &self,
        session_id: &str,
        request: DelegateRequest,
        cancellation: CancellationToken,
        cancelled: &str,
    ) -> Result<DelegateValue, String> {
        let (reply, answer) = oneshot::channel();
        let id = {
            let mut table = self.table();
            if table.delegates.len() >= MAX_DELEGATE_CALLS {
                return Err("code-mode host has too many pending delegate calls".to_owned());
            }
            table.last_delegate += 1;
            let id = table.last_delegate;
            table.delegates.insert(id, reply);
            id
        };
        let request =
            HostMessage::DelegateRequest { id, session_id: session_id.to_owned(), request };
        let frame = match frame::encode(&request) {
            Ok(frame) => frame,
            Err(error) => {
                self.table().delegates.remove(&id);
                return Err(error.to_string());
            }
        };
        drop(self.outgoing.send(frame).await);
        let answered = tokio::select! {
            biased;
            answered = answer => Some(answered),
            () = cancellation.cancelled() => None,
        };
        if let Some(answered) = answered {
            return answered.unwrap_or_else(|_| Err(cancelled.to_owned()));
        }
        self.table().delegates.remove(&id);
        self.send(&HostMessage::DelegateCancel { id }).await;
        Err(cancelled.to_owned())
    }

    /// Ends what the client has left behind.
    async fn end(&self) {
        let sessions = {
            let mut table = self.table();
            table.delegates.clear();
            for token in table.requests.values() {
                token.cancel();
            }
            std::mem::take(&mut table.sessions)
        };
        let closing = async {
            for open in sessions.values() {
                open.session.close().await;
            }
            self.tasks.close();
            self.tasks.wait().await;
        };
        if timeout(SHUTDOWN_GRACE, closing).await.is_err() {
            tracing::warn!("sessions did not end within {} s", SHUTDOWN_GRACE.as_secs());
        }
    }
}

/// The client as a session's turn host.
struct Peer {
    connection: Arc<Connection>,
    session_id: String,
    /// The session holds the peer.
    session: std::sync::Weak<Session>,
}

#[async_trait]
impl CodeModeTurnHost for Peer {
    async fn invoke_tool(
        &self,
        invocation: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        const CANCELLED: &str = "code mode nested tool call cancelled";
        if invocation.input.as_ref().is_some_and(|input| depth(input) > INPUT_DEPTH) {
            return Err(format!("tool input is nested more than {INPUT_DEPTH} levels deep"));
        }
        let request = DelegateRequest::InvokeTool { invocation };
        let connection = &self.connection;
        match connection.delegate(&self.session_id, request, cancellation, CANCELLED).await? {
            DelegateValue::ToolResult { result } => Ok(result.into()),
            DelegateValue::NotificationDelivered {} => {
                Err("the client answered a tool call as if it were a notification".to_owned())
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
        let request = DelegateRequest::Notify { call_id, cell_id, text };
        let cancelled = "code mode notification cancelled";
        let connection = &self.connection;
        connection.delegate(&self.session_id, request, cancellation, cancelled).await.map(drop)
    }

    fn cell_closed(&self, cell_id: &CellId) {
        if let Some(session) = self.session.upgrade() {
            session.ended(cell_id);
        }
    }
}

/// Levels of nesting; serde_json bounds them.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Writes what is queued, until nothing can come any more or the client stops reading.
async fn write<O>(
    mut queue: mpsc::Receiver<Bytes>,
    mut sink: O,
    gone: CancellationToken,
) -> Result<()>
where
    O: Sink<Bytes> + Unpin,
    O::Error: Display,
{
    let _gone = gone.drop_guard();
    let failed = |error: O::Error| anyhow::anyhow!("cannot write to the client: {error}");
    while let Some(frame) = queue.recv().await {
        let written = async {
            sink.feed(frame).await?;
            while let Ok(frame) = queue.try_recv() {
                sink.feed(frame).await?;
            }
            sink.flush().await
        };
        timeout(STALLED, written)
            .await
            .with_context(|| format!("the client has not read for {} s", STALLED.as_secs()))?
            .map_err(failed)?;
    }
    sink.close().await.map_err(failed)
}
