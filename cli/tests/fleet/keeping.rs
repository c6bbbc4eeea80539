//! Workers that keep cells while they wait, and clients with such cells.

use crate::cells::{request, service};
use crate::cluster::{Cluster, Worker, class, reports, serving, until};
use async_trait::async_trait;
use cellblock::{
    CellId, CodeModeError, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost,
    CodeModeTurnWorker, ContentItem, ExecuteRequest, RuntimeResponse, StoredValues, ToolResult,
    WaitRequest,
};
use cellblock_remote::NatsBackend;
use rustix::process::Signal;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Workers of a class of their own, with a park key of their own.
pub struct Fleet {
    pub cluster: &'static Cluster,
    pub class: String,
    pub dir: TempDir,
    pub workers: Vec<Worker>,
}

impl Fleet {
    pub async fn start(workers: usize, arguments: &[&str]) -> Option<Self> {
        let cluster = Cluster::shared()?;
        let dir = tempfile::tempdir().unwrap();
        let mut fleet = Self { cluster, class: class(), dir, workers: Vec::new() };
        for _ in 0..workers {
            fleet.add(arguments).await;
        }
        Some(fleet)
    }

    /// One more worker, which may not serve yet when this returns.
    pub fn spawn(&mut self, arguments: &[&str]) {
        let key = self.dir.path().join("park.key");
        let key = ["--park-key", key.to_str().unwrap()];
        self.workers.push(Worker::spawn(self.cluster, &self.class, &[&key, arguments].concat()));
    }

    /// One more worker, which serves when this returns.
    pub async fn add(&mut self, arguments: &[&str]) {
        self.spawn(arguments);
        serving(self.cluster, &self.class, self.workers.len()).await;
    }

    /// Ends the oldest worker, as an upgrade does, and waits until it has gone.
    pub async fn drain(&mut self) {
        let mut worker = self.workers.remove(0);
        worker.signal(Signal::TERM);
        let mut gone = tokio::task::spawn_blocking(move || worker.wait());
        assert_eq!((&mut gone).await.unwrap().code(), Some(130));
        serving(self.cluster, &self.class, self.workers.len()).await;
    }

    pub fn service(&self, tenant: &str) -> CodeModeService {
        service(&self.cluster.fleet(tenant, &self.class))
    }

    /// A session that others can open again.
    pub fn named(&self, name: &str, values: StoredValues) -> (CodeModeService, Arc<NatsBackend>) {
        let backend = NatsBackend::new(&self.cluster.fleet("t1", &self.class));
        let backend = Arc::new(backend.with_session(name).unwrap());
        let service = CodeModeService::with_stored_values(Arc::clone(&backend) as _, values);
        (service, backend)
    }

    /// The class of the workers that can wake each other's cells.
    pub async fn parking_class(&self) -> String {
        let reports = reports(self.cluster, &self.class).await;
        reports[0].classes.iter().find(|class| class.contains('-')).unwrap().clone()
    }

    /// Cells that workers have, once all of them say so.
    pub async fn cells(&self) -> usize {
        let mut cells = None;
        until(async || {
            let reports = reports(self.cluster, &self.class).await;
            let all = reports.len() == self.workers.len();
            cells = all.then(|| reports.iter().map(|report| report.cells).sum());
            all
        })
        .await;
        cells.unwrap()
    }
}

/// A tool that returns what it was given once the gate is open.
pub struct Gate {
    pub open: watch::Sender<bool>,
    calls: AtomicUsize,
    resumed: AtomicUsize,
}

impl Gate {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            open: watch::Sender::new(false),
            calls: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
        })
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls that another host had begun.
    pub fn resumed(&self) -> usize {
        self.resumed.load(Ordering::Relaxed)
    }

    async fn answer(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let mut open = self.open.subscribe();
        tokio::select! {
            _ = open.wait_for(|open| *open) => {}
            () = cancellation.cancelled() => return Err("it was cancelled".to_owned()),
        }
        Ok(call.input.map_or(Value::Null, cellblock::ToolInput::into_value).into())
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
        self.answer(call, cancellation).await
    }

    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.resumed.fetch_add(1, Ordering::Relaxed);
        self.answer(call, cancellation).await
    }
}

