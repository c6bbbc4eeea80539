//! Our host and another, each a child of this process, asked the same things by the
//! same client over the same kind of pipe.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use crate::figures::Figures;
use crate::host::Bench;
use crate::workloads;
use anyhow::{Context, Result, bail, ensure};
use cellblock::{CodeModeBackend, ExecuteRequest, RuntimeResponse};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostCommand, HostProcess, ProcessBackend};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Cells of one measurement of a distribution.
const SAMPLES: usize = 500;

/// Cells that wait at one time: hosts of this contract take 128.
const PARKED: usize = 100;

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
    if !ours.is_file() {
        bail!("{} is not there: `cargo build --release -p cellblock-cli` makes it", ours.display());
    }
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

/// Adds a figure of both, and how many times as much theirs is.
fn add(
    figures: &mut Figures,
    candidates: &[Candidate; 2],
    what: &str,
    both: [f64; 2],
    unit: &'static str,
) {
    for (candidate, value) in candidates.iter().zip(both) {
        figures.add(format!("{what}, {}", candidate.name), value, unit, None);
    }
    figures.add(format!("{what}, theirs / ours"), both[1] / both[0], "×", None);
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
    add(figures, candidates, "host started to first result, fastest of ten", best, "ms");
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
    for (name, percent) in [("p50", 50), ("p99", 99)] {
        let both = times.each_mut().map(|times| {
            times.sort_unstable();
            times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6
        });
        add(figures, candidates, &format!("cold cell, {tools} tools {name}"), both, "µs");
    }
    Ok(())
}

async fn calls(figures: &mut Figures, candidates: &[Candidate; 2]) -> Result<()> {
    let benches = candidates.each_ref().map(|candidate| candidate.session(4));
    for (name, count, source) in [
        ("awaited call", 1000.0, "for (let i = 0; i < 1000; i++) await tools.echo({ i })"),
        ("awaited call, 100 KB result", 50.0, "for (let i = 0; i < 50; i++) await tools.big()"),
        (
            "100 calls of 1 ms side by side",
            1.0,
            "await Promise.all(Array.from({ length: 100 }, () => tools.nap()))",
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
        add(figures, candidates, name, best, "µs");
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

async fn parked(figures: &mut Figures, candidates: &[Candidate; 2]) -> Result<()> {
    let mut each = [0.0; 2];
    for (candidate, each) in candidates.iter().zip(&mut each) {
        let bench = candidate.session(4);
        bench.run("text(1+1)").await?;
        let empty = resident(&candidate.path)?;
        for _ in 0..PARKED {
            let source = "yield_control(); await new Promise((r) => setTimeout(r, 3e6))";
            let request = ExecuteRequest { yield_time_ms: None, ..bench.request(source) };
            let response = bench.service.execute(request).await?;
            ensure!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
        }
        *each = (resident(&candidate.path)? - empty) as f64 / PARKED as f64;
        bench.service.shutdown().await;
    }
    add(figures, candidates, &format!("parked cell, of {PARKED}"), each, "KiB");
    Ok(())
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
        add(figures, candidates, name, best, "ms");
    }
    Ok(())
}

/// Resident KiB of the newest process that runs a program.
fn resident(program: &Path) -> Result<u64> {
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
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}
