//! `--store`: what one run leaves for the next, whatever happens meanwhile.

use crate::{Run, cellblock, err, eventually, out};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn stored_values_go_from_run_to_run() {
    let run = Run::new();
    let first = run.script("store('n', { seen: 1 })", &["--store", "s.json"]);
    assert_eq!(first.status.code(), Some(0));
    let second =
        run.script("text(load('n').seen); store('n', 2); throw 'after'", &["--store", "s.json"]);
    assert_eq!((second.status.code(), out(&second).as_str()), (Some(1), "1\n"));
    let third =
        run.script("store('n', 3); for (;;);", &["--store", "s.json", "--fuel", "20000000"]);
    assert_eq!(third.status.code(), Some(3));
    let stored = std::fs::read_to_string(run.folder.path().join("s.json")).unwrap();
    assert_eq!(stored.split_whitespace().collect::<String>(), r#"{"n":2}"#);
}

#[test]
fn the_deepest_value_that_store_takes_is_loaded_by_the_next_run() {
    let run = Run::new();
    let script = "let a = 1; for (let i = 0; i < 127; i++) a = [a]; store('deep', a)";
    let first = run.script(script, &["--store", "s.json"]);
    assert_eq!(first.status.code(), Some(0), "{}", err(&first));
    let script = "let a = load('deep'), n = 0; while (a !== 1) { a = a[0]; n++ } text(n)";
    let second = run.script(script, &["--store", "s.json"]);
    assert_eq!((second.status.code(), out(&second).as_str()), (Some(0), "127\n"));
}

#[test]
fn values_that_are_not_written_stay_as_they_were() {
    let run = Run::new();
    let path = run.file("s.json", r#"{"a":12345678901234567890123,"b":1e2,"c":[1.0, -0]}"#);
    let output = run.script("store('d', 1)", &["--store", "s.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        "{\n  \"a\": 12345678901234567890123,\n  \"b\": 1e2,\n  \"c\": [1.0, -0],\n  \"d\": 1\n}\n"
    );
}

#[test]
fn mode_and_links_stay() {
    let run = Run::new();
    let target = run.file("target.json", "{}");
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = run.folder.path().join("link.json");
    symlink("target.json", &link).unwrap();
    let output = run.script("store('a', 1)", &["--store", "link.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert!(std::fs::read_to_string(&target).unwrap().contains("\"a\": 1"));
    // A link to nothing makes what it names.
    symlink("made.json", run.folder.path().join("dangling.json")).unwrap();
    run.script("store('a', 1)", &["--store", "dangling.json"]);
    assert!(
        std::fs::read_to_string(run.folder.path().join("made.json")).unwrap().contains("\"a\"")
    );
    // Nothing else is left in the folder.
    assert_eq!(std::fs::read_dir(run.folder.path()).unwrap().count(), 4);
}

#[test]
fn what_cannot_be_a_store_is_refused_before_the_script_runs() {
    let run = Run::new();
    let refused = |name: &str, why: &str| {
        let output = run.script("text('ran')", &["--store", name]);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(2), ""), "{name}");
        assert!(err(&output).contains(why), "{name}: {}", err(&output));
    };
    let read_only = run.file("read-only.json", "{}");
    std::fs::set_permissions(read_only, std::fs::Permissions::from_mode(0o444)).unwrap();
    refused("read-only.json", "is read-only (mode 444)");
    run.fifo("fifo");
    refused("fifo", "it is not a regular file");
    refused(".", "cannot read the store file");
    refused("no/folder/s.json", "there is no folder");
    symlink("loop.json", run.folder.path().join("loop.json")).unwrap();
    refused("loop.json", "symbolic links");
    run.file("broken.json", "{\"a\": 1,}");
    refused("broken.json", "is not a JSON object");
}

/// Runs on the same file, some by a link to it, keep each other's keys.
#[test]
fn runs_at_the_same_time_lose_nothing() {
    const RUNS: usize = 12;
    let run = Run::new();
    symlink("s.json", run.folder.path().join("link.json")).unwrap();
    let children: Vec<_> = (0..RUNS)
        .map(|number| {
            let script = run.file(&format!("{number}.js"), format!("store('k{number}', {number})"));
            let store = if number % 2 == 0 { "s.json" } else { "link.json" };
            cellblock()
                .arg("run")
                .arg(script)
                .args(["--store", store])
                .current_dir(run.folder.path())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let text = std::fs::read_to_string(run.folder.path().join("s.json")).unwrap();
    let stored: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(stored.len(), RUNS, "{text}");
}

/// A run that waits for the lock for ever can be ended, and says what it did not do.
#[test]
fn a_signal_ends_the_wait_for_the_lock() {
    let run = Run::new();
    let path = run.file("s.json", "{}");
    let locked = std::fs::File::open(&path).unwrap();
    locked.lock().unwrap();
    let script = run.file("s.js", "store('a', 1); text('stored')");
    let child = cellblock()
        .arg("run")
        .arg(script)
        .arg("--store")
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually(|| {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let waits = format!(" {} ", child.id());
        locks.lines().any(|line| line.contains("->") && line.contains(&waits)).then_some(())
    });
    let started = Instant::now();
    crate::signals::send("TERM", child.id());
    let output = child.wait_with_output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(143), "stored\n"));
    assert!(err(&output).contains("the stored values were not written"), "{}", err(&output));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
}

/// What a run that was killed leaves behind bothers no other.
#[test]
fn drafts_and_empty_files_of_killed_runs_are_no_trouble() {
    let run = Run::new();
    run.file("s.json", "");
    run.file(".s.json.draft", "half of a");
    let output = run.script("store('a', 1)", &["--store", "s.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(std::fs::read_dir(run.folder.path()).unwrap().count(), 1);
}
