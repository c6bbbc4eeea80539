//! Requests that await their answers, by their ids: those made here, with what receives
//! the answer, and those served here, with what cancels them.

use cellblock::support::lock;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

/// Requests in flight. Each leaves the table when it is completed, when its guard is
/// dropped, or when the table is closed, whichever comes first. Clones share the table.
#[derive(Debug)]
pub(crate) struct InFlight<K, V>(Arc<Mutex<Table<K, V>>>);

#[derive(Debug)]
struct Table<K, V> {
    /// How many requests may be in flight.
    bound: usize,
    requests: HashMap<K, V>,
    /// Nothing is inserted any more.
    closed: bool,
}

/// Why a request was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInserted {
    /// As many requests are in flight as may be.
    Full,
    /// Another request has the same id.
    Duplicate,
    /// The table was closed.
    Closed,
}

/// Keeps a request in the table until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard<K: Eq + Hash, V> {
    table: InFlight<K, V>,
    key: K,
}

impl<K, V> Clone for InFlight<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash, V> InFlight<K, V> {
    /// An empty table for at most `bound` requests.
    pub(crate) fn new(bound: usize) -> Self {
        let table = Table { bound, requests: HashMap::new(), closed: false };
        Self(Arc::new(Mutex::new(table)))
    }

    /// Inserts a request.
    pub(crate) fn insert(&self, key: K, value: V) -> Result<InFlightGuard<K, V>, NotInserted> {
        self.put(key.clone(), value).map(|()| self.guard(key))
    }

    /// Inserts a request whatever the bound is: one that makes room for others.
    pub(crate) fn insert_beyond(
        &self,
        key: K,
        value: V,
    ) -> Result<InFlightGuard<K, V>, NotInserted> {
        self.put_within(usize::MAX, key.clone(), value).map(|()| self.guard(key))
    }

    /// Inserts a request that stays until it is completed or the table is closed, also
    /// when nobody waits for its answer any more.
    pub(crate) fn put(&self, key: K, value: V) -> Result<(), NotInserted> {
        let bound = lock(&self.0).bound;
        self.put_within(bound, key, value)
    }

    fn put_within(&self, bound: usize, key: K, value: V) -> Result<(), NotInserted> {
        let mut table = lock(&self.0);
        if table.closed {
            return Err(NotInserted::Closed);
        }
        if table.requests.contains_key(&key) {
            return Err(NotInserted::Duplicate);
        }
        if table.requests.len() >= bound {
            return Err(NotInserted::Full);
        }
        table.requests.insert(key, value);
        Ok(())
    }

    fn guard(&self, key: K) -> InFlightGuard<K, V> {
        InFlightGuard { table: self.clone(), key }
    }

    /// Takes a request out: it has its answer, or none is wanted any more. `None` when
    /// that was so before.
    pub(crate) fn complete<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        lock(&self.0).requests.remove(key)
    }

    /// What is in the table for a request.
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
        V: Clone,
    {
        lock(&self.0).requests.get(key).cloned()
    }

    /// Takes every request out, and inserts none from now on.
    pub(crate) fn close(&self) -> Vec<V> {
        let mut table = lock(&self.0);
        table.closed = true;
        table.requests.drain().map(|(_, value)| value).collect()
    }
}

impl<K: Eq + Hash, V> InFlightGuard<K, V> {
    /// The request's id.
    pub(crate) fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Eq + Hash, V> Drop for InFlightGuard<K, V> {
    fn drop(&mut self) {
        lock(&self.table.0).requests.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_completed_once() {
        let table = InFlight::new(2);
        let guard = table.insert(1, 'a').unwrap();
        assert_eq!(
            (table.get(&1), table.complete(&1), table.complete(&1)),
            (Some('a'), Some('a'), None)
        );
        assert_eq!(*guard.key(), 1);
    }

    #[test]
    fn a_dropped_guard_takes_its_request_along() {
        let table = InFlight::new(2);
        drop(table.insert(1, 'a'));
        assert_eq!(table.complete(&1), None);
    }

    #[test]
    fn a_request_without_a_guard_stays_until_it_is_completed() {
        let table = InFlight::new(1);
        table.put(1, 'a').unwrap();
        assert_eq!(table.put(2, 'b'), Err(NotInserted::Full));
        assert_eq!((table.complete(&1), table.put(2, 'b')), (Some('a'), Ok(())));
    }

    #[test]
    fn requests_are_bounded_but_for_those_that_make_room() {
        let table = InFlight::new(1);
        let _one = table.insert(1, 'a').unwrap();
        assert_eq!(table.insert(2, 'b').unwrap_err(), NotInserted::Full);
        let _beyond = table.insert_beyond(2, 'b').unwrap();
        assert_eq!(table.complete(&2), Some('b'));
    }

    #[test]
    fn an_id_is_in_flight_once() {
        let table = InFlight::new(2);
        let _one = table.insert(1, 'a').unwrap();
        assert_eq!(table.insert(1, 'b').unwrap_err(), NotInserted::Duplicate);
        assert_eq!(table.get(&1), Some('a'));
    }

    #[test]
    fn a_closed_table_gives_up_all_and_takes_none() {
        let table = InFlight::new(8);
        let _guards = [table.insert(1, 'a').unwrap(), table.insert(2, 'b').unwrap()];
        let mut left = table.close();
        left.sort_unstable();
        assert_eq!(left, ['a', 'b']);
        assert_eq!(table.insert(3, 'c').unwrap_err(), NotInserted::Closed);
    }
}
