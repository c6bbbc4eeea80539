//! Parking: a cell that waits leaves its session as bytes, and goes on from them.

use super::bench::{
    Bench, assert_completed, assert_terminated, assert_yielded, error_of, items_texts, live,
    texts_of,
};
use crate::backends::Backends;
use cellblock::{
    CellLimits, ExecuteToPendingOutcome, LimitKind, ParkedCell, PendingCalls, RuntimeResponse,
    SessionLimits, StoredValues, ToolDefinition, WaitOutcome, WakeRequest,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A wake request with the end of a call.
fn woken_with(cell: ParkedCell, id: &str, result: serde_json::Value) -> WakeRequest {
    let mut calls = PendingCalls::default();
    calls.insert(id, Ok(result.into()));
    WakeRequest { calls, ..WakeRequest::new(cell) }
}

/// How often something is in the host's log.
fn count(bench: &Bench, line: &str) -> usize {
    bench.host.log().iter().filter(|each| *each == line).count()
}

/// Everything that the program knows is there: variables, closures, generators, promises.
pub async fn a_parked_cell_goes_on_where_it_was(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "
        class Counter { #n = 40; next() { return ++this.#n } }
        const counter = new Counter(); counter.next();
        const numbers = (function* () { let n = 0; while (true) yield n++ })(); numbers.next();
        const map = new Map([[{ a: 1 }, 'x'], ['k', 5n]]);
        const sticky = /a(\\d)/y; sticky.exec('a1a2');
        const later = (async () => { const v = await tools.gate(); return [v, numbers.next().value] })();
        text('before'); yield_control();
        const all = await Promise.all([later, tools.gate()]);
        text({ all, counter: counter.next(), keys: [...map.keys()], big: String(map.get('k')) });
        text(sticky.exec('a1a2')[1]); text(numbers.next().value);";
    assert_yielded(&bench.execute(source).await, &["before"]);
    let parked = bench.park("1").await;
    let ids: Vec<_> = parked.calls.iter().map(|(id, tool)| (id, tool.cloned())).collect();
    assert_eq!(ids.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["tool-1", "tool-2"]);
    bench.host.gate.notify_waiters();
    let response = bench.wake(parked).await;
    assert_eq!(response.cell_id().as_ref(), "2");
    let all = r#"{"all":[[null,1],null],"counter":42,"keys":[{"a":1},"k"],"big":"5"}"#;
    assert_completed(&response, &[all, "2", "2"]);
}

/// A nested call that runs goes on, and its end reaches the woken cell.
pub async fn calls_run_on_while_their_cell_is_parked(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("text(await tools.nap({ ms: 50 })); text(await tools.echo(7))").await;
    let parked = bench.park("1").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(count(&bench, "returned nap"), 1, "it has ended while its cell was parked");
    assert_completed(&bench.wake(parked).await, &[r#"{"ms":50}"#, "7"]);
    assert_eq!((count(&bench, "call nap"), count(&bench, "call echo")), (1, 1));
    bench.start("text(await tools.gate()); text('second')").await;
    let parked = bench.park("3").await;
    let request = WakeRequest {
        calls: parked.calls,
        yield_time_ms: Some(1),
        ..WakeRequest::new(parked.cell)
    };
    assert_yielded(&bench.service.wake(request).await.expect("woken"), &[]);
    bench.host.gate.notify_one();
    assert_completed(&live(bench.wait("4").await), &["null", "second"]);
    assert_eq!(count(&bench, "call gate"), 1);
}

/// The turn's host is asked for the end of a call that nobody has, by the woken cell's id.
pub async fn a_call_that_the_waker_does_not_have_is_resumed_by_the_turns_host(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("text(await tools.nap({ ms: 60000 }))").await;
    let cell = bench.park("1").await.cell;
    assert_eq!(count(&bench, "call nap"), 1);
    let response =
        bench.service.wake(WakeRequest { yield_time_ms: Some(1), ..WakeRequest::new(cell) });
    assert_yielded(&response.await.expect("woken"), &[]);
    bench.settle().await;
    assert_eq!(count(&bench, "resume nap tool-1"), 1);
    let call = bench.host.calls().pop().expect("a call");
    assert_eq!(call.runtime_tool_call_id, "tool-1");
    assert_eq!(call.input.map(cellblock::ToolInput::into_value), Some(json!({ "ms": 60000 })));
}

/// The end of a call may be known to the waker alone.
pub async fn ends_of_calls_can_be_given_when_the_cell_is_woken(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "
        const [a, b] = await Promise.allSettled([tools.stone(1), tools.stone(2)]);
        text(a.value); text(b.reason)";
    bench.start(source).await;
    let cell = bench.park("1").await.cell;
    let mut calls = PendingCalls::default();
    calls.insert("tool-2", Err("refused".to_owned()));
    calls.insert("tool-1", Ok(json!({ "by": "a person" }).into()));
    let request = WakeRequest { calls, ..WakeRequest::new(cell.clone()) };
    let response = bench.service.wake(request).await.expect("woken");
    assert_completed(&response, &[r#"{"by":"a person"}"#, "refused"]);
    for unknown in ["tool-3", "tool-0", "tool-", "", "1"] {
        let refused = bench.service.wake(woken_with(cell.clone(), unknown, json!(1))).await;
        let text = refused.expect_err("there is no such call").to_string();
        assert_eq!(text, format!("the parked cell has no pending call {unknown}"));
    }
}

/// What has reached the cell before it is parked is in its bytes, and the rest is with the
/// caller: none is lost, and none is there twice.
pub async fn calls_that_ended_before_the_cell_was_parked_are_not_lost(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "
        const calls = [];
        for (let i = 0; i < 40; i++) calls.push(tools.nap({ ms: i % 8, i }).then((v) => v.i));
        calls.push(tools.gate());
        const all = await Promise.all(calls); all.pop();
        text(all.join() === [...Array(40).keys()].join())";
    for round in 0_u64..8 {
        let response = bench.start(source).await;
        let id = response.cell_id().clone();
        tokio::time::sleep(Duration::from_millis(round)).await;
        let parked = bench.park(id.as_ref()).await;
        let woken = bench.service.wake(WakeRequest {
            calls: parked.calls,
            yield_time_ms: Some(1),
            ..WakeRequest::new(parked.cell)
        });
        let woken = woken.await.expect("woken").cell_id().clone();
        bench.settle().await;
        bench.host.gate.notify_one();
        let mut texts = Vec::new();
        while let WaitOutcome::LiveCell(response) = bench.wait(woken.as_ref()).await {
            texts.extend(texts_of(&response));
        }
        assert_eq!(texts, ["true"], "round {round}");
    }
    assert_eq!(count(&bench, "call nap"), 8 * 40);
    assert!(!bench.host.log().iter().any(|line| line.starts_with("resume")));
}

/// A caller that drops the calls does not want their ends.
pub async fn calls_of_a_parked_cell_are_cancelled_when_they_are_dropped(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.hang()").await;
    bench.settle().await;
    let parked = bench.park("1").await;
    bench.settle().await;
    assert_eq!(count(&bench, "returned hang"), 0);
    drop(parked.calls);
    bench.settle().await;
    assert_eq!(count(&bench, "returned hang"), 1);
}

/// Output that was answered to a caller that went away is not lost, and comes first: it is
/// beside the cell where it had left the cell's host, and in the cell otherwise.
pub async fn output_that_nobody_received_goes_with_the_cell(backends: Backends) {
    let bench = Bench::new(backends);
    bench.abandon("text('a'); yield_control(); text('b'); await tools.gate(); text('c')").await;
    let parked = bench.park("1").await;
    bench.host.gate.notify_one();
    let mut texts = items_texts(&parked.content_items);
    let response = bench.wake(parked).await;
    assert_eq!(error_of(&response), None);
    texts.extend(texts_of(&response));
    assert_eq!(texts, ["a", "b", "c"]);
}

/// A timer's delay does not count while its cell is parked, and the program's clock goes on.
pub async fn timers_have_as_long_to_go_as_when_the_cell_was_parked(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "
        const began = performance.now();
        await new Promise((resolve) => setTimeout(resolve, 1000));
        const took = performance.now() - began; text(took >= 1000 && took < 60000);";
    let source = source.replace("performance.now()", "Date.now()").replace(" && took < 60000", "");
    bench.start(&source).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let parked = bench.park("1").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let began = Instant::now();
    assert_completed(&bench.wake(parked).await, &["true"]);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
}

/// Time that its waker says has passed counts for a cell's timers, and for its total time.
pub async fn elapsed_time_counts(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "await new Promise((done) => setTimeout(done, 3600e3)); text('due')";
    let woken_after = |cell, elapsed| WakeRequest {
        elapsed,
        yield_time_ms: Some(60_000),
        ..WakeRequest::new(cell)
    };
    bench.start(source).await;
    let parked = bench.park("1").await;
    let hour = Duration::from_hours(1);
    let wakes_in = parked.wakes_in.expect("a timer is due");
    assert!(wakes_in <= hour && wakes_in > Duration::from_mins(59), "{wakes_in:?}");
    let response = bench.service.wake(woken_after(parked.cell, hour)).await.expect("woken");
    assert_completed(&response, &["due"]);
    bench.start(source).await;
    let parked = bench.park("3").await;
    let all = CellLimits::default().total_time;
    let response = bench.service.wake(woken_after(parked.cell, all)).await.expect("woken");
    assert_eq!(response.report().limit, Some(LimitKind::TotalTime));
}

/// The second of two has another id, and its random numbers go on in another way.
pub async fn a_cell_that_is_woken_twice_is_forked(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "Math.random(); const kept = 'kept'; await tools.stone();
                  text(kept); text([Math.random(), Math.random(), Math.random()].join())";
    bench.start(source).await;
    let cell = bench.park("1").await.cell;
    let mut numbers = Vec::new();
    for id in ["2", "3", "4"] {
        let response = bench.service.wake(woken_with(cell.clone(), "tool-1", json!(null)));
        let response = response.await.expect("woken");
        assert_eq!((response.cell_id().as_ref(), error_of(&response)), (id, None));
        let texts = texts_of(&response);
        assert_eq!(texts[0], "kept");
        numbers.push(texts[1].clone());
    }
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), 3, "they have the same random numbers");
}

/// Its id is not used again, and it counts no more.
pub async fn a_parked_cell_has_left_its_session(backends: Backends) {
    let bench =
        Bench::with_limits(backends, SessionLimits { cells: 1, ..SessionLimits::default() });
    bench.start("await tools.stone()").await;
    let parked = bench.park("1").await;
    assert!(bench.service.cells().is_empty());
    bench.settle().await;
    assert_eq!(count(&bench, "closed 1"), 1);
    let gone = "exec cell 1 not found: it was parked";
    let WaitOutcome::MissingCell(missing) = bench.wait("1").await else { panic!("it is there") };
    assert_eq!(error_of(&missing), Some(gone));
    let again = bench.service.park("1".into()).await.expect_err("it was parked");
    assert_eq!(again.to_string(), gone);
    assert_eq!(bench.texts("text('room')").await, ["room"]);
    bench.start("await tools.stone()").await;
    let refused = bench.service.wake(WakeRequest::new(parked.cell.clone())).await;
    let text = refused.expect_err("one is all").to_string();
    assert!(text.starts_with("code-mode host has too many active cells"), "{text}");
    live(bench.service.terminate("3".into()).await.expect("it lives"));
    bench.settle().await;
    // A wake that was refused has not made the next one a fork, and used no id twice.
    let response = bench.service.wake(woken_with(parked.cell, "tool-1", json!(1))).await;
    assert_completed(&response.expect("woken"), &[]);
}

/// Its result stays for whoever fetches it.
pub async fn a_cell_that_has_ended_is_not_parked(backends: Backends) {
    let bench = Bench::new(backends);
    let never = bench.service.park("7".into()).await.expect_err("there is no such cell");
    assert_eq!(never.to_string(), "exec cell 7 not found");
    bench.start("await tools.gate(); text('end')").await;
    bench.host.gate.notify_one();
    bench.settle().await;
    let ended = bench.service.park("1".into()).await.expect_err("it has ended").to_string();
    assert_eq!(ended, "exec cell 1 ended before it could be parked; wait for its result");
    assert_completed(&live(bench.wait("1").await), &["end"]);
    let read = bench.service.park("1".into()).await.expect_err("it is gone").to_string();
    assert!(read.starts_with("exec cell 1 not found"), "{read}");
}

/// A program that runs is parked once it waits.
pub async fn a_cell_is_parked_when_it_comes_to_rest(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "const until = Date.now() + 300; while (Date.now() < until); text('ran');
                  await tools.gate(); text('on')";
    assert_yielded(&bench.start(source).await, &[]);
    let parked = bench.park("1").await;
    bench.host.gate.notify_one();
    assert_completed(&bench.wake(parked).await, &["ran", "on"]);
}

/// Only a caller that is there gets the cell.
pub async fn a_caller_that_goes_away_leaves_the_cell_where_it_is(backends: Backends) {
    let bench = Bench::new(backends);
    let mut attempts = 0;
    let id = loop {
        let response = bench.start("text('a'); text(await tools.gate('x')); text('b')").await;
        let id = response.cell_id().clone();
        let mut parking = Box::pin(bench.service.park(id.clone()));
        if let Ok(parked) = timeout(Duration::ZERO, &mut parking).await {
            // On a busy machine the answer may come before the caller goes away.
            drop(parked.expect("it waits"));
        } else {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            break id;
        }
        attempts += 1;
        assert!(attempts < 20, "the caller never went away in time");
    };
    bench.settle().await;
    // It is not parked, or it was not received: in both cases the caller has no cell.
    bench.host.gate.notify_one();
    assert_completed(&live(bench.wait(id.as_ref()).await), &["x", "b"]);
}

/// A cell that never waits is not parked, and can still be ended.
pub async fn termination_comes_before_parking(backends: Backends) {
    let bench = Bench::new(backends);
    let spins = "text('spins'); yield_control(); while (true);";
    assert_yielded(&bench.execute(spins).await, &["spins"]);
    let park = || {
        let service = bench.service.clone();
        tokio::spawn(async move { service.park("1".into()).await })
    };
    let both = [park(), park()];
    bench.settle().await;
    assert_terminated(&live(bench.service.terminate("1".into()).await.expect("it lives")), &[]);
    for parking in both {
        let refused = parking.await.expect("no panic").expect_err("it was terminated").to_string();
        let is_expected = refused == "exec cell 1 is already being parked"
            || refused.starts_with("exec cell 1 not found")
            || refused.starts_with("exec cell 1 ended before");
        assert!(is_expected, "{refused}");
    }
}

/// It receives the output so far, which is not in the bytes then.
pub async fn an_observer_is_answered_when_the_cell_is_parked(backends: Backends) {
    let bench = Bench::new(backends);
    bench
        .start("await tools.nap({ ms: 200 }); text('seen'); await tools.gate(); text('end')")
        .await;
    let service = bench.service.clone();
    let observing = tokio::spawn(async move {
        let request = cellblock::WaitRequest { cell_id: "1".into(), yield_time_ms: 9_000 };
        service.wait(request).await
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    let parked = bench.park("1").await;
    let observed = observing.await.expect("no panic").expect("an answer");
    assert_yielded(&live(observed), &["seen"]);
    bench.host.gate.notify_one();
    assert_completed(&bench.wake(parked).await, &["end"]);
}

/// The program reads what it saw at its start, and what it wrote is committed at its end.
pub async fn stored_values_are_those_that_the_cell_saw_and_wrote(backends: Backends) {
    let bench = Bench::new(backends);
    bench.texts("store('k', { v: 1 })").await;
    bench.start("store('mine', 1); await tools.stone(); text(load('k')); text(load('mine'))").await;
    let cell = bench.park("2").await.cell;
    bench.texts("store('k', 'other'); store('seen', 1)").await;
    let response = bench.service.wake(woken_with(cell.clone(), "tool-1", json!(null))).await;
    assert_completed(&response.expect("woken"), &[r#"{"v":1}"#, "1"]);
    assert_eq!(bench.texts("text(load('k')); text(load('mine'))").await, ["other", "1"]);
    let elsewhere = StoredValues::new();
    let id = bench.service.allocate_cell_id().expect("an id");
    let request = woken_with(cell, "tool-1", json!(null));
    let woken = bench.service.backend().wake(id, request, elsewhere.clone()).await;
    assert_completed(&woken.expect("woken"), &[r#"{"v":1}"#, "1"]);
    let values = elsewhere.to_map();
    assert_eq!(values.get("mine"), Some(&json!(1)));
    assert!(!values.contains_key("k"));
}

/// A parked cell does not start anew with its limits.
pub async fn limits_go_on_from_what_was_used(backends: Backends) {
    let cell = CellLimits { calls: 3, output_items: 4, ..CellLimits::default() };
    let bench = Bench::with_limits(backends, SessionLimits { cell, ..SessionLimits::default() });
    let source = "text('1'); await tools.echo(); await tools.gate();
                  text('2'); await tools.echo(); text('3'); await tools.echo(); text('not')";
    bench.start(source).await;
    bench.settle().await;
    let parked = bench.park("1").await;
    bench.host.gate.notify_one();
    let response = bench.wake(parked).await;
    let text = error_of(&response).unwrap_or_default();
    assert!(text.starts_with("cell stopped: its nested calls limit of 3 was reached"), "{text}");
    assert!(
        text.contains("tool-1 echo succeeded") && text.contains("tool-2 gate succeeded"),
        "{text}"
    );
}

/// Bytes that were changed, cut or made up are refused, and the session goes on.
pub async fn changed_bytes_are_refused(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.stone()").await;
    let cell = bench.park("1").await.cell;
    let whole = cell.as_bytes().to_vec();
    let refused = async |bytes: Vec<u8>| match ParkedCell::from_bytes(bytes) {
        Ok(cell) => {
            bench.service.wake(WakeRequest::new(cell)).await.expect_err("changed").to_string()
        }
        Err(error) => error.to_string(),
    };
    for at in [0, 8, 10, 11, 12, 20, 36, 68, 92, 93, 97, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let text = refused(bytes).await;
        assert!(text.contains("parked cell"), "{at}: {text}");
    }
    for length in [0, 8, 10, 12, 20, 36, 68, 92, 96, 124, whole.len() - 32, whole.len() - 1] {
        let text = refused(whole[..length].to_vec()).await;
        assert!(text.contains("parked cell"), "{length}: {text}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(refused(longer).await, "the parked cell is damaged");
    assert_eq!(bench.texts("text('goes on')").await, ["goes on"]);
    let response = bench.service.wake(woken_with(cell, "tool-1", json!(1))).await;
    assert_completed(&response.expect("the first wake"), &[]);
}

/// What the bytes say of tools is not what the waker's program may call.
pub async fn only_tools_that_the_waker_allows_are_called(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "await tools.stone(); text(await tools.echo('fine'));
                  try { await tools.nap({}) } catch (error) { text(error) }
                  text(ALL_TOOLS.length)";
    bench.start(source).await;
    let cell = bench.park("1").await.cell;
    let request = WakeRequest {
        enabled_tools: Some(
            [ToolDefinition::function("echo", ""), ToolDefinition::function("stone", "")].into(),
        ),
        ..woken_with(cell, "tool-1", json!(1))
    };
    let response = bench.service.wake(request).await.expect("woken");
    assert_completed(&response, &["fine", "code mode nested tool is unknown", "10"]);
    assert_eq!(count(&bench, "call nap"), 0);
}

/// It can be observed, terminated, parked again, and it notifies under the waker's name.
pub async fn a_woken_cell_is_a_cell_like_any_other(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "await tools.stone(); notify('n'); text('one'); await tools.stone(); text('two');
                  await tools.stone(); text('three')";
    bench.start(source).await;
    let cell = bench.park("1").await.cell;
    let request = WakeRequest {
        tool_call_id: Some("call-2".to_owned()),
        yield_time_ms: Some(1),
        ..woken_with(cell, "tool-1", json!(1))
    };
    bench.service.wake(request).await.expect("woken");
    bench.settle().await;
    assert_eq!(count(&bench, "notify call-2 n"), 1);
    let again = bench.park("2").await.cell;
    let request = WakeRequest { yield_time_ms: Some(1), ..woken_with(again, "tool-2", json!(2)) };
    let first = bench.service.wake(request).await.expect("woken");
    let mut texts = texts_of(&first);
    bench.settle().await;
    let RuntimeResponse::Terminated { .. } = ({
        let ended = live(bench.service.terminate("3".into()).await.expect("it lives"));
        texts.extend(texts_of(&ended));
        ended
    }) else {
        panic!("it was not terminated")
    };
    // The first part of the output was answered before the cell was parked again, or not.
    assert!(texts.ends_with(&["two".to_owned()]), "{texts:?}");
    assert!(bench.service.cells().is_empty());
}

/// A frozen cell has events that it has not received.
pub async fn frozen_cells_are_parked_with_what_they_have_not_received(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "setTimeout(() => text('timer'), 10);
                  const [a, b] = await Promise.allSettled([tools.nap({ ms: 5 }), tools.fail(1), tools.gate()]);
                  text(a.value); text(b.reason)";
    let frozen = bench.service.execute_to_pending(Bench::request(source)).await.expect("admitted");
    assert!(matches!(frozen, ExecuteToPendingOutcome::Pending { .. }), "{frozen:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let parked = bench.park("1").await;
    let ids: Vec<_> = parked.calls.iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["tool-3"]);
    bench.host.gate.notify_one();
    let response = bench.wake(parked).await;
    assert_eq!(error_of(&response), None);
    let mut texts = texts_of(&response);
    texts.sort();
    assert_eq!(texts, ["failed: 1", "timer", r#"{"ms":5}"#]);
}
