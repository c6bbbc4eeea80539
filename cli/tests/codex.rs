//! The real Codex, with `cellblock` in the place of its host, and canned answers in the
//! place of a model.
//!
//! Codex comes from npm, at the version that is pinned here. Where npm cannot be had,
//! the test says so and does nothing.

#![allow(clippy::print_stdout, reason = "a test that cannot be run says so")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cellblock");
const PACKAGE: &str = "@openai/codex@0.169.0";
/// Longer than a download or a conversation takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// What the model says, call by call: a tool and its input.
fn conversation() -> Vec<(&'static str, Value)> {
    let exec = |source: &str| ("exec", Value::from(source));
    vec![
        exec("const r = await tools.exec_command({ cmd: 'echo from a shell' }); text(r.output); store('a', 41)"),
        exec("text(load('a') + 1); yield_control(); await new Promise((r) => setTimeout(r, 50)); text('later')"),
        ("wait", json!({ "cell_id": "2", "yield_time_ms": 10_000 })),
        exec("const all = await Promise.all([1, 2, 3].map((i) => tools.exec_command({ cmd: `echo p${i}` })));
              text(all.map((r) => r.output.trim()).join())"),
        exec("text('kept'); throw new Error('boom')"),
        exec("// @exec: {\"yield_time_ms\": 50}\ntext('going'); for (;;) await new Promise((r) => setTimeout(r, 5))"),
        ("wait", json!({ "cell_id": "5", "terminate": true })),
        exec("for (;;) setTimeout(() => {}, 1e6)"),
        exec("notify('heads up'); text(ALL_TOOLS.some((tool) => tool.name === 'exec_command'))"),
    ]
}

/// A Responses server that says its part and remembers what it was sent.
#[derive(Clone, Default)]
struct Model {
    requests: Arc<Mutex<Vec<Value>>>,
}

async fn respond(State(model): State<Model>, body: Bytes) -> impl IntoResponse {
    let turn = {
        let mut requests = model.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(serde_json::from_slice(&body).expect("a request of the Responses API"));
        requests.len() - 1
    };
    let item = match conversation().get(turn) {
        Some(("exec", source)) => json!({ "type": "custom_tool_call", "id": format!("c{turn}"),
            "call_id": format!("call-{turn}"), "name": "exec", "input": source }),
        Some((name, input)) => json!({ "type": "function_call", "id": format!("f{turn}"),
            "call_id": format!("call-{turn}"), "name": name, "arguments": input.to_string() }),
        None => json!({ "type": "message", "role": "assistant", "id": "m",
            "content": [{ "type": "output_text", "text": "done" }] }),
    };
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

/// Codex in a folder, its host replaced; `None` where npm cannot be had.
async fn install(dir: &Path) -> Option<PathBuf> {
    if Command::new("npm").arg("--version").output().await.is_err() {
        println!("NOTICE: npm is not installed, so Codex was not tried");
        return None;
    }
    let arguments = ["install", "--prefer-offline", "--no-audit", "--no-fund", PACKAGE, "--prefix"];
    let installed = run(Command::new("npm").args(arguments).arg(dir)).await;
    if !installed.status.success() {
        let why = String::from_utf8_lossy(&installed.stderr);
        println!("NOTICE: npm cannot install {PACKAGE}, so Codex was not tried: {why}");
        return None;
    }
    let vendor =
        dir.join("node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin");
    let host = vendor.join("codex-code-mode-host");
    std::fs::remove_file(&host).expect("Codex brings a host");
    std::os::unix::fs::symlink(PROGRAM, host).expect("ours takes its place");
    Some(vendor.join("codex"))
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
    let Some(codex) = install(&dir.path().join("codex")).await else { return };
    let (home, work) = (dir.path().join("home"), dir.path().join("work"));
    for folder in [&home, &work] {
        std::fs::create_dir(folder).expect("a folder");
    }
    let model = Model::default();
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
        [features]
        code_mode = true
        code_mode_only = true
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
    assert_eq!(requests.len(), conversation().len() + 1, "{said}");
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
