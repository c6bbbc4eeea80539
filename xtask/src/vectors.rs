//! `cargo xtask vectors`: asks a code-mode host the recorded vectors again.
//!
//! The host is any program that speaks the framed JSON protocol, version 1, on its
//! standard streams: a four-byte little-endian length, then that much JSON. The
//! client here does one thing at a time, which is all that a recording needs.

use crate::root;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Yield time of a vector that names none, and of every wait.
const YIELD_MS: u64 = 5_000;
/// How long the tool `slow` takes.
const SLOW: Duration = Duration::from_millis(30);
/// A frame longer than this is refused, as the protocol has it.
const MAX_FRAME_BYTES: u32 = 64 << 20;

const TOOLS: [&str; 9] = ["echo", "fail", "slow", "num", "str", "arr", "nul", "my-tool.x", "2fast"];

/// Runs every vector against a host, and reports what differs from the recording;
/// `record` then replaces it.
pub fn vectors(host: &Path, arguments: &[String], record: bool) -> Result<()> {
    let path = root().join("tests/vectors/vectors.json");
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let mut client = Client::start(host, arguments)?;
    let mut differing = 0;
    let vectors = file["vectors"].as_array_mut().context("vectors.json has no vectors")?;
    let total = vectors.len();
    for (number, vector) in vectors.iter_mut().enumerate() {
        let (steps, notifications) =
            client.run(number, vector).with_context(|| format!("vector {}", vector["name"]))?;
        let (steps, notifications) = (Value::Array(steps), Value::Array(notifications));
        if steps != vector["steps"] || notifications != vector["notifications"] {
            differing += 1;
            println!("{}: {}", vector["name"], vector["source"]);
            println!("  recorded {} {}", vector["steps"], vector["notifications"]);
            println!("  answered {steps} {notifications}");
        }
        vector["steps"] = steps;
        vector["notifications"] = notifications;
    }
    println!("{differing} of {total} vectors differ from the recording");
    if record {
        std::fs::write(&path, serde_json::to_string_pretty(&file)? + "\n")?;
        println!("recorded {}", path.display());
    }
    Ok(())
}

struct Client {
    child: Child,
    input: Arc<Mutex<ChildStdin>>,
    output: ChildStdout,
    last_id: i64,
    /// Answers to an execute that have come while something else was awaited.
    initial: Vec<Value>,
    notifications: Vec<Value>,
}

impl Client {
    fn start(host: &Path, arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(host)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", host.display()))?;
        let input = child.stdin.take().context("no standard input")?;
        let input = Arc::new(Mutex::new(input));
        let output = child.stdout.take().context("no standard output")?;
        let mut client =
            Self { child, input, output, last_id: 0, initial: vec![], notifications: vec![] };
        client.send(&json!({
            "type": "connection/hello",
            "supportedVersions": [1],
            "requiredCapabilities": [],
            "optionalCapabilities": [],
        }))?;
        let ready = client.receive()?;
        if ready["type"] != "connection/ready" {
            bail!("the host refused the connection: {ready}");
        }
        Ok(client)
    }

    /// Runs a vector in a session of its own.
    fn run(&mut self, number: usize, vector: &Value) -> Result<(Vec<Value>, Vec<Value>)> {
        let session = format!("vector-{number}");
        self.notifications.clear();
        self.request(&json!({ "method": "session/open", "sessionId": session }))?;
        let sources = match &vector["source"] {
            Value::Array(sources) => sources.clone(),
            source => vec![source.clone()],
        };
        let mut steps = Vec::new();
        for source in sources {
            self.cell(&session, &source, vector, &mut steps)?;
        }
        self.request(&json!({ "method": "session/shutdown", "sessionId": session }))?;
        Ok((steps, std::mem::take(&mut self.notifications)))
    }

    fn cell(
        &mut self,
        session: &str,
        source: &Value,
        vector: &Value,
        steps: &mut Vec<Value>,
    ) -> Result<()> {
        let tools: Vec<_> = TOOLS.iter().map(|name| definition(name)).collect();
        let id = self.last_id + 1;
        self.request(&json!({
            "method": "session/execute",
            "sessionId": session,
            "request": {
                "tool_call_id": "call",
                "enabled_tools": tools,
                "source": source,
                "yield_time_ms": vector["yield"].as_u64().unwrap_or(YIELD_MS),
                "max_output_tokens": null,
            },
        }))?;
        let mut response = self.initial_response(id)?;
        steps.push(json!({ "execute": { "value": strip(&response) } }));
        while let Some(cell) = response["Yielded"]["cell_id"].as_str().map(str::to_owned) {
            let (kind, value) = if vector["terminate"] == true {
                let request =
                    json!({ "method": "session/terminate", "sessionId": session, "cellId": cell });
                ("terminate", self.request(&request)?)
            } else {
                let request = json!({
                    "method": "session/wait",
                    "sessionId": session,
                    "request": { "cell_id": cell, "yield_time_ms": YIELD_MS },
                });
                ("wait", self.request(&request)?)
            };
            steps.push(json!({ kind: { "value": strip(&value) } }));
            response = value["outcome"]["LiveCell"].clone();
        }
        Ok(())
    }

