//! Sees to it that no command outlives the run, however the run ends.
//!
//! A command may start others, in sessions of their own, and the run may be killed
//! before it can end any. So the run starts one more process, the guard, before its
//! first command, and holds the other end of the guard's standard input. When the run
//! has gone, the input ends, and the guard kills every process that has the run's mark
//! in its environment, which each process inherits from the one that started it.

use super::Exit;
use cellblock::support::lock;
use clap::Args;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The subcommand that is the guard.
pub const GUARD: &str = "end-commands";
/// The environment variable with the marks: of this run, and of runs around it.
const MARKS: &str = "CELLBLOCK_RUNS";
/// Between two marks.
const SEPARATOR: char = ':';
/// How long the guard goes on looking for processes that start faster than they end.
const SWEEP: Duration = Duration::from_secs(10);
/// How long a run that ends waits for its guard.
const WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(1);

/// Arguments of the guard.
#[derive(Args)]
pub struct Arguments {
    /// The mark of the run.
    mark: String,
}

/// The run's side: marks commands, and starts the guard before the first.
pub struct Guard {
    mark: String,
    process: Mutex<Option<Child>>,
}

impl Guard {
    /// A guard that is not started yet.
    pub fn new() -> Self {
        Self { mark: uuid::Uuid::new_v4().simple().to_string(), process: Mutex::default() }
    }

    /// The variable that a command needs in its environment, once the guard runs.
    ///
    /// # Errors
    /// The guard cannot be started.
    pub fn variable(&self) -> io::Result<(&'static str, String)> {
        let mut process = lock(&self.process);
        if process.is_none() {
            *process = Some(self.start()?);
        }
        let marks = match std::env::var(MARKS) {
            Ok(outer) => format!("{outer}{SEPARATOR}{}", self.mark),
            Err(_) => self.mark.clone(),
        };
        Ok((MARKS, marks))
    }

    fn start(&self) -> io::Result<Child> {
        // The link stays good when the file is replaced while the command runs.
        Command::new("/proc/self/exe")
            .arg0("cellblock-guard")
            .args([GUARD, &self.mark])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals from the terminal are for the run.
            .process_group(0)
            .spawn()
    }

    /// Has the guard end what is left, and waits for that.
    pub fn finish(&self) {
        let process = lock(&self.process).take();
        let Some(mut process) = process else { return };
        drop(process.stdin.take());
        let started = Instant::now();
        while matches!(process.try_wait(), Ok(None)) && started.elapsed() < WAIT {
            std::thread::sleep(LOOK);
        }
    }
}

/// The guard's side: waits until the run has gone, then ends what it started.
pub fn main(arguments: &Arguments) -> Exit {
    let mut input = io::stdin().lock();
    let mut bytes = [0; 64];
    // Nothing is sent: the input ends when the run has ended.
    while input.read(&mut bytes).is_ok_and(|read| read > 0) {}
    let started = Instant::now();
    while started.elapsed() < SWEEP {
        if kill_marked(&arguments.mark) == 0 {
            return Exit::Completed;
        }
    }
    Exit::Failed
}

/// Kills the processes with the mark, and counts them.
fn kill_marked(mark: &str) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw).filter(|pid| kill_if_marked(*pid, mark).is_some()).count()
}

/// Kills a process if it has the mark.
fn kill_if_marked(pid: Pid, mark: &str) -> Option<()> {
    // The descriptor first, so that the process looked at is the process killed.
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let is_marked = environment
        .split(|byte| *byte == 0)
        .filter_map(|variable| str::from_utf8(variable).ok()?.strip_prefix(MARKS))
        .filter_map(|value| value.strip_prefix('='))
        .any(|marks| marks.split(SEPARATOR).any(|inner| inner == mark));
    if is_marked { pidfd_send_signal(&process, Signal::KILL).ok() } else { None }
}
