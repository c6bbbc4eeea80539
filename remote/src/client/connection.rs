//! What the backend needs of a connection to a host, whatever it speaks.

use super::cell::CellHandle;
use super::session::RemoteSession;
use crate::protocol::{
    ExecutionLimits, SeamKeep, SeamParked, SeamResponse, SeamWake, TimedResponse, TimedWaitOutcome,
};
use cellblock::support::lock;
use cellblock::{
    BoxFuture, CellId, CellLimits, CodeModeError, ExecuteRequest, RuntimeResponse, StoredValues,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use tokio_util::sync::CancellationToken;

/// Why a request has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The host does not know the cell, or not any more.
    Missing,
    /// The request was cancelled.
    Cancelled,
    /// It was refused.
    Refused(CodeModeError),
    /// The connection was lost.
    Lost(ConnectionError),
    /// There never was a connection.
    Unavailable(ConnectError),
}

/// Why a connection is no longer used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectionError {
    /// Nothing needs it any more.
    #[error("code-mode host connection was closed")]
    Dropped,
    /// The host has closed it.
    #[error("code-mode host closed the connection")]
    Closed,
    /// The host's process has ended; the text is its exit status.
    #[error("code-mode host ended: {0}")]
    Ended(String),
    /// The host's process cannot be waited for.
    #[error("code-mode host was lost: {0}")]
    ProcessLost(String),
    /// The host has ended a stream that lasts as long as its session.
    #[error("code-mode host ended a session{0}")]
    StreamEnded(String),
    /// The host sent what the protocol does not allow.
    #[error("code-mode host broke the protocol: {0}")]
    Protocol(String),
    /// The connection itself has failed.
    #[error("code-mode host connection failed: {0}")]
    Failed(String),
    /// Nothing can be written to the host.
    #[error("code-mode host cannot be written to: {0}")]
    Write(String),
    /// The host did not answer in time.
    #[error("code-mode host timed out waiting for {0} response")]
    TimedOut(&'static str),
    /// A worker of a fleet is gone, or the way to it.
    #[cfg(feature = "nats")]
    #[error("the connection to its worker was lost: {0}")]
    WorkerLost(String),
    /// No worker of a fleet has taken the cell.
    #[cfg(feature = "nats")]
    #[error("no worker has taken the cell: {0}")]
    NoWorker(String),
    /// A parked cell cannot be woken any more.
    #[error(
        "it was parked, and its fleet keeps it no more: it was woken elsewhere, it was given up, \
         or its time is over"
    )]
    NotKept,
    /// The host said that a cell has ended, and never that it is closed.
    #[error("code-mode host did not close a cell that has ended")]
    NotClosed,
}

impl ConnectionError {
    /// Whether a worker of a fleet is gone, which its cells may have outlived.
    #[cfg_attr(not(feature = "nats"), allow(clippy::unused_self, reason = "only a fleet does"))]
    pub(super) fn is_worker_lost(&self) -> bool {
        #[cfg(feature = "nats")]
        if matches!(self, Self::WorkerLost(_)) {
            return true;
        }
        false
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    /// The program was not started.
    #[error("failed to spawn code-mode host {program}: {why}")]
    Spawn {
        /// The program.
        program: String,
        /// What happened.
        why: String,
    },
    /// Nothing answers at the address.
    #[error("cannot connect to code-mode host at {place}: {why}")]
    Connect {
        /// The address.
        place: String,
        /// What happened.
        why: String,
    },
    /// What answers is not a host that this client can speak to.
    #[error("code-mode host handshake failed: {0}")]
    Handshake(String),
    /// A fleet cannot run the cell now.
    #[cfg(feature = "nats")]
    #[error("{0}")]
    Fleet(String),
}

/// The response to a request. Polled by a task of its own, it is received whether or not
/// the request's caller is still there.
pub(super) type Answer<T> = BoxFuture<'static, Result<T, Failure>>;

/// A wait that is in flight.
pub(super) struct Waiting {
    /// Names the wait when it is to be cancelled.
    pub(super) id: WaitId,
    /// Its answer.
    pub(super) answer: Answer<HostResponse>,
}

/// A program to be started.
pub(super) struct Program {
    pub(super) request: ExecuteRequest,
    /// The caller's values: the program sees them.
    pub(super) stored: StoredValues,
    /// Whether it is to be frozen where it waits.
    pub(super) until_frontier: bool,
    /// The parked cell that it is, if it is one.
    pub(super) wake: Option<SeamWake>,
    /// Where it may be kept while it waits.
    pub(super) keep: Option<SeamKeep>,
    /// The class of a fleet's workers that can run it; `None` for the client's own.
    #[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "only a fleet has them"))]
    pub(super) class: Option<String>,
}

/// What a caller waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// A response, for at most this many milliseconds.
    Yield(u64),
    /// The program is frozen, or has ended.
    Frontier,
    /// The cell is parked.
    Park,
    /// The cell is parked, and the host keeps it.
    Keep,
}

/// A response of a cell, with what only hosts of this project's send.
#[derive(Debug)]
pub(super) struct HostResponse {
    pub(super) response: RuntimeResponse,
    /// Keys that the program stored, with its last response.
    pub(super) stored: BTreeMap<String, Arc<str>>,
    /// The program is frozen, and has made these nested calls since it was before.
    pub(super) pending: Option<Vec<u64>>,
    /// The cell was parked.
    pub(super) parked: Option<SeamParked>,
}

