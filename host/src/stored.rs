//! Values that cells leave for later cells.

use crate::json::JsonError;
use crate::support::lock;
#[cfg(feature = "wasm")]
use crate::{backend::LimitKind, limits::SessionLimits};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

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

    /// Values given as JSON text, which are kept as they are. Each must be valid JSON.
    pub fn from_json(values: HashMap<String, Arc<str>>) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(values))))
    }

    /// Takes over keys that a cell wrote elsewhere, in one go. Values are JSON text.
    ///
    /// # Errors
    /// [`JsonError::Invalid`], and nothing is changed.
    pub fn extend_json(
        &self,
        writes: impl IntoIterator<Item = (String, Arc<str>)>,
    ) -> Result<(), JsonError> {
        let writes: Vec<_> = writes.into_iter().collect();
        for (_, json) in &writes {
            serde_json::from_str::<IgnoredAny>(json)?;
        }
        if !writes.is_empty() {
            Arc::make_mut(&mut *self.lock()).extend(writes);
        }
        Ok(())
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

    /// Bytes of all keys and values.
    pub fn byte_len(&self) -> usize {
        size(&self.lock())
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
    /// [`JsonError::Invalid`], and nothing is changed.
    ///
    /// ```
    /// let values = cellblock::StoredValues::new();
    /// values.insert_json("big", "12345678901234567890123")?;
    /// assert_eq!(&*values.to_json()["big"], "12345678901234567890123");
    /// assert!(values.insert_json("broken", "[1,").is_err());
    /// # Ok::<(), cellblock::JsonError>(())
    /// ```
    pub fn insert_json(
        &self,
        key: impl Into<String>,
        json: impl Into<Arc<str>>,
    ) -> Result<(), JsonError> {
        let json = json.into();
        // Looks at every byte without recursion, at any depth of nesting.
        serde_json::from_str::<IgnoredAny>(&json)?;
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
    /// # Ok::<(), cellblock::JsonError>(())
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

    /// Takes over the keys that a cell wrote, or none of them when the session has no
    /// room for all.
    #[cfg(feature = "wasm")]
    pub(crate) fn merge(
        &self,
        writes: Vec<(String, Arc<str>)>,
        limits: &SessionLimits,
    ) -> Result<(), LimitKind> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut values = self.lock();
        let before = (size(&values), values.len());
        let (mut bytes, mut keys) = before;
        for (key, json) in &writes {
            if let Some(replaced) = values.get(key) {
                bytes -= replaced.len();
            } else {
                (bytes, keys) = (bytes + key.len(), keys + 1);
            }
            bytes += json.len();
        }
        if bytes > limits.stored_bytes && bytes > before.0 {
            return Err(LimitKind::SessionStoredBytes);
        }
        if keys > limits.stored_keys && keys > before.1 {
            return Err(LimitKind::SessionStoredKeys);
        }
        Arc::make_mut(&mut *values).extend(writes);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        // Nothing can panic while the lock is held, so a poisoned map is whole.
        lock(&self.0)
    }
}

/// Bytes of all keys and values.
fn size(values: &Snapshot) -> usize {
    values.iter().map(|(key, json)| key.len() + json.len()).sum()
}
