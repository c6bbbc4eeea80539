//! Which caller receives what: one observer at a time, and no output is lost.

use super::bench::{Bench, assert_completed, assert_terminated, assert_yielded, live};
use crate::backends::Backends;
use cellblock::{CodeModeError, ExecuteRequest, WaitRequest};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A second observer is refused; the first receives what it would have received.
pub async fn second_observer_is_rejected_without_displacing_the_first(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.gate(); text('received')").await;
    let (first, second) = tokio::join!(bench.wait("1"), async {
        bench.settle().await;
        let refused = bench.wait_for("1", 10_000).await;
        bench.host.gate.notify_one();
        refused
    });
    assert_completed(&live(first), &["received"]);
    assert_eq!(second, Err(CodeModeError::AlreadyObserved("1".into())));
    assert_eq!(second.unwrap_err().to_string(), "exec cell 1 already has an active observer");
}

/// With a yield time of zero the answer comes before any output.
pub async fn yield_timer_preempts_buffered_runtime_output(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "text('queued'); await tools.stone()";
    let request = ExecuteRequest { yield_time_ms: Some(0), ..Bench::request(source) };
    assert_yielded(&bench.service.execute(request).await.expect("admitted"), &[]);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_terminated(
        &live(bench.service.terminate("1".into()).await.expect("ended")),
        &["queued"],
    );
}

/// An observer that leaves before it looks takes nothing with it.
pub async fn observation_dropped_before_dequeue_does_not_consume_output(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.gate(); text('kept'); yield_control(); await tools.stone()").await;
    {
        let request = WaitRequest { cell_id: "1".into(), yield_time_ms: 10_000 };
        let mut observation = Box::pin(bench.service.wait(request));
        // Polled once, so that the cell knows of it; then the answer is on its way.
        assert!(timeout(Duration::ZERO, &mut observation).await.is_err());
        bench.host.gate.notify_one();
        bench.settle().await;
    }
    bench.settle().await;
    assert_yielded(&live(bench.wait("1").await), &["kept"]);
}

/// Output that came while an observer left waits for the next.
pub async fn dropped_yield_observer_preserves_output_for_the_next_observation(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.gate(); text('a'); await tools.gate(); text('b')").await;
    for _ in 0..2 {
        let wait = bench.wait_for("1", 10_000);
        assert!(timeout(Duration::from_millis(5), wait).await.is_err());
    }
    bench.host.gate.notify_one();
    bench.settle().await;
    bench.host.gate.notify_one();
    assert_completed(&live(bench.wait("1").await), &["a", "b"]);
}

/// A completion whose receiver has gone is there for the next.
pub async fn failed_completion_delivery_rebuffers_the_event(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.gate(); text('result')").await;
    {
        let request = WaitRequest { cell_id: "1".into(), yield_time_ms: 10_000 };
        let mut observation = Box::pin(bench.service.wait(request));
        assert!(timeout(Duration::ZERO, &mut observation).await.is_err());
        bench.host.gate.notify_one();
        // The cell has ended and its answer was handed over; nobody took it.
        bench.settle().await;
    }
    assert_completed(&live(bench.wait("1").await), &["result"]);
}

/// A yield that never arrived comes before the completion that followed it.
pub async fn buffered_initial_yield_precedes_buffered_completion_for_yield_observer(
    backends: Backends,
) {
    let bench = Bench::new(backends);
    let source = "text('a'); yield_control(); await tools.gate(); text('b')";
    bench.abandon(source).await;
    bench.host.gate.notify_one();
    bench.settle().await;
    assert_yielded(&live(bench.wait("1").await), &["a"]);
    assert_completed(&live(bench.wait("1").await), &["b"]);
}

/// What was answered once is not answered again.
pub async fn only_new_output_since_the_last_answer_is_returned(backends: Backends) {
    let bench = Bench::new(backends);
    let source =
        "for (const step of ['a', 'b', 'c']) { text(step); yield_control(); await tools.gate() }";
    assert_yielded(&bench.execute(source).await, &["a"]);
    for text in ["b", "c"] {
        bench.host.gate.notify_one();
        assert_yielded(&live(bench.wait("1").await), &[text]);
    }
    bench.host.gate.notify_one();
    assert_completed(&live(bench.wait("1").await), &[]);
}

/// Completion answers at once, whatever the yield time.
pub async fn a_completed_cell_wakes_its_observer_at_once(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.nap({ ms: 5000 }); text('awake')").await;
    let started = Instant::now();
    let outcome = bench.wait_for("1", 3_600_000).await.expect("nobody else waits");
    assert_completed(&live(outcome), &["awake"]);
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}
