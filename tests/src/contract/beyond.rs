//! What the contract's other hosts lack: a memory of the finished, and bounds.

use super::bench::{Bench, error_of, live, texts_of};
use crate::backends::Backends;
use cellblock::{
    CellLimits, CellReport, CellState, LimitKind, RuntimeResponse, SessionLimits, WaitOutcome,
};
use std::time::Duration;

fn limited(backends: Backends, cell: CellLimits) -> Bench {
    Bench::with_limits(backends, SessionLimits { cell, ..SessionLimits::default() })
}

/// Asserts that a response is a result that met the limit, by its text and, where
/// reports are carried, by its report.
fn assert_limit(response: &RuntimeResponse, limit: LimitKind) {
    let report = response.report();
    assert!(report.limit == Some(limit) || *report == CellReport::default(), "{response:?}");
    let text = error_of(response).unwrap_or_default().to_owned();
    assert!(text.starts_with(&format!("cell stopped: its {limit} limit of ")), "{text}");
}

/// A wait for a finished cell says that it finished, not that it never was.
pub async fn a_finished_cell_is_told_from_one_that_never_was(backends: Backends) {
    let bench = Bench::new(backends);
    bench.texts("text(1)").await;
    let missing = |outcome| match outcome {
        WaitOutcome::MissingCell(response) => error_of(&response).unwrap_or_default().to_owned(),
        live @ WaitOutcome::LiveCell(_) => panic!("it lives: {live:?}"),
    };
    let finished = missing(bench.wait("1").await);
    assert_eq!(finished, "exec cell 1 not found: it already finished and its result was delivered");
    assert_eq!(missing(bench.wait("2").await), "exec cell 2 not found");
}

/// Results that nobody fetches are kept up to a bound; the oldest goes first, with a notice.
pub async fn unread_results_are_bounded_and_evicted_oldest_first(backends: Backends) {
    let limits = SessionLimits { unread_results: 2, ..SessionLimits::default() };
    let bench = Bench::with_limits(backends, limits);
    for cell in 1..=3 {
        bench.start(&format!("await tools.gate(); text({cell})")).await;
        bench.host.gate.notify_one();
        bench.settle().await;
    }
    let WaitOutcome::MissingCell(evicted) = bench.wait("1").await else { panic!("it is kept") };
    let text = error_of(&evicted).unwrap_or_default();
    assert!(text.contains("dropped because too many were never fetched"), "{text}");
    assert_eq!(texts_of(&live(bench.wait("2").await)), ["2"]);
    assert_eq!(texts_of(&live(bench.wait("3").await)), ["3"]);
}

/// The list says what each cell does.
pub async fn cells_lists_what_is_alive(backends: Backends) {
    let bench = Bench::new(backends);
    bench.start("await Promise.all([tools.gate(), tools.stone()])").await;
    bench.start("await tools.gate()").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let cells = bench.service.cells();
    let lines: Vec<_> =
        cells.iter().map(|c| (c.cell_id.as_ref(), c.state, c.calls_in_flight)).collect();
    assert_eq!(lines, [("1", CellState::Waiting, 2), ("2", CellState::Waiting, 1)]);
    assert!(cells[0].age > cells[1].age && cells[1].age >= Duration::from_millis(20));
    bench.host.gate.notify_waiters();
    bench.settle().await;
    assert_eq!(bench.service.cells()[1].state, CellState::Finished);
    live(bench.wait("2").await);
    assert_eq!(bench.service.cells().len(), 1);
}

/// A session holds so many cells and no more; a finished one makes room.
pub async fn too_many_cells_are_refused(backends: Backends) {
    let bench =
        Bench::with_limits(backends, SessionLimits { cells: 2, ..SessionLimits::default() });
    bench.start("await tools.gate()").await;
    bench.start("await tools.stone()").await;
    let refused = bench.service.execute(Bench::request("text(1)")).await;
    let text = refused.expect_err("two are all").to_string();
    assert!(text.starts_with("code-mode host has too many active cells"), "{text}");
    bench.host.gate.notify_one();
    bench.settle().await;
    bench.texts("text('room')").await;
}

