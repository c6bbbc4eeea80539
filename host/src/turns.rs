//! The hosts of the turns that are going on.

use crate::backend::{CodeModeTurnHost, CodeModeTurnWorker};
use std::sync::Arc;
use tokio::sync::watch;

/// A running worker: its number, and its host.
type Worker = (u64, Arc<dyn CodeModeTurnHost>);

/// The turn workers of a session, oldest first. Cells watch them, and dispatch to the newest.
#[derive(Default)]
pub struct TurnWorkers(watch::Sender<Vec<Worker>>);

/// A cell's view of the session's turn workers.
#[derive(Clone)]
pub struct CurrentTurn(watch::Receiver<Vec<Worker>>);

impl TurnWorkers {
    /// No workers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A view of the workers, which follows them.
    pub fn watch(&self) -> CurrentTurn {
        CurrentTurn(self.0.subscribe())
    }

    /// Starts a worker; its guard ends it.
    pub fn start(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        let mut number = 0;
        self.0.send_modify(|workers| {
            number = workers.last().map_or(0, |(last, _)| last + 1);
            workers.push((number, host));
        });
        let workers = self.0.clone();
        CodeModeTurnWorker::new(move || {
            workers.send_modify(|workers| workers.retain(|(each, _)| *each != number));
        })
    }
}

impl CurrentTurn {
    /// The host that serves now.
    pub fn host(&self) -> Option<Arc<dyn CodeModeTurnHost>> {
        self.0.borrow().last().map(|(_, host)| Arc::clone(host))
    }

    /// Returns when a worker has started or ended.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The session is gone, and with it every future worker.
            std::future::pending::<()>().await;
        }
    }
}
