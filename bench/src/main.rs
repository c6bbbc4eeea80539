//! Benchmarks: what a cell costs, and what its neighbours notice. All in one run, on
//! one machine; see docs/performance.md for a run and what it means.
//!
//! `cargo run --release -p cellblock-bench -- [--json] [--only NAME | --against PATH]`

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

mod against;
mod figures;
mod host;
mod intl;
mod measure;
mod workloads;

use anyhow::{Result, bail};
use clap::Parser;
use figures::Figures;
use std::path::PathBuf;

#[derive(Parser)]
struct Arguments {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Measure one thing only: cold, typescript, calls, throughput, parked, neighbours,
    /// workloads, intl, start.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Measure this code-mode host, started with `--listen stdio`, and ours instead.
    #[arg(long, value_name = "PATH", conflicts_with = "only")]
    against: Option<PathBuf>,
}

/// Something to measure.
type Measurement = fn(&mut Figures) -> Result<()>;

const MEASUREMENTS: [(&str, Measurement); 9] = [
    ("start", measure::start),
    ("cold", measure::cold),
    ("typescript", measure::typescript),
    ("calls", measure::calls),
    ("throughput", measure::throughput),
    ("workloads", workloads::workloads),
    ("intl", intl::intl),
    ("neighbours", measure::neighbours),
    ("parked", measure::parked),
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut figures = Figures::default();
    if let Some(theirs) = &arguments.against {
        let ours = std::env::current_exe()?.with_file_name("cellblock");
        against::against(&mut figures, &ours, theirs)?;
        println!("{}", if arguments.json { figures.json() } else { figures.table() });
        return Ok(());
    }
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only == name);
    let chosen: Vec<_> = MEASUREMENTS.iter().filter(|(name, _)| wanted(name)).collect();
    if chosen.is_empty() {
        let names = MEASUREMENTS.map(|(name, _)| name).join(", ");
        bail!("--only takes one of: {names}");
    }
    for (_, measure) in chosen {
        measure(&mut figures)?;
    }
    println!("{}", if arguments.json { figures.json() } else { figures.table() });
    Ok(())
}
