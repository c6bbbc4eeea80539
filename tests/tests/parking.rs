//! Parked cells in this process: exactness, sizes, keys, limits and forks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use async_trait::async_trait;
use cellblock::{
    CellId, CellLimits, Clock, CodeModeBackend, CodeModeError, CodeModeNestedToolCall,
    CodeModeTurnHost, ContentItem, Engine, EngineConfig, ExecuteRequest, ParkError, ParkKey,
    ParkedCell, Parking, PendingCalls, Random, RuntimeResponse, SessionLimits, StoredValues,
    ToolDefinition, ToolResult, WakeRequest, WasmBackend,
};
use cellblock_tests::memory;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

/// Tests that look at the memory of the process write, and all others read.
static MEMORY: RwLock<()> = RwLock::const_new(());

/// A clock that stands still where it is set, in seconds, and one seed after the other.
#[derive(Debug, Default)]
struct Set {
    wall: AtomicU64,
    seeds: AtomicU64,
}

impl Clock for Set {
    fn wall(&self) -> Duration {
        Duration::from_secs(self.wall.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1)
    }
}

impl Random for Set {
    fn seed(&self) -> u64 {
        42 + self.seeds.fetch_add(1, Ordering::Relaxed)
    }
}

/// `echo` returns its input; `later` never returns.
struct Tools;

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        if call.tool_name.name == "later" {
            std::future::pending::<()>().await;
        }
        Ok(call.input.map_or_else(|| Value::Null.into(), ToolResult::from))
    }
}

fn engine() -> Engine {
    let mut config = EngineConfig::default();
    config.max_cells = 16;
    Engine::new(&config).unwrap()
}

fn session(engine: &Engine, limits: SessionLimits) -> WasmBackend {
    let set = Arc::new(Set::default());
    set.wall.store(1_700_000_000, Ordering::Relaxed);
    WasmBackend::deterministic(engine, limits, Arc::clone(&set) as _, set)
}

async fn start(backend: &WasmBackend, source: &str) -> CellId {
    let request = ExecuteRequest {
        enabled_tools: ["echo", "later"].map(|name| ToolDefinition::function(name, name)).into(),
        yield_time_ms: Some(1),
        ..ExecuteRequest::new(source)
    };
    let id = backend.allocate_cell_id().unwrap();
    backend.execute(id.clone(), request, StoredValues::new()).await.unwrap();
    id
}

fn request(cell: &ParkedCell, id: &str, result: Value) -> WakeRequest {
    let mut calls = PendingCalls::default();
    calls.insert(id, Ok(result.into()));
    WakeRequest { calls, yield_time_ms: Some(600_000), ..WakeRequest::new(cell.clone()) }
}

async fn wake(
    backend: &WasmBackend,
    request: WakeRequest,
) -> Result<RuntimeResponse, CodeModeError> {
    let id = backend.allocate_cell_id()?;
    backend.wake(id, request, StoredValues::new()).await
}

fn texts(response: &RuntimeResponse) -> Vec<String> {
    let text = |item: &ContentItem| match item {
        ContentItem::InputText { text } => text.clone(),
        other => panic!("{other:?}"),
    };
    response.content_items().iter().map(text).collect()
}

const RICH: &str = "
    const squares = (function* () { for (let i = 0; ; i++) yield i * i })(); squares.next();
    const seen = [Math.random(), Math.random()];
    const weak = new WeakMap(), key = {}; weak.set(key, [1, 2n, Symbol('s')]);
    const proxy = new Proxy({}, { get: (_, name) => name + '!' });
    store('first', seen);
    const [answer] = await Promise.all([tools.later({ q: 1 }), tools.echo(1)]);
    text(answer); text([...seen, Math.random(), squares.next().value, proxy.x, weak.get(key)[0]]);
    text(Date.now()); text(await tools.echo({ r: Math.random() })); text(load('first').length);
    let s = ''; for (let i = 0; i < 1e4; i++) s += i; text(s.length);";

