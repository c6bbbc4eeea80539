//! A server that is a command: its process group, its standard streams, and its end.

use super::lines::{BoundedLines, MAX_MESSAGE_BYTES, Printed};
use cellblock::support::lock;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

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
/// How long the last words of a command that has gone are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a server has to end by itself, and then again to follow SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// A command that runs. Dropping it ends its process group.
pub(crate) struct Server {
    child: Option<Child>,
    /// The process group, until it was killed. The child is not reaped before, so that the
    /// number is not another's.
    group: Option<Pid>,
    words: Words,
}

/// What a command prints besides messages. It outlives the command.
#[derive(Clone, Default)]
pub(crate) struct Words {
    printed: Arc<Mutex<Printed>>,
    /// The last of what it has printed on standard error.
    stderr: Arc<Mutex<VecDeque<u8>>>,
    /// Is cancelled once its standard error is closed.
    said_all: CancellationToken,
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
        let words = Words::default();
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{command} has no standard streams"));
        };
        if let Some(source) = child.stderr.take() {
            let done = words.said_all.clone().drop_guard();
            let kept = Arc::clone(&words.stderr);
            tokio::spawn(async move {
                keep_last(source, &kept).await;
                drop(done);
            });
        }
        let output = BoundedLines::new(output, MAX_MESSAGE_BYTES, Arc::clone(&words.printed));
        Ok((Self { child: Some(child), group, words }, (output, input)))
    }

    /// What it prints besides messages.
    pub(crate) fn words(&self) -> Words {
        self.words.clone()
    }

    /// Waits until the command has ended after its input was closed; one that does not end
    /// is ended.
    pub(crate) async fn end(mut self) {
        if let Some(group) = self.group.take() {
            // Seen, and not reaped: the number of the group is not another's yet.
            let mut exited = tokio::task::spawn_blocking(move || {
                waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            });
            if tokio::time::timeout(GRACE, &mut exited).await.is_err() {
                let _ = kill_process_group(group, Signal::TERM);
                let _ = tokio::time::timeout(GRACE, &mut exited).await;
            }
            // What is left of the group goes with it; that it has ended is as well.
            let _ = kill_process_group(group, Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            // Nobody asks how it ended.
            let _ = child.wait().await;
        }
    }
}

impl Words {
    /// What the command has printed that helps to see why it has gone.
    pub(crate) async fn last(&self) -> String {
        let _ = tokio::time::timeout(LAST_WORDS, self.said_all.cancelled()).await;
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
        let stderr: Vec<u8> = lock(&self.stderr).iter().copied().collect();
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

async fn keep_last(mut source: impl AsyncRead + Unpin, stderr: &Mutex<VecDeque<u8>>) {
    let mut chunk = [0; 4_096];
    while let Ok(length @ 1..) = source.read(&mut chunk).await {
        tracing::debug!(text = %String::from_utf8_lossy(&chunk[..length]), "a server's stderr");
        let kept = &mut lock(stderr);
        kept.extend(&chunk[..length]);
        let excess = kept.len().saturating_sub(STDERR_BYTES);
        kept.drain(..excess);
    }
}
