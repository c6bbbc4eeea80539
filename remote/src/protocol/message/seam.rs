//! What hosts and clients of this project add to the messages, once both have agreed on it:
//! see [`SEAM_CAPABILITY`](crate::protocol::SEAM_CAPABILITY).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use cellblock::{CellId, CellLimits, CellReport, Language, ProgramValue, RegionalSettings};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// Additions to opening a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeamOpen {
    /// Limits of the session's cells. Each counts where it is narrower than the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell_limits: Option<CellLimits>,
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
    /// As [`ExecuteRequest::wants_value`](cellblock::ExecuteRequest::wants_value).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wants_value: bool,
    /// As [`ExecuteRequest::regional`](cellblock::ExecuteRequest::regional).
    #[serde(default, skip_serializing_if = "Regional::is_default")]
    pub regional: Regional,
    /// As [`ExecuteRequest::language`](cellblock::ExecuteRequest::language).
    #[serde(default, skip_serializing_if = "is_auto")]
    pub language: Language,
    /// Present where the program is a parked cell: the request's source is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<SeamWake>,
    /// Where the host may keep the cell while it waits: see [`SeamKeep`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<SeamKeep>,
}

/// Where a host that keeps parked cells may keep one, so that another host of the same store can
/// wake it. Each name is at most 64 letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeamKeep {
    /// The cell's name in the store, chosen by its client at random.
    pub cell: String,
    /// The session that the cell belongs to, by which another client finds it; without one it
    /// is its client's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The client's id of the cell.
    pub id: CellId,
    /// The client, by a name that it has chosen at random.
    pub client: String,
}

/// A parked cell that is to be woken; see [`WakeRequest`](cellblock::WakeRequest). The
/// request's `tool_call_id` and `enabled_tools` are the waker's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeamWake {
    /// The cell; empty where `kept` or [`SeamExecute::keep`] names it.
    #[serde(default, skip_serializing_if = "Base64::is_empty")]
    pub cell: Base64,
    /// Where the cell is one that the host's process before has kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<SeamResume>,
    /// As [`WakeRequest::elapsed`](cellblock::WakeRequest::elapsed), in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub elapsed_ms: u64,
    /// As [`WakeRequest::is_fork`](cellblock::WakeRequest::is_fork).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_fork: bool,
    /// Whether the program may call only the request's tools.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restricts_tools: bool,
    /// Whether notifications carry the request's `tool_call_id`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renames_call: bool,
    /// The pending calls that the client has, by their `runtime_tool_call_id`: each must be
    /// pending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
}

/// A cell that the host has kept, and its client goes on with; see
/// [`ResumeRequest`](cellblock::ResumeRequest).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeamResume {
    /// Its name, as the host has announced it.
    pub name: String,
    /// As [`ResumeRequest::received`](cellblock::ResumeRequest::received).
    pub received: u64,
}

/// A parked cell, with the answer to a wait that parks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeamParked {
    /// The cell; nothing where the host keeps it.
    #[serde(default, skip_serializing_if = "Base64::is_empty")]
    pub cell: Base64,
    /// The class of hosts that can wake the cell, where the host keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// As [`Parked::wakes_in`](cellblock::Parked::wakes_in), in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wakes_in_ms: Option<u64>,
    /// Calls that are pending in the cell, and whose ends had come from the client: each
    /// result as JSON text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ends: BTreeMap<String, Result<String, String>>,
}

/// Bytes, in JSON as text in base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Arc<[u8]>);

impl Base64 {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(&*text).map(|bytes| Self(bytes.into())).map_err(de::Error::custom)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_auto(language: &Language) -> bool {
    *language == Language::Auto
}

/// Regional settings, or what is wrong with them. A locale or a zone that does not exist is a
/// mistake in one request, so that request is refused, and the connection goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regional(pub Result<RegionalSettings, String>);

impl Regional {
    fn is_default(&self) -> bool {
        self.0.as_ref().is_ok_and(RegionalSettings::is_default)
    }
}

impl Default for Regional {
    fn default() -> Self {
        Self(Ok(RegionalSettings::default()))
    }
}

impl From<RegionalSettings> for Regional {
    fn from(settings: RegionalSettings) -> Self {
        Self(Ok(settings))
    }
}

impl Serialize for Regional {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Regional {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Value::deserialize(deserializer)?;
        Ok(Self(RegionalSettings::deserialize(settings).map_err(|error| error.to_string())))
    }
}

/// A change of stored values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredDelta {
    /// All other keys are gone: the host has nothing of them, or its client does not know.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
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
    /// With a `Yielded`: the cell was parked, and this session has it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<SeamParked>,
}

