//! A host that runs as a child of this process.

use super::connection::{ConnectError, ConnectionError};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a child may take to end once its input has.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// Bytes of a line of the child's log that are passed on.
const LOG_LINE: u64 = 4_096;

/// Bytes of a path that an error shows.
const SHOWN_PATH: usize = 512;

/// What a child keeps of this process's environment: where it finds programs, its
/// cache and its temporary files, and how it logs. No secrets of its parent's.
const KEPT: [&str; 8] =
    ["PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "XDG_CACHE_HOME", "CELLBLOCK_LOG", "RUST_LOG"];

/// A program that serves as a host on its standard streams, and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCommand {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl HostCommand {
    /// A program, without arguments. A relative path is relative to this process's
    /// working directory; nothing is looked up in `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Whether the program is there.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        if self.program.is_file() {
            return Ok(());
        }
        Err(self.failed("host executable was not found"))
    }

    fn failed(&self, why: &str) -> ConnectError {
        ConnectError::Spawn { program: shown(&self.program), why: why.to_owned() }
    }

    /// Starts the program in a process group of its own.
    pub(super) fn spawn(&self) -> Result<RunningChild, ConnectError> {
        self.check()?;
        let kept = KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(kept)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.failed(&error.to_string()))?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(log)) = streams else {
            return Err(self.failed("it has no standard streams"));
        };
        tokio::spawn(pass_on(log));
        Ok(RunningChild { child, input, output })
    }
}

/// A child that was just started.
pub(super) struct RunningChild {
    pub(super) child: Child,
    pub(super) input: ChildStdin,
    pub(super) output: ChildStdout,
}

/// Waits for the end of a child. It ends by itself, and `ended` is called with how; or its
/// connection is closed, which asks it to end, and it is killed if it does not. Either way
/// it is reaped, and its process group is killed.
pub(super) async fn supervise(
    mut child: Child,
    closed: CancellationToken,
    ended: impl FnOnce(ConnectionError),
) {
    // Asked for while the child is not reaped: after that the id may be another's.
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    tokio::select! {
        biased;
        status = child.wait() => {
            ended(match status {
                Ok(status) => ConnectionError::Ended(status.to_string()),
                Err(error) => ConnectionError::ProcessLost(error.to_string()),
            });
        }
        () = closed.cancelled() => {
            // Its input has ended, which asks it to end.
            if timeout(EXIT_GRACE, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }
    if let Some(group) = group {
        // Nothing of the group is left in the usual case, and that is an error here.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// Passes a child's log on to this process's, line by line.
async fn pass_on(log: ChildStderr) {
    let mut log = BufReader::new(log);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut log).take(LOG_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                tracing::debug!("code-mode host: {}", String::from_utf8_lossy(&line).trim_end());
            }
        }
    }
}

/// A path as an error shows it: its end, when it is long.
fn shown(path: &Path) -> String {
    let path = path.to_string_lossy();
    let mut start = path.len().saturating_sub(SHOWN_PATH);
    while !path.is_char_boundary(start) {
        start += 1;
    }
    if start == 0 { path.into_owned() } else { format!("…{}", &path[start..]) }
}
