//! Values that cells leave for later cells.

use serde::de::IgnoredAny;
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

/// A text that should be JSON and is not; it says where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not valid JSON: {0}")]
pub struct InvalidJson(String);

impl StoredValues {
    /// An empty set of values.
    pub fn new() -> Self {
        Self::default()
    }

    /// All values as they are now. A value that nests deeper than 127 levels is left
    /// out, as a [`Value`] cannot hold it; [`to_json`](Self::to_json) has them all.
    pub fn to_map(&self) -> HashMap<String, Value> {
        let parse = |(key, json): (&String, &Arc<str>)| {
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

    /// All values as they are now, as the JSON text in which they are kept. A value that
    /// nobody replaces keeps its text, so numbers keep their digits.
    pub fn to_json(&self) -> HashMap<String, Arc<str>> {
        HashMap::clone(&self.lock())
    }

    /// Inserts a value given as JSON text, which is kept as it is. Cells that run keep
    /// what they saw.
    ///
    /// # Errors
    /// [`InvalidJson`], and nothing is changed.
    ///
    /// ```
    /// let values = cellblock::StoredValues::new();
    /// values.insert_json("big", "12345678901234567890123")?;
    /// assert_eq!(&*values.to_json()["big"], "12345678901234567890123");
    /// assert!(values.insert_json("broken", "[1,").is_err());
    /// # Ok::<(), cellblock::InvalidJson>(())
    /// ```
    pub fn insert_json(
        &self,
        key: impl Into<String>,
        json: impl Into<Arc<str>>,
    ) -> Result<(), InvalidJson> {
        let json = json.into();
        // Looks at every byte without recursion, at any depth of nesting.
        serde_json::from_str::<IgnoredAny>(&json)
            .map_err(|error| InvalidJson(error.to_string()))?;
        Arc::make_mut(&mut *self.lock()).insert(key.into(), json);
        Ok(())
    }

    /// The keys that were written since `earlier` was taken with
    /// [`to_json`](Self::to_json), with their texts; also those that were written again
    /// with the same text. In no particular order.
    ///
    /// ```
    /// let values = cellblock::StoredValues::new();
    /// values.insert_json("a", "1")?;
    /// let earlier = values.to_json();
    /// values.insert_json("b", "2")?;
    /// assert_eq!(values.written_since(&earlier), [("b".to_owned(), "2".into())]);
    /// # Ok::<(), cellblock::InvalidJson>(())
    /// ```
    pub fn written_since(&self, earlier: &HashMap<String, Arc<str>>) -> Vec<(String, Arc<str>)> {
        let is_old = |key: &String, json: &Arc<str>| {
            earlier.get(key).is_some_and(|earlier| Arc::ptr_eq(earlier, json))
        };
        self.lock()
            .iter()
            .filter(|(key, json)| !is_old(key, json))
            .map(|(key, json)| (key.clone(), Arc::clone(json)))
            .collect()
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
