//! What this project adds to both protocols, so that they carry the whole seam.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cellblock::{
    CellLimits, CellState, CodeModeService, ContentItem, ExecuteRequest, Language, LimitKind,
    ProgramValue, RegionalSettings, RuntimeResponse, StoredValues, WaitRequest,
};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostCommand, HostProcess, ProcessBackend, ProcessLimits};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::{PROGRAM, Served};
use tokio::time::{Instant, sleep};

const PROTOCOLS: [Protocol; 2] = [Protocol::Framed, Protocol::Grpc];

fn host(protocol: Protocol) -> HostProcess {
    let listen = match protocol {
        Protocol::Framed => "stdio",
        Protocol::Grpc => "grpc+stdio://",
    };
    let command = HostCommand::new(PROGRAM).args(["host", "--listen", listen]);
    HostProcess::new(HostAddress::child(protocol, command))
}

fn service(host: &HostProcess, values: &StoredValues) -> CodeModeService {
    let backend = Arc::new(ProcessBackend::new(host));
    CodeModeService::with_stored_values(backend, values.clone())
}

async fn text(service: &CodeModeService, source: &str) -> String {
    let response = service.execute(ExecuteRequest::new(source)).await.unwrap();
    match response.content_items() {
        [ContentItem::InputText { text }] => text.clone(),
        _ => panic!("not one text: {response:?}"),
    }
}

/// Waits until something is so, at most ten seconds.
async fn until(mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < patience, "it never was so");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn stored_values_outlive_their_host_and_keep_their_digits() {
    for protocol in PROTOCOLS {
        let (host, values) = (host(protocol), StoredValues::new());
        values.insert_json("big", "12345678901234567890123").unwrap();
        let first = service(&host, &values);
        assert_eq!(
            text(&first, "text(String(load('big'))); store('n', [1, { a: 2 }])").await,
            "1.2345678901234568e+22"
        );
        let map = values.to_json();
        assert_eq!((&*map["n"], &*map["big"]), ("[1,{\"a\":2}]", "12345678901234567890123"));
        first.shutdown().await;
        // Another host, another session, the same values; a value that is gone is gone there too.
        let second = service(&self::host(protocol), &values);
        assert_eq!(text(&second, "text(load('n'))").await, "[1,{\"a\":2}]");
        second.replace_stored_values([("m".to_owned(), json!(7))].into());
        assert_eq!(text(&second, "text([load('n') ?? 'none', load('m')])").await, "[\"none\",7]");
        second.shutdown().await;
    }
}

#[tokio::test]
async fn what_a_cell_stored_is_merged_once_when_nobody_waits_and_not_when_it_is_terminated() {
    for protocol in PROTOCOLS {
        let (host, values) = (host(protocol), StoredValues::new());
        let service = service(&host, &values);
        let source = "text('up'); yield_control(); await new Promise((r) => setTimeout(r, 20)); store('a', 1)";
        let yielded = service.execute(ExecuteRequest::new(source)).await.unwrap();
        assert!(matches!(yielded, RuntimeResponse::Yielded { .. }), "{yielded:?}");
        until(|| values.to_json().contains_key("a")).await;
        // Another value that a later cell wrote is not overwritten when the result is fetched.
        service.execute(ExecuteRequest::new("store('a', 2)")).await.unwrap();
        let wait = WaitRequest { cell_id: yielded.cell_id().clone(), yield_time_ms: 0 };
        let last = RuntimeResponse::from(service.wait(wait).await.unwrap());
        assert!(matches!(last, RuntimeResponse::Result { error_text: None, .. }), "{last:?}");
        assert_eq!(&*values.to_json()["a"], "2");

        let source = "store('b', 1); yield_control(); await new Promise(() => {})";
        let yielded = service.execute(ExecuteRequest::new(source)).await.unwrap();
        service.terminate(yielded.cell_id().clone()).await.unwrap();
        assert!(!values.to_json().contains_key("b"));
        service.shutdown().await;
    }
}

