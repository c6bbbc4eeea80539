//! The guest's `execute` and `wait`, driven directly: batches, late
//! and duplicate completions, unknown ids. A rebuilt guest can be judged by these alone.

use cellblock_tests::guest::{
    CallEnd, Did, Event, Finished, Guest, Limit, Outcome, START, Script, Step,
};
use std::collections::HashMap;

fn pending(step: Step) -> Option<(u64, u64)> {
    match step {
        Step::Pending(timer) => timer.map(|timer| (timer.id, timer.due)),
        Step::Finished(end) => panic!("not pending: {end:?}"),
    }
}

fn finished(step: Step) -> Finished {
    match step {
        Step::Finished(end) => end,
        Step::Pending(timer) => panic!("not finished: {timer:?}"),
    }
}

fn failed(step: Step) -> String {
    match finished(step).outcome {
        Outcome::Failed(text) | Outcome::Unparsed(text) => text,
        other => panic!("not failed: {other:?}"),
    }
}

fn completed(step: Step) {
    let end = finished(step);
    assert!(matches!(end.outcome, Outcome::Completed), "{end:?}");
}

fn limited(step: Step) -> (Limit, String) {
    match finished(step).outcome {
        Outcome::Limited(hit) => (hit.limit, hit.stack),
        other => panic!("not limited: {other:?}"),
    }
}

fn succeeded(id: u64, json: &str) -> Event {
    Event::CallSucceeded(CallEnd { id, text: json.to_owned() })
}

fn call_failed(id: u64, text: &str) -> Event {
    Event::CallFailed(CallEnd { id, text: text.to_owned() })
}

#[test]
fn execute_runs_to_the_end_of_a_program_that_waits_for_nothing() {
    let mut guest = Guest::new();
    completed(guest.execute("text(1); await null; Promise.resolve().then(() => text(2))"));
    assert_eq!(guest.texts(), ["1", "2"]);
}

#[test]
fn calls_are_queued_in_order_with_numbers_and_json() {
    let mut guest = Guest::new();
    let source =
        "tools.second({ a: 1 }); tools.first(); tools.first(undefined); await tools.first('x')";
    assert_eq!(pending(guest.execute(source)), None);
    let call = |id, tool, input: Option<&str>| Did::Call(id, tool, input.map(str::to_owned));
    let expected = [
        call(1, 1, Some("{\"a\":1}")),
        call(2, 0, None),
        call(3, 0, None),
        call(4, 0, Some("\"x\"")),
    ];
    assert_eq!(guest.script().did, expected);
}

#[test]
fn a_batch_is_delivered_in_order_with_jobs_drained_after_each_event() {
    let mut guest = Guest::new();
    let source = "const log = (name) => (value) => { text(name + value); Promise.resolve().then(() => text(name + ' job')) };
        await Promise.allSettled([tools.first().then(log('a')), tools.first().catch(log('b')), tools.first().then(log('c'))])";
    pending(guest.execute(source));
    completed(guest.wait(&[succeeded(3, "[3]"), call_failed(2, "no"), succeeded(1, "1")]));
    assert_eq!(guest.texts(), ["c3", "c job", "bno", "b job", "a1", "a job"]);
}

#[test]
fn events_after_the_end_of_the_program_are_dropped() {
    let mut guest = Guest::new();
    pending(guest.execute("tools.second().then(() => text('late')); text(await tools.first())"));
    completed(guest.wait(&[succeeded(2, "\"one\""), succeeded(1, "0")]));
    assert_eq!(guest.texts(), ["one"]);
}

