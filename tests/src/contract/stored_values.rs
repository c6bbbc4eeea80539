//! What cells leave for later cells.

use super::bench::{Bench, assert_terminated, assert_yielded, error_of, live};
use crate::backends::Backends;
use cellblock::{CellLimits, SessionLimits};
use serde_json::json;
use std::collections::HashMap;

/// Cells of one session share values; sessions do not.
pub async fn stored_values_are_shared_between_cells_but_not_sessions(backends: Backends) {
    let (one, other) = (Bench::new(backends), Bench::new(backends));
    one.texts("store('k', { a: [1] })").await;
    assert_eq!(
        one.texts("text(load('k')); text(load('none'))").await,
        ["{\"a\":[1]}", "undefined"]
    );
    assert_eq!(other.texts("text(load('k'))").await, ["undefined"]);
}

/// Each cell's own keys are merged; nobody's are lost.
pub async fn concurrent_cells_merge_only_the_stored_values_they_write(backends: Backends) {
    let bench = Bench::new(backends);
    bench.texts("store('a', 1); store('b', 2)").await;
    bench.start("store('a', 3); await tools.gate()").await;
    bench.texts("store('b', 4)").await;
    bench.host.gate.notify_one();
    live(bench.wait("2").await);
    assert_eq!(bench.texts("text(load('a')); text(load('b'))").await, ["3", "4"]);
}

/// What others commit while a cell runs is invisible to it.
pub async fn a_cell_sees_a_snapshot_of_its_start(backends: Backends) {
    let bench = Bench::new(backends);
    bench.texts("store('k', 'old')").await;
    bench.start("await tools.gate(); text(load('k'))").await;
    bench.texts("store('k', 'new')").await;
    bench.host.gate.notify_one();
    let response = live(bench.wait("2").await);
    assert_eq!(super::bench::texts_of(&response), ["old"]);
}

/// A commit does not wait for anybody to look.
pub async fn values_of_a_cell_that_nobody_waits_for_are_committed(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await tools.gate(); store('k', 1)").await;
    bench.host.gate.notify_one();
    bench.settle().await;
    assert_eq!(bench.texts("text(load('k'))").await, ["1"]);
}

/// Errors and `exit()` commit what was stored before them.
pub async fn script_errors_and_exit_commit(backends: Backends) {
    let bench = Bench::new(backends);
    bench.execute("store('error', 1); throw new Error('x')").await;
    bench.texts("store('exit', 2); exit()").await;
    assert_eq!(bench.texts("text(load('error') + load('exit'))").await, ["3"]);
}

/// A terminated cell commits nothing, even if it had ended but for its notifications.
pub async fn termination_claim_prevents_stored_value_commit(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("store('k', 1); await tools.hang()").await;
    live(bench.service.terminate("1".into()).await.expect("terminated"));
    // This one's program has ended, and its completion waits for a notification.
    assert_yielded(&bench.start("store('k', 2); notify('hang')").await, &[]);
    let ended = bench.service.terminate("2".into()).await.expect("terminated");
    assert_terminated(&live(ended), &[]);
    assert_eq!(bench.texts("text(load('k'))").await, ["undefined"]);
}

/// A cell that met a limit commits nothing.
pub async fn limits_commit_nothing(backends: Backends) {
    let cell = CellLimits { fuel: 50_000_000, ..CellLimits::default() };
    let bench = Bench::with_limits(backends, SessionLimits { cell, ..SessionLimits::default() });
    let response = bench.execute("store('k', 1); while (true) {}").await;
    assert!(error_of(&response).is_some_and(|error| error.contains("fuel limit")), "{response:?}");
    assert_eq!(bench.texts("text(load('k'))").await, ["undefined"]);
}

/// A question for a cell that does not exist changes nothing.
pub async fn a_missing_cell_wipes_nothing(backends: Backends) {
    let bench = Bench::new(backends);
    bench.texts("store('k', 1)").await;
    bench.wait("77").await;
    assert_eq!(bench.texts("text(load('k'))").await, ["1"]);
}

/// A host may read the values, and set them itself.
pub async fn replaced_values_are_seen_by_the_next_cell(backends: Backends) {
    let bench = Bench::new(backends);
    bench.texts("store('gone', 1)").await;
    assert_eq!(bench.service.stored_values()["gone"], 1);
    bench.service.replace_stored_values(HashMap::from([("k".to_owned(), json!([true]))]));
    assert_eq!(bench.texts("text(load('k')); text(load('gone'))").await, ["[true]", "undefined"]);
}
