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
    assert_eq!(object["timer_in_ms"], Value::Null);
    assert!(object["ends_in_ms"].as_u64().unwrap() > 0);
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
    let expected =
        "the parked cell's fuel is 1000000000000, and --fuel allows 1; give at least that";
    assert!(err(&output).contains(expected), "{}", err(&output));
    for (option, expected) in [
        (["--timeout", "1s"], "the parked cell's running_time is 1m, and --timeout allows 1s"),
        (["--limit", "timers=7"], "timers is 10000, and --limit timers allows 7; give"),
    ] {
        let output = wake(&run, &[&["--result", "0"], &option[..]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains(expected), "{}", err(&output));
    }
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
    refused(
        &["--result", "1"],
        "the key in key does not fit: the parked cell was made with another",
    );
    run.file("key", "ab");
    refused(&["--result", "1"], "it must have 64 hexadecimal digits");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&["--result", "1"], "others than its owner may use it");
    // Only a run makes a key.
    std::fs::remove_file(&key).unwrap();
    refused(&["--result", "1"], "the park key key: there is no such file");
    assert!(!key.exists());
    run.file("key", "ab".repeat(32));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::remove_file(&path).unwrap();
    refused(&["--result", "1"], "cannot read the parked script parked");
    run.fifo("parked");
    refused(&["--result", "1"], "it is not a regular file");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    refused(&["--result", "1"], "it is not a regular file");
}

/// A place where nothing can be parked is found out before a tool runs.
#[test]
fn a_place_where_nothing_can_be_parked_is_refused_before_the_script_runs() {
    let run = Run::new();
    run.tools(&json!([deferred("approve"), tool("mark", &["touch", "ran"])]));
    std::fs::create_dir(run.folder.path().join("folder")).unwrap();
    run.fifo("fifo");
    std::os::unix::fs::symlink("fifo", run.folder.path().join("to-fifo")).unwrap();
    std::os::unix::fs::symlink("nothing", run.folder.path().join("to-nothing")).unwrap();
    let source = "await tools.mark(); await tools.approve(); text('done')";
    let parked = |file: &str| {
        let fixed = ["--tools", "tools.json", "--park-key", "key", "--park", file];
        run.script(source, &fixed)
    };
    for (file, why) in [
        ("nofolder/x", "cannot write nofolder/x: there is no folder nofolder"),
        ("folder", "cannot write folder: it is a folder"),
        ("fifo", "cannot write fifo: it is not a regular file"),
        ("to-fifo", "cannot write to-fifo: it is not a regular file"),
        ("to-nothing", "cannot write to-nothing: it is a link that leads nowhere"),
        ("/dev/full", "cannot write /dev/full: it is not a regular file"),
        ("tools.json", "--tools and --park are the same file"),
        ("key", "--park-key and --park are the same file"),
    ] {
        let output = parked(file);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(2), ""), "{file}");
        assert!(err(&output).contains(why), "{file}: {}", err(&output));
        assert!(!exists(&run, "ran"), "{file}");
    }
    assert_eq!(parked("parked").status.code(), Some(0));
    let whole = std::fs::read(run.folder.path().join("parked")).unwrap();
    std::fs::remove_file(run.folder.path().join("ran")).unwrap();
    let output = wake(&run, &["--park", "nofolder/x", "--result", "1", "--tools", "tools.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("there is no folder nofolder"), "{}", err(&output));
    // What a link leads to is replaced, and not the link.
    run.file("target", "earlier");
    let link = run.folder.path().join("link");
    std::os::unix::fs::symlink("target", &link).unwrap();
    assert_eq!(parked("link").status.code(), Some(0));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read(run.folder.path().join("target")).unwrap()[..8], whole[..8]);
}

