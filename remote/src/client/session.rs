//! A backend's session on its host: opened anew in each generation.

use super::ProcessLimits;
use super::address::HostProcess;
use super::cell::{CallLog, CellHandle, Event, Reply, TRANSPORT};
use super::connection::{ConnectError, ConnectionError, Failure, HostConnection, Program};
use crate::protocol::{ExecutionLimits, MAX_DELEGATE_CALLS, SeamKeep};
use cellblock::cells::Registry;
use cellblock::support::{CALL_CANCELLED, NOTIFICATION_CANCELLED, TurnWorkers, lock};
use cellblock::{
    BoxFuture, CellId, CodeModeError, CodeModeNestedToolCall, SessionLimits, ToolResult,
};
use std::collections::HashMap;
#[cfg(feature = "nats")]
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Cells that were lost with their machine and are remembered, with the calls that they made.
#[cfg(feature = "nats")]
const LOST_CELLS: usize = 256;

/// Where the cells of a session run.
pub(super) enum Host {
    /// On one host, over one connection.
    Process(HostProcess),
    /// On the workers of a fleet, each cell over a connection of its own.
    #[cfg(feature = "nats")]
    Fleet(super::fleet::Place),
}

impl Host {
    /// Whether cells could be run, as far as is known without doing so.
    pub(super) fn availability(&self) -> Result<(), ConnectError> {
        match self {
            Self::Process(host) => host.availability(),
            #[cfg(feature = "nats")]
            Self::Fleet(_) => Ok(()),
        }
    }

    /// Where a new cell may be kept while it waits.
    pub(super) fn keep(&self, cell_id: &CellId) -> Option<SeamKeep> {
        match self {
            Self::Process(_) => {
                let _ = cell_id;
                None
            }
            #[cfg(feature = "nats")]
            Self::Fleet(fleet) => Some(fleet.keep(cell_id)),
        }
    }

    /// Number of the generation that the next cell will run in. A fleet has but one: what is
    /// lost there is one cell.
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::Process(host) => host.generation(),
            #[cfg(feature = "nats")]
            Self::Fleet(_) => 1,
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(host) => host.fmt(f),
            #[cfg(feature = "nats")]
            Self::Fleet(fleet) => fleet.fmt(f),
        }
    }
}

/// The session, wherever it runs.
pub(super) struct Session {
    /// Where its cells run.
    pub(super) host: Host,
    /// Its limits, sent when it is opened.
    pub(super) limits: ProcessLimits,
    /// The turn workers that serve its calls.
    pub(super) turns: TurnWorkers,
    /// Its cells.
    pub(super) registry: Registry,
    /// The cells' tasks.
    pub(super) tasks: TaskTracker,
    /// The session is shutting down.
    pub(super) shutdown: CancellationToken,
    /// The session in the newest generation.
    newest: Mutex<CurrentSession>,
    /// The newest cells that were lost with their machine.
    #[cfg(feature = "nats")]
    lost: Mutex<VecDeque<(CellId, CodeModeError)>>,
    /// Taken by each cell that asks the next host to go on with it.
    resuming: Semaphore,
}

/// Cells of a session that ask the next host at one time: a host takes so many requests of a
/// connection and more.
const RESUMING: usize = 64;

/// The session in the newest generation.
#[derive(Clone, Default)]
struct CurrentSession {
    generation: u64,
    connected: Arc<OnceCell<Connected>>,
}

/// A session that is open.
#[derive(Clone)]
pub(super) struct Connected {
    /// The connection that it is on.
    pub(super) connection: Arc<dyn HostConnection>,
    /// Its cells there.
    pub(super) remote: Arc<RemoteSession>,
}

impl Session {
    pub(super) fn new(host: Host, limits: ProcessLimits) -> Self {
        let kept = SessionLimits {
            cells: limits.cells.unwrap_or(usize::MAX),
            unread_results: limits.unread_results,
            unread_bytes: limits.unread_bytes,
            ..SessionLimits::default()
        };
        Self {
            host,
            limits,
            turns: TurnWorkers::new(),
            registry: Registry::new(&kept),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            newest: Mutex::default(),
            #[cfg(feature = "nats")]
            lost: Mutex::default(),
            resuming: Semaphore::new(RESUMING),
        }
    }

