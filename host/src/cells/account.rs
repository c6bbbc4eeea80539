//! What the host holds in memory for one cell, in bytes.
//!
//! Everything that a program can make the host keep is charged to its cell's account:
//! the source and the tools, inputs and results of nested calls, output and
//! notifications on their way. A charge travels with the bytes it stands for, and
//! ends when they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that a host holds for one cell, and how many it may.
#[derive(Debug)]
pub struct Account {
    held: AtomicUsize,
    limit: usize,
}

impl Account {
    /// An account that may hold `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit })
    }

    /// Charges the account; `None` when the bytes do not fit.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Charge { account: Some(Arc::clone(self)), bytes })
    }

    /// Bytes that are held now.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that may be held.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

/// Bytes charged to an account until this is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    account: Option<Arc<Account>>,
    bytes: usize,
}

impl Charge {
    /// Takes over another charge on the same account.
    pub fn add(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        if self.account.is_none() {
            self.account = other.account.take();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_end_when_they_are_dropped() {
        let account = Account::new(10);
        let mut all = Charge::default();
        all.add(account.charge(4).unwrap());
        let six = account.charge(6).unwrap();
        assert!(account.charge(1).is_none());
        assert!(account.charge(usize::MAX).is_none());
        all.add(six);
        assert_eq!(account.held(), 10);
        drop(all);
        assert_eq!(account.held(), 0);
    }
}
