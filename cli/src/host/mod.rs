//! `cellblock host`: serves code-mode sessions to a client in another process.
//!
//! `listen` is where clients come from, `framed` and `grpc` what they speak, and
//! `session` what they have opened.

mod framed;
mod grpc;
mod listen;
mod session;

use crate::Exit;
use crate::limits::LimitArguments;
use anyhow::{Context, Result};
use cellblock::{Engine, EngineConfig, SessionLimits};
use clap::Args;
use listen::Listen;
use session::Host;
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `cellblock host`.
#[derive(Args)]
pub struct Arguments {
    /// Where clients come from: `stdio`, `grpc+stdio://`, `unix://PATH`, `grpc+unix://PATH`,
    /// `grpc://IP:PORT` or `ws://IP:PORT`.
    #[arg(long, value_name = "URL", default_value = "stdio")]
    listen: Listen,
    /// Cells that may be active at one time, in all sessions.
    #[arg(long, value_name = "N", default_value_t = session::CELLS)]
    max_cells: usize,
    /// The least time that `wait` waits for a cell with nothing new to say, whatever the
    /// client asks for; at most 55s.
    #[arg(long, value_name = "TIME", value_parser = min_wait)]
    min_wait: Option<Duration>,
    #[command(flatten)]
    limits: LimitArguments,
}

/// The longest `--min-wait`: Codex gives up a connection when an answer comes a minute later
/// than it asked for.
const LONGEST_MIN_WAIT: Duration = Duration::from_secs(55);

fn min_wait(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time <= LONGEST_MIN_WAIT {
        return Ok(time);
    }
    Err("at most 55s: clients such as Codex give up a connection when an answer is a minute late"
        .to_owned())
}

/// Serves until there is no client to come, or a signal.
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
        max_yield_time_ms: None,
        cell: arguments.limits.cell()?,
    };
    let mut config = EngineConfig::default();
    config.max_cells = u32::try_from(arguments.max_cells).unwrap_or(u32::MAX);
    let engine = Engine::new(&config).context("no sandbox on this machine")?;
    let host = Arc::new(Host::new(engine, limits, arguments.max_cells, arguments.min_wait));
    let runtime = tokio::runtime::Runtime::new().context("cannot start the event loop")?;
    let exit = runtime.block_on(async {
        tokio::select! {
            served = listen::serve(arguments.listen, host) => served.map(|()| Exit::Completed),
            signal = interrupted() => signal.map(|()| Exit::Interrupted),
        }
    });
    // A read of standard input cannot be called off; it must not keep the process.
    runtime.shutdown_background();
    exit
}

/// Returns when the process is asked to end.
async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupt = tokio::signal::ctrl_c() => interrupt.context("cannot listen for Ctrl-C"),
    }
}
