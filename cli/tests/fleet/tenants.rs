//! Tenants that send what the protocol does not have: each costs its own cells alone.

use crate::cells::{Tools, service, text, waiting};
use crate::cluster::{Cluster, reports, until, workers};
use crate::raw::{Raw, request, start};
use cellblock::{RuntimeResponse, WaitRequest};
use cellblock_remote::protocol::frame;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

const WAITS: &str = "text('begun'); await new Promise((done) => setTimeout(done, 1e6))";

/// The link that the next message of a worker names.
pub fn link(raw: &mut Raw) -> String {
    let mut messages = std::iter::from_fn(|| raw.next());
    messages.find_map(|message| Some(message.header("cb-link")?.to_owned())).unwrap()
}

/// The link of a program that was started.
fn started(raw: &mut Raw, class: &str) -> String {
    raw.send(&format!("cb.exec.{class}"), &["cb-seq: 1"], &start(WAITS));
    link(raw)
}

#[tokio::test]
async fn a_message_for_another_tenants_cell_does_nothing() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &[]).await;
    let mut owner = Raw::connect(cluster, "t1", "owner");
    let link = started(&mut owner, &class);
    owner.flush();
    let terminate =
        request(3, &json!({ "method": "session/terminate", "sessionId": "s", "cellId": "1" }));
    let terminate = frame::encode(&terminate).unwrap();
    // The other tenant knows all names, which it cannot; the subject is still its own.
    let mut other = Raw::connect(cluster, "t2", "other");
    for subject in [
        format!("cb.w.{link}"),
        format!("cb.t1.w.{link}"),
        format!("cb.t2.w.{link}"),
        format!("cb.t1.exec.{class}"),
    ] {
        other.send(&subject, &["cb-seq: 2"], &terminate);
        other.send(&subject, &["cb-end: "], b"");
    }
    other.flush();
    // What it reaches is answered as if there were no such cell.
    let mut other = Raw::connect(cluster, "t2", "another");
    for link in [link.clone(), format!("{}0", &link[..link.len() - 1])] {
        other.send(&format!("cb.w.{link}"), &["cb-sent: 1"], b"");
        let answer = other.next().unwrap();
        assert_eq!(answer.header("cb-end"), Some("it does not have the cell"), "{answer:?}");
        assert_eq!(answer.header("cb-link"), Some(&*link));
    }
    // It is still there, for its owner alone.
    until(async || reports(cluster, &class).await[0].cells == 1).await;
    owner.send(&format!("cb.w.{link}"), &["cb-seq: 2"], &terminate);
    // A frame may come in more than one message.
    let mut ended = String::new();
    while !(ended.contains("wait/completed") && ended.contains("Terminated")) {
        let message = owner.next().unwrap();
        assert_eq!(message.header("cb-end"), None, "{ended}");
        ended += &String::from_utf8_lossy(&message.payload);
    }
    owner.send(&format!("cb.w.{link}"), &["cb-end: "], b"");
    until(async || reports(cluster, &class).await[0].cells == 0).await;
}

#[tokio::test]
async fn a_tenant_reaches_neither_the_fleets_account_nor_another() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &[]).await;
    let mut other = Raw::connect(cluster, "t2", "inbox");
    for subject in ["$SRV.PING", "$SRV.STATS.cellblock", "cb.t1.exec.main"] {
        other.send(subject, &[], b"");
        let answer = other.next().unwrap();
        assert!(answer.headers.starts_with("NATS/1.0 503"), "{subject}: {answer:?}");
    }
    assert_eq!(text(&service(&cluster.fleet("t1", &class)), "text('served')").await, "served");
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_its_own_link() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) =
        workers(cluster, 1, &["--max-cells", "32", "--orphan-grace", "6s"]).await;
    let exec = format!("cb.exec.{class}");
    let mut raw = Raw::connect(cluster, "t2", "hostile");
    // Not frames, a length that is too long, half a hello, no bytes, no number, a wrong number.
    let hello = start(WAITS);
    for (headers, payload) in [
        (&["cb-seq: 1"][..], &b"\xff\xff\xff\xffgarbage"[..]),
        (&["cb-seq: 1"], b"\x04\0\0\0nope"),
        (&["cb-seq: 1"], &hello[..9]),
        (&["cb-seq: 1"], b""),
        (&[], b""),
        (&["cb-seq: 2"], &hello),
        (&["cb-seq: minus one", "cb-ack: 99999999999999999999"], &hello),
        (&["cb-seq: 1", "cb-ack: 18446744073709551615", "cb-sent: 7"], &hello),
        (&["cb-seq: 1", "traceparent: not\ta trace"], &hello),
    ] {
        raw.send(&exec, headers, payload);
    }
    // A link that is sent more than a window, and never reads.
    let mut raw = Raw::connect(cluster, "t2", "flooding");
    let link = started(&mut raw, &class);
    for number in 2..40 {
        raw.send(&format!("cb.w.{link}"), &[&format!("cb-seq: {number}")], &vec![b' '; 500_000]);
    }
    raw.flush();
    drop(raw);
    // Others are served meanwhile, and in the end nothing is left.
    assert_eq!(text(&service(&cluster.fleet("t1", &class)), "text('served')").await, "served");
    until(async || {
        let report = &reports(cluster, &class).await[0];
        report.started >= 10 && report.cells == 0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_asks_for_everything_again_receives_it_now_and_then() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &["--orphan-grace", "6s"]).await;
    let mut raw = Raw::connect(cluster, "t2", "again");
    let source = "text('x'.repeat(400_000)); await new Promise((done) => setTimeout(done, 1e6))";
    raw.send(&format!("cb.exec.{class}"), &["cb-seq: 1"], &start(source));
    let subject = format!("cb.w.{}", link(&mut raw));
    let began = Instant::now();
    for _ in 0..500 {
        raw.send(&subject, &["cb-again: 0"], b"");
    }
    raw.send(&subject, &["cb-again: not a number"], b"");
    raw.send(&subject, &["cb-again: 18446744073709551615"], b"");
    let is_first = |message: &crate::raw::Received| message.header("cb-seq") == Some("1");
    while !is_first(&raw.next().unwrap()) {}
    // It has no more to say once it ends.
    raw.send(&subject, &["cb-end: "], b"");
    until(async || reports(cluster, &class).await[0].cells == 0).await;
    let times = 2 + began.elapsed().as_millis() / 500;
    raw.ping();
    let copies = 1 + std::iter::from_fn(|| raw.next()).filter(is_first).count();
    assert!(copies as u128 <= times, "{copies} copies, at most {times} are due");
}

