//! `cellblock host`: serves code-mode sessions to a client in another process.

use crate::Exit;
use crate::access::AccessArguments;
use crate::limits::LimitArguments;
use crate::metrics::Metrics;
use crate::sandbox::SandboxArguments;
use crate::state::StateFolder;
use anyhow::{Context, Result, ensure};
use cellblock::model::PatientBackend;
use cellblock::{
    CellStore, CodeModeBackend, CodeModeError, EngineConfig, ParkKey, Parking, SessionLimits,
};
use cellblock_remote::protocol::MAX_PARKED_BYTES;
use cellblock_remote::server::{AskedLimits, Listen, Server, ServerLimits};
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `cellblock host`.
#[derive(Args)]
pub struct Arguments {
    /// Where clients come from: `stdio`, `grpc+stdio://`, `unix://PATH`, `grpc+unix://PATH`,
    /// `grpc://IP:PORT` or `ws://IP:PORT`; with TLS `grpcs://IP:PORT` or `wss://IP:PORT`.
    #[arg(long, value_name = "URL", default_value = "stdio")]
    listen: Listen,
    /// Cells that may be active at one time, in all sessions.
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().cells)]
    max_cells: usize,
    /// The least time that `wait` waits for a cell with nothing new to say, whatever the
    /// client asks for; at most 55s.
    #[arg(long, value_name = "TIME", value_parser = min_wait)]
    min_wait: Option<Duration>,
    /// Cells that may be active at one time in one session; half of all unless it is given.
    #[arg(long, value_name = "N")]
    max_cells_per_session: Option<usize>,
    /// Cells that may run at one time; those that wait sleep meanwhile, and those that are to
    /// run wait their turn. As `--max-cells`, but 1,024 at most, unless it is given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_running: Option<u32>,
    /// How long a cell that waits keeps its sandbox, such as `1s`, or `never`.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = sleeps_after)]
    sleeps_after: SleepsAfter,
    /// After SIGTERM, how long cells that run may take to end; no new ones are admitted.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    drain_timeout: Duration,
    /// Serve figures for Prometheus at /metrics, and /healthz and /readyz, on this port.
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
    /// The key that parked cells are authenticated and encrypted with; see docs/parking.md.
    /// Made when missing. Without it they are woken by this process alone.
    #[arg(long, value_name = "FILE")]
    park_key: Option<PathBuf>,
    /// Keep cells that sleep in this folder, so that they outlive the process; see
    /// docs/parking.md. Made when missing. They are sealed with --park-key, or with a key in it.
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// What the cells in --state may take together.
    #[arg(long, value_name = "SIZE", default_value = "16GiB", requires = "state")]
    state_bytes: bytesize::ByteSize,
    /// Refuse to wake a parked cell twice.
    #[arg(long)]
    forbid_forks: bool,
    #[command(flatten)]
    access: AccessArguments,
    #[command(flatten)]
    sandbox: SandboxArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

/// The longest `--min-wait`: Codex closes a connection when an answer comes a minute later
/// than it asked for.
const LONGEST_MIN_WAIT: Duration = Duration::from_secs(55);

/// Cells that run at one time, unless it is said.
pub const MOST_RUNNING: u32 = 1_024;

/// How long a cell that waits keeps its sandbox; `None` for ever.
#[derive(Clone, Copy)]
struct SleepsAfter(Option<Duration>);

fn sleeps_after(text: &str) -> Result<SleepsAfter, String> {
    if text == "never" {
        return Ok(SleepsAfter(None));
    }
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    Ok(SleepsAfter(Some(time)))
}

fn min_wait(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time <= LONGEST_MIN_WAIT {
        return Ok(time);
    }
    Err("at most 55s: clients such as Codex close a connection when an answer is a minute late"
        .to_owned())
}

/// Serves until no more clients can come, or until a signal.
pub fn main(arguments: Arguments) -> Exit {
    match run(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            crate::complain(&format!("{error:#}"));
            Exit::Failed
        }
    }
}

