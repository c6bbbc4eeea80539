//! The service: one backend, its stored values, and the numbering of cells.

use crate::backend::{
    CellId, CellInfo, CellState, CodeModeBackend, CodeModeError, CodeModeTurnHost,
    CodeModeTurnWorker, ExecuteRequest, ExecuteToPendingOutcome, Parked, RuntimeResponse,
    WaitOutcome, WaitRequest, WaitToPendingOutcome, WakeRequest,
};
use crate::stored::StoredValues;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a host of agents holds for each conversation: it owns the backend and
/// the values that cells leave behind.
///
/// Cloning is cheap and gives another handle to the same session.
#[derive(Clone)]
pub struct CodeModeService {
    backend: Arc<dyn CodeModeBackend>,
    stored_values: StoredValues,
}

impl CodeModeService {
    /// A service over a backend. The backend is chosen here and nowhere else.
    pub fn new(backend: Arc<dyn CodeModeBackend>) -> Self {
        Self::with_stored_values(backend, StoredValues::new())
    }

    /// A service whose cells read and write `stored_values`. The caller may keep a clone,
    /// to read and insert values as JSON text.
    pub fn with_stored_values(
        backend: Arc<dyn CodeModeBackend>,
        stored_values: StoredValues,
    ) -> Self {
        Self { backend, stored_values }
    }

    /// The values that cells left behind.
    pub fn stored_values(&self) -> HashMap<String, Value> {
        self.stored_values.to_map()
    }

    /// Replaces the values; cells that run keep what they saw at their start.
    pub fn replace_stored_values(&self, values: HashMap<String, Value>) {
        self.stored_values.replace(values);
    }

    /// The backend, for what the service adds nothing to.
    pub fn backend(&self) -> &Arc<dyn CodeModeBackend> {
        &self.backend
    }

    /// An id for [`execute_as`](Self::execute_as), for hosts that must know it
    /// before the first nested call arrives.
    ///
    /// # Errors
    /// [`CodeModeError::CellIdsExhausted`].
    pub fn allocate_cell_id(&self) -> Result<CellId, CodeModeError> {
        self.backend.allocate_cell_id()
    }

    /// Starts a program and answers with its first response.
    ///
    /// # Errors
    /// See [`CodeModeBackend::execute`].
    pub async fn execute(&self, request: ExecuteRequest) -> Result<RuntimeResponse, CodeModeError> {
        self.execute_as(self.allocate_cell_id()?, request).await
    }

    /// Starts a program under an id that was allocated before.
    ///
    /// # Errors
    /// See [`CodeModeBackend::execute`].
    pub async fn execute_as(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
    ) -> Result<RuntimeResponse, CodeModeError> {
        self.backend.execute(cell_id, request, self.stored_values.clone()).await
    }

    /// Waits for a cell's next response.
    ///
    /// # Errors
    /// See [`CodeModeBackend::wait`].
    pub async fn wait(&self, request: WaitRequest) -> Result<WaitOutcome, CodeModeError> {
        self.backend.wait(request).await
    }

    /// Ends a cell.
    ///
    /// # Errors
    /// See [`CodeModeBackend::terminate`].
    pub async fn terminate(&self, cell_id: CellId) -> Result<WaitOutcome, CodeModeError> {
        self.backend.terminate(cell_id).await
    }

    /// Starts a program and answers when it waits for something outside.
    ///
    /// # Errors
    /// See [`CodeModeBackend::execute_to_pending`].
    pub async fn execute_to_pending(
        &self,
        request: ExecuteRequest,
    ) -> Result<ExecuteToPendingOutcome, CodeModeError> {
        let cell_id = self.allocate_cell_id()?;
        self.backend.execute_to_pending(cell_id, request, self.stored_values.clone()).await
    }

    /// Lets a frozen program run on to its next frontier.
    ///
    /// # Errors
    /// See [`CodeModeBackend::wait_to_pending`].
    pub async fn wait_to_pending(
        &self,
        cell_id: CellId,
    ) -> Result<WaitToPendingOutcome, CodeModeError> {
        self.backend.wait_to_pending(cell_id).await
    }

    /// Takes a cell out of the session as bytes, once its program waits.
    ///
    /// # Errors
    /// See [`CodeModeBackend::park`].
    pub async fn park(&self, cell_id: CellId) -> Result<Parked, CodeModeError> {
        self.backend.park(cell_id).await
    }

    /// Lets a parked cell go on, and answers with its next response.
    ///
    /// # Errors
    /// See [`CodeModeBackend::wake`].
    pub async fn wake(&self, request: WakeRequest) -> Result<RuntimeResponse, CodeModeError> {
        self.wake_as(self.allocate_cell_id()?, request).await
    }

    /// Lets a parked cell go on under an id that was allocated before.
    ///
    /// # Errors
    /// See [`CodeModeBackend::wake`].
    pub async fn wake_as(
        &self,
        cell_id: CellId,
        request: WakeRequest,
    ) -> Result<RuntimeResponse, CodeModeError> {
        self.backend.wake(cell_id, request, self.stored_values.clone()).await
    }

    /// The cells that are alive or unread.
    pub fn cells(&self) -> Vec<CellInfo> {
        self.backend.cells()
    }

    /// Returns when a program waits for what cannot come ([`CellState::Stuck`]), with the place
    /// where it waits if that is known; looks every `poll`. It does not return for another
    /// cell, nor for one that ends.
    ///
    /// ```
    /// use cellblock::*;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let service = CodeModeService::new(Arc::new(WasmBackend::new()?));
    /// let cell_id = service.allocate_cell_id()?;
    /// let request = ExecuteRequest::new("text('one')\nawait new Promise(() => {})");
    /// let response = tokio::select! {
    ///     response = service.execute_as(cell_id.clone(), request) => response?,
    ///     place = service.until_stuck(&cell_id, Duration::from_millis(10)) => {
    ///         RuntimeResponse::from(service.terminate(cell_id.clone()).await?).unsettled(place)
    ///     }
    /// };
    /// let RuntimeResponse::Result { error_text: Some(error), .. } = response else { panic!() };
    /// assert!(error.ends_with("at exec_main.mjs:2:1"), "{error}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn until_stuck(&self, cell_id: &CellId, poll: Duration) -> Option<String> {
        loop {
            tokio::time::sleep(poll).await;
            let mut cells = self.cells().into_iter();
            let is_stuck =
                |cell: &CellInfo| cell.cell_id == *cell_id && cell.state == CellState::Stuck;
            if let Some(cell) = cells.find(is_stuck) {
                return cell.stuck_at;
            }
        }
    }

    /// Serves nested calls through `host` until the guard is dropped.
    pub fn start_turn_worker(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.backend.start_turn_worker(host)
    }

    /// Ends every cell and refuses new ones.
    pub async fn shutdown(&self) {
        self.backend.shutdown().await;
    }
}

impl fmt::Debug for CodeModeService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeModeService").finish_non_exhaustive()
    }
}
