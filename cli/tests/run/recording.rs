//! `--record` and `cellblock replay`: a script that runs again, without its tools.

use super::{Run, cellblock, err, out, tool};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

const SOURCE: &str = "
    const first = await tools.now({ n: 1 }); text([first, Math.random(), Date.now()]);
    await new Promise((done) => setTimeout(done, 2));
    await tools.broken(); text('not reached')";

/// Runs a script that is recorded in `recorded`.
fn record(run: &Run, source: &str, arguments: &[&str]) -> Output {
    run.tools(&json!([tool("now", &["echo", "7"]), tool("broken", &["false"])]));
    let fixed = ["--tools", "tools.json", "--record", "recorded"];
    run.script(source, &[&fixed, arguments].concat())
}

fn replay(run: &Run, arguments: &[&str]) -> Output {
    let folder = run.folder.path();
    cellblock().args(["replay", "recorded"]).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn a_script_that_failed_runs_again_without_its_tools() {
    let run = Run::new();
    let recorded = record(&run, SOURCE, &[]);
    assert_eq!(recorded.status.code(), Some(1), "{}", err(&recorded));
    let path = run.folder.path().join("recorded");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(run.folder.path().join("tools.json")).unwrap();
    let replayed = replay(&run, &[]);
    assert_eq!(replayed.status.code(), Some(0), "{}", err(&replayed));
    assert_eq!(out(&replayed), out(&recorded));
    assert!(err(&replayed).contains("the same as recorded: 3 events"), "{}", err(&replayed));
    assert!(err(&replayed).contains("the script failed: "), "{}", err(&replayed));
    let object: Value = serde_json::from_str(&out(&replay(&run, &["--json"]))).unwrap();
    assert_eq!((&object["status"], &object["end"]), (&json!("same"), &json!("failed")));
    assert_eq!(object["events"], 3);
}

#[test]
fn a_replay_stops_where_it_is_asked_to() {
    let run = Run::new();
    record(&run, SOURCE, &[]);
    let events = out(&replay(&run, &["--events"]));
    assert_eq!(events.lines().count(), 3, "{events}");
    assert!(events.starts_with("1 tool-1 returned 7\n2 the timer "), "{events}");
    let stopped = replay(&run, &["--until", "3"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", err(&stopped));
    let error = err(&stopped);
    assert!(error.contains("stopped before event 3"), "{error}");
    assert!(error.contains("tool-2 failed: "), "{error}");
    assert!(error.contains("    tool-2 broken"), "{error}");
    let past = replay(&run, &["--until", "4"]);
    assert_eq!(past.status.code(), Some(2));
    assert!(err(&past).contains("the recording has 3 events"), "{}", err(&past));
}

#[test]
fn what_is_not_a_recording_is_refused_and_a_changed_one_is_noticed() {
    let run = Run::new();
    record(&run, "text(await tools.now()); text('\\u001b[2J')", &[]);
    let path = run.folder.path().join("recorded");
    let whole = std::fs::read_to_string(&path).unwrap();
    run.file("recorded", whole.replacen("\"7\"", "\"8\"", 1));
    let changed = replay(&run, &[]);
    assert_eq!(changed.status.code(), Some(1), "{}", err(&changed));
    assert!(out(&changed).starts_with("8\n"), "{}", out(&changed));
    assert!(err(&changed).contains("line 3 of the recording went another way"), "{changed:?}");
    for (text, why) in [
        (String::new(), "line 1 of the recording is not valid"),
        ("text(1)".to_owned(), "line 1 of the recording is not valid"),
        (whole.replacen("_recording\":1", "_recording\":7", 1), "has version 7 of the format"),
        (whole.replacen("\"guest\":\"", "\"guest\":\"0", 1), "the sandbox of another build"),
        (whole.replacen("\"fuel\":", "\"fuel\":9", 1), "may use more than the replay: its limit"),
    ] {
        run.file("recorded", text);
        let refused = replay(&run, &[]);
        assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
        assert!(err(&refused).contains(why), "{why}: {}", err(&refused));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(replay(&run, &[]).status.code(), Some(2));
    let unwritable = run.script("text(1)", &["--record", "missing/file"]);
    assert_eq!(unwritable.status.code(), Some(2));
    assert_eq!(out(&unwritable), "");
}
