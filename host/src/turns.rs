//! The hosts of the turns that are going on.

use crate::backend::{CodeModeTurnHost, CodeModeTurnWorker};
use std::sync::Arc;
use tokio::sync::watch;

/// A running worker: its number, and its host.
type Worker = (u64, Arc<dyn CodeModeTurnHost>);

/// Workers of a session, oldest first. Cells watch it, and dispatch to the newest.
pub(crate) struct Turns(watch::Sender<Vec<Worker>>);

/// A cell's view of the workers.
pub(crate) struct Turn(watch::Receiver<Vec<Worker>>);

impl Turns {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }

    pub(crate) fn watch(&self) -> Turn {
        Turn(self.0.subscribe())
    }

    /// Starts a worker; its guard ends it.
    pub(crate) fn start(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
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

impl Turn {
    /// The host that serves now.
    pub(crate) fn host(&self) -> Option<Arc<dyn CodeModeTurnHost>> {
        self.0.borrow().last().map(|(_, host)| Arc::clone(host))
    }

    /// Returns when a worker has started or ended.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The session is gone, and with it every future worker.
            std::future::pending::<()>().await;
        }
    }
}
