//! A backend's session on its host: opened anew in each generation.

use super::ProcessLimits;
use super::address::HostProcess;
use super::cell::{RemoteCell, RemoteSession};
use super::connection::{Failure, HostConnection};
use crate::protocol::ExecutionLimits;
use cellblock::support::{TurnWorkers, lock};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::OnceCell;

/// The session, wherever it runs.
pub(super) struct Session {
    /// The host it is on.
    pub(super) host: HostProcess,
    /// Its limits, sent when it is opened.
    pub(super) limits: ProcessLimits,
    /// The turn workers that serve its calls.
    pub(super) turns: Arc<TurnWorkers>,
    /// The session in the newest generation.
    newest: Mutex<CurrentSession>,
}

/// A cell, and where it runs, once that is known.
#[derive(Clone)]
pub(super) struct PlacedCell {
    /// The cell.
    pub(super) cell: Arc<RemoteCell>,
    /// Set once, by the task that starts the cell.
    pub(super) connected: Arc<OnceLock<Connected>>,
}

/// The session in the newest generation.
#[derive(Clone, Default)]
struct CurrentSession {
    generation: u64,
    connected: Arc<OnceCell<Connected>>,
}

/// A session that is open.
#[derive(Clone)]
pub(super) struct Connected {
    /// The connection that it is on.
    pub(super) connection: Arc<dyn HostConnection>,
    /// Its cells there.
    pub(super) remote: Arc<RemoteSession>,
}

impl Session {
    pub(super) fn new(host: HostProcess, limits: ProcessLimits, turns: Arc<TurnWorkers>) -> Self {
        Self { host, limits, turns, newest: Mutex::default() }
    }

    /// The session on the newest connection, opened when there is none.
    pub(super) async fn connected(&self) -> Result<Connected, Failure> {
        let (generation, connection) = self.host.connection().await?;
        let slot = {
            let mut newest = lock(&self.newest);
            if newest.generation != generation {
                *newest = CurrentSession { generation, connected: Arc::default() };
            }
            Arc::clone(&newest.connected)
        };
        let open = || async {
            let ProcessLimits { max_yield_time_ms, max_heap_size_bytes, cancel_grace } =
                self.limits;
            let remote = Arc::new(RemoteSession::new(Arc::clone(&self.turns), cancel_grace));
            let limits = ExecutionLimits { max_yield_time_ms, max_heap_size_bytes };
            connection.open(Arc::clone(&remote), limits).await?;
            Ok(Connected { connection: Arc::clone(&connection), remote })
        };
        slot.get_or_try_init(open).await.cloned()
    }

    /// The session that is open, if one is.
    pub(super) fn open(&self) -> Option<Connected> {
        lock(&self.newest).connected.get().cloned()
    }
}
