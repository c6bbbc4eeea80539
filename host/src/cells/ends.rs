//! Where the ends of a cell's calls go: to the cell, or to the caller that has parked it.

use super::pending::CallResult;
use crate::support::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{oneshot, watch};

/// What becomes of the ends of calls.
#[derive(Clone)]
pub(super) enum Ends {
    /// The cell receives them.
    Deliver,
    /// They wait: the cell is being parked.
    Hold,
    /// The caller that has parked the cell receives them, by the calls' ids.
    Release(Arc<Mutex<HashMap<Arc<str>, oneshot::Sender<CallResult>>>>),
}

/// Waits until the end of a call is not held: the sender to a caller that has parked the
/// cell, or `None`, where the cell is to receive it. It counts as on its way then.
pub(super) async fn released(
    mut ends: watch::Receiver<Ends>,
    delivering: &AtomicUsize,
    id: &str,
) -> Option<oneshot::Sender<CallResult>> {
    loop {
        match &*ends.borrow_and_update() {
            Ends::Deliver => {
                // While this is borrowed, it cannot be changed: whoever holds the ends finds
                // this one counted.
                delivering.fetch_add(1, Ordering::Acquire);
                return None;
            }
            Ends::Release(senders) => {
                if let Some(sender) = lock(senders).remove(id) {
                    return Some(sender);
                }
                // The caller has the end from where this task has it. It is about to be dropped.
            }
            Ends::Hold => {}
        }
        if ends.changed().await.is_err() {
            // The cell is gone, and with it this task.
            std::future::pending::<()>().await;
        }
    }
}
