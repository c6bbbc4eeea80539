//! For those who write a backend of their own, beside [`cells`](crate::cells): the small parts
//! that every backend needs, and that the one in this crate is made of.

pub use crate::json::{MAX_DEPTH, dismantle, is_shallow, is_shallow_text};
pub use crate::limits::yield_timeout;
pub use crate::recent::RecentSet;
pub use crate::turns::{CurrentTurn, TurnWorkers};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The contract's text for a nested call that was cancelled.
pub const CALL_CANCELLED: &str = "code mode nested tool call cancelled";

/// The contract's text for a notification that was cancelled.
pub const NOTIFICATION_CANCELLED: &str = "code mode notification cancelled";

/// Locks, ignoring poisoning: for locks that nothing panics under.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