    /// Sends a request and returns the value of its answer, serving calls meanwhile.
    fn request(&mut self, request: &Value) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({ "type": "operation/request", "id": id, "request": request }))?;
        loop {
            let message = self.receive()?;
            if message["type"] == "operation/response" && message["id"] == id {
                return ok(&message["result"]);
            }
            self.serve(message)?;
        }
    }

    fn initial_response(&mut self, id: i64) -> Result<Value> {
        loop {
            if let Some(at) = self.initial.iter().position(|message| message["id"] == id) {
                return ok(&self.initial.remove(at)["result"]);
            }
            let message = self.receive()?;
            self.serve(message)?;
        }
    }

    /// Handles a message that nobody waits for.
    fn serve(&mut self, message: Value) -> Result<()> {
        match message["type"].as_str() {
            Some("execute/initialResponse") => self.initial.push(message),
            Some("delegate/request") => {
                let request = &message["request"];
                if request["type"] == "notification/send" {
                    self.notifications.push(request["text"].clone());
                }
                // Each call is served by a thread of its own, so that a slow one
                // holds up nobody.
                let input = Arc::clone(&self.input);
                std::thread::spawn(move || {
                    let result = serve(&message["request"]);
                    let id = &message["id"];
                    // A host that has gone away needs no answer.
                    let _ = send(
                        &input,
                        &json!({ "type": "delegate/response", "id": id, "result": result }),
                    );
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn send(&self, message: &Value) -> Result<()> {
        send(&self.input, message)
    }

    fn receive(&mut self) -> Result<Value> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).context("the host has closed its output")?;
        let length = u32::from_le_bytes(length);
        if length > MAX_FRAME_BYTES {
            bail!("the host sent a frame of {length} bytes");
        }
        let mut body = vec![0; usize::try_from(length)?];
        self.output.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A host that has ended already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes one frame.
fn send(input: &Mutex<ChildStdin>, message: &Value) -> Result<()> {
    let body = message.to_string();
    let length = u32::try_from(body.len())?;
    let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
    input.write_all(&length.to_le_bytes())?;
    input.write_all(body.as_bytes())?;
    Ok(input.flush()?)
}

/// The result of a request of the host's.
fn serve(request: &Value) -> Value {
    if request["type"] == "notification/send" {
        return json!({ "status": "ok", "value": { "type": "notification/delivered" } });
    }
    match call(&request["invocation"]) {
        Ok(result) => {
            json!({ "status": "ok", "value": { "type": "tool/result", "result": result } })
        }
        Err(message) => json!({ "status": "error", "message": message }),
    }
}

/// The tools that the vectors were recorded with.
fn call(invocation: &Value) -> Result<Value, String> {
    let input = invocation["input"].clone();
    match invocation["tool_name"]["name"].as_str().unwrap_or_default() {
        "echo" => Ok(input),
        "fail" => Err(format!("tool failed: {input}")),
        "slow" => {
            std::thread::sleep(SLOW);
            Ok(input)
        }
        "num" => Ok(json!(42)),
        "str" => Ok(json!("plain text")),
        "arr" => Ok(json!([1, "two", null, { "k": true }])),
        "nul" => Ok(Value::Null),
        other => Ok(json!({ "tool": other, "input": input })),
    }
}

fn definition(name: &str) -> Value {
    json!({
        "name": name,
        "tool_name": { "name": name, "namespace": null },
        "description": name,
        "kind": "function",
        "input_schema": null,
        "output_schema": null,
    })
}

/// An answer without its durations, which differ every time.
fn strip(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(key, _)| !key.ends_with("_duration_ns") && *key != "result_buffered_for_ns")
            .map(|(key, value)| (key.clone(), strip(value)))
            .collect(),
        Value::Array(items) => items.iter().map(strip).collect(),
        other => other.clone(),
    }
}

fn ok(result: &Value) -> Result<Value> {
    match result["status"].as_str() {
        Some("ok") => Ok(result["value"].clone()),
        _ => bail!("the host answered {result}"),
    }
}
