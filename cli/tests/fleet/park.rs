//! Cells that a fleet keeps while they wait: no worker has them, and any of them wakes one.

use crate::cells::{calls_of, request, service};
use crate::cluster::{Worker, reports, serving, until};
use crate::keeping::{BUSY, CALLS, Fleet, SLEEPS, SOON, Session, Started, called, said};
use crate::kept::Kept;
use crate::raw::{Raw, request as operation, start_with};
use crate::tenants::link;
use cellblock::{
    CallEnd, CellInfo, CellState, CodeModeError, ContentItem, ExecuteToPendingOutcome, ParkError,
    RuntimeResponse, StoredValues, WaitRequest, WaitToPendingOutcome,
};
use cellblock_remote::protocol::{SEAM_CAPABILITY, frame};
use rustix::process::Signal;
use serde_json::json;

#[tokio::test]
async fn a_rolling_restart_loses_no_cell_that_waits() {
    let Some(mut fleet) = Fleet::start(2, &[]).await else { return };
    let session = Session::new(fleet.service("t1"));
    let (mut calling, mut sleeping) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        calling.push(session.start(CALLS).await);
        sleeping.push(session.start(SLEEPS).await);
    }
    until(async || session.gate.calls() == 20).await;
    // One of them is waited for all the time.
    let waited = session.end(&calling[0]);
    let restarting = async {
        for _ in 0..2 {
            fleet.drain().await;
            fleet.add(&[]).await;
        }
        session.gate.open.send_replace(true);
    };
    let (waited, ()) = tokio::join!(waited, restarting);
    assert_eq!(waited, Ok(called()));
    for cell in &calling[1..] {
        assert_eq!(session.end(cell).await, Ok(called()));
    }
    for cell in &sleeping {
        assert_eq!(session.end(cell).await, Ok(("slept".to_owned(), true)));
    }
    // No call was made again, and what was stored is there.
    assert_eq!(session.gate.calls(), 30);
    assert_eq!(session.service.stored_values()["end"], "three");
    assert!(session.service.cells().is_empty());
}

#[tokio::test]
async fn cells_that_sleep_are_on_no_worker_until_something_comes() {
    let Some(fleet) = Fleet::start(2, &SOON).await else { return };
    let session = Session::new(fleet.service("t1"));
    let calling = session.start(CALLS).await;
    let stopped = session.start("text('to be ended'); await tools.echo(1)").await;
    until(async || session.gate.calls() == 3).await;
    until(async || fleet.cells().await == 0).await;
    assert_eq!(session.service.cells().len(), 2);
    let sleeping = session.start(SLEEPS).await;
    until(async || fleet.cells().await == 0).await;
    // A timer, which nobody waits for,
    let is_finished = |cell: &CellInfo| cell.state == CellState::Finished;
    until(async || session.service.cells().iter().any(is_finished)).await;
    assert_eq!(session.end(&sleeping).await, Ok(("slept".to_owned(), true)));
    // somebody who ends the cell,
    let ended = session.service.terminate(stopped.id.clone()).await.unwrap().into();
    assert!(matches!(ended, RuntimeResponse::Terminated { .. }), "{ended:?}");
    assert_eq!(stopped.said + &said(&ended), "to be ended");
    // and the end of a call, which nobody waits for.
    session.gate.open.send_replace(true);
    until(async || session.service.cells().iter().all(is_finished)).await;
    assert_eq!(session.end(&calling).await, Ok(called()));
    until(async || fleet.cells().await == 0).await;
    assert_eq!(session.gate.calls(), 4);
}

#[tokio::test]
async fn a_cell_that_was_woken_and_waits_is_kept_again() {
    let Some(fleet) = Fleet::start(1, &SOON).await else { return };
    let session = Session::new(fleet.service("t1"));
    let mut cell = session.kept(&fleet).await;
    for _ in 0..2 {
        cell.look(&session.service).await;
        until(async || fleet.cells().await == 0).await;
    }
    session.gate.open.send_replace(true);
    assert_eq!(session.end(&cell).await, Ok(called()));
}

