//! A session that a client has opened, whatever protocol it speaks.
//!
//! It is a service over the wasm backend, and an account of its cells: a cell counts
//! against the host's limit until its end has been told, and its client hears that
//! it is closed after everything else of it.

use cellblock::model::PatientBackend;
use cellblock::protocol::{ExecutionLimits, TimedResponse, TimedWaitOutcome};
use cellblock::{
    CellId, CodeModeBackend, CodeModeService, CodeModeTurnHost, CodeModeTurnWorker, Engine,
    ExecuteRequest, RuntimeResponse, SessionLimits, WaitOutcome, WaitRequest, WasmBackend,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// Requests of one connection that may be under way.
pub const REQUESTS: usize = 256;

/// Sessions of one connection that may be open.
pub const SESSIONS: usize = 4_096;

/// Ids of one kind that are remembered.
const REMEMBERED: usize = 4_096;

/// Cells that a host runs at one time, unless it is told otherwise.
pub const CELLS: usize = 128;

/// How long sessions may take to end when the host does.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// What all sessions of a host share.
pub struct Host {
    engine: Engine,
    limits: SessionLimits,
    cells: Arc<Semaphore>,
    /// The least time that `wait` waits while there is nothing new.
    min_wait: Option<Duration>,
}

impl Host {
    /// A host whose sessions have these limits, which runs so many cells in all, and which
    /// answers a `wait` with nothing new no sooner than this.
    pub fn new(
        engine: Engine,
        limits: SessionLimits,
        cells: usize,
        min_wait: Option<Duration>,
    ) -> Self {
        Self { engine, limits, cells: Arc::new(Semaphore::new(cells)), min_wait }
    }

    /// A session with the host's limits, or narrower ones.
    pub fn open(&self, asked: ExecutionLimits) -> Result<Arc<Session>, String> {
        let mut limits = self.limits.clone();
        if let Some(max) = asked.max_yield_time_ms {
            limits.max_yield_time_ms =
                Some(limits.max_yield_time_ms.map_or(max, |own| own.min(max)));
        }
        if let Some(bytes) = asked.max_heap_size_bytes {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            limits.cell.memory_bytes = limits.cell.memory_bytes.min(bytes);
        }
        limits.cell.check()?;
        let backend: Arc<dyn CodeModeBackend> =
            Arc::new(WasmBackend::with_limits(&self.engine, limits));
        let backend = match self.min_wait {
            Some(floor) => Arc::new(PatientBackend::new(backend, floor)),
            None => backend,
        };
        Ok(Arc::new(Session {
            service: CodeModeService::new(backend),
            permits: Arc::clone(&self.cells),
            cells: Mutex::default(),
            requests: TaskTracker::new(),
        }))
    }
}

/// An open session.
pub struct Session {
    service: CodeModeService,
    permits: Arc<Semaphore>,
    cells: Mutex<HashMap<CellId, Entry>>,
    /// Requests for the session's cells: it closes after they were answered.
    pub requests: TaskTracker,
}

/// What is known of a cell.
struct Entry {
    /// Requests that look at it.
    looking: usize,
    /// Its end has been answered.
    told: bool,
    /// When it ended.
    ended: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

/// A cell that was admitted and not yet started.
pub struct Admitted {
    /// The cell.
    pub cell_id: CellId,
    request: ExecuteRequest,
    arrived: Instant,
}

impl Session {
    /// Serves the session's nested calls and notifications.
    pub fn serve(&self, peer: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.service.start_turn_worker(peer)
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<CellId, Entry>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a program: its cell has an id, and counts from here on.
    pub fn admit(&self, request: ExecuteRequest) -> Result<Admitted, String> {
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| "code-mode host has too many active cells".to_owned())?;
        let cell_id = self.service.allocate_cell_id().map_err(|error| error.to_string())?;
        let entry = Entry { looking: 1, told: false, ended: None, _permit: permit };
        self.cells().insert(cell_id.clone(), entry);
        Ok(Admitted { cell_id, request, arrived: Instant::now() })
    }

    /// Runs an admitted program to its first response. Then [`Session::told`] must be called.
    pub async fn run(&self, admitted: Admitted) -> Result<TimedResponse, String> {
        let Admitted { cell_id, request, arrived } = admitted;
        let executed = self.service.execute_as(cell_id.clone(), request).await;
        match executed {
            Ok(response) => {
                let buffered = self.note(&cell_id, &response, arrived);
                Ok(TimedResponse::new(response, arrived.elapsed(), buffered))
            }
            Err(error) => {
                if let Some(entry) = self.cells().get_mut(&cell_id) {
                    entry.told = true;
                }
                Err(error.to_string())
            }
        }
    }

    /// Waits for a cell. Then [`Session::told`] must be called, also when the wait was given up.
    pub async fn wait(&self, request: WaitRequest) -> Result<TimedWaitOutcome, String> {
        let cell_id = request.cell_id.clone();
        self.observe(cell_id, self.service.wait(request)).await
    }

    /// Ends a cell. Then [`Session::told`] must be called.
    pub async fn terminate(&self, cell_id: CellId) -> Result<TimedWaitOutcome, String> {
        self.observe(cell_id.clone(), self.service.terminate(cell_id)).await
    }

    /// A request that looks at a cell begins. Every such call is met by one of [`Session::told`].
    pub fn look(&self, cell_id: &CellId) {
        if let Some(entry) = self.cells().get_mut(cell_id) {
            entry.looking += 1;
        }
    }

    async fn observe(
        &self,
        cell_id: CellId,
        asked: impl Future<Output = Result<WaitOutcome, cellblock::CodeModeError>>,
    ) -> Result<TimedWaitOutcome, String> {
        let arrived = Instant::now();
        let outcome = asked.await.map_err(|error| error.to_string())?;
        let buffered = match &outcome {
            WaitOutcome::LiveCell(response) => self.note(&cell_id, response, arrived),
            WaitOutcome::MissingCell(_) => Duration::ZERO,
        };
        Ok(TimedWaitOutcome::new(outcome, arrived.elapsed(), buffered))
    }

    /// Notes an answer; says how long it had waited when it was asked for.
    fn note(&self, cell_id: &CellId, response: &RuntimeResponse, arrived: Instant) -> Duration {
        let mut cells = self.cells();
        let Some(entry) = cells.get_mut(cell_id) else { return Duration::ZERO };
        if !matches!(response, RuntimeResponse::Yielded { .. }) {
            entry.told = true;
        }
        entry.ended.map_or(Duration::ZERO, |ended| arrived.saturating_duration_since(ended))
    }

    /// The cell has ended, whether or not anybody looked.
    pub fn ended(&self, cell_id: &CellId) {
        if let Some(entry) = self.cells().get_mut(cell_id) {
            entry.ended = Some(Instant::now());
        }
    }

    /// An answer is on its way. Says whether it was the last of the cell, which is closed now.
    #[must_use = "the client is to hear that the cell is closed"]
    pub fn told(&self, cell_id: &CellId) -> bool {
        let mut cells = self.cells();
        let Some(entry) = cells.get_mut(cell_id) else { return false };
        entry.looking = entry.looking.saturating_sub(1);
        let closed = entry.told && entry.looking == 0;
        if closed {
            cells.remove(cell_id);
        }
        closed
    }

    /// Ends every cell. Returns those whose closing was not told yet.
    pub async fn close(&self) -> Vec<CellId> {
        self.service.shutdown().await;
        self.requests.close();
        self.requests.wait().await;
        let mut cells: Vec<_> = self.cells().drain().map(|(cell_id, _)| cell_id).collect();
        cells.sort_by_key(|id| id.as_ref().parse::<u64>().unwrap_or_default());
        cells
    }
}

/// The newest ids that were used, up to a bound, so that a second use is found.
pub struct Remembered<T> {
    order: VecDeque<T>,
    set: HashSet<T>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), set: HashSet::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Remembered<T> {
    /// Remembers; false when it is remembered already.
    pub fn insert(&mut self, value: T) -> bool {
        if !self.set.insert(value.clone()) {
            return false;
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        self.order.push_back(value);
        true
    }

    /// Whether it is remembered.
    pub fn contains<Q>(&self, value: &Q) -> bool
    where
        T: std::borrow::Borrow<Q>,
        Q: Eq + std::hash::Hash + ?Sized,
    {
        self.set.contains(value)
    }
}
