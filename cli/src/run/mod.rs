//! `cellblock run`: one script, its tools, its output.

mod command_tool;
mod conversation;
mod guard;
mod host;
pub mod input;
mod media;
mod output_file;
mod parking;
mod printer;
mod record;
mod report;
mod signals;
mod stored;
mod tools_file;
mod trace;
mod wake;

pub use guard::{Arguments as GuardArguments, GUARD, main as guard};
pub use signals::Signals;
pub use wake::{Arguments as WakeArguments, main as wake};

use crate::Exit;
use crate::check::CompilerArguments;
use crate::limits::LimitArguments;
use crate::sandbox::SandboxArguments;
use anyhow::{Context, Result, ensure};
use cellblock::model::{ArgumentChecks, ToolCatalog};
use cellblock::type_check::TypeChecker;
use cellblock::{
    CellLimits, CodeModeBackend, CodeModeService, CodeModeTurnHost, Engine, EngineConfig,
    ExecuteRequest, Language, Locale, ParkedCell, ParkedInfo, RegionalSettings, RuntimeResponse,
    SessionLimits, StoredValues, TimeZone, WakeRequest, WasmBackend,
};
use clap::Args;
use conversation::Conversation;
use host::Host;
use media::Folder;
use output_file::distinct;
use parking::{Key, ParkFile};
use printer::{Printed, Printer, Style};
use record::RecordFile;
use report::Report;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use stored::StoreFile;
use tools_file::ToolsFile;
use trace::{Trace, TraceEnd};

/// How often new output is printed while the script runs.
const POLL_MS: u64 = 200;
/// Commands that run at one time when `--max-commands` does not say.
const COMMANDS: usize = 64;

/// Arguments of `cellblock run`.
#[derive(Args)]
pub struct Arguments {
    /// The script; `-` reads it from standard input.
    script: PathBuf,
    /// Where the script is parked when it waits for nothing but calls of deferred tools.
    #[arg(long, value_name = "FILE")]
    park: Option<PathBuf>,
    /// Write a page of what the script did: its calls, where it waited, what it cost. One HTML
    /// file.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write what came to the script from outside, for `cellblock replay`.
    #[arg(long, value_name = "FILE", conflicts_with = "park")]
    record: Option<PathBuf>,
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
    /// Check types before the script runs, with the TypeScript compiler: a script that is
    /// proved wrong does not run, and one that fails is told what else was noted.
    #[arg(long = "check-types")]
    checks_types: bool,
    #[command(flatten)]
    compiler: CompilerArguments,
    #[command(flatten)]
    sandbox: SandboxArguments,
    #[command(flatten)]
    common: Common,
}

/// What `cellblock run` and `cellblock wake` have in common.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
struct Common {
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
    /// Print one JSON object instead of the output; see docs/cli.md.
    #[arg(long)]
    json: bool,
    /// Check the arguments of nested calls against the tools' input schemas.
    #[arg(long = "check-arguments")]
    checks_inputs: bool,
    /// Print control characters to a terminal as they are.
    #[arg(long)]
    raw: bool,
    /// Print fuel, memory, calls and time to standard error.
    #[arg(long)]
    stats: bool,
    /// The key that parked scripts are encrypted with; see docs/parking.md. Made when missing.
    #[arg(long, value_name = "FILE")]
    park_key: Option<PathBuf>,
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
    crate::exit_of(run(arguments))
}