#[tokio::test]
async fn a_frozen_cell_stays_where_it_is() {
    let Some(fleet) = Fleet::start(1, &SOON).await else { return };
    let session = Session::new(fleet.service("t1"));
    session.gate.open.send_replace(true);
    let source = "await tools.echo(1); text('one'); await tools.echo(2); text('two')";
    let frozen = session.service.execute_to_pending(request(source)).await.unwrap();
    let ExecuteToPendingOutcome::Pending { cell_id, .. } = frozen else { panic!("{frozen:?}") };
    // A cell that was started later has left.
    let other = session.start("await new Promise((done) => setTimeout(done, 1e6))").await;
    let mut kept = Kept::connect(fleet.cluster);
    let class = fleet.parking_class().await;
    until(async || kept.records("t1", &class).iter().any(|record| record.client_id == other.id))
        .await;
    assert_eq!(kept.records("t1", &class).len(), 1);
    let next = session.service.wait_to_pending(cell_id).await.unwrap();
    let WaitToPendingOutcome::LiveCell(ExecuteToPendingOutcome::Pending { content_items, .. }) =
        next
    else {
        panic!("{next:?}")
    };
    assert_eq!(content_items, [ContentItem::InputText { text: "one".to_owned() }]);
}

#[tokio::test]
async fn a_worker_that_was_paused_has_no_cell_any_more() {
    let Some(mut fleet) = Fleet::start(1, &["--orphan-grace", "8s"]).await else { return };
    // The session can be opened again: so its worker keeps what the client has left.
    let session = Session::new(fleet.named("paused", StoredValues::new()).0);
    let cell = session.start(CALLS).await;
    until(async || session.gate.calls() == 2).await;
    fleet.workers[0].signal(Signal::STOP);
    // Another is there by the time at which the client finds the first one silent.
    fleet.spawn(&[]);
    serving(fleet.cluster, &fleet.class, 1).await;
    let error = session.end(&cell).await.unwrap_err();
    let cut = ("echo".to_owned(), CallEnd::Cancelled);
    assert_eq!(calls_of(&error), [cut.clone(), cut]);
    let mut kept = Kept::connect(fleet.cluster);
    let class = fleet.parking_class().await;
    let mut state = || kept.records("t1", &class).into_iter().map(|record| record.state).next();
    until(async || state().as_deref() == Some("lost")).await;
    // The paused one finds its client gone, and cannot keep what is lost.
    fleet.workers[0].signal(Signal::CONT);
    until(async || {
        let reports = reports(fleet.cluster, &fleet.class).await;
        let cells: usize = reports.iter().map(|report| report.cells).sum();
        reports.len() == 2 && cells == 0 && reports.iter().any(|report| report.lost == 1)
    })
    .await;
    assert_eq!(state().as_deref(), Some("lost"));
    assert_eq!(session.end(&cell).await.unwrap_err(), error);
    assert_eq!(session.gate.calls(), 2);
}

#[tokio::test]
async fn a_worker_that_was_paused_takes_no_cell_that_another_has_woken() {
    let Some(mut fleet) = Fleet::start(1, &SOON).await else { return };
    let session = Session::new(fleet.named("overtaken", StoredValues::new()).0);
    let mut cells = Vec::new();
    for _ in 0..8 {
        cells.push(session.start(CALLS).await);
    }
    until(async || session.gate.calls() == 16).await;
    until(async || fleet.cells().await == 0).await;
    fleet.workers[0].signal(Signal::STOP);
    fleet.spawn(&SOON);
    serving(fleet.cluster, &fleet.class, 1).await;
    // About half of these reach the one that is paused first.
    let waking = cells.iter_mut().map(|cell| cell.look(&session.service));
    futures_util::future::join_all(waking).await;
    fleet.workers[0].signal(Signal::CONT);
    // It has read what was sent to it meanwhile, and the other has all cells kept again.
    serving(fleet.cluster, &fleet.class, 2).await;
    until(async || fleet.cells().await == 0).await;
    session.gate.open.send_replace(true);
    for cell in &cells {
        assert_eq!(session.end(cell).await, Ok(called()));
    }
    assert_eq!(session.gate.calls(), 24);
    assert_eq!(session.service.stored_values()["end"], "three");
    let (class, mut kept) = (fleet.parking_class().await, Kept::connect(fleet.cluster));
    until(async || kept.records("t1", &class).is_empty()).await;
}

