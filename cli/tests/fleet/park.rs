//! Cells that a fleet keeps while they wait: no worker has them, and any of them wakes one.

use crate::cells::{Tools, calls_of, request, service, waiting};
use crate::cluster::{Cluster, Worker, class, reports, serving, until};
use crate::kept::Kept;
use async_trait::async_trait;
use cellblock::{
    CallEnd, CellId, CodeModeError, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost,
    ContentItem, ParkError, RuntimeResponse, ToolResult, WaitRequest,
};
use cellblock_remote::NatsBackend;
use rustix::process::Signal;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Workers of a class of their own, with a park key of their own.
struct Fleet {
    cluster: &'static Cluster,
    class: String,
    dir: TempDir,
    workers: Vec<Worker>,
}

impl Fleet {
    async fn start(workers: usize, arguments: &[&str]) -> Option<Self> {
        let cluster = Cluster::shared()?;
        let dir = tempfile::tempdir().unwrap();
        let mut fleet = Self { cluster, class: class(), dir, workers: Vec::new() };
        for _ in 0..workers {
            fleet.add(arguments).await;
        }
        Some(fleet)
    }

    /// One more worker, which serves when this returns.
    async fn add(&mut self, arguments: &[&str]) {
        let key = self.dir.path().join("park.key");
        let key = ["--park-key", key.to_str().unwrap()];
        let before = reports(self.cluster, &self.class).await.len();
        self.workers.push(Worker::spawn(self.cluster, &self.class, &[&key, arguments].concat()));
        serving(self.cluster, &self.class, before + 1).await;
    }

    /// Ends the oldest worker, as an upgrade does, and waits until it has gone.
    fn drain(&mut self) {
        let mut worker = self.workers.remove(0);
        worker.signal(Signal::TERM);
        worker.wait();
    }

    fn service(&self, tenant: &str) -> CodeModeService {
        service(&self.cluster.fleet(tenant, &self.class))
    }

    fn kept(&self) -> Kept {
        Kept::connect(self.cluster)
    }

    /// Cells that workers have.
    async fn cells(&self) -> usize {
        reports(self.cluster, &self.class).await.iter().map(|report| report.cells).sum()
    }
}

/// A tool that returns what it was given once the gate is open.
struct Gate {
    open: watch::Sender<bool>,
    calls: AtomicUsize,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { open: watch::Sender::new(false), calls: AtomicUsize::new(0) })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl CodeModeTurnHost for Gate {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.subscribe();
        tokio::select! {
            _ = open.wait_for(|open| *open) => {}
            () = cancellation.cancelled() => return Err("it was cancelled".to_owned()),
        }
        Ok(call.input.map_or(Value::Null, |input| input.into_value()).into())
    }
}

/// The end of a cell, with all that it said until then.
async fn ended(
    service: &CodeModeService,
    cell_id: &CellId,
) -> Result<(String, bool), CodeModeError> {
    let mut said = String::new();
    loop {
        let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: 60_000 };
        let response: RuntimeResponse = service.wait(wait).await?.into();
        for item in response.content_items() {
            let ContentItem::InputText { text } = item else { panic!("{item:?}") };
            said += text;
        }
        match response {
            RuntimeResponse::Yielded { .. } => {}
            RuntimeResponse::Result { error_text: None, .. } => return Ok((said, true)),
            RuntimeResponse::Terminated { .. } => return Ok((said, false)),
            other @ RuntimeResponse::Result { .. } => panic!("{other:?}"),
        }
    }
}

/// Waits for a call, for what it returns, and stores it.
const CALLS: &str = "text('begun '); const all = [tools.echo('one'), tools.echo('two')];
    text((await Promise.all(all)).join()); store('end', await tools.echo('three'))";

/// Waits for a timer.
const SLEEPS: &str = "await new Promise((done) => setTimeout(done, 4000)); text('slept')";

#[tokio::test]
async fn a_rolling_restart_loses_no_cell_that_waits() {
    let Some(mut fleet) = Fleet::start(2, &[]).await else { return };
    let service = fleet.service("t1");
    let gate = Gate::new();
    let _turn = service.start_turn_worker(Arc::clone(&gate) as _);
    let (mut calling, mut sleeping) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        calling.push(waiting(&service, CALLS).await);
        sleeping.push(waiting(&service, SLEEPS).await);
    }
    until(async || gate.calls() == 20).await;
    // One of them is waited for throughout.
    let waited = ended(&service, &calling[0]);
    let restarting = async {
        for _ in 0..2 {
            fleet.drain();
            fleet.add(&[]).await;
        }
        gate.open.send_replace(true);
    };
    let (waited, ()) = tokio::join!(waited, restarting);
    assert_eq!(waited, Ok(("begun one,two".to_owned(), true)));
    for cell_id in &calling[1..] {
        assert_eq!(ended(&service, cell_id).await, Ok(("begun one,two".to_owned(), true)));
    }
    for cell_id in &sleeping {
        assert_eq!(ended(&service, cell_id).await, Ok(("slept".to_owned(), true)));
    }
    // No call was made again, and what was stored is there.
    assert_eq!(gate.calls(), 30);
    assert_eq!(service.stored_values()["end"], "three");
    assert!(service.cells().is_empty());
}

