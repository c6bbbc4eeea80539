//! Our host and another, each a child of this process, asked the same things by the
//! same client over the same kind of pipe.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use crate::figures::Figures;
use crate::host::Bench;
use crate::{memory, workloads};
use anyhow::{Context, Result, ensure};
use cellblock::{CellId, CodeModeBackend, ExecuteRequest, RuntimeResponse};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostCommand, HostProcess, ProcessBackend};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Cells of one measurement of a distribution.
const SAMPLES: usize = 500;

/// Cells that wait at one time: hosts of this contract take 128.
const PARKED: usize = 100;

/// After so long, cells that wait are asleep, and what has ended is given back.
const SETTLED: Duration = Duration::from_secs(3);

/// A host, and what it is called in the table.
struct Candidate {
    name: &'static str,
    command: HostCommand,
    path: PathBuf,
}

impl Candidate {
    fn session(&self, tools: usize) -> Bench {
        let host = HostProcess::new(HostAddress::child(Protocol::Framed, self.command.clone()));
        Bench::on(Arc::new(ProcessBackend::new(&host)) as Arc<dyn CodeModeBackend>, tools)
    }
}

/// Measures both; `ours` is the program `cellblock`.
pub fn against(figures: &mut Figures, ours: &Path, theirs: &Path) -> Result<()> {
    let candidate = |name, path: &Path, arguments: &[&str]| -> Result<Candidate> {
        let path = path.canonicalize().with_context(|| format!("no host {}", path.display()))?;
        let command = HostCommand::new(&path).args(arguments);
        Ok(Candidate { name, command, path })
    };
    let candidates = [
        candidate("ours", ours, &["host", "--listen", "stdio", "--max-cells-per-session", "128"])?,
        candidate("theirs", theirs, &["--listen", "stdio"])?,
    ];
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        start(figures, &candidates).await?;
        for tools in [0, 32, 128] {
            cold(figures, &candidates, tools).await?;
        }
        calls(figures, &candidates).await?;
        throughput(figures, &candidates).await?;
        parked(figures, &candidates).await?;
        programs(figures, &candidates).await
    })
}

/// Adds a figure of both, and ours in parts of theirs.
fn add(
    figures: &mut Figures,
    candidates: &[Candidate; 2],
    what: &str,
    both: [f64; 2],
    unit: &'static str,
    target: Option<f64>,
) {
    for (candidate, value) in candidates.iter().zip(both) {
        figures.add(format!("{what}, {}", candidate.name), value, unit, None);
    }
    figures.add(format!("{what}, ours / theirs"), both[0] / both[1], "×", target);
}

/// A child that is started, a session opened, a program run.
async fn start(figures: &mut Figures, candidates: &[Candidate; 2]) -> Result<()> {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..10 {
        for (candidate, best) in candidates.iter().zip(&mut best) {
            let started = Instant::now();
            let bench = candidate.session(0);
            bench.run("text(1+1)").await?;
            *best = best.min(started.elapsed().as_secs_f64() * 1e3);
            bench.service.shutdown().await;
        }
    }
    add(figures, candidates, "host started to first result, fastest of ten", best, "ms", None);
    Ok(())
}

async fn cold(figures: &mut Figures, candidates: &[Candidate; 2], tools: usize) -> Result<()> {
    let benches = candidates.each_ref().map(|candidate| candidate.session(tools));
    let mut times: [Vec<Duration>; 2] = Default::default();
    for sample in 0..SAMPLES + 50 {
        for (bench, times) in benches.iter().zip(&mut times) {
            let started = Instant::now();
            bench.run("text(1+1)").await?;
            if sample >= 50 {
                times.push(started.elapsed());
            }
        }
    }
    let target = match tools {
        0 => Some(0.11),
        128 => Some(0.15),
        _ => None,
    };
    for (name, percent, target) in [("p50", 50, target), ("p99", 99, None)] {
        let both = times.each_mut().map(|times| {
            times.sort_unstable();
            times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6
        });
        add(figures, candidates, &format!("cold cell, {tools} tools {name}"), both, "µs", target);
    }
    Ok(())
}

