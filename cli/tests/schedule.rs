//! A random schedule of faults, beside a model of what must be so: every cell ends exactly
//! once, what it stored is there exactly when its result is, and nothing is left behind.
//!
//! `CELLBLOCK_FAULT_SECONDS` says how long it goes on (6 by default, half of it for each
//! protocol), `CELLBLOCK_FAULT_SEED` which schedule it is. A failure names its seed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and a process says that it is ready"
)]

mod support;

use cellblock::{
    CellId, CodeModeError, CodeModeService, ExecuteRequest, RuntimeResponse, StoredValues,
    ToolDefinition, WaitOutcome, WaitRequest,
};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostProcess, ProcessBackend};
use cellblock_tests::contract::Host as Tools;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use support::{PATIENCE, Served};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Sessions at one time, each on a connection of its own.
const SESSIONS: u64 = 3;

/// Cells of one session at one time.
const CELLS: u64 = 4;

/// Random numbers from a seed (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    async fn pause(&mut self, most_ms: u64) {
        sleep(Duration::from_millis(self.below(most_ms))).await;
    }
}

/// A host that is killed, stopped and started again, behind a link that is cut.
struct World {
    dir: TempDir,
    scheme: &'static str,
    served: Option<Served>,
    /// Its changes cut the link.
    link: watch::Sender<u64>,
}

impl World {
    fn start(scheme: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (link, cuts) = watch::channel(0);
        let listener = UnixListener::bind(dir.path().join("link")).unwrap();
        tokio::spawn(relay(listener, dir.path().join("host"), cuts));
        let mut world = Self { dir, scheme, served: None, link };
        world.start_host();
        world
    }

    fn start_host(&mut self) {
        let address = format!("{}://{}", self.scheme, self.dir.path().join("host").display());
        self.served = Some(Served::start_at(&address, &[]));
    }