#[tokio::test]
async fn cells_that_sleep_are_on_no_worker_until_something_comes() {
    let Some(fleet) = Fleet::start(2, &["--park-after", "500ms"]).await else { return };
    let service = fleet.service("t1");
    let gate = Gate::new();
    let _turn = service.start_turn_worker(Arc::clone(&gate) as _);
    let calling = waiting(&service, CALLS).await;
    let stopped = waiting(&service, "text('to be ended'); await tools.echo(1)").await;
    let sleeping = waiting(&service, SLEEPS).await;
    until(async || gate.calls() == 3).await;
    until(async || fleet.cells().await == 0).await;
    assert_eq!(service.cells().len(), 3);
    // A timer, the end of a call, and somebody who ends the cell.
    until(async || {
        !service
            .cells()
            .iter()
            .any(|cell| cell.cell_id == sleeping && cell.state != cellblock::CellState::Finished)
    })
    .await;
    assert_eq!(ended(&service, &sleeping).await, Ok(("slept".to_owned(), true)));
    let outcome = service.terminate(stopped).await.unwrap();
    let RuntimeResponse::Terminated { content_items, .. } = outcome.into() else { panic!() };
    assert!(content_items.len() <= 1, "{content_items:?}");
    gate.open.send_replace(true);
    until(async || gate.calls() == 4).await;
    assert_eq!(ended(&service, &calling).await, Ok(("begun one,two".to_owned(), true)));
    until(async || fleet.cells().await == 0).await;
}

#[tokio::test]
async fn a_worker_that_was_paused_has_no_cell_any_more() {
    let Some(mut fleet) = Fleet::start(1, &["--orphan-grace", "8s"]).await else { return };
    // The session can be opened again: so the worker keeps what its client has left.
    let backend = NatsBackend::new(&fleet.cluster.fleet("t1", &fleet.class));
    let service = CodeModeService::new(Arc::new(backend.with_session("paused").unwrap()));
    let gate = Gate::new();
    let _turn = service.start_turn_worker(Arc::clone(&gate) as _);
    let cell_id = waiting(&service, CALLS).await;
    until(async || gate.calls() == 2).await;
    fleet.workers[0].signal(Signal::STOP);
    // Another is there by the time at which the client finds the first one silent.
    let key = fleet.dir.path().join("park.key");
    let key = ["--park-key", key.to_str().unwrap()];
    fleet.workers.push(Worker::spawn(fleet.cluster, &fleet.class, &key));
    serving(fleet.cluster, &fleet.class, 1).await;
    let error = ended(&service, &cell_id).await.unwrap_err();
    let cut = ("echo".to_owned(), CallEnd::Cancelled);
    assert_eq!(calls_of(&error), [cut.clone(), cut]);
    let mut kept = fleet.kept();
    let record = |kept: &mut Kept| {
        kept.records("t1")
            .into_iter()
            .find(|record| record.client_id == cell_id && record.session.is_some())
            .map(|record| record.state)
    };
    until(async || record(&mut kept).as_deref() == Some("lost")).await;
    // The paused one finds its client gone, and cannot keep what is lost.
    fleet.workers[0].signal(Signal::CONT);
    until(async || {
        let reports = reports(fleet.cluster, &fleet.class).await;
        reports.len() == 2
            && reports.iter().all(|report| report.cells == 0)
            && reports.iter().any(|report| report.lost == 1)
    })
    .await;
    assert_eq!(record(&mut kept).as_deref(), Some("lost"));
    assert_eq!(ended(&service, &cell_id).await.unwrap_err(), error);
    assert_eq!(gate.calls(), 2);
}

#[tokio::test]
async fn a_worker_that_dies_loses_what_ran_there_and_not_what_was_kept() {
    let Some(mut fleet) = Fleet::start(
        1,
        &["--park-after", "700ms", "--max-cells", "300", "--max-cells-per-tenant", "300"],
    )
    .await
    else {
        return;
    };
    let service = fleet.service("t1");
    let gate = Gate::new();
    let _turn = service.start_turn_worker(Arc::clone(&gate) as _);
    let mut parked = Vec::new();
    for _ in 0..100 {
        parked.push(waiting(&service, CALLS).await);
    }
    until(async || gate.calls() == 200).await;
    until(async || fleet.cells().await == 0).await;
    // Something happens in these all the time.
    let busy = service_of(&fleet).await;
    let mut running = Vec::new();
    for _ in 0..100 {
        running.push(waiting(&busy.0, "for (;;) { await tools.echo(1); await new Promise((done) => setTimeout(done, 100)) }").await);
    }
    fleet.workers[0].signal(Signal::KILL);
    fleet.workers.remove(0).wait();
    fleet.add(&["--max-cells", "300", "--max-cells-per-tenant", "300"]).await;
    for cell_id in &running {
        let error = ended(&busy.0, cell_id).await.unwrap_err();
        assert!(
            matches!(&error, CodeModeError::Stale { calls, .. } if !calls.is_empty()),
            "{error}"
        );
    }
    gate.open.send_replace(true);
    for cell_id in &parked {
        assert_eq!(ended(&service, cell_id).await, Ok(("begun one,two".to_owned(), true)));
    }
    assert_eq!(gate.calls(), 300);
}

