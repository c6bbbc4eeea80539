//! What the backend needs of a connection to a host, whatever it speaks.

use super::cell::{Cell, Remote};
use crate::protocol::ExecutionLimits;
use cellblock::{BoxFuture, CellId, ExecuteRequest, RuntimeResponse, WaitOutcome};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Why a request had no answer that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The host refused it; the text is the host's.
    Refused(String),
    /// The connection is gone, for this reason.
    Gone(String),
    /// There never was one, for this reason.
    Unavailable(String),
}

/// What a host answers when a wait was cancelled.
pub(super) const CANCELLED: &str = "code-mode request cancelled";

/// The answer to a request. Made by a task of its own, it comes whether or not
/// anybody polls for it.
pub(super) type Answer<T> = BoxFuture<'static, Result<T, Failure>>;

/// A wait that is under way.
pub(super) struct Waiting {
    /// Names the wait when it is to be cancelled.
    pub(super) id: WaitId,
    /// Its answer.
    pub(super) answer: Answer<WaitOutcome>,
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
pub(super) trait Link: Send + Sync {
    /// Cancelled when the connection has failed or was given up.
    fn gone(&self) -> &CancellationToken;

    /// Gives the connection up, for a reason that all its requests get.
    fn fail(&self, reason: &str);

    /// Opens a session for `remote`.
    fn open(&self, remote: Arc<Remote>, limits: ExecutionLimits) -> Answer<()>;

    /// Starts a program; answers with its first response. The cell is told its id
    /// on the host before anything else of it arrives.
    fn execute(
        &self,
        remote: Arc<Remote>,
        cell: Arc<Cell>,
        request: ExecuteRequest,
    ) -> Answer<RuntimeResponse>;

    /// Waits for a cell, by its id on the host.
    fn wait(&self, remote: &Remote, cell_id: CellId, yield_time_ms: u64) -> Waiting;

    /// Asks the host to give up a wait.
    fn cancel_wait(&self, remote: &Remote, wait: WaitId);

    /// Ends a cell, by its id on the host.
    fn terminate(&self, remote: &Remote, cell_id: CellId) -> Answer<WaitOutcome>;

    /// Ends the session and its cells.
    fn close(&self, remote: &Remote) -> Answer<()>;
}
