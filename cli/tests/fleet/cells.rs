//! What a cell on a fleet does, and who may have one.

use crate::cluster::{Cluster, Worker, reports, until, workers};
use async_trait::async_trait;
use cellblock::{
    CallEnd, CellId, CellLimits, CodeModeBackend, CodeModeError, CodeModeNestedToolCall,
    CodeModeService, CodeModeTurnHost, ContentItem, ExecuteRequest, Parked, RuntimeResponse,
    ToolDefinition, ToolName, ToolResult, WaitRequest, WakeRequest,
};
use cellblock_remote::{NatsBackend, NatsFleet, ProcessLimits};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

/// Tools of these tests.
#[derive(Default)]
pub struct Tools {
    pub calls: AtomicUsize,
}

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let input = call.input.map_or(Value::Null, cellblock::ToolInput::into_value);
        match &*call.tool_name.name {
            "echo" => Ok(input.into()),
            "large" => {
                let length = usize::try_from(input.as_u64().unwrap()).unwrap();
                Ok(Value::from("x".repeat(length)).into())
            }
            "hang" => {
                cancellation.cancelled().await;
                Err("it was cancelled".to_owned())
            }
            other => Err(format!("there is no {other}")),
        }
    }
}

pub fn request(source: &str) -> ExecuteRequest {
    let tool = |name: &str| ToolDefinition {
        name: name.to_owned(),
        tool_name: ToolName::plain(name),
        ..ToolDefinition::default()
    };
    ExecuteRequest {
        enabled_tools: ["echo", "large", "hang"].map(tool).into(),
        ..ExecuteRequest::new(source)
    }
}

pub fn service(fleet: &NatsFleet) -> CodeModeService {
    CodeModeService::new(Arc::new(NatsBackend::new(fleet)))
}

/// The one text of a program that completes.
pub async fn text(service: &CodeModeService, source: &str) -> String {
    let mut response = service.execute(request(source)).await.unwrap();
    while let RuntimeResponse::Yielded { cell_id, .. } = response {
        let wait = WaitRequest { cell_id, yield_time_ms: 60_000 };
        response = service.wait(wait).await.unwrap().into();
    }
    match &response {
        RuntimeResponse::Result { content_items, error_text: None, .. } => match &content_items[..]
        {
            [ContentItem::InputText { text }] => text.clone(),
            other => panic!("not one text: {other:?}"),
        },
        other => panic!("it did not complete: {other:?}"),
    }
}

#[tokio::test]
async fn cells_run_and_call_tools_that_stay_with_their_client() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 2, &[]).await;
    let (service, tools) = (service(&cluster.fleet("t1", &class)), Arc::new(Tools::default()));
    let _turn = service.start_turn_worker(Arc::clone(&tools) as _);
    let source = "const all = await Promise.all([1, 2, 3].map((n) => tools.echo({ n })));
        store('sum', all.reduce((sum, { n }) => sum + n, 0)); text(JSON.stringify(all))";
    assert_eq!(text(&service, source).await, r#"[{"n":1},{"n":2},{"n":3}]"#);
    assert_eq!(tools.calls.load(Ordering::Relaxed), 3);
    // The next may be on another worker.
    for _ in 0..8 {
        assert_eq!(text(&service, "text(load('sum'))").await, "6");
    }
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &[]).await;
    let (service, tools) = (service(&cluster.fleet("t1", &class)), Arc::new(Tools::default()));
    let _turn = service.start_turn_worker(Arc::clone(&tools) as _);
    // A tool result of 20 MB, more than any message of NATS.
    let source = "text((await tools.large(20e6)).length)";
    assert_eq!(text(&service, source).await, "20000000");
    // A program that is longer than a message, an input, and output that is.
    let long = "x".repeat(900_000);
    let source = format!("text((await tools.echo({{ long: '{long}' }})).long)");
    assert_eq!(text(&service, &source).await, long);
}

#[tokio::test]
async fn a_tenant_reaches_its_own_cells_alone() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &[]).await;
    let service = service(&cluster.fleet("t1", &class));
    let _turn = service.start_turn_worker(Arc::new(Tools::default()));
    let hanging = request("text('begun'); await tools.hang()");
    let begun =
        service.execute(ExecuteRequest { yield_time_ms: Some(0), ..hanging }).await.unwrap();
    until(async || reports(cluster, &class).await[0].tenants.get("t1") == Some(&1)).await;
    // The other tenant's workers are the same, and its cells are its own.
    let other = self::service(&cluster.fleet("t2", &class));
    assert_eq!(text(&other, "text('other')").await, "other");
    until(async || !reports(cluster, &class).await[0].tenants.contains_key("t2")).await;
    let cell_id = begun.cell_id().clone();
    let missing = other.wait(WaitRequest { cell_id: cell_id.clone(), yield_time_ms: 0 }).await;
    assert!(matches!(missing.unwrap(), cellblock::WaitOutcome::MissingCell(_)));
    let ended = service.terminate(cell_id).await.unwrap();
    assert!(matches!(ended.into(), RuntimeResponse::Terminated { .. }));
}