/// Another session, whose tools answer at once.
async fn service_of(fleet: &Fleet) -> (CodeModeService, cellblock::CodeModeTurnWorker) {
    let service = fleet.service("t1");
    let turn = service.start_turn_worker(Arc::new(Tools::default()));
    (service, turn)
}

/// A cell that its fleet keeps.
async fn kept_cell(fleet: &Fleet, service: &CodeModeService, gate: &Gate) -> CellId {
    let calls = gate.calls();
    let cell_id = waiting(service, CALLS).await;
    until(async || gate.calls() == calls + 2).await;
    until(async || fleet.cells().await == 0).await;
    cell_id
}

#[tokio::test]
async fn damaged_and_foreign_bytes_are_refused_and_harm_nobody_else() {
    let Some(fleet) = Fleet::start(1, &["--park-after", "500ms"]).await else { return };
    let (one, two) = (fleet.service("t1"), fleet.service("t2"));
    let gate = Gate::new();
    let _turns = (
        one.start_turn_worker(Arc::clone(&gate) as _),
        two.start_turn_worker(Arc::clone(&gate) as _),
    );
    let damaged = kept_cell(&fleet, &one, &gate).await;
    let foreign = kept_cell(&fleet, &one, &gate).await;
    let whole = kept_cell(&fleet, &one, &gate).await;
    let other = kept_cell(&fleet, &two, &gate).await;
    let mut kept = fleet.kept();
    let class = kept
        .records("t2")
        .into_iter()
        .find(|record| record.client_id == other && record.state == "parked")
        .unwrap()
        .class;
    let object = |kept: &mut Kept, tenant: &str, cell_id: &CellId| {
        let mut records = kept.records(tenant).into_iter();
        records
            .find(|record| record.class == class && record.client_id == *cell_id)
            .unwrap()
            .object
            .unwrap()
    };
    let name = object(&mut kept, "t1", &damaged);
    let mut bytes = kept.bytes(&name);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    kept.replace(&name, &bytes);
    // The other tenant's cell, in place of one of its own.
    let of_other = object(&mut kept, "t2", &other);
    let bytes = kept.bytes(&of_other);
    let name = object(&mut kept, "t1", &foreign);
    kept.replace(&name, &bytes);
    gate.open.send_replace(true);
    let refused = |error| Err(CodeModeError::Park(error));
    assert_eq!(ended(&one, &damaged).await, refused(ParkError::Damaged));
    assert_eq!(ended(&one, &foreign).await, refused(ParkError::OtherKey));
    for (service, cell_id) in [(&one, &whole), (&two, &other)] {
        assert_eq!(ended(service, cell_id).await, Ok(("begun one,two".to_owned(), true)));
    }
}

#[tokio::test]
async fn workers_with_another_key_are_not_asked() {
    let Some(mut fleet) = Fleet::start(1, &["--park-after", "500ms"]).await else { return };
    let service = fleet.service("t1");
    let gate = Gate::new();
    let _turn = service.start_turn_worker(Arc::clone(&gate) as _);
    let cell_id = kept_cell(&fleet, &service, &gate).await;
    fleet.drain();
    let key = fleet.dir.path().join("other.key");
    let _other = Worker::spawn(fleet.cluster, &fleet.class, &["--park-key", key.to_str().unwrap()]);
    serving(fleet.cluster, &fleet.class, 1).await;
    // It waits for one that has the key.
    let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: 1_500 };
    let response: RuntimeResponse = service.wait(wait).await.unwrap().into();
    assert!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
    fleet.workers.push(Worker::spawn(
        fleet.cluster,
        &fleet.class,
        &["--park-key", fleet.dir.path().join("park.key").to_str().unwrap()],
    ));
    gate.open.send_replace(true);
    assert_eq!(ended(&service, &cell_id).await, Ok(("begun one,two".to_owned(), true)));
}

#[tokio::test]
async fn a_session_that_shuts_down_ends_cells_that_are_kept() {
    let Some(fleet) = Fleet::start(1, &["--park-after", "500ms"]).await else { return };
    let service = fleet.service("t1");
    let gate = Gate::new();
    let _turn = service.start_turn_worker(Arc::clone(&gate) as _);
    let cell_id = kept_cell(&fleet, &service, &gate).await;
    tokio::time::timeout(Duration::from_secs(30), service.shutdown()).await.unwrap();
    let outcome = ended(&service, &cell_id).await.unwrap();
    assert!(!outcome.1);
    until(async || fleet.cells().await == 0).await;
    assert!(service.execute(request("text(1)")).await.is_err());
}
