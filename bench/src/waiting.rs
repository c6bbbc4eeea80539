//! Cells that wait: their memory, awake and asleep; to park one and to wake it.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use crate::figures::Figures;
use crate::host::Bench;
use crate::measure::runtime;
use crate::memory;
use anyhow::{Context, Result, ensure};
use cellblock::{
    Engine, EngineConfig, ExecuteRequest, ParkKey, Parking, RuntimeResponse, SessionLimits,
    WaitRequest, WakeRequest, WasmBackend,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A program that waits for an hour, nearly.
const WAITS: &str = "yield_control(); await new Promise((r) => setTimeout(r, 3e6)); text('up')";

/// Cells that keep their sandboxes.
pub fn awake(figures: &mut Figures) -> Result<()> {
    runtime()?.block_on(async {
        let bench = session(None)?;
        let empty = memory::kib("self")?;
        wait_with(&bench, 0..1_000).await?;
        let each = (memory::kib("self")? - empty) as f64 / 1e3;
        figures.add("waiting cell that does not sleep, of 1,000", each, "KiB", Some(200.0));
        bench.service.shutdown().await;
        Ok(())
    })
}

/// Cells that sleep, what one more notices of them, and the end.
pub fn asleep(figures: &mut Figures) -> Result<()> {
    runtime()?.block_on(async {
        let bench = session(Some(Duration::ZERO))?;
        bench.run("text(1+1)").await?;
        let (threads, empty) = (threads()?, memory::kib("self")?);
        let mut count = 0;
        for total in [1_000, 10_000] {
            wait_with(&bench, count..total).await?;
            count = total;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let each = (memory::kib("self")? - empty) as f64 / f64::from(total);
            figures.add(format!("sleeping cell, of {total}"), each, "KiB", Some(16.0));
        }
        let more = (self::threads()? - threads) as f64;
        figures.add("threads more with 10,000 sleeping", more, "", Some(0.0));
        let mut times = Vec::new();
        for _ in 0..200 {
            let started = Instant::now();
            bench.run("text(1+1)").await?;
            times.push(started.elapsed());
        }
        figures.add_times("cold cell beside 10,000 sleeping", &mut times, [None; 2]);
        let started = Instant::now();
        let wait = WaitRequest { cell_id: "5000".into(), yield_time_ms: 0 };
        bench.service.wait(wait).await?;
        let answer = started.elapsed().as_secs_f64() * 1e6;
        figures.add("answer of a sleeping cell", answer, "µs", None);
        let started = Instant::now();
        bench.service.shutdown().await;
        figures.add("shutdown of 10,000", started.elapsed().as_secs_f64() * 1e3, "ms", None);
        Ok(())
    })
}

/// A trivial cell that becomes bytes and goes on from them, through the seam: compression,
/// authentication and the session's own work included; asked for by a task of the runtime, as
/// a host's turn is.
pub fn park(figures: &mut Figures) -> Result<()> {
    let runtime = runtime()?;
    for (name, key, targets) in [
        ("authenticated", ParkKey::new([1; 32]), [Some(40.0), None]),
        ("encrypted", ParkKey::encrypting([1; 32]), [None; 2]),
    ] {
        let Cycles { mut parking, mut waking, bytes } =
            runtime.block_on(runtime.spawn(cycles(key)))??;
        figures.add(format!("parked cell, {name}"), bytes as f64 / 1024.0, "KiB", Some(10.0));
        figures.add_times(&format!("park, {name}"), &mut parking, targets);
        figures.add_times(&format!("wake, {name}"), &mut waking, targets);
    }
    Ok(())
}

/// What one cell took that was parked and woken again and again.
struct Cycles {
    parking: Vec<Duration>,
    waking: Vec<Duration>,
    /// Bytes that it was parked as at last.
    bytes: usize,
}

async fn cycles(key: ParkKey) -> Result<Cycles> {
    let backend = WasmBackend::with_limits(&engine(None)?, SessionLimits::default());
    backend.set_parking(Parking::new(&key));
    let bench = Bench::on(Arc::new(backend), 4);
    let request = ExecuteRequest { yield_time_ms: Some(0), ..bench.request("await tools.hang()") };
    let mut id = bench.service.execute(request).await?.cell_id().clone();
    let mut cycles = Cycles { parking: Vec::new(), waking: Vec::new(), bytes: 0 };
    for cycle in 0..2_100 {
        let started = Instant::now();
        let parked = bench.service.park(id).await?;
        let took = started.elapsed();
        cycles.bytes = parked.cell.as_bytes().len();
        let request = WakeRequest {
            calls: parked.calls,
            yield_time_ms: Some(0),
            ..WakeRequest::new(parked.cell)
        };
        let started = Instant::now();
        id = bench.service.wake(request).await?.cell_id().clone();
        if cycle >= 100 {
            cycles.parking.push(took);
            cycles.waking.push(started.elapsed());
        }
    }
    bench.service.shutdown().await;
    Ok(cycles)
}

fn engine(sleeps_after: Option<Duration>) -> Result<Engine> {
    let mut config = EngineConfig::default();
    config.sleeps_after = sleeps_after;
    Ok(Engine::new(&config)?)
}

/// A session of up to 10,001 cells, which sleep so long after they have begun to wait.
fn session(sleeps_after: Option<Duration>) -> Result<Bench> {
    let limits = SessionLimits { cells: 10_001, ..SessionLimits::default() };
    let backend = WasmBackend::with_limits(&engine(sleeps_after)?, limits);
    Ok(Bench::on(Arc::new(backend), 4))
}

/// Starts cells that wait.
async fn wait_with(bench: &Bench, numbers: std::ops::Range<u32>) -> Result<()> {
    for _ in numbers {
        let request = ExecuteRequest { yield_time_ms: None, ..bench.request(WAITS) };
        let response = bench.service.execute(request).await?;
        ensure!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
    }
    Ok(())
}

/// Threads of this process.
fn threads() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).context("no field")?;
    Ok(line.trim().parse()?)
}
