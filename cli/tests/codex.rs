//! The real Codex, with `cellblock` in the place of its host or as an MCP server, and canned
//! answers in the place of a model.
//!
//! Codex comes from npm, at the version that is pinned here. Where npm cannot be had,
//! the test says so and does nothing.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use cellblock_tests::npm::npm_install;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cellblock");
const PACKAGE: &str = "@openai/codex@0.169.0";
const SERVER: &str = "@modelcontextprotocol/server-filesystem@2026.8.31";
/// Longer than a conversation takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// What the model says to a host, call by call.
fn conversation() -> Vec<Value> {
    let exec =
        |source: &str| json!({ "type": "custom_tool_call", "name": "exec", "input": source });
    let wait = |arguments: Value| json!({ "type": "function_call", "name": "wait", "arguments": arguments.to_string() });
    vec![
        exec("const r = await tools.exec_command({ cmd: 'echo from a shell' }); text(r.output); store('a', 41)"),
        exec("text(load('a') + 1); yield_control(); await new Promise((r) => setTimeout(r, 50)); text('later')"),
        wait(json!({ "cell_id": "2", "yield_time_ms": 10_000 })),
        exec("const all = await Promise.all([1, 2, 3].map((i) => tools.exec_command({ cmd: `echo p${i}` })));
              text(all.map((r) => r.output.trim()).join())"),
        exec("text('kept'); throw new Error('boom')"),
        exec("// @exec: {\"yield_time_ms\": 50}\ntext('going'); for (;;) await new Promise((r) => setTimeout(r, 5))"),
        wait(json!({ "cell_id": "5", "terminate": true })),
        exec("for (;;) setTimeout(() => {}, 1e6)"),
        exec("notify('heads up'); text(ALL_TOOLS.some((tool) => tool.name === 'exec_command'))"),
    ]
}

/// What the model says to an MCP server, call by call.
fn conversation_over_mcp() -> Vec<Value> {
    let call = |name: &str, arguments: Value| {
        json!({ "type": "function_call", "namespace": "mcp__cellblock", "name": name,
            "arguments": arguments.to_string() })
    };
    let exec = |code: &str| call("exec", json!({ "code": code }));
    vec![
        exec(
            "const { content } = await tools.files.list_directory({ path: '.' });
             store('seen', content.includes('notes.txt')); text(content)",
        ),
        exec("text(load('seen')); [1, 2].map((each) => each * 2)"),
        exec(
            "image(`data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==`); text('drawn')",
        ),
        exec("await tools.files.write_file({ path: 'new.txt', content: 'x' })"),
        call(
            "exec",
            json!({ "yield_time_ms": 50,
            "code": "text('early'); await new Promise((r) => setTimeout(r, 500)); text('late')" }),
        ),
        call("wait", json!({ "cell_id": "5" })),
    ]
}

/// A Responses server that says its part and remembers what it was sent.
#[derive(Clone)]
struct Model {
    says: Arc<Vec<Value>>,
    requests: Arc<Mutex<Vec<Value>>>,
}

async fn respond(State(model): State<Model>, body: Bytes) -> impl IntoResponse {
    let turn = {
        let mut requests = model.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(serde_json::from_slice(&body).expect("a request of the Responses API"));
        requests.len() - 1
    };
    let mut item = model.says.get(turn).cloned().unwrap_or_else(|| {
        json!({ "type": "message", "role": "assistant",
            "content": [{ "type": "output_text", "text": "done" }] })
    });
    item["id"] = format!("item-{turn}").into();
    if item["type"] != "message" {
        item["call_id"] = format!("call-{turn}").into();
    }
    let usage = json!({ "input_tokens": 0, "input_tokens_details": null, "output_tokens": 0,
        "output_tokens_details": null, "total_tokens": 0 });
    let id = format!("r{turn}");
    let events = [
        json!({ "type": "response.created", "response": { "id": id } }),
        json!({ "type": "response.output_item.done", "item": item }),
        json!({ "type": "response.completed", "response": { "id": id, "usage": usage } }),
    ];
    let lines = events.map(|event| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], lines.concat())
}

async fn run(command: &mut Command) -> Output {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    tokio::time::timeout(PATIENCE, running).await.expect("it ends").expect("it starts")
}

/// Codex in a folder, and what else is named; `None` where npm cannot be had.
fn install(dir: &Path, more: &[&str]) -> Option<PathBuf> {
    npm_install(dir, &[&[PACKAGE], more].concat()).then_some(())?;
    let vendor =
        dir.join("node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin");
    Some(vendor.join("codex"))
}

