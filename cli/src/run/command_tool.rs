//! Runs one tool: a child process in a group of its own, which ends with the call.

use super::guard::Guard;
use super::tools_file::{Output, Tool};
use cellblock::{ToolInput, ToolResult};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::Value;
use std::cell::OnceCell;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// What a call says that was cancelled.
pub const CANCELLED: &str = "code mode nested tool call cancelled";
/// Bytes of standard output that a result may have.
const STDOUT_BYTES: u64 = 32 << 20;
/// Bytes of standard error that an error may have.
const STDERR_BYTES: u64 = 64 << 10;

/// Runs the tool's command with the input on its standard input.
pub async fn run(
    tool: &Tool,
    input: Option<ToolInput>,
    guard: &Guard,
    cancellation: &CancellationToken,
) -> Result<ToolResult, String> {
    let input = input.unwrap_or_else(|| Value::Object(serde_json::Map::new()).into());
    let arguments = arguments(tool, &input)?;
    let input = input.into_json().map_err(|error| format!("{}: input is {error}", tool.name))?;
    let group = Group::spawn(tool, &arguments, guard)?;
    tokio::select! {
        result = group.converse(tool, input) => result,
        () = cancellation.cancelled() => Err(CANCELLED.to_owned()),
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

    async fn converse(mut self, tool: &Tool, input: String) -> Result<ToolResult, String> {
        let stdin = self.child.stdin.take();
        let stdout = self.child.stdout.take();
        let stderr = self.child.stderr.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A command that does not read its input is none the worse for it.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), out, err, status) = tokio::join!(
            write,
            read(stdout, STDOUT_BYTES),
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
        result(tool, &out)
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

fn result(tool: &Tool, out: &[u8]) -> Result<ToolResult, String> {
    let text = String::from_utf8_lossy(out);
    let string = |text: &str| ToolResult::from(Value::from(text));
    match tool.output {
        Output::Text => Ok(string(&text)),
        Output::Json => ToolResult::from_json(text).map_err(|why| format!("{}: {why}", tool.name)),
        Output::Auto => Ok(ToolResult::from_json(&*text).unwrap_or_else(|_| string(&text))),
    }
}

/// Reads to the end, or one byte past the limit, where the pipe is closed.
async fn read(source: Option<impl AsyncRead + Unpin>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        // An error ends the output where it happened.
        let _ = source.take(limit + 1).read_to_end(&mut bytes).await;
    }
    bytes
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