/// Output has bounds in bytes and items.
pub async fn output_is_bounded(backends: Backends) {
    let bench = limited(
        backends,
        CellLimits { output_bytes: 100, output_items: 5, ..CellLimits::default() },
    );
    let response = bench.execute("try { for (;;) text('x'.repeat(40)) } catch {} text('on')").await;
    assert_limit(&response, LimitKind::OutputBytes);
    assert_eq!(texts_of(&response).len(), 2);
    assert_limit(&bench.execute("for (;;) notify('x')").await, LimitKind::OutputItems);
}

/// Calls have a bound over the life of a cell.
pub async fn calls_are_bounded(backends: Backends) {
    let bench = limited(backends, CellLimits { calls: 3, ..CellLimits::default() });
    let response = bench.execute("for (let i = 0; ; i++) text(await tools.echo(i))").await;
    assert_limit(&response, LimitKind::Calls);
    assert_eq!(texts_of(&response), ["0", "1", "2"]);
}

/// Calls have a bound at one time.
pub async fn calls_in_flight_are_bounded(backends: Backends) {
    let bench = limited(backends, CellLimits { calls_in_flight: 3, ..CellLimits::default() });
    bench.texts("for (let i = 0; i < 5; i++) await Promise.all([1, 2, 3].map(tools.echo))").await;
    assert_limit(&bench.execute("for (;;) tools.hang()").await, LimitKind::CallsInFlight);
}

/// Timers have a bound at one time.
pub async fn timers_are_bounded(backends: Backends) {
    let bench = limited(backends, CellLimits { timers: 3, ..CellLimits::default() });
    bench.texts("for (let i = 0; i < 9; i++) clearTimeout(setTimeout(() => {}, 1e6))").await;
    assert_limit(&bench.execute("for (;;) setTimeout(() => {}, 1e6)").await, LimitKind::Timers);
}

/// Stored values have bounds in bytes and keys; a key written again counts once.
pub async fn stored_values_are_bounded(backends: Backends) {
    let limits = CellLimits { stored_bytes: 100, stored_keys: 5, ..CellLimits::default() };
    let bench = limited(backends, limits);
    bench.texts("for (let i = 0; i < 99; i++) store('k', 'x'.repeat(90))").await;
    assert_limit(&bench.execute("store('k', 'x'.repeat(99))").await, LimitKind::StoredBytes);
    assert_limit(&bench.execute("for (let i = 0; ; i++) store(i, 0)").await, LimitKind::StoredKeys);
}

/// A source over its bound is not admitted.
pub async fn a_long_source_is_refused(backends: Backends) {
    let bench = limited(backends, CellLimits { source_bytes: 10, ..CellLimits::default() });
    let refused = bench.service.execute(Bench::request("text('long')")).await.unwrap_err();
    let text =
        "invalid code-mode execute request: the source is 12 bytes long, and the limit is 10";
    assert_eq!(refused.to_string(), text);
}

/// A cell that met a limit says what it called and how that ended, and keeps its output.
pub async fn a_limit_lists_what_was_called(backends: Backends) {
    let bench = limited(backends, CellLimits { fuel: 200_000_000, ..CellLimits::default() });
    let source = "text('kept'); await tools.echo(1); await tools.fail().catch(() => {});
        tools.hang(); await tools.nap({ ms: 5 });
        for (;;);";
    let response = bench.execute(source).await;
    assert_limit(&response, LimitKind::Fuel);
    assert_eq!(texts_of(&response), ["kept"]);
    let text = error_of(&response).unwrap_or_default();
    assert!(text.contains("its fuel limit of 200000000 was reached; do less work, or allow 400000000\n    at exec_main.mjs:"), "{text}");
    let calls = "\nnested calls:\n    tool-1 echo succeeded\n    tool-2 fail failed\n    tool-3 hang was cancelled\n    tool-4 nap succeeded";
    assert!(text.ends_with(calls), "{text}");
    assert!([0, 4].contains(&response.report().calls.len()), "{response:?}");
}

/// Every response says what the cell has used.
pub async fn usage_is_reported(backends: Backends) {
    let bench = Bench::new(backends);
    let response = bench.execute("text('four'); await tools.echo(1); await tools.echo(2)").await;
    let usage = response.report().usage;
    assert_eq!((usage.calls, usage.output_bytes), (2, 4));
    assert!(usage.fuel > 10_000 && usage.peak_memory_bytes > 1 << 20, "{usage:?}");
    assert!(usage.running_time > Duration::ZERO, "{usage:?}");
}
