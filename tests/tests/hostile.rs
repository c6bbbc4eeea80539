//! Hostile programs: each is stopped by a limit that is named, in time and within its
//! memory, and the next cell on the same service runs at once. Prints the matrix.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(clippy::print_stdout, reason = "the matrix is what the test is run for")]

use async_trait::async_trait;
use cellblock::{
    CellLimits, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, ExecuteRequest,
    LimitKind, RuntimeResponse, SessionLimits, ToolDefinition, ToolResult, WaitRequest,
};
use cellblock_tests::backends::Backends;
use cellblock_tests::memory;
use cellblock_tests::repository;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;
/// The tests watch the memory of the process, so each runs alone.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// What one cell may make the host grow by, beyond its memory limit.
const BEYOND: usize = 64 * MIB;
/// Limits small enough for a test of many programs.
const RUNNING_TIME: Duration = Duration::from_millis(400);
const TOTAL_TIME: Duration = Duration::from_millis(800);
const MEMORY: usize = 64 * MIB;
/// How much later than its deadline a cell may answer, on a machine that other tests share.
const LATENESS: Duration = Duration::from_millis(500);

/// Programs that a limit need not stop, because they end: the language refuses what
/// they ask for, or they are not as bad as they look.
const ENDING: [&str; 19] = [
    "bigint",
    "eval-nesting",
    "jsonnest",
    "long-names",
    "native-bigint-parse",
    "native-bigint-pow",
    "nestflat",
    "proxy-depth",
    "recurse",
    "regex-huge-class",
    "regex-lookbehind",
    "result-giant",
    "result-nested",
    "string-pad",
    "template-nesting",
    "throw-calls",
    "throw-huge-text",
    "tojson-grows",
    "tostring-reenter",
];

struct Tools;

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        match call.tool_name.name.as_str() {
            "giant" => Ok(json!(vec!["x".repeat(1000); 20_000]).into()),
            // Sixty of them would be more than the host may grow by, and one takes the tool
            // itself little memory.
            "large" => Ok(ToolResult::from_json(format!("\"{}\"", "x".repeat(4 * MIB))).unwrap()),
            "nested" => {
                Ok((0..10_000).fold(Value::Null, |inner, _| Value::Array(vec![inner])).into())
            }
            // A result that looks like a promise, and one that looks like ours.
            "forged" => {
                Ok(json!({ "then": "function", "__proto__": { "then": 1 }, "id": "tool-1" }).into())
            }
            _ => Ok(call.input.map_or_else(|| Value::Null.into(), ToolResult::from)),
        }
    }
}

fn limits() -> SessionLimits {
    let cell = CellLimits {
        running_time: RUNNING_TIME,
        total_time: TOTAL_TIME,
        memory_bytes: MEMORY,
        output_bytes: 8 * MIB,
        input_bytes: MIB,
        stored_bytes: MIB,
        result_bytes: 32 * MIB,
        calls: 10_000,
        cancel_grace: Duration::from_millis(100),
        ..CellLimits::default()
    };
    SessionLimits { cell, ..SessionLimits::default() }
}

fn request(source: &str) -> ExecuteRequest {
    let tools = ["echo", "giant", "large", "nested", "forged"]
        .map(|name| ToolDefinition::function(name, ""));
    ExecuteRequest {
        enabled_tools: tools.into(),
        yield_time_ms: Some(600_000),
        ..ExecuteRequest::new(source)
    }
}

async fn to_the_end(service: &CodeModeService, source: &str) -> RuntimeResponse {
    let mut response = service.execute(request(source)).await.unwrap();
    while let RuntimeResponse::Yielded { cell_id, .. } = response {
        let wait = WaitRequest { cell_id, yield_time_ms: 600_000 };
        response = service.wait(wait).await.unwrap().into();
    }
    response
}

fn stopped_by(response: &RuntimeResponse) -> (Option<LimitKind>, String) {
    let RuntimeResponse::Result { error_text, report, .. } = response else {
        panic!("not a result: {response:?}")
    };
    (report.limit, error_text.clone().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_program_is_stopped_named_and_costs_nobody_else_anything() {
    let _alone = ALONE.lock().await;
    let text = std::fs::read_to_string(repository("tests/hostile/programs.json")).unwrap();
    let programs: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    assert!(programs.len() > 41, "{}", programs.len());
    let service = CodeModeService::new(Backends::Wasm.session(limits()));
    let _turn = service.start_turn_worker(Arc::new(Tools));
    let mut problems = Vec::new();
    println!(
        "| program | stopped by | ms | peak MiB | host grew MiB | next cell ms |\n|---|---|---|---|---|---|"
    );
    for (name, source) in &programs {
        let before = memory::reset_peak();
        let started = Instant::now();
        let response = to_the_end(&service, source).await;
        let took = started.elapsed();
        let grown = memory::peak().saturating_sub(before);
        let (limit, error) = stopped_by(&response);
        let peak = response.report().usage.peak_memory_bytes;

        let started = Instant::now();
        let next = to_the_end(&service, "text(await tools.echo('alive'))").await;
        let next_took = started.elapsed();

        let how = limit
            .map_or_else(|| error.lines().next().unwrap_or_default().to_owned(), |l| l.to_string());
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let peak_mib = peak as f64 / MIB as f64;
        println!(
            "| {name} | {how} | {:.0} | {peak_mib:.0} | {} | {:.2} |",
            took.as_secs_f64() * 1e3,
            grown / MIB,
            next_took.as_secs_f64() * 1e3
        );
        let mut check = |holds: bool, what: &str| {
            if !holds {
                problems.push(format!("{name}: {what}: {how} after {took:?}; {error}"));
            }
        };
        check(limit.is_some() || ENDING.contains(&name.as_str()), "no limit stopped it");
        check(limit.is_none() || error.starts_with("cell stopped: its "), "the limit is not named");
        check(!error.contains("wasm") && !error.contains("unexpectedly"), "a bare trap");
        check(took < TOTAL_TIME + LATENESS, "it was late");
        check(peak <= (MEMORY + MEMORY / 10) as u64, "it passed its memory");
        check(grown <= MEMORY + BEYOND, "the host grew too much");
        check(next.content_items().len() == 1, "the next cell did not run");
    }
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
    assert!(service.stored_values().is_empty(), "a cell that met a limit has stored something");
    assert!(service.cells().is_empty());
}

/// Programs that run at one time.
const AT_ONCE: usize = 20;

/// All programs, twenty at a time: the host grows by the sum of their limits and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_hostile_programs_at_once_keep_to_their_memory() {
    let _alone = ALONE.lock().await;
    let text = std::fs::read_to_string(repository("tests/hostile/programs.json")).unwrap();
    let programs: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    let service = CodeModeService::new(Backends::Wasm.session(limits()));
    let _turn = service.start_turn_worker(Arc::new(Tools));
    let before = memory::reset_peak();
    let sources: Vec<_> = programs.into_values().collect();
    for batch in sources.chunks(AT_ONCE) {
        let cells: tokio::task::JoinSet<_> = batch
            .iter()
            .map(|source| {
                let (service, source) = (service.clone(), source.clone());
                async move { to_the_end(&service, &source).await }
            })
            .collect();
        cells.join_all().await;
    }
    let grown = memory::peak().saturating_sub(before);
    println!("twenty at once: the host grew by {} MiB", grown / MIB);
    assert!(grown <= AT_ONCE * MEMORY + BEYOND, "the host grew by {} MiB", grown / MIB);
    assert_eq!((service.stored_values(), service.cells()), Default::default());
}
