//! `cellblock run`: one script, its tools, its output.

mod command_tool;
mod host;
mod media;
mod report;
mod stored;
mod tools_file;

use crate::Exit;
use crate::limits::LimitArguments;
use anyhow::{Context, Result};
use cellblock::{
    CodeModeService, Engine, EngineConfig, ExecuteRequest, RuntimeResponse, SessionLimits,
    WaitRequest, WasmBackend,
};
use clap::Args;
use host::Host;
use report::Report;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
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
    #[command(flatten)]
    limits: LimitArguments,
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
            crate::complain(&format!("{error:#}"));
            Exit::Usage
        }
    }
}

fn run(arguments: &Arguments) -> Result<Exit> {
    let source = read_script(arguments)?;
    let tools = arguments.tools.as_deref().map(ToolsFile::read).transpose()?.unwrap_or_default();
    let store = arguments.store.clone().map(StoreFile::open).transpose()?;
    let limits = arguments.limits.cell()?;
    if let Some(dir) = &arguments.out_dir {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot create --out-dir {}", dir.display()))?;
    }
    let mut report = Report::new(&source, arguments);
    let mut config = EngineConfig::default();
    config.max_cells = 1;
    let engine = Engine::new(&config).context("no sandbox on this machine")?;
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
