//! The seam: what those who manage turns know about how JavaScript is reached.
//!
//! A [`CodeModeBackend`] starts programs ("cells") and answers for them; a
//! [`CodeModeTurnHost`] is what a turn offers the cells: the tools it may call
//! and a sink for notifications. Nothing here says where a cell runs.

mod error;
mod keep;
mod monitor;
mod park;
mod request;
mod response;
mod turn;

pub use error::CodeModeError;
pub use keep::{CellStore, CellStoreError, Keeping, KeptName, ParseKeptNameError, ResumeRequest};
pub use monitor::{CellEvent, CellMonitor, MonitorHandle};
pub use park::{ParkError, Parked, ParkedCall, ParkedCell, ParkedInfo, WakeRequest};
pub use request::{CellId, ExecuteRequest, Language, WaitRequest};
#[cfg(feature = "wasm")]
pub(crate) use response::unsettled_text;
pub use response::{
    CallEnd, CallReport, CellInfo, CellReport, CellState, CellUsage, ContentItem,
    ExecuteToPendingOutcome, ImageDetail, LimitKind, ProgramValue, RuntimeResponse, WaitOutcome,
    WaitToPendingOutcome,
};
pub use turn::{
    CodeModeNestedToolCall, CodeModeTurnHost, CodeModeTurnWorker, ToolInput, ToolResult,
};

use crate::stored::StoredValues;
use async_trait::async_trait;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A boxed future, for what is kept and called later.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A way to run cells: in this process, in a child process or elsewhere.
///
/// A backend is one session: cell ids are unique in it, and its cells share the
/// stored values that each is started with. All methods are cheap to call; the
/// futures do the work, and dropping one never loses a cell or its output.
#[async_trait]
pub trait CodeModeBackend: Send + Sync {
    /// Whether programs can be run at all. Starts nothing.
    ///
    /// # Errors
    /// [`CodeModeError::Unavailable`] with the reason.
    fn availability(&self) -> Result<(), CodeModeError>;

    /// Hands out the id of the next cell: decimal, from 1, never used twice.
    ///
    /// # Errors
    /// [`CodeModeError::CellIdsExhausted`] after 2^64 − 1 cells.
    fn allocate_cell_id(&self) -> Result<CellId, CodeModeError>;

    /// Starts the cell `cell_id` and answers with its first response: it
    /// yielded, or it ended.
    ///
    /// The cell sees `stored_values` as they are now. The keys it writes are
    /// merged into them when it ends by itself, whether or not anybody waits.
    ///
    /// # Errors
    /// A cell that was not admitted: the id is in use, the session is shutting
    /// down or full, or the request is over a limit. What the program does wrong
    /// is not an error of this call but part of the response.
    async fn execute(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError>;

    /// Waits for the next response of a cell: new output since the last one, or its end.
    ///
    /// # Errors
    /// [`CodeModeError::AlreadyObserved`] when somebody else waits; they are not
    /// disturbed. A cell that is unknown or has ended is not an error but
    /// [`WaitOutcome::MissingCell`].
    async fn wait(&self, request: WaitRequest) -> Result<WaitOutcome, CodeModeError>;

    /// Ends a cell and answers with what it still had to say. A cell that has
    /// already ended by itself answers with its result instead.
    ///
    /// # Errors
    /// [`CodeModeError::AlreadyTerminating`] for the second of two terminations.
    async fn terminate(&self, cell_id: CellId) -> Result<WaitOutcome, CodeModeError>;

    /// Like [`execute`](Self::execute), but answers when the program waits for
    /// something outside, and freezes it there until it is observed again.
    ///
    /// # Errors
    /// As for [`execute`](Self::execute), and [`CodeModeError::Unsupported`].
    async fn execute_to_pending(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<ExecuteToPendingOutcome, CodeModeError>;

    /// Lets a frozen cell run on to its next pending frontier or its end.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait), and [`CodeModeError::Unsupported`].
    async fn wait_to_pending(&self, cell_id: CellId)
    -> Result<WaitToPendingOutcome, CodeModeError>;

    /// Takes a cell out of the session as bytes, once its program waits for something outside
    /// and its notifications are delivered. An observer is answered with the output so far;
    /// output that nobody has received goes with the cell, and so do its limits, what it has
    /// used of them, and the stored values as it sees them. Nested calls that have not ended
    /// stay with the caller. Dropping the future leaves the cell where it is.
    ///
    /// # Errors
    /// [`CodeModeError::Park`], of which [`ParkError::Ended`] is the usual one, and
    /// [`CodeModeError::Unsupported`].
    async fn park(&self, cell_id: CellId) -> Result<Parked, CodeModeError> {
        let _ = cell_id;
        Err(CodeModeError::Unsupported("parked cells"))
    }

    /// Lets a parked cell go on as the cell `cell_id`, which is new, and answers with its next
    /// response. What it writes is merged into `stored_values`; it reads what it saw before.
    ///
    /// Its clock goes on from where it was, so that its timers have as long to go as when it
    /// was parked; the time of day is the present. Its limits are those that it was started
    /// with, less what it has used.
    ///
    /// # Errors
    /// [`CodeModeError::Park`], those of [`execute`](Self::execute), and
    /// [`CodeModeError::Unsupported`].
    async fn wake(
        &self,
        cell_id: CellId,
        request: WakeRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        let _ = (cell_id, request, stored_values);
        Err(CodeModeError::Unsupported("parked cells"))
    }

    /// Lets a cell go on as the cell `cell_id` that an earlier process kept while it slept, and
    /// answers with its next response. Its timers and its total time have gone on, its limits are
    /// as they were, and its program runs on when something comes for it. For each of its nested
    /// calls the turn's host is asked to [resume](CodeModeTurnHost::resume_call) it. What it writes
    /// is merged into `stored_values`.
    ///
    /// # Errors
    /// [`CodeModeError::Park`], of which [`ParkError::NotKept`] is the usual one, those of
    /// [`execute`](Self::execute), and [`CodeModeError::Unsupported`].
    async fn resume(
        &self,
        cell_id: CellId,
        request: ResumeRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        let _ = (cell_id, request, stored_values);
        Err(CodeModeError::Unsupported("kept cells"))
    }

    /// The cells that are alive or whose result nobody has fetched, oldest first.
    fn cells(&self) -> Vec<CellInfo>;

    /// Serves nested calls and notifications through `host` until the guard is
    /// dropped. Calls made while no worker lives wait for the next one; of
    /// several workers the newest serves.
    fn start_turn_worker(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker;

    /// Refuses new cells, terminates those that run, and returns when they have ended.
    async fn shutdown(&self);
}