#[test]
fn a_proxy_of_an_array_is_written_as_an_array() {
    let mut guest = Guest::new();
    let source = "const p = new Proxy([1, new Proxy([], {})], {});
        text(JSON.stringify({ p, q: new Proxy(p, {}), o: new Proxy({ a: 1 }, {}) })); text([p]);
        const { proxy, revoke } = Proxy.revocable([], {}); revoke();
        try { JSON.stringify([proxy]) } catch (e) { text(e instanceof TypeError) }";
    guest.execute(source);
    let expected = [r#"{"p":[1,[]],"q":[1,[]],"o":{"a":1}}"#, "[[1,[]]]", "true"];
    assert_eq!(guest.texts(), expected);
}

#[test]
fn results_are_parsed_into_fresh_objects() {
    let mut guest = Guest::new();
    let source = "const r = await tools.first(); text(Object.getPrototypeOf(r) === Object.prototype); text(Object.keys(r).join()); text(r.__proto__)";
    pending(guest.execute(source));
    completed(guest.wait(&[succeeded(1, r#"{"b":1,"a":2,"__proto__":"own"}"#)]));
    assert_eq!(guest.texts(), ["true", "b,a,__proto__", "own"]);
}

#[test]
fn a_failed_call_rejects_with_a_string() {
    let mut guest = Guest::new();
    pending(guest.execute("try { await tools.first() } catch (e) { text(typeof e + e) }"));
    completed(guest.wait(&[call_failed(1, "\u{0}why🦀")]));
    assert_eq!(guest.texts(), ["string\u{0}why🦀"]);
}

#[test]
fn an_unknown_duplicate_or_late_completion_ends_the_program() {
    for events in [
        vec![succeeded(9, "1")],
        vec![call_failed(9, "x")],
        vec![succeeded(0, "1")],
        vec![succeeded(u64::MAX, "1")],
        vec![succeeded(1, "1"), succeeded(1, "1")],
        vec![call_failed(1, "1"), succeeded(1, "1")],
    ] {
        let mut guest = Guest::new();
        pending(guest.execute("tools.first(); await tools.second()"));
        let text = failed(guest.wait(&events));
        assert!(text.starts_with("unknown tool call `tool-"), "{events:?}: {text}");
    }
}

#[test]
fn a_result_that_is_no_json_ends_the_program() {
    for json in ["", "{", "[1,]", "nul", "1 2", "\u{0}", "{\"a\":1}x"] {
        let mut guest = Guest::new();
        pending(guest.execute("try { await tools.first() } catch { text('caught') }"));
        assert_eq!(failed(guest.wait(&[succeeded(1, json)])), "failed to serialize tool response");
        assert!(guest.texts().is_empty(), "{json}");
    }
}

#[test]
fn the_next_timer_is_told_and_fires_once() {
    let mut guest = Guest::new();
    let source = "setTimeout(() => text('b'), 20); setTimeout(() => text('a'), 5);
        await new Promise((r) => setTimeout(r, 30)); text('c')";
    assert_eq!(pending(guest.execute(source)), Some((2, START + 5_000_000)));
    assert_eq!(pending(guest.wait(&[Event::TimerFired(2)])), Some((1, START + 20_000_000)));
    // A timer that has fired, and one that never was, are nothing.
    assert_eq!(
        pending(guest.wait(&[Event::TimerFired(2), Event::TimerFired(99), Event::TimerFired(1)])),
        Some((3, START + 30_000_000))
    );
    completed(guest.wait(&[Event::TimerFired(3)]));
    assert_eq!(guest.texts(), ["a", "b", "c"]);
}

#[test]
fn a_cleared_timer_is_forgotten() {
    let mut guest = Guest::new();
    let source = "const id = setTimeout(() => text('no'), 5); clearTimeout(id); clearTimeout(id); await tools.first()";
    assert_eq!(pending(guest.execute(source)), None);
    assert_eq!(pending(guest.wait(&[Event::TimerFired(1)])), None);
    assert!(guest.texts().is_empty());
}

#[test]
fn a_throwing_timer_ends_the_program_with_its_error() {
    let mut guest = Guest::new();
    pending(guest.execute("setTimeout(() => { throw new Error('late') }, 1); await tools.first()"));
    let text = failed(guest.wait(&[Event::TimerFired(1)]));
    assert!(text.starts_with("Error: late\n    at exec_main.mjs:1:"), "{text}");
}

#[test]
fn an_empty_batch_changes_nothing() {
    let mut guest = Guest::new();
    assert_eq!(
        pending(guest.execute("setTimeout(() => {}, 1); await tools.first()")),
        Some((1, START + 1_000_000))
    );
    assert_eq!(pending(guest.wait(&[])), Some((1, START + 1_000_000)));
}

#[test]
fn written_keys_come_back_once_in_order_of_the_first_write() {
    let mut guest = Guest::with(Script {
        stored: HashMap::from([("old".to_owned(), "[0]".to_owned())]),
        ..Script::default()
    });
    let source = "text(load('old')); store('b', 1); store('a', { x: [2] }); store('b', 3); text(load('b')); throw 'x'";
    let end = finished(guest.execute(source));
    assert!(matches!(&end.outcome, Outcome::Failed(text) if text == "x"), "{end:?}");
    let stored: Vec<_> = end.stored.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
    assert_eq!(stored, [("b", "3"), ("a", "{\"x\":[2]}")]);
    assert_eq!(guest.texts(), ["[0]", "3"]);
}

#[test]
fn a_limit_seen_by_poll_ends_a_spinning_program_where_it_spins() {
    let mut guest = Guest::new();
    let source = "function spin() {\n  for (let i = 0; ; i++) { try { i % 2 } catch {} }\n}\nawait tools.first();\ntry { spin() } finally { text('finally') }";
    pending(guest.execute(source));
    guest.script().limit = Some(Limit::RunningTime);
    let (limit, stack) = limited(guest.wait(&[succeeded(1, "1")]));
    assert_eq!(limit, Limit::RunningTime);
    assert!(stack.starts_with("    at spin (exec_main.mjs:"), "{stack}");
    assert!(guest.texts().is_empty());
}

#[test]
fn a_refusal_ends_the_program_and_cannot_be_caught() {
    for call in ["text('x')", "notify('x')", "image('data:x')", "tools.first()"] {
        let mut guest =
            Guest::with(Script { refusal: Some(Limit::OutputBytes), ..Script::default() });
        let source = format!("try {{ {call} }} catch {{ store('caught', 1) }}\nstore('after', 1)");
        let end = finished(guest.execute(&source));
        assert!(
            matches!(&end.outcome, Outcome::Limited(hit) if hit.limit == Limit::OutputBytes),
            "{end:?}"
        );
        assert!(end.stored.is_empty(), "{end:?}");
    }
}

#[test]
fn the_guests_own_limits_are_named() {
    let timers = "for (;;) setTimeout(() => {}, 1)";
    let bytes = "store('k', 'x'.repeat(2 << 20))";
    let keys = "for (let i = 0; ; i++) store(i, 0)";
    let memory = "const a = []; for (;;) a.push('x'.repeat(1 << 20) + a.length)";
    for (source, expected) in [
        (timers, Limit::Timers),
        (bytes, Limit::StoredBytes),
        (keys, Limit::StoredKeys),
        (memory, Limit::Memory),
    ] {
        let (limit, stack) = limited(Guest::new().execute(source));
        assert_eq!(limit, expected, "{source}");
        assert!(stack.contains("exec_main.mjs:1:"), "{source}: {stack}");
    }
}

/// Ways to run a program's own code while what it threw is turned into text.
/// `BODY` stands for that code.
const THROWN: [&str; 15] = [
    "throw { get stack() { BODY } }",
    "throw { toString() { BODY } }",
    "throw { [Symbol.toPrimitive]() { BODY } }",
    "throw new Proxy(new Error('x'), { get() { BODY } })",
    "throw new Proxy({}, { getPrototypeOf() { BODY }, get() { BODY } })",
    "Object.defineProperty(Error.prototype, 'stack', { get() { BODY } }); throw Object.create(Error.prototype)",
    "class E extends Error { get stack() { BODY } }; const e = new E('x'); delete e.stack; throw e",
    "class E extends Error { get name() { BODY } } throw new E('x')",
    "await null; throw { get stack() { BODY } }",
    "await Promise.reject(new Proxy({}, { get() { BODY } }))",
    "await (async () => { await null; throw { toString() { BODY } } })()",
    "text({ toJSON() { BODY } })",
    "store('other', { toJSON() { BODY } })",
    "tools.first({ get a() { BODY } })",
    "await { get then() { BODY } }",
];

#[test]
fn a_limit_met_while_an_error_becomes_text_is_the_end_and_is_named() {
    let floods = [
        ("for (;;);", Limit::RunningTime),
        ("const a = []; for (;;) a.push(new Array(1000).fill(1))", Limit::Memory),
        ("for (;;) setTimeout(() => {}, 1)", Limit::Timers),
        ("for (let i = 0; ; i++) store('k' + i, 0)", Limit::StoredKeys),
    ];
    for thrown in THROWN {
        for (flood, expected) in floods {
            let poll = (expected == Limit::RunningTime).then_some(expected);
            let mut guest = Guest::with(Script { limit: poll, ..Script::default() });
            let source = thrown.replace("BODY", flood);
            let (limit, _) = limited(guest.execute(&source));
            assert_eq!(limit, expected, "{source}");
        }
        for flood in ["for (;;) text('x')", "for (;;) tools.first()"] {
            let source = thrown.replace("BODY", flood);
            let refusal = Some(Limit::OutputBytes);
            let mut guest = Guest::with(Script { refusal, ..Script::default() });
            assert_eq!(limited(guest.execute(&source)).0, Limit::OutputBytes, "{source}");
        }
    }
}

#[test]
fn exit_while_an_error_becomes_text_is_a_success() {
    for thrown in THROWN {
        let source = format!("store('k', 1); {}", thrown.replace("BODY", "exit()"));
        let end = finished(Guest::new().execute(&source));
        assert!(matches!(end.outcome, Outcome::Completed), "{source}: {end:?}");
        assert_eq!(end.stored.len(), 1, "{source}");
    }
}

#[test]
fn a_timer_whose_error_meets_a_limit_ends_the_program_by_that_limit() {
    for thrown in THROWN.iter().filter(|thrown| !thrown.contains("await")) {
        let source = format!(
            "setTimeout(() => {{ {} }}, 1); await tools.first()",
            thrown.replace("BODY", "for (;;);")
        );
        let mut guest = Guest::new();
        pending(guest.execute(&source));
        guest.script().limit = Some(Limit::RunningTime);
        let (limit, _) = limited(guest.wait(&[Event::TimerFired(1)]));
        assert_eq!(limit, Limit::RunningTime, "{source}");
    }
}

#[test]
fn the_text_of_an_error_is_cut_and_says_so() {
    let long = [
        "throw 'x'.repeat(1 << 25)",
        "throw new Error('é'.repeat(1 << 20))",
        "let s = 'x'; for (let i = 0; i < 24; i++) s = s + s + 'y'; throw s",
        "throw { stack: 'x'.repeat(1 << 20) }",
        "const e = new Error('x'); e.name = 'n'.repeat(1 << 20); e.stack = e.name; throw e",
    ];
    for source in long {
        let text = failed(Guest::new().execute(source));
        assert!(text.len() <= 64 << 10, "{source}: {}", text.len());
        assert!(text.ends_with("... [cut: this error's text is longer than 64 KiB]"), "{source}");
    }
    // The names of functions and the number of frames are the program's to choose.
    let frames = "Error.stackTraceLimit = 1e9;
        const o = { ['f'.repeat(60000)](n) { if (n) return [n].map(() => this[Object.keys(o)[0]](n - 1)); throw new Error('deep') } };
        o['f'.repeat(60000)](500)";
    let text = failed(Guest::new().execute(frames));
    assert!(text.len() <= 64 << 10, "{}", text.len());
}

#[test]
fn the_place_of_the_await_is_known_while_the_program_waits() {
    for (source, place) in [
        ("const x = 1;\n  await new Promise(() => {})", "exec_main.mjs:2:3"),
        ("/* é🦀 */ (await tools.first(), 1)", "exec_main.mjs:1:12"),
        ("async function f() {\n  await new Promise(() => {})\n}\nawait f()", "exec_main.mjs:4:1"),
    ] {
        let mut guest = Guest::new();
        pending(guest.execute(source));
        assert_eq!(guest.awaiting().as_deref(), Some(place), "{source}");
    }
    // The garbage collector must not forget it.
    let mut guest = Guest::new();
    let source = "let a = []; for (let i = 0; i < 1e5; i++) { a = { a: {}, b: {} }; a.a.x = a.b; a.b.x = a.a }\n\nawait new Promise(() => {})";
    pending(guest.execute(source));
    assert_eq!(guest.awaiting().as_deref(), Some("exec_main.mjs:3:1"));
}

/// The hint for a program that is run to its end.
fn hint(source: &str) -> Option<String> {
    finished(Guest::new().execute(source)).hint
}

#[test]
fn common_mistakes_end_with_a_hint() {
    for (source, expected) in [
        ("console.log(1)", "`text(value)`"),
        ("const fs = require('fs')", "no modules"),
        ("import fs from 'fs'", "no modules"),
        ("await fetch('u')", "no network"),
        ("process.exit()", "`exit()`"),
        ("Buffer.from('x')", "`Uint8Array`"),
        ("setInterval(() => {}, 1)", "`setTimeout(callback, ms)`"),
        ("```js\ntext(1)\n```", "Markdown fence"),
        ("```\nconst x = 1\n```", "Markdown fence"),
        ("const n: number = 3", "TypeScript"),
        ("interface A { x: string }", "TypeScript"),
        ("let s = x as string", "TypeScript"),
        ("text(1); return 5", "`return`"),
        ("export default async () => { text(1) }", "exports"),
        ("tools.frist({})", "`tools.first`"),
        ("tools.sceond()", "`tools.second`"),
        ("tools.quite_another_thing()", "There is no tool `quite_another_thing`. `ALL_TOOLS`"),
        ("[1].forEach(x => { await x })", "`async`"),
        ("const x = 1", "printed nothing"),
        (
            "async function main() { await tools.first(); text(1) }\n\nmain()",
            "1 promise was pending when the program ended, made at 3:1",
        ),
        (
            "text(1);\nconst a = tools.first();\nconst b = tools.second()",
            "2 promises were pending when the program ended, first made at 2:17",
        ),
        ("tools.first().then(text)", "1 promise was pending"),
        ("text(1); setTimeout(() => text(2), 10)", "Timers were pending"),
    ] {
        let hint = hint(source).unwrap_or_default();
        assert!(hint.contains(expected), "{source}: {hint:?}");
    }
}

#[test]
fn a_program_without_a_mistake_has_no_hint() {
    for source in [
        "text(1)",
        "notify('x')",
        "store('k', 1)",
        "text(1); await Promise.all([1, 2])",
        "throw new Error('console is not defined')",
        "throw new TypeError('tools.first is not a function: no')",
        "null.x",
        "const o = { a: 1, b: [1, 2 }",
        "text('a:string'); text(",
        "exit()",
        "text(1); await null; exit()",
        "tools.first(); setTimeout(() => {}, 5); exit()",
    ] {
        assert_eq!(hint(source), None, "{source}");
    }
}

#[test]
fn the_seed_decides_every_random_number() {
    let numbers = || {
        let mut guest = Guest::new();
        completed(guest.execute("for (let i = 0; i < 3; i++) text(Math.random())"));
        guest.texts()
    };
    let first = numbers();
    assert_eq!(first, numbers());
    assert!(
        first[0] != first[1]
            && first.iter().all(|n| n.parse::<f64>().is_ok_and(|n| (0.0..1.0).contains(&n)))
    );
}

#[test]
fn time_is_the_hosts() {
    let mut guest = Guest::with(Script { now: 1_700_000_000_123_000_000, ..Script::default() });
    completed(guest.execute(
        "text(Date.now()); text(new Date().toISOString()); text(new Date().getTimezoneOffset())",
    ));
    assert_eq!(guest.texts(), ["1700000000123", "2023-11-14T22:13:20.123Z", "0"]);
}

#[test]
fn descriptions_are_asked_for_when_they_are_looked_at() {
    let mut guest = Guest::new();
    completed(guest.execute("text(Object.keys(tools).join())"));
    assert!(!guest.script().did.contains(&Did::Descriptions));
    let mut guest = Guest::new();
    completed(guest.execute("text(ALL_TOOLS); text(ALL_TOOLS.length)"));
    let listed =
        r#"[{"name":"first","description":"first"},{"name":"second","description":"second"}]"#;
    assert_eq!(guest.texts(), [listed, "2"]);
    assert_eq!(guest.script().did.iter().filter(|did| **did == Did::Descriptions).count(), 1);
}

#[test]
fn source_text_of_any_kind_is_compiled_or_refused() {
    for source in [
        "\u{0}",
        "text('\u{0}')",
        "\u{feff}text(1)",
        "#!shebang\ntext(1)",
        "<!-- x",
        "\u{2028}",
        "'🦀'",
        "`${",
        "/*",
        "import(",
        "\\u0061wait 1",
    ] {
        let step = Guest::new().execute(source);
        match finished(step).outcome {
            Outcome::Completed => {}
            Outcome::Failed(text) | Outcome::Unparsed(text) => {
                assert!(!text.is_empty(), "{source:?}");
            }
            Outcome::Limited(hit) => panic!("{source:?}: {hit:?}"),
        }
    }
}
