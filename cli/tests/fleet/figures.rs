//! Figures of a fleet on one machine, for docs/fleet.md:
//! `cargo test --release -p cellblock-cli --features nats --test fleet -- --ignored --nocapture figures`

use crate::cells::{Tools, request, service, text};
use crate::cluster::{Cluster, note, until, workers};
use crate::keeping::Fleet;
use crate::kept::Kept;
use cellblock::{CodeModeService, Engine, SessionLimits, WasmBackend};
use cellblock_tests::memory::own_of;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Programs whose time is taken.
const PROGRAMS: usize = 500;
/// Nested calls of one program.
const CALLS: usize = 500;
/// Programs for the throughput, and how many run at one time.
const MANY: u32 = 2_000;
const AT_ONCE: u32 = 32;
/// Cells that are kept, before half as many more are, and those of them whose waking is timed.
const PARKED: usize = 10_000;
const WOKEN: usize = 200;

/// The middle and the 99th percentile of the time of a program.
async fn times(service: &CodeModeService) -> (Duration, Duration) {
    let mut times = Vec::new();
    for _ in 0..PROGRAMS {
        let began = Instant::now();
        text(service, "text('x')").await;
        times.push(began.elapsed());
    }
    times.sort();
    (times[PROGRAMS / 2], times[PROGRAMS * 99 / 100])
}

/// The time of one nested call, of many one after the other.
async fn call(service: &CodeModeService) -> Duration {
    let source = format!("for (let n = 0; n < {CALLS}; n++) await tools.echo(n); text('done')");
    let began = Instant::now();
    text(service, &source).await;
    began.elapsed() / u32::try_from(CALLS).unwrap()
}

/// Programs in a second.
async fn throughput(service: &Arc<CodeModeService>) -> f64 {
    let began = Instant::now();
    let lanes = (0..AT_ONCE).map(|_| {
        let service = Arc::clone(service);
        tokio::spawn(async move {
            for _ in 0..MANY / AT_ONCE {
                // A worker that is full is met now and then.
                while service.execute(request("text('x')")).await.is_err() {}
            }
        })
    });
    for lane in lanes {
        lane.await.unwrap();
    }
    f64::from(MANY) / began.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures for the docs, which need a quiet machine"]
async fn figures() {
    let Some(cluster) = Cluster::shared() else { return };
    let engine = Engine::shared().unwrap();
    let limits = SessionLimits::default();
    let here = CodeModeService::new(Arc::new(WasmBackend::with_limits(&engine, limits)));
    let _turn = here.start_turn_worker(Arc::new(Tools::default()));
    let (class, _workers) = workers(cluster, 1, &[]).await;
    let fleet = service(&cluster.fleet("t1", &class));
    let _other = fleet.start_turn_worker(Arc::new(Tools::default()));
    for (name, service) in [("in process", &here), ("on a fleet", &fleet)] {
        let ((middle, late), call) = (times(service).await, call(service).await);
        note(&format!("{name}: execute {middle:?} (p50), {late:?} (p99); nested call {call:?}"));
    }
    for count in 1..=3 {
        let (class, _workers) = workers(cluster, count, &[]).await;
        let fleet = Arc::new(service(&cluster.fleet("t1", &class)));
        note(&format!("{count} workers: {:.0} programs/s", throughput(&fleet).await));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures for the docs, which need a quiet machine"]
async fn parking_figures() {
    let arguments = ["--park-after", "1s", "--max-cells", "512", "--max-cells-per-tenant", "512"];
    let Some(fleet) = Fleet::start(2, &arguments).await else { return };
    let service = Arc::new(fleet.service("t1"));
    let _turn = service.start_turn_worker(Arc::new(Tools::default()));
    let mut kept = Kept::connect(fleet.cluster);
    let before = kept.total_bytes();
    let mut cells = Vec::new();
    let began = Instant::now();
    // What the workers have after the first, they keep for cells that run.
    for parked in [PARKED, PARKED * 3 / 2] {
        while cells.len() < parked {
            let waiting = || cellblock::ExecuteRequest {
                yield_time_ms: Some(0),
                ..request("text('begun'); await tools.hang()")
            };
            match service.execute(waiting()).await {
                Ok(response) => cells.push(response.cell_id().clone()),
                // All workers are full until they have parked some.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        until(async || fleet.cells().await == 0).await;
        let (took, bytes) = (began.elapsed(), kept.total_bytes() - before);
        note(&format!("{parked} cells were parked in {took:?}: {bytes} bytes on each server"));
        let memory = fleet.workers.iter().map(|worker| own_of(&worker.pid().to_string()) >> 20);
        note(&format!("memory of the workers: {:?} MiB", memory.collect::<Vec<_>>()));
    }
    let mut times = Vec::new();
    for cell_id in cells.into_iter().take(WOKEN) {
        let began = Instant::now();
        service.terminate(cell_id).await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    let (middle, late) = (times[WOKEN / 2], times[WOKEN * 99 / 100]);
    note(&format!("to wake a cell and end it: {middle:?} (p50), {late:?} (p99)"));
}
