//! Why a request was refused.

use super::{CellId, ParkError};

/// A request that was not carried out. The texts are the contract's, and reach
/// the model as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeModeError {
    /// The id of a new cell belongs to a living one.
    #[error("exec cell {0} already exists")]
    CellExists(CellId),
    /// Somebody else is waiting for this cell.
    #[error("exec cell {0} already has an active observer")]
    AlreadyObserved(CellId),
    /// The cell is being terminated.
    #[error("exec cell {0} is already terminating")]
    AlreadyTerminating(CellId),
    /// The session has ended or is ending.
    #[error("code mode session is shutting down")]
    ShuttingDown,
    /// Every cell id has been used.
    #[error("code mode session exhausted its cell ID space")]
    CellIdsExhausted,
    /// As many cells live as may.
    #[error(
        "code-mode host has too many active cells (limit {limit}); wait for one or terminate it"
    )]
    TooManyCells {
        /// The limit, [`SessionLimits::cells`](crate::SessionLimits::cells).
        limit: usize,
    },
    /// The request breaks a rule; the text says which.
    #[error("invalid code-mode execute request: {0}")]
    InvalidRequest(String),
    /// A cell was not parked or not woken.
    #[error(transparent)]
    Park(#[from] ParkError),
    /// The backend cannot do this.
    #[error("code-mode backend does not support {0}")]
    Unsupported(&'static str),
    /// No sandbox can be had; the text says why.
    #[error("failed to initialize code mode runtime: {0}")]
    Unavailable(String),
    /// The cell ran in a host process that has ended since.
    #[error("cell {0} belongs to a stale code-mode host generation")]
    StaleGeneration(CellId),
    /// What a host process answered to the request, or why it could not be asked.
    #[error("{0}")]
    Host(String),
    /// The cell's task ended without an answer: a bug, or the runtime was shut down.
    #[error("exec runtime ended unexpectedly")]
    EndedUnexpectedly,
}