#[tokio::test]
async fn limits_of_a_session_are_the_narrower_and_are_named_in_its_reports() {
    for protocol in PROTOCOLS {
        let host = host(protocol);
        let cell = CellLimits { calls: 3, fuel: u64::MAX, ..CellLimits::default() };
        let limits = ProcessLimits { cell: Some(cell), ..ProcessLimits::default() };
        let backend = ProcessBackend::with_limits(&host, limits);
        let service = CodeModeService::new(Arc::new(backend));
        let program = ExecuteRequest {
            enabled_tools: [cellblock::ToolDefinition::function("echo", "")].into(),
            ..ExecuteRequest::new("for (;;) tools.echo(1)")
        };
        let response = service.execute(program).await.unwrap();
        assert_eq!(response.report().limit, Some(LimitKind::Calls), "{response:?}");
        assert_eq!(response.report().usage.calls, 3);
        assert!(response.report().usage.fuel > 0);
        service.shutdown().await;
    }
}

#[tokio::test]
async fn the_value_of_a_program_travels() {
    for protocol in PROTOCOLS {
        let host = host(protocol);
        let service = service(&host, &StoredValues::new());
        let program = |source| ExecuteRequest { wants_value: true, ..ExecuteRequest::new(source) };
        let ended = service.execute(program("const a = 6; ({ answer: a * 7 })")).await.unwrap();
        let value = Some(ProgramValue::Json("{\"answer\":42}".to_owned()));
        assert_eq!(ended.report().value, value, "{ended:?}");
        let ended = service.execute(program("return 'x'.repeat(1 << 20)")).await.unwrap();
        let Some(ProgramValue::Stored { key, .. }) = &ended.report().value else {
            panic!("not stored: {:?}", ended.report().value)
        };
        let look = format!("text(load({key:?}).length)");
        assert_eq!(text(&service, &look).await, "1048576");
        service.shutdown().await;
    }
}

#[tokio::test]
async fn regional_settings_travel() {
    for protocol in PROTOCOLS {
        let host = host(protocol);
        let service = service(&host, &StoredValues::new());
        let regional = RegionalSettings {
            locale: Some("de".parse().unwrap()),
            time_zone: Some("Asia/Tokyo".parse().unwrap()),
        };
        let source = "text(new Date(0).getHours() + (0.5).toLocaleString())";
        let request = ExecuteRequest { regional, ..ExecuteRequest::new(source) };
        let ended = service.execute(request).await.unwrap();
        assert_eq!(ended.content_items(), [ContentItem::InputText { text: "90,5".to_owned() }]);
        service.shutdown().await;
    }
}

#[tokio::test]
async fn a_program_in_typescript_runs_on_a_host_and_its_language_travels() {
    for protocol in PROTOCOLS {
        let host = host(protocol);
        let service = service(&host, &StoredValues::new());
        assert_eq!(text(&service, "const n: number = 42; text(n)").await, "42");
        let source = "const n: number = 42; text(n)";
        let program = ExecuteRequest { language: Language::Js, ..ExecuteRequest::new(source) };
        let ended = service.execute(program).await.unwrap();
        let RuntimeResponse::Result { error_text: Some(error), .. } = ended else {
            panic!("{ended:?}")
        };
        assert!(error.starts_with("SyntaxError"), "{error}");
        service.shutdown().await;
    }
}

#[tokio::test]
async fn a_cell_that_has_ended_is_finished_before_its_result_is_fetched() {
    for protocol in PROTOCOLS {
        let host = host(protocol);
        let service = service(&host, &StoredValues::new());
        let source = "yield_control(); await new Promise((r) => setTimeout(r, 10)); text('late')";
        let yielded = service.execute(ExecuteRequest::new(source)).await.unwrap();
        until(|| service.cells()[0].state == CellState::Finished).await;
        let wait = WaitRequest { cell_id: yielded.cell_id().clone(), yield_time_ms: 0 };
        let last = RuntimeResponse::from(service.wait(wait).await.unwrap());
        assert_eq!(last.content_items(), [ContentItem::InputText { text: "late".to_owned() }]);
        assert!(service.cells().is_empty());
        service.shutdown().await;
    }
}

