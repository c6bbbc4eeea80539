//! What the monitor of a cell receives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use async_trait::async_trait;
use cellblock::{
    CellEvent, CellMonitor, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost,
    ExecuteRequest, Language, MonitorHandle, RuntimeResponse, ToolDefinition, ToolResult,
    WaitRequest, WasmBackend,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// Answers with what it is given, after the runtime has done all else; fails without an input.
struct Echo;

#[async_trait]
impl CodeModeTurnHost for Echo {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        call.input.map(ToolResult::from).ok_or_else(|| "no input".to_owned())
    }
}

/// Keeps what it receives, in a line each.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl CellMonitor for Log {
    fn event(&self, event: CellEvent<'_>) {
        let line = match event {
            CellEvent::Started => "started".to_owned(),
            CellEvent::Waiting { place, .. } => {
                let place = place.and_then(|place| place.strip_prefix("exec_main.mjs:"));
                format!("waits {}", place.unwrap_or("somewhere"))
            }
            CellEvent::Resumed => "resumed".to_owned(),
            CellEvent::Output(item) => format!("output of {}", item.byte_len()),
            CellEvent::Notification(text) => format!("notification {text}"),
            CellEvent::CallStarted(call) => {
                let input = call.input.as_ref().and_then(|input| input.as_json()).unwrap_or("-");
                format!("{} {input}", call.runtime_tool_call_id)
            }
            CellEvent::CallEnded { runtime_tool_call_id, result } => {
                format!("{runtime_tool_call_id} {result:?}")
            }
            CellEvent::Yielded { .. } => "yielded".to_owned(),
            CellEvent::Ended(RuntimeResponse::Result { error_text, .. }) => {
                let error = error_text.as_deref().and_then(|text| text.lines().next());
                format!("ended {}", error.unwrap_or("well"))
            }
            CellEvent::Ended(_) => "terminated".to_owned(),
            _ => "something else".to_owned(),
        };
        self.0.lock().unwrap().push(line);
    }
}

fn service() -> CodeModeService {
    CodeModeService::new(Arc::new(WasmBackend::new().unwrap()))
}

fn request(source: &str, monitor: MonitorHandle) -> ExecuteRequest {
    ExecuteRequest {
        enabled_tools: [ToolDefinition::function("echo", "")].into(),
        yield_time_ms: Some(600_000),
        monitor,
        ..ExecuteRequest::new(source)
    }
}

/// What a monitor receives of a program.
async fn follow(
    change: impl FnOnce(ExecuteRequest) -> ExecuteRequest,
    source: &str,
) -> Vec<String> {
    let service = service();
    let _turn = service.start_turn_worker(Arc::new(Echo));
    let log = Arc::new(Log::default());
    let request = change(request(source, MonitorHandle::new(Arc::clone(&log) as _)));
    service.execute(request).await.unwrap();
    let log = log.0.lock().unwrap();
    log.clone()
}

#[tokio::test]
async fn a_monitor_receives_everything_in_order() {
    let source = "
        text('abc'); notify('n');
        const one = await tools.echo(1);
        async function deeper() { await 0; return tools.echo(); }
        await deeper().catch(text);
        await new Promise((done) => setTimeout(done, 1));
        throw new Error('no');";
    let log = follow(|request| request, source).await;
    let expected = [
        "started",
        "output of 3",
        "notification n",
        "tool-1 1",
        "waits 3:21",
        "tool-1 Ok(\"1\")",
        "resumed",
        "tool-2 -",
        "waits 5:9",
        "tool-2 Err(\"no input\")",
        "resumed",
        "output of 8",
        "waits 6:9",
        "resumed",
        "ended Error: no",
    ];
    assert_eq!(log, expected);
}

/// Also where the program is wrapped for its value, or was TypeScript.
#[tokio::test]
async fn places_are_those_of_the_author() {
    let source = "const all: number[] = [1]; for (const one of all) await tools.echo(one);\n\n  \
                  const x = await tools.echo(2);\nif (x) { return 5 }";
    for language in [Language::Auto, Language::Ts] {
        let wanted = |request| ExecuteRequest { wants_value: true, language, ..request };
        let log = follow(wanted, source).await;
        let waits: Vec<_> = log.iter().filter(|line| line.starts_with("waits")).collect();
        assert_eq!(waits, ["waits 1:51", "waits 3:13"], "{log:?}");
        assert_eq!(log.last().unwrap(), "ended well");
    }
}

#[tokio::test]
async fn yields_and_terminations_are_reported() {
    let service = service();
    let _turn = service.start_turn_worker(Arc::new(Echo));
    let log = Arc::new(Log::default());
    let monitor = MonitorHandle::new(Arc::clone(&log) as _);
    let source = "yield_control(); await new Promise((done) => setTimeout(done, 1e6))";
    let response = service.execute(request(source, monitor)).await.unwrap();
    let cell_id = response.cell_id().clone();
    let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: 1 };
    service.wait(wait).await.unwrap();
    service.terminate(cell_id).await.unwrap();
    let log = log.0.lock().unwrap();
    let others: Vec<_> = log.iter().filter(|line| !line.starts_with("waits")).collect();
    assert_eq!(others, ["started", "yielded", "yielded", "terminated"], "{log:?}");
}

/// A program costs the same fuel whether or not somebody follows it, and one that follows it
/// badly harms nobody.
#[tokio::test]
async fn a_monitor_changes_nothing() {
    struct Panics(AtomicU32);
    impl CellMonitor for Panics {
        fn event(&self, _event: CellEvent<'_>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("a monitor that panics");
        }
    }
    let service = service();
    let _turn = service.start_turn_worker(Arc::new(Echo));
    let source = "for (let i = 0; i < 20; i++) text(await tools.echo(i)); load('x')";
    let run = async |monitor: MonitorHandle| {
        let response = service.execute(request(source, monitor)).await.unwrap();
        (response.content_items().to_vec(), response.report().usage.fuel)
    };
    let alone = run(MonitorHandle::default()).await;
    let log = Arc::new(Log::default());
    let followed = run(MonitorHandle::new(Arc::clone(&log) as _)).await;
    assert_eq!(followed, alone);
    assert_eq!(Arc::strong_count(&log), 1, "an ended cell has no monitor");
    let panics = Arc::new(Panics(AtomicU32::new(0)));
    assert_eq!(run(MonitorHandle::new(Arc::clone(&panics) as _)).await, alone);
    assert_eq!(panics.0.load(Ordering::SeqCst), 1, "one that panics receives nothing more");
}
