//! `cellblock run`: one script, its tools, its output.

mod command_tool;
mod host;
mod media;
mod report;
mod stored;
mod tools_file;

use crate::Exit;
use anyhow::{Context, Result, bail};
use cellblock::{
    CellLimits, CodeModeService, Engine, ExecuteRequest, RuntimeResponse, SessionLimits,
    WaitRequest, WasmBackend,
};
use clap::Args;
use host::Host;
use report::Report;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stored::StoreFile;
use tools_file::ToolsFile;

/// How often new output is printed while the script runs.
const POLL_MS: u64 = 200;

/// Arguments of `cellblock run`.
#[derive(Args)]
pub struct Arguments {
    /// The script; `-` reads it from standard input.
    script: PathBuf,
    /// Tools that the script may call: a JSON file, see docs/cli.md.
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// Fuel, about one unit for each WebAssembly instruction.
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
    /// Memory for JavaScript, such as 64MiB.
    #[arg(long, value_name = "SIZE")]
    memory: Option<bytesize::ByteSize>,
    /// Time until the script is stopped, waiting for tools included, such as 30s.
    #[arg(long, value_name = "TIME")]
    timeout: Option<humantime::Duration>,
    /// Any other limit, such as `calls=100`; may be given more than once.
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    limits: Vec<String>,
    /// Stored values: read before, written after. A JSON object; made when missing.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Where images and audio are written.
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    /// Print one JSON object instead of the output; see docs/cli.md.
    #[arg(long)]
    json: bool,
    /// Print fuel, memory, calls and time to standard error.
    #[arg(long)]
    stats: bool,
}

/// Runs the script and says how it went.
pub fn main(arguments: &Arguments) -> Exit {
    match run(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            report::complain(&format!("{error:#}"));
            Exit::Usage
        }
    }
}

fn run(arguments: &Arguments) -> Result<Exit> {
    let source = read_script(arguments)?;
    let tools = arguments.tools.as_deref().map(ToolsFile::read).transpose()?.unwrap_or_default();
    let store = arguments.store.clone().map(StoreFile::open).transpose()?;
    let limits = limits(arguments)?;
    if let Some(dir) = &arguments.out_dir {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot create --out-dir {}", dir.display()))?;
    }
    let mut report = Report::new(&source, arguments);
    let engine = Engine::shared().context("no sandbox on this machine")?;
    tokio::runtime::Runtime::new().context("cannot start the event loop")?.block_on(async {
        let session = SessionLimits { cell: limits, ..SessionLimits::default() };
        let backend = WasmBackend::with_limits(&engine, session);
        let service = CodeModeService::new(Arc::new(backend));
        if let Some(store) = &store {
            service.replace_stored_values(store.values().clone());
        }
        let exit = converse(&service, source.clone(), tools, &mut report).await?;
        if let Some(store) = store {
            store.write(&service.stored_values())?;
        }
        service.shutdown().await;
        Ok(exit)
    })
}

/// Runs the script to its end, printing as it goes; Ctrl-C ends it.
async fn converse(
    service: &CodeModeService,
    source: String,
    tools: ToolsFile,
    report: &mut Report<'_>,
) -> Result<Exit> {
    let host = Arc::new(Host::new(&tools, report.wants_status()));
    let worker = service.start_turn_worker(Arc::clone(&host) as _);
    let request = ExecuteRequest {
        tool_call_id: "run".to_owned(),
        enabled_tools: tools.definitions().into(),
        source,
        yield_time_ms: Some(POLL_MS),
        max_output_tokens: None,
    };
    let cell_id = service.allocate_cell_id()?;
    let conversation = async {
        let mut response = service.execute_as(cell_id.clone(), request).await?;
        while let RuntimeResponse::Yielded { content_items, .. } = response {
            host.above_status(|| report.content(content_items))?;
            let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: POLL_MS };
            response = service.wait(wait).await?.into();
        }
        anyhow::Ok(response)
    };
    let (response, interrupted) = tokio::select! {
        response = conversation => (response?, false),
        signal = tokio::signal::ctrl_c() => {
            signal.context("cannot listen for Ctrl-C")?;
            (service.terminate(cell_id.clone()).await?.into(), true)
        }
    };
    host.finish();
    drop(worker);
    let exit = report.end(response, &host.notifications())?;
    Ok(if interrupted { Exit::Interrupted } else { exit })
}

fn read_script(arguments: &Arguments) -> Result<String> {
    let path = &arguments.script;
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
        bytes
    } else {
        std::fs::read(path).with_context(|| format!("cannot read the script {}", path.display()))?
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!(
            "the script {} is not UTF-8: byte {} is where it stops being text",
            path.display(),
            at + 1
        )
    })
}

fn limits(arguments: &Arguments) -> Result<CellLimits> {
    let mut limits = CellLimits::default();
    if let Some(fuel) = arguments.fuel {
        limits.fuel = fuel;
        limits.step_fuel = fuel;
    }
    if let Some(memory) = arguments.memory {
        limits.memory_bytes = usize::try_from(memory.as_u64()).unwrap_or(usize::MAX);
    }
    if let Some(timeout) = arguments.timeout {
        let timeout: Duration = timeout.into();
        if timeout > limits.total_time {
            bail!("--timeout must be at most {} s", limits.total_time.as_secs());
        }
        limits.total_time = timeout;
        limits.running_time = timeout;
    }
    for limit in &arguments.limits {
        set_limit(&mut limits, limit)?;
    }
    if let Err(why) = limits.check() {
        bail!("{why}");
    }
    Ok(limits)
}

/// Sets a limit given as `NAME=VALUE`: sizes as in `--memory`, times as in `--timeout`.
fn set_limit(limits: &mut CellLimits, limit: &str) -> Result<()> {
    let (name, value) = limit
        .split_once('=')
        .with_context(|| format!("--limit {limit} must have the form NAME=VALUE"))?;
    let size = || -> Result<usize> {
        let size: bytesize::ByteSize = value
            .parse()
            .map_err(|_| anyhow::anyhow!("--limit {name}: {value} is no number or size"))?;
        Ok(usize::try_from(size.as_u64()).unwrap_or(usize::MAX))
    };
    let time = || -> Result<Duration> {
        let time: humantime::Duration =
            value.parse().with_context(|| format!("--limit {name}: {value} is no time"))?;
        Ok(time.into())
    };
    match name {
        "fuel" => limits.fuel = size()? as u64,
        "step_fuel" => limits.step_fuel = size()? as u64,
        "running_time" => limits.running_time = time()?,
        "total_time" => limits.total_time = time()?,
        "memory_bytes" => limits.memory_bytes = size()?,
        "stack_bytes" => limits.stack_bytes = size()?,
        "output_bytes" => limits.output_bytes = size()?,
        "output_items" => limits.output_items = size()?,
        "calls" => limits.calls = size()? as u64,
        "calls_in_flight" => limits.calls_in_flight = size()?,
        "input_bytes" => limits.input_bytes = size()?,
        "result_bytes" => limits.result_bytes = size()?,
        "timers" => limits.timers = size()?,
        "stored_bytes" => limits.stored_bytes = size()?,
        "stored_keys" => limits.stored_keys = size()?,
        "source_bytes" => limits.source_bytes = size()?,
        "cancel_grace" => limits.cancel_grace = time()?,
        _ => bail!("--limit {name}: there is no such limit; docs/cli.md lists them"),
    }
    Ok(())
}
