//! Limits of the library that no other process can be given, and cells that end or wait in
//! ways that only the library can bring about.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use async_trait::async_trait;
use cellblock::{
    CellLimits, CellState, Clock, CodeModeBackend, CodeModeError, CodeModeNestedToolCall,
    CodeModeService, CodeModeTurnHost, Engine, ExecuteRequest, LimitKind, RuntimeResponse,
    SessionLimits, SystemRandom, ToolDefinition, ToolResult, WaitOutcome, WaitRequest, WasmBackend,
};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;

/// `echo` returns its input, `large` returns so many mebibytes, `never` does not return.
struct Tools;

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let input = call.input.map(cellblock::ToolInput::into_value).unwrap_or_default();
        match call.tool_name.name.as_str() {
            "never" => {
                cancellation.cancelled().await;
                Err("cancelled".to_owned())
            }
            "large" => {
                let mebibytes = usize::try_from(input.as_u64().unwrap_or(1)).unwrap();
                Ok(serde_json::Value::from("x".repeat(mebibytes * MIB)).into())
            }
            _ => Ok(input.into()),
        }
    }
}

fn session(limits: SessionLimits) -> CodeModeService {
    let backend = WasmBackend::with_limits(&Engine::shared().unwrap(), limits);
    CodeModeService::new(Arc::new(backend))
}

fn request(source: &str) -> ExecuteRequest {
    let tools = ["echo", "large", "never"].map(|name| ToolDefinition::function(name, ""));
    ExecuteRequest { enabled_tools: tools.into(), ..ExecuteRequest::new(source) }
}

async fn run(service: &CodeModeService, source: &str) -> (Option<LimitKind>, String) {
    match service.execute(request(source)).await.unwrap() {
        RuntimeResponse::Result { error_text, report, .. } => {
            (report.limit, error_text.unwrap_or_default())
        }
        other => panic!("it still runs: {other:?}"),
    }
}

#[tokio::test]
async fn what_the_host_holds_for_a_cell_is_bounded() {
    let cell = CellLimits { host_bytes: Some(4 * MIB), ..CellLimits::default() };
    let service = session(SessionLimits { cell, ..SessionLimits::default() });
    let _turn = service.start_turn_worker(Arc::new(Tools));
    for source in [
        "for (let i = 0; ; i++) tools.never('x'.repeat(1e6))",
        "for (let i = 0; i < 9; i++) text('x'.repeat(1e6))",
        "for (let i = 0; i < 9; i++) text('\\u0001'.repeat(2e5))",
        "tools.echo('x'.repeat(5e6))",
    ] {
        let (limit, text) = run(&service, source).await;
        assert_eq!(limit, Some(LimitKind::HostBytes), "{source}: {text}");
        assert!(text.starts_with("cell stopped: its host bytes limit of 4194304"), "{text}");
    }
    // What was delivered does not count any more.
    let source = "for (let i = 0; i < 20; i++) await tools.echo('x'.repeat(1e6))";
    assert_eq!(run(&service, source).await, (None, String::new()));
    // A result that does not fit is that call's error.
    let source = "try { await tools.large(5); throw 'it fits' } catch (e) { text(e) }";
    assert_eq!(run(&service, source).await, (None, String::new()));
    // The source and the tools count too.
    let long = format!("/* {} */", "x".repeat(4 * MIB - 10));
    let refused = service.execute(request(&long)).await.unwrap_err().to_string();
    assert!(refused.contains("the host may hold 4194304 bytes"), "{refused}");
    let described = ToolDefinition::function("tool", "x".repeat(5 * MIB));
    let refused =
        service.execute(ExecuteRequest { enabled_tools: [described].into(), ..request("1") }).await;
    assert!(matches!(refused, Err(CodeModeError::InvalidRequest(_))), "{refused:?}");
}

#[tokio::test]
async fn names_are_bounded() {
    let service = session(SessionLimits::default());
    let named = ToolDefinition::function("x".repeat(1_025), "");
    let named = ExecuteRequest { enabled_tools: [named].into(), ..request("1") };
    let call = ExecuteRequest { tool_call_id: "x".repeat(1_025), ..request("1") };
    for request in [named, call] {
        let refused = service.execute(request).await.unwrap_err().to_string();
        assert!(refused.contains("longer than 1024 bytes"), "{refused}");
    }
}

