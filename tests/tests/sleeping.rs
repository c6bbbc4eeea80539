//! Cells that sleep while they wait: nobody notices, and what they keep is small.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use async_trait::async_trait;
use cellblock::{
    CellId, CellLimits, CodeModeBackend, CodeModeNestedToolCall, CodeModeTurnHost, ContentItem,
    Engine, EngineConfig, ExecuteRequest, LimitKind, RuntimeResponse, SessionLimits, StoredValues,
    ToolDefinition, ToolResult, WaitRequest, WasmBackend,
};
use cellblock_tests::memory;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{RwLock, watch};
use tokio_util::sync::CancellationToken;

/// Tests that look at the memory of the process write, and all others read.
static MEMORY: RwLock<()> = RwLock::const_new(());

/// `echo` returns its input at once, `gate` when the test opens it.
struct Tools(watch::Sender<bool>);

impl Tools {
    fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(false)))
    }

    fn open(&self) {
        self.0.send_replace(true);
    }
}

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        if call.tool_name.name == "gate" {
            self.0.subscribe().wait_for(|is_open| *is_open).await.map_err(|e| e.to_string())?;
        }
        Ok(call.input.map_or_else(|| Value::Null.into(), ToolResult::from))
    }
}

fn engine(max_cells: u32, sleeps_after: Option<Duration>) -> Engine {
    let mut config = EngineConfig::default();
    (config.max_cells, config.sleeps_after) = (max_cells, sleeps_after);
    Engine::new(&config).unwrap()
}

fn session(engine: &Engine) -> WasmBackend {
    let limits = SessionLimits { cells: 1 << 20, unread_results: 1 << 20, ..Default::default() };
    WasmBackend::with_limits(engine, limits)
}

/// Starts a program, and returns at once.
async fn start(backend: &WasmBackend, tools: &Arc<[ToolDefinition]>, source: &str) -> CellId {
    let request = ExecuteRequest {
        enabled_tools: Arc::clone(tools),
        yield_time_ms: Some(0),
        ..ExecuteRequest::new(source)
    };
    let id = backend.allocate_cell_id().unwrap();
    backend.execute(id.clone(), request, StoredValues::new()).await.unwrap();
    id
}

fn tools() -> Arc<[ToolDefinition]> {
    ["echo", "gate"].map(|name| ToolDefinition::function(name, name)).into()
}

async fn result(backend: &WasmBackend, id: &CellId) -> RuntimeResponse {
    let request = WaitRequest { cell_id: id.clone(), yield_time_ms: 600_000 };
    let response = RuntimeResponse::from(backend.wait(request).await.unwrap());
    assert!(matches!(response, RuntimeResponse::Result { .. }), "{response:?}");
    response
}

fn texts(response: &RuntimeResponse) -> Vec<&str> {
    fn text(item: &ContentItem) -> &str {
        match item {
            ContentItem::InputText { text } => text,
            other => panic!("{other:?}"),
        }
    }
    response.content_items().iter().map(text).collect()
}

fn limit(response: &RuntimeResponse) -> Option<LimitKind> {
    response.report().limit
}

