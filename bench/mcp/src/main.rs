//! What passes through a model's context when it calls the tools of two real servers, of the
//! file system and of a memory, directly, and when it calls them in programs.
//!
//! The servers are those of the protocol's own project, from npm. There is no model: what it
//! would say is written down in `tasks.rs`, in both ways, and each way has to find the same
//! answer. So the figures are those of models that make no mistakes.

mod client;
mod measure;
mod tasks;
mod workload;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use client::Client;
use measure::{Measured, table};
use std::path::{Path, PathBuf};
use std::process::Command;
use workload::Workload;

/// The servers, at the versions that the figures are of.
const SERVERS: [&str; 2] = [
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
];

/// Measures both ways, and prints a table.
#[derive(Parser)]
struct Arguments {
    /// The `cellblock` program.
    #[arg(default_value = "target/release/cellblock")]
    cellblock: PathBuf,
    /// Where the servers are installed, once.
    #[arg(long, default_value = "target/mcp-servers")]
    servers: PathBuf,
    /// A document that has to have this table, but for the times.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let installed = install(&arguments.servers);
    let servers = match installed {
        Ok(servers) => servers,
        Err(error) => {
            println!("NOTICE: the servers cannot be installed, so nothing was measured: {error:#}");
            return Ok(());
        }
    };
    let cellblock = arguments.cellblock.canonicalize().with_context(|| {
        format!("there is no {}: build cellblock-cli first", arguments.cellblock.display())
    })?;
    let mut measured = Vec::new();
    for task in tasks::all() {
        let workload = Workload::make(&servers)?;
        let direct = task.directly(&workload)?;
        // What a task has written is not there for the other way.
        let workload = Workload::make(&servers)?;
        let programs = task.in_programs(&workload, &cellblock)?;
        ensure!(
            direct.answer == programs.answer && direct.answer == task.answer,
            "{}: directly {:?}, in programs {:?}, expected {:?}",
            task.name,
            direct.answer,
            programs.answer,
            task.answer
        );
        measured.push(Measured { task: task.name, direct, programs });
    }
    let table = table(&measured);
    println!("{table}");
    match arguments.check {
        Some(document) => check(&document, &table),
        None => Ok(()),
    }
}

/// Installs the servers, and returns the folder of their packages.
fn install(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let output = Command::new("npm")
        .args(["install", "--prefer-offline", "--no-audit", "--no-fund", "--prefix"])
        .arg(folder)
        .args(SERVERS)
        .output()
        .context("npm cannot be run")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(folder.canonicalize()?.join("node_modules/@modelcontextprotocol"))
}

/// Whether a document has every line of a table, whatever it says of times.
fn check(document: &Path, table: &str) -> Result<()> {
    let without_times = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with('|'));
        lines.map(|line| line.rsplitn(3, '|').last().unwrap_or_default().to_owned()).collect()
    };
    let text = std::fs::read_to_string(document)?;
    let has = without_times(&text);
    let missing: Vec<_> =
        without_times(table).into_iter().filter(|line| !has.contains(line)).collect();
    ensure!(missing.is_empty(), "{} has not:\n{}", document.display(), missing.join("\n"));
    Ok(())
}
