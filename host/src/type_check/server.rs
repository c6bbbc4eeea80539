//! The compiler's process, as a language server.

use super::TypeCheckError;
use super::problem::{TypeProblem, TypeReport};
use crate::backend::Language;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Bytes of a message from the compiler.
const MESSAGE_BYTES: usize = 8 << 20;
/// Bytes of a header line of a message.
const HEADER_BYTES: u64 = 1 << 10;
/// Problems that are read of an answer.
const PROBLEMS: usize = 1_000;
/// Memory that the compiler's collector aims at.
const MEMORY: &str = "512MiB";

/// The file of the declarations.
const DECLARATIONS: &str = "tools.d.ts";
/// The file that a program seems to be, by its language.
const JAVASCRIPT: &str = "program.js";
const TYPESCRIPT: &str = "program.ts";
/// Types in a file that is JavaScript.
const TYPES_IN_JAVASCRIPT: std::ops::Range<u32> = 8000..9000;

/// A compiler that runs.
pub(super) struct Server {
    /// Where the compiler is.
    tsc: PathBuf,
    /// Ends the process with the server.
    _process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The project, in a folder that only this user can read.
    project: TempDir,
    /// The number of the newest request.
    requests: u64,
}

/// The process and those that it starts: npm's `tsc` is a script that starts the compiler.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let group = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            // One that has ended needs no end.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

impl Server {
    /// Starts the compiler on a project that holds the declarations.
    pub(super) async fn start(tsc: &Path, declarations: &str) -> Result<Self, TypeCheckError> {
        let failed = |error| TypeCheckError::Start { tsc: tsc.to_owned(), error };
        let project = project(declarations).map_err(failed)?;
        let mut child = Command::new(tsc)
            .args(["--lsp", "--stdio"])
            .current_dir(project.path())
            .env("GOMEMLIMIT", MEMORY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = pipes else {
            return Err(failed(io::Error::other("it has no pipes")));
        };
        let mut server = Self {
            tsc: tsc.to_owned(),
            _process: Process(child),
            input,
            output: BufReader::new(output),
            project,
            requests: 0,
        };
        let uri = server.uri("");
        let started = json!({
            "processId": std::process::id(),
            "rootUri": uri,
            "workspaceFolders": [{ "uri": uri, "name": "program" }],
            "capabilities": { "textDocument": { "diagnostic": {} } },
        });
        server.request("initialize", started).await?;
        server.notify("initialized", json!({})).await?;
        Ok(server)
    }

    /// Checks a program.
    pub(super) async fn check(
        &mut self,
        source: &str,
        language: Language,
        tools: &[String],
    ) -> Result<TypeReport, TypeCheckError> {
        let problems = match language {
            Language::Ts => self.problems(source, TYPESCRIPT).await?,
            Language::Js => self.problems(source, JAVASCRIPT).await?,
            Language::Auto => {
                let problems = self.problems(source, JAVASCRIPT).await?;
                let has_types = |problem: &TypeProblem| TYPES_IN_JAVASCRIPT.contains(&problem.code);
                if problems.iter().any(has_types) {
                    self.problems(source, TYPESCRIPT).await?
                } else {
                    problems
                }
            }
        };
        Ok(TypeReport::new(problems, source, tools))
    }

    /// The problems of a program that is the file of this name.
    async fn problems(
        &mut self,
        source: &str,
        file: &str,
    ) -> Result<Vec<TypeProblem>, TypeCheckError> {
        let uri = self.uri(file);
        let language = if file == TYPESCRIPT { "typescript" } else { "javascript" };
        let document = json!({ "uri": uri, "languageId": language, "version": 1, "text": source });
        self.notify("textDocument/didOpen", json!({ "textDocument": document })).await?;
        let document = json!({ "textDocument": { "uri": uri } });
        let answer = self.request("textDocument/diagnostic", document.clone()).await?;
        self.notify("textDocument/didClose", document).await?;
        let answer: Diagnostics = serde_json::from_value(answer).map_err(|error| {
            self.broken(format!("its diagnostics are not those of LSP: {error}"))
        })?;
        let errors = answer.items.into_iter().filter(Diagnostic::is_error).take(PROBLEMS);
        Ok(errors.map(Diagnostic::problem).collect())
    }

    /// The address of a file of the project.
    fn uri(&self, file: &str) -> String {
        let path = self.project.path().join(file);
        let path = path.to_string_lossy();
        // The folder's own name is plain; the folder above it may have any.
        let escaped = percent_encoding::utf8_percent_encode(&path, URI_PATH);
        format!("file://{escaped}")
    }

    async fn request(&mut self, method: &str, params: Value) -> Result<Value, TypeCheckError> {
        self.requests += 1;
        let id = self.requests;
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .await?;
        loop {
            let mut message = self.receive().await?;
            if message.get("method").is_some() {
                // The compiler asks for settings and registrations: it gets none.
                if let Some(asked) = message.get("id") {
                    self.send(json!({ "jsonrpc": "2.0", "id": asked, "result": null })).await?;
                }
            } else if message["id"] == id {
                return match message.get("error") {
                    Some(error) => Err(self.broken(format!("{method} failed: {error}"))),
                    None => Ok(message["result"].take()),
                };
            }
        }
    }

    async fn notify(&mut self, method: &str, params: Value) -> Result<(), TypeCheckError> {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params })).await
    }

    async fn send(&mut self, message: Value) -> Result<(), TypeCheckError> {
        let body = message.to_string();
        let message = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let sent = self.input.write_all(message.as_bytes()).await;
        sent.map_err(|error| self.broken(format!("it reads nothing: {error}")))
    }

    async fn receive(&mut self) -> Result<Value, TypeCheckError> {
        let message = read_message(&mut self.output).await;
        message.map_err(|error| self.broken(error.to_string()))
    }

    fn broken(&self, why: String) -> TypeCheckError {
        TypeCheckError::Protocol { tsc: self.tsc.clone(), why }
    }
}

