//! Servers of NATS that die while cells run: nothing is lost, and nothing happens twice.

use crate::cells::{request, text};
use crate::cluster::{Cluster, PATIENT, until, workers};
use async_trait::async_trait;
use cellblock::{
    CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, ExecuteRequest, RuntimeResponse,
    ToolResult,
};
use cellblock_remote::NatsBackend;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

const CELLS: usize = 40;

/// Tells cells to go on until they are to end, and counts their calls.
#[derive(Default)]
struct GoOn {
    /// How often each call of each cell was made.
    calls: Mutex<HashMap<(usize, u64), u64>>,
    is_over: AtomicBool,
}

#[async_trait]
impl CodeModeTurnHost for GoOn {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let input = call.input.unwrap().into_value();
        let cell = usize::try_from(input["cell"].as_u64().unwrap()).unwrap();
        let call = (cell, input["n"].as_u64().unwrap());
        *self.calls.lock().unwrap().entry(call).or_default() += 1;
        Ok(serde_json::Value::from(!self.is_over.load(Ordering::Relaxed)).into())
    }
}

impl GoOn {
    /// Waits until every cell has made some more calls.
    async fn until_all_go_on(&self) {
        let calls = || {
            let mut calls = [0_u64; CELLS];
            self.calls.lock().unwrap().keys().for_each(|(cell, _)| calls[*cell] += 1);
            calls
        };
        let before = calls();
        until(async || before.iter().zip(calls()).all(|(before, now)| now >= before + 3)).await;
    }
}

#[tokio::test]
async fn servers_of_nats_that_die_lose_no_cell() {
    let Some(cluster) = Cluster::start() else { return };
    let (class, _workers) = workers(&cluster, 3, &["--heartbeat", "15s"]).await;
    let fleet = cluster.fleet("t1", &class).with_heartbeat(PATIENT);
    let backend = NatsBackend::new(&fleet).with_session("servers").unwrap();
    let service = Arc::new(CodeModeService::new(Arc::new(backend)));
    let host = Arc::new(GoOn::default());
    let _turn = service.start_turn_worker(Arc::clone(&host) as _);
    // The buckets are made.
    text(&service, "store('first', 1); text('')").await;
    let running: Vec<_> = (0..CELLS)
        .map(|cell| {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                let source = format!(
                    "let n = 0;
                    while (await tools.echo({{ cell: {cell}, n: n++ }})) {{
                        await new Promise((done) => setTimeout(done, 30));
                    }}
                    store('cell{cell}', n); text(String(n))"
                );
                let request = ExecuteRequest { yield_time_ms: Some(600_000), ..request(&source) };
                let mut answer = service.execute(request).await;
                while let Ok(RuntimeResponse::Yielded { cell_id, .. }) = answer {
                    let wait = cellblock::WaitRequest { cell_id, yield_time_ms: 600_000 };
                    answer = service.wait(wait).await.map(Into::into);
                }
                answer
            })
        })
        .collect();
    host.until_all_go_on().await;
    let leader = cluster.leader("KV_cb-store");
    cluster.kill(leader);
    host.until_all_go_on().await;
    cluster.start_again(leader);
    cluster.wait_for_quorum();
    let new_leader = cluster.leader("KV_cb-store");
    let follower = (0..3).find(|node| ![leader, new_leader].contains(node)).unwrap();
    cluster.kill(follower);
    host.until_all_go_on().await;
    host.is_over.store(true, Ordering::Relaxed);
    for (cell, ended) in running.into_iter().enumerate() {
        let ended = ended.await.unwrap();
        let is_result = matches!(ended, Ok(RuntimeResponse::Result { error_text: None, .. }));
        assert!(is_result, "{cell}: {ended:?}");
    }
    let calls = host.calls.lock().unwrap().clone();
    let twice: Vec<_> = calls.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "calls that were made twice: {twice:?}");
    // A client that knows nothing reads what NATS has.
    let backend = NatsBackend::new(&cluster.fleet("t1", &class)).with_session("servers").unwrap();
    let other = CodeModeService::new(Arc::new(backend));
    text(&other, "text('read')").await;
    let mut values = other.stored_values();
    values.remove("first");
    for cell in 0..CELLS {
        let made = calls.keys().filter(|(of, _)| *of == cell).count();
        assert_eq!(values.remove(&format!("cell{cell}")), Some(made.into()), "{cell}");
    }
    assert!(values.is_empty(), "{values:?}");
}
