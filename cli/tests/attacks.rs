//! What a client that means harm, or is careless, may do to a host and to other clients.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cellblock_remote::protocol::grpc::code_mode_host_client::CodeModeHostClient;
use cellblock_remote::protocol::grpc::complete_tool_call_request::Outcome;
use cellblock_remote::protocol::grpc::{self, execute_event, execution_outcome, session_event};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Served, execute, get, resident_mib};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Streaming};

/// A gRPC client with a session.
struct Session {
    client: CodeModeHostClient<Channel>,
    id: String,
    events: Streaming<grpc::SessionEvent>,
    executions: u32,
}

impl Session {
    async fn open(served: &Served) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", served.address())).unwrap();
        let mut client = CodeModeHostClient::new(endpoint.connect().await.unwrap())
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(65 << 20);
        let mut events =
            client.open_session(grpc::OpenSessionRequest::default()).await.unwrap().into_inner();
        let opened = events.message().await.unwrap().unwrap().event;
        let Some(session_event::Event::Opened(grpc::SessionOpened { session_id, .. })) = opened
        else {
            panic!("not opened: {opened:?}");
        };
        Self { client, id: session_id, events, executions: 0 }
    }

    fn program(&mut self, source: &str, yield_time_ms: u64) -> grpc::ExecuteRequest {
        self.executions += 1;
        grpc::ExecuteRequest {
            session_id: self.id.clone(),
            execution_id: format!("execution-{}", self.executions),
            tool_call_id: "call".to_owned(),
            source: source.to_owned(),
            enabled_tools: vec![grpc::ToolDefinition {
                name: "echo".to_owned(),
                description: "echo".to_owned(),
                ..grpc::ToolDefinition::default()
            }],
            yield_time_ms: Some(yield_time_ms),
            ..grpc::ExecuteRequest::default()
        }
    }

    /// The first outcome of a program.
    async fn execute(&mut self, source: &str, yield_time_ms: u64) -> grpc::ExecutionOutcome {
        let program = self.program(source, yield_time_ms);
        let mut events = self.client.execute(program).await.unwrap().into_inner();
        outcome(&mut events).await
    }

    fn wait(&self, cell_id: &str, wait_id: &str, yield_time_ms: u64) -> grpc::WaitRequest {
        grpc::WaitRequest {
            session_id: self.id.clone(),
            cell_id: cell_id.to_owned(),
            wait_id: wait_id.to_owned(),
            yield_time_ms,
            cellblock_until_frontier: None,
            cellblock_park: None,
        }
    }

    /// Waits for a cell whose waits have been given up. The host learns of a cancellation when it
    /// reads it, and each request has a task of its own there: a wait that is sent at once may
    /// still meet the one before it.
    async fn wait_when_free(
        &mut self,
        cell_id: &str,
        yield_time_ms: u64,
    ) -> grpc::ExecutionOutcome {
        let began = Instant::now();
        for attempt in 0.. {
            let wait = self.wait(cell_id, &format!("last-{attempt}"), yield_time_ms);
            match self.client.wait(wait).await {
                Ok(response) => return live(response.into_inner()),
                Err(refused) => {
                    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
                    assert!(began.elapsed() < Duration::from_secs(20), "{refused:?}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        unreachable!("the attempts have no end")
    }
}

async fn outcome(events: &mut Streaming<grpc::ExecuteEvent>) -> grpc::ExecutionOutcome {
    loop {
        let event = events.message().await.unwrap().expect("an outcome").event;
        if let Some(execute_event::Event::Outcome(outcome)) = event {
            return outcome;
        }
    }
}

fn texts(items: &[grpc::ContentItem]) -> String {
    let text = |item: &grpc::ContentItem| match item.item.as_ref() {
        Some(grpc::content_item::Item::Text(grpc::TextContent { text })) => text.clone(),
        other => panic!("not a text: {other:?}"),
    };
    items.iter().map(text).collect()
}

fn live(response: grpc::WaitResponse) -> grpc::ExecutionOutcome {
    match response.outcome {
        Some(grpc::wait_response::Outcome::LiveCell(outcome)) => outcome,
        other => panic!("no living cell: {other:?}"),
    }
}

/// Output that came while nobody waited any more is in the next answer.
#[tokio::test]
async fn a_grpc_wait_that_is_given_up_loses_no_output() {
    let served = Served::start("grpc", &[]);
    let mut session = Session::open(&served).await;
    let source = "yield_control(); await new Promise((r) => setTimeout(r, 400)); text('precious')";
    let cell = session.execute(source, 60_000).await.cell_id;
    let mut wait = Request::new(session.wait(&cell, "wait-1", 60_000));
    wait.set_timeout(Duration::from_millis(100));
    let given_up = session.client.wait(wait).await.unwrap_err();
    assert!(matches!(given_up.code(), Code::Cancelled | Code::DeadlineExceeded), "{given_up:?}");
    tokio::time::sleep(Duration::from_millis(600)).await;
    let wait = session.wait(&cell, "wait-2", 60_000);
    let ended = live(session.client.wait(wait).await.unwrap().into_inner());
    assert_eq!(texts(&ended.content_items), "precious");
    assert!(matches!(ended.state, Some(execution_outcome::State::Completed(_))));
}

/// A wait whose caller has gone away does not observe the cell any more, whenever it went.
#[tokio::test]
async fn grpc_waits_given_up_at_any_moment_leave_the_cell_to_others() {
    let served = Served::start("grpc", &[]);
    let mut session = Session::open(&served).await;
    let source = "yield_control(); for (let i = 0; i < 40; i++) {
        await new Promise((r) => setTimeout(r, 10)); text(`${i},`) }";
    let cell = session.execute(source, 60_000).await.cell_id;
    for at in 0..30 {
        let wait = session.wait(&cell, &format!("given-up-{at}"), 60_000);
        let mut client = session.client.clone();
        let waiting = tokio::spawn(async move { client.wait(wait).await });
        tokio::time::sleep(Duration::from_millis(at % 7)).await;
        waiting.abort();
    }
    let ended = session.wait_when_free(&cell, 60_000).await;
    let all = (0..40).map(|i| format!("{i},")).collect::<Vec<_>>().concat();
    assert_eq!(texts(&ended.content_items), all);
}

/// A response that is under way when its caller goes away goes back to its cell.
#[tokio::test]
async fn a_grpc_response_that_was_not_taken_goes_back() {
    let served = Served::start("grpc", &[]);
    let endpoint = Endpoint::from_shared(format!("http://{}", served.address())).unwrap();
    // So small a window keeps a large response on the host until it is read.
    let channel = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
    let mut session = Session::open(&served).await;
    let mut client = CodeModeHostClient::new(channel).max_decoding_message_size(64 << 20);
    let mut events =
        client.open_session(grpc::OpenSessionRequest::default()).await.unwrap().into_inner();
    let Some(session_event::Event::Opened(opened)) = events.message().await.unwrap().unwrap().event
    else {
        panic!("not opened");
    };
    (session.client, session.id) = (client, opened.session_id);
    let source = "yield_control(); await new Promise((r) => setTimeout(r, 50));
        text('x'.repeat(30e6)); await new Promise(() => {})";
    let cell = session.execute(source, 60_000).await.cell_id;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for at in 0..10 {
        let wait = session.wait(&cell, &format!("wait-{at}"), 0);
        let mut client = session.client.clone();
        let waiting = tokio::spawn(async move { client.wait(wait).await });
        tokio::time::sleep(Duration::from_millis(2 * at)).await;
        waiting.abort();
        if waiting.await.is_ok() {
            return; // It came in time: that is an answer, too.
        }
    }
    let yielded = session.wait_when_free(&cell, 100).await;
    assert_eq!(texts(&yielded.content_items).len(), 30_000_000);
}

/// A result of any shape rejects its own call at most, and the session goes on.
#[test]
fn a_result_of_any_depth_ends_its_own_call_at_most() {
    let served = Served::start("unix", &[]);
    let mut client = served.session();
    let program = "let r = ''; try { r = typeof await tools.echo({}) } catch (e) { r = String(e) }
        text(r)";
    for (result, expected) in [
        (nested(124), "object"),
        (nested(126), "object"),
        (nested(127), "object"),
        (nested(128), "nested more than 127 levels deep"),
        (nested(100_000), "nested more than 127 levels deep"),
        ("1e999".to_owned(), "number"),
        (r#""\ud800""#.to_owned(), "string"),
    ] {
        client.ask(&execute_with_echo(program, 60_000));
        let call = client.until("delegate/request");
        let response = format!(
            r#"{{"type":"delegate/response","id":{},"result":{{"status":"ok","value":{{"type":"tool/result","result":{result}}}}}}}"#,
            call["id"]
        );
        client.stream.write_all(&u32::try_from(response.len()).unwrap().to_le_bytes()).unwrap();
        client.stream.write_all(response.as_bytes()).unwrap();
        let response = client.until("execute/initialResponse");
        let text = &response["result"]["value"]["Result"]["content_items"][0]["text"];
        let shown = &result[..result.len().min(20)];
        assert!(text.as_str().unwrap().contains(expected), "{shown}: {response}");
    }
}

#[tokio::test]
async fn a_grpc_result_of_any_depth_ends_its_own_call_at_most() {
    let served = Served::start("grpc", &[]);
    let mut session = Session::open(&served).await;
    let subscribe = grpc::SubscribeToToolCallsRequest {
        session_id: session.id.clone(),
        tool_names: Vec::new(),
    };
    let mut calls = session.client.subscribe_to_tool_calls(subscribe).await.unwrap().into_inner();
    let program = "let r = ''; try { r = typeof await tools.echo({}) } catch (e) { r = String(e) }
        text(r)";
    for (result, expected) in [
        (nested(127).into_bytes(), "object"),
        (nested(100_000).into_bytes(), "nested more than 127 levels deep"),
        (vec![b'"', 0xff, b'"'], "not valid UTF-8"),
        (b"{".to_vec(), "tool result is not valid JSON"),
    ] {
        let program = session.program(program, 60_000);
        let mut events = session.client.execute(program).await.unwrap().into_inner();
        let call = calls.message().await.unwrap().unwrap();
        let completed = grpc::CompleteToolCallRequest {
            session_id: session.id.clone(),
            invocation_id: call.invocation_id,
            outcome: Some(Outcome::Succeeded(grpc::ToolCallSucceeded {
                output_json: result.into(),
            })),
        };
        session.client.complete_tool_call(completed).await.unwrap();
        let text = texts(&outcome(&mut events).await.content_items);
        assert!(text.contains(expected), "{text}");
    }
}

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

fn execute_with_echo(source: &str, yield_time_ms: u64) -> Value {
    let mut request = execute(source, yield_time_ms);
    request["request"]["enabled_tools"] = json!([{ "name": "echo",
        "tool_name": { "name": "echo", "namespace": null }, "description": "echo",
        "kind": "function", "input_schema": null, "output_schema": null }]);
    request
}

#[tokio::test]
async fn a_call_waits_a_moment_for_its_subscription() {
    let served = Served::start("grpc", &[]);
    let mut session = Session::open(&served).await;
    let program = session.program("text(await tools.echo({}))", 60_000);
    let mut events = session.client.execute(program).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let subscribe = grpc::SubscribeToToolCallsRequest {
        session_id: session.id.clone(),
        tool_names: Vec::new(),
    };
    let mut calls = session.client.subscribe_to_tool_calls(subscribe).await.unwrap().into_inner();
    let call = calls.message().await.unwrap().unwrap();
    let completed = grpc::CompleteToolCallRequest {
        session_id: session.id.clone(),
        invocation_id: call.invocation_id,
        outcome: Some(Outcome::Succeeded(grpc::ToolCallSucceeded {
            output_json: "\"here\"".into(),
        })),
    };
    session.client.complete_tool_call(completed).await.unwrap();
    assert_eq!(texts(&outcome(&mut events).await.content_items), "here");
    // Without a subscription it fails, and soon.
    drop(calls);
    let began = Instant::now();
    let source = "try { await tools.echo({}) } catch (e) { text(String(e)) }";
    let text = loop {
        // A call that is sent before the host knows that the subscription is over is lost with
        // it, and its cell waits.
        let text = texts(&session.execute(source, 5_000).await.content_items);
        if !text.is_empty() {
            break text;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "no call fails");
    };
    assert!(text.contains("no client serves the tool `echo`"), "{text}");
}

#[tokio::test]
async fn idle_connections_shut_nobody_out() {
    for scheme in ["grpc", "ws"] {
        let served = Served::start(scheme, &[]);
        let idle: Vec<_> = (0..400)
            .map(|at| {
                let mut stream = TcpStream::connect(served.address()).unwrap();
                // Nothing, half a request, or half a preface.
                let part: &[u8] =
                    [&b""[..], b"GET / HTTP/1.1\r\nHost:", b"PRI * HTTP/2.0\r\n"][at % 3];
                // One that had to make room may be closed already.
                let _ = stream.write_all(part);
                stream
            })
            .collect();
        let began = Instant::now();
        if scheme == "grpc" {
            let mut session = Session::open(&served).await;
            assert_eq!(texts(&session.execute("text(6 * 7)", 60_000).await.content_items), "42");
        } else {
            assert_eq!(get(served.address(), "/readyz", ""), "HTTP/1.1 200 OK");
            assert!(tokio_tungstenite::connect_async(&served.url).await.is_ok());
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{scheme}");
        drop(idle);
    }
}

#[test]
fn a_host_with_few_descriptors_still_serves() {
    let served = Served::limited("ws", "ulimit -n 100");
    let idle: Vec<_> = (0..150).filter_map(|_| TcpStream::connect(served.address()).ok()).collect();
    assert_eq!(get(served.address(), "/readyz", ""), "HTTP/1.1 200 OK");
    drop(idle);
}

#[test]
fn little_is_read_before_a_hello() {
    let served = Served::start("unix", &[]);
    let before = resident_mib(&served);
    let mut clients: Vec<_> = (0..20).map(|_| served.connect()).collect();
    for client in &mut clients {
        let _ = client.stream.write_all(&(60_u32 << 20).to_le_bytes());
        // The host gives it up on the way.
        let _ = client.stream.write_all(&vec![b' '; 4 << 20]);
        assert!(client.receive().is_none());
    }
    let grown = resident_mib(&served) - before;
    assert!(grown < 16, "{grown} MiB");
}

#[tokio::test]
async fn grpc_requests_are_bounded_in_bytes_over_all_streams() {
    let served = Served::start("grpc", &[]);
    let mut session = Session::open(&served).await;
    let before = resident_mib(&served);
    let mut sending = tokio::task::JoinSet::new();
    for at in 0..12 {
        let mut program = session.program("", 60_000);
        program.execution_id = format!("large-{at}");
        program.source = "x".repeat(62 << 20);
        let mut client = session.client.clone();
        sending.spawn(async move {
            let mut events = client.execute(program).await.unwrap().into_inner();
            events.message().await.map(drop).and(events.message().await)
        });
    }
    let mut most = 0;
    while let Some(sent) = {
        most = most.max(resident_mib(&served) - before);
        tokio::time::timeout(Duration::from_millis(20), sending.join_next())
            .await
            .unwrap_or(Some(Ok(Ok(None))))
    } {
        let sent = sent.unwrap();
        assert!(sent.as_ref().is_err() || matches!(sent, Ok(None)), "{sent:?}");
    }
    assert!(most < 400, "{most} MiB");
    assert_eq!(texts(&session.execute("text('on')", 60_000).await.content_items), "on");
    drop(session.events);
}

#[test]
fn identifiers_and_descriptions_are_bounded() {
    let served = Served::start("unix", &[]);
    let mut client = served.session();
    let long = "x".repeat(1_000);
    for (request, text) in [
        (
            json!({ "method": "session/open", "sessionId": long }),
            "code-mode session ID is 1000 bytes long, and the limit is 256",
        ),
        (
            json!({ "method": "session/terminate", "sessionId": "s", "cellId": long }),
            "code-mode cell ID is 1000 bytes long, and the limit is 256",
        ),
        (
            json!({ "method": "session/shutdown", "sessionId": long }),
            "code-mode session ID is 1000 bytes long, and the limit is 256",
        ),
        (
            {
                let mut request = execute_with_echo("", 1);
                request["request"]["enabled_tools"][0]["description"] = "x".repeat(9 << 20).into();
                request
            },
            "invalid code-mode execute request: the descriptions of its tools are 9437",
        ),
    ] {
        let refused = client.request(&request);
        assert_eq!(refused["status"], "error");
        assert!(refused["message"].as_str().unwrap().starts_with(text), "{refused}");
    }
}

#[test]
fn one_session_leaves_cells_to_others() {
    let served = Served::start("unix", &["--max-cells", "8"]);
    let (mut greedy, mut other) = (served.session(), served.session());
    for _ in 0..4 {
        greedy.execute("await new Promise(() => {})", 0);
    }
    let refused = greedy.request(&execute("text(1)", 1));
    let message =
        "code-mode session has too many active cells (limit 4); wait for one or terminate it";
    assert_eq!(refused, json!({ "status": "error", "message": message }));
    assert_eq!(other.execute("text(1)", 60_000)["status"], "ok");
}

/// What waits for a client that does not read is bounded, and the client is disconnected.
#[test]
fn a_client_that_does_not_read_is_given_up_without_growth() {
    let served = Served::start("unix", &["--memory", "64MiB"]);
    let before = resident_mib(&served);
    let mut deaf: Client<UnixStream> = served.session();
    for _ in 0..20 {
        deaf.ask(&execute("for (let i = 0; i < 20; i++) text('x'.repeat(1e6))", 60_000));
    }
    let (began, mut most) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(35) {
        most = most.max(resident_mib(&served) - before);
        std::thread::sleep(Duration::from_millis(100));
    }
    // Twenty answers of 20 MB, and one of them as a frame.
    assert!(most < 20 * 20 + 64 + 64, "{most} MiB");
    let mut left = Vec::new();
    // The connection was ended: it was sent a part of the answers, and no more follows.
    let _ = deaf.stream.read_to_end(&mut left);
    assert!(left.len() < 64 << 20, "{} bytes", left.len());
}

#[test]
fn a_browser_and_other_callers_are_refused_by_a_grpc_port() {
    let served = Served::start("grpc", &[]);
    let path = "/codex.code_mode.v1.CodeModeHost/OpenSession";
    let post = |headers: &str| {
        let mut stream = TcpStream::connect(served.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n{headers}\r\n\0\0\0\0\0"
        )
        .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    };
    let grpc = "Content-Type: application/grpc\r\n";
    assert_eq!(post(&format!("{grpc}Origin: http://evil.example\r\n")), "HTTP/1.1 403");
    assert_eq!(post("Content-Type: text/plain\r\n"), "HTTP/1.1 415");
    assert_eq!(post(""), "HTTP/1.1 415");
    assert_eq!(post(grpc), "HTTP/1.1 200");
}

/// Programs that always have something to do at once keep neither other sessions from being
/// served nor a signal from ending the host.
#[test]
fn a_signal_ends_a_host_whose_programs_never_wait() {
    let mut served = Served::start("unix", &[]);
    let mut busy = served.session();
    for _ in 0..4 {
        let response = busy.execute("for (;;) await new Promise((r) => setTimeout(r, 0))", 0);
        assert!(response["value"]["Yielded"].is_object(), "{response}");
    }
    let mut other = served.session();
    let response = other.execute("text(6 * 7)", 60_000);
    assert_eq!(response["value"]["Result"]["content_items"][0]["text"], "42");
    let pid = served.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let began = Instant::now();
    while served.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "the host does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}
