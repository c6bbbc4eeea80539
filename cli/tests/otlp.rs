//! The spans that a host sends to a collector of OpenTelemetry: a session, in it cells, in
//! these their calls.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use async_trait::async_trait;
use cellblock::{
    CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, ExecuteRequest, ToolDefinition,
    ToolResult,
};
use cellblock_remote::{HostAddress, HostProcess, ProcessBackend};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;
use std::process::Command;
use std::sync::{Arc, Mutex};
use support::Served;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A collector that keeps what it receives.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Serves a collector.
async fn collect(socket: TcpListener, collector: Collector) {
    loop {
        let (connection, _) = socket.accept().await.unwrap();
        let service = TowerToHyperService::new(TraceServiceServer::new(collector.clone()));
        tokio::spawn(async move {
            let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

struct Tools;

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        match call.tool_name.name.as_str() {
            "good" => Ok(json!("fine").into()),
            _ => Err("secret".to_owned()),
        }
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?;
    Some(match value.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_receives_cells_with_their_calls_and_none_of_their_texts() {
    let collector = Collector::default();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(collect(socket, collector.clone()));

    let mut served =
        Served::limited("grpc", &format!("export OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}"));
    let host = HostProcess::new(HostAddress::grpc(served.address().parse().unwrap()));
    let service = CodeModeService::new(Arc::new(ProcessBackend::new(&host)));
    let _turn = service.start_turn_worker(Arc::new(Tools));
    let tools = ["good", "bad"].map(|name| ToolDefinition::function(name, ""));
    for source in [
        "await tools.good('secret'); try { await tools.bad({}) } catch {} text('secret')",
        "store('secret', 1); throw new Error('secret')",
        "for (;;);",
    ] {
        let request = ExecuteRequest {
            enabled_tools: Arc::from(tools.clone()),
            yield_time_ms: Some(10),
            ..ExecuteRequest::new(source)
        };
        let cell = service.allocate_cell_id().unwrap();
        let _ = service.execute_as(cell.clone(), request).await.unwrap();
        if source.starts_with("for") {
            service.terminate(cell).await.unwrap();
        }
    }
    service.shutdown().await;
    let pid = served.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || served.child.wait().unwrap().code());
    assert!(ended.await.unwrap().is_some());

    let requests = std::mem::take(&mut *collector.0.lock().unwrap());
    let all = format!("{requests:?}");
    assert!(!all.contains("secret"), "{all}");
    assert!(all.contains("\"service.name\"") && all.contains("\"cellblock\""), "{all}");
    let spans: Vec<Span> = requests
        .into_iter()
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let [session] = named("session")[..] else { panic!("{spans:?}") };
    let mut cells = named("cell");
    cells.sort_by_key(|span| span.start_time_unix_nano);
    let outcomes: Vec<_> = cells.iter().map(|cell| attribute(cell, "outcome").unwrap()).collect();
    assert_eq!(outcomes, ["completed", "failed", "terminated"]);
    for cell in &cells {
        assert_eq!(cell.parent_span_id, session.span_id);
        for figure in ["fuel", "peak_memory_bytes", "running_us"] {
            let figure = attribute(cell, figure).unwrap();
            assert!(figure.parse::<u64>().unwrap() > 0, "{cell:?}");
        }
    }
    assert_eq!(attribute(cells[0], "calls").unwrap(), "2");
    let mut calls = named("call");
    calls.sort_by_key(|span| span.start_time_unix_nano);
    let ends: Vec<_> = calls
        .iter()
        .map(|call| (attribute(call, "tool").unwrap(), attribute(call, "outcome").unwrap()))
        .collect();
    let expected = [("good", "returned"), ("bad", "failed")];
    assert_eq!(ends, expected.map(|(tool, end)| (tool.to_owned(), end.to_owned())));
    assert!(calls.iter().all(|call| call.parent_span_id == cells[0].span_id));
}
