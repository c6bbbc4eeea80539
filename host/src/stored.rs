//! Values that cells leave for later cells.

use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A session's stored values: a shared handle, as every clone sees the same map.
///
/// A cell reads a snapshot of its start, and the keys it wrote are merged in one
/// go when it ends by itself. Two cells that write different keys both land.
#[derive(Clone, Debug, Default)]
pub struct StoredValues(Arc<Mutex<Arc<Snapshot>>>);

/// The values at one moment, as JSON text by key.
pub(crate) type Snapshot = HashMap<String, Arc<str>>;

impl StoredValues {
    /// An empty set of values.
    pub fn new() -> Self {
        Self::default()
    }

    /// All values as they are now.
    pub fn to_map(&self) -> HashMap<String, Value> {
        let parse = |(key, json): (&String, &Arc<str>)| {
            // Every value was checked when it came in.
            Some((key.clone(), serde_json::from_str(json).ok()?))
        };
        self.snapshot().iter().filter_map(parse).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Replaces all values. Cells that run keep what they saw.
    pub fn replace(&self, values: HashMap<String, Value>) {
        let values =
            values.into_iter().map(|(key, value)| (key, Arc::from(value.to_string()))).collect();
        *self.lock() = Arc::new(values);
    }

    /// The values as they are now, without copying them.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock())
    }

    /// Takes over the keys that a cell wrote.
    #[cfg(feature = "wasm")]
    pub(crate) fn merge(&self, writes: Vec<(String, Arc<str>)>) {
        if !writes.is_empty() {
            Arc::make_mut(&mut *self.lock()).extend(writes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        // Nothing can panic while the lock is held, so a poisoned map is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
