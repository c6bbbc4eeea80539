//! The backend that reaches a host in another process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cellblock::{
    CodeModeError, CodeModeService, ContentItem, ExecuteRequest, RuntimeResponse, WaitOutcome,
    WaitRequest,
};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::protocol::frame;
use cellblock_remote::{HostAddress, HostCommand, HostProcess, ProcessBackend, ProcessLimits};
use cellblock_tests::contract::Host as TestHost;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{PATIENCE, PROGRAM, Served, get};

fn service(address: HostAddress) -> (CodeModeService, HostProcess) {
    let host = HostProcess::new(address);
    (CodeModeService::new(Arc::new(ProcessBackend::new(&host))), host)
}

fn text(response: &RuntimeResponse) -> &str {
    match response.content_items() {
        [ContentItem::InputText { text }] => text,
        other => panic!("not one text: {other:?}"),
    }
}

#[tokio::test]
async fn every_address_reaches_a_host() {
    let (unix, grpc_unix) = (Served::start("unix", &[]), Served::start("grpc+unix", &[]));
    let grpc = Served::start("grpc", &[]);
    assert_eq!(get(grpc.address(), "/healthz", ""), "HTTP/1.1 200 OK");
    for address in [
        HostAddress::unix(Protocol::Framed, &unix.socket),
        HostAddress::unix(Protocol::Grpc, &grpc_unix.socket),
        HostAddress::grpc(grpc.address().parse().unwrap()),
    ] {
        let (service, _host) = service(address.clone());
        let response = service.execute(ExecuteRequest::new("text(6 * 7)")).await;
        assert_eq!(text(&response.unwrap_or_else(|error| panic!("{address:?}: {error}"))), "42");
        service.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_closed_leaves_the_others_of_its_connection_alone() {
    for (protocol, listen) in [(Protocol::Framed, "stdio"), (Protocol::Grpc, "grpc+stdio://")] {
        let command = HostCommand::new(PROGRAM).args(["host", "--listen", listen]);
        let host = HostProcess::new(HostAddress::child(protocol, command));
        let session = || CodeModeService::new(Arc::new(ProcessBackend::new(&host)));
        let kept = session();
        kept.execute(ExecuteRequest::new("store('kept', 1)")).await.unwrap();
        let source = "text('first'); yield_control(); await new Promise((r) => setTimeout(r, 1e9))";
        let first = kept.execute(ExecuteRequest::new(source)).await.unwrap();
        assert_eq!(text(&first), "first");
        for _ in 0..20 {
            let mut closing = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let service = session();
                closing.spawn(async move {
                    let ran = service.execute(ExecuteRequest::new("text(1)")).await;
                    service.shutdown().await;
                    ran
                });
            }
            while let Some(ran) = closing.join_next().await {
                assert_eq!(text(&ran.unwrap().unwrap()), "1");
            }
        }
        let program = ExecuteRequest::new("text(load('kept'))");
        assert_eq!(text(&kept.execute(program).await.unwrap()), "1", "{protocol:?}");
        assert_eq!(kept.cells().len(), 1);
        kept.shutdown().await;
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_unavailable() {
    let (service, _host) =
        service(HostAddress::child(Protocol::Framed, HostCommand::new("/no/such/host")));
    let why = "failed to spawn code-mode host /no/such/host: host executable was not found";
    let unavailable = CodeModeError::Unavailable(why.to_owned());
    assert_eq!(service.backend().availability(), Err(unavailable.clone()));
    let refused = service.execute(ExecuteRequest::new("")).await;
    assert_eq!(refused, Err(unavailable));
    assert!(service.cells().is_empty());
}

#[tokio::test]
async fn a_program_that_is_not_a_host_is_unavailable() {
    let (service, _host) =
        service(HostAddress::child(Protocol::Framed, HostCommand::new("/bin/true")));
    let refused = service.execute(ExecuteRequest::new("")).await.unwrap_err();
    assert!(refused.to_string().contains("code-mode host handshake failed"), "{refused}");
}

/// The processes that were started by this path.
fn started_by(link: &Path) -> Vec<u32> {
    let link = link.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
        line.split(|byte| *byte == 0).next().is_some_and(|first| first == link).then_some(id)
    });
    processes.collect()
}

fn killed(protocol: Protocol, listen: &str) {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("host");
    std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
    let command = HostCommand::new(&link).args(["host", "--listen", listen]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (service, host) = service(HostAddress::child(protocol, command));
        let turn = Arc::new(TestHost::default());
        let _worker = service.start_turn_worker(Arc::clone(&turn) as _);
        let tools = cellblock_tests::contract::Bench::request("store('k', 1); await tools.hang()");
        let mut ids = Vec::new();
        for _ in 0..2 {
            let request = ExecuteRequest { yield_time_ms: Some(0), ..tools.clone() };
            ids.push(service.execute(request).await.unwrap().cell_id().clone());
        }
        while turn.log().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiting = tokio::spawn({
            let (service, cell_id) = (service.clone(), ids[0].clone());
            async move { service.wait(WaitRequest { cell_id, yield_time_ms: 60_000 }).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let [child] = started_by(&link)[..] else { panic!("one host") };
        let pid = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // Every caller that waits receives the reason, every cell closes once, and its calls are
        // cancelled.
        let lost = waiting.await.unwrap().unwrap_err();
        assert!(matches!(lost, CodeModeError::Host(_)), "{lost:?}");
        let began = Instant::now();
        let closed =
            |id: &str| turn.log().iter().filter(|line| **line == format!("closed {id}")).count();
        while closed("1") + closed("2") < 2 {
            assert!(began.elapsed() < PATIENCE, "{:?}", turn.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((closed("1"), closed("2")), (1, 1));
        assert_eq!(turn.log().iter().filter(|line| *line == "returned hang").count(), 2);
        // The next program starts the next generation; the old one's cells are stale.
        let response =
            service.execute(ExecuteRequest::new("text(String(load('k')))")).await.unwrap();
        assert_eq!((response.cell_id().as_ref(), text(&response)), ("g2:1", "undefined"));
        let stale = service.wait(WaitRequest { cell_id: "2".into(), yield_time_ms: 1 }).await;
        assert_eq!(stale, Err(CodeModeError::StaleGeneration("2".into())));
        let message = "cell 2 belongs to a stale code-mode host generation";
        assert_eq!(stale.unwrap_err().to_string(), message);
        let gone = service.wait(WaitRequest { cell_id: "g2:1".into(), yield_time_ms: 1 }).await;
        assert!(matches!(gone, Ok(WaitOutcome::MissingCell(_))), "{gone:?}");
        // With the last handle the child goes, too.
        let [child] = started_by(&link)[..] else { panic!("one host") };
        drop((service, host));
        let began = Instant::now();
        while Path::new(&format!("/proc/{child}")).exists() {
            assert!(began.elapsed() < PATIENCE, "an orphan");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_killed_host_closes_its_cells_and_is_started_again() {
    killed(Protocol::Framed, "stdio");
}

#[test]
fn a_killed_grpc_host_closes_its_cells_and_is_started_again() {
    killed(Protocol::Grpc, "grpc+stdio://");
}

#[tokio::test]
async fn limits_of_a_session_travel() {
    for (listen, protocol) in [("stdio", Protocol::Framed), ("grpc+stdio://", Protocol::Grpc)] {
        let command = HostCommand::new(PROGRAM).args(["host", "--listen", listen]);
        let limits = ProcessLimits {
            max_yield_time_ms: Some(0),
            max_heap_size_bytes: Some(8 << 20),
            ..ProcessLimits::default()
        };
        let backend = ProcessBackend::with_limits(
            &HostProcess::new(HostAddress::child(protocol, command)),
            limits,
        );
        let service = CodeModeService::new(Arc::new(backend));
        let spin = ExecuteRequest::new("for (;;);");
        assert!(matches!(service.execute(spin).await, Ok(RuntimeResponse::Yielded { .. })));
        let greedy =
            ExecuteRequest::new("const all = []; for (;;) all.push('x'.repeat(1e6) + all.length)");
        let cell_id = service.execute(greedy).await.unwrap().cell_id().clone();
        let RuntimeResponse::Result { error_text: Some(error), .. } = (loop {
            let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: 1_000 };
            let response = RuntimeResponse::from(service.wait(wait).await.unwrap());
            if !matches!(response, RuntimeResponse::Yielded { .. }) {
                break response;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }) else {
            panic!("no error")
        };
        assert!(error.contains("memory limit of 8388608 bytes"), "{listen}: {error}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_long_fails_alone() {
    for (listen, protocol) in [("stdio", Protocol::Framed), ("grpc+stdio://", Protocol::Grpc)] {
        let command = HostCommand::new(PROGRAM).args(["host", "--listen", listen]);
        let (service, _host) = service(HostAddress::child(protocol, command));
        let long = ExecuteRequest::new("x".repeat(frame::MAX_BYTES + 1));
        let refused = service.execute(long).await.unwrap_err();
        assert!(!matches!(refused, CodeModeError::EndedUnexpectedly), "{refused:?}");
        let response = service.execute(ExecuteRequest::new("text('on')")).await.unwrap();
        assert_eq!(text(&response), "on", "{listen}");
    }
}
