//! How many cells of each tenant the store may have, as far as this worker knows: it looks again
//! now and then, and counts what it adds in between.

use cellblock::support::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long a count is good for.
const FRESH: Duration = Duration::from_secs(10);

/// The counts of the tenants that have had new cells lately.
pub(super) struct Bounds {
    /// Cells that a tenant may have.
    most: usize,
    known: Mutex<HashMap<String, Known>>,
}

/// A tenant's count.
struct Known {
    /// When it was looked up.
    at: Instant,
    cells: usize,
}

impl Bounds {
    pub(super) fn new(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// Counts one more cell of a tenant, if there is room; `None` where the count must be looked
    /// up first.
    pub(super) fn add(&self, tenant: &str) -> Option<bool> {
        let mut known = lock(&self.known);
        let count = known.get_mut(tenant).filter(|count| count.at.elapsed() < FRESH)?;
        let has_room = count.cells < self.most;
        count.cells += usize::from(has_room);
        Some(has_room)
    }

    /// A tenant has so many cells now.
    pub(super) fn learn(&self, tenant: &str, cells: usize) {
        let mut known = lock(&self.known);
        known.retain(|_, count| count.at.elapsed() < FRESH);
        known.insert(tenant.to_owned(), Known { at: Instant::now(), cells });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_count_is_kept_up_and_looked_up_again() {
        let bounds = Bounds::new(2);
        assert_eq!(bounds.add("a"), None);
        bounds.learn("a", 1);
        assert_eq!(
            (bounds.add("a"), bounds.add("a"), bounds.add("b")),
            (Some(true), Some(false), None)
        );
        advance(FRESH).await;
        assert_eq!(bounds.add("a"), None);
        bounds.learn("b", 0);
        assert_eq!(lock(&bounds.known).len(), 1);
    }
}
