//! `cellblock run`: one script, its tools, its output.

mod command_tool;
mod guard;
mod host;
pub mod input;
mod media;
mod printer;
mod report;
mod signals;
mod stored;
mod tools_file;
mod trace;

pub use guard::{Arguments as GuardArguments, GUARD, main as guard};
pub use signals::Signals;

use crate::Exit;
use crate::check::CompilerArguments;
use crate::limits::LimitArguments;
use anyhow::{Context, Result};
use cellblock::model::{ArgumentChecks, ToolCatalog};
use cellblock::type_check::{TypeChecker, TypeReport};
use cellblock::{
    CellLimits, CellReport, CodeModeService, CodeModeTurnHost, Engine, EngineConfig,
    ExecuteRequest, Language, Locale, RegionalSettings, RuntimeResponse, SessionLimits,
    StoredValues, TimeZone, WaitRequest, WasmBackend,
};
use clap::Args;
use host::Host;
use media::Folder;
use printer::{Printed, Printer, Style};
use report::Report;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stored::StoreFile;
use tools_file::ToolsFile;
use trace::Trace;

/// How often new output is printed while the script runs.
const POLL_MS: u64 = 200;
/// Commands that run at one time when `--max-commands` does not say.
const COMMANDS: usize = 64;

/// How often the run looks whether the script waits for what cannot come.
const STUCK_POLL: Duration = Duration::from_millis(10);

/// Arguments of `cellblock run`.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct Arguments {
    /// The script; `-` reads it from standard input.
    script: PathBuf,
    /// Tools that the script may call: a JSON file, see docs/cli.md.
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArguments,
    /// Commands of tools that run at one time; further calls wait.
    #[arg(long, value_name = "N", default_value_t = COMMANDS, value_parser = at_least_one)]
    max_commands: usize,
    /// Stored values: read before, written after. A JSON object; made when missing.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Where images and audio are written.
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    /// Write a page of what the script did: its calls, where it waited, what it cost. One HTML
    /// file.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print one JSON object instead of the output; see docs/cli.md.
    #[arg(long)]
    json: bool,
    /// Print the value of the script as JSON: that of its last expression statement, or of
    /// a `return` at its top.
    #[arg(long)]
    result: bool,
    /// The locale where the script names none, such as `de-CH`; en-US when absent.
    #[arg(long, value_name = "TAG")]
    locale: Option<Locale>,
    /// The time zone of the script's clock, such as `Europe/Zurich`; UTC when absent.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<TimeZone>,
    /// What the script is written in: `js`, `ts`, or `auto`, TypeScript where it is not
    /// valid JavaScript. Without it, the ending of the file's name says.
    #[arg(long, value_name = "LANGUAGE", value_parser = parse_language)]
    language: Option<Language>,
    /// Check the arguments of nested calls against the tools' input schemas.
    #[arg(long = "check-arguments")]
    checks_inputs: bool,
    /// Check types before the script runs, with the TypeScript compiler: a script that is
    /// proved wrong does not run, and one that fails is told what else was noted.
    #[arg(long = "check-types")]
    checks_types: bool,
    #[command(flatten)]
    compiler: CompilerArguments,
    /// Print control characters to a terminal as they are.
    #[arg(long)]
    raw: bool,
    /// Print fuel, memory, calls and time to standard error.
    #[arg(long)]
    stats: bool,
}

/// Reads the name of a language.
pub fn parse_language(text: &str) -> Result<Language, String> {
    match text {
        "auto" => Ok(Language::Auto),
        "js" => Ok(Language::Js),
        "ts" => Ok(Language::Ts),
        _ => Err("it must be auto, js or ts".to_owned()),
    }
}

impl Arguments {
    /// What the script is written in.
    fn language(&self) -> Language {
        self.language.unwrap_or_else(|| language_of(&self.script))
    }
}

