//! A recorded cell runs again to the same output, the same end and the same fuel; a recording
//! that was changed is noticed, and harms nobody.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use async_trait::async_trait;
use cellblock::recording::{RecordedEvent, Recording, Recordings, Replay, ReplayError, Replayed};
use cellblock::{
    CellLimits, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, ContentItem, Engine,
    EngineConfig, ExecuteRequest, Language, RuntimeResponse, SessionLimits, StoredValues,
    ToolDefinition, ToolResult, WaitRequest, WasmBackend,
};
use cellblock_tests::repository;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(&EngineConfig::default()).unwrap());

struct Tools;

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let input = call.input.map_or(Value::Null, |input| {
            serde_json::from_str(&input.into_json().unwrap()).unwrap()
        });
        match call.tool_name.name.as_str() {
            "late" => {
                let ms = input["ms"].as_u64().unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(input.into())
            }
            "fail" => Err(format!("it failed: {input}")),
            "large" => Ok(ToolResult::from_json(format!("\"{}\"", "x".repeat(4 * MIB))).unwrap()),
            "never" => std::future::pending().await,
            _ => Ok(input.into()),
        }
    }

    async fn notify(
        &self,
        _tool_call_id: String,
        _cell_id: cellblock::CellId,
        _text: String,
        _cancellation: CancellationToken,
    ) -> Result<(), String> {
        Ok(())
    }
}

fn request(source: &str) -> ExecuteRequest {
    let tools = ["echo", "late", "fail", "large", "never", "giant", "nested", "forged"]
        .map(|name| ToolDefinition::function(name, format!("what {name} does")));
    ExecuteRequest {
        enabled_tools: tools.into(),
        yield_time_ms: Some(600_000),
        wants_value: true,
        ..ExecuteRequest::new(source)
    }
}

fn limits() -> CellLimits {
    CellLimits {
        running_time: Duration::from_millis(400),
        total_time: Duration::from_millis(800),
        memory_bytes: 64 * MIB,
        cancel_grace: Duration::from_millis(100),
        ..CellLimits::default()
    }
}

/// Runs a program to its end, and returns its recording.
async fn record(
    request: ExecuteRequest,
    cell: CellLimits,
    most_bytes: usize,
) -> (RuntimeResponse, Recording) {
    let backend =
        WasmBackend::with_limits(&ENGINE, SessionLimits { cell, ..SessionLimits::default() });
    let (kept, recordings) = mpsc::sync_channel(1);
    let keep = move |_: &_, recording| kept.try_send(recording).unwrap();
    backend.set_recordings(Some(Recordings::new(keep).limited_to(most_bytes)));
    let values = StoredValues::new();
    values.replace([("before".to_owned(), json!({ "a": [1, 2] }))].into());
    let service = CodeModeService::with_stored_values(Arc::new(backend), values);
    let _turn = service.start_turn_worker(Arc::new(Tools));
    let mut response = service.execute(request).await.unwrap();
    while let RuntimeResponse::Yielded { cell_id, content_items, .. } = response {
        let wait = WaitRequest { cell_id, yield_time_ms: 600_000 };
        response = service.wait(wait).await.unwrap().into();
        response.prepend(content_items);
    }
    service.shutdown().await;
    (response, recordings.try_recv().unwrap())
}

async fn replay(recording: &Recording, until: Option<u64>) -> Result<Replayed, ReplayError> {
    let replay = Replay::new(recording)?;
    // A slow machine may take longer than the one that recorded: no test is about that.
    let time = Duration::from_hours(24);
    let most = CellLimits { running_time: time, total_time: time, ..replay.limits().clone() };
    replay.run(&ENGINE, &most, until).await
}

/// Runs a program, and its recording: they must agree.
async fn both(request: ExecuteRequest, cell: CellLimits) -> (RuntimeResponse, Replayed) {
    let (response, recording) = record(request, cell, Recordings::MAX_BYTES).await;
    let replayed = replay(&recording, None).await.unwrap();
    assert_eq!(replayed.divergence, None, "{response:?}");
    if let RuntimeResponse::Result { error_text, report, .. } = &response {
        assert_eq!(&replayed.error_text, error_text);
        assert_eq!(replayed.fuel, report.usage.fuel, "{replayed:?} {response:?}");
        assert_eq!(replayed.content_items, response.clone().into_content());
    }
    (response, replayed)
}

