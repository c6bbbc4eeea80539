//! `cellblock host` and its client under what clients, hosts and networks do to each other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cellblock::protocol::frame;
use cellblock::{
    CodeModeError, CodeModeService, ContentItem, ExecuteRequest, HostAddress, HostCommand,
    HostProcess, ProcessBackend, ProcessLimits, RuntimeResponse, WaitOutcome, WaitRequest,
};
use cellblock_tests::contract::Host as TestHost;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cellblock");

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A host on a Unix socket or a port, ended with the test.
struct Served {
    child: Child,
    url: String,
    _dir: TempDir,
    socket: PathBuf,
}

impl Served {
    fn start(scheme: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("host");
        let place = match scheme {
            "unix" | "grpc+unix" => socket.display().to_string(),
            _ => "127.0.0.1:0".to_owned(),
        };
        let mut child = Command::new(PROGRAM)
            .args(["host", "--listen", &format!("{scheme}://{place}")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned(), _dir: dir, socket }
    }

    fn connect(&self) -> Client<UnixStream> {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream, last_id: 0 }
    }

    /// A client that has said hello and opened the session `s`.
    fn session(&self) -> Client<UnixStream> {
        let mut client = self.connect();
        client.hello();
        client.request(&json!({ "method": "session/open", "sessionId": "s" }));
        client
    }

    fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that says what it is told to.
struct Client<S> {
    stream: S,
    last_id: i64,
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, message: &Value) {
        self.stream.write_all(&frame::encode(message).unwrap()).unwrap();
    }

    /// The next message; `None` at the end.
    fn receive(&mut self) -> Option<Value> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut payload = vec![0; u32::from_le_bytes(length) as usize];
        self.stream.read_exact(&mut payload).unwrap();
        Some(serde_json::from_slice(&payload).unwrap())
    }

    /// The next message of a type.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let message = self.receive().expect(kind);
            if message["type"] == kind {
                return message;
            }
        }
    }

    fn hello(&mut self) {
        self.send(&json!({ "type": "connection/hello", "supportedVersions": [1],
            "requiredCapabilities": [],
            "optionalCapabilities": ["session-cell-execution-resource-limits"] }));
        self.until("connection/ready");
    }

    fn ask(&mut self, request: &Value) -> i64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({ "type": "operation/request", "id": id, "request": request }));
        id
    }

    /// The result of a request.
    fn request(&mut self, request: &Value) -> Value {
        let id = self.ask(request);
        loop {
            let response = self.until("operation/response");
            if response["id"] == id {
                return response["result"].clone();
            }
        }
    }

    /// The first response of a program in the session `s`.
    fn execute(&mut self, source: &str, yield_time_ms: u64) -> Value {
        self.ask(&execute(source, yield_time_ms));
        let response = self.until("operation/response");
        assert_eq!(response["result"]["status"], "ok", "{response}");
        self.until("execute/initialResponse")["result"].clone()
    }
}

fn execute(source: &str, yield_time_ms: u64) -> Value {
    let tool = json!({ "name": "stone", "tool_name": { "name": "stone", "namespace": null },
        "description": "", "kind": "function", "input_schema": null, "output_schema": null });
    json!({ "method": "session/execute", "sessionId": "s", "request": {
        "tool_call_id": "c", "enabled_tools": [tool], "source": source,
        "yield_time_ms": yield_time_ms, "max_output_tokens": null } })
}

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
    // A host that has given up reads no further.
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
    let served = Served::start("unix", &["--max-cells", "300"]);
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
    let served = Served::start("unix", &[]);
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

/// The status line of a plain HTTP/1.1 request.
fn get(address: &str, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
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
    // A text is no frame, and ends this connection; the next one is served.
    socket.send(Message::Text("{}".into())).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    assert!(tokio_tungstenite::connect_async(&served.url).await.is_ok());
}

fn service(address: HostAddress) -> (CodeModeService, HostProcess) {
    let host = HostProcess::new(address);
    (CodeModeService::new(Arc::new(ProcessBackend::new(&host))), host)
}

fn text(response: &RuntimeResponse) -> &str {
    match response.content_items() {
        [ContentItem::InputText { text }] => text,
        other => panic!("not one text: {other:?}"),
    }
}