/// Says hello with these capabilities, and opens the session `s`.
fn client(
    served: &Served,
    capabilities: &[&str],
) -> support::Client<std::os::unix::net::UnixStream> {
    let mut client = served.connect();
    client.send(&json!({ "type": "connection/hello", "supportedVersions": [1],
        "requiredCapabilities": [], "optionalCapabilities": capabilities }));
    assert_eq!(client.until("connection/ready")["capabilities"], json!(capabilities));
    client.request(&json!({ "method": "session/open", "sessionId": "s" }));
    client
}

fn execute(source: &str, stored: &Value) -> Value {
    let mut request = json!({ "method": "session/execute", "sessionId": "s",
        "request": { "tool_call_id": "t", "enabled_tools": [], "source": source,
            "yield_time_ms": 10_000, "max_output_tokens": null } });
    if !stored.is_null() {
        request["seam"] = json!({ "stored": stored });
    }
    request
}

#[test]
fn only_changes_of_stored_values_travel() {
    let served = Served::start("unix", &[]);
    let mut client = client(&served, &["cellblock-seam-v1"]);
    let mut run = |source: &str, stored: Value| {
        client.ask(&execute(source, &stored));
        let answer = client.until("execute/initialResponse");
        answer["result"]["value"]["Result"].clone()
    };
    let all = "text(['a', 'b', 'c'].map((key) => load(key) ?? null))";
    let ended = run(all, json!({ "set": { "a": "1", "b": "2" } }));
    assert_eq!(ended["content_items"][0]["text"], "[1,2,null]");
    // The host keeps what it has, and nothing that a program wrote.
    let ended = run("store('c', 3)", json!({ "set": { "b": "20" } }));
    assert_eq!(ended["seam"]["stored"], json!({ "c": "3" }));
    let ended = run(all, Value::Null);
    assert_eq!(ended["content_items"][0]["text"], "[1,20,null]");
    let ended = run(all, json!({ "set": { "c": "3" }, "removed": ["a", "none"] }));
    assert_eq!(ended["content_items"][0]["text"], "[null,20,3]");
    assert!(ended["seam"]["report"]["usage"]["fuel"].as_u64() > Some(0));
}

#[test]
fn values_that_are_not_valid_json_or_too_large_are_refused() {
    let served = Served::start("unix", &[]);
    let mut client = client(&served, &["cellblock-seam-v1"]);
    let mut refused = |stored: Value| {
        client.ask(&execute("text(1)", &stored));
        let answer = client.until("operation/response");
        answer["result"]["message"].as_str().unwrap().to_owned()
    };
    let why = refused(json!({ "set": { "a": "[1," } }));
    assert!(why.contains("the stored value \"a\" is not valid JSON"), "{why}");
    let why = refused(Value::Null);
    assert!(why.contains("open another session"), "{why}");
    client.request(&json!({ "method": "session/shutdown", "sessionId": "s" }));
    let mut client = self::client(&served, &["cellblock-seam-v1"]);
    let large = |fill: &str| json!({ "set": { fill: format!("\"{}\"", fill.repeat(35 << 20)) } });
    client.ask(&execute("text(1)", &large("x")));
    client.until("execute/initialResponse");
    client.ask(&execute("text(1)", &large("y")));
    let answer = client.until("operation/response");
    let why = answer["result"]["message"].as_str().unwrap();
    assert!(why.contains("the stored values are larger than 67108864 bytes"), "{why}");
}

#[test]
fn a_client_that_did_not_ask_for_it_has_the_contract_alone() {
    let served = Served::start("unix", &[]);
    let mut client = client(&served, &[]);
    client.ask(&execute("text(1)", &Value::Null));
    let answer = client.until("execute/initialResponse");
    assert!(answer["result"]["value"]["Result"].get("seam").is_none(), "{answer}");
    for request in [
        execute("text(1)", &json!({ "set": {} })),
        json!({ "method": "session/open", "sessionId": "t", "seam": { "cellLimits": {} } }),
        json!({ "method": "session/wait", "sessionId": "s", "untilFrontier": true,
            "request": { "cell_id": "1", "yield_time_ms": 0 } }),
    ] {
        client.ask(&request);
        let answer = client.until("operation/response");
        let why = answer["result"]["message"].as_str().unwrap();
        assert!(why.contains("needs the capability cellblock-seam-v1"), "{why}");
    }
}