/// A folder that vanishes while the script runs: its output is printed all the same.
#[test]
fn a_script_that_cannot_be_parked_after_all_says_what_it_said() {
    let run = Run::new();
    let folder = run.folder.path().join("folder");
    run.tools(&json!([deferred("approve"), tool("remove", &["rmdir", "folder"])]));
    let source = "text('important'); await tools.remove(); await tools.approve({ n: 1 })";
    let fixed = ["--tools", "tools.json", "--park-key", "key", "--park", "folder/x"];
    for json in [false, true] {
        std::fs::create_dir(&folder).unwrap();
        let output = run.script(source, &[&fixed[..], &["--json"][..usize::from(json)]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        if json {
            let object: Value = serde_json::from_str(&out(&output)).unwrap();
            assert_eq!(object["status"], "failed");
            assert_eq!(object["content_items"][0]["text"], "important");
            assert!(object["error_text"].as_str().unwrap().contains("cannot write folder/x"));
            assert_eq!(object["parked"]["calls"][0]["tool"], "approve");
        } else {
            assert_eq!(out(&output), "important\n");
            let error = err(&output);
            assert!(error.contains("cannot write folder/x: No such file"), "{error}");
            assert!(error.contains(r#"    tool-2 approve {"n":1}"#), "{error}");
        }
    }
}

/// Time goes on for a script that is parked.
#[test]
fn timers_of_a_parked_script_are_due_when_they_would_have_been() {
    let run = Run::new();
    let source = "setTimeout(() => text('fired'), 200); text(await tools.approve())";
    let first = park(&run, source, &[]);
    assert_eq!(first.status.code(), Some(0), "{}", err(&first));
    // On a slow machine it has fired before the script was parked.
    let has_fired = out(&first).contains("fired");
    assert_eq!(err(&first).contains("    its next timer, which is due in "), !has_fired);
    std::thread::sleep(std::time::Duration::from_millis(250));
    let second = wake(&run, &["--tools", "tools.json"]);
    assert_eq!(second.status.code(), Some(0), "{}", err(&second));
    assert_eq!(out(&first) + &out(&second), "fired\n");
    assert!(!err(&second).contains("timer"), "{}", err(&second));
    // One that is not due waits on, for as long as is left.
    let source = "setTimeout(() => text('late'), 3_600_000); text(await tools.approve())";
    let left = |output: &Output| {
        let object: Value = serde_json::from_str(&out(output)).unwrap();
        assert_eq!(object["status"], "parked", "{object}");
        let left = |key: &str| object[key].as_u64().unwrap();
        (left("timer_in_ms"), left("ends_in_ms"))
    };
    let before = left(&park(&run, source, &["--json"]));
    std::thread::sleep(std::time::Duration::from_millis(50));
    let after = left(&wake(&run, &["--tools", "tools.json", "--json"]));
    assert!(before.0 <= 3_600_000 && after.0 + 40 <= before.0, "{before:?} {after:?}");
    assert!(after.1 + 40 <= before.1, "{before:?} {after:?}");
    let output = wake(&run, &["--tools", "tools.json", "--result", "1", "--timeout", "24h"]);
    assert!(out(&output).starts_with("1\n"), "{}", out(&output));
}

#[test]
fn a_script_that_waits_for_a_missing_tool_is_not_woken() {
    let run = Run::new();
    let source = "text(await Promise.all([tools.ask(1), tools.approve(2)]))";
    assert_eq!(park(&run, source, &[]).status.code(), Some(0));
    let whole = std::fs::read(run.folder.path().join("parked")).unwrap();
    let one = json!({ "tools": [deferred("approve")] });
    run.file("one.json", one.to_string());
    for (arguments, why) in [
        (&[][..], "waits for calls of approve, ask, and --tools was not given"),
        (&["--result", "tool-1=1"], "waits for calls of approve, and --tools was not given"),
        (&["--result", "1", "--tools", "one.json"], "waits for calls of ask, and the tools file"),
    ] {
        let output = wake(&run, arguments);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(2), ""));
        assert!(err(&output).contains(why), "{}", err(&output));
        assert_eq!(std::fs::read(run.folder.path().join("parked")).unwrap(), whole);
    }
    let output = wake(&run, &["--result", "1", "--result", "2"]);
    assert_eq!(out(&output), "[1,2]\n", "{}", err(&output));
}

#[test]
fn results_may_begin_with_a_hyphen_and_be_in_files() {
    let run = Run::new();
    let source = "
        for (const call of [1, 2]) text(String(await tools.ask().catch((e) => e)).length)";
    assert_eq!(park(&run, source, &[]).status.code(), Some(0));
    let output = wake(&run, &["--result", "-15", "--tools", "tools.json"]);
    assert_eq!(out(&output), "3\n", "{}", err(&output));
    run.file("large.json", format!("\"{}\"", "x".repeat(1 << 20)));
    let output = wake(&run, &["--result", "tool-2=@large.json"]);
    assert_eq!(out(&output), "1048576\n", "{}", err(&output));
    assert_eq!(park(&run, source, &[]).status.code(), Some(0));
    let output = wake(&run, &["--result", "@missing.json"]);
    assert!(err(&output).contains("cannot read the result in missing.json"), "{}", err(&output));
    let source = "await tools.ask()";
    let small = ["--limit", "result_bytes=1000"];
    assert_eq!(park(&run, source, &small).status.code(), Some(0));
    let output = wake(&run, &[&small[..], &["--result", "@large.json"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("it has more than 1000 bytes"), "{}", err(&output));
    // What is wrong is said once, and not with all that was given.
    let wrong = format!("[{}", "1,".repeat(10_000));
    let output = wake(&run, &["--result", &wrong]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).len() < 400, "{}", err(&output).len());
    assert_eq!(err(&output).matches("not valid JSON").count(), 1, "{}", err(&output));
    let output = wake(&run, &["--error", "-x"]);
    assert!(err(&output).contains("--error -x must have the form ID=TEXT"), "{}", err(&output));
}
