//! The cells that a worker has, counted by tenant.

use cellblock::support::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// The places of one worker.
#[derive(Debug)]
pub(super) struct Places {
    /// Cells that may run at one time.
    most: usize,
    counts: Mutex<Counts>,
    changed: Notify,
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Cells of each tenant that has some.
    pub(super) tenants: HashMap<String, usize>,
    /// All of them.
    pub(super) cells: usize,
    /// Cells that were taken since the worker started.
    pub(super) started: u64,
    /// Cells that were not.
    pub(super) refused: u64,
    /// Links that were lost.
    pub(super) lost: u64,
    /// No cell is taken any more.
    pub(super) draining: bool,
}

/// Why there is no place for a cell. A client reads the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("all places are taken")]
    Full,
    #[error("this tenant has as many cells as it may")]
    TenantFull,
    #[error("it is about to end")]
    Draining,
}

/// A cell's place; dropped when the cell has ended.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    tenant: String,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, counts: Mutex::default(), changed: Notify::new() })
    }

    /// A place for a cell of a tenant that may have so many.
    pub(super) fn take(
        self: &Arc<Self>,
        tenant: &str,
        most_of_tenant: usize,
    ) -> Result<Place, NoPlace> {
        let mut counts = lock(&self.counts);
        let of_tenant = counts.tenants.get(tenant).copied().unwrap_or(0);
        let why = if counts.draining {
            Some(NoPlace::Draining)
        } else if counts.cells >= self.most {
            Some(NoPlace::Full)
        } else if of_tenant >= most_of_tenant {
            Some(NoPlace::TenantFull)
        } else {
            None
        };
        if let Some(why) = why {
            counts.refused += 1;
            return Err(why);
        }
        counts.tenants.insert(tenant.to_owned(), of_tenant + 1);
        counts.cells += 1;
        counts.started += 1;
        drop(counts);
        self.changed.notify_one();
        Ok(Place { places: Arc::clone(self), tenant: tenant.to_owned() })
    }

    /// Whether there is no place for a cell of any tenant.
    pub(super) fn is_full(&self) -> bool {
        let counts = lock(&self.counts);
        counts.draining || counts.cells >= self.most
    }

    /// Whether there is room for some cells, so that it is worth it to ask for them again.
    pub(super) fn has_room(&self) -> bool {
        let counts = lock(&self.counts);
        !counts.draining && self.most - counts.cells >= (self.most / 16).max(1)
    }

    /// There are no places from now on.
    pub(super) fn close(&self) {
        lock(&self.counts).draining = true;
        self.changed.notify_one();
    }

    /// A link was lost.
    pub(super) fn lost(&self) {
        lock(&self.counts).lost += 1;
    }

    /// Returns when a place was taken or given back since the last time.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.places.counts);
        counts.cells = counts.cells.saturating_sub(1);
        if let Some(cells) = counts.tenants.get_mut(&self.tenant) {
            *cells = cells.saturating_sub(1);
        }
        // Only those that have cells: names come from outside.
        counts.tenants.retain(|_, cells| *cells > 0);
        drop(counts);
        self.places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_tenant() {
        let places = Places::new(3);
        let one = places.take("a", 2).unwrap();
        let two = places.take("a", 2).unwrap();
        assert_eq!(places.take("a", 2).unwrap_err(), NoPlace::TenantFull);
        let three = places.take("b", 2).unwrap();
        assert_eq!(places.take("b", 2).unwrap_err(), NoPlace::Full);
        assert!(places.is_full() && !places.has_room());
        drop(one);
        assert!(!places.is_full() && places.has_room());
        drop((two, three));
        assert!(places.counts().tenants.is_empty());
        assert_eq!((places.counts().started, places.counts().refused), (3, 2));
        places.close();
        assert_eq!(places.take("a", 2).unwrap_err(), NoPlace::Draining);
    }

    #[test]
    fn a_worker_asks_again_when_a_sixteenth_is_free() {
        let places = Places::new(32);
        let mut taken: Vec<_> = (0..32).map(|_| places.take("a", 32).unwrap()).collect();
        taken.pop();
        assert!(!places.is_full() && !places.has_room());
        taken.pop();
        assert!(places.has_room());
    }
}