#[tokio::test]
async fn every_address_reaches_a_host() {
    let (unix, grpc_unix) = (Served::start("unix", &[]), Served::start("grpc+unix", &[]));
    let grpc = Served::start("grpc", &[]);
    assert_eq!(get(grpc.address(), "/healthz", ""), "HTTP/1.1 200 OK");
    for address in [
        HostAddress::Unix(unix.socket.clone()),
        HostAddress::GrpcUnix(grpc_unix.socket.clone()),
        HostAddress::Grpc(grpc.address().parse().unwrap()),
    ] {
        let (service, _host) = service(address.clone());
        let response = service.execute(ExecuteRequest::new("text(6 * 7)")).await;
        assert_eq!(text(&response.unwrap_or_else(|error| panic!("{address:?}: {error}"))), "42");
        service.shutdown().await;
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_unavailable() {
    let (service, _host) = service(HostAddress::Child(HostCommand::new("/no/such/host")));
    let why = "failed to spawn code-mode host /no/such/host: host executable was not found";
    let unavailable = CodeModeError::Unavailable(why.to_owned());
    assert_eq!(service.backend().availability(), Err(unavailable.clone()));
    let refused = service.execute(ExecuteRequest::new("")).await;
    assert_eq!(refused, Err(unavailable));
    assert!(service.cells().is_empty());
}

#[tokio::test]
async fn a_program_that_is_no_host_is_unavailable() {
    let (service, _host) = service(HostAddress::Child(HostCommand::new("/bin/true")));
    let refused = service.execute(ExecuteRequest::new("")).await.unwrap_err();
    assert!(refused.to_string().contains("code-mode host handshake failed"), "{refused}");
}

/// The processes that were started by this path.
fn started_by(link: &Path) -> Vec<u32> {
    let link = link.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
        line.split(|byte| *byte == 0).next().is_some_and(|first| first == link).then_some(id)
    });
    processes.collect()
}