    /// What a cell ends with whose connection was lost.
    #[cfg_attr(not(feature = "nats"), allow(clippy::unused_self, reason = "only a fleet does"))]
    pub(super) fn lost(
        &self,
        cell_id: &CellId,
        reason: &ConnectionError,
        calls: &CallLog,
    ) -> CodeModeError {
        #[cfg(feature = "nats")]
        if matches!(self.host, Host::Fleet(_)) {
            let (cell_id, why) = (cell_id.clone(), reason.to_string());
            let calls = calls.reports();
            let error = CodeModeError::Stale { cell_id: cell_id.clone(), why, calls };
            self.remember(cell_id, &error);
            return error;
        }
        let _ = (cell_id, calls);
        CodeModeError::Host(reason.to_string())
    }

    /// Remembers what became of a cell that is lost, whoever asks for it.
    #[cfg(feature = "nats")]
    fn remember(&self, cell_id: CellId, error: &CodeModeError) {
        let mut lost = lock(&self.lost);
        if lost.len() >= LOST_CELLS {
            lost.pop_front();
        }
        lost.push_back((cell_id, error.clone()));
    }

    /// What a cell ends with that its fleet keeps, and that cannot be woken.
    #[cfg_attr(not(feature = "nats"), allow(clippy::unused_self, reason = "only a fleet does"))]
    pub(super) fn cannot_wake(&self, cell_id: &CellId, error: CodeModeError) -> CodeModeError {
        #[cfg(feature = "nats")]
        self.remember(cell_id.clone(), &error);
        let _ = cell_id;
        error
    }

    /// What became of a cell that was lost.
    #[cfg(feature = "nats")]
    pub(super) fn lost_cell(&self, cell_id: &CellId) -> Option<CodeModeError> {
        let lost = lock(&self.lost);
        lost.iter().find(|(each, _)| each == cell_id).map(|(_, error)| error.clone())
    }

    /// Waits until few other cells ask the next host to go on with them.
    pub(super) async fn resuming(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.resuming.acquire().await.ok()
    }

    /// The session on a connection for a new cell: the newest one, opened when there is none,
    /// or one of its own.
    pub(super) async fn connected(&self, program: &Program) -> Result<Connected, Failure> {
        #[allow(clippy::infallible_destructuring_match, reason = "with a fleet there are two")]
        let host = match &self.host {
            Host::Process(host) => host,
            #[cfg(feature = "nats")]
            Host::Fleet(fleet) => return fleet.connected(&self.limits, program).await,
        };
        let _ = program;
        let (generation, connection) = host.connection().await?;
        let slot = {
            let mut newest = lock(&self.newest);
            if newest.generation != generation {
                *newest = CurrentSession { generation, connected: Arc::default() };
            }
            Arc::clone(&newest.connected)
        };
        let open = || async {
            let ProcessLimits { max_yield_time_ms, max_heap_size_bytes, ref cell, .. } =
                self.limits;
            let remote = Arc::new(RemoteSession::default());
            let limits = ExecutionLimits { max_yield_time_ms, max_heap_size_bytes };
            connection.open(Arc::clone(&remote), limits, cell.clone()).await?;
            Ok(Connected { connection: Arc::clone(&connection), remote })
        };
        slot.get_or_try_init(open).await.cloned()
    }

    /// Ends every cell, so that what it had to say can still be fetched, and then the
    /// session. A host that does not answer ends with its connection.
    pub(super) async fn shut_down(&self) {
        self.registry.close();
        self.shutdown.cancel();
        self.tasks.close();
        let open = lock(&self.newest).connected.get().cloned();
        let Some(Connected { connection, remote }) = open else {
            self.tasks.wait().await;
            return;
        };
        let ended = timeout(TRANSPORT, self.tasks.wait()).await;
        let closed = timeout(TRANSPORT, connection.close(&remote)).await;
        if ended.is_err() || closed.is_err() {
            connection.fail(ConnectionError::TimedOut("shutdown"));
        }
        remote.lost();
        self.tasks.wait().await;
    }
}

/// A session on one connection: which of its messages is for which cell.
#[derive(Default)]
pub(super) struct RemoteSession {
    /// Its id on the host.
    pub(super) id: OnceLock<String>,
    /// This side has asked the host to close the session: its streams may end.
    pub(super) closing: AtomicBool,
    /// Cancelled when the session was closed.
    pub(super) ended: CancellationToken,
    /// Cells by what their messages carry: their id on the host, or their execution's.
    cells: Mutex<HashMap<String, CellHandle>>,
    delegates: Delegates,
    /// The host has all of the seam: found out when the session is opened.
    pub(super) has_seam: AtomicBool,
    /// The stored values that the host has, where they are the client's; `None` when that is
    /// not known.
    known_values: Mutex<Option<HashMap<String, Arc<str>>>>,
    /// Held while a program is admitted on a connection that keeps no order.
    admission: Admission,
    /// The connection is gone.
    lost: AtomicBool,
}