/// A cell, and what it has said so far.
pub struct Started {
    pub id: CellId,
    pub said: String,
}

impl Started {
    /// A cell that was started and waits.
    pub async fn new(service: &CodeModeService, source: &str) -> Self {
        let request = ExecuteRequest { yield_time_ms: Some(0), ..request(source) };
        let response = service.execute(request).await.unwrap();
        assert!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
        Self { id: response.cell_id().clone(), said: said(&response) }
    }

    /// Asks what there is of it, which wakes it.
    pub async fn look(&mut self, service: &CodeModeService) {
        let wait = WaitRequest { cell_id: self.id.clone(), yield_time_ms: 0 };
        let response = service.wait(wait).await.unwrap().into();
        assert!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
        self.said += &said(&response);
    }

    /// How it ends: all that it has said, and whether it completed.
    pub async fn end(&self, service: &CodeModeService) -> Result<(String, bool), CodeModeError> {
        let mut all = self.said.clone();
        loop {
            let wait = WaitRequest { cell_id: self.id.clone(), yield_time_ms: 60_000 };
            let response: RuntimeResponse = service.wait(wait).await?.into();
            all += &said(&response);
            match response {
                RuntimeResponse::Yielded { .. } => {}
                RuntimeResponse::Result { error_text: None, .. } => return Ok((all, true)),
                RuntimeResponse::Terminated { .. } => return Ok((all, false)),
                other @ RuntimeResponse::Result { .. } => panic!("{other:?}"),
            }
        }
    }
}

/// The text of a response.
pub fn said(response: &RuntimeResponse) -> String {
    let text = |item: &ContentItem| match item {
        ContentItem::InputText { text } => text.clone(),
        other => panic!("{other:?}"),
    };
    response.content_items().iter().map(text).collect()
}

/// The end of a cell that runs [`CALLS`].
pub fn called() -> (String, bool) {
    ("begun one,two".to_owned(), true)
}

/// Waits for calls, says what they return, and stores it.
pub const CALLS: &str = "text('begun '); const all = [tools.echo('one'), tools.echo('two')];
    text((await Promise.all(all)).join()); store('end', await tools.echo('three'))";

/// Waits for a timer.
pub const SLEEPS: &str = "await new Promise((done) => setTimeout(done, 4000)); text('slept')";

/// Something happens in it all the time.
pub const BUSY: &str = "for (;;) { await tools.echo(1);
    await new Promise((done) => setTimeout(done, 100)) }";

/// Arguments of workers that keep cells soon.
pub const SOON: [&str; 6] =
    ["--park-after", "700ms", "--max-cells", "300", "--max-cells-per-tenant", "300"];

/// A session with tools behind a gate.
pub struct Session {
    pub service: CodeModeService,
    pub gate: Arc<Gate>,
    _turn: CodeModeTurnWorker,
}

impl Session {
    pub fn new(service: CodeModeService) -> Self {
        let gate = Gate::new();
        let turn = service.start_turn_worker(Arc::clone(&gate) as _);
        Self { service, gate, _turn: turn }
    }

    pub async fn start(&self, source: &str) -> Started {
        Started::new(&self.service, source).await
    }

    pub async fn end(&self, cell: &Started) -> Result<(String, bool), CodeModeError> {
        cell.end(&self.service).await
    }

    /// A cell that its fleet keeps, which has no other.
    pub async fn kept(&self, fleet: &Fleet) -> Started {
        let calls = self.gate.calls();
        let cell = self.start(CALLS).await;
        until(async || self.gate.calls() == calls + 2).await;
        until(async || fleet.cells().await == 0).await;
        cell
    }
}
