//! Why a request was refused.

use super::{CallEnd, CallReport, CellId, ParkError};

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
    /// The machine that ran the cell is gone, and the cell with it. Nothing of it was stored, and
    /// it is not run again, for its calls may have had effects.
    #[error("cell {cell_id} is lost: {why}. {}", describe(calls))]
    Stale {
        /// The cell.
        cell_id: CellId,
        /// What happened.
        why: String,
        /// The newest nested calls that it had made, oldest first; at most
        /// [`CellReport::MAX_CALLS`](super::CellReport::MAX_CALLS). One that had not ended was
        /// cancelled.
        calls: Vec<CallReport>,
    },
    /// What a host process answered to the request, or why it could not be asked.
    #[error("{0}")]
    Host(String),
    /// The cell's task ended without an answer: a bug, or the runtime was shut down.
    #[error("exec runtime ended unexpectedly")]
    EndedUnexpectedly,
}

/// What a lost cell had done, for the author of its program.
fn describe(calls: &[CallReport]) -> String {
    const NAMED: usize = 10;
    if calls.is_empty() {
        return "It had made no calls, and is not run again by itself".to_owned();
    }
    let count = |end| calls.iter().filter(|call| call.end == end).count();
    let newest = calls.iter().rev().take(NAMED).rev();
    let named: Vec<_> = newest.map(|call| format!("{} {}", call.tool, call.end)).collect();
    let before = match calls.len() - named.len() {
        0 => String::new(),
        more => format!("{more} more, "),
    };
    format!(
        "Its calls may have had effects, so it is not run again by itself. It had made {} calls, of \
         which {} succeeded: {before}{}",
        calls.len(),
        count(CallEnd::Succeeded),
        named.join(", ")
    )
}
