//! `cellblock host --state`: cells that sleep outlive the process of their host, however it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use async_trait::async_trait;
use cellblock::{
    CellId, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, CodeModeTurnWorker,
    ContentItem, ExecuteRequest, Keeping, KeptName, ResumeRequest, RuntimeResponse, StoredValues,
    ToolDefinition, ToolResult, WaitOutcome, WaitRequest,
};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostProcess, ProcessBackend, ProcessLimits};
use cellblock_tests::memory;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{PATIENCE, Served};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const KINDS: [(Protocol, &str); 2] = [(Protocol::Framed, "unix"), (Protocol::Grpc, "grpc+unix")];

/// `echo` returns its input at once, `gate` once the test opens it. Each call is counted.
struct Tools {
    open: watch::Sender<bool>,
    /// Calls that were made, by their tools, and those of `gate` that have returned.
    calls: Mutex<HashMap<String, usize>>,
    kept: Mutex<HashMap<CellId, Keeping>>,
}

impl Tools {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            open: watch::Sender::new(false),
            calls: Mutex::default(),
            kept: Mutex::default(),
        })
    }

    fn count(&self, what: &str) {
        *self.calls.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    fn calls(&self, tool: &str) -> usize {
        self.calls.lock().unwrap().get(tool).copied().unwrap_or_default()
    }

    /// Cells that are kept now.
    fn kept(&self) -> Vec<(CellId, KeptName)> {
        let kept = self.kept.lock().unwrap();
        let kept = kept.iter().filter_map(|(id, keeping)| match keeping {
            Keeping::Kept(name) => Some((id.clone(), *name)),
            Keeping::Removed => None,
        });
        kept.collect()
    }
}

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.count(&call.tool_name.name);
        if call.tool_name.name == "gate" {
            self.open.subscribe().wait_for(|is_open| *is_open).await.unwrap();
            self.count("gate returned");
        }
        Ok(call.input.map_or_else(|| serde_json::Value::Null.into(), ToolResult::from))
    }

    fn cell_kept(&self, cell_id: &CellId, keeping: Keeping) {
        self.kept.lock().unwrap().insert(cell_id.clone(), keeping);
    }
}

/// A host with a folder for its cells, which is killed and started again.
struct Host {
    scheme: &'static str,
    folder: TempDir,
    served: Served,
}

impl Host {
    /// Memory that is its own, in bytes.
    fn memory(&self) -> usize {
        memory::own_of(&self.served.child.id().to_string())
    }

    fn start(scheme: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let served = Self::serve(scheme, folder.path());
        Self { scheme, folder, served }
    }

    fn serve(scheme: &str, folder: &Path) -> Served {
        let state = folder.join("state").display().to_string();
        let arguments = ["--state", &state, "--sleeps-after", "1ms", "--max-cells", "200000"];
        Served::start_at(&format!("{scheme}://{}", folder.join("host").display()), &arguments)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.served.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.served.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.served = Self::serve(self.scheme, self.folder.path());
    }

    fn process(&self, protocol: Protocol) -> HostProcess {
        HostProcess::new(HostAddress::unix(protocol, self.folder.path().join("host")))
    }
}

struct Session {
    service: Arc<CodeModeService>,
    values: StoredValues,
    tools: Arc<Tools>,
    _worker: CodeModeTurnWorker,
}

impl Session {
    fn open(host: &HostProcess) -> Self {
        let (values, tools) = (StoredValues::new(), Tools::new());
        let limits = ProcessLimits { unread_results: 1_000, ..ProcessLimits::default() };
        let backend = Arc::new(ProcessBackend::with_limits(host, limits));
        let service = Arc::new(CodeModeService::with_stored_values(backend, values.clone()));
        let worker = service.start_turn_worker(Arc::clone(&tools) as _);
        Self { service, values, tools, _worker: worker }
    }

    async fn start(&self, source: &str) -> CellId {
        let request = ExecuteRequest {
            enabled_tools: ["echo", "gate"].map(|name| ToolDefinition::function(name, "")).into(),
            yield_time_ms: Some(0),
            ..ExecuteRequest::new(source)
        };
        let id = self.service.allocate_cell_id().unwrap();
        self.service.execute_as(id.clone(), request).await.unwrap();
        id
    }

    /// Waits until so many cells are kept.
    async fn kept(&self, count: usize) {
        until("the cells are kept", || self.tools.kept().len() == count).await;
    }

