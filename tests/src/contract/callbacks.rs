//! Nested calls and notifications.

use super::bench::{
    Bench, Host, assert_completed, assert_terminated, assert_yielded, error_of, live,
};
use crate::backends::Backends;
use cellblock::{CellLimits, ExecuteRequest, SessionLimits, ToolDefinition, ToolKind, ToolName};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A tool that panics rejects its promise and nothing else.
pub async fn tool_callback_panic_rejects_the_js_promise(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "try { await tools.panic() } catch (e) { text(typeof e); text(e) } text(await tools.echo(1))";
    assert_eq!(bench.texts(source).await, ["string", "code mode tool task panicked", "1"]);
}

/// A tool that answers at once is as any other: in its results and its errors, and also when it
/// does not. What ends sooner is received sooner.
pub async fn tools_that_answer_at_once_are_as_others(backends: Backends) {
    let bench = Bench::new(backends);
    bench.host.at_once.store(true, Ordering::Relaxed);
    let source = "
        text(await tools.echo(1));
        text(await Promise.all([tools.echo(2), tools.nap({ ms: 5 }), tools.echo(3)]));
        text(await Promise.allSettled([tools.fail(4), tools.panic(), tools.echo()]));
        const order = []; const note = (n) => () => order.push(n);
        await Promise.all([tools.nap({ ms: 9 }).then(note('nap')), tools.echo(5).then(note('echo')),
                           tools.fail(6).catch(note('fail'))]);
        text([...order.slice(0, 2).sort(), order[2]]);
        for (let i = 0; i < 300; i++) await tools.echo(i);
        tools.echo('nobody awaits this'); tools.hang(); text('end')";
    let settled = r#"[{"status":"rejected","reason":"failed: 4"},{"status":"rejected","reason":"code mode tool task panicked"},{"status":"fulfilled","value":null}]"#;
    let expected = ["1", r#"[2,{"ms":5},3]"#, settled, r#"["echo","fail","nap"]"#, "end"];
    assert_eq!(bench.texts(source).await, expected);
    let log = bench.host.log();
    let count = |what: &str| log.iter().filter(|line| *line == what).count();
    assert_eq!([count("call echo"), count("returned echo"), count("returned hang")], [306, 306, 1]);
    assert_eq!(log.last().map(String::as_str), Some("closed 1"));
}

/// A notification that panics is nobody's loss.
pub async fn notification_callback_panic_does_not_hurt_the_cell(backends: Backends) {
    let bench = Bench::new(backends);
    assert_eq!(bench.texts("notify('panic'); notify('next'); text('on')").await, ["on"]);
    assert!(bench.host.log().contains(&"notify call-1 next".to_owned()));
}

/// Termination cancels notifications and calls, and answers when they have ended.
pub async fn termination_cancels_pending_callbacks_before_responding(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("notify('hang'); await tools.hang()").await;
    live(bench.service.terminate("1".into()).await.expect("terminated"));
    let log = bench.host.log();
    assert_eq!(log.len(), 5, "{log:?}");
    assert!(log.contains(&"notified hang".to_owned()) && log.contains(&"returned hang".to_owned()));
    assert_eq!(log.last().map(String::as_str), Some("closed 1"));
}

/// Shutdown turns a completion that waits for a notification into a termination.
pub async fn shutdown_cancels_notifications_while_natural_completion_is_draining(
    backends: Backends,
) {
    let bench = Bench::new(backends);
    assert_yielded(&bench.start("text('a'); notify('hang')").await, &["a"]);
    let (observed, ()) = tokio::join!(bench.wait("1"), async {
        bench.settle().await;
        bench.service.shutdown().await;
    });
    assert_terminated(&live(observed), &[]);
}

/// A call that nobody awaits is cancelled, and has ended before the result is given.
pub async fn natural_completion_cleans_up_callbacks_before_responding(backends: Backends) {
    let bench = Bench::new(backends);
    assert_completed(&bench.execute("tools.linger(); text('end')").await, &["end"]);
    assert_eq!(bench.host.log(), ["call linger", "returned linger", "closed 1"]);
}

/// Completion waits for notifications to be delivered.
pub async fn completion_waits_for_notifications(backends: Backends) {
    let bench = Bench::new(backends);
    assert_eq!(bench.texts("notify('slow'); text('end')").await, ["end"]);
    assert_eq!(bench.host.log(), ["notify call-1 slow", "notified slow", "closed 1"]);
}

/// Notifications come in order, with the id of the `exec` call.
pub async fn notifications_keep_their_order_and_carry_the_call_id(backends: Backends) {
    let bench = Bench::new(backends);
    bench.texts("notify('slow'); for (let i = 0; i < 3; i++) notify(i)").await;
    let notified: Vec<_> =
        bench.host.log().into_iter().filter(|line| line.starts_with("notify")).collect();
    assert_eq!(
        notified,
        ["notify call-1 slow", "notify call-1 0", "notify call-1 1", "notify call-1 2"]
    );
}

/// Calls run side by side.
pub async fn nested_calls_run_in_parallel(backends: Backends) {
    let bench = Bench::new(backends);
    let started = Instant::now();
    let source = "const calls = Array.from({ length: 100 }, (_, i) => tools.nap({ ms: 300, i }));
                  text((await Promise.all(calls)).map((r) => r.i).join())";
    let expected: Vec<_> = (0..100).map(|i| i.to_string()).collect();
    assert_eq!(bench.texts(source).await, [expected.join()]);
    assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
}

trait Join {
    fn join(&self) -> String;
}

impl Join for Vec<String> {
    fn join(&self) -> String {
        <[String]>::join(self, ",")
    }
}

/// A cell goes on between turns; what it calls waits for the next turn.
pub async fn calls_between_turns_wait_for_the_next_turns_worker(backends: Backends) {
    let mut bench = Bench::new(backends);
    bench.start("await tools.gate(); text(await tools.echo('served')); notify('late')").await;
    bench.end_turn();
    bench.host.gate.notify_one();
    bench.settle().await;
    assert_eq!(bench.host.calls().len(), 1, "no turn is active");
    bench.start_turn();
    assert_completed(&live(bench.wait("1").await), &["served"]);
    assert!(bench.host.log().contains(&"notify call-1 late".to_owned()));
}

/// Of two workers the newest serves; when it ends, the older one does.
pub async fn the_newest_worker_serves(backends: Backends) {
    let bench = Bench::new(backends);
    let newest = Arc::new(Host::default());
    let worker = bench.service.start_turn_worker(Arc::clone(&newest) as _);
    bench.texts("await tools.echo(1)").await;
    drop(worker);
    bench.texts("await tools.echo(2)").await;
    assert_eq!((newest.calls().len(), bench.host.calls().len()), (1, 1));
}

/// A call carries the tool's identity, kind and number, and its input as it was.
pub async fn a_call_names_its_tool_as_defined(backends: Backends) {
    let bench = Bench::new(backends);
    let tool = ToolDefinition {
        name: "ns.my-tool".to_owned(),
        tool_name: ToolName::namespaced("ns", "my-tool"),
        kind: ToolKind::Freeform,
        ..ToolDefinition::default()
    };
    let request = ExecuteRequest {
        enabled_tools: [tool].into(),
        ..Bench::request(
            "await tools.ns_my_tool('in', 'ignored'); await tools.ns_my_tool(undefined)",
        )
    };
    let response = bench.service.execute(request).await.expect("admitted");
    assert_completed(&response, &[]);
    let calls = bench.host.calls();
    assert_eq!(calls[0].tool_name, ToolName::namespaced("ns", "my-tool"));
    assert_eq!(
        (calls[0].tool_kind, calls[0].runtime_tool_call_id.as_str()),
        (ToolKind::Freeform, "tool-1")
    );
    assert_eq!(
        (calls[0].input.clone(), calls[1].input.clone()),
        (Some(serde_json::Value::from("in").into()), None)
    );
    assert_eq!(calls[1].runtime_tool_call_id, "tool-2");
}

/// Numbers and keys go to a tool and back as they were, to the last bit.
pub async fn json_travels_unchanged(backends: Backends) {
    let bench = Bench::new(backends);
    let source = r#"
        const sent = { b: 1.2344567890123456e26, a: [5e-324, 1.7976931348623157e308, 0.1, -1e-7],
            n: 9007199254740993, '': { ['__proto__']: 1 }, 'ключ🔑\u0000': '\u2028\"\\' };
        const back = await tools.echo(sent);
        text(JSON.stringify(back) === JSON.stringify(sent)); text(Object.keys(back).join());"#;
    assert_eq!(bench.texts(source).await, ["true", "b,a,n,,ключ🔑\u{0}"]);
}

/// A tool that does not return when cancelled is dropped after its grace.
pub async fn a_tool_that_ignores_cancellation_does_not_hold_up_the_end(backends: Backends) {
    let bench = Bench::new(backends);
    let grace = CellLimits::default().cancel_grace;
    let ended = timeout(grace * 2, bench.execute("tools.stone(); text('end')")).await;
    assert_completed(&ended.expect("within the grace"), &["end"]);
    bench.start("await tools.stone()").await;
    let ended = timeout(grace * 2, bench.service.terminate("2".into())).await;
    assert_terminated(&live(ended.expect("within the grace").expect("terminated")), &[]);
}

/// Not even a tool that blocks its thread does.
pub async fn a_tool_that_blocks_does_not_hold_up_the_end(backends: Backends) {
    let cell = CellLimits { cancel_grace: Duration::from_millis(50), ..CellLimits::default() };
    let bench = Bench::with_limits(backends, SessionLimits { cell, ..SessionLimits::default() });
    bench.start("await tools.block()").await;
    let ended = timeout(Duration::from_secs(1), bench.service.terminate("1".into())).await;
    assert_terminated(&live(ended.expect("within a second").expect("terminated")), &[]);
}

/// A notification that is never delivered holds a cell up for its total time at most.
pub async fn an_undelivered_notification_is_given_up_in_the_end(backends: Backends) {
    let cell = CellLimits { total_time: Duration::from_secs(5), ..CellLimits::default() };
    let bench = Bench::with_limits(backends, SessionLimits { cell, ..SessionLimits::default() });
    let request = ExecuteRequest {
        yield_time_ms: Some(60_000),
        ..Bench::request("notify('hang'); text('end')")
    };
    let response = bench.service.execute(request).await.expect("admitted");
    assert_completed(&response, &["end"]);
}

/// A result over its limit rejects the promise and says so.
pub async fn results_that_nest_or_grow_without_end_reject_their_promise(backends: Backends) {
    let cell = CellLimits { result_bytes: 1 << 20, ..CellLimits::default() };
    let bench = Bench::with_limits(backends, SessionLimits { cell, ..SessionLimits::default() });
    let source = "await tools.huge().catch((e) => text(e)); await tools.huge()";
    let response = bench.execute(source).await;
    let error = error_of(&response).expect("the second is not caught");
    assert!(error.starts_with("tool result is too large: "), "{error}");
    assert_eq!(super::bench::texts_of(&response), [error]);
}
