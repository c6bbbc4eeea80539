//! A session of a gRPC client, the streams it talks through, and the client as the turn
//! host of its programs.

use super::super::REMEMBERED_IDS;
use super::super::metrics::RunningCall;
use super::super::outgoing::{Gone, Receiver, Sender, Slot};
use super::super::session::{CELL_PARKED, CellRequest, Change, Session};
use crate::in_flight::{InFlight, NotInserted};
use crate::protocol::frame::{FrameError, MAX_BYTES};
use crate::protocol::grpc::{self, session_event};
use crate::protocol::{
    CALL_CANCELLED, MAX_DELEGATE_CALLS, NOTIFICATION_CANCELLED, Refusal, TOO_MANY_DELEGATES,
};
use async_trait::async_trait;
use cellblock::support::{RecentSet, lock};
use cellblock::{
    CellId, CodeModeNestedToolCall, CodeModeTurnHost, CodeModeTurnWorker, Keeping, ToolInput,
    ToolName, ToolResult,
};
use futures_util::Stream;
use prost::Message;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Subscriptions of one session.
const SUBSCRIPTIONS: usize = 128;

/// Waits of one session that may be in flight.
const WAITS: usize = 256;

/// How long a nested call waits for a subscription that wants it: an execution may arrive
/// before the subscription that was sent before it.
const SUBSCRIPTION_GRACE: Duration = Duration::from_secs(1);

type Refusable<T> = Result<T, Refusal>;

/// A session that is open.
pub(super) struct OpenSession {
    pub(super) id: String,
    pub(super) session: Arc<Session>,
    /// `None` when the session is closed, and its stream with it.
    events: Mutex<Option<Sender<grpc::SessionEvent>>>,
    /// Its programs, by their cells.
    executions: Mutex<HashMap<CellId, Execution>>,
    /// Ids of executions and waits: each is used once.
    used: Mutex<RecentSet<String>>,
    /// Waits, by the ids that the client gave them.
    pub(super) waits: InFlight<String, Wait>,
    subscriptions: Mutex<Subscriptions>,
    /// Changes with the subscriptions.
    subscribed: watch::Sender<()>,
    /// Nested calls that the client has not answered.
    pub(super) calls: InFlight<String, oneshot::Sender<Result<ToolResult, String>>>,
    worker: Mutex<Option<CodeModeTurnWorker>>,
}

struct Execution {
    /// The client's id.
    id: String,
    /// Nested calls so far.
    calls: u64,
}

/// A wait that is in flight.
#[derive(Clone, Default)]
pub(super) struct Wait {
    /// Cancels it.
    pub(super) cancelled: CancellationToken,
    /// It has ended, however it went.
    pub(super) ended: CancellationToken,
}

#[derive(Default)]
struct Subscriptions {
    all: Vec<Subscription>,
    /// The one whose turn it is.
    next: usize,
}

struct Subscription {
    /// What it wants; empty for every tool.
    tools: Vec<ToolName>,
    calls: Sender<grpc::ToolCall>,
}

impl OpenSession {
    pub(super) fn new(session: Arc<Session>, events: Sender<grpc::SessionEvent>) -> Arc<Self> {
        let open = Arc::new(Self {
            id: new_id(),
            session,
            events: Mutex::new(Some(events)),
            executions: Mutex::default(),
            used: Mutex::new(RecentSet::new(REMEMBERED_IDS)),
            waits: InFlight::new(WAITS),
            subscriptions: Mutex::default(),
            subscribed: watch::Sender::new(()),
            calls: InFlight::new(MAX_DELEGATE_CALLS),
            worker: Mutex::default(),
        });
        let client = ClientTurnHost { open: Arc::downgrade(&open) };
        *lock(&open.worker) = Some(open.session.serve(Arc::new(client)));
        open
    }

    /// Takes an execution's or a wait's id, which must be new.
    pub(super) fn use_id(&self, field: &'static str, id: &str) -> Refusable<()> {
        Refusal::check_identifier(field, id)?;
        if lock(&self.used).insert(id.to_owned()) {
            return Ok(());
        }
        Err(Refusal::IdUsed(id.to_owned()))
    }

    /// A request for a cell has arrived.
    pub(super) fn cell_request(&self, cell_id: String) -> Refusable<CellRequest> {
        Refusal::check_identifier("cell_id", &cell_id)?;
        Ok(self.session.request(CellId::new(cell_id)))
    }

    /// A program was admitted.
    pub(super) fn started(&self, cell_id: CellId, execution_id: String) {
        lock(&self.executions).insert(cell_id, Execution { id: execution_id, calls: 0 });
    }

    /// Sends an event. One for a client that has dropped the stream is lost.
    pub(super) async fn event(&self, event: session_event::Event) -> Result<(), FrameError> {
        let event = grpc::SessionEvent { event: Some(event) };
        let bytes = fits(&event)?;
        let events = lock(&self.events).clone();
        if let Some(events) = events {
            let _ = events.send(event, bytes).await;
        }
        Ok(())
    }

