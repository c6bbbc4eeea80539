//! The servers of the protocol's own project, and the client of its Python SDK.

use crate::raw::{Client, PROGRAM, texts};
use crate::{configure, installed};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn configure_servers(dir: &Path) -> Option<()> {
    let node = |server: &str, more: &[&str]| -> Option<Value> {
        let entry = installed::server(server)?;
        let args = [&[entry.as_str()], more].concat();
        Some(json!({ "command": "node", "args": args }))
    };
    let files = dir.join("files");
    std::fs::create_dir(&files).expect("a folder");
    std::fs::write(files.join("a.txt"), "one\ntwo TODO\nthree\n").expect("a file");
    std::fs::write(files.join("b.txt"), "TODO\n").expect("a file");
    let mut memory = node("server-memory", &[])?;
    memory["env"] = json!({ "MEMORY_FILE_PATH": dir.join("memory.json") });
    configure(
        dir,
        &json!({ "mcpServers": {
            "everything": node("server-everything", &[])?,
            "files": node("server-filesystem", &[&files.display().to_string()])?,
            "memory": memory,
        } }),
    );
    Some(())
}

/// Makes the calls with the Python SDK, and returns what it got.
fn python(plan: &Value) -> Option<Vec<Value>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/client.py");
    let mut child = Command::new(installed::python_client()?)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(plan.to_string().as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let lines = String::from_utf8(output.stdout).expect("text");
    Some(lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

fn plan(dir: &Path, mode: &str, steps: Value) -> Value {
    json!({ "command": PROGRAM, "args": ["mcp", "--start-wait", "100s"], "cwd": dir, "mode": mode, "steps": steps })
}

/// One program that calls three servers.
const PROGRAM_OF_THREE: &str = r#"
    const { entries } = { entries: await tools.files.list_directory({ path: load("dir") }) };
    const [a, b] = await Promise.all(["a.txt", "b.txt"].map((name) =>
        tools.files.read_text_file({ path: load("dir") + "/" + name })));
    const sum = await tools.everything__get_sum({ a: 2, b: 3 });
    await tools.memory.create_entities({ entities: [
        { name: "todo", entityType: "note", observations: [a.content, b.content] }] });
    const graph = await tools.memory.read_graph({});
    text(entries.content);
    text((a.content + b.content).split("TODO").length - 1);
    text(sum.content[0].text);
    image((await tools.everything.get_tiny_image({})).content.find((each) => each.type === "image"));
    ({ observed: graph.entities[0].observations.length })
"#;

#[test]
fn the_python_client_runs_programs_over_three_servers() {
    for mode in ["legacy", "auto"] {
        let dir = tempfile::tempdir().expect("a folder");
        if configure_servers(dir.path()).is_none() {
            return;
        }
        let files = dir.path().join("files").display().to_string();
        let steps = json!([
            { "list": true },
            { "call": "exec", "arguments": { "code": format!("store('dir', {files:?})") } },
            { "call": "exec", "arguments": { "code": PROGRAM_OF_THREE } },
            { "call": "exec", "arguments": {
                "code": "await tools.files.read_text_file({ path: '/etc/passwd' })" } },
            { "call": "exec", "arguments": {
                "code": "yield_control(); await new Promise((r) => setTimeout(r, 300)); text('late')" } },
            { "call": "wait", "arguments": { "cell_id": "4" } },
            { "read": "skill://cellblock" },
        ]);
        let Some(got) = python(&plan(dir.path(), mode, steps)) else { return };
        let revision = if mode == "auto" { "2026-07-28" } else { "2025-11-25" };
        assert_eq!(got[0]["protocol"], revision);
        let exec = &got[1]["tools"][0];
        let description = exec["description"].as_str().expect("a text");
        assert!(description.contains("files__read_text_file("), "{description}");
        assert_eq!(got[2]["structuredContent"]["status"], "completed", "{}", got[2]);

        let ran = &got[3];
        let structured = &ran["structuredContent"];
        assert_eq!(structured["status"], "completed", "{ran}");
        let output = structured["output"].as_str().expect("a text");
        assert!(output.contains("a.txt") && output.contains("\n2\n"), "{output}");
        assert!(output.contains("The sum of 2 and 3 is 5."), "{output}");
        assert_eq!(structured["result"], json!({ "observed": 2 }), "{ran}");
        assert_eq!(structured["calls"].as_array().map(Vec::len), Some(7), "{structured}");
        let blocks = ran["content"].as_array().expect("blocks");
        let image = blocks.iter().find(|block| block["type"] == "image").expect("an image");
        assert_eq!(image["mimeType"], "image/png");

        let refused = &got[4];
        assert_eq!(refused["isError"], true, "{refused}");
        let error = refused["structuredContent"]["error"].as_str().expect("a text");
        assert!(error.starts_with("Error: files.read_text_file reported an error: "), "{error}");
        assert!(error.contains("exec_main.mjs:1:19"), "the place of the call: {error}");

        assert_eq!(got[5]["structuredContent"]["cell_id"], "4", "{}", got[5]);
        assert_eq!(got[6]["structuredContent"]["output"], "late", "{}", got[6]);
        assert!(got[7]["text"].as_str().is_some_and(|text| text.contains("tools.SERVER.TOOL")));
    }
}

#[test]
fn a_person_is_asked_before_a_file_is_written() {
    for mode in ["legacy", "auto"] {
        for approve in [true, false] {
            let dir = tempfile::tempdir().expect("a folder");
            if configure_servers(dir.path()).is_none() {
                return;
            }
            let path = dir.path().join("files").join("new.txt");
            let code = format!(
                "text('before');
                 const write = (content) => tools.files.write_file({{ path: {path:?}, content }});
                 const [one, two] = await Promise.allSettled([write('1'), write('2')]);
                 text(one.status, two.status); text(String(one.reason ?? 'written'))"
            );
            let steps = json!([{ "call": "exec", "arguments": { "code": code } }]);
            let mut plan = plan(dir.path(), mode, steps);
            plan["approve"] = approve.into();
            let Some(got) = python(&plan) else { return };
            let structured = &got[1]["structuredContent"];
            assert_eq!(structured["status"], "completed", "{}", got[1]);
            let asked = got[1]["asked"].as_array().expect("questions");
            // The older clients get all questions in one form.
            assert_eq!(asked.len(), if mode == "legacy" { 1 } else { 2 }, "{asked:?}");
            assert!(
                asked[0].as_str().is_some_and(|text| text.contains("files.write_file {\"path\""))
            );
            let output = structured["output"].as_str().expect("a text");
            assert!(output.starts_with("before\n"), "{output}");
            assert_eq!(path.exists(), approve, "{output}");
            let said = if approve { "written" } else { "the user refused files.write_file" };
            assert!(output.contains(said), "{output}");
        }
    }
}

#[test]
fn values_are_stored_for_the_next_program_and_over_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    configure(dir.path(), &json!({ "mcpServers": {} }));
    let state = ["--state", "kept"];
    let mut client = Client::start(dir.path(), &state, &json!({}));
    let stored = client.exec("store('n', 12345678901234567890n.toString()); text('stored')");
    let session = stored["structuredContent"]["session"].as_str().expect("a handle").to_owned();
    assert_eq!(client.printed("text(load('n'))"), "12345678901234567890");
    assert!(client.close().success());

    let mut again = Client::start(dir.path(), &state, &json!({}));
    assert_eq!(again.printed("text(load('n') ?? 'nothing')"), "nothing");
    let ran = again.call("exec", json!({ "code": "text(load('n'))", "session": session }));
    assert_eq!(ran["structuredContent"]["output"], "12345678901234567890", "{ran}");
    let unknown = again.call("exec", json!({ "code": "1", "session": "f".repeat(32) }));
    assert!(texts(&unknown).contains("leave `session` out"), "{unknown}");
}