async fn calls(figures: &mut Figures, candidates: &[Candidate; 2]) -> Result<()> {
    let benches = candidates.each_ref().map(|candidate| candidate.session(4));
    for (name, count, source, target) in [
        (
            "awaited call",
            1000.0,
            "for (let i = 0; i < 1000; i++) await tools.echo({ i })",
            Some(0.3),
        ),
        (
            "awaited call, 100 KB result",
            50.0,
            "for (let i = 0; i < 50; i++) await tools.big()",
            None,
        ),
        (
            "100 calls of 1 ms side by side",
            1.0,
            "await Promise.all(Array.from({ length: 100 }, () => tools.nap()))",
            None,
        ),
    ] {
        let mut best = [f64::INFINITY; 2];
        for _ in 0..5 {
            for (bench, best) in benches.iter().zip(&mut best) {
                let started = Instant::now();
                bench.run(source).await?;
                *best = best.min(started.elapsed().as_secs_f64() * 1e6 / count);
            }
        }
        add(figures, candidates, name, best, "µs", target);
    }
    Ok(())
}

async fn throughput(figures: &mut Figures, candidates: &[Candidate; 2]) -> Result<()> {
    const LANES: usize = 8;
    const EACH: usize = 250;
    let mut rates = [0.0; 2];
    for (candidate, rate) in candidates.iter().zip(&mut rates) {
        let bench = Arc::new(candidate.session(0));
        bench.run("text(1+1)").await?;
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..LANES {
            let bench = Arc::clone(&bench);
            tasks.spawn(async move {
                for _ in 0..EACH {
                    bench.run("text(1+1)").await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        *rate = (LANES * EACH) as f64 / started.elapsed().as_secs_f64();
    }
    for (candidate, rate) in candidates.iter().zip(rates) {
        figures.add(format!("trivial cells, {}", candidate.name), rate, "a second", None);
    }
    figures.add("trivial cells, ours / theirs", rates[0] / rates[1], "×", None);
    Ok(())
}

/// Memory of cells that wait for more than a second, when ours sleep.
async fn parked(figures: &mut Figures, candidates: &[Candidate; 2]) -> Result<()> {
    let mut each = [0.0; 2];
    for (candidate, each) in candidates.iter().zip(&mut each) {
        let bench = candidate.session(4);
        bench.run("text(1+1)").await?;
        // What a host keeps for the next cell is not a cell's: as many have come and gone.
        for id in wait_with(&bench).await? {
            bench.service.terminate(id).await?;
        }
        tokio::time::sleep(SETTLED).await;
        let empty = memory_of(&candidate.path)?;
        wait_with(&bench).await?;
        tokio::time::sleep(SETTLED).await;
        *each = (memory_of(&candidate.path)? - empty) as f64 / PARKED as f64;
        bench.service.shutdown().await;
    }
    add(figures, candidates, &format!("waiting cell, of {PARKED}"), each, "KiB", Some(0.03));
    Ok(())
}

/// Starts cells that wait.
async fn wait_with(bench: &Bench) -> Result<Vec<CellId>> {
    let mut ids = Vec::new();
    for _ in 0..PARKED {
        let source = "yield_control(); await new Promise((r) => setTimeout(r, 3e6))";
        let request = ExecuteRequest { yield_time_ms: None, ..bench.request(source) };
        let response = bench.service.execute(request).await?;
        ensure!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
        ids.push(response.cell_id().clone());
    }
    Ok(ids)
}

async fn programs(figures: &mut Figures, candidates: &[Candidate; 2]) -> Result<()> {
    let benches = candidates.each_ref().map(|candidate| candidate.session(0));
    for name in workloads::NAMES {
        let source = format!("text({})", workloads::expression(name)?);
        let mut best = [f64::INFINITY; 2];
        let mut outputs = [Vec::new(), Vec::new()];
        for _ in 0..3 {
            for ((bench, best), output) in benches.iter().zip(&mut best).zip(&mut outputs) {
                let started = Instant::now();
                let response = bench.run(&source).await?;
                *best = best.min(started.elapsed().as_secs_f64() * 1e3);
                *output = response.into_content();
            }
        }
        ensure!(outputs[0] == outputs[1], "{name}: {outputs:?}");
        add(figures, candidates, name, best, "ms", None);
    }
    Ok(())
}

/// KiB of the newest process that runs a program.
fn memory_of(program: &Path) -> Result<u64> {
    let mut newest = None;
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes that have just ended, or are not ours to look at, are not it.
        if std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program) {
            newest = newest.max(Some(id));
        }
    }
    let id = newest.context("the host is not running")?;
    memory::kib(&id.to_string())
}
