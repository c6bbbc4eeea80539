//! What each tenant has in the store, as far as this worker knows: it looks again now and then,
//! and counts what it adds in between.

use cellblock::support::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long a count is good for.
const FRESH: Duration = Duration::from_secs(10);

/// Cells of a tenant, or how many it may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Those that have a record.
    pub(super) cells: usize,
    /// What they take in the store, or took before they were woken.
    pub(super) bytes: u64,
}

/// The counts of the tenants that have had new cells lately.
pub(super) struct Bounds {
    /// What a tenant may have.
    most: Share,
    known: Mutex<HashMap<String, Known>>,
}

/// A tenant's count.
struct Known {
    /// When it was looked up.
    at: Instant,
    share: Share,
}

impl Bounds {
    pub(super) fn new(most: Share) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// Counts what a tenant is about to add, if there is room; `None` where the count must be
    /// looked up first.
    pub(super) fn add(&self, tenant: &str, more: Share) -> Option<bool> {
        let mut known = lock(&self.known);
        let known = known.get_mut(tenant).filter(|known| known.at.elapsed() < FRESH)?;
        let cells = known.share.cells.saturating_add(more.cells);
        let bytes = known.share.bytes.saturating_add(more.bytes);
        let has_room = cells <= self.most.cells && bytes <= self.most.bytes;
        if has_room {
            known.share = Share { cells, bytes };
        }
        Some(has_room)
    }

    /// A tenant has so much now.
    pub(super) fn learn(&self, tenant: &str, share: Share) {
        let mut known = lock(&self.known);
        known.retain(|_, known| known.at.elapsed() < FRESH);
        known.insert(tenant.to_owned(), Known { at: Instant::now(), share });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn share(cells: usize, bytes: u64) -> Share {
        Share { cells, bytes }
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_is_kept_up_and_looked_up_again() {
        let bounds = Bounds::new(share(2, 100));
        let one = share(1, 0);
        assert_eq!(bounds.add("a", one), None);
        bounds.learn("a", one);
        let added = [bounds.add("a", one), bounds.add("a", one), bounds.add("b", one)];
        assert_eq!(added, [Some(true), Some(false), None]);
        advance(FRESH).await;
        assert_eq!(bounds.add("a", one), None);
        bounds.learn("b", share(0, 0));
        assert_eq!(lock(&bounds.known).len(), 1);
    }

    #[tokio::test]
    async fn bytes_are_bounded_as_cells_are() {
        let bounds = Bounds::new(share(10, 100));
        bounds.learn("a", share(1, 60));
        let added = [41, 40, 1, 0, u64::MAX].map(|bytes| bounds.add("a", share(0, bytes)));
        assert_eq!(added, [false, true, false, true, false].map(Some));
        assert_eq!(bounds.add("a", share(1, 0)), Some(true));
    }
}
