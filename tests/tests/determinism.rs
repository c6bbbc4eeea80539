//! The same program on the same inputs gives the same output for the same fuel.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use async_trait::async_trait;
use cellblock::{
    Clock, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, ContentItem, Engine,
    EngineConfig, ExecuteRequest, Random, RuntimeResponse, SessionLimits, ToolDefinition,
    ToolResult, WasmBackend,
};
use cellblock_tests::repository;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How far a figure may be from the recorded one: compilers differ a little.
const TOLERANCE_PERCENT: u64 = 3;

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn wall(&self) -> Duration {
        Duration::from_secs(1_700_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1)
    }
}

impl Random for Fixed {
    fn seed(&self) -> u64 {
        42
    }
}

/// Answers calls in the order they were made, so that every run is the same.
struct InOrder(tokio::sync::Mutex<()>);

#[async_trait]
impl CodeModeTurnHost for InOrder {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let _turn = self.0.lock().await;
        Ok(call.input.map_or_else(|| Value::Null.into(), ToolResult::from))
    }
}

fn engine() -> Engine {
    Engine::new(&EngineConfig::default()).unwrap()
}

async fn run(engine: &Engine, source: &str) -> (Vec<ContentItem>, u64) {
    let limits = SessionLimits::default();
    let backend = WasmBackend::deterministic(engine, limits, Arc::new(Fixed), Arc::new(Fixed));
    let service = CodeModeService::new(Arc::new(backend));
    let _turn = service.start_turn_worker(Arc::new(InOrder(tokio::sync::Mutex::new(()))));
    let request = ExecuteRequest {
        enabled_tools: [ToolDefinition::function("echo", "")].into(),
        yield_time_ms: Some(600_000),
        ..ExecuteRequest::new(source)
    };
    let response = service.execute(request).await.unwrap();
    assert!(matches!(response, RuntimeResponse::Result { error_text: None, .. }), "{response:?}");
    let fuel = response.report().usage.fuel;
    (response.into_content(), fuel)
}

#[tokio::test]
async fn a_run_replays_to_the_same_output_and_fuel() {
    let source = "
        text(Math.random()); text(Date.now()); text(new Date().toISOString());
        const all = await Promise.all([3, 1, 2].map((n) => tools.echo({ n, r: Math.random() })));
        text(all); await new Promise((r) => setTimeout(r, 5));
        text([...new Set(all.map((x) => x.n))].sort().join()); store('k', all);
        let s = ''; for (let i = 0; i < 1e5; i++) s += i; text(s.length);";
    let (one, other) = (engine(), engine());
    let first = run(&one, source).await;
    for engine in [&one, &other, &one] {
        // Neighbours change nothing.
        let (alone, _, again) = tokio::join!(
            run(engine, source),
            run(engine, "for (let i = 0; i < 1e6; i++);"),
            run(engine, source)
        );
        assert_eq!(alone, first);
        assert_eq!(again, first);
    }
}

/// Fuel of the workloads, as a contract: a change that costs fuel shows up as a diff.
/// `UPDATE_FUEL=1 cargo test --release -p cellblock-tests --test determinism` records anew.
#[tokio::test]
async fn workloads_use_the_recorded_fuel() {
    let expected_at = repository("tests/workloads/fuel.json");
    let recorded = std::fs::read_to_string(&expected_at).unwrap_or_else(|_| "{}".to_owned());
    let recorded: BTreeMap<String, u64> = serde_json::from_str(&recorded).unwrap();
    let checksums = BTreeMap::from([
        ("fib27", "196418"),
        ("json1mb", "22500:1192042"),
        ("loop5e6", "650538624"),
        ("objects", "25:d4:375388236"),
        ("regex", "293364"),
        ("sort200k", "29237:1074020570:2147465837"),
        ("strbuild", "3488890:1333334:-960808942"),
    ]);
    let engine = engine();
    let mut measured =
        BTreeMap::from([("text(1+1)".to_owned(), run(&engine, "text(1+1)").await.1)]);
    for (name, checksum) in checksums {
        let source =
            std::fs::read_to_string(repository(&format!("tests/workloads/{name}.js"))).unwrap();
        let (content, fuel) =
            run(&engine, &format!("text({})", source.trim_end().trim_end_matches(';'))).await;
        assert_eq!(content, [ContentItem::InputText { text: checksum.to_owned() }], "{name}");
        measured.insert(name.to_owned(), fuel);
    }
    if std::env::var_os("UPDATE_FUEL").is_some() {
        std::fs::write(expected_at, serde_json::to_string_pretty(&measured).unwrap() + "\n")
            .unwrap();
        return;
    }
    for (name, fuel) in &measured {
        let expected = recorded.get(name).copied().unwrap_or_default();
        let tolerance = expected * TOLERANCE_PERCENT / 100;
        assert!(fuel.abs_diff(expected) <= tolerance, "{name}: {fuel} fuel, recorded {expected}");
    }
}

/// Maps and sets find a key in a time that does not grow with their number.
#[tokio::test]
async fn the_fuel_of_maps_grows_with_their_size_and_not_its_square() {
    let engine = engine();
    for key in ["i", "i * 1024", "i / 8", "-i * 3", "i * 1e9", "BigInt(i)", "'k' + i", "{ i }"] {
        let mut fuel = Vec::new();
        for count in [5_000, 20_000] {
            let source = format!(
                "const set = new Set(), keys = Array.from({{ length: {count} }}, (_, i) => ({key}));
                 for (const key of keys) set.add(key);
                 if (!keys.every((key) => set.has(key))) throw 'lost'"
            );
            fuel.push(run(&engine, &source).await.1);
        }
        assert!(fuel[1] < fuel[0] * 6, "{key}: {fuel:?}");
    }
}
