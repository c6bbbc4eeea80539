//! `cellblock mcp`: real servers and clients, and servers that misbehave.

#![allow(clippy::print_stdout, reason = "a test that cannot be run says so")]
#![allow(clippy::needless_pass_by_value, reason = "values that a test writes out are its own")]

mod approvals;
mod clients;
mod configured;
mod flows;
mod foreign;
mod hostile;
mod hostile_http;
mod installed;
mod load;
mod misbehaving;
mod over_http;
mod raw;
mod real;
mod remote;
mod scripts;
mod tasks;

use serde_json::{Value, json};
use std::path::Path;

/// Writes a configuration.
fn configure(dir: &Path, config: &Value) {
    std::fs::write(dir.join(".mcp.json"), config.to_string()).expect("a configuration");
}

/// A server that does one thing wrong.
fn wrong(mode: &str, arguments: &[&str]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/misbehave.py");
    let args = [&[script, mode], arguments].concat();
    json!({ "command": "python3", "args": args })
}