#[tokio::test]
async fn only_the_worker_that_has_a_cell_answers_for_it() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &[]).await;
    // Another one with the rights of a worker sees how the cell is started.
    let mut other = Raw::connect(cluster, "worker", "cb.other");
    other.subscribe(&format!("cb.*.exec.{class}"));
    let service = service(&cluster.fleet("t1", &class));
    let _turn = service.start_turn_worker(Arc::new(Tools::default()));
    let cell_id = waiting(&service, "text('begun'); await tools.hang()").await;
    let reply = other.next().unwrap().reply.unwrap();
    let forged = frame::encode(&json!({ "type": "cell/closed", "cellId": "1" })).unwrap();
    for headers in [
        &["cb-seq: 1"][..],
        &["cb-seq: 2", "cb-link: another.link"],
        &["cb-link: another.link", "cb-end: it is mine"],
        &["cb-link: > *", "cb-end: it is mine"],
        &["cb-link: another.link", "cb-sent: 99", "cb-again: 0"],
    ] {
        other.send(&reply, headers, &forged);
    }
    other.flush();
    // What the other one says does not reach the cell, which goes on.
    let ended = service.terminate(cell_id.clone()).await.unwrap();
    assert!(matches!(ended.into(), RuntimeResponse::Terminated { .. }));
    assert_eq!(text(&service, "text(await tools.echo('its own'))").await, "its own");
    let again = service.wait(WaitRequest { cell_id, yield_time_ms: 0 }).await;
    assert!(matches!(again.unwrap(), cellblock::WaitOutcome::MissingCell(_)));
}

#[tokio::test]
async fn what_stays_missing_ends_the_link_and_what_comes_late_does_not() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _workers) = workers(cluster, 1, &["--orphan-grace", "4s"]).await;
    let mut raw = Raw::connect(cluster, "t2", "gap");
    let link = started(&mut raw, &class);
    let subject = format!("cb.w.{link}");
    let terminate =
        request(3, &json!({ "method": "session/terminate", "sessionId": "s", "cellId": "1" }));
    let terminate = frame::encode(&terminate).unwrap();
    let (half, rest) = terminate.split_at(9);
    raw.send(&subject, &["cb-seq: 3"], rest);
    let asks = |message: &crate::raw::Received| message.header("cb-again") == Some("1");
    while !asks(&raw.next().unwrap()) {}
    // All of it once more, and some of it twice.
    for (number, bytes) in [("cb-seq: 2", half), ("cb-seq: 2", half), ("cb-seq: 3", rest)] {
        raw.send(&subject, &[number], bytes);
    }
    let mut ended = String::new();
    while !ended.contains("Terminated") {
        ended += &String::from_utf8_lossy(&raw.next().unwrap().payload);
    }
    raw.send(&subject, &["cb-seq: 5"], rest);
    let why = loop {
        // It says that it is alive meanwhile.
        raw.send(&subject, &["cb-ack: 0"], b"");
        let message = raw.next().unwrap();
        if let Some(why) = message.header("cb-end") {
            break why.to_owned();
        }
    };
    assert_eq!(why, "messages were lost on the way");
    until(async || reports(cluster, &class).await[0].cells == 0).await;
}
