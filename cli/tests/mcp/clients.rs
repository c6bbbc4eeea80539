//! Clients that do not keep to the protocol.

use crate::raw::{Client, PATIENCE, texts};
use crate::{configure, installed, wrong};
use serde_json::{Value, json};
use std::collections::HashSet;

fn client(capabilities: &Value) -> (tempfile::TempDir, Client) {
    let dir = tempfile::tempdir().expect("a folder");
    configure(dir.path(), &json!({ "mcpServers": {} }));
    let client = Client::start(dir.path(), &[], capabilities);
    (dir, client)
}

#[test]
fn a_flood_of_requests_is_answered() {
    let (_dir, mut client) = client(&json!({}));
    let many = 3_000;
    let mut awaited: HashSet<u64> = (0..many)
        .map(|n| {
            let arguments = json!({ "code": format!("text({n})"), "yield_time_ms": 60_000 });
            client.begin("tools/call", json!({ "name": "exec", "arguments": arguments }))
        })
        .collect();
    let mut refused = 0;
    while !awaited.is_empty() {
        let message = client.next(PATIENCE).expect("an answer");
        let id = message["id"].as_u64().expect("an id");
        assert!(awaited.remove(&id), "answered twice: {message}");
        refused += usize::from(message["result"]["isError"] == true);
    }
    assert!(refused < many, "some programs ran");
    assert_eq!(client.printed("text('after')"), "after");
}

#[test]
fn what_is_not_a_request_ends_nothing() {
    let (_dir, mut client) = client(&json!({}));
    let long = json!({ "jsonrpc": "2.0", "id": 999_999, "method": "tools/call",
        "params": { "name": "exec", "arguments": { "code": "x".repeat(17 << 20) } } });
    for line in [
        "garbage".to_owned(),
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        r#"[{"jsonrpc":"2.0","id":70001,"method":"ping"},{"jsonrpc":"2.0","id":70002,"method":"ping"}]"#.to_owned(),
        r#"{"jsonrpc":"1.0","id":70003,"method":"ping"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":null,"method":"tools/list"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":{"a":1},"method":"tools/list"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":70004,"result":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/nonsense"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":70005,"method":"nonsense"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":70006,"method":"tools/call","params":{"name":"exec","arguments":[]}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":70007,"method":"tools/call","params":{"name":"__proto__"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":70008,"method":"subscriptions/listen","params":{"notifications":5}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":70009,"method":"tasks/get","params":{"taskId":"../../x"}}"#.to_owned(),
        format!("{{\"jsonrpc\":\"2.0\",\"id\":70010,\"method\":\"tools/list\",\"params\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000)),
        long.to_string(),
    ] {
        client.send_line(&line);
        assert_eq!(client.printed("text('goes on')"), "goes on", "{}", &line[..line.len().min(100)]);
    }
}

/// JavaScript sends them where a text was cut.
#[test]
fn programs_with_halves_of_characters_run() {
    let (_dir, mut client) = client(&json!({}));
    let halves = r"text('\ud83d|\ude00|\ud83d\ude00')";
    for code in [halves.to_owned(), format!("{halves};//{}{halves}", "x".repeat(300_000))] {
        let id = client.begin("tools/list", json!({})) + 1_000;
        client.send_line(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"exec","arguments":{{"code":"{code}"}}}}}}"#
        ));
        let result = client.response(id)["result"].take();
        assert_eq!(result["structuredContent"]["output"], "\u{fffd}|\u{fffd}|\u{1f600}");
    }
}

#[test]
fn an_id_that_is_used_twice_harms_nothing_else() {
    let (_dir, mut client) = client(&json!({}));
    let arguments = json!({ "code": "await new Promise((r) => setTimeout(r, 300)); text('slow')" });
    let request = json!({ "jsonrpc": "2.0", "id": 500, "method": "tools/call",
        "params": { "name": "exec", "arguments": arguments } });
    client.send(&request);
    client.send(&request);
    // One answer at least; what a client makes of two is its own affair.
    let message = client.next(PATIENCE).expect("an answer");
    assert_eq!(message["id"], 500, "{message}");
    assert_eq!(client.printed("text('goes on')"), "goes on");
}

#[test]
fn a_client_that_goes_away_ends_everything() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    configure(dir.path(), &json!({ "mcpServers": { "s": wrong("hangs", &[]) } }));
    let mut client = Client::start(dir.path(), &[], &json!({}));
    client.begin(
        "tools/call",
        json!({ "name": "exec", "arguments": {
        "code": "await tools.s.call({})" } }),
    );
    // The call has begun once other programs see it run.
    assert_eq!(client.printed("text('runs')"), "runs");
    assert!(client.close().success(), "it ends by itself, its programs and servers too");
}

#[test]
fn arguments_of_any_shape_are_refused_in_words() {
    let (_dir, mut client) = client(&json!({}));
    for (arguments, said) in [
        (json!({}), "exec takes either `code` or `script`"),
        (json!({ "code": 5 }), "code"),
        (json!({ "code": "1", "yield_time_ms": -1 }), "yield_time_ms"),
        (json!({ "code": "1", "max_output_tokens": "x" }), "max_output_tokens"),
        (json!({ "code": "1", "language": "python" }), "\"python\" is not run here"),
        (json!({ "code": "1", "session": "../../etc/passwd" }), "there is no session"),
        (json!({ "code": "1", "session": "x".repeat(10_000) }), "there is no session"),
        (json!({ "code": "" }), "exec"),
    ] {
        let refused = client.call("exec", arguments.clone());
        assert_eq!(refused["isError"], true, "{arguments}: {refused}");
        let text = texts(&refused);
        assert!(text.contains(said) && text.len() < 1_000, "{arguments}: {text}");
    }
    for cell in ["1", "../1", "0000.1", "", "99999999999999999999"] {
        let refused = client.call("wait", json!({ "cell_id": cell }));
        assert_eq!(refused["isError"], true, "{cell}: {refused}");
    }
}
