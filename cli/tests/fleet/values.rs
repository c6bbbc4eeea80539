//! Stored values that NATS keeps: each cell's writes are merged once, whatever fails.

use crate::cells::{Tools, request, text};
use crate::cluster::{Cluster, PATIENT, reports, until, workers};
use cellblock::{CodeModeService, ExecuteRequest, RuntimeResponse};
use cellblock_remote::{NatsBackend, NatsFleet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A session with a name, as another process would open it.
fn named(fleet: &NatsFleet, name: &str) -> CodeModeService {
    let backend = NatsBackend::new(fleet).with_session(name).unwrap();
    CodeModeService::new(Arc::new(backend))
}

/// All values of a session, as a new client sees them.
async fn all(fleet: &NatsFleet, name: &str) -> BTreeMap<String, String> {
    let service = named(fleet, name);
    text(&service, "text('read')").await;
    let values = service.stored_values().into_iter();
    values.map(|(key, value)| (key, value.to_string())).collect()
}

#[tokio::test]
async fn values_of_a_named_session_outlive_their_client() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 2, &[]).await;
    let fleet = cluster.fleet("t1", &class);
    text(&named(&fleet, "outlive"), "store('a', [1]); store('b.c >*', 'x'); text('')").await;
    let other = named(&cluster.fleet("t1", &class), "outlive");
    let source = "text(load('a')[0] + load('b.c >*')); store('a', 2)";
    assert_eq!(text(&other, source).await, "1x");
    // The first sees what the second wrote, and another session or tenant nothing.
    let again = named(&fleet, "outlive");
    assert_eq!(text(&again, "text(load('a'))").await, "2");
    assert!(all(&fleet, "another").await.is_empty());
    assert!(all(&cluster.fleet("t2", &class), "outlive").await.is_empty());
}

#[tokio::test]
async fn values_larger_than_a_message_are_kept() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &[]).await;
    let fleet = cluster.fleet("t1", &class);
    let source = "store('large', 'x'.repeat(700e3)); store('second', 'y'.repeat(700e3)); text('')";
    text(&named(&fleet, "large"), source).await;
    text(&named(&fleet, "large"), "store('large', 'z'.repeat(800e3)); text('')").await;
    let lengths = "text(load('large').length + load('second').length + load('large')[0])";
    assert_eq!(text(&named(&fleet, "large"), lengths).await, "1500000z");
}

#[tokio::test]
async fn clients_that_write_at_the_same_time_lose_nothing() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 2, &[]).await;
    let fleet = cluster.fleet("t1", &class);
    let writing = (0..4).map(|client| {
        let service = named(&fleet, "together");
        async move {
            for n in 0..5 {
                let source =
                    format!("store('c{client}n{n}', 1); store('last', {client}); text('')");
                text(&service, &source).await;
            }
        }
    });
    futures_util::future::join_all(writing).await;
    let values = all(&fleet, "together").await;
    assert_eq!(values.len(), 21, "{values:?}");
}

#[tokio::test]
async fn a_leader_that_dies_during_merges_loses_nothing_and_merges_nothing_twice() {
    let Some(cluster) = Cluster::start() else { return };
    let patient = ["--max-cells", "64", "--heartbeat", "15s"];
    let (class, _workers) = workers(&cluster, 3, &patient).await;
    let fleet = cluster.fleet("t1", &class).with_heartbeat(PATIENT);
    let service = Arc::new(named(&fleet, "leader"));
    let _turn = service.start_turn_worker(Arc::new(Tools::default()));
    // The buckets are made.
    text(&service, "store('first', 1); text('')").await;
    let running: Vec<_> = (0..40)
        .map(|n| {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                let wait = 100 * n;
                let source = format!(
                    "await new Promise((done) => setTimeout(done, {wait})); store('k{n}', {n}); text('')"
                );
                let request = ExecuteRequest { yield_time_ms: Some(60_000), ..request(&source) };
                (n, service.execute(request).await)
            })
        })
        .collect();
    let started =
        async || reports(&cluster, &class).await.iter().map(|each| each.started).sum::<u64>();
    until(async || started().await > 40).await;
    let leader = cluster.leader("KV_cb-store");
    cluster.kill(leader);
    for cell in running {
        let (n, ended) = cell.await.unwrap();
        let is_result = matches!(ended, Ok(RuntimeResponse::Result { error_text: None, .. }));
        assert!(is_result, "{n}: {ended:?}");
    }
    let mut values = BTreeMap::new();
    until(async || {
        let service = named(&fleet, "leader");
        if service.execute(request("text('')")).await.is_err() {
            return false;
        }
        values = service.stored_values().into_iter().collect();
        true
    })
    .await;
    for n in 0..40 {
        assert_eq!(values.get(&format!("k{n}")), Some(&n.into()), "{values:?}");
    }
}