#[tokio::test]
async fn a_full_fleet_refuses_at_once_and_has_no_queue() {
    let Some(cluster) = Cluster::shared() else { return };
    let full = ["--max-cells", "2", "--max-cells-per-tenant", "2"];
    let (class, _workers) = workers(cluster, 2, &full).await;
    let (service, tools) = (service(&cluster.fleet("t1", &class)), Arc::new(Tools::default()));
    let _turn = service.start_turn_worker(Arc::clone(&tools) as _);
    let hang = || ExecuteRequest { yield_time_ms: Some(0), ..request("await tools.hang()") };
    let mut cells = Vec::new();
    // A queue group is blind to load, so one may meet a worker that is full more than once.
    until(async || {
        match service.execute(hang()).await {
            Ok(response) => cells.push(response.cell_id().clone()),
            Err(error) => assert!(matches!(error, CodeModeError::Unavailable(_)), "{error}"),
        }
        cells.len() == 4
    })
    .await;
    let error = service.execute(hang()).await.unwrap_err();
    assert!(matches!(error, CodeModeError::Unavailable(_)), "{error}");
    service.terminate(cells.pop().unwrap()).await.unwrap();
    // A cell that was refused has not run: it can be tried again.
    until(async || service.execute(hang()).await.is_ok()).await;
    service.shutdown().await;
    until(async || reports(cluster, &class).await.iter().all(|report| report.cells == 0)).await;
}

#[tokio::test]
async fn a_class_without_workers_is_an_error_that_says_so() {
    let Some(cluster) = Cluster::shared() else { return };
    let service = service(&cluster.fleet("t1", "nobody"));
    let error = service.execute(request("text(1)")).await.unwrap_err();
    assert!(error.to_string().contains("no worker of the class nobody is running"), "{error}");
}

#[tokio::test]
async fn limits_of_a_tenant_are_its_policys_and_a_client_can_only_narrow_them() {
    let Some(cluster) = Cluster::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.json");
    let written = json!({ "tenants": { "t1": { "maxCells": 1, "limits": { "calls": 2 } } } });
    std::fs::write(&policy, written.to_string()).unwrap();
    let policy = ["--policy", policy.to_str().unwrap()];
    let (class, _workers) = workers(cluster, 1, &policy).await;
    let calls = "for (let n = 0; n < 3; n++) await tools.echo({}); text('three')";
    let run = async |tenant: &str, calls_limit: u64| {
        let cell = CellLimits { calls: calls_limit, ..CellLimits::default() };
        let limits = ProcessLimits { cell: Some(cell), ..ProcessLimits::default() };
        let fleet = cluster.fleet(tenant, &class);
        let service = CodeModeService::new(Arc::new(NatsBackend::with_limits(&fleet, limits)));
        let _turn = service.start_turn_worker(Arc::new(Tools::default()));
        let response = service.execute(request(calls)).await.unwrap();
        response.report().limit
    };
    let met = Some(cellblock::LimitKind::Calls);
    assert_eq!(
        (run("t1", 1_000).await, run("t2", 1_000).await, run("t2", 1).await),
        (met, None, met)
    );
    // One cell at a time.
    let service = service(&cluster.fleet("t1", &class));
    let _turn = service.start_turn_worker(Arc::new(Tools::default()));
    let hang = || ExecuteRequest { yield_time_ms: Some(0), ..request("await tools.hang()") };
    until(async || service.execute(hang()).await.is_ok()).await;
    let error = service.execute(hang()).await.unwrap_err().to_string();
    assert!(error.contains("this tenant has as many cells as it may"), "{error}");
}

/// The calls that a lost cell names, with their ends.
pub fn calls_of(error: &CodeModeError) -> Vec<(String, CallEnd)> {
    match error {
        CodeModeError::Stale { calls, .. } => {
            calls.iter().map(|call| (call.tool.clone(), call.end)).collect()
        }
        other => panic!("not stale: {other}"),
    }
}

/// The id of a cell that was started and waits.
pub async fn waiting(service: &CodeModeService, source: &str) -> CellId {
    let request = ExecuteRequest { yield_time_ms: Some(0), ..request(source) };
    let response = service.execute(request).await.unwrap();
    assert!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
    response.cell_id().clone()
}

#[tokio::test]
async fn dropping_a_session_ends_its_cells() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &[]).await;
    let backend = NatsBackend::new(&cluster.fleet("t1", &class));
    let request = ExecuteRequest {
        yield_time_ms: Some(0),
        ..request("await new Promise(() => setTimeout(() => {}, 1e6))")
    };
    let id = backend.allocate_cell_id().unwrap();
    backend.execute(id, request, cellblock::StoredValues::new()).await.unwrap();
    until(async || reports(cluster, &class).await[0].cells == 1).await;
    drop(backend);
    until(async || reports(cluster, &class).await[0].cells == 0).await;
}

#[tokio::test]
async fn a_parked_cell_outlives_its_worker() {
    let Some(cluster) = Cluster::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("park.key");
    let key = ["--park-key", key.to_str().unwrap()];
    let (class, mut first) = workers(cluster, 1, &key).await;
    let service = service(&cluster.fleet("t1", &class));
    let tools = Arc::new(Tools::default());
    let _turn = service.start_turn_worker(Arc::clone(&tools) as _);
    let source = "const before = await tools.echo('before'); store('kept', before);
        text(before + ' and ' + await tools.hang())";
    let cell_id = waiting(&service, source).await;
    until(async || tools.calls.load(Ordering::Relaxed) == 2).await;
    let Parked { cell, mut calls, .. } = service.park(cell_id).await.unwrap();
    // Its worker dies, and another goes on with the key.
    first[0].signal(rustix::process::Signal::KILL);
    first[0].wait();
    let _second = Worker::spawn(cluster, &class, &key);
    until(async || reports(cluster, &class).await.iter().any(|report| report.started == 0)).await;
    calls.insert("tool-2", Ok(Value::from("after").into()));
    let request = WakeRequest { calls, yield_time_ms: Some(60_000), ..WakeRequest::new(cell) };
    let response = service.wake(request).await.unwrap();
    assert_eq!(
        response.content_items(),
        [ContentItem::InputText { text: "before and after".to_owned() }]
    );
    assert_eq!(service.stored_values()["kept"], "before");
}