fn texts(items: &[ContentItem]) -> Vec<&str> {
    items
        .iter()
        .map(|item| match item {
            ContentItem::InputText { text } => text.as_str(),
            _ => "",
        })
        .collect()
}

/// Everything that a program can learn from outside.
const RICH: &str = "
    text(Date.now()); text(new Date().toISOString()); text(typeof performance);
    text([Math.random(), Math.random()]);
    const late = [30, 1, 15].map((ms) => tools.late({ ms, r: Math.random() }));
    const order = [];
    late.forEach((each, n) => each.then(() => order.push(n)));
    const first = await Promise.race([...late, new Promise((r) => setTimeout(r, 5, 'timer'))]);
    text(first); text(await Promise.all(late)); text(order);
    try { await tools.fail({ why: 'x' }) } catch (error) { text(String(error)) }
    text(load('before')); text(load('absent')); store('after', Date.now());
    text(ALL_TOOLS.map((tool) => tool.description));
    notify('half way'); yield_control();
    let ticks = 0;
    await new Promise((done) => {
        const tick = () => (++ticks === 3 ? done() : setTimeout(tick, 2));
        tick();
    });
    for (let n = 0; n < 1e6; n++) if (n % 100000 === 0) text(Date.now() > 0);
    tools.never();
    ({ ticks, now: Date.now() })";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_reaches_the_same_output_and_fuel() {
    let (response, replayed) = both(request(RICH), CellLimits::default()).await;
    assert_eq!(replayed.end.as_deref(), Some("completed"), "{response:?}");
    assert_eq!(replayed.notifications, ["half way"]);
    assert!(replayed.events > 6, "{}", replayed.events);
    assert!(response.report().value.is_some());
    assert_eq!(texts(&replayed.content_items).len(), 21);
    let [waiting] = replayed.waiting.as_slice() else { panic!("{:?}", replayed.waiting) };
    assert_eq!((waiting.tool.as_str(), waiting.input.as_deref()), ("never", None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_end_again_as_they_ended() {
    let typescript = "enum E { A = 'a' }\nconst n: number = 1;\ntext(E.A as string); text(n)";
    for source in [
        "text('done'); exit()",
        "throw new TypeError('no')",
        "await tools.fail(1)",
        "await new Promise(() => {})",
        "let x = ;",
        "const a: number = 1; throw new Error('typed')",
        "store('a', 1n)",
        "({ then(r) { r(7) } })",
        typescript,
        "",
    ] {
        let cell = CellLimits { total_time: Duration::from_millis(100), ..limits() };
        both(request(source), cell).await;
    }
    let typed = ExecuteRequest { language: Language::Ts, ..request("let x: = 1") };
    both(typed, limits()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_met_again_where_they_were() {
    let bytes = |host_bytes| CellLimits { host_bytes: Some(host_bytes), ..limits() };
    for (source, cell, limit) in [
        ("for (;;) Math.random()", limits(), "running time"),
        ("text('a'.repeat(2e6).match(/(a+)+b/))", limits(), ""),
        ("text(1); for (;;);", CellLimits { fuel: 50_000_000, ..limits() }, "fuel"),
        ("await 1; for (;;) text(Date.now() + 'x'.repeat(1e4))", bytes(MIB), "host bytes"),
        (
            "const a = []; for (;;) a.push(new Array(1000).fill(a.length))",
            CellLimits { memory_bytes: 64 * MIB, ..CellLimits::default() },
            "memory",
        ),
        ("for (;;) tools.never()", limits(), "in flight"),
        ("await Promise.all(Array.from({ length: 20 }, () => tools.large()))", bytes(MIB), ""),
        ("for (;;) await tools.echo(Date.now())", CellLimits { calls: 20, ..limits() }, "calls"),
        ("await tools.never()", limits(), "total time"),
        (
            "const f = () => { text(Date.now()); setTimeout(f, 1) }; f(); await tools.never()",
            limits(),
            "total time",
        ),
        ("await new Promise(() => setTimeout(() => { for (;;); }, 5))", limits(), "running time"),
    ] {
        let (response, _) = both(request(source), cell).await;
        let RuntimeResponse::Result { error_text, .. } = response else { panic!("{response:?}") };
        let text = error_text.unwrap_or_default();
        assert!(text.contains(limit), "{source}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_programs_are_recorded_and_run_again() {
    let text = std::fs::read_to_string(repository("tests/hostile/programs.json")).unwrap();
    let programs: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    for (name, source) in programs {
        let cell = CellLimits {
            running_time: Duration::from_millis(60),
            total_time: Duration::from_millis(120),
            memory_bytes: 32 * MIB,
            ..limits()
        };
        let (_, recording) = record(request(&source), cell, 16 * MIB).await;
        let replayed = replay(&recording, None).await.unwrap();
        assert_eq!(replayed.divergence, None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_cell_is_stopped_again_in_the_same_place() {
    let backend = WasmBackend::with_limits(&ENGINE, SessionLimits::default());
    let (kept, recordings) = mpsc::sync_channel(1);
    backend.set_recordings(Some(Recordings::new(move |_, recording| {
        kept.try_send(recording).unwrap();
    })));
    let service = CodeModeService::new(Arc::new(backend));
    let spin = "text('before'); for (let n = 0;; n++) if (n % 1e6 === 0) text(n)";
    let request = ExecuteRequest { yield_time_ms: Some(30), ..request(spin) };
    let response = service.execute(request).await.unwrap();
    let RuntimeResponse::Yielded { cell_id, content_items, .. } = response else { panic!() };
    let end: RuntimeResponse = service.terminate(cell_id).await.unwrap().into();
    let replayed = replay(&recordings.recv().unwrap(), None).await.unwrap();
    assert_eq!(replayed.divergence, None);
    assert_eq!(replayed.end.as_deref(), Some("terminated"));
    assert_eq!(replayed.fuel, end.report().usage.fuel);
    let all: Vec<_> = content_items.into_iter().chain(end.into_content()).collect();
    assert_eq!(replayed.content_items, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_stops_before_an_event() {
    let source = "
        text('start'); const a = tools.late({ ms: 1 });
        text(await a); const b = tools.fail({ n: 2 });
        try { await b } catch { text('caught') }
        await new Promise((r) => setTimeout(r, 1)); text('end')";
    let (_, recording) = record(request(source), limits(), Recordings::MAX_BYTES).await;
    let events: Vec<_> = Replay::new(&recording).unwrap().events().collect();
    assert!(matches!(
        events.as_slice(),
        [RecordedEvent::Succeeded(..), RecordedEvent::Failed(..), RecordedEvent::Timer(_)]
    ));
    let first = replay(&recording, Some(1)).await.unwrap();
    assert_eq!(texts(&first.content_items), ["start"]);
    let [waiting] = first.waiting.as_slice() else { panic!("{first:?}") };
    assert_eq!((waiting.tool.as_str(), waiting.input.as_deref()), ("late", Some(r#"{"ms":1}"#)));
    assert_eq!(first.next.as_ref(), events.first());
    assert_eq!((first.events, first.end), (0, None));
    let third = replay(&recording, Some(3)).await.unwrap();
    assert_eq!((third.events, third.next.as_ref()), (2, events.get(2)));
    assert_eq!(texts(&third.content_items).last(), Some(&"caught"));
    assert!(third.waiting.is_empty() && third.timer.is_some());
    assert!(first.fuel < third.fuel);
    for asked in [0, 4, u64::MAX] {
        let refused = replay(&recording, Some(asked)).await;
        assert_eq!(refused, Err(ReplayError::NoEvent { events: 3, asked }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_is_bounded_and_says_so() {
    let source = "for (let n = 0; n < 3e5; n++) Date.now(); text(await tools.echo(1))";
    let (response, recording) = record(request(source), CellLimits::default(), 256 << 10).await;
    assert!(recording.as_bytes().len() < 257 << 10, "{}", recording.as_bytes().len());
    assert!(matches!(response, RuntimeResponse::Result { error_text: None, .. }));
    let replayed = replay(&recording, None).await.unwrap();
    assert_eq!(replayed.divergence, None);
    assert_eq!(replayed.end.as_deref(), Some("recorded in part"));
    assert!(replayed.content_items.is_empty());
    // A step that fits, and one that does not.
    let source = "text(await tools.echo('small')); text((await tools.large()).length)";
    let (_, recording) = record(request(source), CellLimits::default(), MIB).await;
    let replayed = replay(&recording, None).await.unwrap();
    assert_eq!(texts(&replayed.content_items), ["small"]);
    assert_eq!(replayed.waiting.len(), 1);
}

/// The lines of a recording as JSON.
fn lines(recording: &Recording) -> Vec<Value> {
    let text = std::str::from_utf8(recording.as_bytes()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn joined(lines: &[Value]) -> Recording {
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    Recording::from_bytes(lines.join("\n").into_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_was_changed_is_noticed() {
    let source = "text(Date.now() > 5); text((await tools.echo({ n: 1 })).n)";
    let (_, recording) = record(request(source), limits(), Recordings::MAX_BYTES).await;
    let whole = lines(&recording);
    assert_eq!(replay(&joined(&whole), None).await.unwrap().divergence, None);
    let changed = async |at: usize, pointer: &str, to: Value| {
        let mut lines = whole.clone();
        *lines[at].pointer_mut(pointer).unwrap() = to;
        replay(&joined(&lines), None).await
    };
    // Another result, another program, other fuel, other times.
    let result = changed(2, "/run/wait/0/succeeded/1", json!("{\"n\":2}")).await.unwrap();
    assert_eq!(result.divergence.as_ref().unwrap().line, 3);
    assert_eq!(texts(&result.content_items), ["true", "2"]);
    let program = changed(0, "/source", json!("text('other')")).await.unwrap();
    assert_eq!(program.divergence.unwrap().line, 2);
    let fuel = changed(1, "/fuel", json!(7)).await.unwrap();
    assert!(fuel.divergence.unwrap().what.contains("and 7 when it was recorded"));
    let times = changed(1, "/times", json!([])).await.unwrap();
    assert!(times.divergence.is_some());
    // What cannot be run at all.
    let refused = |result: Result<Replayed, ReplayError>| result.unwrap_err();
    let other = refused(changed(0, "/guest", json!("00")).await);
    assert!(matches!(other, ReplayError::OtherGuest { .. }));
    let version = refused(changed(0, "/cellblock_recording", json!(2)).await);
    assert_eq!(version, ReplayError::Version { found: 2 });
    let memory = refused(changed(0, "/limits/memory_bytes", json!(1)).await);
    assert!(matches!(memory, ReplayError::Line { line: 1, .. }), "{memory}");
    let started = refused(changed(1, "/run", json!("awaiting")).await);
    assert!(matches!(started, ReplayError::Line { line: 2, .. }), "{started}");
    let unknown = refused(changed(2, "/run", json!({ "sleep": 1 })).await);
    assert!(matches!(unknown, ReplayError::Line { line: 3, .. }), "{unknown}");
    for text in ["", "\n", "text(1)", "{}", "[]", "\u{0}", "{\"cellblock_recording\":1}"] {
        let recording = Recording::from_bytes(text.as_bytes());
        assert!(matches!(replay(&recording, None).await, Err(ReplayError::Line { .. })), "{text}");
    }
    let replay = Replay::new(&recording).unwrap();
    let less = CellLimits { fuel: 10, ..limits() };
    let over = replay.run(&ENGINE, &less, None).await;
    let Err(ReplayError::OverLimits(over)) = over else { panic!("{over:?}") };
    assert_eq!(
        (over.name.as_str(), over.value.as_str(), over.allowed.as_str()),
        ("fuel", "1000000000000", "10")
    );
    // A call that is made again, a program that is started again, events that nobody awaits.
    for again in [1, 2] {
        let mut lines = whole.clone();
        let line = lines[again].clone();
        lines.insert(3, line);
        let replayed = self::replay(&joined(&lines), None).await.unwrap();
        assert_eq!(replayed.divergence.unwrap().line, 4);
    }
}

/// An end that is cut off is missing, and one that the program cannot have is noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_was_changed_or_cut_off_is_noticed() {
    let programs = [
        ("text(await tools.echo(1)); store('k', 1)", 2, json!("completed")),
        ("await tools.fail(1)", 2, json!(null)),
        ("let x = ;", 1, json!(null)),
        ("text(1); for (;;) tools.echo(Date.now())", 1, json!(null)),
    ];
    for (source, steps, end) in programs {
        let cell = CellLimits { calls: 10, ..CellLimits::default() };
        let (_, recording) = record(request(source), cell, Recordings::MAX_BYTES).await;
        let whole = lines(&recording);
        assert_eq!(whole.len(), steps + 2, "{source}");
        assert_eq!(whole[steps + 1]["steps"], steps, "{source}");
        assert!(end.is_null() || whole[steps + 1]["end"] == end, "{source}");
        let same = replay(&recording, None).await.unwrap();
        assert_eq!((same.divergence, same.end.is_some()), (None, true), "{source}");
        for cut in 1..=steps + 1 {
            let replayed = replay(&joined(&whole[..cut]), None).await.unwrap();
            assert_eq!((replayed.divergence, replayed.end), (None, None), "{source}");
        }
        for (end, fits) in [
            (json!("completed"), end == "completed"),
            (json!("terminated"), source.starts_with("let")),
            (json!("parked"), false),
            (json!({ "failed": "something else" }), false),
            (
                json!({ "failed": "cell stopped: its session stored bytes limit of 1" }),
                steps == 2 && end == "completed",
            ),
        ] {
            let mut lines = whole.clone();
            lines[steps + 1]["end"] = end.clone();
            let replayed = replay(&joined(&lines), None).await.unwrap();
            let line = replayed.divergence.map(|divergence| divergence.line);
            assert_eq!(line, (!fits).then_some(steps + 2), "{source} {end}");
        }
        // Steps that were taken out, with the end as it was and with one that counts them.
        let mut lines = whole.clone();
        lines.remove(steps);
        assert!(replay(&joined(&lines), None).await.unwrap().divergence.is_some(), "{source}");
        lines[steps]["steps"] = json!(steps - 1);
        assert!(replay(&joined(&lines), None).await.unwrap().divergence.is_some(), "{source}");
        // An end that is not one.
        lines[steps] = json!({ "end": "completed" });
        assert!(matches!(replay(&joined(&lines), None).await, Err(ReplayError::Line { .. })));
    }
}

/// That a program's time was over is compared, too: with the limit that it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_by_time_is_that_of_the_cells_own_limit() {
    let never = request("await tools.never()");
    let (_, recording) = record(never, limits(), Recordings::MAX_BYTES).await;
    let whole = lines(&recording);
    let last = whole.len() - 1;
    let text = whole[last]["end"]["failed"].as_str().unwrap().to_owned();
    for (text, fits) in [
        (text.clone(), true),
        (text.replace("800 ms", "801 ms"), false),
        (text.replace("total", "running"), false),
        ("cell stopped: its total time limit of".to_owned(), false),
        ("failed to initialize code mode runtime: no".to_owned(), false),
    ] {
        let mut lines = whole.clone();
        lines[last]["end"]["failed"] = json!(text);
        let divergence = replay(&joined(&lines), None).await.unwrap().divergence;
        assert_eq!(divergence.is_none(), fits, "{text}");
    }
}

/// A program that waits for what cannot come is ended by who runs it: why is known again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_says_that_nothing_could_settle_an_await() {
    let backend = WasmBackend::with_limits(&ENGINE, SessionLimits::default());
    let (kept, recordings) = mpsc::sync_channel(1);
    backend.set_recordings(Some(Recordings::new(move |_, recording| {
        kept.try_send(recording).unwrap();
    })));
    let service = CodeModeService::new(Arc::new(backend));
    let stuck = ExecuteRequest { yield_time_ms: Some(0), ..request("await new Promise(() => {})") };
    let RuntimeResponse::Yielded { cell_id, .. } = service.execute(stuck).await.unwrap() else {
        panic!()
    };
    let place = service.until_stuck(&cell_id, Duration::from_millis(1)).await;
    let end: RuntimeResponse = service.terminate(cell_id).await.unwrap().into();
    let replayed = replay(&recordings.recv().unwrap(), None).await.unwrap();
    assert_eq!((replayed.divergence, replayed.end.as_deref()), (None, Some("terminated")));
    let RuntimeResponse::Result { error_text, .. } = end.unsettled(place) else { panic!() };
    assert_eq!(replayed.error_text, error_text);
}

/// Whatever a recording says of the fuel and the time that a cell had, a replay has its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_keeps_to_its_own_fuel_and_time() {
    let cell = CellLimits { running_time: Duration::from_millis(10), ..CellLimits::default() };
    let (_, recording) = record(request("text(1)"), cell.clone(), Recordings::MAX_BYTES).await;
    let mut forged = lines(&recording);
    forged[0]["source"] = json!("for (;;);");
    forged[1]["times"] = json!(vec![1_000_000; 100_000]);
    let most = CellLimits { total_time: Duration::from_millis(10), ..cell };
    forged[0]["limits"]["total_time"] = json!("10ms");
    let run = |lines: &[Value]| Replay::new(&joined(lines)).unwrap().run(&ENGINE, &most, None);
    let limit = Duration::from_millis(1_020);
    assert_eq!(run(&forged).await, Err(ReplayError::OutOfTime { limit }));
    forged[1]["fuel_left"] = json!(u64::MAX);
    let what = run(&forged).await.unwrap().divergence.unwrap().what;
    assert!(what.contains("and the cell has 1000000000000"), "{what}");
    // Fuel is not given twice.
    let steps = "await tools.echo(1); await tools.echo(2)";
    let (_, recording) = record(request(steps), CellLimits::default(), Recordings::MAX_BYTES).await;
    let mut forged = lines(&recording);
    forged[2]["fuel_left"] = forged[1]["fuel_left"].clone();
    let divergence = replay(&joined(&forged), None).await.unwrap().divergence.unwrap();
    assert_eq!(divergence.line, 3);
    assert!(divergence.what.contains("fuel left"), "{divergence:?}");
}

/// A recording whose program was exchanged for one that floods its host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_made_up_recording_keeps_to_its_limits() {
    let cell = CellLimits { fuel: 2_000_000_000, step_fuel: 2_000_000_000, ..limits() };
    let (_, recording) = record(request("text(1)"), cell, Recordings::MAX_BYTES).await;
    for (flood, most) in [
        ("for (;;) text('x'.repeat(1e6))", limits().output_bytes),
        ("for (;;) notify('x'.repeat(1e6))", limits().output_bytes),
        ("for (;;) text('')", limits().output_bytes),
        ("const a = 'x'.repeat(9e5); for (;;) tools.echo(a)", 300 << 20),
        ("for (;;) tools.echo(1)", MIB),
    ] {
        let mut lines = lines(&recording);
        *lines[0].pointer_mut("/source").unwrap() = json!(flood);
        let replayed = replay(&joined(&lines), None).await.unwrap();
        assert!(replayed.divergence.is_some(), "{flood}");
        let inputs: usize =
            replayed.waiting.iter().map(|call| call.input.as_ref().map_or(0, String::len)).sum();
        let output: usize = texts(&replayed.content_items).iter().map(|text| text.len()).sum();
        let notified: usize = replayed.notifications.iter().map(String::len).sum();
        let held = inputs + output + notified;
        assert!(held <= most, "{flood}: {held}");
        assert!(replayed.content_items.len() <= limits().output_items);
        assert!(replayed.waiting.len() as u64 <= limits().calls);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A damaged recording is refused, or goes another way; nothing panics or runs on.
    #[test]
    fn damaged_recordings_do_no_harm(places in prop::collection::vec((0usize..1 << 20, any::<u8>()), 1..8)) {
        static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let cell = CellLimits { fuel: 50_000_000, ..limits() };
            let (_, recording) = runtime.block_on(record(request(RICH), cell, 16 * MIB));
            recording.as_bytes().to_vec()
        });
        let mut bytes = WHOLE.clone();
        for (at, byte) in places {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // What comes of it is either; that something does is the rule.
        let _ = runtime.block_on(replay(&Recording::from_bytes(bytes), None));
    }
}