impl From<RuntimeResponse> for HostResponse {
    fn from(response: RuntimeResponse) -> Self {
        Self { response, stored: BTreeMap::new(), pending: None, parked: None }
    }
}

impl From<TimedResponse> for HostResponse {
    fn from(mut timed: TimedResponse) -> Self {
        match timed.take_seam() {
            Some(seam) => Self::with_seam(timed.into(), seam),
            None => RuntimeResponse::from(timed).into(),
        }
    }
}

impl HostResponse {
    /// A response with its addition.
    pub(super) fn with_seam(mut response: RuntimeResponse, seam: SeamResponse) -> Self {
        let number = |id: &String| id.strip_prefix("tool-")?.parse().ok();
        let pending = seam.pending_tool_call_ids.map(|ids| ids.iter().filter_map(number).collect());
        let (stored, parked) = (seam.stored, seam.parked);
        *response.report_mut() = seam.report;
        Self { response, stored, pending, parked }
    }
}

impl TryFrom<TimedWaitOutcome> for HostResponse {
    type Error = Failure;

    fn try_from(outcome: TimedWaitOutcome) -> Result<Self, Failure> {
        match outcome {
            TimedWaitOutcome::LiveCell(response) => Ok(response.into()),
            TimedWaitOutcome::MissingCell(_) => Err(Failure::Missing),
        }
    }
}

/// A wait's name on its connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum WaitId {
    /// A request's id.
    Framed(i64),
    /// Chosen by this client.
    Grpc(String),
}

/// One connection to a host: one generation. When it fails, everything of it fails
/// with one reason, and it is never used again.
pub(super) trait HostConnection: Send + Sync {
    /// What the connection's life depends on.
    fn lifeline(&self) -> &Lifeline;

    /// Closes the connection, for a reason that all its requests get.
    fn fail(&self, reason: ConnectionError);

    /// Whether the host parks cells of a session.
    fn parks(&self, session: &RemoteSession) -> bool;

    /// Opens a session.
    fn open(
        &self,
        session: Arc<RemoteSession>,
        limits: ExecutionLimits,
        cell: Option<CellLimits>,
    ) -> Answer<()>;

    /// Starts a program; answers with its first response. The cell has its id on the
    /// host before anything else of it arrives.
    fn execute(
        &self,
        session: Arc<RemoteSession>,
        cell: CellHandle,
        program: Program,
    ) -> Answer<HostResponse>;

    /// Waits for a cell, by its id on the host.
    fn wait(&self, session: &RemoteSession, cell_id: CellId, wait: Wait) -> Waiting;

    /// Asks the host to cancel a wait.
    fn cancel_wait(&self, session: &RemoteSession, wait: WaitId);

    /// Ends a cell, by its id on the host.
    fn terminate(&self, session: &RemoteSession, cell_id: CellId) -> Answer<HostResponse>;

    /// Ends the session and its cells.
    fn close(&self, session: &RemoteSession) -> Answer<()>;
}

impl Program {
    /// Refuses what a host without additions of this project's cannot do.
    pub(super) fn plain(self) -> Result<ExecuteRequest, Failure> {
        let unsupported = |what| Err(Failure::Refused(CodeModeError::Unsupported(what)));
        if self.until_frontier {
            return unsupported("frozen cells");
        }
        if self.wake.is_some() {
            return unsupported("parked cells");
        }
        if !self.stored.is_empty() {
            return unsupported("stored values from outside its session");
        }
        if !self.request.regional.is_default() {
            return unsupported("regional settings");
        }
        Ok(self.request)
    }
}

/// The life of a connection, and the sessions that end with it.
#[derive(Default)]
pub(super) struct Lifeline {
    closed: CancellationToken,
    /// Why it was closed; the first reason counts.
    reason: OnceLock<ConnectionError>,
    /// The connection's sessions, by their ids on the host.
    sessions: Mutex<HashMap<String, Arc<RemoteSession>>>,
}

impl Lifeline {
    /// Closes the connection, for a reason that all its requests get, and every cell of it.
    /// False when it was closed before.
    pub(super) fn fail(&self, reason: ConnectionError) -> bool {
        if self.reason.set(reason).is_err() {
            return false;
        }
        self.closed.cancel();
        for session in std::mem::take(&mut *lock(&self.sessions)).into_values() {
            session.lost();
        }
        true
    }

    /// Cancelled when the connection is closed.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// What a request gets once the connection is closed.
    pub(super) fn failure(&self) -> Failure {
        Failure::Lost(self.reason.get().cloned().unwrap_or(ConnectionError::Dropped))
    }

    /// Closes the connection for what the host has sent, and says so to a request.
    pub(super) fn violation(&self, what: impl std::fmt::Display) -> Failure {
        self.fail(ConnectionError::Protocol(what.to_string()));
        self.failure()
    }

    /// A session has this id on the host from now on, until [`Lifeline::remove`].
    pub(super) fn insert(&self, id: &str, session: &Arc<RemoteSession>) {
        // Set once: a session is opened on one connection only.
        let _ = session.id.set(id.to_owned());
        lock(&self.sessions).insert(id.to_owned(), Arc::clone(session));
        if self.closed.is_cancelled() {
            session.lost();
        }
    }

    /// The session with an id on the host.
    pub(super) fn session(&self, id: &str) -> Option<Arc<RemoteSession>> {
        lock(&self.sessions).get(id).cloned()
    }

    /// A session was closed, or not opened.
    pub(super) fn remove(&self, id: &str) {
        lock(&self.sessions).remove(id);
    }
}