/// Characters of a path that an address escapes.
const URI_PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// A folder with the project: the declarations, and a program that the server is told of.
fn project(declarations: &str) -> io::Result<TempDir> {
    let settings = json!({
        "compilerOptions": {
            "strict": true,
            // What programs leave out everywhere.
            "noImplicitAny": false,
            "useUnknownInCatchVariables": false,
            "allowJs": true,
            "checkJs": true,
            "noEmit": true,
            "target": "esnext",
            "lib": ["esnext"],
            "module": "esnext",
            "moduleDetection": "force",
            // A program must not have the compiler read files: its complaints would tell of them.
            "noResolve": true,
            "types": [],
        },
        // Nothing is fetched for programs.
        "typeAcquisition": { "enable": false },
        "files": [DECLARATIONS, JAVASCRIPT, TYPESCRIPT],
    });
    let folder = tempfile::Builder::new().prefix("cellblock-types-").tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    write("tsconfig.json", &settings.to_string())?;
    write(DECLARATIONS, declarations)?;
    write(JAVASCRIPT, "")?;
    write(TYPESCRIPT, "")?;
    Ok(folder)
}

/// Reads a message: headers, an empty line, JSON.
async fn read_message(output: &mut BufReader<ChildStdout>) -> io::Result<Value> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut length = None;
    loop {
        let mut line = String::new();
        if output.take(HEADER_BYTES).read_line(&mut line).await? == 0 {
            return Err(invalid("it has ended"));
        }
        match line.trim_end() {
            "" => break,
            header => {
                let Some((name, value)) = header.split_once(':') else {
                    return Err(invalid("it does not speak the language server protocol"));
                };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse::<usize>().ok();
                }
            }
        }
    }
    let length = length.ok_or_else(|| invalid("a message has no length"))?;
    if length > MESSAGE_BYTES {
        return Err(invalid("a message is too long"));
    }
    let mut body = vec![0; length];
    output.read_exact(&mut body).await?;
    serde_json::from_slice(&body).map_err(|_| invalid("a message is not valid JSON"))
}

/// The answer to `textDocument/diagnostic`.
#[derive(Deserialize)]
struct Diagnostics {
    #[serde(default)]
    items: Vec<Diagnostic>,
}

/// A diagnostic of the language server protocol.
#[derive(Deserialize)]
struct Diagnostic {
    range: Range,
    /// 1 for an error.
    #[serde(default)]
    severity: u32,
    #[serde(default)]
    code: u32,
    message: String,
}

#[derive(Deserialize)]
struct Range {
    start: Position,
}

/// A place, from 0, in UTF-16 units.
#[derive(Deserialize)]
struct Position {
    line: u32,
    character: u32,
}

impl Diagnostic {
    fn is_error(&self) -> bool {
        self.severity == 1
    }

    fn problem(self) -> TypeProblem {
        let Position { line, character } = self.range.start;
        let (line, column) = (line.saturating_add(1), character.saturating_add(1));
        TypeProblem { code: self.code, line, column, message: self.message }
    }
}
