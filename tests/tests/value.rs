//! The value of a program, for a host that asks for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock::model::{OutputOptions, parse_exec_source, show};
use cellblock::{
    CellLimits, CodeModeService, ExecuteRequest, LimitKind, ProgramValue, RuntimeResponse,
    SessionLimits, ToolDefinition,
};
use cellblock_tests::backends::Backends;
use std::time::Duration;

fn service() -> CodeModeService {
    CodeModeService::new(Backends::Wasm.session(SessionLimits::default()))
}

fn wanted(source: &str) -> ExecuteRequest {
    ExecuteRequest { wants_value: true, ..ExecuteRequest::new(source) }
}

/// The value of a program that completes.
async fn value(source: &str) -> Option<ProgramValue> {
    let response = service().execute(wanted(source)).await.unwrap();
    let RuntimeResponse::Result { error_text: None, report, .. } = response else {
        panic!("{source}: {response:?}");
    };
    report.value
}

async fn json(source: &str) -> String {
    match value(source).await {
        Some(ProgramValue::Json(json)) => json,
        other => panic!("{source}: {other:?}"),
    }
}

#[tokio::test]
async fn the_value_is_that_of_the_last_expression_statement_or_of_a_return_at_the_top() {
    for (source, expected) in [
        ("1 + 1", "2"),
        ("const a = [1]; a.map(x => ({ x }))", r#"[{"x":1}]"#),
        ("return 5", "5"),
        ("if (true) { return { a: 1 } } text('never')", r#"{"a":1}"#),
        ("await null; 'text'", "\"text\""),
        ("await null; return await Promise.resolve([null])", "[null]"),
        ("Promise.resolve(7)", "7"),
        ("return new Promise(r => setTimeout(() => r('late'), 5))", "\"late\""),
        ("({ then(resolve) { resolve(8) } })", "8"),
        ("async function main() { await null; return 9 } main()", "9"),
        ("for (const x of [1, 2]) { if (x === 2) return x }", "2"),
        ("try { return 1 } finally { text('after') }", "1"),
        ("{ using d = { [Symbol.dispose]() { text('disposed') } }; return 3 }", "3"),
        ("using d = { [Symbol.dispose]() {} }; 4", "4"),
        ("5; function later() {} class C {} const x = 1", "5"),
        ("null", "null"),
        ("({ toJSON() { return 'own' } })", "\"own\""),
        ("label: { 6; break label }", "6"),
    ] {
        assert_eq!(json(source).await, expected, "{source}");
    }
    for source in ["", "text(1)", "const x = 1", "return", "undefined", "exit(); 5"] {
        assert_eq!(value(source).await, None, "{source}");
    }
}

#[tokio::test]
async fn a_value_that_json_cannot_express_is_refused_with_the_reason() {
    for (source, why) in [
        ("() => 1", "functions"),
        ("Symbol.iterator", "symbols"),
        ("const o = {}; o.o = o; o", "circular"),
        ("10n", "BigInt"),
        ("({ toJSON() { throw new Error('mine') } })", "mine"),
        ("let o = {}; for (let i = 0; i < 200; i++) o = { o }; o", "recursion limit"),
    ] {
        let Some(ProgramValue::Refused(reason)) = value(source).await else {
            panic!("{source} has a value");
        };
        assert!(reason.contains(why), "{source}: {reason}");
    }
}

#[tokio::test]
async fn a_program_whose_value_fails_has_failed() {
    for (source, error) in [
        ("Promise.reject(new Error('mine'))", "Error: mine"),
        ("return Promise.reject('plain')", "plain"),
        ("({ get then() { throw new TypeError('own') } })", "TypeError: own"),
    ] {
        let response = service().execute(wanted(source)).await.unwrap();
        let RuntimeResponse::Result { error_text: Some(text), report, .. } = response else {
            panic!("{source}: {response:?}");
        };
        assert!(text.starts_with(error), "{source}: {text}");
        assert_eq!(report.value, None);
    }
}

#[tokio::test]
async fn without_being_asked_for_there_is_no_value_and_no_return_at_the_top() {
    let service = service();
    let response = service.execute(ExecuteRequest::new("1 + 1")).await.unwrap();
    assert_eq!(response.report().value, None);
    let response = service.execute(ExecuteRequest::new("return 1")).await.unwrap();
    let RuntimeResponse::Result { error_text: Some(error), .. } = response else { panic!() };
    assert!(error.starts_with("SyntaxError: Illegal return statement"), "{error}");
    let eval = "try { (0, eval)('return 1') } catch (e) { text(e.message) }";
    let response = service.execute(wanted(eval)).await.unwrap();
    let content = serde_json::json!(response.into_content());
    assert_eq!(content[0]["text"], "Illegal return statement");
}

#[tokio::test]
async fn a_value_that_is_too_long_is_stored_for_the_next_program() {
    let service = service();
    let request = ExecuteRequest {
        max_output_tokens: Some(100),
        ..wanted("text('x'.repeat(300)); return { list: Array(200).fill('y') }")
    };
    let response = service.execute(request).await.unwrap();
    let Some(ProgramValue::Stored { key, bytes }) = response.report().value.clone() else {
        panic!("{response:?}");
    };
    assert_eq!((key.as_str(), bytes), ("result_1", 810));
    let output = show(response, Duration::ZERO, None, &OutputOptions::default());
    let shown = output.to_openai().to_string();
    assert!(shown.contains("load(\\\"result_1\\\")"), "{shown}");
    let response = service.execute(wanted("load('result_1').list.length")).await.unwrap();
    assert_eq!(response.report().value, Some(ProgramValue::Json("200".to_owned())));
    // Whatever the budget, a response carries at most so much.
    let long = format!("return 'x'.repeat({})", ProgramValue::MAX_BYTES);
    let request = ExecuteRequest { max_output_tokens: Some(usize::MAX), ..wanted(&long) };
    let response = service.execute(request).await.unwrap();
    assert!(matches!(response.report().value, Some(ProgramValue::Stored { .. })));
    // And what may not be stored either is refused.
    let response = service.execute(wanted("return 'x'.repeat(2 ** 24)")).await.unwrap();
    assert!(matches!(response.report().value, Some(ProgramValue::Refused(_))));
}

#[tokio::test]
async fn limits_hold_while_the_value_is_made() {
    let cell = CellLimits { fuel: 300_000_000, ..CellLimits::default() };
    let limits = SessionLimits { cell, ..SessionLimits::default() };
    let service = CodeModeService::new(Backends::Wasm.session(limits));
    for source in [
        "({ toJSON() { for (;;); } })",
        "({ get then() { for (;;); } })",
        "new Proxy({}, { ownKeys() { for (;;); } })",
        "async function f() { for (;;) await null } f()",
    ] {
        let response = service.execute(wanted(source)).await.unwrap();
        assert_eq!(response.report().limit, Some(LimitKind::Fuel), "{source}");
        assert_eq!(response.report().value, None, "{source}");
    }
    for source in ["({ get then() { exit() } })", "({ toJSON() { exit() } })"] {
        let response = service.execute(wanted(source)).await.unwrap();
        assert!(matches!(response, RuntimeResponse::Result { error_text: None, .. }), "{source}");
        assert_eq!(response.report().value, None, "{source}");
    }
}

#[tokio::test]
async fn a_model_asks_for_it_in_the_line_of_options_and_reads_it_behind_the_text() {
    let parsed = parse_exec_source("// @exec: {\"result\": true}\ntext('seen'); [1, 2]").unwrap();
    let request = ExecuteRequest { wants_value: parsed.result, ..ExecuteRequest::new(parsed.code) };
    let response = service().execute(request).await.unwrap();
    let output = show(response, Duration::ZERO, None, &OutputOptions::default()).to_openai();
    let texts: Vec<_> = output.as_array().unwrap()[1..].iter().map(|item| &item["text"]).collect();
    assert_eq!(texts, ["seen", "Result:\n[1,2]"]);
    let response = service().execute(wanted("() => 1")).await.unwrap();
    let output = show(response, Duration::ZERO, None, &OutputOptions::default()).to_openai();
    assert_eq!(
        output[1]["text"],
        "The program has a result that cannot be shown: JSON has no functions and no symbols."
    );
}

#[tokio::test]
async fn saved_scripts_are_found_under_a_name_of_their_own() {
    let tools =
        ["scripts__sum", "scripts__other", "plain"].map(|name| ToolDefinition::function(name, ""));
    let request = ExecuteRequest {
        enabled_tools: tools.into(),
        ..wanted("[Object.keys(scripts), scripts.sum === tools.scripts__sum, typeof scripts.plain]")
    };
    let response = service().execute(request).await.unwrap();
    let expected = ProgramValue::Json(r#"[["sum","other"],true,"undefined"]"#.to_owned());
    assert_eq!(response.report().value, Some(expected));
    assert_eq!(json("typeof scripts").await, "\"undefined\"");
}