const RICH: &str = "
    const squares = (function* () { for (let i = 0; ; i++) yield i * i })(); squares.next();
    const weak = new WeakMap(), key = {}; weak.set(key, [1, 2n, Symbol('s')]);
    const proxy = new Proxy({}, { get: (_, name) => name + '!' });
    const deep = (n) => n === 0 ? 0 : 1 + deep(n - 1); text(deep(300));
    store('first', [1]); const sticky = /a(\\d)/y; sticky.exec('a1a2');
    class Counter { #n = 40; next() { return ++this.#n } } const counter = new Counter();
    for (let i = 0; i < 20; i++) {
        const all = await Promise.all([tools.echo({ i }), tools.echo(i), tools.echo('x'.repeat(i))]);
        await new Promise((resolve) => setTimeout(resolve, i % 3));
        text([all[0].i, all[1], all[2].length, squares.next().value, counter.next()]);
    }
    text([proxy.x, weak.get(key)[0], sticky.exec('a1a2')[1]]);
    try { await tools.echo(() => 1) } catch (error) { text(error.message) }
    let s = ''; for (let i = 0; i < 1e4; i++) s += i; text(s.length);";

/// Sleeping changes neither what a program says nor what it costs.
#[tokio::test(start_paused = true)]
async fn a_cell_that_sleeps_has_the_same_output_for_the_same_fuel() {
    let _memory = MEMORY.read().await;
    let mut all = Vec::new();
    for sleeps_after in [None, Some(Duration::ZERO), Some(Duration::from_millis(1))] {
        let backend = session(&engine(2, sleeps_after));
        let _turn = backend.start_turn_worker(Tools::new());
        let id = start(&backend, &tools(), RICH).await;
        let response = result(&backend, &id).await;
        let texts: Vec<_> = texts(&response).into_iter().map(str::to_owned).collect();
        let usage = response.report().usage;
        all.push((texts, usage.fuel, usage.calls, usage.output_bytes, usage.peak_memory_bytes));
    }
    assert_eq!(all[0].0.len(), 24);
    assert_eq!(all[1], all[0]);
    assert_eq!(all[2], all[0]);
}

/// Many more cells wait than can run, and each goes on when something comes for it.
#[tokio::test(start_paused = true)]
async fn cells_that_wait_do_not_count_among_those_that_run() {
    const CELLS: usize = 5_000;
    let _memory = MEMORY.read().await;
    let backend = session(&engine(64, Some(Duration::from_secs(1))));
    let host = Tools::new();
    let _turn = backend.start_turn_worker(Arc::clone(&host) as _);
    let tools = tools();
    let mut ids = Vec::new();
    for number in 0..CELLS {
        // Every other one waits for a timer.
        let wait = if number % 2 == 0 {
            format!("await tools.gate({number})")
        } else {
            format!("await new Promise((resolve) => setTimeout(() => resolve({number}), 9000))")
        };
        ids.push(start(&backend, &tools, &format!("const n = {wait}; text(n)")).await);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(backend.cells().iter().filter(|cell| cell.calls_in_flight == 1).count(), CELLS / 2);
    host.open();
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(texts(&result(&backend, id).await), [number.to_string()]);
    }
}

/// An engine makes places for more than 512 cells when they are needed.
#[tokio::test]
async fn more_cells_run_than_an_engine_begins_with() {
    const CELLS: u32 = 530;
    let _memory = MEMORY.read().await;
    let backend = session(&engine(CELLS, None));
    let host = Tools::new();
    let _turn = backend.start_turn_worker(Arc::clone(&host) as _);
    let tools = tools();
    let mut ids = Vec::new();
    for _ in 0..CELLS {
        // Also texts in TypeScript are read beside each of them.
        let source = "const on: string = 'on'; await tools.gate(); text(on)";
        ids.push(start(&backend, &tools, source).await);
    }
    host.open();
    for id in ids {
        assert_eq!(texts(&result(&backend, &id).await), ["on"]);
    }
}

/// A program that sleeps ten thousand times is as large in the end as it was.
#[tokio::test]
async fn cycles_leak_nothing() {
    let _memory = MEMORY.write().await;
    let backend = session(&engine(1, Some(Duration::ZERO)));
    let _turn = backend.start_turn_worker(Tools::new());
    let cycles = |count: usize| format!("for (let i = 0; i < {count}; i++) await tools.echo(i)");
    let run = async |count| {
        let id = start(&backend, &tools(), &cycles(count)).await;
        let response = result(&backend, &id).await;
        assert_eq!(response.report().usage.calls, count as u64);
    };
    run(500).await;
    let before = memory::own();
    run(10_000).await;
    let grown = memory::own().saturating_sub(before);
    // A page for each cycle would be 40 MB.
    assert!(grown < 8 << 20, "{grown} bytes");
}

/// Neither the stack of a deep recursion nor its sandbox is kept.
#[tokio::test(start_paused = true)]
async fn cells_that_have_recursed_deeply_are_small_when_they_sleep() {
    const CELLS: usize = 100;
    let _memory = MEMORY.write().await;
    let backend = session(&engine(8, Some(Duration::from_secs(1))));
    let host = Tools::new();
    let _turn = backend.start_turn_worker(Arc::clone(&host) as _);
    let source = "const f = (n) => f(n + 1) + 1; try { f(0) } catch { text('caught') }
                  await tools.gate(); text('on')";
    let tools = tools();
    let first = start(&backend, &tools, source).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = memory::own();
    let mut ids = vec![first];
    for _ in 0..CELLS {
        ids.push(start(&backend, &tools, source).await);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let each = memory::own().saturating_sub(before) / CELLS;
    // Awake it keeps 3.3 MB; the slots of the engine keep some of that once.
    assert!(each < 1 << 20, "{each} bytes");
    host.open();
    for id in ids {
        assert_eq!(texts(&result(&backend, &id).await), ["caught", "on"]);
    }
}

/// Where no cell sleeps, those that wait for a sandbox wait so long, and then end.
#[tokio::test(start_paused = true)]
async fn a_cell_waits_for_a_sandbox_so_long_and_among_so_many() {
    let _memory = MEMORY.read().await;
    let mut config = EngineConfig::default();
    (config.max_cells, config.sleeps_after) = (1, None);
    (config.max_waiting, config.max_wait) = (2, Duration::from_secs(20));
    let backend = session(&Engine::new(&config).unwrap());
    let host = Tools::new();
    let _turn = backend.start_turn_worker(Arc::clone(&host) as _);
    let tools = tools();
    let holder = start(&backend, &tools, "await tools.gate(); text('held')").await;
    let waiting = [
        start(&backend, &tools, "text('never')").await,
        start(&backend, &tools, "text('never')").await,
    ];
    let one_more = start(&backend, &tools, "text('never')").await;
    let refused = result(&backend, &one_more).await;
    assert_eq!(limit(&refused), Some(LimitKind::SandboxQueue));
    let expected = "cell stopped: its sandbox queue limit of 2 cells was reached; try again when \
                    fewer cells run";
    assert!(format!("{refused:?}").contains(expected), "{refused:?}");
    // One can be terminated while it waits.
    let [first, second] = waiting;
    assert!(matches!(
        backend.terminate(first).await.unwrap().into(),
        RuntimeResponse::Terminated { .. }
    ));
    let late = result(&backend, &second).await;
    assert_eq!(limit(&late), Some(LimitKind::SandboxWait));
    assert!(format!("{late:?}").contains("its sandbox wait limit of 20000 ms was reached"));
    host.open();
    assert_eq!(texts(&result(&backend, &holder).await), ["held"]);
    let id = start(&backend, &tools, "text('room')").await;
    assert_eq!(texts(&result(&backend, &id).await), ["room"]);
}

/// A sleeping cell that is to go on waits like a new one, and its own time limits it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_cell_waits_for_a_sandbox_while_others_run() {
    let _memory = MEMORY.read().await;
    let mut config = EngineConfig::default();
    (config.max_cells, config.sleeps_after) = (1, Some(Duration::ZERO));
    config.max_wait = Duration::from_millis(200);
    let engine = Engine::new(&config).unwrap();
    let backend = session(&engine);
    let host = Tools::new();
    let _turn = backend.start_turn_worker(Arc::clone(&host) as _);
    let tools = tools();
    let sleeper = start(&backend, &tools, "await tools.gate(); text('on')").await;
    // It runs once the other sleeps, and does not stop.
    let request = ExecuteRequest {
        enabled_tools: Arc::clone(&tools),
        ..ExecuteRequest::new("yield_control(); for (;;);")
    };
    let spinner = backend.allocate_cell_id().unwrap();
    backend.execute(spinner.clone(), request, StoredValues::new()).await.unwrap();
    host.open();
    assert_eq!(limit(&result(&backend, &sleeper).await), Some(LimitKind::SandboxWait));
    let limits = SessionLimits {
        cell: CellLimits { total_time: Duration::from_millis(50), ..CellLimits::default() },
        ..SessionLimits::default()
    };
    let hasty = WasmBackend::with_limits(&engine, limits);
    let id = start(&hasty, &tools, "text('never')").await;
    assert_eq!(limit(&result(&hasty, &id).await), Some(LimitKind::TotalTime));
    backend.terminate(spinner).await.unwrap();
    let id = start(&hasty, &tools, "text('room')").await;
    assert_eq!(texts(&result(&hasty, &id).await), ["room"]);
}

/// A program that nothing can wake is found also when it slept before that was so.
#[tokio::test(start_paused = true)]
async fn a_sleeping_cell_that_gets_stuck_says_where() {
    struct Slow;
    #[async_trait]
    impl CodeModeTurnHost for Slow {
        async fn invoke_tool(
            &self,
            _call: CodeModeNestedToolCall,
            _cancellation: CancellationToken,
        ) -> Result<ToolResult, String> {
            Ok(json!(null).into())
        }

        async fn notify(
            &self,
            _call_id: String,
            _cell_id: CellId,
            _text: String,
            _cancellation: CancellationToken,
        ) -> Result<(), String> {
            tokio::time::sleep(Duration::from_mins(1)).await;
            Ok(())
        }
    }
    let _memory = MEMORY.read().await;
    let backend = session(&engine(1, Some(Duration::from_secs(1))));
    let _turn = backend.start_turn_worker(Arc::new(Slow));
    let source = "notify('slow');\nawait new Promise(() => {})";
    let _id = start(&backend, &tools(), source).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(backend.cells()[0].state, cellblock::CellState::Waiting);
    // Another has its sandbox meanwhile.
    let other = start(&backend, &tools(), "text('other')").await;
    assert_eq!(texts(&result(&backend, &other).await), ["other"]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let cell = backend.cells().remove(0);
    assert_eq!(cell.state, cellblock::CellState::Stuck);
    assert_eq!(cell.stuck_at.as_deref(), Some("exec_main.mjs:2:1"));
}

/// `cargo test --release -p cellblock-tests --test sleeping -- --ignored --nocapture`
/// prints what a hundred thousand waiting cells take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure that takes minutes and more than two gigabytes"]
#[expect(clippy::print_stdout, reason = "it prints figures")]
async fn a_hundred_thousand_cells_wait_in_one_process() {
    const CELLS: usize = 100_000;
    let _memory = MEMORY.write().await;
    for (kind, source) in [
        ("a call", "const n = await tools.gate(7); text(n)"),
        (
            "a call, after a deep recursion",
            "const f = (n) => f(n + 1) + 1; try { f(0) } catch {} text(await tools.gate(7))",
        ),
    ] {
        let backend = session(&engine(1_024, Some(Duration::from_secs(1))));
        let host = Tools::new();
        let _turn = backend.start_turn_worker(Arc::clone(&host) as _);
        let tools = tools();
        let before = memory::own();
        let began = std::time::Instant::now();
        let mut ids = Vec::with_capacity(CELLS);
        for _ in 0..CELLS {
            ids.push(start(&backend, &tools, source).await);
        }
        while backend.cells().iter().any(|cell| cell.calls_in_flight == 0) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let started = began.elapsed();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (all, each) = (memory::own(), (memory::own() - before) / CELLS);
        println!(
            "{CELLS} cells that wait for {kind}: {each} bytes each, {} MB in all (PSS); started in {started:?}",
            all >> 20
        );
        assert!(each <= 24 << 10 && all < 2_500_000_000, "{each} {all}");
        let began = std::time::Instant::now();
        host.open();
        for id in &ids {
            assert_eq!(texts(&result(&backend, id).await), ["7"]);
        }
        println!("all of them have ended {:?} after their calls", began.elapsed());
    }
}
