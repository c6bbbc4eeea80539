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
mod memory;
mod waiting;
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
    /// Measure one thing only: cold, typescript, calls, throughput, neighbours, workloads,
    /// json, intl, start, awake, asleep, park.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Measure this code-mode host, started with `--listen stdio`, and ours instead.
    #[arg(long, value_name = "PATH", conflicts_with = "only")]
    against: Option<PathBuf>,
}

/// Something to measure.
type Measurement = fn(&mut Figures) -> Result<()>;

const MEASUREMENTS: [(&str, Measurement); 12] = [
    ("start", measure::start),
    ("cold", measure::cold),
    ("typescript", measure::typescript),
    ("calls", measure::calls),
    ("throughput", measure::throughput),
    ("workloads", workloads::workloads),
    ("json", workloads::json),
    ("intl", intl::intl),
    ("neighbours", measure::neighbours),
    ("awake", waiting::awake),
    ("asleep", waiting::asleep),
    ("park", waiting::park),
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut figures = Figures::default();
    if let Some(theirs) = &arguments.against {
        against::against(&mut figures, &measure::program()?, theirs)?;
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
