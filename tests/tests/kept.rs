//! Cells in their session's store: there while they sleep and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use async_trait::async_trait;
use cellblock::{
    CellId, CellLimits, CellStore, CellStoreError, CodeModeBackend, CodeModeError,
    CodeModeNestedToolCall, CodeModeTurnHost, CodeModeTurnWorker, Engine, EngineConfig,
    ExecuteRequest, KeptName, ParkError, ParkedCell, ResumeRequest, RuntimeResponse, SessionLimits,
    StoredValues, ToolDefinition, ToolResult, WaitRequest, WasmBackend,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// What a write takes: long enough that what does not wait for it is seen not to.
const WRITING: Duration = Duration::from_millis(20);

/// A store in memory.
#[derive(Default)]
struct Store {
    cells: Mutex<HashMap<KeptName, ParkedCell>>,
    /// Those that were found.
    alive: Mutex<BTreeSet<[u8; 16]>>,
    /// Whether writes fail.
    fails: AtomicBool,
    /// Attempts to keep a cell.
    attempts: AtomicUsize,
}

impl Store {
    fn names(&self) -> Vec<KeptName> {
        self.cells.lock().unwrap().keys().copied().collect()
    }

    async fn has(&self, count: usize) {
        let has = async {
            while self.names().len() != count {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_mins(1), has).await.unwrap();
    }

    async fn write(&self) -> Result<(), CellStoreError> {
        sleep(WRITING).await;
        let fails = self.fails.load(Ordering::Relaxed);
        if fails { Err(CellStoreError("the disk is full".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl CellStore for Store {
    async fn keep(
        &self,
        name: KeptName,
        cell: ParkedCell,
        _time_left: Duration,
    ) -> Result<(), CellStoreError> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.write().await?;
        self.cells.lock().unwrap().insert(name, cell);
        Ok(())
    }

    async fn remove(&self, name: KeptName) -> Result<(), CellStoreError> {
        self.write().await?;
        self.cells.lock().unwrap().remove(&name);
        Ok(())
    }

    async fn find(&self, name: KeptName) -> Result<Option<(ParkedCell, Duration)>, CellStoreError> {
        let is_new = self.alive.lock().unwrap().insert(*name.as_bytes());
        let cell = self.cells.lock().unwrap().get(&name).cloned().filter(|_| is_new);
        Ok(cell.map(|cell| (cell, Duration::ZERO)))
    }

    fn release(&self, name: KeptName) {
        self.alive.lock().unwrap().remove(name.as_bytes());
    }
}

/// Calls end when the test opens the gate.
struct Gate(watch::Sender<bool>);

#[async_trait]
impl CodeModeTurnHost for Gate {
    async fn invoke_tool(
        &self,
        _call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.0.subscribe().wait_for(|is_open| *is_open).await.map_err(|e| e.to_string())?;
        Ok(serde_json::json!("open").into())
    }
}

/// A session whose cells are kept after a millisecond.
struct Session {
    backend: WasmBackend,
    gate: Arc<Gate>,
    _turn: CodeModeTurnWorker,
}

impl Session {
    fn new(store: &Arc<Store>, cell: CellLimits) -> Self {
        let mut config = EngineConfig::default();
        (config.max_cells, config.sleeps_after) = (4, Some(Duration::from_millis(1)));
        let engine = Engine::new(&config).unwrap();
        let limits = SessionLimits { cell, ..SessionLimits::default() };
        let backend = WasmBackend::with_limits(&engine, limits);
        backend.set_store(Some(Arc::clone(store) as _));
        let gate = Arc::new(Gate(watch::Sender::new(false)));
        let turn = backend.start_turn_worker(Arc::clone(&gate) as _);
        Self { backend, gate, _turn: turn }
    }

    fn request() -> ExecuteRequest {
        ExecuteRequest {
            enabled_tools: [ToolDefinition::function("gate", "")].into(),
            yield_time_ms: Some(0),
            ..ExecuteRequest::new("text(await tools.gate().catch((error) => error))")
        }
    }

    async fn start(&self) -> CellId {
        let id = self.backend.allocate_cell_id().unwrap();
        self.backend.execute(id.clone(), Self::request(), StoredValues::new()).await.unwrap();
        id
    }

    async fn wait(&self, id: &CellId, yield_time_ms: u64) -> RuntimeResponse {
        let request = WaitRequest { cell_id: id.clone(), yield_time_ms };
        self.backend.wait(request).await.unwrap().into()
    }

    /// Opens the gate, and expects the cell to end well.
    async fn ends_well(&self, id: &CellId) {
        self.gate.0.send_replace(true);
        let response = self.wait(id, 60_000).await;
        assert!(
            matches!(response, RuntimeResponse::Result { error_text: None, .. }),
            "{response:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_or_left_is_not_found_again() {
    let store = Arc::new(Store::default());
    let session = Session::new(&store, CellLimits::default());
    let id = session.start().await;
    store.has(1).await;
    session.backend.terminate(id).await.unwrap();
    assert_eq!(store.names(), [], "known to have ended");
    let id = session.start().await;
    store.has(1).await;
    let parked = session.backend.park(id).await.unwrap();
    assert_eq!(store.names(), [], "known to be parked");
    drop(parked);
    let id = session.start().await;
    store.has(1).await;
    session.ends_well(&id).await;
    assert_eq!(store.names(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_cannot_leave_its_store_is_not_parked() {
    let store = Arc::new(Store::default());
    let session = Session::new(&store, CellLimits::default());
    let id = session.start().await;
    store.has(1).await;
    store.fails.store(true, Ordering::Relaxed);
    let refused = session.backend.park(id.clone()).await.unwrap_err();
    assert!(matches!(refused, CodeModeError::Host(_)), "{refused}");
    store.fails.store(false, Ordering::Relaxed);
    session.ends_well(&id).await;
    assert_eq!(store.names(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_fell_asleep_frozen_is_kept_once_it_is_not() {
    let store = Arc::new(Store::default());
    let session = Session::new(&store, CellLimits::default());
    let id = session.backend.allocate_cell_id().unwrap();
    let request = Session::request();
    session.backend.execute_to_pending(id.clone(), request, StoredValues::new()).await.unwrap();
    sleep(WRITING * 5).await;
    assert_eq!(store.names(), []);
    session.wait(&id, 0).await;
    store.has(1).await;
    session.ends_well(&id).await;
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_could_not_be_kept_is_kept_a_while_later() {
    let store = Arc::new(Store::default());
    store.fails.store(true, Ordering::Relaxed);
    let session = Session::new(&store, CellLimits::default());
    let id = session.start().await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(store.attempts.load(Ordering::Relaxed), 1);
    store.fails.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(40)).await;
    assert_eq!((store.attempts.load(Ordering::Relaxed), store.names().len()), (2, 1));
    session.ends_well(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_was_refused_to_go_on_may_be_found_again() {
    let store = Arc::new(Store::default());
    let session = Session::new(&store, CellLimits::default());
    session.start().await;
    store.has(1).await;
    let name = store.names()[0];
    let resume = async |session: &Session| {
        let id = session.backend.allocate_cell_id().unwrap();
        let request = ResumeRequest { name, received: 0, yield_time_ms: Some(0) };
        let resumed = session.backend.resume(id.clone(), request, StoredValues::new()).await;
        resumed.map(|_| id)
    };
    let narrow = CellLimits { memory_bytes: 8 << 20, ..CellLimits::default() };
    let narrow = Session::new(&store, narrow);
    let refused = resume(&narrow).await.unwrap_err();
    assert!(matches!(refused, CodeModeError::Park(ParkError::OverLimits(_))), "{refused}");
    let next = Session::new(&store, CellLimits::default());
    let id = resume(&next).await.unwrap();
    let twice = resume(&next).await.unwrap_err();
    assert!(matches!(twice, CodeModeError::Park(ParkError::NotKept)), "{twice}");
    next.ends_well(&id).await;
}
