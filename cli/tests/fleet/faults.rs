//! What a fleet does when parts of it die, stop, or are told to end.

use crate::cells::{Tools, calls_of, request, service, waiting};
use crate::cluster::{Cluster, reports, until, workers};
use cellblock::{CallEnd, CodeModeError, RuntimeResponse, WaitRequest};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn wait(cell_id: &cellblock::CellId, yield_time_ms: u64) -> WaitRequest {
    WaitRequest { cell_id: cell_id.clone(), yield_time_ms }
}

#[tokio::test]
async fn cells_of_a_worker_that_dies_say_which_calls_they_made() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, workers) = workers(cluster, 1, &[]).await;
    let (service, tools) = (service(&cluster.fleet("t1", &class)), Arc::new(Tools::default()));
    let _turn = service.start_turn_worker(Arc::clone(&tools) as _);
    let source = "await tools.echo({}); store('written', 1); await tools.hang()";
    let mut cells = Vec::new();
    for _ in 0..20 {
        cells.push(waiting(&service, source).await);
    }
    until(async || tools.calls.load(Ordering::Relaxed) == 40).await;
    // Half of them are waited for, half are asked later.
    let (asked, later) = cells.split_at(10);
    let asking =
        futures_util::future::join_all(asked.iter().map(|id| service.wait(wait(id, 600_000))));
    workers[0].signal(Signal::KILL);
    let made =
        vec![("echo".to_owned(), CallEnd::Succeeded), ("hang".to_owned(), CallEnd::Cancelled)];
    for outcome in asking.await {
        assert_eq!(calls_of(&outcome.unwrap_err()), made);
    }
    until(async || service.cells().is_empty()).await;
    for id in later {
        let error = service.wait(wait(id, 0)).await.unwrap_err();
        assert_eq!(calls_of(&error), made);
        assert!(error.to_string().contains("echo succeeded, hang was cancelled"), "{error}");
    }
    // Nothing was run again, and nothing stored.
    assert_eq!(tools.calls.load(Ordering::Relaxed), 40);
    assert!(service.stored_values().is_empty());
}

#[tokio::test]
async fn a_worker_that_was_stopped_cannot_answer_late() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, workers) = workers(cluster, 1, &["--orphan-grace", "8s"]).await;
    let (service, tools) = (service(&cluster.fleet("t1", &class)), Arc::new(Tools::default()));
    let _turn = service.start_turn_worker(Arc::clone(&tools) as _);
    let source =
        "await new Promise((done) => setTimeout(done, 2000)); store('late', 1); text('late')";
    let cell_id = waiting(&service, source).await;
    workers[0].signal(Signal::STOP);
    let error = service.wait(wait(&cell_id, 600_000)).await.unwrap_err();
    assert!(matches!(error, CodeModeError::Stale { .. }), "{error}");
    workers[0].signal(Signal::CONT);
    // It goes on, ends the cell that is nobody's, and takes others.
    until(async || reports(cluster, &class).await.first().is_some_and(|report| report.cells == 0))
        .await;
    until(async || service.execute(request("text('again')")).await.is_ok()).await;
    let again = service.wait(wait(&cell_id, 0)).await.unwrap_err();
    assert_eq!(again, error);
    assert!(service.stored_values().is_empty());
}

#[tokio::test]
async fn cells_of_a_client_that_is_gone_end() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &["--orphan-grace", "4s"]).await;
    // A runtime that is dropped is a client that says no goodbye.
    let fleet = cluster.fleet("t1", &class);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let service = service(&fleet);
            waiting(&service, "await new Promise((done) => setTimeout(done, 1e6))").await;
            std::mem::forget(service);
        });
        runtime.shutdown_background();
    });
    thread.join().unwrap();
    until(async || {
        let report = &reports(cluster, &class).await[0];
        report.cells == 0 && report.started == 1 && report.lost == 1
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_drains_ends_what_runs_and_takes_nothing() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, mut workers) = workers(cluster, 2, &["--drain", "20s"]).await;
    let service = service(&cluster.fleet("t1", &class));
    let _turn = service.start_turn_worker(Arc::new(Tools::default()));
    let source = "await new Promise((done) => setTimeout(done, 1500)); store('n' + Math.random(), 1); text('done')";
    let mut cells = Vec::new();
    until(async || {
        cells.push(waiting(&service, source).await);
        reports(cluster, &class).await.iter().all(|report| report.started > 0)
    })
    .await;
    let mut leaving = workers.remove(0);
    leaving.signal(Signal::TERM);
    // Under load: the other one takes everything from now on.
    for _ in 0..50 {
        let response = service.execute(request("text('load')")).await.unwrap();
        assert!(matches!(response, RuntimeResponse::Result { error_text: None, .. }));
    }
    for cell_id in &cells {
        let mut response: RuntimeResponse =
            service.wait(wait(cell_id, 60_000)).await.unwrap().into();
        while matches!(response, RuntimeResponse::Yielded { .. }) {
            response = service.wait(wait(cell_id, 60_000)).await.unwrap().into();
        }
        assert!(
            matches!(response, RuntimeResponse::Result { error_text: None, .. }),
            "{response:?}"
        );
    }
    assert_eq!(leaving.wait().code(), Some(130));
    assert_eq!(service.stored_values().len(), cells.len());
}

#[tokio::test]
async fn a_worker_whose_drain_is_over_ends_its_cells_and_says_so() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, mut workers) = workers(cluster, 1, &["--drain", "100ms"]).await;
    let service = service(&cluster.fleet("t1", &class));
    let _turn = service.start_turn_worker(Arc::new(Tools::default()));
    let cell_id = waiting(&service, "text('begun'); await tools.hang()").await;
    workers[0].signal(Signal::TERM);
    workers[0].wait();
    // Its last response was on its way, or the link ended first: never a third thing.
    let ended = loop {
        match service.wait(wait(&cell_id, 60_000)).await.map(RuntimeResponse::from) {
            Ok(RuntimeResponse::Yielded { .. }) => {}
            other => break other,
        }
    };
    match ended {
        Ok(RuntimeResponse::Terminated { .. }) | Err(CodeModeError::Stale { .. }) => {}
        other => panic!("{other:?}"),
    }
}
