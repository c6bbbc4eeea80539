//! `cellblock wake`: a parked script goes on.

use super::input;
use super::output_file::distinct;
use super::parking::{self, Key, ParkFile};
use super::tools_file::ToolsFile;
use super::{Common, POLL_MS, ParkTo, Plan, Start, converse_until_the_end};
use crate::Exit;
use crate::limits::over_limit;
use anyhow::{Context, Result, anyhow, bail};
use cellblock::{
    CodeModeError, ParkError, ParkedCall, PendingCalls, ToolResult, WakeRequest, WasmBackend,
};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Characters of an argument that a message shows.
const SHOWN: usize = 80;

/// Calls that a message lists.
const LISTED: usize = 20;

/// Arguments of `cellblock wake`.
#[derive(Args)]
pub struct Arguments {
    /// The file that the script was parked in. If it waits for deferred tools again, it is
    /// parked there again.
    file: PathBuf,
    /// The result of a call that the script waits for, as JSON, in the order of the calls; or
    /// `ID=JSON`, for the call of that id. `@FILE` in place of JSON reads it from a file. May be
    /// given more than once.
    #[arg(long = "result", value_name = "JSON", allow_hyphen_values = true)]
    results: Vec<String>,
    /// `ID=TEXT`: the call of that id fails with the text. May be given more than once.
    #[arg(long = "error", value_name = "ID=TEXT", allow_hyphen_values = true)]
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
    let name = || arguments.file.display().to_string();
    let key = Key::existing(common.park_key.as_deref())?;
    let cell = parking::read(&arguments.file)?;
    let file = match &arguments.park {
        Some(file) => ParkFile::new(file)?,
        None => ParkFile::new(&arguments.file).context(
            "the script may have to be parked again, and --park FILE names another place for it",
        )?,
    };
    distinct(&[
        ("the parked script", Some(&arguments.file), false),
        ("--tools", common.tools.as_deref(), false),
        ("--store", common.store.as_deref(), true),
        ("--park-key", common.park_key.as_deref(), false),
    ])?;
    distinct(&[
        ("--tools", common.tools.as_deref(), false),
        ("--store", common.store.as_deref(), true),
        ("--park-key", common.park_key.as_deref(), false),
        ("--park", arguments.park.as_deref(), true),
    ])?;
    let (key_file, most) = (key.file().to_owned(), limits.result_bytes);
    let start = |tools: &ToolsFile, backend: &WasmBackend| {
        let info = backend.parked_info(&cell).map_err(|error| match error {
            CodeModeError::Park(ParkError::OverLimits(over)) => {
                anyhow!(over_limit("parked", &over))
            }
            CodeModeError::Park(ParkError::OtherKey) => {
                anyhow!(error).context(format!("the key in {} does not fit", key_file.display()))
            }
            error => error.into(),
        });
        let info = info.with_context(name)?;
        let calls = ends(&arguments.results, &arguments.errors, &info.calls, most)?;
        check_tools(common.tools.as_deref(), tools, &info.calls, &calls)?;
        let mut request = WakeRequest::new(cell.clone());
        request.calls = calls;
        request.enabled_tools = common.tools.as_ref().map(|_| tools.definitions().into());
        request.yield_time_ms = Some(POLL_MS);
        request.is_fork = arguments.fork;
        request.elapsed = info.elapsed;
        Ok(Start::Parked(request))
    };
    let park = Some(ParkTo { file, key });
    let (source, tsc, trace, record) = (String::new(), None, None, None);
    let plan = Plan { limits, source, tsc, park, trace, record, elsewhere: None };
    converse_until_the_end(common, plan, start)
}

/// Refuses to wake a script that waits for a tool that is not there: its call would be rejected.
fn check_tools(
    file: Option<&Path>,
    tools: &ToolsFile,
    waiting: &[ParkedCall],
    ends: &PendingCalls,
) -> Result<()> {
    let known = tools.by_name();
    let is_missing = |call: &&ParkedCall| {
        // Without a file the program may call what it was started with, and needs no tool for a
        // call that has an end.
        let has_end = ends.iter().any(|(id, _)| id == call.runtime_tool_call_id);
        !known.contains_key(&call.tool_name.name) && (file.is_some() || !has_end)
    };
    let missing: BTreeSet<_> =
        waiting.iter().filter(is_missing).map(|call| call.tool_name.name.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = Vec::from_iter(missing).join(", ");
    match file {
        None => bail!("the script waits for calls of {missing}, and --tools was not given"),
        Some(file) => bail!(
            "the script waits for calls of {missing}, and the tools file {} does not have that",
            file.display()
        ),
    }
}

/// The ends that were given, for the calls that the script waits for. A result in a file has at
/// most so many bytes.
fn ends(
    results: &[String],
    errors: &[String],
    waiting: &[ParkedCall],
    most: usize,
) -> Result<PendingCalls> {
    let known = |id: &str| waiting.iter().any(|call| call.runtime_tool_call_id == id);
    let mut given = BTreeMap::new();
    let mut in_order = Vec::new();
    for result in results {
        match result.split_once('=').filter(|(id, _)| id.starts_with("tool-")) {
            Some((id, json)) => {
                if given.insert(id, Ok(parsed(json, most)?)).is_some() {
                    bail!("{} has two ends", shown(id));
                }
            }
            None => in_order.push(parsed(result, most)?),
        }
    }
    for error in errors {
        let (id, text) = error
            .split_once('=')
            .with_context(|| format!("--error {} must have the form ID=TEXT", shown(error)))?;
        if given.insert(id, Err(text.to_owned())).is_some() {
            bail!("{} has two ends", shown(id));
        }
    }
    if let Some(unknown) = given.keys().find(|id| !known(id)) {
        let unknown = shown(unknown);
        bail!("the script does not wait for {unknown}; it waits for {}", list(waiting));
    }
    let named: BTreeSet<_> = given.keys().map(|id| (*id).to_owned()).collect();
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

/// A result: JSON, or what is in `@FILE`. No JSON begins with `@`.
fn parsed(given: &str, most: usize) -> Result<ToolResult> {
    let json = match given.strip_prefix('@') {
        None => given.to_owned(),
        Some(file) => input::file(Path::new(file), most)
            .with_context(|| format!("cannot read the result in {file}"))?,
    };
    ToolResult::from_json(json).map_err(|error| anyhow!("--result {}: {error}", shown(given)))
}

/// The start of an argument, for a message.
fn shown(argument: &str) -> String {
    let mut start: String = argument.chars().take(SHOWN).collect();
    if start.len() < argument.len() {
        start.push('…');
    }
    start
}

fn list(waiting: &[ParkedCall]) -> String {
    let line = |call: &ParkedCall| format!("{} {}", call.runtime_tool_call_id, call.tool_name);
    let mut lines: Vec<_> = waiting.iter().take(LISTED).map(line).collect();
    if waiting.len() > LISTED {
        lines.push(format!("{} more", waiting.len() - LISTED));
    }
    if lines.is_empty() { "none".to_owned() } else { lines.join(", ") }
}