fn run(arguments: Arguments) -> Result<Exit> {
    let limits = SessionLimits {
        cells: arguments.max_cells,
        unread_results: arguments.max_cells,
        cell: arguments.limits.cell()?,
        ..SessionLimits::default()
    };
    let mut config = EngineConfig::default();
    let most = u32::try_from(arguments.max_cells).unwrap_or(u32::MAX).min(MOST_RUNNING);
    config.max_cells = arguments.max_running.unwrap_or(most);
    config.sleeps_after = arguments.sleeps_after.0;
    let sandbox = arguments.sandbox.open(&config)?;
    let min_wait = arguments.min_wait;
    let state = arguments.state.as_deref();
    ensure!(
        state.is_none() || sandbox.is_here(),
        "--state keeps cells of this process: it cannot be used with --nats"
    );
    let key = match arguments.park_key {
        None => state.map(StateFolder::key).transpose()?,
        key => key,
    };
    let open = |folder| StateFolder::open(folder, arguments.state_bytes.as_u64());
    let store = state.map(open).transpose()?;
    let store = store.map(Arc::new);
    let cell_store = store.clone().map(|folder| folder as Arc<dyn CellStore>);
    let parking = parking(key.as_deref(), arguments.forbid_forks)?;
    let open = move |asked| {
        let backend: Arc<dyn CodeModeBackend> =
            sandbox.session(narrowed(&limits, asked)?, Some(&parking), cell_store.as_ref());
        Ok(match min_wait {
            Some(floor) => Arc::new(PatientBackend::new(backend, floor)),
            None => backend,
        })
    };
    let cells = arguments.max_cells;
    let cells_per_session = arguments.max_cells_per_session.unwrap_or(cells.div_ceil(2));
    let server = Server::new(open, ServerLimits { cells, cells_per_session });
    let listen = arguments.listen;
    let access = arguments.access.access(&listen)?;
    let metrics = arguments.metrics.map(|address| {
        arguments.access.check_metrics(address).and_then(|()| Metrics::install(address))
    });
    let metrics = metrics.transpose()?;
    let server = Arc::new(server.with_access(access.clone()));
    let runtime = tokio::runtime::Runtime::new().context("cannot start the event loop")?;
    let exit = runtime.block_on(async {
        tokio::select! {
            served = server.serve(&listen) => served.map(|()| Exit::Completed).map_err(Into::into),
            failed = serve_metrics(metrics, &server) => failed.map(|()| Exit::Failed),
            failed = arguments.access.follow_tokens(&access) => failed.map(|()| Exit::Failed),
            drained = drain(&server, store.as_deref(), arguments.drain_timeout) => drained.map(|()| Exit::Interrupted),
        }
    });
    // A read of standard input cannot be called off; it must not keep the process.
    runtime.shutdown_background();
    exit
}

/// How the cells of all sessions are parked: with this key, or the process's own.
fn parking(key: Option<&Path>, forbids_forks: bool) -> Result<Parking> {
    let parking = match key {
        Some(key) => Parking::new(&ParkKey::encrypting(crate::park_key::secret(key)?)),
        None => Parking::default(),
    };
    let parking = if forbids_forks { parking.forbidding_forks() } else { parking };
    Ok(parking.limited_to(MAX_PARKED_BYTES))
}

/// Serves figures, if they are wanted. Returns only when they cannot be served.
async fn serve_metrics(metrics: Option<Metrics>, server: &Arc<Server>) -> Result<()> {
    match metrics {
        Some(metrics) => metrics.serve(Arc::clone(server)).await,
        None => std::future::pending().await,
    }
}

/// Returns when the process is to end. Cells in a folder are left there.
async fn drain(server: &Server, store: Option<&StateFolder>, patience: Duration) -> Result<()> {
    until_drained(async {
        let is_drained = match store {
            None => server.drain(patience).await,
            Some(store) => {
                // None is to wake while the others end: it would be lost with this process.
                store.leave();
                server.drain_to_kept(patience).await
            }
        };
        if !is_drained {
            crate::complain(
                "when the time to drain was over, cells had not ended, or what they answered was not read",
            );
        }
    })
    .await
}

/// Returns when the process is to end: at Ctrl-C or a second signal at once, and after SIGTERM
/// when its cells have ended, or their time is over.
pub async fn until_drained(draining: impl Future<Output = ()>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let terminated = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => false,
    };
    if terminated {
        tokio::select! {
            () = draining => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    Ok(())
}

/// The host's limits, or narrower ones that a client asked for.
pub fn narrowed(own: &SessionLimits, asked: AskedLimits) -> Result<SessionLimits, CodeModeError> {
    let AskedLimits { execution: asked, cell } = asked;
    let mut limits = own.clone();
    if let Some(cell) = cell {
        limits.cell = limits.cell.narrowed_by(&cell);
    }
    if let Some(max) = asked.max_yield_time_ms {
        limits.max_yield_time_ms = Some(limits.max_yield_time_ms.map_or(max, |own| own.min(max)));
    }
    if let Some(bytes) = asked.max_heap_size_bytes {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        limits.cell.memory_bytes = limits.cell.memory_bytes.min(bytes);
    }
    limits.cell.check()?;
    Ok(limits)
}