/// What a script of this name is written in.
pub fn language_of(script: &Path) -> Language {
    match script.extension().and_then(|ending| ending.to_str()) {
        Some("ts" | "mts") => Language::Ts,
        _ => Language::Auto,
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "it must be 1 or more".to_owned())
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
    let limits = arguments.limits.cell();
    // The script first, whatever else is wrong: its writer may not expect a closed pipe.
    let most =
        limits.as_ref().map_or(CellLimits::default().source_bytes, |limits| limits.source_bytes);
    let source = input::script(&arguments.script, most)?;
    let limits = limits?;
    let tools = arguments.tools.as_deref().map(ToolsFile::read).transpose()?.unwrap_or_default();
    let tsc = arguments.checks_types.then(|| arguments.compiler.find()).transpose()?;
    let values = StoredValues::new();
    let store =
        arguments.store.as_deref().map(|path| StoreFile::open(path, &values)).transpose()?;
    let folder = arguments.out_dir.clone().map(Folder::create).transpose()?;
    let trace = arguments.trace.as_deref();
    let trace =
        trace.map(|path| Trace::create(path, &arguments.script, &source, &limits)).transpose()?;
    let mut config = EngineConfig::default();
    config.max_cells = 1;
    let engine = Engine::new(&config).context("no sandbox on this machine")?;
    let mut signals = Signals::listen()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the event loop")?;
    let exit = runtime.block_on(async {
        let style = Style { raw: arguments.raw, status: !arguments.json };
        let (printer, printing) = printer::start(style);
        let report = Report::new(printer.clone(), source.clone(), folder, arguments);
        let commands = arguments.max_commands;
        let regional = RegionalSettings {
            locale: arguments.locale.clone(),
            time_zone: arguments.time_zone.clone(),
        };
        let (result, language) = (arguments.result, arguments.language());
        let checks_inputs = arguments.checks_inputs;
        let run = Run {
            limits,
            tools,
            values,
            store,
            commands,
            result,
            regional,
            language,
            checks_inputs,
            tsc,
            trace,
        };
        let deadline = arguments.limits.timeout().map(|timeout| Instant::now() + timeout);
        let ended = run.until_the_end(&engine, source, report, &printer, &mut signals).await;
        let exit = ended.unwrap_or_else(|error| {
            printer.error(format!("cellblock: {error:#}"));
            Exit::Usage
        });
        let impatient = async {
            match deadline {
                _ if exit.was_stopped() => {}
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            printed = printing.finish(impatient) => match printed {
                Printed::Incomplete if exit == Exit::Completed => Exit::Failed,
                _ => exit,
            },
            // A script that ended by itself is not ended again: only the printing is.
            signal = signals.received(), if !exit.is_signal() => signal,
        }
    });
    // A write that blocks must not keep the process.
    runtime.shutdown_background();
    Ok(exit)
}

/// What a script runs with.
struct Run {
    limits: CellLimits,
    tools: ToolsFile,
    values: StoredValues,
    store: Option<StoreFile>,
    /// Commands that run at one time.
    commands: usize,
    /// Whether the script's value is wanted.
    result: bool,
    /// The locale and the time zone of the script.
    regional: RegionalSettings,
    /// What the script is written in.
    language: Language,
    /// Whether arguments of nested calls are checked.
    checks_inputs: bool,
    /// The compiler, when types are checked.
    tsc: Option<PathBuf>,
    /// Where what the script did is shown.
    trace: Option<Trace>,
}

impl Run {
    /// Runs the script, reports its end, and writes what it stored.
    async fn until_the_end(
        self,
        engine: &Engine,
        source: String,
        mut report: Report,
        printer: &Printer,
        signals: &mut Signals,
    ) -> Result<Exit> {
        let session = SessionLimits { cell: self.limits, ..SessionLimits::default() };
        let backend = WasmBackend::with_limits(engine, session);
        let service = CodeModeService::with_stored_values(Arc::new(backend), self.values.clone());
        let host = Arc::new(Host::new(&self.tools, self.commands, printer.clone()));
        let mut served: Arc<dyn CodeModeTurnHost> = Arc::clone(&host) as _;
        if self.checks_inputs {
            served = ArgumentChecks::new(self.tools.definitions()).serve(served);
        }
        let worker = service.start_turn_worker(served);
        let request = ExecuteRequest {
            tool_call_id: "run".to_owned(),
            enabled_tools: self.tools.definitions().into(),
            source,
            yield_time_ms: Some(POLL_MS),
            // The value has no budget of its own here: what a report carries is printed.
            max_output_tokens: self.result.then_some(usize::MAX),
            wants_value: self.result,
            regional: self.regional,
            language: self.language,
            monitor: self.trace.as_ref().map(Trace::monitor).unwrap_or_default(),
        };
        let checker = self
            .tsc
            .as_deref()
            .map(|tsc| TypeChecker::new(tsc, &ToolCatalog::new(self.tools.definitions())));
        let check = async |request: &ExecuteRequest| {
            let Some(checker) = &checker else { return TypeReport::default() };
            let checked = checker.check(&request.source, request.language).await;
            checked.unwrap_or_else(|error| {
                printer.error(format!("cellblock: types were not checked: {error}"));
                TypeReport::default()
            })
        };
        let ended = converse(&service, request, check, &mut report, signals).await;
        drop(worker);
        service.shutdown().await;
        host.finish();
        let (response, signal) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                self.trace.map(|trace| trace.write(Err(&error))).transpose()?;
                return Err(error);
            }
        };
        let trace = self.trace.map(|trace| (trace, response.clone()));
        let exit = report.end(response, signal, &host.notifications());
        if let Some(store) = self.store {
            let values = self.values;
            let write = tokio::task::spawn_blocking(move || store.write(&values));
            tokio::select! {
                written = write => written??,
                asked = signals.received(), if signal.is_none() => {
                    printer.error("cellblock: the stored values were not written".to_owned());
                    return Ok(asked);
                }
            }
        }
        if let Some((trace, response)) = trace {
            let write = tokio::task::spawn_blocking(move || trace.write(Ok(&response)));
            tokio::select! {
                written = write => written??,
                asked = signals.received(), if signal.is_none() => {
                    printer.error("cellblock: the trace was not written".to_owned());
                    return Ok(asked);
                }
            }
        }
        Ok(exit)
    }
}

