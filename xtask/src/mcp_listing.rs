//! Lists the tools of published MCP servers: the fixture of the tests that show what a
//! model sees.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The servers: name, npm package, arguments.
const SERVERS: [(&str, &str, &[&str]); 3] = [
    ("filesystem", "@modelcontextprotocol/server-filesystem@2026.8.31", &["."]),
    ("memory", "@modelcontextprotocol/server-memory@2026.8.31", &[]),
    ("everything", "@modelcontextprotocol/server-everything@2026.8.31", &["stdio"]),
];

/// Runs each server from npm, and writes what it lists into tests/fixtures.
pub(crate) fn record() -> Result<()> {
    let mut servers = Vec::new();
    for (name, package, arguments) in SERVERS {
        let mut server =
            Server::start(package, arguments).with_context(|| format!("cannot run {package}"))?;
        let about = server.ask(
            "initialize",
            &json!({
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": { "name": "cellblock", "version": env!("CARGO_PKG_VERSION") },
            }),
        )?;
        server.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        let mut tools = Vec::new();
        let mut cursor = json!({});
        loop {
            let page = server.ask("tools/list", &cursor)?;
            tools.extend(page["tools"].as_array().cloned().unwrap_or_default());
            match page.get("nextCursor").filter(|next| !next.is_null()) {
                Some(next) => cursor = json!({ "cursor": next }),
                None => break,
            }
        }
        let description = about["instructions"].as_str().unwrap_or_default();
        servers.push(json!({
            "name": name, "package": package, "description": description, "tools": tools,
        }));
    }
    let path = crate::root().join("tests/fixtures/tools/mcp-servers.json");
    let text = serde_json::to_string_pretty(&json!({ "servers": servers }))? + "\n";
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A server as a child process. Dropping it ends it.
struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    asked: u64,
}

impl Server {
    fn start(package: &str, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new("npx")
            .args(["--yes", package])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, input, output, asked: 0 })
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        writeln!(self.input, "{message}").context("the server does not read")
    }

    /// Sends a request and reads up to its answer.
    fn ask(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the server ended before it answered {method}");
            }
            let answer: Value = serde_json::from_str(&line)
                .with_context(|| format!("the server wrote {line:?}"))?;
            if answer["id"] == id {
                return match answer.get("result") {
                    Some(result) => Ok(result.clone()),
                    None => bail!("{method}: {}", answer["error"]),
                };
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
