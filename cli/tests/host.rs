//! `cellblock host`: what its clients may send, and what becomes of the rest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cellblock_remote::protocol::frame;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;
use support::{PATIENCE, PROGRAM, Served, execute, get};

/// A host on standard streams that gets these bytes and the end; its messages, how it
/// ended, and what it complained of.
fn stdio(input: &[u8]) -> (Vec<Value>, ExitStatus, String) {
    let mut child = Command::new(PROGRAM)
        .args(["host", "--listen", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A host that has closed the connection reads no further.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let (mut rest, mut messages) = (&output.stdout[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        messages.push(serde_json::from_slice(payload).unwrap());
        rest = after;
    }
    (messages, output.status, String::from_utf8(output.stderr).unwrap())
}

fn frames(messages: &[Value]) -> Vec<u8> {
    messages.iter().flat_map(|message| frame::encode(message).unwrap()).collect()
}

fn hello() -> Value {
    json!({ "type": "connection/hello", "supportedVersions": [1],
        "requiredCapabilities": [], "optionalCapabilities": [] })
}

#[test]
fn a_hello_that_does_not_suit_is_rejected() {
    let hello = |versions: Value, required: Value, optional: Value| {
        json!({ "type": "connection/hello", "supportedVersions": versions,
            "requiredCapabilities": required, "optionalCapabilities": optional })
    };
    for (hello, reason) in [
        (
            hello(json!([2, 3]), json!([]), json!([])),
            json!({ "type": "noCompatibleVersion", "supportedVersions": [1] }),
        ),
        (
            hello(json!([1]), json!(["dual-websocket-v1"]), json!([])),
            json!({ "type": "missingRequiredCapability", "capability": "dual-websocket-v1" }),
        ),
        (
            hello(json!([]), json!([]), json!([])),
            json!({ "type": "invalidHello", "message": "supportedVersions is empty" }),
        ),
        (
            hello(json!([0]), json!([]), json!([])),
            json!({ "type": "invalidHello", "message": "supportedVersions must be at least 1" }),
        ),
        (
            hello(json!([1, 1]), json!([]), json!([])),
            json!({ "type": "invalidHello", "message": "supportedVersions has a duplicate" }),
        ),
        (
            hello(json!([1]), json!([" "]), json!([])),
            json!({ "type": "invalidHello", "message": "a capability is blank" }),
        ),
        (
            hello(json!([1]), json!(["x"]), json!(["x"])),
            json!({ "type": "invalidHello", "message": "the capability `x` is listed twice" }),
        ),
    ] {
        let (messages, status, _) = stdio(&frames(&[hello]));
        assert_eq!(messages, [json!({ "type": "connection/rejected", "reason": reason })]);
        assert!(status.success());
    }
}

#[test]
fn what_breaks_the_protocol_ends_the_connection_with_a_reason() {
    let open = json!({ "type": "operation/request", "id": 1,
        "request": { "method": "session/open", "sessionId": "s" } });
    let with_hello = |message: Value| frames(&[hello(), message]);
    let raw = |bytes: &[u8]| [&frames(&[hello()])[..], bytes].concat();
    for (input, complaint) in [
        (frames(std::slice::from_ref(&open)), "the first message must be connection/hello"),
        (with_hello(hello()), "a second connection/hello"),
        (with_hello(json!({ "type": "bogus" })), "unknown variant `bogus`"),
        (
            with_hello(json!({ "type": "operation/cancel", "id": 1, "more": 1 })),
            "unknown field `more`",
        ),
        (frames(&[hello(), open.clone(), open]), "the request id 1 was used twice"),
        (raw(b"\x03\0\0\0{x}"), "failed to decode"),
        (raw(b"\x02\0\0\0\xff\xfe"), "failed to decode"),
        (raw(b"\x01\0\0\x04"), "frame size too big"),
        (raw(b"\x09\0\0\0{\"typ"), "bytes remaining on stream"),
        (raw(b"\x09\0"), "bytes remaining on stream"),
    ] {
        let (_, status, complaints) = stdio(&input);
        assert_eq!(status.code(), Some(1), "{complaints}");
        assert!(complaints.contains(complaint), "{complaint}: {complaints}");
    }
}

#[test]
fn a_client_that_ends_cleanly_ends_the_host() {
    for input in [frames(&[]), frames(&[hello()])] {
        let (_, status, complaints) = stdio(&input);
        assert!(status.success() && complaints.is_empty(), "{complaints}");
    }
    // With a cell at work.
    let open = json!({ "type": "operation/request", "id": 1,
        "request": { "method": "session/open", "sessionId": "s" } });
    let spin =
        json!({ "type": "operation/request", "id": 2, "request": execute("for (;;);", 60_000) });
    let (messages, status, _) = stdio(&frames(&[hello(), open, spin]));
    assert_eq!(messages[2]["result"]["value"]["type"], "execution/started");
    assert!(status.success());
}

#[test]
fn what_a_request_gets_wrong_is_that_requests_error() {
    let served = Served::start("unix", &[]);
    let mut client = served.session();
    let open = |id: &str| json!({ "method": "session/open", "sessionId": id });
    let message = |result: Value| result["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(message(client.request(&open("s"))), "code-mode session ID `s` is already open");
    assert_eq!(message(client.request(&open(" "))), "code-mode session ID is blank");
    let nowhere = json!({ "method": "session/terminate", "sessionId": "x", "cellId": "1" });
    assert_eq!(message(client.request(&nowhere)), "unknown code-mode session x");
    let shutdown = json!({ "method": "session/shutdown", "sessionId": "s" });
    assert_eq!(client.request(&shutdown)["value"]["type"], "session/closed");
    assert_eq!(message(client.request(&open("s"))), "code-mode session ID `s` was reused");
    let tiny = json!({ "method": "session/open", "sessionId": "t",
        "cellExecutionLimits": { "maxHeapSizeBytes": 1 } });
    assert!(message(client.request(&tiny)).starts_with("the memory limit must be between"));
    // None of it has hurt the connection.
    assert_eq!(client.request(&open("u"))["status"], "ok");
}

#[test]
fn a_zone_that_does_not_exist_is_that_requests_error() {
    let served = Served::start("unix", &[]);
    let mut client = served.connect();
    client.send(&json!({ "type": "connection/hello", "supportedVersions": [1],
        "requiredCapabilities": ["cellblock-seam-v1"], "optionalCapabilities": [] }));
    client.until("connection/ready");
    client.request(&json!({ "method": "session/open", "sessionId": "s" }));
    let in_zone = |zone: &str| {
        let mut request = execute("1", 60_000);
        request["seam"] = json!({ "regional": { "timeZone": zone } });
        request
    };
    let refused = client.request(&in_zone("Nowhere"))["message"].to_string();
    assert!(refused.contains("invalid code-mode execute request: \\\"Nowhere\\\""), "{refused}");
    assert_eq!(client.request(&in_zone("Europe/Zurich"))["status"], "ok");
}

#[test]
fn the_memory_limit_of_a_session_holds() {
    let served = Served::start("unix", &[]);
    let mut client = served.connect();
    client.hello();
    client.request(&json!({ "method": "session/open", "sessionId": "s",
        "cellExecutionLimits": { "maxHeapSizeBytes": 8 << 20 } }));
    let response =
        client.execute("const all = []; for (;;) all.push('x'.repeat(1e6) + all.length)", 60_000);
    let text = response["value"]["Result"]["error_text"].as_str().unwrap();
    assert!(text.starts_with("cell stopped: its memory limit of 8388608 bytes"), "{text}");
}

#[test]
fn requests_in_flight_are_bounded() {
    let served = Served::start("unix", &["--max-cells", "300", "--max-cells-per-session", "300"]);
    let mut client = served.session();
    for _ in 0..256 {
        client.ask(&execute("await tools.stone()", 600_000));
    }
    let last = client.ask(&execute("text(1)", 600_000));
    let refused = loop {
        let response = client.until("operation/response");
        if response["id"] == last {
            break response;
        }
        assert_eq!(response["result"]["status"], "ok");
    };
    let message = "code-mode host has too many in-flight requests";
    assert_eq!(refused["result"], json!({ "status": "error", "message": message }));
    // The session ends all the same, and every cell closes once.
    client.ask(&json!({ "method": "session/shutdown", "sessionId": "s" }));
    let mut closed = 0;
    loop {
        let message = client.receive().unwrap();
        closed += u32::from(message["type"] == "cell/closed");
        if message["result"]["value"]["type"] == "session/closed" {
            break;
        }
    }
    assert_eq!(closed, 256);
}

#[test]
fn active_cells_are_bounded_over_all_sessions() {
    let served = Served::start("unix", &["--max-cells", "1"]);
    let (mut one, mut other) = (served.session(), served.session());
    one.execute("await tools.stone()", 0);
    let refused = other.request(&execute("text(1)", 1));
    let message = "code-mode host has too many active cells";
    assert_eq!(refused, json!({ "status": "error", "message": message }));
    // A client that is killed leaves nothing behind.
    drop(one);
    let began = Instant::now();
    while other.request(&execute("text(1)", 60_000))["status"] != "ok" {
        assert!(began.elapsed() < PATIENCE);
    }
    other.until("cell/closed");
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    let served = Served::start("unix", &[]);
    let mut deaf = served.session();
    for _ in 0..8 {
        deaf.ask(&execute("for (let i = 0; i < 30; i++) text('x'.repeat(1e6))", 60_000));
    }
    let mut other = served.session();
    let response = other.execute("text(6 * 7)", 60_000);
    assert_eq!(response["value"]["Result"]["content_items"][0]["text"], "42");
}

#[test]
fn a_response_that_is_too_long_fails_alone() {
    let large = ["--limit", "output_bytes=1GiB", "--limit", "host_bytes=1GiB"];
    let served = Served::start("unix", &large);
    let mut client = served.session();
    // Each character takes six bytes of JSON.
    let response = client.execute("text('\\u0001'.repeat(12e6))", 60_000);
    assert_eq!(response["status"], "error");
    assert!(response["message"].as_str().unwrap().contains("IPC frame limit"), "{response}");
    client.until("cell/closed");
    let response = client.execute("text('on')", 60_000);
    assert_eq!(response["value"]["Result"]["content_items"][0]["text"], "on");
}

#[test]
fn it_goes_by_the_name_of_codexs_host() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("codex-code-mode-host");
    std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
    let mut child = Command::new(link)
        .args(["--listen", "stdio"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_url_that_names_nothing_is_a_usage_error() {
    let output = Command::new(PROGRAM).args(["host", "--listen", "http://x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ws://IP:PORT"));
}

#[tokio::test]
async fn websockets_carry_frames_and_browsers_are_refused() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let served = Served::start("ws", &[]);
    assert_eq!(get(served.address(), "/readyz", ""), "HTTP/1.1 200 OK");
    let origin = "Origin: http://evil.example\r\n";
    assert_eq!(get(served.address(), "/readyz", origin), "HTTP/1.1 403 Forbidden");
    assert_eq!(get(served.address(), "/", origin), "HTTP/1.1 403 Forbidden");

    let (mut socket, _) = tokio_tungstenite::connect_async(&served.url).await.unwrap();
    let open = json!({ "type": "operation/request", "id": 1,
        "request": { "method": "session/open", "sessionId": "s" } });
    let run =
        json!({ "type": "operation/request", "id": 2, "request": execute("text(6 * 7)", 60_000) });
    for message in [hello(), open, run] {
        socket.send(Message::Binary(frame::encode(&message).unwrap())).await.unwrap();
        socket.send(Message::Ping("".into())).await.unwrap();
    }
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "cell/closed") {
        if let Message::Binary(message) = socket.next().await.unwrap().unwrap() {
            let payload = frame::unwrap(&message).unwrap();
            let message: Value = frame::decode(&payload).unwrap();
            kinds.push(message["type"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(kinds[3..], ["execute/initialResponse", "cell/closed"]);
    // A text message is not a frame, and ends this connection; the next one is served.
    socket.send(Message::Text("{}".into())).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    assert!(tokio_tungstenite::connect_async(&served.url).await.is_ok());
}
