//! Runs one tool: a child process in a group of its own, which ends with the call.

use super::guard::Guard;
use super::tools_file::{Output, Tool};
use cellblock::support::CALL_CANCELLED;
use cellblock::{ToolInput, ToolResult};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::cell::OnceCell;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// Bytes of standard output that a result may have.
const STDOUT_BYTES: u64 = 32 << 20;
/// Bytes of standard output that every command may print at the same time as others. What
/// is longer is read of one command after the other, so that the outputs of many do not
/// pile up in memory.
const SMALL_OUTPUT_BYTES: u64 = 256 << 10;
/// Bytes of standard error that an error may have.
const STDERR_BYTES: u64 = 64 << 10;

/// Runs the tool's command with the input on its standard input.
pub async fn run(
    tool: &Tool,
    input: Option<ToolInput>,
    guard: &Guard,
    large_outputs: &Semaphore,
    cancellation: &CancellationToken,
) -> Result<ToolResult, String> {
    let input = input.unwrap_or_else(|| Value::Object(serde_json::Map::new()).into());
    let arguments = arguments(tool, &input)?;
    let input = input.into_json().map_err(|error| format!("{}: input is {error}", tool.name))?;
    let group = Group::spawn(tool, &arguments, guard)?;
    tokio::select! {
        result = group.converse(tool, input, large_outputs) => result,
        () = cancellation.cancelled() => Err(CALL_CANCELLED.to_owned()),
        () = tokio::time::sleep(tool.timeout()) => {
            Err(format!("{}: no answer within {} ms", tool.name, tool.timeout().as_millis()))
        }
    }
}

/// The command line, with members of the input in place of `{key}`.
fn arguments(tool: &Tool, input: &ToolInput) -> Result<Vec<String>, String> {
    // Values are made only for a command line that has a place for them.
    let parsed = OnceCell::new();
    let mut arguments = Vec::new();
    for part in &tool.command {
        let key = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            arguments.push(part.clone());
            continue;
        };
        let plain = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            _ => {
                Err(format!("{}: `{key}` must be a string, a number or a list of them", tool.name))
            }
        };
        match parsed.get_or_init(|| input.to_value()).get(key) {
            None => return Err(format!("{}: the input lacks `{key}`", tool.name)),
            Some(Value::Array(items)) => {
                for item in items {
                    arguments.push(plain(item)?);
                }
            }
            Some(value) => arguments.push(plain(value)?),
        }
    }
    if let Some(nul) = arguments.iter().position(|argument| argument.contains('\0')) {
        return Err(format!("{}: argument {nul} contains a NUL character", tool.name));
    }
    Ok(arguments)
}

/// A child and what it starts. Dropping it ends them all.
struct Group {
    child: Child,
    /// The child's process group, until it was killed. The child is not reaped before,
    /// so that the number is not another's.
    leader: Option<Pid>,
    /// Becomes readable when the child has ended.
    ended: AsyncFd<OwnedFd>,
}

impl Group {
    fn spawn(tool: &Tool, arguments: &[String], guard: &Guard) -> Result<Self, String> {
        let (program, rest) = arguments
            .split_first()
            .ok_or_else(|| format!("{}: the command line is empty", tool.name))?;
        let start = || {
            let (variable, marks) = guard.variable()?;
            let child = Command::new(program)
                .args(rest)
                .env(variable, marks)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .kill_on_drop(true)
                .spawn()?;
            let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            let leader = leader.ok_or(io::ErrorKind::NotFound)?;
            let ended = pidfd_open(leader, PidfdFlags::empty())?;
            #[expect(unsafe_code, reason = "tokio has no safe way to watch a descriptor")]
            // SAFETY: an `OwnedFd` is the same open descriptor for as long as it lives,
            // and it lives in the `AsyncFd`.
            let ended = unsafe { AsyncFd::register_with_interest(ended, Interest::READABLE) }?;
            io::Result::Ok(Self { child, leader: Some(leader), ended })
        };
        start().map_err(|error| format!("{}: cannot run {program}: {error}", tool.name))
    }

    async fn converse(
        mut self,
        tool: &Tool,
        input: String,
        large_outputs: &Semaphore,
    ) -> Result<ToolResult, String> {
        let stdin = self.child.stdin.take();
        let stdout = self.child.stdout.take();
        let stderr = self.child.stderr.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A command that does not read its input is none the worse for it.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), (out, _permit), err, status) = tokio::join!(
            write,
            read(stdout, STDOUT_BYTES, large_outputs),
            read_start(stderr, STDERR_BYTES),
            self.end()
        );
        let status = status.map_err(|error| format!("{}: {error}", tool.name))?;
        if !status.success() {
            let said = String::from_utf8_lossy(&err).trim().to_owned();
            return Err(if said.is_empty() { format!("{}: {status}", tool.name) } else { said });
        }
        if out.len() as u64 > STDOUT_BYTES {
            return Err(format!("{}: printed more than {STDOUT_BYTES} bytes", tool.name));
        }
        result(tool, out)
    }

    /// Waits until the child has ended, and ends what it left in its group: it would
    /// keep the pipes open.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        let _ended = self.ended.readable().await?;
        self.kill();
        self.child.wait().await
    }

    fn kill(&mut self) {
        if let Some(leader) = self.leader.take() {
            // All of it may have ended by itself, which is as well.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

fn result(tool: &Tool, out: Vec<u8>) -> Result<ToolResult, String> {
    let text = String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    let is_json = match tool.output {
        Output::Text => false,
        Output::Json => true,
        Output::Auto => serde_json::from_str::<IgnoredAny>(&text).is_ok(),
    };
    if is_json {
        ToolResult::from_json(text).map_err(|error| format!("{}: {error}", tool.name))
    } else {
        Ok(Value::from(text).into())
    }
}

/// Reads to the end, or one byte past the limit, where the pipe is closed. What is read
/// beyond a small output is read by one command at a time, until the permit is dropped.
async fn read(
    source: Option<impl AsyncRead + Unpin>,
    limit: u64,
    large_outputs: &Semaphore,
) -> (Vec<u8>, Option<SemaphorePermit<'_>>) {
    let (mut bytes, mut permit) = (Vec::new(), None);
    if let Some(mut source) = source {
        // An error ends the output where it happened.
        let _ = (&mut source).take(SMALL_OUTPUT_BYTES).read_to_end(&mut bytes).await;
        if bytes.len() as u64 == SMALL_OUTPUT_BYTES {
            // The semaphore is never closed.
            permit = large_outputs.acquire().await.ok();
            let rest = (limit + 1).saturating_sub(SMALL_OUTPUT_BYTES);
            let _ = source.take(rest).read_to_end(&mut bytes).await;
        }
    }
    (bytes, permit)
}

/// Reads to the end and keeps what comes first: a command may log as much as it likes.
async fn read_start(source: Option<impl AsyncRead + Unpin>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut source) = source {
        let _ = (&mut source).take(limit).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut source, &mut tokio::io::sink()).await;
    }
    bytes
}
