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
        (whole.replacen("\"fuel\":", "\"fuel\":9", 1), "the recorded cell's fuel is 9"),
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

/// What is cut off or changed at the end of a recording is noticed.
#[test]
fn a_recording_without_its_own_end_is_not_the_same() {
    let run = Run::new();
    record(&run, SOURCE, &[]);
    let path = run.folder.path().join("recorded");
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = whole.lines().collect();
    for cut in 1..lines.len() {
        run.file("recorded", lines[..cut].join("\n"));
        let replayed = replay(&run, &[]);
        assert_eq!(replayed.status.code(), Some(1), "{}", err(&replayed));
        assert!(err(&replayed).contains("it has no end"), "{}", err(&replayed));
        assert!(!err(&replayed).contains("the same as recorded"), "{}", err(&replayed));
    }
    let object: Value = serde_json::from_str(&out(&replay(&run, &["--json"]))).unwrap();
    assert_eq!(object["status"], "incomplete");
    let steps = lines.len() - 2;
    for end in [
        json!({ "end": "completed", "steps": steps }),
        json!({ "end": { "failed": "Error: another" }, "steps": steps }),
    ] {
        let end = end.to_string();
        run.file("recorded", [&lines[..=steps], &[end.as_str()]].concat().join("\n"));
        let replayed = replay(&run, &[]);
        assert_eq!(replayed.status.code(), Some(1), "{}", err(&replayed));
        let why = format!("line {} of the recording went another way", lines.len());
        assert!(err(&replayed).contains(&why), "{}", err(&replayed));
    }
}

/// A recording that would go on for ever is stopped by the replay's own limits.
#[test]
fn a_replay_ends_in_its_own_time() {
    let run = Run::new();
    record(&run, "text(1)", &["--timeout", "1s"]);
    let path = run.folder.path().join("recorded");
    let whole = std::fs::read_to_string(&path).unwrap();
    run.file("recorded", whole.replacen("text(1)", "for(;;);", 1));
    let stopped = replay(&run, &["--timeout", "1s"]);
    assert_eq!(stopped.status.code(), Some(3), "{}", err(&stopped));
    assert!(err(&stopped).contains("was stopped after 3000 ms"), "{}", err(&stopped));
}

/// A program that was stopped, and one that does not parse, used what their replays use.
#[test]
fn the_fuel_of_a_run_is_that_of_its_replay() {
    let run = Run::new();
    let fuel = |text: &str| -> u64 {
        let (_, fuel) = text.split_once("\"fuel\":").unwrap();
        fuel.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    for (source, arguments) in [
        ("let x = ;", &[][..]),
        ("let x: number = ;", &["--language", "ts"]),
        ("text(await tools.now()); for (;;);", &["--timeout", "1s"]),
        ("for (;;) { await tools.now(); }", &["--limit", "calls=3"]),
        ("await new Promise(() => {})", &[]),
    ] {
        let recorded = record(&run, source, &[&["--json"], arguments].concat());
        let replayed = replay(&run, &["--json"]);
        assert_eq!(replayed.status.code(), Some(0), "{source}: {}", out(&replayed));
        assert_eq!(fuel(&out(&replayed)), fuel(&out(&recorded)), "{source}");
        let error = |text: &str| serde_json::from_str::<Value>(text).unwrap()["error_text"].clone();
        assert_eq!(error(&out(&replayed)), error(&out(&recorded)), "{source}");
    }
}

/// A file that cannot be written costs neither output nor values; one that was there is not
/// emptied for a script that does not start.
#[test]
fn what_a_script_said_and_stored_is_kept_whatever_becomes_of_its_recording() {
    let run = Run::new();
    let source = "text('important'); store('k', 42)";
    for option in ["--record", "--trace"] {
        let store = format!("store{option}.json");
        let output = run.script(source, &[option, "/dev/full", "--store", &store]);
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        assert_eq!(out(&output), "important\n");
        assert!(err(&output).contains("cannot write /dev/full"), "{}", err(&output));
        let stored = std::fs::read_to_string(run.folder.path().join(store)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), json!({ "k": 42 }));
    }
    run.file("kept", "a recording");
    let kept = || std::fs::read_to_string(run.folder.path().join("kept")).unwrap();
    let script = run.file("script.js", source);
    let script = script.to_str().unwrap();
    for (arguments, why) in [
        (&["--record", "kept", "--tools", "missing"][..], "cannot read the tools file missing"),
        (&["--record", "kept", "--trace", "kept"], "--trace and --record are the same file, kept"),
        (&["--record", "kept", "--tools", "kept"], "--tools and --record are the same file, kept"),
        (&["--record", script], "the script and --record are the same file"),
        (&["--trace", script], "the script and --trace are the same file"),
    ] {
        let output = cellblock()
            .args(["run", script])
            .args(arguments)
            .current_dir(run.folder.path())
            .output()
            .unwrap();
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err(&output).contains(why), "{}", err(&output));
        assert_eq!(kept(), "a recording");
        assert_eq!(std::fs::read_to_string(script).unwrap(), source);
    }
    assert_eq!(run.script("text(1)", &["--record", "kept"]).status.code(), Some(0));
    assert!(kept().starts_with("{\"cellblock_recording\""));
}
