//! `--park` and `cellblock wake`: a script that waits for deferred tools, over processes.

use super::{Run, cellblock, err, out, tool};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

fn deferred(name: &str) -> Value {
    json!({ "name": name, "description": "", "input_schema": {}, "deferred": true })
}

/// Runs a script that is parked in `parked`, with a key beside it.
fn park(run: &Run, source: &str, arguments: &[&str]) -> Output {
    run.tools(&json!([deferred("approve"), deferred("ask"), tool("now", &["echo", "7"])]));
    let fixed = ["--tools", "tools.json", "--park", "parked", "--park-key", "key"];
    run.script(source, &[&fixed, arguments].concat())
}

fn wake(run: &Run, arguments: &[&str]) -> Output {
    cellblock()
        .args(["wake", "parked", "--park-key", "key"])
        .args(arguments)
        .current_dir(run.folder.path())
        .output()
        .unwrap()
}

fn exists(run: &Run, name: &str) -> bool {
    run.folder.path().join(name).exists()
}

const SOURCE: &str = "
    const before = { n: await tools.now() }; text('asks'); notify('soon');
    const answer = await tools.approve({ amount: 5 });
    text([answer, before]); text(await tools.now()); store('k', answer);";

#[test]
fn a_script_is_parked_and_goes_on_in_another_process() {
    let run = Run::new();
    let output = park(&run, SOURCE, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "asks\n");
    let error = err(&output);
    assert!(error.contains("cellblock: parked in parked; it waits for"), "{error}");
    assert!(error.contains(r#"    tool-2 approve {"amount":5}"#), "{error}");
    for name in ["parked", "key"] {
        let mode = run.folder.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let output =
        wake(&run, &["--result", "\"yes\"", "--tools", "tools.json", "--store", "store.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "[\"yes\",{\"n\":7}]\n7\n");
    let store = std::fs::read_to_string(run.folder.path().join("store.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&store).unwrap(), json!({ "k": "yes" }));
    // It may go on once more, in another way.
    let output = wake(&run, &["--fork", "--result", "2", "--tools", "tools.json"]);
    assert_eq!(out(&output), "[2,{\"n\":7}]\n7\n");
}

#[test]
fn a_script_that_waits_again_is_parked_again() {
    let run = Run::new();
    let source = "
        const first = await tools.approve(1); text(first);
        const both = await Promise.all([tools.ask('a'), tools.ask('b')]); text(both);";
    assert_eq!(park(&run, source, &[]).status.code(), Some(0));
    let output = wake(&run, &["--result", "1", "--tools", "tools.json", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let object: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(object["status"], "parked");
    assert_eq!(object["content_items"][0]["text"], "1");
    let calls = json!([
        { "id": "tool-2", "tool": "ask", "input": "a" },
        { "id": "tool-3", "tool": "ask", "input": "b" },
    ]);
    assert_eq!(object["parked"], json!({ "file": "parked", "calls": calls }));
    // One of two ends: it waits for the other.
    let output = wake(&run, &["--result", "tool-3={\"x\":1}", "--tools", "tools.json"]);
    assert_eq!((output.status.code(), out(&output)), (Some(0), String::new()), "{}", err(&output));
    assert!(err(&output).contains("    tool-2 ask \"a\""), "{}", err(&output));
    let output = wake(&run, &["--error", "tool-2=nobody is there", "--tools", "tools.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("nobody is there"), "{}", err(&output));
}

#[test]
fn what_does_not_wait_for_deferred_tools_alone_is_not_parked() {
    let run = Run::new();
    let output = park(&run, "await tools.now(); text('done')", &[]);
    assert_eq!((output.status.code(), out(&output)), (Some(0), "done\n".to_owned()));
    assert!(!exists(&run, "parked"));
    // The command is waited for, and then the script parked.
    let slow = tool("slow", &["sh", "-c", "sleep 0.3; echo 1"]);
    run.tools(&json!([deferred("approve"), slow]));
    let source = "const all = await Promise.all([tools.approve(), tools.slow()]); text(all)";
    let fixed = ["--tools", "tools.json", "--park", "parked", "--park-key", "key"];
    assert_eq!(run.script(source, &fixed).status.code(), Some(0));
    let output = wake(&run, &["--result", "0"]);
    assert_eq!(out(&output), "[0,1]\n", "{}", err(&output));
    // A limit is a limit.
    let output = park(&run, "await tools.approve(); for (;;);", &[]);
    assert_eq!(output.status.code(), Some(0));
    let output = wake(&run, &["--result", "0", "--fuel", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("its limit fuel"), "{}", err(&output));
}

#[test]
fn a_deferred_call_without_a_file_to_park_in_fails() {
    let run = Run::new();
    run.tools(&json!([deferred("approve")]));
    let output = run.script("await tools.approve()", &["--tools", "tools.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("use --park FILE"), "{}", err(&output));
    // One with a command is run where the script is not parked.
    let mut tools = tool("approve", &["echo", "1"]);
    tools["deferred"] = json!(true);
    run.tools(&json!([tools]));
    let output = run.script("text(await tools.approve())", &["--tools", "tools.json"]);
    assert_eq!(out(&output), "1\n");
}

#[test]
fn what_cannot_be_woken_is_refused() {
    let run = Run::new();
    assert_eq!(park(&run, "text(await tools.approve())", &[]).status.code(), Some(0));
    let refused = |arguments: &[&str], expected: &str| {
        let output = wake(&run, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(expected), "{expected}: {}", err(&output));
        assert_eq!(out(&output), "");
    };
    refused(&["--result", "1", "--result", "2"], "there are more results than calls");
    refused(&["--result", "tool-9=1"], "the script does not wait for tool-9; it waits for tool-1");
    refused(&["--result", "{"], "not valid JSON");
    refused(&["--error", "x"], "must have the form ID=TEXT");
    refused(&["--result", "tool-1=1", "--error", "tool-1=x"], "tool-1 has two ends");
    let path = run.folder.path().join("parked");
    let whole = std::fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let at = changed.len() - 40;
    changed[at] ^= 1;
    run.file("parked", &changed);
    refused(&["--result", "1"], "the parked cell is damaged");
    run.file("parked", &whole[..20]);
    refused(&["--result", "1"], "the parked cell is damaged");
    run.file("parked", "text(1)");
    refused(&["--result", "1"], "these bytes are not a parked cell");
    run.file("parked", &whole);
    let key = run.file("key", "ab".repeat(32));
    refused(&["--result", "1"], "the parked cell was made with another key");
    run.file("key", "ab");
    refused(&["--result", "1"], "it must have 64 hexadecimal digits");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&["--result", "1"], "others than its owner may use it");
    std::fs::remove_file(&key).unwrap();
    std::fs::remove_file(&path).unwrap();
    refused(&["--result", "1"], "cannot read the parked script parked");
}