fn run(arguments: &Arguments) -> Result<Exit> {
    let common = &arguments.common;
    let limits = common.limits.cell();
    // The script first, whatever else is wrong: its writer may not expect a closed pipe.
    let most =
        limits.as_ref().map_or(CellLimits::default().source_bytes, |limits| limits.source_bytes);
    let source = input::script(&arguments.script, most)?;
    let limits = limits?;
    let session = SessionLimits { cell: limits.clone(), ..SessionLimits::default() };
    let elsewhere = arguments.sandbox.elsewhere(session)?;
    ensure!(
        elsewhere.is_none()
            || arguments.park.is_none() && arguments.trace.is_none() && arguments.record.is_none(),
        "--park, --trace and --record are for scripts in this process: they cannot be used with --nats"
    );
    let park = match &arguments.park {
        Some(file) => {
            let file = ParkFile::new(file)?;
            Some(ParkTo { file, key: Key::made(common.park_key.as_deref())? })
        }
        None => None,
    };
    let tsc = arguments.checks_types.then(|| arguments.compiler.find()).transpose()?;
    let trace = arguments.trace.as_deref();
    let trace =
        trace.map(|path| Trace::open(path, &arguments.script, &source, &limits)).transpose()?;
    let record = arguments.record.as_deref().map(RecordFile::open).transpose()?;
    distinct(&[
        ("the script", Some(arguments.script.as_path()).filter(|path| *path != "-"), false),
        ("--tools", common.tools.as_deref(), false),
        ("--store", common.store.as_deref(), true),
        ("--park-key", common.park_key.as_deref(), false),
        ("--park", arguments.park.as_deref(), true),
        ("--trace", arguments.trace.as_deref(), true),
        ("--record", arguments.record.as_deref(), true),
    ])?;
    let monitor = trace.as_ref().map(Trace::monitor).unwrap_or_default();
    let plan = Plan { limits, source: source.clone(), tsc, park, trace, record, elsewhere };
    let (result, language) = (arguments.result, arguments.language());
    let regional = RegionalSettings {
        locale: arguments.locale.clone(),
        time_zone: arguments.time_zone.clone(),
    };
    let start = move |tools: &ToolsFile, _: &WasmBackend| {
        Ok(Start::Script(ExecuteRequest {
            tool_call_id: "run".to_owned(),
            enabled_tools: tools.definitions().into(),
            source,
            yield_time_ms: Some(POLL_MS),
            // The value has no budget of its own here: what a report carries is printed.
            max_output_tokens: result.then_some(usize::MAX),
            wants_value: result,
            regional,
            language,
            monitor,
        }))
    };
    converse_until_the_end(common, plan, start)
}

/// How a script is run.
struct Plan {
    limits: CellLimits,
    /// The script, for the line that an error points at.
    source: String,
    /// The compiler, when types are checked.
    tsc: Option<PathBuf>,
    /// Where it is parked, if it may be.
    park: Option<ParkTo>,
    /// Where what the script did is shown.
    trace: Option<Trace>,
    /// Where what came to the script is recorded.
    record: Option<RecordFile>,
    /// Where it runs, if not in this process.
    elsewhere: Option<Arc<dyn CodeModeBackend>>,
}

/// Where a script is parked, and with which key.
struct ParkTo {
    file: ParkFile,
    key: Key,
}

/// Writes something when the script has ended.
type Write = Box<dyn FnOnce() -> Result<()> + Send>;

/// How a script begins: as a program, or where it was parked.
enum Start {
    Script(ExecuteRequest),
    Parked(WakeRequest),
}