#[tokio::test]
async fn a_worker_that_dies_loses_what_ran_there_and_not_what_was_kept() {
    let Some(mut fleet) = Fleet::start(1, &SOON).await else { return };
    let session = Session::new(fleet.service("t1"));
    let mut parked = Vec::new();
    for _ in 0..100 {
        parked.push(session.start(CALLS).await);
    }
    until(async || session.gate.calls() == 200).await;
    until(async || fleet.cells().await == 0).await;
    let busy = Session::new(fleet.service("t1"));
    busy.gate.open.send_replace(true);
    let mut running = Vec::new();
    for _ in 0..20 {
        running.push(busy.start(BUSY).await);
    }
    until(async || busy.gate.calls() > 100).await;
    fleet.workers[0].signal(Signal::KILL);
    fleet.workers.remove(0).wait();
    fleet.add(&SOON).await;
    let mut calls = 0;
    for cell in &running {
        calls += calls_of(&busy.end(cell).await.unwrap_err()).len();
    }
    assert!(calls > 0);
    session.gate.open.send_replace(true);
    for cell in &parked {
        assert_eq!(session.end(cell).await, Ok(called()));
    }
    assert_eq!(session.gate.calls(), 300);
}

#[tokio::test]
async fn a_client_that_dies_leaves_its_cells_to_the_next() {
    let Some(fleet) = Fleet::start(2, &["--orphan-grace", "4s"]).await else { return };
    // A runtime that is dropped is a client that says no goodbye.
    let (first, _) = fleet.named("orphans", StoredValues::new());
    let dying = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let id = runtime.block_on(async {
            let session = Session::new(first);
            let cell = session.start(CALLS).await;
            until(async || session.gate.calls() == 2).await;
            std::mem::forget(session);
            cell.id
        });
        runtime.shutdown_background();
        id
    });
    let id = dying.join().unwrap();
    let (class, mut kept) = (fleet.parking_class().await, Kept::connect(fleet.cluster));
    until(async || kept.records("t1", &class).iter().any(|record| record.state == "parked")).await;
    let values = StoredValues::new();
    let (service, backend) = fleet.named("orphans", values.clone());
    let reopened = backend.reopen(values).await.unwrap();
    assert_eq!(reopened, std::slice::from_ref(&id));
    // Another session and another tenant find nothing.
    let (_, other) = fleet.named("others", StoredValues::new());
    assert_eq!(other.reopen(StoredValues::new()).await.unwrap(), []);
    assert_ne!(service.allocate_cell_id().unwrap(), id);
    let session = Session::new(service);
    session.gate.open.send_replace(true);
    let cell = Started { id, said: String::new() };
    let (end, completed) = session.end(&cell).await.unwrap();
    assert!(completed && end.ends_with("one,two"), "{end}");
    // Two calls were resumed, and one is new.
    assert_eq!((session.gate.resumed(), session.gate.calls()), (2, 1));
    assert_eq!(session.service.stored_values()["end"], "three");
    until(async || fleet.cells().await == 0).await;
    assert_eq!(backend.reopen(StoredValues::new()).await.unwrap(), []);
}

