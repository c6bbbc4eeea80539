//! Links and processes that fail: every cell ends once, and what it stored is merged with its
//! result or not at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cellblock::{
    CellId, CodeModeError, CodeModeService, ExecuteRequest, RuntimeResponse, StoredValues,
    ToolDefinition, WaitOutcome, WaitRequest,
};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostProcess, ProcessBackend};
use cellblock_tests::contract::Host as TestHost;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::{PATIENCE, Served};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const KINDS: [(Protocol, &str); 2] = [(Protocol::Framed, "unix"), (Protocol::Grpc, "grpc+unix")];

struct Session {
    service: CodeModeService,
    values: StoredValues,
    turn: Arc<TestHost>,
    _worker: cellblock::CodeModeTurnWorker,
}

impl Session {
    fn open(host: &HostProcess) -> Self {
        let values = StoredValues::new();
        let backend = Arc::new(ProcessBackend::new(host));
        let service = CodeModeService::with_stored_values(backend, values.clone());
        let turn = Arc::new(TestHost::default());
        let worker = service.start_turn_worker(Arc::clone(&turn) as _);
        Self { service, values, turn, _worker: worker }
    }

    fn closed(&self, id: &CellId) -> usize {
        self.turn.log().iter().filter(|line| **line == format!("closed {id}")).count()
    }
}

