//! A host as a child process, and a client that sends what a test wants.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use cellblock_remote::protocol::frame;
use cellblock_tests::npm::npm_install;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cellblock");

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The TypeScript compiler, installed in a folder; without npm, a notice and nothing.
pub fn typescript(folder: &Path) -> Option<PathBuf> {
    npm_install(folder, &["typescript@7.0.2"]).then(|| folder.join("node_modules/.bin/tsc"))
}

/// A host on a Unix socket or a port, ended with the test.
pub struct Served {
    pub child: Child,
    pub url: String,
    dir: TempDir,
    pub socket: PathBuf,
}

impl Served {
    pub fn start(scheme: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("host");
        let place = match scheme {
            "unix" | "grpc+unix" => socket.display().to_string(),
            _ => "127.0.0.1:0".to_owned(),
        };
        let mut served = Self::start_at(&format!("{scheme}://{place}"), arguments);
        (served.dir, served.socket) = (dir, socket);
        served
    }

    /// A host at an address.
    pub fn start_at(address: &str, arguments: &[&str]) -> Self {
        let child = Command::new(PROGRAM)
            .args(["host", "--listen", address])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self::announced(child)
    }

    /// A host on a port, started by a shell after a command.
    pub fn limited(scheme: &str, command: &str) -> Self {
        let run = format!("{command}; exec {PROGRAM} host --listen {scheme}://127.0.0.1:0");
        let child = Command::new("sh").args(["-c", &run]).stdout(Stdio::piped()).spawn().unwrap();
        Self::announced(child)
    }

    fn announced(mut child: Child) -> Self {
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { child, url: url.trim().to_owned(), socket: dir.path().join("host"), dir }
    }

    pub fn connect(&self) -> Client<UnixStream> {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream, last_id: 0 }
    }

    /// A client that has said hello and opened the session `s`.
    pub fn session(&self) -> Client<UnixStream> {
        let mut client = self.connect();
        client.hello();
        client.request(&json!({ "method": "session/open", "sessionId": "s" }));
        client
    }

    pub fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that sends what a test wants.
pub struct Client<S> {
    pub stream: S,
    pub last_id: i64,
}

impl<S: Read + Write> Client<S> {
    pub fn send(&mut self, message: &Value) {
        self.stream.write_all(&frame::encode(message).unwrap()).unwrap();
    }

    /// The next message; `None` at the end.
    pub fn receive(&mut self) -> Option<Value> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut payload = vec![0; u32::from_le_bytes(length) as usize];
        self.stream.read_exact(&mut payload).unwrap();
        Some(serde_json::from_slice(&payload).unwrap())
    }

    /// The next message of a type.
    pub fn until(&mut self, kind: &str) -> Value {
        loop {
            let message = self.receive().expect(kind);
            if message["type"] == kind {
                return message;
            }
        }
    }

    pub fn hello(&mut self) {
        self.send(&json!({ "type": "connection/hello", "supportedVersions": [1],
            "requiredCapabilities": [],
            "optionalCapabilities": ["session-cell-execution-resource-limits"] }));
        self.until("connection/ready");
    }

    pub fn ask(&mut self, request: &Value) -> i64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({ "type": "operation/request", "id": id, "request": request }));
        id
    }

    /// The result of a request.
    pub fn request(&mut self, request: &Value) -> Value {
        let id = self.ask(request);
        loop {
            let response = self.until("operation/response");
            if response["id"] == id {
                return response["result"].clone();
            }
        }
    }

    /// The first response of a program in the session `s`.
    pub fn execute(&mut self, source: &str, yield_time_ms: u64) -> Value {
        self.ask(&execute(source, yield_time_ms));
        let response = self.until("operation/response");
        assert_eq!(response["result"]["status"], "ok", "{response}");
        self.until("execute/initialResponse")["result"].clone()
    }
}

pub fn execute(source: &str, yield_time_ms: u64) -> Value {
    let tool = json!({ "name": "stone", "tool_name": { "name": "stone", "namespace": null },
        "description": "", "kind": "function", "input_schema": null, "output_schema": null });
    json!({ "method": "session/execute", "sessionId": "s", "request": {
        "tool_call_id": "c", "enabled_tools": [tool], "source": source,
        "yield_time_ms": yield_time_ms, "max_output_tokens": null } })
}

/// The status line of a plain HTTP/1.1 request.
pub fn get(address: &str, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Memory that a host holds, in MiB.
pub fn resident_mib(served: &Served) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() / 1_024
}