/// Calls and notifications of the session's cells that may be in flight.
struct Delegates(Arc<Semaphore>);

impl Default for Delegates {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_DELEGATE_CALLS)))
    }
}

/// One program at a time.
struct Admission(Arc<Semaphore>);

impl Default for Admission {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl RemoteSession {
    /// Its id on the host; empty until it is open.
    pub(super) fn id(&self) -> &str {
        self.id.get().map_or("", String::as_str)
    }

    /// A cell was announced: messages that carry `key` are its.
    pub(super) fn announce(&self, key: String, cell: &CellHandle) {
        lock(&self.cells).insert(key, cell.clone());
        if self.lost.load(Ordering::Acquire) {
            self.lost();
        }
    }

    fn cell(&self, key: &str) -> Option<CellHandle> {
        lock(&self.cells).get(key).cloned()
    }

    /// What cancels a nested call of a cell.
    pub(super) fn call_token(&self, key: &str) -> CancellationToken {
        self.cell(key).map_or_else(CancellationToken::new, |cell| cell.calls.child_token())
    }

    /// What cancels a notification of a cell.
    pub(super) fn notification_token(&self, key: &str) -> CancellationToken {
        self.cell(key).map_or_else(CancellationToken::new, |cell| cell.notifications.child_token())
    }

    /// Runs a nested call, or goes on with one; its result goes to `reply`.
    pub(super) fn invoke(
        &self,
        key: &str,
        call: CodeModeNestedToolCall,
        is_resumed: bool,
        cancellation: CancellationToken,
        reply: Reply<ToolResult>,
    ) {
        match self.delegate(key) {
            Some((cell, permit)) => {
                let reply = holding(permit, reply);
                cell.send(Event::Invoke { call, is_resumed, cancellation, reply });
            }
            None => drop(tokio::spawn(reply(Err(CALL_CANCELLED.to_owned())))),
        }
    }

    /// Delivers a notification after those before it.
    pub(super) fn notify(
        &self,
        key: &str,
        call_id: String,
        text: String,
        cancellation: CancellationToken,
        reply: Reply<()>,
    ) {
        match self.delegate(key) {
            Some((cell, permit)) => {
                let reply = holding(permit, reply);
                cell.send(Event::Notify { call_id, text, cancellation, reply });
            }
            None => drop(tokio::spawn(reply(Err(NOTIFICATION_CANCELLED.to_owned())))),
        }
    }

    /// The cell of a call or a notification, if one more may be in flight.
    fn delegate(&self, key: &str) -> Option<(CellHandle, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.delegates.0).try_acquire_owned().ok()?;
        Some((self.cell(key)?, permit))
    }

    /// The stored values that the host has; `None` when that is not known.
    pub(super) fn known_values(&self) -> MutexGuard<'_, Option<HashMap<String, Arc<str>>>> {
        lock(&self.known_values)
    }

    /// Waits until no other program is being admitted, where the connection keeps no order.
    pub(super) async fn admission(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.admission.0).acquire_owned().await.ok()
    }

    /// A cell has ended, and its last response waits on the host.
    pub(super) fn ended(&self, key: &str) {
        if let Some(cell) = self.cell(key) {
            cell.send(Event::Ended);
        }
    }

    /// The host asks to have a cell kept.
    pub(super) fn leave(&self, key: &str) {
        if let Some(cell) = self.cell(key) {
            cell.send(Event::Leave);
        }
    }

    /// The host has kept a cell under this name, or lets its program run on.
    pub(super) fn kept(&self, key: &str, name: Option<String>) {
        if let Some(cell) = self.cell(key) {
            cell.send(Event::Kept(name));
        }
    }

    /// The host has closed a cell.
    pub(super) fn close(&self, key: &str) {
        if let Some(cell) = lock(&self.cells).remove(key) {
            cell.send(Event::Closed);
        }
    }

    /// No message is for a cell any more.
    pub(super) fn forget(&self, cell: &CellHandle) {
        lock(&self.cells).retain(|_, each| each.id != cell.id);
    }

    /// The connection is gone, and with it every cell.
    pub(super) fn lost(&self) {
        self.lost.store(true, Ordering::Release);
        for (_, cell) in std::mem::take(&mut *lock(&self.cells)) {
            cell.send(Event::Lost);
        }
    }
}

/// A reply that keeps a place among those in flight until it was sent.
fn holding<T: Send + 'static>(permit: OwnedSemaphorePermit, reply: Reply<T>) -> Reply<T> {
    Box::new(move |result| -> BoxFuture<'static, ()> {
        let replying = reply(result);
        Box::pin(async move {
            replying.await;
            drop(permit);
        })
    })
}
