//! Clients and tests of others: the Inspector of the protocol's project, and its test suite.

use crate::over_http::Served;
use crate::raw::PROGRAM;
use crate::{configure, installed, wrong};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// What the Inspector prints of a request; `None` where it cannot be installed.
fn inspect(dir: &Path, arguments: &[&str]) -> Option<Value> {
    let inspector = installed::inspector()?;
    let config = dir.join("inspector.json");
    let cellblock =
        json!({ "command": PROGRAM, "args": ["mcp", "--start-wait", "100s"], "cwd": dir });
    std::fs::write(&config, json!({ "mcpServers": { "cellblock": cellblock } }).to_string())
        .expect("a file");
    let output = Command::new("node")
        .arg(inspector)
        .args(["--cli", "--config"])
        .arg(config)
        .args(["--server", "cellblock"])
        .args(arguments)
        .env("MCP_INSPECTOR_SECRET_STORE", "memory")
        .env("HOME", dir)
        .current_dir(dir)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

#[test]
fn the_inspector_lists_and_calls() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    configure(dir.path(), &json!({ "mcpServers": { "s": wrong("works", &[]) } }));
    // Strictly: it fails on schemas that other clients have trouble with.
    let Some(listed) = inspect(dir.path(), &["--method", "tools/list", "--strict"]) else { return };
    let names: Vec<_> =
        listed["tools"].as_array().expect("tools").iter().map(|tool| &tool["name"]).collect();
    // It follows tasks, so it needs no `wait`.
    assert_eq!(names, ["exec"], "{listed}");
    let code = "code=const { n } = await tools.s.structured({}); text(n); ({ twice: 2 * n })";
    let call = ["--method", "tools/call", "--tool-name", "exec", "--tool-arg", code];
    let ran = inspect(dir.path(), &call).expect("it is installed");
    assert_eq!(ran["structuredContent"]["output"], "7", "{ran}");
    assert_eq!(ran["structuredContent"]["result"], json!({ "twice": 14 }), "{ran}");
    let read = ["--method", "resources/read", "--uri", "skill://cellblock"];
    let read = inspect(dir.path(), &read).expect("it is installed");
    let text = read["contents"][0]["text"].as_str().expect("a text");
    assert!(text.starts_with("# Programs for `exec`"), "{text}");
}

#[test]
fn the_test_suite_of_the_protocol_finds_what_is_known() {
    let Some((node, suite)) = installed::conformance() else { return };
    let baseline = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/conformance.yml");
    // The suite sends an origin of this machine, as pages that are served here do.
    let origins = ["--allow-origin", "http://localhost:*", "--allow-origin", "http://127.0.0.1:*"];
    let served = Served::start(&origins);
    let dir = tempfile::tempdir().expect("a folder");
    for revision in ["2025-11-25", "2026-07-28"] {
        let output = Command::new(&node)
            .arg(&suite)
            .args(["server", "--url", &format!("http://{}/mcp", served.address)])
            .args(["--requirements", revision, "--expected-failures", baseline])
            .current_dir(dir.path())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let summary = said.rfind("=== SUMMARY").map_or(&*said, |at| &said[at..]);
        assert!(output.status.success(), "{revision}: {summary}");
        println!("{revision}: {summary}");
    }
}

#[test]
fn the_test_suite_of_the_protocol_accepts_the_client_side() {
    let Some((node, suite)) = installed::conformance() else { return };
    if !installed::has_python() {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/call_all.py");
    let dir = tempfile::tempdir().expect("a folder");
    // Of the others, those of OAuth and of elicitation are for clients that offer that; and
    // some are for clients that never shake hands, where this one does if it can.
    for (scenario, revision) in [
        ("initialize", "2025-11-25"),
        ("tools_call", "2025-11-25"),
        ("tools_call", "2026-07-28"),
        ("sse-retry", "2025-11-25"),
        ("json-schema-ref-no-deref", "2026-07-28"),
        ("http-invalid-tool-headers", "2026-07-28"),
    ] {
        let output = Command::new(&node)
            .arg(&suite)
            .args(["client", "--command", &format!("python3 {script} {PROGRAM}")])
            .args(["--scenario", scenario, "--spec-version", revision, "--timeout", "100000"])
            .current_dir(dir.path())
            .output()
            .expect("it runs");
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{scenario} {revision}: {said}");
    }
}
