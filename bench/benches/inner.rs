//! The inner pieces, each with what is around it kept as small as it gets:
//! `cargo bench -p cellblock-bench`.

#![allow(missing_docs, reason = "criterion's macros make functions without")]

use async_trait::async_trait;
use cellblock::{
    CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, Engine, ExecuteRequest,
    ExecuteToPendingOutcome, SessionLimits, ToolDefinition, ToolResult, WasmBackend,
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use std::hint::black_box;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A host whose tool gives its input back.
struct Echo;

#[async_trait]
impl CodeModeTurnHost for Echo {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        Ok(call.input.map_or_else(|| Value::Null.into(), ToolResult::from))
    }
}

fn service() -> CodeModeService {
    let engine = Engine::shared().expect("an engine");
    let limits = SessionLimits::default();
    CodeModeService::new(Arc::new(WasmBackend::with_limits(&engine, limits)))
}

fn request(source: String) -> ExecuteRequest {
    let enabled_tools = [ToolDefinition::function("echo", "")].into();
    ExecuteRequest { enabled_tools, ..ExecuteRequest::new(source) }
}

/// A sandbox made, an empty program run, the sandbox dropped.
fn instantiate(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let service = service();
    criterion.bench_function("instantiate", |bench| {
        bench.to_async(&runtime).iter(|| async {
            service.execute(ExecuteRequest::new("")).await.expect("it runs");
        });
    });
}

/// One step of a program that waits, from one frontier to the next.
fn step(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let source = "for (;;) await new Promise((done) => setTimeout(done, 0))";
    criterion.bench_function("step", |bench| {
        bench.iter_batched(
            || {
                let service = service();
                let started = runtime
                    .block_on(service.execute_to_pending(ExecuteRequest::new(source)))
                    .expect("it runs");
                let ExecuteToPendingOutcome::Pending { cell_id, .. } = started else {
                    panic!("it waits")
                };
                (service, cell_id)
            },
            |(service, cell_id)| {
                runtime.block_on(service.wait_to_pending(cell_id)).expect("it runs on");
                service
            },
            BatchSize::PerIteration,
        );
    });
}

/// JSON from the program to a tool and back, of some sizes.
fn across(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let service = service();
    let _turn = service.start_turn_worker(Arc::new(Echo));
    let mut group = criterion.benchmark_group("json across the boundary");
    for rows in [1, 100, 2_000] {
        let rows: Vec<_> =
            (0..rows).map(|id| json!({ "id": id, "name": "a user", "tags": ["a", "b"] })).collect();
        let json = Value::from(rows).to_string();
        group.throughput(Throughput::Bytes(json.len() as u64 * 2));
        let source = format!("await tools.echo({json})");
        group.bench_function(BenchmarkId::from_parameter(json.len()), |bench| {
            bench.to_async(&runtime).iter(|| async {
                black_box(service.execute(request(source.clone())).await.expect("it runs"));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, instantiate, step, across);
criterion_main!(benches);
