//! The pending frontier: a cell that waits is frozen until it is observed again.

use super::bench::{Bench, assert_completed, live, texts_of};
use crate::backends::Backends;
use cellblock::{
    ContentItem, ExecuteToPendingOutcome, RuntimeResponse, WaitOutcome, WaitToPendingOutcome,
};
use std::time::Duration;
use tokio::time::timeout;

/// A frontier: its texts and its calls.
fn frontier(outcome: ExecuteToPendingOutcome) -> (Vec<String>, Vec<String>) {
    match outcome {
        ExecuteToPendingOutcome::Pending { content_items, pending_tool_call_ids, .. } => {
            let text = |item| match item {
                ContentItem::InputText { text } => text,
                other => panic!("not a text: {other:?}"),
            };
            (content_items.into_iter().map(text).collect(), pending_tool_call_ids)
        }
        ended @ ExecuteToPendingOutcome::Completed(_) => panic!("not pending: {ended:?}"),
    }
}

fn completed(outcome: ExecuteToPendingOutcome) -> RuntimeResponse {
    match outcome {
        ExecuteToPendingOutcome::Completed(response) => response,
        pending @ ExecuteToPendingOutcome::Pending { .. } => panic!("not completed: {pending:?}"),
    }
}

async fn execute(bench: &Bench, source: &str) -> ExecuteToPendingOutcome {
    bench.service.execute_to_pending(Bench::request(source)).await.expect("admitted")
}

async fn resume(bench: &Bench) -> ExecuteToPendingOutcome {
    match bench.service.wait_to_pending("1".into()).await.expect("nobody else waits") {
        WaitToPendingOutcome::LiveCell(outcome) => outcome,
        missing @ WaitToPendingOutcome::MissingCell(_) => panic!("missing: {missing:?}"),
    }
}

/// A program that waits for nothing is completed at once.
pub async fn execute_to_pending_returns_completed_for_synchronous_results(backends: Backends) {
    let bench = Bench::new(backends);
    assert_completed(&completed(execute(&bench, "text('all')").await), &["all"]);
}

/// One that waits is pending once it does.
pub async fn execute_to_pending_returns_once_the_runtime_is_quiescent(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "text('a'); await null; text('b'); await new Promise(() => {})";
    let (texts, calls) = frontier(execute(&bench, source).await);
    assert_eq!(texts, ["a", "b"]);
    assert!(calls.is_empty());
}

/// The frontier names the calls that were made.
pub async fn execute_to_pending_identifies_tool_calls_in_paused_frontier(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "await Promise.all([tools.gate(), tools.gate()])";
    let (_, calls) = frontier(execute(&bench, source).await);
    assert_eq!(calls, ["tool-1", "tool-2"]);
}

/// A timer that fires while the cell is frozen makes its call after the next observation.
pub async fn execute_to_pending_excludes_delayed_timeout_tool_calls_until_wait(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "tools.gate(); tools.gate(); setTimeout(() => tools.stone(), 10);
                  await new Promise(() => {})";
    let (_, calls) = frontier(execute(&bench, source).await);
    assert_eq!(calls, ["tool-1", "tool-2"]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.host.calls().len(), 2, "the cell is frozen");
    // The first frontier of the resumed cell may come before its timer is served.
    let mut calls = Vec::new();
    while calls.is_empty() {
        calls = frontier(resume(&bench).await).1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(calls, ["tool-3"]);
}

/// A resumed cell runs on to its next frontier.
pub async fn wait_to_pending_returns_after_resumed_runtime_becomes_quiescent_again(
    backends: Backends,
) {
    let bench = Bench::new(backends);
    let source = "await tools.gate(); text('next'); await tools.gate()";
    frontier(execute(&bench, source).await);
    bench.host.gate.notify_one();
    bench.settle().await;
    let (texts, calls) = frontier(resume(&bench).await);
    assert_eq!((texts, calls), (vec!["next".to_owned()], vec!["tool-2".to_owned()]));
}

/// A resumed cell that ends is completed.
pub async fn wait_to_pending_returns_completed_after_resumed_runtime_finishes(backends: Backends) {
    let bench = Bench::new(backends);
    frontier(execute(&bench, "await tools.gate(); text('end')").await);
    bench.host.gate.notify_one();
    bench.settle().await;
    assert_completed(&completed(resume(&bench).await), &["end"]);
}

/// What happens while the cell is frozen is kept until it is observed.
pub async fn pending_mode_freezes_runtime_commands_until_resume(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "setTimeout(() => text('fired'), 10); await new Promise(() => {})";
    frontier(execute(&bench, source).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut texts = Vec::new();
    while texts.is_empty() {
        texts = frontier(resume(&bench).await).0;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(texts, ["fired"]);
}

/// A normal observer lets a frozen cell go on.
pub async fn returns_and_resumes_from_the_pending_frontier(backends: Backends) {
    let bench = Bench::new(backends);
    let (texts, _) = frontier(execute(&bench, "text('a'); await tools.gate(); text('b')").await);
    assert_eq!(texts, ["a"]);
    bench.host.gate.notify_one();
    assert_completed(&live(bench.wait("1").await), &["b"]);
}

/// A frontier that never arrived is there for the next observer.
pub async fn dropped_pending_observer_preserves_the_frontier_for_the_next_observation(
    backends: Backends,
) {
    let bench = Bench::new(backends);
    {
        let request = Bench::request("text('kept'); await tools.stone()");
        let mut execution = Box::pin(bench.service.execute_to_pending(request));
        assert!(timeout(Duration::ZERO, &mut execution).await.is_err());
        bench.settle().await;
    }
    let (texts, calls) = frontier(resume(&bench).await);
    assert_eq!((texts, calls), (vec!["kept".to_owned()], vec!["tool-1".to_owned()]));
}

/// A yield that never arrived is part of what a frontier observer receives.
pub async fn pending_observer_merges_initial_yield_and_completion_output(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "text('a'); yield_control(); await tools.gate(); text('b')";
    bench.abandon(source).await;
    bench.host.gate.notify_one();
    bench.settle().await;
    assert_completed(&completed(resume(&bench).await), &["a", "b"]);
}

/// A yield and a frontier that never arrived come in their order.
pub async fn dropped_pending_observation_preserves_the_initial_yield_boundary(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "text('a'); yield_control(); await null; text('b'); await tools.gate(); text('c')";
    bench.abandon(source).await;
    let mut texts = Vec::new();
    {
        let mut observation = Box::pin(bench.service.wait_to_pending("1".into()));
        // In another process the frontier may have been reached by now.
        if let Ok(answer) = timeout(Duration::ZERO, &mut observation).await {
            assert!(!backends.share_the_clock(), "an answer without time to make it");
            let Ok(WaitToPendingOutcome::LiveCell(outcome)) = answer else {
                panic!("no frontier: {answer:?}")
            };
            texts.extend(frontier(outcome).0);
        }
    }
    bench.host.gate.notify_one();
    bench.settle().await;
    while let WaitOutcome::LiveCell(response) = bench.wait("1").await {
        texts.extend(texts_of(&response));
    }
    assert_eq!(texts, ["a", "b", "c"]);
}

/// An observer of the frontier is not interested in `yield_control`.
pub async fn yield_control_is_ignored_by_a_frontier_observer(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "text('a'); yield_control(); text('b'); await tools.stone()";
    assert_eq!(frontier(execute(&bench, source).await).0, ["a", "b"]);
}