#[tokio::test]
async fn stored_values_of_a_session_are_bounded() {
    let limits = SessionLimits { stored_bytes: 1_000, stored_keys: 3, ..SessionLimits::default() };
    let service = session(limits);
    assert_eq!(run(&service, "store('a', 'x'.repeat(600))").await.0, None);
    let (limit, text) = run(&service, "store('b', 'x'.repeat(600)); store('c', 1)").await;
    assert_eq!(limit, Some(LimitKind::SessionStoredBytes), "{text}");
    assert!(text.starts_with("cell stopped: its session stored bytes limit of 1000"), "{text}");
    let stored = service.stored_values();
    assert_eq!(stored.keys().collect::<Vec<_>>(), ["a"], "nothing of it is stored");
    // A key that is written again makes room.
    assert_eq!(run(&service, "store('a', 1); store('b', 'x'.repeat(600))").await.0, None);
    let (limit, _) = run(&service, "store('c', 1); store('d', 1)").await;
    assert_eq!(limit, Some(LimitKind::SessionStoredKeys));
    assert_eq!(service.stored_values().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn unread_results_are_bounded_in_bytes() {
    let service = session(SessionLimits { unread_bytes: 1_500, ..SessionLimits::default() });
    let source = "await new Promise((r) => setTimeout(r, 1)); text('x'.repeat(1000))";
    for _ in 0..2 {
        let request = ExecuteRequest { yield_time_ms: Some(0), ..request(source) };
        service.execute(request).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wait = |id: &str| service.wait(WaitRequest { cell_id: id.into(), yield_time_ms: 1 });
    assert!(matches!(wait("1").await.unwrap(), WaitOutcome::MissingCell(_)));
    let WaitOutcome::LiveCell(kept) = wait("2").await.unwrap() else { panic!("it is dropped") };
    assert_eq!(kept.content_items()[0].byte_len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_can_never_go_on_is_stuck() {
    for (source, place) in [
        ("await new Promise(() => {})", Some("exec_main.mjs:1:1")),
        (
            "text(1);\nconst a = await tools.echo(1);\nawait Promise.race([])",
            Some("exec_main.mjs:3:1"),
        ),
        (
            "const t = setTimeout(() => {}, 5); clearTimeout(t); await new Promise(() => {})",
            Some("exec_main.mjs:1:53"),
        ),
    ] {
        let service = session(SessionLimits::default());
        let _turn = service.start_turn_worker(Arc::new(Tools));
        let request = ExecuteRequest { yield_time_ms: Some(100), ..request(source) };
        service.execute(request).await.unwrap();
        let cells = service.cells();
        let state = (cells[0].state, cells[0].stuck_at.as_deref());
        assert_eq!(state, (CellState::Stuck, place), "{source}");
        service.terminate("1".into()).await.unwrap();
    }
    for source in [
        "await tools.never()",
        "await new Promise((r) => setTimeout(r, 1e6))",
        "tools.never(); await new Promise(() => {})",
    ] {
        let service = session(SessionLimits::default());
        let _turn = service.start_turn_worker(Arc::new(Tools));
        let request = ExecuteRequest { yield_time_ms: Some(100), ..request(source) };
        service.execute(request).await.unwrap();
        assert_eq!(service.cells()[0].state, CellState::Waiting, "{source}");
        service.shutdown().await;
    }
    // Without a worker, what waits for one may still be served.
    let service = session(SessionLimits::default());
    let request = ExecuteRequest { yield_time_ms: Some(100), ..request("await tools.echo(1)") };
    service.execute(request).await.unwrap();
    assert_eq!(service.cells()[0].state, CellState::Waiting);
}

/// A clock that panics after some readings.
#[derive(Debug)]
struct Broken(std::sync::atomic::AtomicUsize);

impl Clock for Broken {
    fn wall(&self) -> Duration {
        Duration::ZERO
    }

    fn monotonic(&self) -> Duration {
        let left = self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        assert!(left > 0, "this clock is broken, as the test wants it");
        Duration::ZERO
    }
}

#[tokio::test]
async fn a_cell_whose_task_dies_ends() {
    for readings in 0..4 {
        let backend = WasmBackend::deterministic(
            &Engine::shared().unwrap(),
            SessionLimits { cells: 1, ..SessionLimits::default() },
            Arc::new(Broken(readings.into())),
            Arc::new(SystemRandom::default()),
        );
        let source = "for (;;) await new Promise((r) => setTimeout(r, 1))";
        let request = ExecuteRequest { yield_time_ms: Some(1), ..ExecuteRequest::new(source) };
        let id = backend.allocate_cell_id().unwrap();
        let values = cellblock::StoredValues::new();
        let mut response =
            backend.execute(id.clone(), request.clone(), values.clone()).await.unwrap();
        while let RuntimeResponse::Yielded { .. } = response {
            let wait = WaitRequest { cell_id: id.clone(), yield_time_ms: 60_000 };
            response = backend.wait(wait).await.unwrap().into();
        }
        let RuntimeResponse::Result { error_text, .. } = response else { panic!("{response:?}") };
        assert_eq!(error_text.as_deref(), Some("exec runtime ended unexpectedly"));
        // Its place is free, and it has left the list.
        assert!(backend.cells().is_empty());
        let next = backend.allocate_cell_id().unwrap();
        let again = backend.execute(next, request, values).await;
        assert!(!matches!(again, Err(CodeModeError::TooManyCells { .. })), "{again:?}");
    }
}
