//! Yield, wait, terminate, shut down.

use super::bench::{
    Bench, assert_completed, assert_terminated, assert_yielded, error_of, live, texts_of,
};
use crate::backends::Backends;
use cellblock::{CodeModeError, ExecuteRequest, RuntimeResponse, SessionLimits, WaitOutcome};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A program that spins is interrupted within a second.
pub async fn terminate_execution_stops_cpu_bound_module(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("while (true) {}").await;
    let ended = timeout(Duration::from_secs(1), bench.service.terminate("1".into())).await;
    assert_terminated(&live(ended.expect("within a second").expect("terminated")), &[]);
}

/// A missing cell is not an event in a cell's life.
pub async fn wait_reports_missing_cell_separately_from_runtime_results(backends: Backends) {
    let bench = Bench::new(backends);
    let WaitOutcome::MissingCell(response) = bench.wait("7").await else { panic!("it exists") };
    assert_eq!(error_of(&response), Some("exec cell 7 not found"));
    assert!(response.content_items().is_empty());
    let outcome = bench.service.terminate("x".into()).await;
    assert!(matches!(outcome, Ok(WaitOutcome::MissingCell(_))), "{outcome:?}");
}

/// Shutdown ends cells that spin within a second.
pub async fn shutdown_interrupts_cpu_bound_cells(backends: Backends) {
    let bench = Bench::new(backends);
    for _ in 0..3 {
        bench.start("while (true) {}").await;
    }
    timeout(Duration::from_secs(1), bench.service.shutdown()).await.expect("within a second");
    let outcome = live(bench.wait("1").await);
    assert_terminated(&outcome, &[]);
}

/// After shutdown has begun no cell is admitted.
pub async fn start_cell_rejects_new_cell_after_shutdown_begins(backends: Backends) {
    let bench = Bench::new(backends);
    bench.service.shutdown().await;
    let refused = bench.service.execute(Bench::request("text(1)")).await;
    assert_eq!(refused, Err(CodeModeError::ShuttingDown));
    assert_eq!(CodeModeError::ShuttingDown.to_string(), "code mode session is shutting down");
}

/// A second shutdown is as good as the first.
pub async fn shutdown_is_idempotent(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await new Promise(() => {})").await;
    tokio::join!(bench.service.shutdown(), bench.service.shutdown());
    bench.service.shutdown().await;
}

/// A tool that ends half a second after the yield time still makes it into the answer.
pub async fn execute_waits_for_nested_tool_during_yield_grace(backends: Backends) {
    let bench = Bench::new(backends);
    let response = bench.execute("await tools.nap({ ms: 10500 }); text('in time')").await;
    assert_completed(&response, &["in time"]);
}

/// So it is for `wait`.
pub async fn wait_waits_for_nested_tool_during_yield_grace(backends: Backends) {
    let bench = Bench::new(backends);
    let response = bench.start("await tools.nap({ ms: 10501 }); text('in time')").await;
    assert_yielded(&response, &[]);
    assert_completed(&live(bench.wait("1").await), &["in time"]);
}

/// A session's bound shortens the wait and does not stop the cell.
pub async fn execute_and_wait_clamp_yield_grace_without_stopping_the_cell(backends: Backends) {
    let limits = SessionLimits { max_yield_time_ms: Some(100), ..SessionLimits::default() };
    let bench = Bench::with_limits(backends, limits);
    let started = Instant::now();
    assert_yielded(&bench.execute("await tools.nap({ ms: 10500 }); text('late')").await, &[]);
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
    assert_yielded(&live(bench.wait("1").await), &[]);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_completed(&live(bench.wait("1").await), &["late"]);
}

/// A bound of zero answers at once, in its session only.
pub async fn zero_yield_limit_is_immediate_and_scoped_to_its_session(backends: Backends) {
    let limits = SessionLimits { max_yield_time_ms: Some(0), ..SessionLimits::default() };
    let (bounded, free) = (Bench::with_limits(backends, limits), Bench::new(backends));
    let source = "text('x'); await tools.nap({ ms: 50 }); text('y')";
    assert_yielded(&bounded.execute(source).await, &[]);
    assert_completed(&free.execute(source).await, &["x", "y"]);
}

/// `yield_control` answers with what there is; the cell goes on.
pub async fn yields_and_resumes(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "text('before'); yield_control(); await tools.gate(); text('after')";
    assert_yielded(&bench.execute(source).await, &["before"]);
    bench.host.gate.notify_one();
    assert_completed(&live(bench.wait("1").await), &["after"]);
}

/// With nobody waiting, `yield_control` does nothing.
pub async fn yield_control_without_an_observer_has_no_effect(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "await tools.gate(); text('a'); yield_control(); text('b')";
    assert_yielded(&bench.start(source).await, &[]);
    bench.host.gate.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_completed(&live(bench.wait("1").await), &["a", "b"]);
}

/// The yield time holds while the program spins, and termination ends it.
pub async fn yield_timeout_works_for_a_busy_loop(backends: Backends) {
    let bench = Bench::new(backends);
    let request =
        ExecuteRequest { yield_time_ms: Some(100), ..Bench::request("text('x'); while (true) {}") };
    let response = timeout(Duration::from_secs(5), bench.service.execute(request)).await;
    assert_yielded(&response.expect("within the yield time").expect("admitted"), &["x"]);
    assert_terminated(&live(bench.service.terminate("1".into()).await.expect("ended")), &[]);
}

