//! A client that sends what a test wants, line by line.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cellblock");
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Answers a request of the server, given its method and its parameters.
pub type AnswerRequest = Box<dyn FnMut(&str, &Value) -> Value>;

/// `cellblock mcp` as a child, and the client's side of its standard streams.
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    last: u64,
    /// Sent with every request, by revisions that have no handshake.
    meta: Option<Value>,
    /// What came beside the answers.
    pub others: Vec<Value>,
    /// The answer to each request of the server, by its method.
    pub answer: AnswerRequest,
}

impl Client {
    /// A client that has shaken hands, with these capabilities.
    pub fn start(dir: &Path, arguments: &[&str], capabilities: &Value) -> Self {
        let mut client = Self::spawn(dir, arguments);
        client.shake_hands(capabilities);
        client
    }

    /// Tells the server of these capabilities.
    pub fn shake_hands(&mut self, capabilities: &Value) {
        let params = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": capabilities,
            "clientInfo": { "name": "raw", "version": "1" },
        });
        let started = self.request("initialize", params);
        assert_eq!(started["protocolVersion"], "2025-06-18", "{started}");
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    }

    /// A client of the revision 2026-07-28, which has no handshake.
    pub fn modern(dir: &Path, arguments: &[&str], capabilities: &Value) -> Self {
        let mut client = Self::spawn(dir, arguments);
        client.meta = Some(json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        }));
        client
    }

    fn spawn(dir: &Path, arguments: &[&str]) -> Self {
        Self::attach(command(dir, arguments).spawn().expect("it starts"))
    }

    /// A client of a server that was started with [`command`].
    pub fn attach(mut child: Child) -> Self {
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line).expect("a message on each line");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            input: child.stdin.take(),
            child,
            messages,
            last: 0,
            meta: None,
            others: Vec::new(),
            answer: Box::new(|method, _| panic!("the server asks for {method}")),
        }
    }

    pub fn send(&mut self, message: &Value) {
        self.send_line(&message.to_string());
    }

    /// Sends a line, whatever it is.
    pub fn send_line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("open");
        writeln!(input, "{line}").expect("it reads");
    }

    /// Sends a request, and returns its number.
    pub fn begin(&mut self, method: &str, mut params: Value) -> u64 {
        self.last += 1;
        if let Some(meta) = &self.meta {
            let own = params["_meta"].take();
            params["_meta"] = meta.clone();
            for (key, value) in own.as_object().into_iter().flatten() {
                params["_meta"][key] = value.clone();
            }
        }
        let id = self.last;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// The whole response to a request. Requests of the server are answered meanwhile.
    pub fn response(&mut self, id: u64) -> Value {
        loop {
            let message = self.next(PATIENCE).expect("an answer");
            if let (Some(asked), Some(method)) = (message.get("id"), message["method"].as_str()) {
                let result = (self.answer)(method, &message["params"]);
                self.send(&json!({ "jsonrpc": "2.0", "id": asked, "result": result }));
            } else if message["id"] == id {
                return message;
            } else {
                self.others.push(message);
            }
        }
    }

    /// Sends a request and returns its result.
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        let mut response = self.response(id);
        assert!(response.get("error").is_none(), "{response}");
        response["result"].take()
    }

    /// Calls a tool.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    /// Runs a program.
    pub fn exec(&mut self, code: &str) -> Value {
        self.call("exec", json!({ "code": code }))
    }

    /// Runs a program that has to complete, and returns what it printed.
    pub fn printed(&mut self, code: &str) -> String {
        let result = self.exec(code);
        assert_eq!(result["structuredContent"]["status"], "completed", "{result}");
        result["structuredContent"]["output"].as_str().expect("a text").to_owned()
    }

    /// The next message, if one comes in time.
    pub fn next(&mut self, patience: Duration) -> Option<Value> {
        match self.messages.recv_timeout(patience) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the server has gone"),
        }
    }

    /// Waits for a notification.
    pub fn notification(&mut self, method: &str) -> Value {
        if let Some(at) = self.others.iter().position(|other| other["method"] == method) {
            return self.others.remove(at);
        }
        loop {
            let message = self.next(PATIENCE).expect("a notification");
            if message["method"] == method {
                return message;
            }
            self.others.push(message);
        }
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that the process has had.
    pub fn peak_mib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        peak.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") >> 10
    }

    /// Closes the server's input, and waits for its end.
    pub fn close(mut self) -> std::process::ExitStatus {
        drop(self.input.take());
        self.child.wait().expect("it ends")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends its servers, too.
        let _ = self.child.wait();
    }
}

/// Starts `cellblock mcp` in a folder.
pub fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["mcp", "--start-wait", "100s"])
        .args(arguments)
        .current_dir(dir)
        .env("XDG_CONFIG_HOME", dir.join("no-config"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// The text blocks of a result.
pub fn texts(result: &Value) -> String {
    let blocks = result["content"].as_array().into_iter().flatten();
    blocks.filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
}
