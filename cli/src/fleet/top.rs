//! `cellblock top`: the workers of a fleet.

use super::NatsArguments;
use crate::Exit;
use anyhow::{Context, Result};
use cellblock_remote::server::{WorkerReport, survey};
use clap::Args;
use std::fmt::Write;
use std::io::Write as _;
use std::time::Duration;

/// Arguments of `cellblock top`.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    nats: NatsArguments,
    /// How long workers may take to answer.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Print one JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

/// Prints what the workers say of themselves.
pub fn main(arguments: &Arguments) -> Exit {
    run(arguments).unwrap_or_else(|error| {
        crate::complain(&format!("{error:#}"));
        Exit::Failed
    })
}

fn run(arguments: &Arguments) -> Result<Exit> {
    let address = arguments.nats.required()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the event loop")?;
    let workers = runtime.block_on(survey(&address, arguments.patience))?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&workers)? + "\n"
    } else {
        table(&workers)
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")?;
    Ok(Exit::Completed)
}

/// A line for each worker, and one for each of its tenants.
fn table(workers: &[WorkerReport]) -> String {
    let mut table = String::new();
    // Writing to a string cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(table, "{text}");
    };
    line(format_args!(
        "{:32}  {:>11}  {:>9}  {:>8}  {:>6}  {:8}  CLASSES",
        "WORKER", "CELLS", "STARTED", "REFUSED", "LOST", "VERSION"
    ));
    for worker in workers {
        let cells = format!("{}/{}", worker.cells, worker.max_cells);
        let draining = if worker.draining { " (draining)" } else { "" };
        line(format_args!(
            "{:32}  {cells:>11}  {:>9}  {:>8}  {:>6}  {:8}  {}{draining}",
            worker.worker,
            worker.started,
            worker.refused,
            worker.lost,
            worker.version,
            worker.classes.join(" "),
        ));
        for (tenant, cells) in &worker.tenants {
            let tenant = if tenant.is_empty() { "(the fleet's account)" } else { tenant };
            line(format_args!("  {tenant:30}  {cells:>11}"));
        }
    }
    let (cells, most) = workers
        .iter()
        .fold((0, 0), |(cells, most), worker| (cells + worker.cells, most + worker.max_cells));
    line(format_args!("{} workers, {cells} cells of {most}", workers.len()));
    table
}
