//! The commands behind tools: how many run, and what they may do to the run.

use crate::{Run, err, eventually, is_alive, out, tool};
use std::time::{Duration, Instant};

#[test]
fn what_a_command_leaves_behind_ends_with_its_call() {
    let run = Run::new();
    let pid = run.folder.path().join("pid");
    // It keeps the command's standard output open, and the call does not wait for it.
    let shell = format!(
        "sh -c 'echo $$ > {0}; exec sleep 600' & while [ ! -s {0} ]; do :; done; echo ok",
        pid.display()
    );
    let tools = run.tools(&serde_json::json!([tool("leaves", &["sh", "-c", &shell])]));
    let script = "text((await tools.leaves()).trim())";
    let started = Instant::now();
    let output = run.script(script, &["--tools", tools.to_str().unwrap()]);
    assert_eq!(
        (output.status.code(), out(&output).as_str()),
        (Some(0), "ok\n"),
        "{}",
        err(&output)
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    eventually(|| (!is_alive(pid)).then_some(()));
}

#[test]
fn calls_beyond_the_bound_wait_for_their_turn() {
    let run = Run::new();
    // Each command holds a place; a third would find two.
    let shell = "mkdir one 2>/dev/null && d=one || { mkdir two 2>/dev/null && d=two; } || exit 9;
                 sleep 0.05; rmdir $d";
    let tools = run.tools(&serde_json::json!([tool("place", &["sh", "-c", shell])]));
    let script = "await Promise.all(Array.from({ length: 20 }, () => tools.place()))";
    let arguments = ["--tools", tools.to_str().unwrap(), "--max-commands", "2"];
    let output = run.script(script, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    // Without the bound there are 64, so some find no place.
    let output = run.script(script, &arguments[..2]);
    assert_eq!(output.status.code(), Some(1));
    let output = run.script("1", &["--max-commands", "0"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_command_that_prints_without_end_ends_its_own_call() {
    let run = Run::new();
    let tools = run.tools(&serde_json::json!([
        tool("errors", &["sh", "-c", "head -c 100000000 /dev/zero >&2; echo fine"]),
        tool("output", &["sh", "-c", "cat /dev/zero"]),
        { "name": "endless", "description": "", "input_schema": {}, "timeout_ms": 300,
          "command": ["sh", "-c", "cat /dev/zero >&2"] },
    ]));
    let script = "text((await tools.errors()).trim());
        await tools.output().catch(text); await tools.endless().catch(text)";
    let output = run.script(script, &["--tools", tools.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let out = out(&output);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "fine");
    assert!(lines[1].starts_with("output: "), "{}", lines[1]);
    assert_eq!(lines[2], "endless: no answer within 300 ms");
}

/// Each process starts the next in a session of its own, and ends.
#[test]
fn a_command_that_starts_others_without_end_ends_with_the_run() {
    let run = Run::new();
    let beat = run.folder.path().join("beat");
    run.file("next.sh", format!("echo $$ > {}; setsid sh next.sh & sleep 0.01", beat.display()));
    let tools = run.tools(&serde_json::json!([tool(
        "chain",
        &["sh", "-c", "setsid sh next.sh >/dev/null 2>&1 </dev/null & sleep 0.3"]
    )]));
    let output = run.script("await tools.chain()", &["--tools", tools.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let last = std::fs::read_to_string(&beat).unwrap();
    // A chain that went on would have written another number by now.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(std::fs::read_to_string(&beat).unwrap(), last);
}