    fn host(&self, protocol: Protocol) -> HostProcess {
        HostProcess::new(HostAddress::unix(protocol, self.dir.path().join("link")))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.served.as_ref().unwrap().child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn fault(&mut self, dice: &mut Dice) {
        match dice.below(6) {
            0 => {
                self.signal(Signal::KILL);
                self.served.take();
                dice.pause(100).await;
                self.start_host();
            }
            1 => {
                self.signal(Signal::STOP);
                dice.pause(150).await;
                self.signal(Signal::CONT);
            }
            2 => {
                // What the stopped host is sent arrives nowhere.
                self.signal(Signal::STOP);
                dice.pause(20).await;
                self.link.send_modify(|cuts| *cuts += 1);
                self.signal(Signal::CONT);
            }
            _ => self.link.send_modify(|cuts| *cuts += 1),
        }
    }
}

/// Passes bytes on between clients and the host, until the link is cut.
async fn relay(listener: UnixListener, socket: PathBuf, cuts: watch::Receiver<u64>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (socket, mut cuts) = (socket.clone(), cuts.clone());
        cuts.mark_unchanged();
        tokio::spawn(async move {
            let Ok(mut host) = UnixStream::connect(&socket).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut host) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

/// A session, and what must be stored in it.
struct Session {
    service: CodeModeService,
    values: StoredValues,
    tools: Arc<Tools>,
    _worker: cellblock::CodeModeTurnWorker,
    model: Mutex<BTreeMap<String, String>>,
    started: Mutex<Vec<CellId>>,
}

impl Session {
    fn open(host: &HostProcess) -> Self {
        let values = StoredValues::new();
        let backend = Arc::new(ProcessBackend::new(host));
        let service = CodeModeService::with_stored_values(backend, values.clone());
        let tools = Arc::new(Tools::default());
        let worker = service.start_turn_worker(Arc::clone(&tools) as _);
        Self {
            service,
            values,
            tools,
            _worker: worker,
            model: Mutex::default(),
            started: Mutex::default(),
        }
    }

    /// Runs one cell to its end, whatever happens meanwhile.
    async fn cell(&self, number: u64, dice: &mut Dice) {
        let known: Vec<_> = self.model.lock().unwrap().keys().cloned().collect();
        let read = known.get(usize::try_from(dice.below(1 + known.len() as u64)).unwrap());
        let (store, expected) = (format!("store('k{number}', {number});"), number.to_string());
        let is_hanging = dice.below(6) == 0;
        let source = match (dice.below(5), read) {
            _ if is_hanging => format!("{store} await tools.hang()"),
            (0, _) => format!("{store} text(1)"),
            (1, _) => format!("text(await tools.echo(1)); {store}"),
            (2, _) => format!("text('a'); yield_control(); await tools.nap({{ ms: 9 }}); {store}"),
            (3, Some(key)) => format!(
                "if (load('{key}') !== {}) throw new Error('lost'); {store}",
                self.model.lock().unwrap()[key]
            ),
            _ => format!("{store} throw new Error('on purpose')"),
        };
        let Ok(id) = self.service.allocate_cell_id() else { return };
        let tools = ["echo", "nap", "hang"].map(|name| ToolDefinition::function(name, ""));
        let request = ExecuteRequest {
            enabled_tools: tools.into(),
            yield_time_ms: Some(dice.below(30)),
            ..ExecuteRequest::new(source.clone())
        };
        let executing = self.service.execute_as(id.clone(), request);
        let mut answer = if dice.below(4) == 0 {
            timeout(Duration::from_millis(dice.below(4)), executing).await.ok()
        } else {
            Some(timeout(PATIENCE, executing).await.expect("an answer to an execution"))
        };
        self.started.lock().unwrap().push(id.clone());
        let response = loop {
            match answer {
                Some(Ok(RuntimeResponse::Yielded { .. })) | None => {}
                Some(ended) => break ended,
            }
            let cell_id = id.clone();
            if is_hanging || dice.below(20) == 0 {
                let ended = timeout(PATIENCE, self.service.terminate(cell_id)).await;
                break ended.expect("an answer to a termination").map(ended_response);
            }
            let wait = WaitRequest { cell_id, yield_time_ms: dice.below(40) };
            let waiting = self.service.wait(wait);
            answer = if dice.below(3) == 0 {
                timeout(Duration::from_millis(dice.below(4)), waiting).await.ok()
            } else {
                Some(timeout(PATIENCE, waiting).await.expect("an answer to a wait"))
            }
            .map(|waited| waited.map(RuntimeResponse::from));
        };
        let is_stored = match &response {
            Ok(RuntimeResponse::Result { error_text, .. }) => {
                let error = error_text.as_deref().unwrap_or("");
                let is_gone = error.contains("not found");
                assert!(is_gone || error.is_empty() || error.contains("on purpose"), "{error}");
                !is_gone
            }
            Ok(RuntimeResponse::Terminated { .. } | RuntimeResponse::Yielded { .. }) => false,
            Err(error) => {
                use CodeModeError::{Host, StaleGeneration, Unavailable};
                let is_a_fault = matches!(error, Host(_) | StaleGeneration(_) | Unavailable(_));
                assert!(is_a_fault, "{error:?}");
                false
            }
        };
        if is_stored {
            self.model.lock().unwrap().insert(format!("k{number}"), expected);
        }
        let found = self.values.to_json().contains_key(&format!("k{number}"));
        assert_eq!(found, is_stored, "{source}\n{response:?}");
    }

    /// What must be so once nothing happens any more.
    async fn check(&self) {
        let ended = |log: &[String], id: &CellId| {
            log.iter().filter(|line| **line == format!("closed {id}")).count()
        };
        let started = std::mem::take(&mut *self.started.lock().unwrap());
        let began = Instant::now();
        loop {
            let log = self.tools.log();
            let open: Vec<_> = started.iter().filter(|id| ended(&log, id) == 0).collect();
            if open.is_empty() {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "never closed: {open:?}");
            sleep(Duration::from_millis(10)).await;
        }
        let log = self.tools.log();
        let twice: Vec<_> = started.iter().filter(|id| ended(&log, id) > 1).collect();
        assert!(twice.is_empty(), "closed twice: {twice:?}");
        let calls = |begins: &str| log.iter().filter(|line| line.starts_with(begins)).count();
        assert_eq!(calls("call "), calls("returned "), "a call did not end");
        let values: BTreeMap<_, _> =
            self.values.to_json().into_iter().map(|(key, json)| (key, json.to_string())).collect();
        assert_eq!(values, *self.model.lock().unwrap());
        assert_eq!(self.service.cells(), []);
    }
}

/// The response of a termination.
fn ended_response(outcome: WaitOutcome) -> RuntimeResponse {
    match outcome {
        WaitOutcome::LiveCell(response) | WaitOutcome::MissingCell(response) => response,
    }
}

/// Held by a test that counts descriptors, which are the process's.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors(process: &str) -> usize {
    std::fs::read_dir(Path::new("/proc").join(process).join("fd")).unwrap().count()
}

async fn run(protocol: Protocol, scheme: &'static str, seed: u64, time: Duration) {
    let mut world = World::start(scheme);
    let sessions: Vec<_> =
        (0..SESSIONS).map(|_| Arc::new(Session::open(&world.host(protocol)))).collect();
    let end = Instant::now() + time;
    let mut running = JoinSet::new();
    for (at, session) in (0..).zip(&sessions) {
        for lane in 0..CELLS {
            let session = Arc::clone(session);
            let mut dice = Dice(seed ^ ((at * CELLS + lane + 1) << 32));
            running.spawn(async move {
                let mut number = lane;
                while Instant::now() < end {
                    session.cell(number, &mut dice).await;
                    number += CELLS;
                    dice.pause(3).await;
                }
                number / CELLS
            });
        }
    }
    let mut dice = Dice(seed);
    let mut faults = 0;
    while Instant::now() < end {
        dice.pause(200).await;
        world.fault(&mut dice).await;
        faults += 1;
    }
    let mut cells = 0;
    while let Some(ran) = timeout(PATIENCE, running.join_next()).await.expect("an end") {
        cells += ran.expect("no lane fails");
    }
    assert!(faults > 0 && cells > CELLS * SESSIONS, "{faults} faults, {cells} cells");
    for session in &sessions {
        // The host of now serves what was stored over all of its predecessors.
        let source = "text(1)";
        let ran = async {
            while session.service.execute(ExecuteRequest::new(source)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, ran).await.expect("a host that serves");
        session.check().await;
        timeout(PATIENCE, session.service.shutdown()).await.expect("the end of a session");
    }
    let host = world.served.as_ref().unwrap().child.id().to_string();
    drop(sessions);
    world.link.send_modify(|cuts| *cuts += 1);
    let began = Instant::now();
    // Standard streams, the event loop's, the listener's, and what is read when it starts.
    while descriptors(&host) > 16 {
        assert!(began.elapsed() < PATIENCE, "{} descriptors of the host", descriptors(&host));
        sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn random_faults_lose_nothing_and_double_nothing() {
    let _alone = alone();
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = variable("CELLBLOCK_FAULT_SECONDS").unwrap_or(6);
    let seed = variable("CELLBLOCK_FAULT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    };
    // The first keeps descriptors for the signals of the whole process.
    drop(runtime());
    let before = descriptors("self");
    for (protocol, scheme) in [(Protocol::Framed, "unix"), (Protocol::Grpc, "grpc+unix")] {
        let ran = std::panic::catch_unwind(|| {
            let time = Duration::from_secs(seconds) / 2;
            runtime().block_on(run(protocol, scheme, seed, time));
        });
        assert!(ran.is_ok(), "{protocol:?} fails with the seed {seed}");
        assert_eq!(descriptors("self"), before, "descriptors, with the seed {seed}");
    }
}

/// Names the socket of the host to a client that is to be killed.
const VICTIM: &str = "CELLBLOCK_TEST_VICTIM_OF";

/// Not a test of its own: the client that the next one kills.
#[tokio::test]
async fn a_client_that_is_to_be_killed() {
    let Ok(socket) = std::env::var(VICTIM) else { return };
    let (protocol, path) = match socket.split_once("://").unwrap() {
        ("unix", path) => (Protocol::Framed, path),
        (_, path) => (Protocol::Grpc, path),
    };
    let session = Session::open(&HostProcess::new(HostAddress::unix(protocol, path)));
    let mut cells = Vec::new();
    for number in 0..20 {
        let source = match number % 3 {
            0 => "for (;;) await 0",
            1 => "await tools.hang()",
            _ => "text('x'.repeat(1000)); await new Promise(r => setTimeout(r, 1e6))",
        };
        let request = ExecuteRequest {
            enabled_tools: [ToolDefinition::function("hang", "")].into(),
            yield_time_ms: Some(0),
            ..ExecuteRequest::new(source)
        };
        cells.push(session.service.execute(request).await.unwrap().cell_id().clone());
    }
    println!("victim is ready");
    for cell_id in cells {
        let wait = WaitRequest { cell_id, yield_time_ms: 600_000 };
        let _ = session.service.wait(wait).await;
    }
}

#[test]
fn a_client_that_is_killed_leaves_no_cell_behind() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let _alone = alone();
    for scheme in ["unix", "grpc+unix"] {
        let served = Served::start(scheme, &["--max-cells", "20", "--max-cells-per-session", "20"]);
        let host = served.child.id().to_string();
        let before = descriptors(&host);
        for _ in 0..3 {
            let mut victim = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_client_that_is_to_be_killed", "--nocapture"])
                .env(VICTIM, &served.url)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // All twenty cells that the host admits are its own.
            let output = BufReader::new(victim.stdout.take().unwrap());
            assert!(output.lines().any(|line| line.unwrap().contains("victim is ready")));
            victim.kill().unwrap();
            victim.wait().unwrap();
            let began = Instant::now();
            while descriptors(&host) > before {
                assert!(began.elapsed() < PATIENCE, "descriptors are left");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
