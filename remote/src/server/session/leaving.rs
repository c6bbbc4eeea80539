//! Cells that are to leave a worker: it ends, nothing happens in them, or their client is gone.

use super::{Change, Entry, Session};
use cellblock::support::lock;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a cell that its client has left may take to be kept.
const LEFT: Duration = Duration::from_secs(15);

impl Entry {
    /// Whether the cell may be kept, as far as is known. One that is frozen stays: a cell that is
    /// woken runs.
    fn can_leave(&self) -> bool {
        let is_frozen = self.pending.is_some();
        self.keeping.is_some() && self.ended.is_none() && !self.last_taken && !is_frozen
    }
}

impl Session {
    /// Asks the client to have cells kept: those of which nothing has begun or ended for so
    /// long, or all of them.
    pub(in super::super) fn ask_to_leave(&self, idle: Option<Duration>) {
        let mut leaving = Vec::new();
        for (cell_id, entry) in &mut *lock(&self.cells) {
            let is_idle = |idle| entry.requests == 0 && entry.touched.elapsed() >= idle;
            if entry.can_leave() && idle.is_none_or(is_idle) {
                // Asked once in so long.
                entry.touched = Instant::now();
                if let Some(place) = &mut entry.keeping {
                    place.asked = true;
                }
                leaving.push(cell_id.clone());
            }
        }
        for cell_id in leaving {
            self.changed(Change::Leave(cell_id));
        }
    }

    /// Keeps the cells that wait, whose client does not answer any more. `returns` says that
    /// only those are worth it which another client can find.
    pub(in super::super) async fn keep_left(self: &Arc<Self>, returns: bool) {
        self.abandoned.cancel();
        let left: Vec<_> = lock(&self.cells)
            .iter()
            .filter(|(_, entry)| entry.can_leave())
            .filter(|(_, entry)| {
                let keeping = entry.keeping.as_ref();
                keeping.is_some_and(|keeping| !returns || keeping.keep.session.is_some())
            })
            .map(|(cell_id, _)| cell_id.clone())
            .collect();
        join_all(left.into_iter().map(|cell_id| async move {
            let cell = self.request(cell_id);
            match timeout(LEFT, cell.keep(&CancellationToken::new())).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!("a cell was not kept: {error}"),
                Err(_) => tracing::warn!("a cell that its client has left does not wait"),
            }
        }))
        .await;
    }
}
