//! What a cell costs: to start, to call, to park; and what neighbours notice.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use crate::figures::Figures;
use crate::host::Bench;
use anyhow::{Context, Result, ensure};
use cellblock::{
    CellLimits, Engine, EngineConfig, ExecuteRequest, LimitKind, RuntimeResponse, SessionLimits,
    WaitRequest,
};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Cells of one measurement of a distribution.
const SAMPLES: usize = 1_000;

fn runtime() -> Result<tokio::runtime::Runtime> {
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
    Ok(())
}

/// A cold cell through the public API, with few tools and many; asked for by a task
/// of the runtime, as a host's turn is.
pub fn cold(figures: &mut Figures) -> Result<()> {
    let runtime = runtime()?;
    for (tools, targets) in [(0, [40.0, 120.0]), (32, [50.0, 130.0]), (128, [80.0, 160.0])] {
        let bench = Bench::new(tools, SessionLimits::default())?;
        let mut times =
            runtime.block_on(runtime.spawn(cold_cells(bench, "text(1+1)", SAMPLES)))??;
        figures.add_times(&format!("cold cell, {tools} tools"), &mut times, targets.map(Some));
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
        let bench = Bench::new(4, SessionLimits::default())?;
        for (name, count, call, target) in [
            ("awaited call", 1000, "tools.echo({ i })", 8.0),
            ("awaited call, 100 KB result", 100, "tools.big()", 1500.0),
        ] {
            let source = format!("for (let i = 0; i < {count}; i++) await {call}");
            bench.run(&source).await?;
            let started = Instant::now();
            bench.run(&source).await?;
            let each = started.elapsed().as_secs_f64() * 1e6 / f64::from(count);
            figures.add(name, each, "µs", Some(target));
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

/// Cells that wait: their memory, the time to wake one, and to start one more.
pub fn parked(figures: &mut Figures) -> Result<()> {
    runtime()?.block_on(async {
        let limits = SessionLimits { cells: 10_001, ..SessionLimits::default() };
        let bench = Bench::new(4, limits)?;
        bench.run("text(1+1)").await?;
        let (threads, empty) = (status("Threads")?, status("VmRSS")?);
        let mut count = 0_u64;
        for total in [1_000_u64, 10_000] {
            while count < total {
                let request = ExecuteRequest {
                    yield_time_ms: None,
                    ..bench.request(
                        "yield_control(); await new Promise((r) => setTimeout(r, 3e6)); text('up')",
                    )
                };
                let response = bench.service.execute(request).await?;
                ensure!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
                count += 1;
            }
            let each = (status("VmRSS")? - empty) as f64 / count as f64;
            figures.add(format!("parked cell, of {total}"), each, "KiB", Some(200.0));
        }
        figures.add(
            "threads more with 10,000 parked",
            (status("Threads")? - threads) as f64,
            "",
            Some(0.0),
        );
        let mut times = Vec::new();
        for _ in 0..200 {
            let started = Instant::now();
            bench.run("text(1+1)").await?;
            times.push(started.elapsed());
        }
        figures.add_times("cold cell beside 10,000 parked", &mut times, [Some(40.0), Some(120.0)]);
        let started = Instant::now();
        let wait = WaitRequest { cell_id: "5000".into(), yield_time_ms: 0 };
        bench.service.wait(wait).await?;
        figures.add("answer of a parked cell", started.elapsed().as_secs_f64() * 1e6, "µs", None);
        let started = Instant::now();
        bench.service.shutdown().await;
        figures.add("shutdown of 10,000", started.elapsed().as_secs_f64() * 1e3, "ms", None);
        Ok(())
    })
}

/// A field of this process's status, in KiB or pieces.
fn status(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).context("no such field")?;
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}