#[tokio::test]
async fn damaged_and_foreign_bytes_are_refused_and_harm_nobody_else() {
    let Some(fleet) = Fleet::start(1, &SOON).await else { return };
    let (one, two) = (Session::new(fleet.service("t1")), Session::new(fleet.service("t2")));
    let (damaged, foreign) = (one.kept(&fleet).await, one.kept(&fleet).await);
    let (whole, other) = (one.kept(&fleet).await, two.kept(&fleet).await);
    let (class, mut kept) = (fleet.parking_class().await, Kept::connect(fleet.cluster));
    let mut object = |tenant: &str, cell: &Started| {
        let mut records = kept.records(tenant, &class).into_iter();
        records.find(|record| record.client_id == cell.id).unwrap().object.unwrap()
    };
    let names = [object("t1", &damaged), object("t1", &foreign), object("t2", &other)];
    let mut bytes = kept.bytes(&names[0]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    kept.replace(&names[0], &bytes);
    // The other tenant's cell, in place of one of its own.
    let bytes = kept.bytes(&names[2]);
    kept.replace(&names[1], &bytes);
    for session in [&one, &two] {
        session.gate.open.send_replace(true);
    }
    assert_eq!(one.end(&damaged).await, Err(CodeModeError::Park(ParkError::Damaged)));
    assert_eq!(one.end(&foreign).await, Err(CodeModeError::Park(ParkError::OtherKey)));
    assert_eq!(one.end(&whole).await, Ok(called()));
    assert_eq!(two.end(&other).await, Ok(called()));
}

#[tokio::test]
async fn workers_with_another_key_are_not_asked() {
    let Some(mut fleet) = Fleet::start(1, &SOON).await else { return };
    let session = Session::new(fleet.service("t1"));
    let cell = session.kept(&fleet).await;
    fleet.drain().await;
    let key = fleet.dir.path().join("other.key");
    let _other = Worker::spawn(fleet.cluster, &fleet.class, &["--park-key", key.to_str().unwrap()]);
    serving(fleet.cluster, &fleet.class, 1).await;
    // It waits for a worker that has the key.
    let wait = WaitRequest { cell_id: cell.id.clone(), yield_time_ms: 1_500 };
    let response = session.service.wait(wait).await.unwrap().into();
    assert!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
    fleet.spawn(&[]);
    session.gate.open.send_replace(true);
    let (end, completed) = session.end(&cell).await.unwrap();
    assert!(completed && end.ends_with("one,two"), "{end}");
}

#[tokio::test]
async fn a_session_that_shuts_down_ends_cells_that_are_kept() {
    let Some(fleet) = Fleet::start(1, &SOON).await else { return };
    let session = Session::new(fleet.service("t1"));
    let cell = session.kept(&fleet).await;
    session.service.shutdown().await;
    assert!(!session.end(&cell).await.unwrap().1);
    until(async || fleet.cells().await == 0).await;
    assert!(session.service.execute(request("text(1)")).await.is_err());
    let (class, mut kept) = (fleet.parking_class().await, Kept::connect(fleet.cluster));
    until(async || kept.records("t1", &class).is_empty()).await;
}

#[tokio::test]
async fn a_tenant_keeps_no_more_than_it_may_and_loses_none_of_the_others() {
    let cells = ["--max-parked-per-tenant", "3"];
    let bytes = ["--park-bytes-per-tenant", "1KiB"];
    for (room, kept) in [(cells, 3), (bytes, 0)] {
        let Some(mut fleet) = Fleet::start(1, &room).await else { return };
        // Nobody else has cells in this account.
        let session = Session::new(service(&fleet.cluster.fleet("operator", &fleet.class)));
        let class = fleet.parking_class().await;
        let mut cells = Vec::new();
        for _ in 0..8 {
            cells.push(session.start(CALLS).await);
        }
        until(async || session.gate.calls() == 16).await;
        fleet.drain().await;
        let mut records = Kept::connect(fleet.cluster);
        assert_eq!(records.records("=", &class).len(), kept);
        // The client has the others: all of them go on.
        fleet.add(&room).await;
        session.gate.open.send_replace(true);
        for cell in &cells {
            assert_eq!(session.end(cell).await, Ok(called()));
        }
        assert_eq!(session.gate.calls(), 24);
        until(async || records.records("=", &class).is_empty()).await;
    }
}

#[tokio::test]
async fn all_tenants_together_keep_no_more_than_is_reserved() {
    let Some(fleet) = Fleet::start(1, &[]).await else { return };
    let config = Kept::connect(fleet.cluster).config();
    // The server refuses what is more, and drops nothing for it.
    assert_eq!((&config["max_bytes"], &config["discard"]), (&json!(2_u64 << 30), &json!("new")));
}

#[tokio::test]
async fn a_client_cannot_have_cells_kept_that_were_not_asked_to_leave() {
    let Some(fleet) = Fleet::start(1, &[]).await else { return };
    let mut raw = Raw::connect(fleet.cluster, "t2", "unasked");
    let keep = json!({ "cell": "c", "id": "1", "client": "x" });
    let seam = json!({ "keep": keep });
    let first = start_with(BUSY, &[SEAM_CAPABILITY], Some(&seam));
    raw.send(&format!("cb.exec.{}", fleet.class), &["cb-seq: 1"], &first);
    let link = link(&mut raw);
    let wait = json!({ "method": "session/wait", "sessionId": "s", "request":
        { "cell_id": "1", "yield_time_ms": 0 }, "park": true, "keep": true });
    raw.send(
        &format!("cb.w.{link}"),
        &["cb-seq: 2"],
        &frame::encode(&operation(3, &wait)).unwrap(),
    );
    let mut answers = String::new();
    while !answers.contains("leave unasked") {
        answers += &String::from_utf8_lossy(&raw.next().unwrap().payload);
    }
    assert_eq!(fleet.cells().await, 1);
}