/// A cell that was parked has the same output as one that was not, for the same fuel; also
/// in another engine.
#[tokio::test]
async fn a_parked_cell_ends_with_the_same_output_and_fuel() {
    let _memory = MEMORY.read().await;
    let (one, other) = (engine(), engine());
    let whole = session(&one, SessionLimits::default());
    let _turn = whole.start_turn_worker(Arc::new(Answers));
    let id = start(&whole, RICH).await;
    let wait = cellblock::WaitRequest { cell_id: id, yield_time_ms: 600_000 };
    let expected = RuntimeResponse::from(whole.wait(wait).await.unwrap());
    assert!(matches!(expected, RuntimeResponse::Result { error_text: None, .. }), "{expected:?}");
    for target in [&one, &other] {
        let backend = session(&one, SessionLimits::default());
        let _turn = backend.start_turn_worker(Arc::new(Tools));
        let id = start(&backend, RICH).await;
        settle().await;
        let cell = backend.park(id).await.unwrap().cell;
        let elsewhere = session(target, SessionLimits::default());
        let _turn = elsewhere.start_turn_worker(Arc::new(Tools));
        let response = wake(&elsewhere, request(&cell, "tool-1", json!("yes"))).await.unwrap();
        assert_eq!(texts(&response), texts(&expected));
        let (usage, whole) = (response.report().usage, expected.report().usage);
        assert_eq!(usage.fuel, whole.fuel);
        assert_eq!((usage.calls, usage.output_bytes), (whole.calls, whole.output_bytes));
    }
}

/// `later` answers at once.
struct Answers;

#[async_trait]
impl CodeModeTurnHost for Answers {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        if call.tool_name.name == "later" {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Ok(json!("yes").into());
        }
        Ok(call.input.map_or_else(|| Value::Null.into(), ToolResult::from))
    }
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_time_of_day_is_the_present_and_never_before() {
    let _memory = MEMORY.read().await;
    let engine = engine();
    let set = Arc::new(Set::default());
    set.wall.store(5_000, Ordering::Relaxed);
    let backend = WasmBackend::deterministic(
        &engine,
        SessionLimits::default(),
        Arc::clone(&set) as _,
        Arc::clone(&set) as _,
    );
    let _turn = backend.start_turn_worker(Arc::new(Tools));
    let id = start(&backend, "await tools.later(); text(Date.now())").await;
    let cell = backend.park(id).await.unwrap().cell;
    for (wall, expected) in [(9_000, "9000000"), (1, "5000000")] {
        set.wall.store(wall, Ordering::Relaxed);
        let response = wake(&backend, request(&cell, "tool-1", json!(0))).await.unwrap();
        assert_eq!(texts(&response), [expected]);
    }
}