/// Runs what `start` makes of the tools to its end, or until it is parked, and prints what it
/// says.
fn converse_until_the_end(
    common: &Common,
    plan: Plan,
    start: impl FnOnce(&ToolsFile, &WasmBackend) -> Result<Start>,
) -> Result<Exit> {
    let tools = common.tools.as_deref().map(ToolsFile::read).transpose()?.unwrap_or_default();
    let values = StoredValues::new();
    let store = common.store.as_deref().map(|path| StoreFile::open(path, &values)).transpose()?;
    let folder = common.out_dir.clone().map(Folder::create).transpose()?;
    let mut config = EngineConfig::default();
    config.max_cells = 1;
    let engine = Engine::new(&config).context("no sandbox on this machine")?;
    let mut signals = Signals::listen()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the event loop")?;
    let exit = runtime.block_on(async {
        let style = Style { raw: common.raw, status: !common.json };
        let (printer, printing) = printer::start(style);
        let source = plan.source.clone();
        let mut report = Report::new(printer.clone(), source, folder, (common.json, common.stats));
        let (commands, checks_inputs) = (common.max_commands, common.checks_inputs);
        let run = Run { plan, tools, values, store, commands, checks_inputs };
        let deadline = common.limits.timeout().map(|timeout| Instant::now() + timeout);
        let ended = run.until_the_end(&engine, start, &mut report, &printer, &mut signals).await;
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
    plan: Plan,
    tools: ToolsFile,
    values: StoredValues,
    store: Option<StoreFile>,
    /// Commands that run at one time.
    commands: usize,
    /// Whether arguments of nested calls are checked.
    checks_inputs: bool,
}

/// How the conversation with a script ended.
enum Ended {
    /// With a last response, and the exit code of the signal that brought it about.
    Response(RuntimeResponse, Option<Exit>),
    /// The script was parked, and waits for this.
    Parked(ParkedCell, ParkedInfo),
}

impl Run {
    /// Runs the script, reports its end, and writes what it stored.
    async fn until_the_end(
        self,
        engine: &Engine,
        start: impl FnOnce(&ToolsFile, &WasmBackend) -> Result<Start>,
        report: &mut Report,
        printer: &Printer,
        signals: &mut Signals,
    ) -> Result<Exit> {
        let Plan { limits, tsc, park, trace, record, elsewhere, .. } = self.plan;
        let session = SessionLimits { cell: limits, ..SessionLimits::default() };
        let backend = Arc::new(WasmBackend::with_limits(engine, session));
        if let Some(park) = &park {
            backend.set_parking(park.key.parking());
        }
        backend.set_recordings(record.as_ref().map(RecordFile::recordings));
        let start = start(&self.tools, &backend)?;
        // From here on the script may run.
        trace.as_ref().map(Trace::clear).transpose()?;
        record.as_ref().map(RecordFile::clear).transpose()?;
        let used = elsewhere.unwrap_or_else(|| Arc::clone(&backend) as _);
        let service = CodeModeService::with_stored_values(used, self.values.clone());
        let parks = park.is_some();
        let host = Arc::new(Host::new(&self.tools, self.commands, parks, printer.clone()));
        let mut served: Arc<dyn CodeModeTurnHost> = Arc::clone(&host) as _;
        if self.checks_inputs {
            served = ArgumentChecks::new(self.tools.definitions()).serve(served);
        }
        let worker = service.start_turn_worker(served);
        let checker = tsc
            .as_deref()
            .map(|tsc| TypeChecker::new(tsc, &ToolCatalog::new(self.tools.definitions())));
        let conversation = Conversation {
            service: &service,
            backend: &backend,
            host: &host,
            checker: checker.as_ref(),
            printer,
        };
        let ended = conversation.run(start, parks, report, signals).await;
        drop(worker);
        service.shutdown().await;
        host.finish();
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                trace.map(|trace| trace.write(TraceEnd::Failed(&error))).transpose()?;
                return Err(error);
            }
        };
        let (response, signal) = match (ended, park) {
            (Ended::Response(response, signal), _) => (response, signal),
            (Ended::Parked(cell, info), Some(ParkTo { file, .. })) => {
                let written = file.write(&cell);
                let exit = report.parked(file.name(), &info, &host.notifications(), written);
                trace.map(|trace| trace.write(TraceEnd::Parked)).transpose()?;
                return Ok(exit);
            }
            // It is parked only where there is a file for it.
            (Ended::Parked(..), None) => return Ok(Exit::Failed),
        };
        let trace = trace.map(|trace| (trace, response.clone()));
        let mut exit = report.end(response, signal, &host.notifications());
        let (values, said) = (self.values, printer.clone());
        let store = self.store.map(|store| move || store.write(&values));
        let record = record.map(|record| {
            move || {
                if !record.write()? {
                    let what = "the script did not start, so nothing is recorded";
                    said.error(format!("cellblock: {what}"));
                }
                Ok(())
            }
        });
        let trace = trace.map(|(trace, end)| move || trace.write(TraceEnd::Response(&end)));
        // Each of them whether or not another can be written.
        let writes: [(&str, Option<Write>); 3] = [
            ("the stored values were", store.map(|write| Box::new(write) as Write)),
            ("the recording was", record.map(|write| Box::new(write) as Write)),
            ("the trace was", trace.map(|write| Box::new(write) as Write)),
        ];
        for (what, write) in writes {
            let Some(write) = write else { continue };
            tokio::select! {
                written = tokio::task::spawn_blocking(write) => {
                    if let Err(error) = written? {
                        printer.error(format!("cellblock: {error:#}"));
                        exit = signal.unwrap_or(Exit::Usage);
                    }
                }
                asked = signals.received(), if signal.is_none() => {
                    printer.error(format!("cellblock: {what} not written"));
                    return Ok(asked);
                }
            }
        }
        Ok(exit)
    }
}
