//! Ids that were used lately.

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// The newest values that were inserted, up to a bound. Above it the oldest is forgotten.
///
/// ```
/// use cellblock::support::RecentSet;
///
/// let mut used = RecentSet::new(2);
/// assert!(used.insert(1) && used.insert(2));
/// assert!(!used.insert(2), "it is in the set already");
/// assert!(used.insert(3) && !used.contains(&1), "the oldest has made room");
/// ```
#[derive(Debug)]
pub struct RecentSet<T> {
    bound: usize,
    /// The values, oldest first.
    order: VecDeque<T>,
    /// The same values, to be found.
    values: HashSet<T>,
}

impl<T: Clone + Eq + Hash> RecentSet<T> {
    /// An empty set that keeps at most `bound` values, at least one.
    pub fn new(bound: usize) -> Self {
        Self { bound, order: VecDeque::new(), values: HashSet::new() }
    }

    /// Inserts a value; false when it is in the set already.
    pub fn insert(&mut self, value: T) -> bool {
        if !self.values.insert(value.clone()) {
            return false;
        }
        if self.order.len() >= self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
        self.order.push_back(value);
        true
    }

    /// Whether a value is in the set.
    pub fn contains<Q>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.values.contains(value)
    }
}
