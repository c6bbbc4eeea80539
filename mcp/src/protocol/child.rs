//! A server that is a command: its process group, its standard streams, and its end.

use super::lines::{BoundedLines, MAX_MESSAGE_BYTES, Printed};
use cellblock::support::lock;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Variables that every server inherits, as far as they are set: what programs need to be
/// found and to reach the network, and no secrets of the user's.
const INHERITED: &[&str] = &[
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];
/// Set for every server, so that Cellblock does not start itself without end.
pub(crate) const MARK: &str = "CELLBLOCK_MCP_SERVER";
/// Bytes of standard error that are kept to be shown, the last ones.
const STDERR_BYTES: usize = 2_000;
/// How long a server has to end by itself, and then again to follow SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// A command that runs. Dropping it ends its process group.
pub(crate) struct Server {
    child: Option<Child>,
    /// The process group, until it was killed. The child is not reaped before, so that the
    /// number is not another's.
    group: Option<Pid>,
    printed: Arc<Mutex<Printed>>,
    stderr: Arc<Mutex<Stderr>>,
}

/// What a command has printed on standard error.
#[derive(Default)]
struct Stderr {
    /// The last of it.
    kept: VecDeque<u8>,
    /// Nothing more comes.
    closed: bool,
}

/// The two ends of the conversation with a server.
pub(crate) type Streams = (BoundedLines<ChildStdout>, ChildStdin);

impl Server {
    /// Starts a command.
    pub(crate) fn start(
        command: &str,
        args: &[String],
        env: &BTreeMap<String, String>,
        cwd: Option<&PathBuf>,
    ) -> Result<(Self, Streams), String> {
        let mut builder = Command::new(command);
        builder
            .args(args)
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env(MARK, "1")
            .envs(env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(cwd) = cwd {
            builder.current_dir(cwd);
        }
        let mut child =
            builder.spawn().map_err(|error| format!("{command} cannot be started: {error}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let printed = Arc::new(Mutex::new(Printed::default()));
        let stderr = Arc::new(Mutex::new(Stderr::default()));
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{command} has no standard streams"));
        };
        if let Some(source) = child.stderr.take() {
            tokio::spawn(keep_last(source, Arc::clone(&stderr)));
        }
        let output = BoundedLines::new(output, MAX_MESSAGE_BYTES, Arc::clone(&printed));
        Ok((Self { child: Some(child), group, printed, stderr }, (output, input)))
    }

    /// Waits until the command has ended after its input was closed; one that does not end
    /// is ended.
    pub(crate) async fn end(mut self) {
        let closed = |printed: &Mutex<Printed>| lock(printed).closed;
        let begun = tokio::time::Instant::now();
        while !closed(&self.printed) && begun.elapsed() < GRACE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::TERM);
            if !closed(&self.printed) {
                tokio::time::sleep(GRACE).await;
            }
            // What is left of the group goes with it; that it has ended is as well.
            let _ = kill_process_group(group, Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            // Nobody asks how it ended.
            let _ = child.wait().await;
        }
    }

    /// Whether everything is there that the command has printed before its end.
    pub(crate) fn has_said_all(&self) -> bool {
        lock(&self.stderr).closed
    }

    /// What the command has printed that helps to see why it failed.
    pub(crate) fn last_words(&self) -> String {
        let printed = lock(&self.printed);
        let mut words = Vec::new();
        if printed.too_long {
            words.push(format!("; it sent a message of more than {MAX_MESSAGE_BYTES} bytes"));
        }
        if let Some(garbage) = &printed.garbage {
            words.push(format!(
                "; on standard output it printed {garbage:?}, which is not a message"
            ));
        }
        drop(printed);
        let stderr: Vec<u8> = lock(&self.stderr).kept.iter().copied().collect();
        let stderr = String::from_utf8_lossy(&stderr);
        let stderr = stderr.trim();
        if !stderr.is_empty() {
            words.push(format!("; its last words on standard error: {stderr}"));
        }
        words.concat()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn keep_last(mut source: impl AsyncRead + Unpin, stderr: Arc<Mutex<Stderr>>) {
    let mut chunk = [0; 4_096];
    while let Ok(length @ 1..) = source.read(&mut chunk).await {
        tracing::debug!(text = %String::from_utf8_lossy(&chunk[..length]), "a server's stderr");
        let kept = &mut lock(&stderr).kept;
        kept.extend(&chunk[..length]);
        let excess = kept.len().saturating_sub(STDERR_BYTES);
        kept.drain(..excess);
    }
    lock(&stderr).closed = true;
}