    /// Sends a client that takes all of the seam that a cell has ended.
    async fn send_ended(&self, cell_id: CellId) {
        let execution = lock(&self.executions).get(&cell_id).map(|each| each.id.clone());
        if let Some(execution_id) = execution.filter(|_| self.session.has_seam()) {
            let ended = grpc::CellEnded { execution_id, cell_id: cell_id.to_string() };
            // It is two identifiers: it fits.
            let _ = self.event(session_event::Event::CellblockCellEnded(ended)).await;
        }
    }

    /// Sends a client that takes all of the seam what became of a cell in its store.
    async fn send_kept(&self, cell_id: CellId, keeping: Keeping) {
        let execution = lock(&self.executions).get(&cell_id).map(|each| each.id.clone());
        if let Some(execution_id) = execution.filter(|_| self.session.has_seam()) {
            let name = keeping.name().map_or_else(String::new, |name| name.to_string());
            let kept = grpc::CellKept { execution_id, cell_id: cell_id.to_string(), name };
            // It is three short texts: it fits.
            let _ = self.event(session_event::Event::CellblockCellKept(kept)).await;
        }
    }

    /// Sends the client what becomes of each cell.
    pub(super) async fn send_changes(
        self: Arc<Self>,
        mut changes: mpsc::UnboundedReceiver<Change>,
    ) {
        while let Some(change) = changes.recv().await {
            let cell_id = match change {
                Change::Kept(cell_id, keeping) => {
                    self.send_kept(cell_id, keeping).await;
                    continue;
                }
                Change::Ended(cell_id) => {
                    self.send_ended(cell_id).await;
                    continue;
                }
                // No cell has a place here where it could be kept.
                Change::Leave(_) => continue,
                Change::Closed(cell_id) => cell_id,
            };
            let execution = lock(&self.executions).remove(&cell_id);
            if let Some(Execution { id: execution_id, calls }) = execution {
                let closed = grpc::CellClosed {
                    execution_id,
                    cell_id: cell_id.to_string(),
                    final_tool_call_sequence: calls,
                };
                // It is short.
                let _ = self.event(session_event::Event::CellClosed(closed)).await;
            }
        }
        drop(lock(&self.events).take());
    }

    /// Ends the session's cells. Its stream ends once the client was sent all of them.
    pub(super) async fn close(&self) {
        self.session.close().await;
        lock(&self.subscriptions).all.clear();
        drop(self.calls.close());
        drop(lock(&self.worker).take());
    }

    /// Sends nested calls of these tools, or of all, to a new subscription.
    pub(super) fn subscribe(
        &self,
        tools: Vec<ToolName>,
        calls: Sender<grpc::ToolCall>,
    ) -> Refusable<()> {
        let mut subscriptions = lock(&self.subscriptions);
        subscriptions.all.retain(|each| !each.calls.is_closed());
        if subscriptions.all.len() >= SUBSCRIPTIONS {
            return Err(Refusal::TooManySubscriptions(SUBSCRIPTIONS));
        }
        subscriptions.all.push(Subscription { tools, calls });
        self.subscribed.send_replace(());
        Ok(())
    }

    /// The subscription that gets a tool's next call. Waits a moment for one to come.
    async fn subscription(&self, tool: &ToolName) -> Option<Sender<grpc::ToolCall>> {
        let mut subscribed = self.subscribed.subscribe();
        let finding = async {
            loop {
                let found = lock(&self.subscriptions).take_turn(tool);
                if found.is_some() || subscribed.changed().await.is_err() {
                    return found;
                }
            }
        };
        timeout(SUBSCRIPTION_GRACE, finding).await.ok().flatten()
    }

    /// Numbers a call and sends it. The number is taken when it is sent: the client closes
    /// the cell once the last has come.
    fn send_call(
        &self,
        cell_id: &CellId,
        slot: Slot<'_, grpc::ToolCall>,
        mut call: grpc::ToolCall,
    ) -> Option<()> {
        let mut executions = lock(&self.executions);
        let execution = executions.get_mut(cell_id)?;
        execution.calls += 1;
        call.sequence = execution.calls;
        call.execution_id.clone_from(&execution.id);
        slot.send(call);
        Some(())
    }
}

impl Subscriptions {
    /// The next subscription that wants a tool's calls, in turn.
    fn take_turn(&mut self, tool: &ToolName) -> Option<Sender<grpc::ToolCall>> {
        let count = self.all.len();
        let wants = |each: &Subscription| {
            let named = |name: &ToolName| {
                name.name == tool.name && name.own_namespace() == tool.own_namespace()
            };
            !each.calls.is_closed() && (each.tools.is_empty() || each.tools.iter().any(named))
        };
        let at =
            (0..count).map(|step| (self.next + step) % count).find(|at| wants(&self.all[*at]))?;
        self.next = (at + 1) % count;
        Some(self.all[at].calls.clone())
    }
}

/// The client as the turn host of its session.
struct ClientTurnHost {
    /// The session holds this.
    open: Weak<OpenSession>,
}