    /// All that a cell says from here on, and its error.
    async fn rest(&self, id: &CellId) -> (Vec<String>, Option<String>) {
        let mut said = Vec::new();
        loop {
            let request = WaitRequest { cell_id: id.clone(), yield_time_ms: 60_000 };
            let outcome = match self.service.wait(request).await {
                Ok(WaitOutcome::LiveCell(outcome)) => outcome,
                Ok(WaitOutcome::MissingCell(missing)) => panic!("{missing:?}"),
                Err(error) => return (said, Some(error.to_string())),
            };
            for item in outcome.content_items() {
                let ContentItem::InputText { text } = item else { panic!("{item:?}") };
                said.push(text.clone());
            }
            match outcome {
                RuntimeResponse::Yielded { .. } => {}
                RuntimeResponse::Result { error_text, .. } => return (said, error_text),
                RuntimeResponse::Terminated { .. } => return (said, Some("terminated".to_owned())),
            }
        }
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

const PROGRAM: &str = "
    text('before'); store('key' + N, N); let counter = 0; const bump = () => ++counter; bump();
    text('gate ' + await tools.gate(N)); text('echo ' + await tools.echo(bump())); text('end ' + N);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_that_wait_outlive_the_kill_of_their_host() {
    const CELLS: usize = 60;
    for (protocol, scheme) in KINDS {
        let mut host = Host::start(scheme);
        let session = Session::open(&host.process(protocol));
        let mut cells = Vec::new();
        for number in 0..CELLS {
            let id = session.start(&PROGRAM.replace('N', &number.to_string())).await;
            // Some of the output is received before the host is killed, and some is not.
            let request = WaitRequest { cell_id: id.clone(), yield_time_ms: 0 };
            let before = if number % 2 == 0 {
                let outcome = session.service.wait(request).await.unwrap();
                RuntimeResponse::from(outcome).content_items().len()
            } else {
                0
            };
            cells.push((number, id, before));
        }
        session.kept(CELLS).await;
        host.kill();
        // The host is not there yet when the gate opens for some of them.
        session.tools.open.send_replace(true);
        host.start_again();
        for (number, id, before) in cells {
            let (said, error) = session.rest(&id).await;
            assert_eq!(error, None, "cell {number}");
            let mut expected = vec![
                "before".to_owned(),
                format!("gate {number}"),
                "echo 2".to_owned(),
                format!("end {number}"),
            ];
            // What was received at the start was received there.
            let received = expected.len() - said.len();
            assert!(received <= 1 && before <= 1, "cell {number}: {said:?}");
            assert_eq!(said, expected.split_off(received), "cell {number}");
            assert_eq!(session.service.stored_values()[&format!("key{number}")], number);
        }
        let calls = (session.tools.calls("gate"), session.tools.calls("echo"));
        assert_eq!(calls, (CELLS, CELLS), "no call is made twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_may_be_killed_again_before_anything_has_happened() {
    for (protocol, scheme) in KINDS {
        let mut host = Host::start(scheme);
        let session = Session::open(&host.process(protocol));
        let waiting = session.start("text(await tools.gate('once'))").await;
        let timed = session
            .start(
                "const began = Date.now(); await new Promise((done) => setTimeout(done, 300)); \
                    text(Date.now() - began >= 300)",
            )
            .await;
        let ended = session.start("await tools.gate(1)").await;
        session.kept(3).await;
        for _ in 0..3 {
            host.kill();
            session.tools.kept.lock().unwrap().remove(&waiting);
            host.start_again();
            until("it sleeps on", || session.tools.kept().iter().any(|(id, _)| *id == waiting))
                .await;
        }
        let outcome = session.service.terminate(ended).await.unwrap();
        assert!(matches!(RuntimeResponse::from(outcome), RuntimeResponse::Terminated { .. }));
        assert_eq!(session.rest(&timed).await, (vec!["true".to_owned()], None));
        session.tools.open.send_replace(true);
        assert_eq!(session.rest(&waiting).await, (vec!["once".to_owned()], None));
        assert_eq!(session.tools.calls("gate"), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_call_that_the_host_had_not_read_is_sent_to_the_next() {
    for (protocol, scheme) in KINDS {
        let mut host = Host::start(scheme);
        let session = Session::open(&host.process(protocol));
        let id = session.start("text(await tools.gate('answer'))").await;
        session.kept(1).await;
        host.signal(Signal::STOP);
        session.tools.open.send_replace(true);
        until("the tool has returned", || session.tools.calls("gate returned") == 1).await;
        host.kill();
        host.start_again();
        assert_eq!(session.rest(&id).await, (vec!["answer".to_owned()], None));
        assert_eq!(session.tools.calls("gate"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_ran_is_lost_with_its_host_and_not_run_again() {
    for (protocol, scheme) in KINDS {
        let mut host = Host::start(scheme);
        let session = Session::open(&host.process(protocol));
        let source = "await tools.gate(1); text('on'); for (;;) { await tools.echo(1) }";
        let id = session.start(source).await;
        session.kept(1).await;
        session.tools.open.send_replace(true);
        until("it runs", || session.tools.calls("echo") > 10).await;
        host.kill();
        host.start_again();
        let (_, error) = session.rest(&id).await;
        let error = error.unwrap();
        assert!(error.contains("code-mode host"), "{error}");
        let calls = session.tools.calls("echo");
        // The session goes on, with the next host.
        let next = session.start("text(await tools.echo(7))").await;
        assert_eq!(session.rest(&next).await, (vec!["7".to_owned()], None));
        assert_eq!(session.tools.calls("echo"), calls + 1);
        assert_eq!(session.tools.calls("gate"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_ended_too_comes_back_with_the_name() {
    for (protocol, scheme) in KINDS {
        let mut host = Host::start(scheme);
        let session = Session::open(&host.process(protocol));
        session.start("text('a'); text(await tools.gate(1).catch((error) => error))").await;
        session.kept(1).await;
        let (_, name) = session.tools.kept()[0].clone();
        // The host goes first: a client that goes ends its cells.
        host.kill();
        session.service.shutdown().await;
        drop(session);
        host.start_again();
        let session = Session::open(&host.process(protocol));
        let resume = |received| {
            let backend = session.service.backend();
            let id = session.service.allocate_cell_id().unwrap();
            let request = ResumeRequest { name, received, yield_time_ms: Some(60_000) };
            let values = session.values.clone();
            async move { backend.resume(id, request, values).await }
        };
        let response = resume(0).await.unwrap();
        let items = serde_json::to_string(response.content_items()).unwrap();
        assert!(items.contains("\"a\"") && items.contains("its end is not known"), "{items}");
        let again = resume(0).await.unwrap_err().to_string();
        assert!(again.contains("no cell is kept under this name"), "{again}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_asked_to_end_leaves_the_cells_that_wait() {
    for (protocol, scheme) in KINDS {
        let mut host = Host::start(scheme);
        let session = Session::open(&host.process(protocol));
        let waiting = session.start("text(await tools.gate('waited'))").await;
        session.kept(1).await;
        // Of one that runs, what it says arrives: from here if it ends in time, from the next host
        // if it was kept because a call took long.
        let request = ExecuteRequest {
            enabled_tools: [ToolDefinition::function("echo", "")].into(),
            yield_time_ms: Some(60_000),
            ..ExecuteRequest::new("for (let i = 0; i < 500; i++) await tools.echo(i); text('ran')")
        };
        let service = Arc::clone(&session.service);
        let running = tokio::spawn(async move { service.execute(request).await });
        until("it runs", || session.tools.calls("echo") > 0).await;
        host.signal(Signal::TERM);
        let status = host.served.child.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{status:?}");
        host.start_again();
        let response = running.await.unwrap().unwrap();
        assert!(
            matches!(response, RuntimeResponse::Result { error_text: None, .. }),
            "{response:?}"
        );
        session.tools.open.send_replace(true);
        assert_eq!(session.rest(&waiting).await, (vec!["waited".to_owned()], None));
        assert_eq!(session.tools.calls("gate"), 1);
    }
}

/// Prints what a hundred thousand cells take, or as many as `CELLBLOCK_STATE_CELLS` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
#[allow(clippy::print_stdout, reason = "it prints figures")]
async fn a_hundred_thousand_cells_outlive_the_kill_of_their_host() {
    /// Nested calls that one connection may have in flight are a few more.
    const OF_A_CONNECTION: usize = 1_000;
    let count = std::env::var("CELLBLOCK_STATE_CELLS").ok();
    let count = count.map_or(100_000, |count| count.parse::<usize>().unwrap());
    let mut host = Host::start("unix");
    let mut began = Instant::now();
    let mut lap = || {
        let lap = began.elapsed();
        began = Instant::now();
        lap
    };
    let mut sessions = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..count.div_ceil(OF_A_CONNECTION) {
        let session = Session::open(&host.process(Protocol::Framed));
        for _ in 0..OF_A_CONNECTION.min(count - waiting.len()) {
            let number = waiting.len();
            let id = session.start(&format!("text({number} + await tools.gate(1))")).await;
            waiting.push((sessions.len(), number, id));
        }
        sessions.push(session);
    }
    println!("{count} cells started in {:?}", lap());
    let kept = |sessions: &[Session]| {
        sessions.iter().map(|session| session.tools.kept().len()).sum::<usize>()
    };
    while kept(&sessions) < count {
        sleep(Duration::from_millis(50)).await;
    }
    println!("all kept after {:?}; {} MB in all (PSS)", lap(), host.memory() / 1_000_000);
    for session in &sessions {
        session.tools.kept.lock().unwrap().clear();
    }
    host.kill();
    host.start_again();
    println!("started again after {:?}", lap());
    while kept(&sessions) < count {
        sleep(Duration::from_millis(50)).await;
    }
    println!("all there again after {:?}; {} MB in all", lap(), host.memory() / 1_000_000);
    for session in &sessions {
        session.tools.open.send_replace(true);
    }
    for (session, number, id) in waiting {
        let rest = sessions[session].rest(&id).await;
        assert_eq!(rest, (vec![(number + 1).to_string()], None));
    }
    println!("all ended after {:?}", lap());
}
