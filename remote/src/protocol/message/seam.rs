//! What hosts and clients of this project add to the messages, once both have agreed on it:
//! see [`SEAM_CAPABILITY`](crate::protocol::SEAM_CAPABILITY).

use cellblock::{CellLimits, CellReport, ProgramValue};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Additions to opening a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeamOpen {
    /// Limits of the session's cells. Each counts where it is narrower than the host's.
    pub cell_limits: CellLimits,
}

/// Additions to an execute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeamExecute {
    /// What the session's stored values differ in from those of the execute before. The
    /// host takes it over whether or not it admits the program.
    #[serde(default, skip_serializing_if = "StoredDelta::is_empty")]
    pub stored: StoredDelta,
    /// Whether the program is to be frozen where it waits for something outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub until_frontier: bool,
    /// Whether the program's value is wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wants_value: bool,
}

/// A change of stored values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredDelta {
    /// Keys that are new or have another value; each value is JSON text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Arc<str>>,
    /// Keys that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

/// Additions to a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeamResponse {
    /// What the cell has used, and how it ended.
    pub report: CellReport,
    /// Keys that the program stored, with the last response; each value is JSON text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stored: BTreeMap<String, Arc<str>>,
    /// With a `Yielded`: the program is frozen where it waits, and has made these nested
    /// calls since it was frozen before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_tool_call_ids: Option<Vec<String>>,
}

impl SeamResponse {
    /// Bytes that came from a cell.
    pub(crate) fn carried_bytes(&self) -> usize {
        let value = match &self.report.value {
            Some(ProgramValue::Json(json)) => json.len(),
            _ => 0,
        };
        value + self.stored.iter().map(|(key, json)| key.len() + json.len()).sum::<usize>()
    }
}

impl StoredDelta {
    /// What `now` differs in from `before`.
    pub(crate) fn between(
        before: &HashMap<String, Arc<str>>,
        now: &HashMap<String, Arc<str>>,
    ) -> Self {
        let same = |key: &String, json: &Arc<str>| {
            before.get(key).is_some_and(|old| Arc::ptr_eq(old, json) || old == json)
        };
        let set = now.iter().filter(|(key, json)| !same(key, json));
        Self {
            set: set.map(|(key, json)| (key.clone(), Arc::clone(json))).collect(),
            removed: before.keys().filter(|key| !now.contains_key(*key)).cloned().collect(),
        }
    }

    /// Changes values accordingly.
    pub(crate) fn apply(self, values: &mut HashMap<String, Arc<str>>) {
        for key in &self.removed {
            values.remove(key);
        }
        values.extend(self.set);
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_makes_one_set_of_values_of_another() {
        let values = |pairs: &[(&str, &str)]| -> HashMap<String, Arc<str>> {
            pairs.iter().map(|(key, json)| ((*key).to_owned(), Arc::from(*json))).collect()
        };
        let before = values(&[("same", "1"), ("changed", "1"), ("gone", "1")]);
        let now = values(&[("same", "1"), ("changed", "2"), ("new", "[1]")]);
        let delta = StoredDelta::between(&before, &now);
        assert_eq!((delta.set.len(), delta.removed.len()), (2, 1));
        let mut applied = before;
        delta.apply(&mut applied);
        assert_eq!(applied, now);
        assert!(StoredDelta::between(&applied, &now).is_empty());
    }
}