/// Runs Codex until the model has said everything, with these lines of configuration, and
/// returns what the model was sent.
async fn converse(codex: &Path, dir: &Path, says: Vec<Value>, configuration: &str) -> Vec<Value> {
    let (home, work) = (dir.join("home"), dir.join("work"));
    for folder in [&home, &work] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    let turns = says.len() + 1;
    let model = Model { says: Arc::new(says), requests: Arc::default() };
    let router = Router::new()
        .route("/v1/responses", post(respond))
        .route("/v1/models", get(|| async { r#"{"models":[]}"# }))
        .with_state(model.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a port");
    tokio::spawn(axum::serve(listener, router).into_future());
    let config = format!(
        r#"
        model = "gpt-5.1-codex"
        model_provider = "mock"
        [model_providers.mock]
        name = "mock"
        base_url = "http://{address}/v1"
        wire_api = "responses"
        supports_websockets = false
        env_key = "MOCK_KEY"
        {configuration}
        "#
    );
    std::fs::write(home.join("config.toml"), config).expect("its configuration");
    let ran = run(Command::new(codex)
        .args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "go"])
        .current_dir(&work)
        .env("CODEX_HOME", &home)
        .env("MOCK_KEY", "none"))
    .await;
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let requests = model.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(requests.len(), turns, "{said}");
    requests
}

/// What the tool call of a turn came to, as the model reads it.
fn output(requests: &[Value], turn: usize) -> String {
    let id = format!("call-{turn}");
    let items = requests.last().and_then(|request| request["input"].as_array()).expect("input");
    let outputs = items.iter().filter(|item| {
        item["call_id"] == id.as_str()
            && item["type"].as_str().is_some_and(|kind| kind.ends_with("_output"))
    });
    let texts = outputs.map(|item| match &item["output"] {
        Value::String(text) => text.clone(),
        items => items
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item["text"].as_str())
            .collect::<Vec<_>>()
            .join("|"),
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_runs_its_programs_here() {
    // Codex refuses a home in the folder for temporary files.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let Some(codex) = install(&dir.path().join("codex"), &[]) else { return };
    let host = codex.with_file_name("codex-code-mode-host");
    std::fs::remove_file(&host).expect("Codex brings a host");
    std::os::unix::fs::symlink(PROGRAM, host).expect("ours takes its place");
    let code_mode = "[features]\ncode_mode = true\ncode_mode_only = true";
    let requests = converse(&codex, dir.path(), conversation(), code_mode).await;
    for (turn, head, rest) in [
        (0, "Script completed", "|from a shell\n"),
        (1, "Script running with cell ID 2", "|42"),
        (2, "Script completed", "|later"),
        (3, "Script completed", "|p1,p2,p3"),
        (4, "Script failed", "|kept|Script error:\nError: boom\n    at exec_main.mjs:1:21"),
        (5, "Script running with cell ID 5", "|going"),
        (6, "Script terminated", ""),
        // A limit that only this host has.
        (7, "Script failed", "its timers limit of 10000 was reached"),
        (8, "Script completed", "|true"),
    ] {
        let output = output(&requests, turn);
        assert!(output.starts_with(head), "turn {turn}: {output}");
        assert!(output.contains(rest), "turn {turn}: {output}");
    }
    assert!(output(&requests, 8).contains("heads up"), "{}", output(&requests, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_calls_tools_of_other_servers_in_programs() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let Some(codex) = install(&dir.path().join("codex"), &[SERVER]) else { return };
    let files = dir.path().join("work");
    std::fs::create_dir(&files).expect("a folder");
    std::fs::write(files.join("notes.txt"), "a note").expect("a file");
    let server = "codex/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js";
    let config = dir.path().join("mcp.json");
    let servers = json!({ "mcpServers": {
        "files": { "command": "node", "args": [dir.path().join(server), files], "cwd": files } } });
    std::fs::write(&config, servers.to_string()).expect("a configuration");
    let configuration = format!(
        "[mcp_servers.cellblock]\ncommand = {PROGRAM:?}\nargs = [\"mcp\", \"--config\", {config:?}]"
    );
    let says = conversation_over_mcp();
    let requests = converse(&codex, dir.path(), says, &configuration).await;
    // The model has our tools, and none of the servers behind.
    let listed = requests[0]["tools"].as_array().expect("tools");
    let listed = listed.iter().find(|tool| tool["name"] == "mcp__cellblock").expect("ours");
    let names: Vec<_> =
        listed["tools"].as_array().expect("tools").iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["exec", "wait"], "{listed}");
    for (turn, expected) in [
        (0, "[FILE] notes.txt"),
        (1, "\"result\":[2,4]"),
        (2, "drawn"),
        // `codex exec` asks nobody.
        (3, "files.write_file"),
        (4, "\"cell_id\":\"5\""),
        (5, "late"),
    ] {
        let output = output(&requests, turn);
        assert!(output.contains(expected), "turn {turn}: {output}");
    }
    assert!(!files.join("new.txt").exists(), "{}", output(&requests, 3));
    let items = requests.last().and_then(|last| last["input"].as_array()).expect("input");
    let drawn = items
        .iter()
        .find(|item| item["call_id"] == "call-2" && item["type"] == "function_call_output");
    let drawn = drawn.expect("an output").to_string();
    assert!(drawn.contains("input_image"), "an image is an image: {drawn}");
}
