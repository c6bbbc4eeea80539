//! A backend whose waits last, for clients that decide themselves when to wait again.

use super::activity::CellActivity;
use super::wait_policy::{CellWaiter, NewOutput, WaitPolicy};
use crate::backend::{
    CellId, CellInfo, CodeModeBackend, CodeModeError, CodeModeTurnHost, CodeModeTurnWorker,
    ExecuteRequest, ExecuteToPendingOutcome, Parked, ResumeRequest, RuntimeResponse, WaitOutcome,
    WaitRequest, WaitToPendingOutcome, WakeRequest,
};
use crate::service::CodeModeService;
use crate::stored::StoredValues;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// A backend on which a `wait` for a cell with nothing new to say lasts at least some time,
/// whatever is asked for. Everything else is as the backend below does it.
///
/// A cell that ends is answered for at once, and one that has something new to say in the
/// time asked for, or as soon as it has after that.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cellblock::{CodeModeService, ExecuteRequest, WasmBackend, model::PatientBackend};
/// use std::{sync::Arc, time::Duration};
///
/// let backend = Arc::new(WasmBackend::new()?);
/// let patient = PatientBackend::new(backend, Duration::from_secs(20));
/// let service = CodeModeService::new(Arc::new(patient));
/// assert!(service.execute(ExecuteRequest::new("text(1)")).await.is_ok());
/// # Ok(())
/// # }
/// ```
pub struct PatientBackend {
    inner: Arc<dyn CodeModeBackend>,
    waiter: CellWaiter,
}

impl PatientBackend {
    /// A backend over another, whose waits last at least `floor` while there is nothing new.
    pub fn new(inner: Arc<dyn CodeModeBackend>, floor: Duration) -> Self {
        let policy = WaitPolicy {
            floor,
            longest: Duration::MAX,
            new_output: NewOutput::InTime,
            ..WaitPolicy::default()
        };
        let service = CodeModeService::new(Arc::clone(&inner));
        Self { inner, waiter: CellWaiter::new(service, policy, CellActivity::default()) }
    }
}

#[async_trait]
impl CodeModeBackend for PatientBackend {
    fn availability(&self) -> Result<(), CodeModeError> {
        self.inner.availability()
    }

    fn allocate_cell_id(&self) -> Result<CellId, CodeModeError> {
        self.inner.allocate_cell_id()
    }

    async fn execute(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        self.inner.execute(cell_id, request, stored_values).await
    }

    async fn wait(&self, request: WaitRequest) -> Result<WaitOutcome, CodeModeError> {
        let waited = self.waiter.wait(request.cell_id, Some(request.yield_time_ms)).await?;
        Ok(waited.outcome)
    }

    async fn terminate(&self, cell_id: CellId) -> Result<WaitOutcome, CodeModeError> {
        self.waiter.terminate(cell_id).await
    }

    async fn execute_to_pending(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<ExecuteToPendingOutcome, CodeModeError> {
        self.inner.execute_to_pending(cell_id, request, stored_values).await
    }

    async fn wait_to_pending(
        &self,
        cell_id: CellId,
    ) -> Result<WaitToPendingOutcome, CodeModeError> {
        self.inner.wait_to_pending(cell_id).await
    }

    async fn park(&self, cell_id: CellId) -> Result<Parked, CodeModeError> {
        self.inner.park(cell_id).await
    }

    async fn wake(
        &self,
        cell_id: CellId,
        request: WakeRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        self.inner.wake(cell_id, request, stored_values).await
    }

    async fn resume(
        &self,
        cell_id: CellId,
        request: ResumeRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        self.inner.resume(cell_id, request, stored_values).await
    }

    fn cells(&self) -> Vec<CellInfo> {
        self.inner.cells()
    }

    fn start_turn_worker(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.inner.start_turn_worker(host)
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}
