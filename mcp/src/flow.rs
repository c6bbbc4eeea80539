//! The flow rule: after a program has read what an untrusted tool returned, its calls of
//! sinks need approval, whatever the rules say. The same holds for all programs of a session
//! once such a program has stored anything, for what they read may come from there.

use cellblock::support::lock;
use cellblock::{CellId, StoredValues};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Stored values at one moment, as JSON text by key.
pub(crate) type Values = HashMap<String, Arc<str>>;

/// Which programs of a session have read text of untrusted sources.
pub(crate) struct Flow {
    values: StoredValues,
    state: Mutex<State>,
}

struct State {
    /// A program stored something after it had read untrusted text.
    stored: bool,
    /// The programs that have read, with the values as they were just before.
    readers: HashMap<CellId, Values>,
}

impl Flow {
    /// The flow of a session. `stored` says what is known of its values from before.
    pub(crate) fn new(values: StoredValues, stored: bool) -> Self {
        Self { values, state: Mutex::new(State { stored, readers: HashMap::new() }) }
    }

    /// A program is about to see what an untrusted tool returned.
    pub(crate) fn read(&self, id: &CellId) {
        let mut state = lock(&self.state);
        state.readers.entry(id.clone()).or_insert_with(|| self.values.to_json());
    }

    /// Whether a program may know untrusted text.
    pub(crate) fn has_read(&self, id: &CellId) -> bool {
        self.is_stored() || lock(&self.state).readers.contains_key(id)
    }

    /// Whether stored values may hold untrusted text. What was stored before this is called
    /// counts: a program commits its values before its end is known.
    pub(crate) fn is_stored(&self) -> bool {
        let mut state = lock(&self.state);
        let State { stored, readers } = &mut *state;
        let written = |before: &Values| !self.values.written_since(before).is_empty();
        *stored = *stored || readers.values().any(written);
        *stored
    }

    /// A program has ended, and its values are stored.
    pub(crate) fn ended(&self, id: &CellId) {
        self.is_stored();
        lock(&self.state).readers.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_know_untrusted_text() {
        let values = StoredValues::new();
        let flow = Flow::new(values.clone(), false);
        let [reader, other, later] = ["1", "2", "3"].map(CellId::from);
        flow.read(&reader);
        assert!(flow.has_read(&reader) && !flow.has_read(&other));
        // What others store meanwhile cannot be told from what the reader stores.
        values.insert_json("a", "1").expect("JSON");
        assert!(flow.has_read(&other) && flow.has_read(&later));

        let flow = Flow::new(values.clone(), false);
        flow.read(&reader);
        flow.ended(&reader);
        values.insert_json("a", "2").expect("JSON");
        assert!(!flow.has_read(&other), "the reader stored nothing");
        // A value that is written again as it was is a message as well.
        flow.read(&reader);
        values.insert_json("a", "2").expect("JSON");
        flow.ended(&reader);
        assert!(flow.has_read(&later));

        assert!(Flow::new(values, true).has_read(&later), "over restarts");
    }
}
