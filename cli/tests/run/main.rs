//! `cellblock run` as its users see it: arguments and files in, streams and exit code out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod commands;
mod files;
mod parking;
mod recording;
mod signals;
mod store;
mod streams;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Run {
    folder: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    fn tools(&self, tools: &serde_json::Value) -> PathBuf {
        self.file("tools.json", serde_json::json!({ "tools": tools }).to_string())
    }

    /// Runs a script given on standard input.
    fn script(&self, source: &str, arguments: &[&str]) -> Output {
        let mut child = cellblock()
            .args(["run", "-"])
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses its arguments may end before it has read the script.
        if let Err(error) = child.stdin.take().unwrap().write_all(source.as_bytes()) {
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        }
        child.wait_with_output().unwrap()
    }
}

fn cellblock() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cellblock"))
}

fn tool(name: &str, command: &[&str]) -> serde_json::Value {
    serde_json::json!({ "name": name, "description": "", "input_schema": {}, "command": command })
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn text_goes_to_stdout_and_nothing_else_does() {
    let output = Run::new().script("text('a'); notify('n'); text({ b: 1 })", &["--stats"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(out(&output), "a\n{\"b\":1}\n");
    assert!(err(&output).contains("fuel "), "{}", err(&output));
}

#[test]
fn an_error_shows_its_line_and_a_caret() {
    let output =
        Run::new().script("text('before')\nconst f = () => { throw new Error('boom') }\nf()", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output), "before\n");
    let err = err(&output);
    assert!(err.contains("2 | const f = () => { throw new Error('boom') }"), "{err}");
    assert!(err.contains("Error: boom\n    at f (exec_main.mjs:2:"), "{err}");
    assert!(err.lines().any(|line| line.trim() == "^"), "{err}");
}

#[test]
fn bad_input_is_named_and_exits_with_2() {
    let run = Run::new();
    let expect = |arguments: &[&str], text: &str| {
        let output = run.script("text(1)", arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(text), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "");
    };
    expect(&["--tools", "missing.json"], "cannot read the tools file missing.json");
    run.file("broken.json", "{\n  \"tools\": [,]\n}");
    expect(&["--tools", "broken.json"], "line 2");
    run.file(
        "key.json",
        r#"{"tools":[{"name":"a","description":"","input_schema":{},"command":7}]}"#,
    );
    expect(&["--tools", "key.json"], "tools[0].command");
    run.file("store.json", "[]");
    expect(&["--store", "store.json"], "the store file store.json is not a JSON object");
    expect(&["--memory", "8TiB"], "memory limit");
    expect(&["--fuel", "much"], "--fuel");
    expect(&["--limit", "calls"], "NAME=VALUE");
    expect(&["--limit", "calls=many"], "many is not a number or a size");
    expect(&["--limit", "colour=1"], "there is no such limit");
    let twice = serde_json::json!([tool("a-b", &["true"]), tool("a_b", &["true"])]);
    let tools = run.tools(&twice);
    expect(&["--tools", tools.to_str().unwrap()], "is the same as tools[0].name");
}

#[test]
fn a_script_that_is_missing_or_not_text_is_named() {
    let run = Run::new();
    let output = cellblock().args(["run", "missing.js"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("cannot read the script missing.js"));
    let path = run.file("binary.js", [b't', 0xFF]);
    let output = cellblock().arg("run").arg(path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("is not UTF-8: byte 2"), "{}", err(&output));
}

#[test]
fn tools_take_json_and_give_json_or_text() {
    let run = Run::new();
    let tools = serde_json::json!([
        tool("echo", &["cat"]),
        tool("argv", &["printf", "%s|", "{items}", "{n}"]),
        tool("fail", &["sh", "-c", "echo broken >&2; exit 3"]),
        tool("none", &["/no/such/program"]),
    ]);
    let tools = run.tools(&tools);
    let script = "
        text(await tools.echo({ a: [1, 'x'] }));
        text(await tools.argv({ items: ['p q', '$(r)'], n: 7 }));
        for (const call of [() => tools.fail(), () => tools.none(), () => tools.argv({})])
            await call().catch((e) => text(typeof e + ' ' + e));
        await tools.absent().catch(text);";
    let output = run.script(script, &["--tools", tools.to_str().unwrap()]);
    let out = out(&output);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], r#"{"a":[1,"x"]}"#);
    assert_eq!(lines[1], "p q|$(r)|7|");
    assert_eq!(lines[2], "string broken");
    assert!(lines[3].starts_with("string none: cannot run /no/such/program"), "{}", lines[3]);
    assert_eq!(lines[4], "string argv: the input lacks `items`");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("tools.absent is not a function")
            || err(&output).contains("not a function")
    );
}

#[test]
fn nested_calls_run_in_parallel() {
    let run = Run::new();
    let tools = run.tools(&serde_json::json!([tool("nap", &["sleep", "0.3"])]));
    let started = Instant::now();
    let script = "await Promise.all([tools.nap(), tools.nap(), tools.nap()])";
    let output = run.script(script, &["--tools", tools.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    // Three in a row take 900 ms.
    assert!(started.elapsed() < Duration::from_millis(850), "{:?}", started.elapsed());
}

#[test]
fn limits_exit_with_3_and_are_named() {
    let run = Run::new();
    let stopped = |source: &str, arguments: &[&str], limit: &str| {
        let output = run.script(source, arguments);
        assert_eq!(output.status.code(), Some(3), "{source}: {}", err(&output));
        assert!(err(&output).contains(limit), "{source}: {}", err(&output));
    };
    stopped("while(true){}", &["--timeout", "300ms"], "time limit of 300 ms");
    stopped("while(true){}", &["--fuel", "50000000"], "fuel limit of 50000000");
    stopped(
        "await new Promise((r) => setTimeout(r, 1e9))",
        &["--timeout", "300ms"],
        "total time limit",
    );
    stopped(
        "const a = []; for (;;) a.push('x'.repeat(1e5) + a.length)",
        &["--memory", "16MiB"],
        "memory limit",
    );
}

#[test]
fn a_script_that_can_never_go_on_fails_at_once() {
    let run = Run::new();
    let started = Instant::now();
    for (source, place) in [
        ("await new Promise(() => {})", "exec_main.mjs:1:1"),
        ("text(1);\nconst p = Promise.race([]);\nawait p", "exec_main.mjs:3:1"),
    ] {
        let output = run.script(source, &[]);
        assert_eq!(output.status.code(), Some(1), "{source}: {}", err(&output));
        let text = err(&output);
        assert!(text.contains("Unsettled top-level await") && text.contains(place), "{text}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// A limit that is new in the library is an option, and is in the manual.
#[test]
fn every_limit_is_an_option_and_in_the_manual() {
    let limits = include_str!("../../../host/src/limits.rs");
    let (_, fields) = limits.split_once("pub struct CellLimits {").unwrap();
    let (fields, _) = fields.split_once("\n}").unwrap();
    let mut fields: Vec<_> = fields
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let manual = include_str!("../../../docs/cli.md");
    let row = manual.lines().find(|line| line.starts_with("| `--limit NAME=VALUE`")).unwrap();
    let mut named: Vec<_> = row.split('`').skip(5).step_by(2).collect();
    fields.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, fields);
    for name in fields {
        let value = match name {
            "running_time" | "total_time" | "cancel_grace" => "1s",
            "stack_bytes" => "64KiB",
            _ => "16MiB",
        };
        let output = Run::new().script("1", &["--limit", &format!("{name}={value}")]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", err(&output));
    }
}

#[test]
fn deep_recursion_can_be_caught() {
    let script =
        "function f() { return f() + 1 } try { f() } catch (e) { text(e instanceof RangeError) }";
    let output = Run::new().script(script, &[]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "true\n"));
}

#[test]
fn the_value_of_a_script_is_printed_when_it_is_asked_for() {
    let output = Run::new().script("text('seen'); return { a: [1] }", &["--result"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "seen\n{\"a\":[1]}\n"));
    let output = Run::new().script("1 + 1", &["--result", "--json"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["result"], serde_json::json!({ "json": "2" }));
    let output = Run::new().script("() => 1", &["--result"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), ""));
    assert!(err(&output).contains("the result cannot be shown: JSON has no functions"));
    let output = Run::new().script("return 1", &[]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn json_is_one_object() {
    let output = Run::new().script("text('a'); notify('n'); throw new Error('x')", &["--json"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["status"], "failed");
    assert_eq!(object["content_items"][0]["text"], "a");
    assert_eq!(object["notifications"][0], "n");
    assert!(object["error_text"].as_str().unwrap().starts_with("Error: x\n    at "));
    assert!(object["usage"]["fuel"].as_u64().unwrap() > 0);
    assert_eq!(output.status.code(), Some(1));
}

/// Waits for another process to do something, for at most ten seconds.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "it did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}