/// The time since a cell was parked is that of the wall clock: never less than none, and at most
/// its total time.
#[tokio::test]
async fn a_parked_cell_knows_when_it_was_parked() {
    let _memory = MEMORY.read().await;
    let engine = engine();
    let set = Arc::new(Set::default());
    set.wall.store(5_000, Ordering::Relaxed);
    let backend = WasmBackend::deterministic(
        &engine,
        SessionLimits::default(),
        Arc::clone(&set) as _,
        Arc::clone(&set) as _,
    );
    let _turn = backend.start_turn_worker(Arc::new(Tools));
    let source = "await new Promise((done) => setTimeout(done, 90_000)); text('fired')";
    let id = start(&backend, source).await;
    let cell = backend.park(id).await.unwrap().cell;
    let total = CellLimits::default().total_time;
    for (wall, elapsed) in [
        (5_000, Duration::ZERO),
        (5_030, Duration::from_secs(30)),
        (5_090, Duration::from_secs(90)),
        (1, Duration::ZERO),
        (u64::MAX, total),
    ] {
        set.wall.store(wall, Ordering::Relaxed);
        let info = backend.parked_info(&cell).unwrap();
        assert_eq!((info.elapsed, info.timer_in), (elapsed, Some(Duration::from_secs(90))));
        assert!(info.ends_in <= total && info.ends_in > total / 2, "{info:?}");
        assert!(info.calls.is_empty(), "{info:?}");
    }
    // What has passed counts for its timer, and for its total time.
    for (wall, expected) in [(5_090, "fired"), (u64::MAX, "total time limit")] {
        set.wall.store(wall, Ordering::Relaxed);
        let elapsed = backend.parked_info(&cell).unwrap().elapsed;
        let request = WakeRequest { elapsed, ..WakeRequest::new(cell.clone()) };
        let id = backend.allocate_cell_id().unwrap();
        let awake = WakeRequest { yield_time_ms: Some(0), ..request };
        let mut response = backend.wake(id.clone(), awake, StoredValues::new()).await.unwrap();
        while matches!(response, RuntimeResponse::Yielded { .. }) {
            let wait = cellblock::WaitRequest { cell_id: id.clone(), yield_time_ms: 600_000 };
            response = backend.wait(wait).await.unwrap().into();
        }
        let said = format!("{response:?}");
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn a_session_may_forbid_forks() {
    let _memory = MEMORY.read().await;
    let engine = engine();
    let backend = session(&engine, SessionLimits::default());
    let parking = Parking::new(&ParkKey::new([3; 32])).forbidding_forks();
    backend.set_parking(parking.clone());
    let _turn = backend.start_turn_worker(Arc::new(Tools));
    let id = start(&backend, "await tools.later(); text(1)").await;
    let cell = backend.park(id).await.unwrap().cell;
    let fork = WakeRequest { is_fork: true, ..request(&cell, "tool-1", json!(0)) };
    let forbidden = Err(CodeModeError::Park(ParkError::ForkForbidden));
    assert_eq!(wake(&backend, fork).await, forbidden);
    // That has not counted as the one time.
    assert!(wake(&backend, request(&cell, "tool-1", json!(0))).await.is_ok());
    assert_eq!(wake(&backend, request(&cell, "tool-1", json!(0))).await, forbidden);
    // Another session with the same settings remembers it, too.
    let second = session(&engine, SessionLimits::default());
    second.set_parking(parking);
    assert_eq!(wake(&second, request(&cell, "tool-1", json!(0))).await, forbidden);
    assert!(second.cells().is_empty());
}

#[tokio::test]
async fn the_wakers_limits_hold() {
    let _memory = MEMORY.read().await;
    let engine = engine();
    let backend = session(&engine, SessionLimits::default());
    let _turn = backend.start_turn_worker(Arc::new(Tools));
    let id = start(&backend, "await tools.later(); text(1)").await;
    let cell = backend.park(id).await.unwrap().cell;
    for (limit, cell_limits) in [
        ("fuel", CellLimits { fuel: 1, ..CellLimits::default() }),
        ("memory_bytes", CellLimits { memory_bytes: 64 << 20, ..CellLimits::default() }),
        ("timers", CellLimits { timers: 1, ..CellLimits::default() }),
        ("host_bytes", CellLimits { host_bytes: Some(1 << 20), ..CellLimits::default() }),
        ("total_time", CellLimits { total_time: Duration::from_secs(9), ..CellLimits::default() }),
    ] {
        let narrow =
            session(&engine, SessionLimits { cell: cell_limits, ..SessionLimits::default() });
        let refused = wake(&narrow, request(&cell, "tool-1", json!(0))).await;
        let Err(CodeModeError::Park(ParkError::OverLimits(over))) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(over.name, limit);
        assert_ne!(over.value, over.allowed);
    }
    // Wider limits are not the cell's: it goes on with those that it was started with.
    let narrow = CellLimits { calls: 1, ..CellLimits::default() };
    let backend = session(&engine, SessionLimits { cell: narrow, ..SessionLimits::default() });
    let _turn = backend.start_turn_worker(Arc::new(Tools));
    let id = start(&backend, "await tools.later(); await tools.echo(); text(1)").await;
    let cell = backend.park(id).await.unwrap().cell;
    let wide = session(&engine, SessionLimits::default());
    let response = wake(&wide, request(&cell, "tool-1", json!(0))).await.unwrap();
    let RuntimeResponse::Result { error_text: Some(text), .. } = response else { panic!("it ran") };
    assert!(text.starts_with("cell stopped: its nested calls limit of 1 was reached"), "{text}");
}

#[tokio::test]
async fn a_session_that_has_ended_wakes_nothing() {
    let _memory = MEMORY.read().await;
    let engine = engine();
    let backend = session(&engine, SessionLimits::default());
    let _turn = backend.start_turn_worker(Arc::new(Tools));
    let id = start(&backend, "await tools.later(); text(1)").await;
    let other = start(&backend, "await tools.later(); text(1)").await;
    let cell = backend.park(id).await.unwrap().cell;
    backend.shutdown().await;
    let refused = wake(&backend, request(&cell, "tool-1", json!(0))).await;
    assert_eq!(refused, Err(CodeModeError::ShuttingDown));
    assert!(backend.park(other).await.is_err());
    let second = session(&engine, SessionLimits::default());
    assert_eq!(texts(&wake(&second, request(&cell, "tool-1", json!(0))).await.unwrap()), ["1"]);
}

#[tokio::test]
async fn sizes_are_what_the_documentation_says() {
    let _memory = MEMORY.read().await;
    let engine = engine();
    let backend = session(&engine, SessionLimits::default());
    let _turn = backend.start_turn_worker(Arc::new(Tools));
    let small = start(&backend, "await tools.later()").await;
    let small = backend.park(small).await.unwrap().cell;
    assert!(small.as_bytes().len() <= 10_240, "{small:?}");
    // 26 MiB of memory.
    let source = "
        const objects = []; for (let i = 0; i < 40000; i++) objects.push({ i, name: 'n' + i, v: [i] });
        const typed = new Float64Array(4e5); for (let i = 0; i < typed.length; i++) typed[i] = i;
        const strings = []; for (let i = 0; i < 20000; i++) strings.push('string number ' + i);
        await tools.later();
        text(objects.reduce((a, o) => a + o.i + o.v[0], 0)); text(typed.reduce((a, b) => a + b, 0));
        text(strings[19999] + strings.length);";
    let large = start(&backend, source).await;
    let large = backend.park(large).await.unwrap().cell;
    assert!(large.as_bytes().len() <= 8 << 20, "{large:?}");
    let response = wake(&backend, request(&large, "tool-1", json!(0))).await.unwrap();
    assert_eq!(texts(&response), ["1599960000", "79999800000", "string number 1999920000"]);
}

/// A cell that is parked and woken ten thousand times stays as large as it is, and the process
/// keeps nothing of it.
#[tokio::test]
async fn cycles_of_park_and_wake_leak_nothing() {
    let _memory = MEMORY.write().await;
    let engine = engine();
    let backend = session(&engine, SessionLimits::default());
    let _turn = backend.start_turn_worker(Arc::new(Tools));
    let mut id =
        start(&backend, "const kept = [1, 2, 3]; await tools.later(); text(kept.join())").await;
    let mut sizes = Vec::new();
    let mut before = 0;
    for cycle in 0..10_000 {
        if cycle == 1_000 {
            before = memory::own();
        }
        let parked = backend.park(id).await.unwrap();
        sizes.push(parked.cell.as_bytes().len());
        id = backend.allocate_cell_id().unwrap();
        let request = WakeRequest {
            calls: parked.calls,
            yield_time_ms: Some(0),
            ..WakeRequest::new(parked.cell)
        };
        backend.wake(id.clone(), request, StoredValues::new()).await.unwrap();
        assert_eq!(backend.cells().len(), 1);
    }
    let grown = memory::own().saturating_sub(before);
    // A kilobyte for each cycle would be 9 MB; an image of the cell has eight.
    assert!(grown < 8 << 20, "{grown} bytes");
    let (first, last) = (sizes[1], sizes[sizes.len() - 1]);
    assert!(last.abs_diff(first) < 200, "{first} {last}");
    let cell = backend.park(id).await.unwrap().cell;
    let response = wake(&backend, request(&cell, "tool-1", json!(0))).await.unwrap();
    assert_eq!(texts(&response), ["1,2,3"]);
}
