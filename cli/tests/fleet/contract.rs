//! The contract of the seam, kept by a fleet of three workers.

use crate::cluster::{Cluster, Worker, serving};
use cellblock::{CodeModeBackend, SessionLimits};
use cellblock_remote::{NatsBackend, ProcessLimits};
use cellblock_tests::backends::Backends;
use cellblock_tests::differing::assert_differs;
use std::sync::Arc;

const CLASS: &str = "contract";

/// A session on the fleet.
fn session(limits: SessionLimits) -> Arc<dyn CodeModeBackend> {
    let cluster = Cluster::shared().unwrap();
    let limits = ProcessLimits {
        max_yield_time_ms: limits.max_yield_time_ms,
        cancel_grace: limits.cell.cancel_grace,
        cell: Some(limits.cell),
        cells: Some(limits.cells),
        unread_results: limits.unread_results,
        unread_bytes: limits.unread_bytes,
        ..ProcessLimits::default()
    };
    Arc::new(NatsBackend::with_limits(&cluster.fleet("t1", CLASS), limits))
}

#[test]
fn a_fleet_keeps_the_contract() {
    let Some(cluster) = Cluster::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("park.key");
    let key = key.to_str().unwrap();
    let room = ["--max-cells", "200", "--max-cells-per-tenant", "200", "--park-key", key];
    let _workers = [(); 3].map(|()| Worker::spawn(cluster, CLASS, &room));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serving(cluster, CLASS, 3));
    assert_differs(Backends::Elsewhere(session), include_str!("../differences-fleet.toml"), &[]);
}
