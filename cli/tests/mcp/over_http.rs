//! The gateway over HTTP: who may use it, and whose a session is.

use crate::raw::PROGRAM;
use crate::{configure, installed, wrong};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// `cellblock mcp --http` as a child.
pub struct Served {
    child: Child,
    /// Where it serves.
    pub address: String,
    _dir: tempfile::TempDir,
}

impl Served {
    /// Serves no server.
    pub fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        configure(dir.path(), &json!({ "mcpServers": {} }));
        Self::start_in(dir, arguments)
    }

    /// Serves what a folder has the configuration of.
    pub fn start_in(dir: tempfile::TempDir, arguments: &[&str]) -> Self {
        let tokens = "# whose\none 0123456789abcdef-one\ntwo 0123456789abcdef-two\n";
        std::fs::write(dir.path().join("tokens"), tokens).expect("a file");
        let mut child = Command::new(PROGRAM)
            .args(["mcp", "--start-wait", "100s", "--http", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        output.read_line(&mut line).expect("a line");
        let address = line.trim().strip_suffix("/mcp").and_then(|url| url.split_once("://"));
        let address = address.expect(&line).1.to_owned();
        Self { child, address, _dir: dir }
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The status and the message that a request is answered with.
    pub fn post(&self, headers: &[(&str, &str)], method: &str, params: Value) -> (u16, Value) {
        let mut stream = self.begin(headers, method, params);
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("text");
        let status = response.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let found = response.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
        let mut message = found.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        (status, message.rfind(Value::is_object).unwrap_or_default())
    }

    /// A connection on which a request was sent.
    fn begin(&self, headers: &[(&str, &str)], method: &str, mut params: Value) -> TcpStream {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
        });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let body = body.to_string();
        let mut request = format!("POST /mcp HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        let name = params["name"].as_str().unwrap_or_default();
        let own = [
            ("Host", self.address.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", "2026-07-28"),
            ("Mcp-Method", method),
            ("Mcp-Name", name),
            ("Connection", "close"),
        ];
        let given = |name: &str| headers.iter().any(|(given, _)| *given == name);
        let own = own.iter().filter(|(name, value)| !given(name) && !value.is_empty());
        for (name, value) in own.chain(headers) {
            for part in [name, ": ", value, "\r\n"] {
                request += part;
            }
        }
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).expect("it reads");
        stream
    }

    /// Runs a program.
    pub fn exec(&self, headers: &[(&str, &str)], arguments: Value) -> Value {
        let params = json!({ "name": "exec", "arguments": arguments });
        let (status, message) = self.post(headers, "tools/call", params);
        assert_eq!(status, 200, "{message}");
        message["result"].clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_program_has_a_session_and_may_share_it() {
    let served = Served::start(&[]);
    let stored = served.exec(&[], json!({ "code": "store('a', 1); text('stored')" }));
    let session = stored["structuredContent"]["session"].as_str().expect("a handle");
    assert_eq!(session.len(), 32, "128 bits: {session}");
    let other = served.exec(&[], json!({ "code": "text(load('a') ?? 'nothing')" }));
    assert_eq!(other["structuredContent"]["output"], "nothing", "{other}");
    let same = served.exec(&[], json!({ "code": "text(load('a'))", "session": session }));
    assert_eq!(same["structuredContent"]["output"], "1", "{same}");

    let running = served.exec(
        &[],
        json!({ "yield_time_ms": 50,
        "code": "await new Promise((r) => setTimeout(r, 500)); text('late')" }),
    );
    let cell = running["structuredContent"]["cell_id"].as_str().expect("an id");
    let (_, waited) =
        served.post(&[], "tools/call", json!({ "name": "wait", "arguments": { "cell_id": cell } }));
    assert_eq!(waited["result"]["structuredContent"]["output"], "late", "{waited}");
}

#[test]
fn a_session_works_for_its_tenant_alone() {
    let served = Served::start(&["--token-file", "tokens"]);
    let one = [("Authorization", "Bearer 0123456789abcdef-one")];
    let two = [("Authorization", "Bearer 0123456789abcdef-two")];
    let wrong = [("Authorization", "Bearer 0123456789abcdef-three")];
    for headers in [&[][..], &wrong] {
        let (status, _) = served.post(headers, "tools/list", json!({}));
        assert_eq!(status, 401);
    }
    let stored = served.exec(&one, json!({ "code": "store('a', 1)" }));
    let session = stored["structuredContent"]["session"].as_str().expect("a handle");
    let arguments = json!({ "code": "text(load('a'))", "session": session });
    assert_eq!(served.exec(&one, arguments.clone())["structuredContent"]["output"], "1");
    let refused = served.exec(&two, arguments);
    let text = refused["content"][0]["text"].as_str().expect("a text");
    assert!(text.starts_with("there is no session"), "{text}");
    let cell = format!("{session}.1");
    let (_, waited) = served.post(
        &two,
        "tools/call",
        json!({ "name": "wait", "arguments": { "cell_id": cell } }),
    );
    let text = waited["result"]["content"][0]["text"].as_str().expect("a text");
    assert!(text.starts_with("there is no session"), "{text}");
}

#[test]
fn web_pages_and_other_names_are_refused() {
    let served = Served::start(&["--allow-origin", "https://good.example:443"]);
    for (header, value, expected) in [
        ("Host", "evil.example", 403),
        ("Host", "evil.example:80", 403),
        ("Host", "localhost.evil.example", 403),
        ("Host", "127.0.0.1.evil.example", 403),
        ("Host", "evil.example#localhost", 400),
        ("Host", "localhost@evil.example", 403),
        ("Host", "0.0.0.0", 403),
        ("Host", "2130706433", 403),
        ("Host", "[::1]", 200),
        ("Host", "LOCALHOST:1", 200),
        ("Origin", "http://localhost.evil.example", 403),
        ("Origin", "https://good.example.evil.example", 403),
        ("Origin", "https://evil.example/https://good.example", 403),
        ("Origin", "file://", 403),
        ("Origin", "http://good.example", 403),
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "https://good.example", 200),
    ] {
        let (status, message) = served.post(&[(header, value)], "tools/list", json!({}));
        assert_eq!(status, expected, "{header}: {value}: {message}");
    }
    let without = Served::start(&[]);
    let (status, _) = without.post(&[("Origin", "http://127.0.0.1")], "tools/list", json!({}));
    assert_eq!(status, 403, "no page may use it that is not named");
}

#[test]
fn an_answer_works_for_its_tenant_alone_and_once() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("erased");
    let server = wrong("works", &[&file.display().to_string()]);
    configure(dir.path(), &json!({ "mcpServers": { "s": server } }));
    let served = Served::start_in(dir, &["--token-file", "tokens"]);
    let one = [("Authorization", "Bearer 0123456789abcdef-one")];
    let two = [("Authorization", "Bearer 0123456789abcdef-two")];
    let arguments = json!({ "code": "await tools.s.erase({ what: 'a' }); text('erased')" });
    let asked = served.exec(&one, arguments.clone());
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let state = asked["requestState"].as_str().expect("a state");
    let accept = json!({ "call_1": { "action": "accept", "content": { "approve": true } } });
    let again = |headers: &[(&str, &str)], state: &str| {
        let params = json!({ "name": "exec", "arguments": arguments, "requestState": state,
            "inputResponses": accept });
        served.post(headers, "tools/call", params).1["result"].clone()
    };
    let altered: String = state.chars().rev().collect();
    for (headers, state) in [(&two, state), (&one, &altered), (&one, "")] {
        let refused = again(headers, state);
        assert!(refused.to_string().contains("not started again"), "{refused}");
        assert!(!file.exists());
    }
    let ran = again(&one, state);
    assert_eq!(ran["structuredContent"]["output"], "erased", "{ran}");
    let twice = again(&one, state);
    assert!(twice.to_string().contains("not started again"), "{twice}");
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "a\n");
}

#[test]
fn a_program_ends_with_the_connection_of_who_sent_it() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (begun, ended) = (dir.path().join("begun"), dir.path().join("ended"));
    let files = [&begun, &ended].map(|file| file.display().to_string());
    let server = wrong("marks", &[&files[0], &files[1]]);
    configure(dir.path(), &json!({ "mcpServers": { "s": server } }));
    let served = Served::start_in(dir, &[]);
    let arguments = json!({ "code": "await tools.s.call({})" });
    let params = json!({ "name": "exec", "arguments": arguments });
    let connection = served.begin(&[], "tools/call", params);
    let until = |file: &std::path::Path| {
        for _ in 0..1_200 {
            if file.exists() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    };
    assert!(until(&begun), "the call begins");
    drop(connection);
    assert!(until(&ended), "the server behind is told to cancel the call");
}

#[test]
fn other_machines_need_encryption_and_a_token() {
    let dir = tempfile::tempdir().expect("a folder");
    configure(dir.path(), &json!({ "mcpServers": {} }));
    let refused = Command::new(PROGRAM)
        .args(["mcp", "--http", "0.0.0.0:0"])
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("can be reached from other machines"), "{said}");
}