impl SeamResponse {
    /// Bytes that came from a cell.
    pub(crate) fn carried_bytes(&self) -> usize {
        let value = match &self.report.value {
            Some(ProgramValue::Json(text) | ProgramValue::Refused(text)) => text.len(),
            Some(ProgramValue::Stored { .. }) | None => 0,
        };
        let parked = self.parked.as_ref().map_or(0, |parked| parked.cell.0.len() / 3 * 4);
        let stored = self.stored.iter().map(|(key, json)| key.len() + json.len());
        stored.sum::<usize>() + value + parked
    }
}

impl StoredDelta {
    /// What `now` differs in from `before`; `None` is not known.
    pub(crate) fn between(
        before: Option<&HashMap<String, Arc<str>>>,
        now: &HashMap<String, Arc<str>>,
    ) -> Self {
        let Some(before) = before else {
            let set = now.iter().map(|(key, json)| (key.clone(), Arc::clone(json))).collect();
            return Self { replace: true, set, removed: Vec::new() };
        };
        let same = |key: &String, json: &Arc<str>| {
            before.get(key).is_some_and(|old| Arc::ptr_eq(old, json) || old == json)
        };
        let set = now.iter().filter(|(key, json)| !same(key, json));
        Self {
            replace: false,
            set: set.map(|(key, json)| (key.clone(), Arc::clone(json))).collect(),
            removed: before.keys().filter(|key| !now.contains_key(*key)).cloned().collect(),
        }
    }

    /// Changes values accordingly.
    pub(crate) fn apply(self, values: &mut HashMap<String, Arc<str>>) {
        if self.replace {
            values.clear();
        }
        for key in &self.removed {
            values.remove(key);
        }
        values.extend(self.set);
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.replace && self.set.is_empty() && self.removed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_wrong_are_no_mistake_of_the_message() {
        let read = |json: &str| serde_json::from_str::<SeamExecute>(json).unwrap().regional.0;
        let settings = read(r#"{"regional":{"timeZone":"Europe/Zurich"}}"#).unwrap();
        assert_ne!(settings, RegionalSettings::default());
        assert_eq!(read("{}"), Ok(RegionalSettings::default()));
        for (json, named) in [
            (r#"{"regional":{"timeZone":"Nowhere"}}"#, "Nowhere"),
            (r#"{"regional":{"locale":"no such thing"}}"#, "no such thing"),
            (r#"{"regional":{"zone":"UTC"}}"#, "zone"),
            (r#"{"regional":5}"#, "5"),
        ] {
            let why = read(json).unwrap_err();
            assert!(why.contains(named), "{json}: {why}");
        }
    }

    #[test]
    fn a_delta_makes_one_set_of_values_of_another() {
        let values = |pairs: &[(&str, &str)]| -> HashMap<String, Arc<str>> {
            pairs.iter().map(|(key, json)| ((*key).to_owned(), Arc::from(*json))).collect()
        };
        let before = values(&[("same", "1"), ("changed", "1"), ("gone", "1")]);
        let now = values(&[("same", "1"), ("changed", "2"), ("new", "[1]")]);
        let delta = StoredDelta::between(Some(&before), &now);
        assert_eq!((delta.set.len(), delta.removed.len()), (2, 1));
        let mut applied = before;
        delta.apply(&mut applied);
        assert_eq!(applied, now);
        assert!(StoredDelta::between(Some(&applied), &now).is_empty());
        let mut other = values(&[("other", "1")]);
        StoredDelta::between(None, &now).apply(&mut other);
        assert_eq!(other, now);
    }
}