#[async_trait]
impl CodeModeTurnHost for ClientTurnHost {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.call(call, false, cancellation).await
    }

    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.call(call, true, cancellation).await
    }

    async fn notify(
        &self,
        call_id: String,
        cell_id: CellId,
        text: String,
        cancellation: CancellationToken,
    ) -> Result<(), String> {
        let cancelled = || NOTIFICATION_CANCELLED.to_owned();
        let open = self.open.upgrade().ok_or_else(cancelled)?;
        let execution_id =
            lock(&open.executions).get(&cell_id).map(|execution| execution.id.clone());
        let notification = grpc::Notification {
            notification_id: new_id(),
            execution_id: execution_id.ok_or_else(cancelled)?,
            cell_id: cell_id.to_string(),
            call_id,
            text,
        };
        // What was sent is delivered: the client delivers it before it closes the cell.
        tokio::select! {
            biased;
            sent = open.event(session_event::Event::Notification(notification)) => {
                sent.map_err(|error| error.to_string())
            }
            () = cancellation.cancelled() => Err(cancelled()),
        }
    }

    fn cell_closed(&self, cell_id: &CellId) {
        if let Some(open) = self.open.upgrade() {
            open.session.ended(cell_id);
        }
    }

    fn cell_kept(&self, cell_id: &CellId, keeping: Keeping) {
        if let Some(open) = self.open.upgrade() {
            open.session.kept(cell_id, keeping);
        }
    }
}

impl ClientTurnHost {
    async fn call(
        &self,
        call: CodeModeNestedToolCall,
        resumed: bool,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let _running = RunningCall::start();
        let cancelled = || CALL_CANCELLED.to_owned();
        let open = self.open.upgrade().ok_or_else(cancelled)?;
        let id = new_id();
        let (reply, answer) = oneshot::channel();
        let _in_flight = open.calls.insert(id.clone(), reply).map_err(|why| match why {
            NotInserted::Full => TOO_MANY_DELEGATES.to_owned(),
            NotInserted::Closed | NotInserted::Duplicate => cancelled(),
        })?;
        let cell_id = call.cell_id.clone();
        let parked = open.session.parked(&cell_id);
        let mut sent = false;
        let asking = async {
            let subscription = open
                .subscription(&call.tool_name)
                .await
                .ok_or_else(|| format!("no client serves the tool `{}`", call.tool_name))?;
            let input = call.input.map(ToolInput::into_json).transpose();
            let input = input.map_err(|error| format!("tool input is {error}"))?;
            let call = grpc::ToolCall {
                session_id: open.id.clone(),
                execution_id: String::new(),
                cell_id: call.cell_id.to_string(),
                invocation_id: id.clone(),
                runtime_tool_call_id: call.runtime_tool_call_id,
                tool_name: Some((&call.tool_name).into()),
                tool_kind: grpc::ToolKind::from(call.tool_kind).into(),
                input_json: input.map(Bytes::from),
                sequence: 0,
                cellblock_resumed: resumed.then_some(true),
            };
            let bytes = fits(&call).map_err(|error| error.to_string())?;
            let slot = subscription
                .reserve(bytes)
                .await
                .map_err(|Gone| "the client has ended its subscription".to_owned())?;
            open.send_call(&cell_id, slot, call).ok_or_else(cancelled)?;
            sent = true;
            answer.await.unwrap_or_else(|_| Err(cancelled()))
        };
        let answered = tokio::select! {
            biased;
            answered = asking => Some(answered),
            () = parked.cancelled() => Some(Err(CELL_PARKED.to_owned())),
            () = cancellation.cancelled() => None,
        };
        if answered.is_none() && sent {
            let call = grpc::ToolCallCancelled { invocation_id: id };
            // It is two identifiers: it fits.
            let _ = open.event(session_event::Event::ToolCallCancelled(call)).await;
        }
        answered.unwrap_or_else(|| Err(cancelled()))
    }
}

/// Bytes of a message, which must not be longer than the client reads: a longer one would
/// end the stream.
fn fits(message: &impl Message) -> Result<usize, FrameError> {
    let bytes = message.encoded_len();
    if bytes > MAX_BYTES { Err(FrameError::TooLong) } else { Ok(bytes) }
}

/// An identifier that nobody can guess.
fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A stream of messages from a queue. Each counts until the next is asked for, when it
/// was written.
pub(super) struct Messages<T> {
    queue: Receiver<T>,
    /// Counts the message that is being written.
    writing: Option<OwnedSemaphorePermit>,
    /// Run when the stream is dropped.
    dropped: Option<Box<dyn FnOnce() + Send>>,
}

impl<T> Messages<T> {
    pub(super) fn new(queue: Receiver<T>, dropped: impl FnOnce() + Send + 'static) -> Self {
        Self { queue, writing: None, dropped: Some(Box::new(dropped)) }
    }
}

impl<T> Stream for Messages<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.writing = None;
        self.queue.poll_recv(context).map(|next| {
            next.map(|(message, bytes)| {
                self.writing = Some(bytes);
                Ok(message)
            })
        })
    }
}

impl<T> Drop for Messages<T> {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            dropped();
        }
    }
}
