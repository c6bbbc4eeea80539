//! Serves code-mode sessions to clients in other processes, over any backend.
//!
//! [`Listen`] is where clients come from. `admission` bounds what a client may do before
//! it has opened anything, `framed` and `grpc` are what it speaks, `outgoing` bounds what
//! waits to be written to it, and `session` is what it has opened.

mod access;
mod admission;
mod error;
#[cfg(feature = "nats")]
mod fleet;
mod framed;
mod grpc;
mod listen;
mod metrics;
mod outgoing;
mod session;
mod standard_streams;

pub use access::{Access, AccessError};
pub use admission::NotAdmitted;
pub use error::ServeError;
#[cfg(feature = "nats")]
pub use fleet::{FleetParking, Tenants, Worker, WorkerOptions, WorkerReport, survey};
pub use listen::{Listen, ParseListenError};

use crate::protocol::ExecutionLimits;
use cellblock::support::lock;
use cellblock::{CellLimits, CodeModeBackend, CodeModeError};
use session::{Keeper, SHUTDOWN_GRACE, Session};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Sessions of one connection that may be open.
const SESSIONS: usize = 4_096;

/// Ids of one kind that are remembered, to find a second use.
const REMEMBERED_IDS: usize = 4_096;

/// How often it is looked whether a cell is left that would be lost.
const POLL: Duration = Duration::from_millis(10);

/// How long the last answers may take to be written, where connections are not ended one by one.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What a cell holds of the host's permits, and of its session's.
type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// The limits that a client asks for when it opens a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedLimits {
    /// Those of the contract.
    pub execution: ExecutionLimits,
    /// Limits of the session's cells, from clients of this project; see
    /// [`CellLimits::narrowed_by`].
    pub cell: Option<CellLimits>,
}

/// Makes the backend of a new session, with the limits that its client asks for.
type OpenBackend =
    dyn Fn(AskedLimits) -> Result<Arc<dyn CodeModeBackend>, CodeModeError> + Send + Sync;

/// How many cells a host runs at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// In all sessions.
    pub cells: usize,
    /// In one session, so that no client keeps all others out.
    pub cells_per_session: usize,
}

impl Default for ServerLimits {
    /// 128 cells in all, of which a session may have half.
    fn default() -> Self {
        Self { cells: 128, cells_per_session: 64 }
    }
}

/// A code-mode host: it opens sessions for clients, each with a backend of its own.
pub struct Server {
    open: Box<OpenBackend>,
    limits: ServerLimits,
    /// One permit for each cell that may run.
    cells: Arc<Semaphore>,
    /// Cells that outlive this process.
    kept: AtomicUsize,
    /// No cell is admitted any more.
    draining: AtomicBool,
    /// Who may connect to its ports.
    access: Access,
    /// Keeps cells that wait, so that other hosts can wake them.
    keeper: Option<Arc<dyn Keeper>>,
    /// The sessions whose cells it may keep.
    sessions: Mutex<Vec<Weak<Session>>>,
    /// Connections are to end.
    stopping: CancellationToken,
    /// What serves each connection.
    connections: TaskTracker,
}

impl Server {
    /// A host whose sessions run on the backends that `open` makes, with the limits that
    /// a client asks for. [`CodeModeError::InvalidRequest`] refuses those limits.
    pub fn new(
        open: impl Fn(AskedLimits) -> Result<Arc<dyn CodeModeBackend>, CodeModeError>
        + Send
        + Sync
        + 'static,
        limits: ServerLimits,
    ) -> Self {
        Self {
            open: Box::new(open),
            limits,
            cells: Arc::new(Semaphore::new(limits.cells)),
            kept: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            access: Access::default(),
            keeper: None,
            sessions: Mutex::default(),
            stopping: CancellationToken::new(),
            connections: TaskTracker::new(),
        }
    }

    /// Lets only some connect to its ports. Unix sockets and standard streams are this user's.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Keeps cells that wait.
    #[cfg(feature = "nats")]
    #[must_use]
    fn with_keeper(mut self, keeper: Option<Arc<dyn Keeper>>) -> Self {
        self.keeper = keeper;
        self
    }

    /// A session was opened.
    fn note_session(&self, session: &Arc<Session>) {
        if self.keeper.is_some() {
            let mut sessions = lock(&self.sessions);
            sessions.retain(|each| each.strong_count() > 0);
            sessions.push(Arc::downgrade(session));
        }
    }

    /// The sessions whose cells it may keep.
    #[cfg(feature = "nats")]
    fn open_sessions(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).iter().filter_map(Weak::upgrade).collect()
    }

    /// Asks clients to have cells kept: those of which nothing has happened for so long, or all
    /// of them.
    #[cfg(feature = "nats")]
    fn ask_to_leave(&self, idle: Option<Duration>) {
        for session in self.open_sessions() {
            session.ask_to_leave(idle);
        }
    }

    /// Keeps the cells that wait, whose clients do not answer any more: those that another
    /// client can find, or all of them.
    #[cfg(feature = "nats")]
    async fn keep_left(&self, returns: bool) {
        for session in self.open_sessions() {
            session.keep_left(returns).await;
        }
    }

    /// Returns when no cell lives any more; false after `patience`.
    async fn is_empty(&self, patience: Duration) -> bool {
        let all = u32::try_from(self.limits.cells).unwrap_or(u32::MAX);
        timeout(patience, self.cells.acquire_many(all)).await.is_ok()
    }

    /// Whether [`Server::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Admits no cell from now on, and returns once every cell has ended or is kept where it
    /// outlives this process, or after `patience`. Nothing is ended: the process is to end next,
    /// without a word to its clients, who look for the next one then. True if nothing is lost.
    pub async fn drain_to_kept(&self, patience: Duration) -> bool {
        self.draining.store(true, Ordering::Relaxed);
        let alive = || self.limits.cells.saturating_sub(self.cells.available_permits());
        let runs = || alive() > self.kept.load(Ordering::Relaxed);
        let rest = async {
            loop {
                while runs() {
                    sleep(POLL).await;
                }
                // What was answered last is on its way, and a cell may have been about to wake.
                sleep(LAST_ANSWERS).await;
                if !runs() {
                    break;
                }
            }
        };
        timeout(patience, rest).await.is_ok()
    }

    /// Admits no cell from now on, lets those that live end for at most `patience`, ends
    /// what is left and the connections, and returns when all that was answered is sent.
    /// True if every cell had ended by itself.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.draining.store(true, Ordering::Relaxed);
        let ended = self.is_empty(patience).await;
        self.stopping.cancel();
        self.connections.close();
        if timeout(SHUTDOWN_GRACE * 2, self.connections.wait()).await.is_err() {
            tracing::warn!("connections were still open at the end");
        }
        ended
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.limits).finish_non_exhaustive()
    }
}
