//! Random faults against a model: workers and servers die, stop and come back while two tenants run
//! programs. Each cell ends once, as a result, terminated or stale; what is stored is what those
//! wrote that have a result; no call is made twice; nothing crosses tenants.
//!
//! `CELLBLOCK_FLEET_SECONDS` says how long it goes on (20 by default), `CELLBLOCK_FAULT_SEED`
//! which schedule it is. A failure names its seed.

use crate::cells::request;
use crate::cluster::{Cluster, Worker, class, note, serving, until};
use async_trait::async_trait;
use cellblock::{
    CodeModeError, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, ExecuteRequest,
    RuntimeResponse, ToolResult,
};
use cellblock_remote::NatsBackend;
use rustix::process::Signal;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const TENANTS: [&str; 2] = ["t1", "t2"];
/// Programs of one tenant that run at one time.
const AT_ONCE: usize = 6;
const WORKERS: usize = 3;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A generator of numbers that a seed determines (`SplitMix64`).
struct Random(AtomicU64);

impl Random {
    fn below(&self, most: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }
}

/// Counts the calls of each program.
#[derive(Default)]
struct Counting(Mutex<HashMap<String, u64>>);

#[async_trait]
impl CodeModeTurnHost for Counting {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let input = call.input.map_or_else(String::new, |input| input.into_value().to_string());
        *self.0.lock().unwrap().entry(input.clone()).or_default() += 1;
        Ok(serde_json::Value::from(input).into())
    }
}

/// How a cell has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Result,
    Terminated,
    Stale,
    /// It has not run.
    Refused,
    /// It is not known whether its values were kept.
    Unknown,
}

/// Runs a program to its end.
async fn run(service: &CodeModeService, source: &str, terminate: bool) -> End {
    let cell_id = service.allocate_cell_id().unwrap();
    let request = ExecuteRequest { yield_time_ms: Some(20), ..request(source) };
    let mut answer = service.execute_as(cell_id.clone(), request).await;
    loop {
        let wait = cellblock::WaitRequest { cell_id: cell_id.clone(), yield_time_ms: 30_000 };
        answer = match answer {
            Ok(RuntimeResponse::Yielded { .. }) if terminate => {
                service.terminate(cell_id.clone()).await.map(Into::into)
            }
            Ok(RuntimeResponse::Yielded { .. }) => service.wait(wait).await.map(Into::into),
            Ok(RuntimeResponse::Terminated { .. }) => return End::Terminated,
            Ok(RuntimeResponse::Result { error_text: None, .. }) => return End::Result,
            Err(CodeModeError::Stale { .. }) => return End::Stale,
            Err(CodeModeError::Unavailable(_)) => return End::Refused,
            Err(CodeModeError::Host(_)) => return End::Unknown,
            other => panic!("no end at all: {other:?}"),
        };
    }
}

/// Runs programs of one tenant until the end; how each has ended.
async fn programs(
    service: Arc<CodeModeService>,
    tenant: &'static str,
    lane: usize,
    random: Arc<Random>,
    over: Arc<AtomicBool>,
) -> BTreeMap<String, End> {
    let mut ends = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        let key = format!("{tenant}-{lane}-{}", ends.len());
        let pause = random.below(300);
        let source = format!(
            "await tools.echo('{key}'); await new Promise((done) => setTimeout(done, {pause}));
            store('{key}', '{tenant}'); text('')"
        );
        let end = run(&service, &source, random.below(8) == 0).await;
        ends.insert(key, end);
    }
    ends
}

/// Breaks something, and mends it.
async fn fault(cluster: &Cluster, class: &str, workers: &mut [Worker], random: &Random) {
    let victim = usize::try_from(random.below(WORKERS as u64)).unwrap();
    match random.below(6) {
        0 => {
            cluster.kill(victim);
            tokio::time::sleep(Duration::from_millis(random.below(2_000))).await;
            cluster.start_again(victim);
        }
        1 => {
            workers[victim].signal(Signal::STOP);
            tokio::time::sleep(Duration::from_millis(random.below(12_000))).await;
            workers[victim].signal(Signal::CONT);
        }
        2 => {
            workers[victim].signal(Signal::TERM);
            workers[victim].wait();
            workers[victim] = Worker::spawn(cluster, class, &["--drain", "1s"]);
        }
        _ => {
            workers[victim].signal(Signal::KILL);
            workers[victim] = Worker::spawn(cluster, class, &["--drain", "1s"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_no_end_and_merge_nothing_twice() {
    let Some(cluster) = Cluster::start() else { return };
    let seconds = variable("CELLBLOCK_FLEET_SECONDS").unwrap_or(20);
    let seed = variable("CELLBLOCK_FAULT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    note(&format!("seed {seed}, {seconds} s"));
    let (random, over) = (Arc::new(Random(seed.into())), Arc::new(AtomicBool::new(false)));
    let class = class();
    let spawn = |_| Worker::spawn(&cluster, &class, &["--drain", "1s"]);
    let mut workers: Vec<_> = (0..WORKERS).map(spawn).collect();
    serving(&cluster, &class, WORKERS).await;
    let calls = Arc::new(Counting::default());
    let mut running = Vec::new();
    let mut turns = Vec::new();
    for tenant in TENANTS {
        let backend = NatsBackend::new(&cluster.fleet(tenant, &class));
        let backend = backend.with_session("schedule").unwrap();
        let service = Arc::new(CodeModeService::new(Arc::new(backend)));
        turns.push(service.start_turn_worker(Arc::clone(&calls) as _));
        for lane in 0..AT_ONCE {
            let (random, over) = (Arc::clone(&random), Arc::clone(&over));
            let programs = programs(Arc::clone(&service), tenant, lane, random, over);
            running.push((tenant, tokio::spawn(programs)));
        }
    }
    let until_then = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until_then {
        tokio::time::sleep(Duration::from_millis(random.below(1_500))).await;
        fault(&cluster, &class, &mut workers, &random).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut ends: BTreeMap<&str, BTreeMap<String, End>> = BTreeMap::new();
    for (tenant, programs) in running {
        ends.entry(tenant).or_default().extend(programs.await.unwrap());
    }
    serving(&cluster, &class, WORKERS).await;
    for (tenant, ends) in &ends {
        let mut counts = BTreeMap::<_, u64>::new();
        for end in ends.values() {
            *counts.entry(*end).or_default() += 1;
        }
        note(&format!("{tenant}: {counts:?}"));
        // A client that knows nothing reads what NATS has.
        let mut values = HashMap::new();
        until(async || {
            let backend = NatsBackend::new(&cluster.fleet(tenant, &class));
            let service = CodeModeService::new(Arc::new(backend.with_session("schedule").unwrap()));
            let read = service.execute(request("text('')")).await.is_ok();
            values = service.stored_values();
            read
        })
        .await;
        for (key, end) in ends {
            let value = values.remove(key);
            match end {
                End::Result => assert_eq!(value, Some((*tenant).into()), "{key}, seed {seed}"),
                End::Unknown => {}
                _ => assert_eq!(value, None, "{key} ended as {end:?}, seed {seed}"),
            }
        }
        assert!(values.is_empty(), "not of this tenant's cells: {values:?}, seed {seed}");
        assert!(ends.values().any(|end| *end == End::Result), "{counts:?}, seed {seed}");
    }
    let calls = calls.0.lock().unwrap();
    let twice: Vec<_> = calls.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "calls that were made twice: {twice:?}, seed {seed}");
}