/// Runs the script to its end, printing as it goes, unless `check` proves its types wrong. A
/// signal ends it, and its exit code is returned too.
async fn converse(
    service: &CodeModeService,
    request: ExecuteRequest,
    check: impl AsyncFnOnce(&ExecuteRequest) -> TypeReport,
    report: &mut Report,
    signals: &mut Signals,
) -> Result<(RuntimeResponse, Option<Exit>)> {
    let cell_id = service.allocate_cell_id()?;
    let conversation = async {
        let types = check(&request).await;
        if let Some(refusal) = types.refusal() {
            return Ok(RuntimeResponse::Result {
                cell_id: cell_id.clone(),
                content_items: Vec::new(),
                error_text: Some(refusal),
                report: CellReport::default(),
            });
        }
        let mut response = service.execute_as(cell_id.clone(), request).await?;
        while let RuntimeResponse::Yielded { content_items, .. } = response {
            report.content(content_items);
            let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: POLL_MS };
            response = service.wait(wait).await?.into();
        }
        types.annotate(&mut response);
        anyhow::Ok(response)
    };
    tokio::select! {
        response = conversation => Ok((response?, None)),
        place = service.until_stuck(&cell_id, STUCK_POLL) => {
            let response = RuntimeResponse::from(service.terminate(cell_id.clone()).await?);
            Ok((response.unsettled(place), None))
        }
        signal = signals.received() => {
            Ok((service.terminate(cell_id.clone()).await?.into(), Some(signal)))
        }
    }
}
