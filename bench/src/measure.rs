//! What a cell costs: to start and to call; and what neighbours notice.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use crate::figures::Figures;
use crate::host::Bench;
use anyhow::{Result, ensure};
use cellblock::{
    CellLimits, Engine, EngineConfig, ExecuteRequest, LimitKind, RuntimeResponse, SessionLimits,
    WaitRequest,
};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Cells of one measurement of a distribution.
const SAMPLES: usize = 1_000;

pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Runtime::new()?)
}

/// Engine: compile, then load from the cache.
pub fn start(figures: &mut Figures) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut config = EngineConfig::default();
    config.cache_dir = Some(dir.path().join("cache"));
    for (name, cells, target) in [
        ("engine, compiling", config.max_cells, None),
        ("engine for 10,240 cells, from the cache", config.max_cells, Some(10.0)),
        ("engine for 128 cells, from the cache", 128, Some(10.0)),
    ] {
        config.max_cells = cells;
        let started = Instant::now();
        Engine::new(&config)?;
        figures.add(name, started.elapsed().as_secs_f64() * 1e3, "ms", target);
    }
    first_result(figures)
}

/// The program `cellblock`, from its start to the end of a trivial script.
fn first_result(figures: &mut Figures) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("script.js");
    std::fs::write(&script, "text(1+1)")?;
    let program = program()?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        let output = Command::new(&program).arg("run").arg(&script).output()?;
        times.push(started.elapsed());
        ensure!(output.status.success() && output.stdout == b"2\n", "{output:?}");
    }
    times.sort_unstable();
    // The first one compiles where no compiled code is cached.
    let middle = times[times.len() / 2].as_secs_f64() * 1e3;
    figures.add("process started to first result, middle of 50", middle, "ms", Some(6.0));
    Ok(())
}

/// Where the program `cellblock` is: beside this one.
pub fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("cellblock");
    ensure!(
        program.is_file(),
        "{} is not there: `cargo build --release -p cellblock-cli` makes it",
        program.display()
    );
    Ok(program)
}

/// A cold cell through the public API, with few tools and many; asked for by a task
/// of the runtime, as a host's turn is.
pub fn cold(figures: &mut Figures) -> Result<()> {
    let runtime = runtime()?;
    for (tools, targets) in
        [(0, [22.0, 60.0].map(Some)), (32, [None; 2]), (128, [Some(45.0), None])]
    {
        let bench = Bench::new(tools, SessionLimits::default())?;
        let mut times =
            runtime.block_on(runtime.spawn(cold_cells(bench, "text(1+1)", SAMPLES)))??;
        figures.add_times(&format!("cold cell, {tools} tools"), &mut times, targets);
    }
    Ok(())
}

/// A program of 2 KB in TypeScript, and the same in JavaScript.
pub fn typescript(figures: &mut Figures) -> Result<()> {
    let runtime = runtime()?;
    let mut medians = Vec::new();
    let mut sources = [String::new(), String::new()];
    for number in 0..10 {
        for (source, types) in sources.iter_mut().zip([true, false]) {
            let only = |text: &'static str| if types { text } else { "" };
            let interface =
                format!("interface Row{number} {{ readonly id: number; name?: string }}\n");
            let row = format!(": Row{number}[]");
            source.push_str(if types { &interface } else { "" });
            // Writing to a string cannot fail.
            let _ = write!(
                source,
                "function pick{number}(rows{}, id{}){} {{\n  return rows.find((row) => row.id === \
                 id){}.name{};\n}}\ntext(pick{number}([{{ id: 1, name: 'a' }}], 1));\n",
                if types { &row } else { "" },
                only(": number"),
                only(": string | undefined"),
                only("!"),
                only(" as string"),
            );
        }
    }
    ensure!((1_800..2_300).contains(&sources[0].len()), "{} bytes", sources[0].len());
    for (source, name) in sources.into_iter().zip(["TypeScript", "JavaScript"]) {
        let bench = Bench::new(0, SessionLimits::default())?;
        let mut times = runtime
            .block_on(runtime.spawn(async move { cold_cells(bench, &source, SAMPLES).await }))??;
        figures.add_times(&format!("cell of 2 KB, {name}"), &mut times, [None, None]);
        medians.push(times[times.len() / 2].as_secs_f64() * 1e6);
    }
    figures.add("TypeScript of 2 KB, more", medians[0] - medians[1], "µs", Some(150.0));
    Ok(())
}