fn killed(address: fn(HostCommand) -> HostAddress, listen: &str) {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("host");
    std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
    let command = HostCommand::new(&link).args(["host", "--listen", listen]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (service, host) = service(address(command));
        let turn = Arc::new(TestHost::default());
        let _worker = service.start_turn_worker(Arc::clone(&turn) as _);
        let tools = cellblock_tests::contract::Bench::request("store('k', 1); await tools.hang()");
        let mut ids = Vec::new();
        for _ in 0..2 {
            let request = ExecuteRequest { yield_time_ms: Some(0), ..tools.clone() };
            ids.push(service.execute(request).await.unwrap().cell_id().clone());
        }
        while turn.log().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiting = tokio::spawn({
            let (service, cell_id) = (service.clone(), ids[0].clone());
            async move { service.wait(WaitRequest { cell_id, yield_time_ms: 60_000 }).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let [child] = started_by(&link)[..] else { panic!("one host") };
        let pid = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // Whoever waits hears of it, every cell closes once, and its calls are cancelled.
        let lost = waiting.await.unwrap().unwrap_err();
        assert!(matches!(lost, CodeModeError::Host(_)), "{lost:?}");
        let began = Instant::now();
        let closed =
            |id: &str| turn.log().iter().filter(|line| **line == format!("closed {id}")).count();
        while closed("1") + closed("2") < 2 {
            assert!(began.elapsed() < PATIENCE, "{:?}", turn.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((closed("1"), closed("2")), (1, 1));
        assert_eq!(turn.log().iter().filter(|line| *line == "returned hang").count(), 2);
        // The next program starts the next generation; the old one's cells are stale.
        let response =
            service.execute(ExecuteRequest::new("text(String(load('k')))")).await.unwrap();
        assert_eq!((response.cell_id().as_ref(), text(&response)), ("g2:1", "undefined"));
        let stale = service.wait(WaitRequest { cell_id: "2".into(), yield_time_ms: 1 }).await;
        assert_eq!(stale, Err(CodeModeError::StaleGeneration("2".into())));
        let message = "cell 2 belongs to a stale code-mode host generation";
        assert_eq!(stale.unwrap_err().to_string(), message);
        let gone = service.wait(WaitRequest { cell_id: "g2:1".into(), yield_time_ms: 1 }).await;
        assert!(matches!(gone, Ok(WaitOutcome::MissingCell(_))), "{gone:?}");
        // With the last handle the child goes, too.
        let [child] = started_by(&link)[..] else { panic!("one host") };
        drop((service, host));
        let began = Instant::now();
        while Path::new(&format!("/proc/{child}")).exists() {
            assert!(began.elapsed() < PATIENCE, "an orphan");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_killed_host_closes_its_cells_and_is_started_again() {
    killed(HostAddress::Child, "stdio");
}

#[test]
fn a_killed_grpc_host_closes_its_cells_and_is_started_again() {
    killed(HostAddress::GrpcChild, "grpc+stdio://");
}

#[tokio::test]
async fn limits_of_a_session_travel() {
    for (listen, address) in
        [("stdio", HostAddress::Child as fn(_) -> _), ("grpc+stdio://", HostAddress::GrpcChild)]
    {
        let command = HostCommand::new(PROGRAM).args(["host", "--listen", listen]);
        let limits = ProcessLimits {
            max_yield_time_ms: Some(0),
            max_heap_size_bytes: Some(8 << 20),
            ..ProcessLimits::default()
        };
        let backend = ProcessBackend::with_limits(&HostProcess::new(address(command)), limits);
        let service = CodeModeService::new(Arc::new(backend));
        let spin = ExecuteRequest::new("for (;;);");
        assert!(matches!(service.execute(spin).await, Ok(RuntimeResponse::Yielded { .. })));
        let greedy =
            ExecuteRequest::new("const all = []; for (;;) all.push('x'.repeat(1e6) + all.length)");
        let cell_id = service.execute(greedy).await.unwrap().cell_id().clone();
        let RuntimeResponse::Result { error_text: Some(error), .. } = (loop {
            let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: 1_000 };
            let response = RuntimeResponse::from(service.wait(wait).await.unwrap());
            if !matches!(response, RuntimeResponse::Yielded { .. }) {
                break response;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }) else {
            panic!("no error")
        };
        assert!(error.contains("memory limit of 8388608 bytes"), "{listen}: {error}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_long_fails_alone() {
    for (listen, address) in
        [("stdio", HostAddress::Child as fn(_) -> _), ("grpc+stdio://", HostAddress::GrpcChild)]
    {
        let command = HostCommand::new(PROGRAM).args(["host", "--listen", listen]);
        let (service, _host) = service(address(command));
        let long = ExecuteRequest::new("x".repeat(frame::MAX_BYTES + 1));
        let refused = service.execute(long).await.unwrap_err();
        assert!(!matches!(refused, CodeModeError::EndedUnexpectedly), "{refused:?}");
        let response = service.execute(ExecuteRequest::new("text('on')")).await.unwrap();
        assert_eq!(text(&response), "on", "{listen}");
    }
}

/// A model that asks every millisecond is answered when there is something to say.
#[tokio::test]
async fn a_least_time_to_wait_saves_answers_with_nothing_new() {
    let command =
        HostCommand::new(PROGRAM).args(["host", "--listen", "stdio", "--min-wait", "50s"]);
    let host = HostProcess::new(HostAddress::Child(command));
    let service = CodeModeService::new(Arc::new(ProcessBackend::new(&host)));
    let source = "await new Promise((r) => setTimeout(r, 1500)); text('end')";
    let request = ExecuteRequest { yield_time_ms: Some(0), ..ExecuteRequest::new(source) };
    let RuntimeResponse::Yielded { cell_id, .. } = service.execute(request).await.unwrap() else {
        panic!("it ended at once");
    };
    let wait = WaitRequest { cell_id, yield_time_ms: 1 };
    let response = RuntimeResponse::from(service.wait(wait).await.unwrap());
    assert_eq!(response.content_items(), [ContentItem::InputText { text: "end".to_owned() }]);
    service.shutdown().await;
}

#[test]
fn a_least_time_that_clients_would_not_wait_for_is_refused() {
    let output = Command::new(PROGRAM).args(["host", "--min-wait", "2m"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("at most 55s"));
}
