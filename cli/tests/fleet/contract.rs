//! The contract of the seam, kept by a fleet of three workers.

use crate::cluster::{Cluster, HEARTBEAT, Worker, serving};
use cellblock::{CodeModeBackend, SessionLimits};
use cellblock_remote::{NatsBackend, NatsFleet, ProcessLimits};
use cellblock_tests::backends::Backends;
use cellblock_tests::differing::assert_differs;
use std::sync::{Arc, OnceLock};

const CLASS: &str = "contract";

/// Sessions of one fleet, all over one connection of each runtime.
fn session(limits: SessionLimits) -> Arc<dyn CodeModeBackend> {
    static WORKERS: OnceLock<Vec<Worker>> = OnceLock::new();
    let cluster = Cluster::shared().unwrap();
    WORKERS.get_or_init(|| {
        let start = |_| {
            Worker::spawn(cluster, CLASS, &["--max-cells", "200", "--max-cells-per-tenant", "200"])
        };
        (0..3).map(start).collect()
    });
    let limits = ProcessLimits {
        max_yield_time_ms: limits.max_yield_time_ms,
        cancel_grace: limits.cell.cancel_grace,
        cell: Some(limits.cell),
        cells: Some(limits.cells),
        unread_results: limits.unread_results,
        unread_bytes: limits.unread_bytes,
        ..ProcessLimits::default()
    };
    let fleet: NatsFleet = cluster.fleet("t1", CLASS).with_heartbeat(HEARTBEAT);
    Arc::new(NatsBackend::with_limits(&fleet, limits))
}

#[test]
fn a_fleet_keeps_the_contract() {
    let Some(cluster) = Cluster::shared() else { return };
    drop(session(SessionLimits::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serving(cluster, CLASS, 3));
    assert_differs(Backends::Elsewhere(session), include_str!("../differences-fleet.toml"), &[]);
}
