//! A session that a client has opened, whatever protocol it speaks.
//!
//! It is a service over a backend, and an account of its cells. A cell counts against the
//! host's limit, and the session's, until its end was sent; then its client is sent that
//! it is closed, after everything else of it.

use super::{Permits, Server};
use crate::protocol::{ExecutionLimits, MAX_TOOL_BYTES, Refusal, TimedResponse, TimedWaitOutcome};
use cellblock::support::lock;
use cellblock::{
    CellId, CodeModeError, CodeModeService, CodeModeTurnHost, CodeModeTurnWorker, ExecuteRequest,
    RuntimeResponse, ToolDefinition, WaitOutcome, WaitRequest,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long sessions may take to end when their connection has.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// An open session.
pub(super) struct Session {
    service: CodeModeService,
    /// What the cells of all sessions share.
    server: Arc<Server>,
    /// One for each cell that this session may have.
    permits: Arc<Semaphore>,
    cells: Mutex<HashMap<CellId, Entry>>,
    /// Requests for cells: the session closes after they were answered.
    requests: TaskTracker,
    /// Receives each cell that is closed; `None` once the session is.
    closed: Mutex<Option<mpsc::UnboundedSender<CellId>>>,
}

/// What is known of a cell.
struct Entry {
    /// Requests for it that were not answered yet.
    requests: usize,
    /// Its last response was taken to be sent.
    last_taken: bool,
    /// When it ended.
    ended: Option<Instant>,
    /// A response that was not sent after all: the next request takes it.
    unsent: Option<RuntimeResponse>,
    _permits: Permits,
}

/// A request for a cell, from its arrival to its answer. The cell is not closed before it
/// is dropped, which is to be done once the answer was queued.
pub(super) struct CellRequest {
    session: Arc<Session>,
    cell_id: CellId,
    arrived: Instant,
    _tracked: TaskTrackerToken,
}

impl Session {
    /// Opens a session with the host's limits, or narrower ones. The receiver is sent
    /// each cell that is closed, and ends when the session is.
    pub(super) fn open(
        server: &Arc<Server>,
        asked: ExecutionLimits,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<CellId>), Refusal> {
        let backend = (server.open)(asked).map_err(|error| match error {
            CodeModeError::InvalidRequest(why) => Refusal::InvalidLimits(why),
            other => other.into(),
        })?;
        let (sender, closed) = mpsc::unbounded_channel();
        let session = Arc::new(Self {
            service: CodeModeService::new(backend),
            server: Arc::clone(server),
            permits: Arc::new(Semaphore::new(server.limits.cells_per_session)),
            cells: Mutex::default(),
            requests: TaskTracker::new(),
            closed: Mutex::new(Some(sender)),
        });
        Ok((session, closed))
    }

    /// Serves the session's nested calls and notifications.
    pub(super) fn serve(&self, client: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.service.start_turn_worker(client)
    }

    /// Admits a program: its cell has an id, and counts from here on.
    pub(super) fn admit(
        self: &Arc<Self>,
        request: &ExecuteRequest,
    ) -> Result<CellRequest, Refusal> {
        let tools = request.enabled_tools.iter().map(ToolDefinition::byte_len).sum::<usize>();
        if tools + request.tool_call_id.len() > MAX_TOOL_BYTES {
            return Err(Refusal::LongTools(tools));
        }
        let permit = |permits: &Arc<Semaphore>| Arc::clone(permits).try_acquire_owned();
        let of_session = permit(&self.permits)
            .map_err(|_| Refusal::TooManySessionCells(self.server.limits.cells_per_session));
        // The host's limit first: where both are met, it is the one that others feel.
        let of_host = permit(&self.server.cells).map_err(|_| Refusal::TooManyCells)?;
        let cell_id = self.service.allocate_cell_id()?;
        let entry = Entry {
            requests: 0,
            last_taken: false,
            ended: None,
            unsent: None,
            _permits: (of_host, of_session?),
        };
        lock(&self.cells).insert(cell_id.clone(), entry);
        Ok(self.request(cell_id))
    }

    /// A request for a cell has arrived.
    pub(super) fn request(self: &Arc<Self>, cell_id: CellId) -> CellRequest {
        if let Some(entry) = lock(&self.cells).get_mut(&cell_id) {
            entry.requests += 1;
        }
        let (session, tracked) = (Arc::clone(self), self.requests.token());
        CellRequest { session, cell_id, arrived: Instant::now(), _tracked: tracked }
    }

    /// The cell has ended, whether or not anybody waits for it.
    pub(super) fn ended(&self, cell_id: &CellId) {
        if let Some(entry) = lock(&self.cells).get_mut(cell_id) {
            entry.ended = Some(Instant::now());
        }
    }

    /// Ends every cell, and returns when what was asked of them was answered. Cells that
    /// nobody asked for are closed with the session.
    pub(super) async fn close(&self) {
        self.service.shutdown().await;
        self.requests.close();
        if timeout(SHUTDOWN_GRACE, self.requests.wait()).await.is_err() {
            tracing::warn!("a session was closed before all its answers were sent");
        }
        let mut left: Vec<_> = lock(&self.cells).drain().map(|(cell_id, _)| cell_id).collect();
        left.sort_by_key(|id| id.as_ref().parse::<u64>().unwrap_or_default());
        if let Some(closed) = lock(&self.closed).take() {
            for cell_id in left {
                // A connection that has ended does not listen any more.
                let _ = closed.send(cell_id);
            }
        }
    }
}

impl CellRequest {
    /// The cell.
    pub(super) fn cell_id(&self) -> &CellId {
        &self.cell_id
    }

    /// Runs the admitted program to its first response.
    pub(super) async fn execute(&self, program: ExecuteRequest) -> Result<TimedResponse, Refusal> {
        let executed = self.session.service.execute_as(self.cell_id.clone(), program).await;
        let response = executed.inspect_err(|_| self.taken(true))?;
        let buffered = self.note(&response);
        Ok(TimedResponse::new(response, self.arrived.elapsed(), buffered))
    }

    /// Waits for the cell.
    pub(super) async fn wait(&self, yield_time_ms: u64) -> Result<TimedWaitOutcome, Refusal> {
        if let Some(unsent) = self.unsent() {
            return Ok(self.timed(WaitOutcome::LiveCell(unsent)));
        }
        let request = WaitRequest { cell_id: self.cell_id.clone(), yield_time_ms };
        Ok(self.timed(self.session.service.wait(request).await?))
    }

    /// Ends the cell.
    pub(super) async fn terminate(&self) -> Result<TimedWaitOutcome, Refusal> {
        let unsent = self.unsent();
        if let Some(last @ (RuntimeResponse::Result { .. } | RuntimeResponse::Terminated { .. })) =
            unsent
        {
            return Ok(self.timed(WaitOutcome::LiveCell(last)));
        }
        let mut outcome = self.session.service.terminate(self.cell_id.clone()).await?;
        if let (WaitOutcome::LiveCell(response), Some(earlier)) = (&mut outcome, unsent) {
            response.prepend(earlier.into_content());
        }
        Ok(self.timed(outcome))
    }

    /// The answer was not sent: the next request for the cell takes it.
    pub(super) fn give_back(&self, response: RuntimeResponse) {
        if let Some(entry) = lock(&self.session.cells).get_mut(&self.cell_id) {
            entry.last_taken = false;
            entry.unsent = Some(response);
        }
    }

    fn unsent(&self) -> Option<RuntimeResponse> {
        lock(&self.session.cells).get_mut(&self.cell_id).and_then(|entry| entry.unsent.take())
    }

    fn timed(&self, outcome: WaitOutcome) -> TimedWaitOutcome {
        let buffered = match &outcome {
            WaitOutcome::LiveCell(response) => self.note(response),
            WaitOutcome::MissingCell(_) => Duration::ZERO,
        };
        TimedWaitOutcome::new(outcome, self.arrived.elapsed(), buffered)
    }

    /// Notes a response that is to be sent; says how long it had waited to be asked for.
    fn note(&self, response: &RuntimeResponse) -> Duration {
        self.taken(!matches!(response, RuntimeResponse::Yielded { .. }));
        let ended = lock(&self.session.cells).get(&self.cell_id).and_then(|entry| entry.ended);
        ended.map_or(Duration::ZERO, |ended| self.arrived.saturating_duration_since(ended))
    }

    fn taken(&self, last: bool) {
        if let Some(entry) = lock(&self.session.cells).get_mut(&self.cell_id) {
            entry.last_taken |= last;
        }
    }
}

impl Drop for CellRequest {
    /// Closes the cell, if its last response was sent and nothing else is asked of it.
    fn drop(&mut self) {
        let mut cells = lock(&self.session.cells);
        let Some(entry) = cells.get_mut(&self.cell_id) else { return };
        entry.requests = entry.requests.saturating_sub(1);
        if entry.last_taken && entry.requests == 0 {
            cells.remove(&self.cell_id);
            drop(cells);
            if let Some(closed) = &*lock(&self.session.closed) {
                let _ = closed.send(self.cell_id.clone());
            }
        }
    }
}
