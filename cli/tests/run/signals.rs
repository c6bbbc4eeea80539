//! Signals end the script and what it started, and the exit code says which it was.

use crate::{Run, cellblock, err, eventually, is_alive, tool};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Sends a signal to a process.
pub fn send(signal: &str, pid: u32) {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// A run whose tool has started: the tool leaves a child in its group, and one in a
/// session of its own.
struct Running {
    run: Run,
    child: Child,
    processes: Vec<i32>,
}

impl Running {
    fn start(wrapper: &[&str]) -> Self {
        let run = Run::new();
        let path = |name: &str| run.folder.path().join(name).display().to_string();
        // Each process prints its number, then sleeps far longer than the test.
        let tell = |name: &str| format!("echo $$ > {0}.part && mv {0}.part {0}", path(name));
        let shell = format!(
            "setsid sh -c '{}; exec sleep 600' & sh -c '{}; exec sleep 600' & {}; sleep 600",
            tell("session"),
            tell("group"),
            tell("leader")
        );
        let tools = run.tools(&serde_json::json!([tool("nap", &["sh", "-c", &shell])]));
        let script = run.file("nap.js", "store('a', 1); await tools.nap()");
        let mut command = match wrapper {
            [] => cellblock(),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(env!("CARGO_BIN_EXE_cellblock"));
                command
            }
        };
        let child = command
            .args(["run".as_ref(), script.as_os_str(), "--tools".as_ref(), tools.as_os_str()])
            .arg("--store")
            .arg(run.folder.path().join("s.json"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let read = |name: &str| {
            let path = PathBuf::from(path(name));
            eventually(|| std::fs::read_to_string(&path).ok()).trim().parse().unwrap()
        };
        let processes = ["session", "group", "leader"].map(read).to_vec();
        Self { run, child, processes }
    }

    fn all_end(&self) {
        for process in &self.processes {
            eventually(|| (!is_alive(*process)).then_some(()));
        }
    }
}

#[test]
fn interrupt_terminate_and_hang_up_end_the_script_and_its_commands() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        // The tests themselves may run under nohup.
        let mut running = Running::start(&["env", "--default-signal=HUP"]);
        send(signal, running.child.id());
        let status = running.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{signal}");
        running.all_end();
        assert!(!running.run.folder.path().join("s.json").exists());
        let output = running.child.wait_with_output().unwrap();
        assert!(err(&output).contains("terminated"), "{signal}: {}", err(&output));
    }
}

#[test]
fn commands_do_not_outlive_a_run_that_is_killed() {
    let mut running = Running::start(&[]);
    // The whole process group, as a shell or a supervisor does.
    send("KILL", running.child.id());
    assert_eq!(running.child.wait().unwrap().signal(), Some(9));
    running.all_end();
}

#[test]
fn a_hang_up_that_nohup_ignores_stays_ignored() {
    let mut running = Running::start(&["nohup"]);
    send("HUP", running.child.id());
    send("TERM", running.child.id());
    // Had the first been served, the exit code would be its own.
    assert_eq!(running.child.wait().unwrap().code(), Some(143));
    running.all_end();
}

/// The first signal gives the tools' calls time to end; the second does not wait.
#[test]
fn a_second_signal_leaves_at_once() {
    let run = Run::new();
    // The reader of standard output does not read, and the script has ended.
    let script = run.file("s.js", "text('x'.repeat(1 << 20)); notify('ended')");
    let mut child = cellblock()
        .arg("run")
        .arg(script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    send_when_blocked(&mut child, "TERM");
    let started = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Sends the signal once the command's pipe is full.
pub fn send_when_blocked(child: &mut Child, signal: &str) {
    let stdout = child.stdout.as_ref().unwrap();
    eventually(|| {
        let waiting = rustix::io::ioctl_fionread(stdout).unwrap();
        (waiting >= 60_000).then_some(())
    });
    send(signal, child.id());
}