/// Times of small cells, one after the other, after some that do not count.
async fn cold_cells(bench: Bench, source: &str, samples: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(samples);
    for sample in 0..samples + 100 {
        let request = bench.request(source);
        let started = Instant::now();
        bench.service.execute(request).await?;
        if sample >= 100 {
            times.push(started.elapsed());
        }
    }
    Ok(times)
}

/// Nested calls: one after the other, large, and side by side.
pub fn calls(figures: &mut Figures) -> Result<()> {
    runtime()?.block_on(async {
        let bench = Bench::new(5, SessionLimits::default())?;
        for (name, count, call, target) in [
            ("awaited call", 10_000, "tools.echo({ i })", Some(5.5)),
            ("awaited call that ends at once", 10_000, "tools.peek({ i })", None),
            ("awaited call, 100 KB result", 100, "tools.big()", Some(1500.0)),
        ] {
            let source = format!("for (let i = 0; i < {count}; i++) await {call}");
            bench.run(&source).await?;
            let started = Instant::now();
            bench.run(&source).await?;
            let each = started.elapsed().as_secs_f64() * 1e6 / f64::from(count);
            figures.add(name, each, "µs", target);
        }
        let started = Instant::now();
        bench.run("await Promise.all(Array.from({ length: 100 }, () => tools.nap()))").await?;
        figures.add(
            "100 calls of 1 ms side by side",
            started.elapsed().as_secs_f64() * 1e3,
            "ms",
            None,
        );
        Ok(())
    })
}

/// Trivial cells on all cores.
pub fn throughput(figures: &mut Figures) -> Result<()> {
    const EACH: usize = 5_000;
    runtime()?.block_on(async {
        let lanes = std::thread::available_parallelism()?.get() * 4;
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..lanes {
            let bench = Bench::new(0, SessionLimits::default())?;
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
        let rate = (lanes * EACH) as f64 / started.elapsed().as_secs_f64();
        figures.add("trivial cells", rate, "a second", Some(15_000.0));
        Ok(())
    })
}

/// Programs that never end by themselves, each kept busy in another way.
const BUSY: [&str; 5] = [
    "for (;;);",
    "for (;;) await new Promise((r) => setTimeout(r, 0))",
    "for (;;) await tools.echo(1)",
    "for (;;) await 0",
    "for (;;) { yield_control(); await new Promise((r) => setTimeout(r, 0)) }",
];

/// What an honest cell notices of busy neighbours, and how late a stopped cell answers
/// while others run: as many as there are cores, and a hundred.
pub fn neighbours(figures: &mut Figures) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    runtime()?.block_on(async {
        for busy in [0, 1, cores, 50, 100] {
            let bench = Bench::new(4, SessionLimits::default())?;
            keep_busy(&bench, busy).await?;
            let mut times = Vec::new();
            for _ in 0..200 {
                let started = Instant::now();
                bench.run("text(1+1)").await?;
                times.push(started.elapsed());
            }
            let name = format!("cold cell beside {busy} busy");
            figures.add_times(&name, &mut times, [None, None]);
            bench.service.shutdown().await;
        }
        for busy in [cores, 100] {
            let others = Bench::new(4, SessionLimits::default())?;
            keep_busy(&others, busy).await?;
            let worst = latest_answer().await?;
            let name = format!("answer after the deadline, beside {busy} busy");
            figures.add(name, worst, "ms", Some(50.0));
            others.service.shutdown().await;
        }
        Ok(())
    })
}

/// How many ms after its deadline a cell answers, at the most.
async fn latest_answer() -> Result<f64> {
    let deadline = Duration::from_millis(300);
    let cell = CellLimits { total_time: deadline, ..CellLimits::default() };
    let bench = Bench::new(4, SessionLimits { cell, ..SessionLimits::default() })?;
    let mut worst = 0.0_f64;
    let native = "Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1)";
    for source in BUSY.into_iter().chain([native, "await new Promise(() => {})"]) {
        let started = Instant::now();
        let mut response = bench.run(source).await?;
        while let RuntimeResponse::Yielded { cell_id, .. } = response {
            let wait = WaitRequest { cell_id, yield_time_ms: 600_000 };
            response = bench.service.wait(wait).await?.into();
        }
        ensure!(response.report().limit == Some(LimitKind::TotalTime), "{response:?}");
        worst = worst.max((started.elapsed().saturating_sub(deadline)).as_secs_f64() * 1e3);
    }
    Ok(worst)
}

/// Starts programs that never end by themselves.
async fn keep_busy(bench: &Bench, count: usize) -> Result<()> {
    for source in BUSY.into_iter().cycle().take(count) {
        let request = ExecuteRequest { yield_time_ms: Some(0), ..bench.request(source) };
        bench.service.execute(request).await?;
    }
    Ok(())
}