/// A flood of output keeps neither a yield nor a termination waiting.
pub async fn yield_and_termination_are_not_starved_by_runtime_output(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "for (let i = 0; i < 256; i++) text(i); await tools.hang()";
    let request = ExecuteRequest { yield_time_ms: Some(0), ..Bench::request(source) };
    assert_yielded(&bench.service.execute(request).await.expect("admitted"), &[]);
    let ended = bench.service.terminate("1".into()).await.expect("ended");
    assert!(matches!(live(ended), RuntimeResponse::Terminated { .. }));
}

/// A cell that ended by itself answers a later termination with its result.
pub async fn observed_natural_completion_wins_over_termination(backends: Backends) {
    let bench = Bench::new(backends);
    assert_yielded(&bench.start("await tools.gate(); text('done')").await, &[]);
    bench.host.gate.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let ended = bench.service.terminate("1".into()).await.expect("answered");
    assert_completed(&live(ended), &["done"]);
}

/// A termination that was requested before the completion was handled receives the completion.
pub async fn queued_termination_preempts_unobserved_runtime_completion(backends: Backends) {
    let bench = Bench::new(backends);
    // The program has ended, and its completion waits for a slow notification.
    bench.start("store('k', 1); notify('hang')").await;
    let ended = bench.service.terminate("1".into()).await.expect("answered");
    assert_terminated(&live(ended), &[]);
    assert!(bench.service.stored_values().is_empty());
}

/// Of two terminations of a finished cell one receives its result, the other that it is missing.
pub async fn only_the_first_termination_claims_a_buffered_completion(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.gate(); text('done')").await;
    bench.host.gate.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (first, second) =
        tokio::join!(bench.service.terminate("1".into()), bench.service.terminate("1".into()));
    assert_completed(&live(first.expect("answered")), &["done"]);
    // It comes while the first is still answered, or after that.
    let late = matches!(second, Ok(WaitOutcome::MissingCell(_)));
    assert!(late || second == Err(CodeModeError::AlreadyTerminating("1".into())), "{second:?}");
}

/// Dropping the session ends its cells without waiting for them.
pub async fn dropping_the_session_ends_its_cells(backends: Backends) {
    let mut bench = Bench::new(backends);
    bench.start("await tools.hang()").await;
    bench.end_turn();
    let host = std::sync::Arc::clone(&bench.host);
    drop(bench);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(host.log(), ["call hang", "returned hang"]);
}

/// While a termination waits for callbacks, a second one is refused.
pub async fn repeated_termination_is_rejected_while_callback_cleanup_is_pending(
    backends: Backends,
) {
    let bench = Bench::new(backends);
    bench.start("await tools.linger()").await;
    let (first, second) = tokio::join!(bench.service.terminate("1".into()), async {
        bench.settle().await;
        bench.service.terminate("1".into()).await
    });
    assert_terminated(&live(first.expect("the first is answered")), &[]);
    assert_eq!(second, Err(CodeModeError::AlreadyTerminating("1".into())));
    assert_eq!(second.unwrap_err().to_string(), "exec cell 1 is already terminating");
}

/// Termination answers when everything of the cell has ended.
pub async fn terminate_waits_for_callbacks_before_responding(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.linger()").await;
    live(bench.service.terminate("1".into()).await.expect("terminated"));
    assert_eq!(bench.host.log(), ["call linger", "returned linger", "closed 1"]);
}

/// A caller that waits receives the termination too.
pub async fn termination_answers_the_observer_too(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.hang()").await;
    let (observed, terminated) = tokio::join!(bench.wait("1"), async {
        bench.settle().await;
        bench.service.terminate("1".into()).await
    });
    assert_terminated(&live(observed), &[]);
    assert_terminated(&live(terminated.expect("terminated")), &[]);
}

/// The id of a living cell cannot be used again.
pub async fn a_duplicate_cell_id_is_rejected(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.stone()").await;
    let refused = bench.service.execute_as("1".into(), Bench::request("text(1)")).await;
    assert_eq!(refused, Err(CodeModeError::CellExists("1".into())));
    assert_eq!(refused.unwrap_err().to_string(), "exec cell 1 already exists");
}

/// Ids count from 1.
pub async fn cell_ids_are_decimal_and_never_reused(backends: Backends) {
    let bench = Bench::new(backends);
    for expected in ["1", "2", "3"] {
        assert_eq!(bench.execute("").await.cell_id().as_ref(), expected);
    }
}

/// A call that nobody awaits is cancelled with the cell, and its result is nobody's.
pub async fn a_tool_result_after_the_end_is_dropped(backends: Backends) {
    let bench = Bench::new(backends);
    let response = bench.execute("tools.gate().then(() => text('never')); text('end')").await;
    assert_completed(&response, &["end"]);
    bench.host.gate.notify_one();
    bench.settle().await;
    assert!(matches!(bench.wait("1").await, WaitOutcome::MissingCell(_)));
}

/// What waits for a timer that nobody awaits is dropped.
pub async fn timers_do_not_keep_a_cell_alive(backends: Backends) {
    let bench = Bench::new(backends);
    let started = Instant::now();
    let response = bench.execute("setTimeout(() => text('late'), 60000); text('done')").await;
    assert_completed(&response, &["done"]);
    assert!(started.elapsed() < Duration::from_secs(1));
}

/// `Date.now()` around a timer differs by at least its delay.
pub async fn elapsed_time_around_a_timer_is_at_least_its_delay(backends: Backends) {
    let bench = Bench::new(backends);
    let source =
        "const t = Date.now(); await new Promise((r) => setTimeout(r, 100)); text(Date.now() - t)";
    let response = bench.execute(source).await;
    let elapsed: u64 = texts_of(&response)[0].parse().expect("a number");
    assert!(elapsed >= 100, "{elapsed}");
}
