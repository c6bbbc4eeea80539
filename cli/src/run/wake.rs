//! `cellblock wake`: a parked script goes on.

use super::parking::ParkFile;
use super::tools_file::ToolsFile;
use super::{Common, POLL_MS, Plan, Start, converse_until_the_end};
use crate::Exit;
use anyhow::{Context, Result, bail};
use cellblock::{ParkedCall, PendingCalls, ToolResult, WakeRequest, WasmBackend};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `cellblock wake`.
#[derive(Args)]
pub struct Arguments {
    /// The file that the script was parked in. If it waits for deferred tools again, it is
    /// parked there again.
    file: PathBuf,
    /// The result of a call that the script waits for, as JSON, in the order of the calls; or
    /// `ID=JSON`, for the call of that id. May be given more than once.
    #[arg(long = "result", value_name = "JSON")]
    results: Vec<String>,
    /// `ID=TEXT`: the call of that id fails with the text. May be given more than once.
    #[arg(long = "error", value_name = "ID=TEXT")]
    errors: Vec<String>,
    /// Let the script's random numbers go on in another way: it was woken before.
    #[arg(long)]
    fork: bool,
    /// Another file for a script that waits for deferred tools again.
    #[arg(long, value_name = "FILE")]
    park: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Wakes the script and says how it went.
pub fn main(arguments: &Arguments) -> Exit {
    crate::exit_of(wake(arguments))
}

fn wake(arguments: &Arguments) -> Result<Exit> {
    let common = &arguments.common;
    let limits = common.limits.cell()?;
    let key = common.park_key.as_deref();
    let from = ParkFile::new(&arguments.file, key)?;
    let cell = from.read()?;
    let park = arguments.park.as_ref().map(|file| ParkFile::new(file, key)).transpose()?;
    let start = |tools: &ToolsFile, backend: &WasmBackend| {
        let waiting =
            backend.pending_calls(&cell).with_context(|| arguments.file.display().to_string())?;
        let mut request = WakeRequest::new(cell.clone());
        request.calls = ends(&arguments.results, &arguments.errors, &waiting)?;
        request.enabled_tools = common.tools.as_ref().map(|_| tools.definitions().into());
        request.yield_time_ms = Some(POLL_MS);
        request.is_fork = arguments.fork;
        Ok(Start::Parked(request))
    };
    let park = Some(park.unwrap_or(from));
    let (source, tsc, trace, record) = (String::new(), None, None, None);
    let plan = Plan { limits, source, tsc, park, trace, record, elsewhere: None };
    converse_until_the_end(common, plan, start)
}

/// The ends that were given, for the calls that the script waits for.
fn ends(results: &[String], errors: &[String], waiting: &[ParkedCall]) -> Result<PendingCalls> {
    let known = |id: &str| waiting.iter().any(|call| call.runtime_tool_call_id == id);
    let mut given = std::collections::BTreeMap::new();
    let mut in_order = Vec::new();
    for result in results {
        match result.split_once('=').filter(|(id, _)| id.starts_with("tool-")) {
            Some((id, json)) => {
                let end = Ok(parsed(json)?);
                if given.insert(id, end).is_some() {
                    bail!("{id} has two ends");
                }
            }
            None => in_order.push(parsed(result)?),
        }
    }
    for error in errors {
        let (id, text) = error
            .split_once('=')
            .with_context(|| format!("--error {error} must have the form ID=TEXT"))?;
        if given.insert(id, Err(text.to_owned())).is_some() {
            bail!("{id} has two ends");
        }
    }
    if let Some(unknown) = given.keys().find(|id| !known(id)) {
        bail!("the script does not wait for {unknown}; it waits for {}", list(waiting));
    }
    let named: std::collections::BTreeSet<_> = given.keys().map(|id| (*id).to_owned()).collect();
    let mut free = waiting.iter().filter(|call| !named.contains(&call.runtime_tool_call_id));
    let mut calls = PendingCalls::default();
    for (id, end) in given {
        calls.insert(id, end);
    }
    for result in in_order {
        let call = free.next().with_context(|| {
            format!("there are more results than calls: the script waits for {}", list(waiting))
        })?;
        calls.insert(call.runtime_tool_call_id.as_str(), Ok(result));
    }
    Ok(calls)
}

fn parsed(json: &str) -> Result<ToolResult> {
    ToolResult::from_json(json).with_context(|| format!("--result {json}"))
}

fn list(waiting: &[ParkedCall]) -> String {
    let line = |call: &ParkedCall| format!("{} {}", call.runtime_tool_call_id, call.tool_name);
    let lines: Vec<_> = waiting.iter().map(line).collect();
    if lines.is_empty() { "none".to_owned() } else { lines.join(", ") }
}