fn program(source: &str, yield_time_ms: u64) -> ExecuteRequest {
    let tools = ["echo", "hang"].map(|name| ToolDefinition::function(name, ""));
    ExecuteRequest {
        enabled_tools: tools.into(),
        yield_time_ms: Some(yield_time_ms),
        ..ExecuteRequest::new(source)
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

fn signal(served: &Served, signal: Signal) {
    let pid = i32::try_from(served.child.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_ends_a_hundred_cells_in_every_state_once() {
    for (protocol, scheme) in KINDS {
        let mut served =
            Served::start(scheme, &["--max-cells", "128", "--max-cells-per-session", "128"]);
        let host = HostProcess::new(HostAddress::unix(protocol, &served.socket));
        let session = Session::open(&host);
        let kept = session.service.execute(program("store('kept', 1)", 60_000)).await.unwrap();
        let mut ids = Vec::new();
        for number in 0..100 {
            let source = match number % 5 {
                0 => "for (;;) await 0",
                1 => "store('lost', 1); await tools.hang()",
                2 => "text('up'); yield_control(); await new Promise((r) => setTimeout(r, 1e9))",
                3 => "yield_control(); store(`ended${1}`, 1)",
                _ => "notify('hang'); await new Promise(() => {})",
            };
            let response = session.service.execute(program(source, 0)).await.unwrap();
            ids.push(response.cell_id().clone());
        }
        until("a cell has ended", || session.values.to_json().contains_key("ended1")).await;
        let mut waiting = JoinSet::new();
        for id in ids.iter().skip(50).filter(|id| id.as_ref() != "3").cloned() {
            let service = session.service.clone();
            waiting.spawn(async move {
                service.wait(WaitRequest { cell_id: id, yield_time_ms: 600_000 }).await
            });
        }
        sleep(Duration::from_millis(100)).await;
        signal(&served, Signal::KILL);
        served.child.wait().unwrap();
        while let Some(waited) = waiting.join_next().await {
            match waited.unwrap() {
                // Its result had come before.
                Ok(outcome) => {
                    let response = RuntimeResponse::from(outcome);
                    let ended = matches!(response, RuntimeResponse::Result { .. });
                    assert!(ended || !response.content_items().is_empty(), "{response:?}");
                }
                Err(CodeModeError::Host(why)) => assert!(why.contains("code-mode host"), "{why}"),
                Err(other) => panic!("{other:?}"),
            }
        }
        for id in &ids {
            until("every cell is closed", || session.closed(id) == 1).await;
        }
        sleep(Duration::from_millis(50)).await;
        assert!(ids.iter().all(|id| session.closed(id) == 1), "a cell was closed twice");
        assert_eq!(session.closed(kept.cell_id()), 1);
        let mut keys: Vec<_> = session.values.to_json().into_keys().collect();
        keys.sort();
        assert_eq!(keys, ["ended1", "kept"], "{protocol:?}");
        // Results that had come can still be fetched; all others are gone.
        for cell in session.service.cells() {
            let wait = WaitRequest { cell_id: cell.cell_id, yield_time_ms: 0 };
            session.service.wait(wait).await.unwrap();
        }
        assert!(session.service.cells().is_empty());
        timeout(PATIENCE, session.service.shutdown()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_stalls_and_comes_back_loses_nothing() {
    for (protocol, scheme) in KINDS {
        let served = Served::start(scheme, &[]);
        let host = HostProcess::new(HostAddress::unix(protocol, &served.socket));
        let session = Arc::new(Session::open(&host));
        session.service.execute(program("text(0)", 60_000)).await.unwrap();
        let mut running = JoinSet::new();
        for number in 0..20 {
            let session = Arc::clone(&session);
            running.spawn(async move {
                let source =
                    format!("const r = await tools.echo({number}); store('k' + r, r); text(r)");
                (number, session.service.execute(program(&source, 60_000)).await.unwrap())
            });
        }
        signal(&served, Signal::STOP);
        sleep(Duration::from_millis(500)).await;
        signal(&served, Signal::CONT);
        while let Some(ran) = running.join_next().await {
            let (number, response) = ran.unwrap();
            let text = serde_json::to_value(response.content_items()).unwrap();
            assert_eq!(text[0]["text"], number.to_string(), "{response:?}");
        }
        assert_eq!(session.values.to_json().len(), 20);
        session.service.shutdown().await;
    }
}

/// The end of a cell, the fetching of its result and a termination may come at one time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_that_meets_the_end_of_its_cell_loses_nothing() {
    for (protocol, scheme) in KINDS {
        let served = Served::start(scheme, &[]);
        let host = HostProcess::new(HostAddress::unix(protocol, &served.socket));
        let session = Arc::new(Session::open(&host));
        for round in 0..30 {
            let mut running = JoinSet::new();
            for number in 0..16 {
                let (session, key) = (Arc::clone(&session), round * 16 + number);
                running.spawn(async move {
                    let source = format!(
                        "text('a'); yield_control(); await new Promise((r) => setTimeout(r, {}));                          text('b'); store('k{key}', 1)",
                        number % 3
                    );
                    let yielded =
                        session.service.execute(program(&source, 60_000)).await.unwrap();
                    if number % 2 == 0 {
                        sleep(Duration::from_millis(1)).await;
                    }
                    let id = yielded.cell_id().clone();
                    (key, session.service.terminate(id).await.unwrap())
                });
            }
            while let Some(ran) = running.join_next().await {
                let (key, outcome) = ran.unwrap();
                let has_ended = match &outcome {
                    WaitOutcome::LiveCell(RuntimeResponse::Result { error_text: None, .. }) => true,
                    WaitOutcome::LiveCell(RuntimeResponse::Terminated { .. }) => false,
                    other => panic!("{protocol:?}: {other:?}"),
                };
                let stored = session.values.to_json().contains_key(&format!("k{key}"));
                assert_eq!(stored, has_ended, "{protocol:?}, k{key}");
            }
        }
        session.service.shutdown().await;
    }
}

/// Passes bytes on between a client and a host, until it has passed on so many of the
/// host's; then it cuts the connection. Later connections are not cut.
struct Relay {
    dir: TempDir,
}

impl Relay {
    fn start(socket: &Path, cut_after: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("relay")).unwrap();
        let socket = socket.to_owned();
        tokio::spawn(async move {
            let mut cut_after = Some(cut_after);
            while let Ok((client, _)) = listener.accept().await {
                let host = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(pass_on(client, host, cut_after.take()));
            }
        });
        Self { dir }
    }

    fn host(&self, protocol: Protocol) -> HostProcess {
        HostProcess::new(HostAddress::unix(protocol, self.dir.path().join("relay")))
    }
}

async fn pass_on(client: UnixStream, host: UnixStream, mut left: Option<usize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_host, mut to_host) = host.into_split();
    let requests = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_host).await;
    });
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = from_host.read(&mut buffer).await {
        let passed = left.map_or(count, |left| left.min(count));
        if to_client.write_all(&buffer[..passed]).await.is_err() {
            break;
        }
        if let Some(left) = &mut left {
            *left -= passed;
            if *left == 0 {
                break;
            }
        }
    }
    requests.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_anywhere_merges_what_has_its_result_and_nothing_else() {
    for (protocol, scheme) in KINDS {
        let served = Served::start(scheme, &[]);
        for round in 0_usize..40 {
            // From the middle of the handshake to the middle of a response.
            let relay = Relay::start(&served.socket, 17 + round * 137);
            let session = Arc::new(Session::open(&relay.host(protocol)));
            let mut running = JoinSet::new();
            for number in 0..8 {
                let session = Arc::clone(&session);
                running.spawn(async move {
                    let source = format!(
                        "store('k{number}', await tools.echo({number})); text('x'.repeat(200))"
                    );
                    (number, session.service.execute(program(&source, 60_000)).await)
                });
            }
            let mut ended = Vec::new();
            while let Some(ran) = timeout(PATIENCE, running.join_next()).await.unwrap() {
                let (number, ran) = ran.unwrap();
                match ran {
                    Ok(RuntimeResponse::Result { error_text: None, .. }) => {
                        ended.push(format!("k{number}"));
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(CodeModeError::Host(_) | CodeModeError::Unavailable(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            ended.sort();
            let mut keys: Vec<_> = session.values.to_json().into_keys().collect();
            keys.sort();
            assert_eq!(keys, ended, "{protocol:?}, round {round}");
            // The next generation goes on with the same values.
            let source = "text(ALL_TOOLS.length); store('next', 1)";
            session.service.execute(program(source, 60_000)).await.unwrap();
            assert_eq!(session.values.to_json().len(), ended.len() + 1);
            assert!(session.service.cells().is_empty());
            timeout(PATIENCE, session.service.shutdown()).await.unwrap();
        }
    }
}
