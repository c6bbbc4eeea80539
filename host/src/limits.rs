//! Every limit there is, each with a default that a real program does not meet.

use crate::backend::CodeModeError;
#[cfg(feature = "wasm")]
use crate::backend::LimitKind;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// What one cell may use.
///
/// A cell that meets a limit ends with a `Result` whose text names the limit,
/// the line being run and the remedy, and whose report carries the
/// [`LimitKind`]. Nothing it stored is kept.
///
/// ```
/// let limits = cellblock::CellLimits { fuel: 1_000_000_000, ..Default::default() };
/// assert!(limits.check().is_ok());
/// ```
///
/// In JSON each limit has the name of its field; a time is text such as `1500ms`, and
/// what is left out has its default.
///
/// ```
/// let json = r#"{ "calls": 10, "total_time": "1500ms" }"#;
/// let limits: cellblock::CellLimits = serde_json::from_str(json).unwrap();
/// assert_eq!(limits.total_time.as_millis(), 1500);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CellLimits {
    /// Fuel for the whole cell, about one unit for each WebAssembly instruction;
    /// a 2026 core burns 10 to 25 thousand million a second.
    pub fuel: u64,
    /// Fuel for one step: from the start, or from one batch of events, to where
    /// the program waits again.
    pub step_fuel: u64,
    /// Wall-clock time spent running, over all steps. Waiting for tools and timers is free.
    #[serde(with = "milliseconds")]
    pub running_time: Duration,
    /// Wall-clock time from start to end, waiting included.
    #[serde(with = "milliseconds")]
    pub total_time: Duration,
    /// Bytes that the JavaScript engine may hold. The sandbox as a whole is
    /// stopped a tenth above it, or 4 MiB where that is more, its stack aside.
    pub memory_bytes: usize,
    /// Bytes of stack for JavaScript: about 3 000 calls deep for each MiB. At
    /// most [`CellLimits::MAX_STACK_BYTES`], which is the default: depth costs memory
    /// only where a program goes there.
    pub stack_bytes: usize,
    /// Bytes that the host may hold for the cell at one time, outside the sandbox: the
    /// source and the tools, inputs and results of nested calls in flight, output and
    /// notifications that were not delivered yet. `None` is a quarter of
    /// [`CellLimits::memory_bytes`], or 8 MiB where that is more. A result that does not
    /// fit rejects its promise; everything else ends the cell.
    pub host_bytes: Option<usize>,
    /// Bytes of output and notifications over the life of the cell, as JSON will hold
    /// them: a control character counts six times.
    pub output_bytes: usize,
    /// Content items and notifications over the life of the cell.
    pub output_items: usize,
    /// Nested calls over the life of the cell.
    pub calls: u64,
    /// Nested calls in flight at one time.
    pub calls_in_flight: usize,
    /// Bytes of one nested call's input, as JSON.
    pub input_bytes: usize,
    /// Bytes of one nested call's result, as JSON. A longer one rejects its
    /// promise and does not end the cell.
    pub result_bytes: usize,
    /// Timers pending at one time.
    pub timers: usize,
    /// Bytes, keys included, that the cell may store.
    pub stored_bytes: usize,
    /// Keys that the cell may store.
    pub stored_keys: usize,
    /// Bytes of the program. A longer one is not admitted.
    pub source_bytes: usize,
    /// Bytes of a program that is read as TypeScript. A longer one is JavaScript only.
    pub typescript_bytes: usize,
    /// How long an ending cell waits for its cancelled calls to return.
    #[serde(with = "milliseconds")]
    pub cancel_grace: Duration,
}

/// Why limits cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// [`CellLimits::memory_bytes`] is out of its range.
    #[error(
        "the memory limit must be between {} and {} bytes",
        CellLimits::MIN_MEMORY_BYTES,
        CellLimits::MAX_MEMORY_BYTES
    )]
    Memory,
    /// [`CellLimits::stack_bytes`] is out of its range.
    #[error(
        "the stack limit must be between {} and {} bytes",
        CellLimits::MIN_STACK_BYTES,
        CellLimits::MAX_STACK_BYTES
    )]
    Stack,
}

/// A limit of a cell that is above the one that is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its {name} is {value}, and {allowed} is allowed")]
pub struct OverLimit {
    /// The limit: a field of [`CellLimits`], or what else is counted.
    pub name: String,
    /// What the cell has: a number, or a time in milliseconds such as `1500ms`.
    pub value: String,
    /// What is allowed, in the same form.
    pub allowed: String,
}

impl From<LimitsError> for CodeModeError {
    fn from(error: LimitsError) -> Self {
        Self::InvalidRequest(error.to_string())
    }
}

impl CellLimits {
    /// The most that [`CellLimits::stack_bytes`] may be: the guest's own stack is two
    /// mebibytes more.
    pub const MAX_STACK_BYTES: usize = 8 * MIB;
    /// The most that [`CellLimits::memory_bytes`] may be.
    pub const MAX_MEMORY_BYTES: usize = 1024 * MIB;

    /// The least that [`CellLimits::stack_bytes`] may be.
    pub const MIN_STACK_BYTES: usize = 16 << 10;
    /// The least that [`CellLimits::memory_bytes`] may be.
    pub const MIN_MEMORY_BYTES: usize = MIB;

    /// Whether the limits can be kept.
    ///
    /// # Errors
    /// The first limit that cannot.
    pub fn check(&self) -> Result<(), LimitsError> {
        if !(Self::MIN_MEMORY_BYTES..=Self::MAX_MEMORY_BYTES).contains(&self.memory_bytes) {
            return Err(LimitsError::Memory);
        }
        if !(Self::MIN_STACK_BYTES..=Self::MAX_STACK_BYTES).contains(&self.stack_bytes) {
            return Err(LimitsError::Stack);
        }
        Ok(())
    }

    /// These limits, each as narrow as the narrower of it and the other's.
    ///
    /// ```
    /// use cellblock::CellLimits;
    ///
    /// let own = CellLimits { calls: 100, timers: 5, ..CellLimits::default() };
    /// let asked = CellLimits { calls: 10, timers: 50, ..CellLimits::default() };
    /// let narrowed = own.narrowed_by(&asked);
    /// assert_eq!((narrowed.calls, narrowed.timers), (10, 5));
    /// ```
    #[must_use]
    pub fn narrowed_by(&self, asked: &Self) -> Self {
        Self {
            fuel: self.fuel.min(asked.fuel),
            step_fuel: self.step_fuel.min(asked.step_fuel),
            running_time: self.running_time.min(asked.running_time),
            total_time: self.total_time.min(asked.total_time),
            memory_bytes: self.memory_bytes.min(asked.memory_bytes),
            stack_bytes: self.stack_bytes.min(asked.stack_bytes),
            host_bytes: self.host_bytes.into_iter().chain(asked.host_bytes).min(),
            output_bytes: self.output_bytes.min(asked.output_bytes),
            output_items: self.output_items.min(asked.output_items),
            calls: self.calls.min(asked.calls),
            calls_in_flight: self.calls_in_flight.min(asked.calls_in_flight),
            input_bytes: self.input_bytes.min(asked.input_bytes),
            result_bytes: self.result_bytes.min(asked.result_bytes),
            timers: self.timers.min(asked.timers),
            stored_bytes: self.stored_bytes.min(asked.stored_bytes),
            stored_keys: self.stored_keys.min(asked.stored_keys),
            source_bytes: self.source_bytes.min(asked.source_bytes),
            typescript_bytes: self.typescript_bytes.min(asked.typescript_bytes),
            cancel_grace: self.cancel_grace.min(asked.cancel_grace),
        }
    }

    /// The first of these limits that the others do not allow a running cell.
    #[cfg(feature = "wasm")]
    pub(crate) fn first_above(&self, allowed: &Self) -> Option<OverLimit> {
        // These have been kept by the time that a cell runs.
        let allowed = Self {
            source_bytes: self.source_bytes,
            typescript_bytes: self.typescript_bytes,
            ..allowed.clone()
        };
        let narrowed = allowed.narrowed_by(self);
        if narrowed == *self {
            return None;
        }
        let fields = |limits: &Self| serde_json::to_value(limits).unwrap_or_default();
        let (own, narrowed) = (fields(self), fields(&narrowed));
        let differs = |name: &&String| own[name.as_str()] != narrowed[name.as_str()];
        let name = own.as_object().and_then(|fields| fields.keys().find(differs));
        let name = name.cloned().unwrap_or_default();
        let text = |fields: &serde_json::Value| match &fields[&name] {
            serde_json::Value::String(time) => time.clone(),
            number => number.to_string(),
        };
        Some(OverLimit { value: text(&own), allowed: text(&narrowed), name })
    }

    /// Size at which the sandbox's memory stops growing: room above what
    /// JavaScript may hold for the guest itself and for strings on their way. The guest's
    /// stack, which is the first part of its memory, is not counted.
    #[cfg(feature = "wasm")]
    pub(crate) fn sandbox_bytes(&self) -> usize {
        self.memory_bytes + (self.memory_bytes / 10).max(4 * MIB)
    }

    /// These limits, with what the host may hold for the cell as a figure.
    #[cfg(feature = "wasm")]
    pub(crate) fn with_held_bytes(&self) -> Self {
        Self { host_bytes: Some(self.held_bytes()), ..self.clone() }
    }

    /// Bytes that the host may hold for the cell.
    #[cfg(feature = "wasm")]
    pub(crate) fn held_bytes(&self) -> usize {
        self.host_bytes.unwrap_or((self.memory_bytes / 4).max(8 * MIB))
    }

    /// A limit's value and what to do about it, for the error text.
    #[cfg(feature = "wasm")]
    pub(crate) fn describe(&self, limit: LimitKind) -> (String, String) {
        let ms = |time: Duration| format!("{} ms", time.as_millis());
        let twice = |value: u64| format!("do less work, or allow {}", value.saturating_mul(2));
        let (value, remedy): (String, &str) = match limit {
            LimitKind::Fuel => return (self.fuel.to_string(), twice(self.fuel)),
            LimitKind::StepFuel => return (self.step_fuel.to_string(), twice(self.step_fuel)),
            LimitKind::RunningTime => (ms(self.running_time), "do less work, or allow more"),
            LimitKind::TotalTime => {
                (ms(self.total_time), "finish sooner, or go on in another cell")
            }
            LimitKind::Memory => {
                (format!("{} bytes", self.memory_bytes), "keep less at a time, or allow more")
            }
            LimitKind::Stack => {
                (format!("{} bytes", self.stack_bytes), "recurse less deeply, or use a loop")
            }
            LimitKind::HostBytes => (
                self.held_bytes().to_string(),
                "await some calls before making more, or pass and print less at a time",
            ),
            LimitKind::OutputBytes => (self.output_bytes.to_string(), "print a summary instead"),
            LimitKind::OutputItems => (self.output_items.to_string(), "join texts before printing"),
            LimitKind::Calls => (self.calls.to_string(), "split the work over several cells"),
            LimitKind::CallsInFlight => {
                (self.calls_in_flight.to_string(), "await some calls before making more")
            }
            LimitKind::InputBytes => (self.input_bytes.to_string(), "pass less to a tool"),
            LimitKind::Timers => (self.timers.to_string(), "clear timers, or set fewer"),
            LimitKind::StoredBytes => (self.stored_bytes.to_string(), "store less"),
            LimitKind::StoredKeys => (self.stored_keys.to_string(), "store fewer keys"),
            // The session's and the engine's own, which those describe.
            LimitKind::SessionStoredBytes
            | LimitKind::SessionStoredKeys
            | LimitKind::SandboxQueue
            | LimitKind::SandboxWait => return Default::default(),
        };
        (value, remedy.to_owned())
    }
}

impl Default for CellLimits {
    fn default() -> Self {
        Self {
            fuel: 1_000_000_000_000,
            step_fuel: 1_000_000_000_000,
            running_time: Duration::from_mins(1),
            total_time: Duration::from_hours(24),
            memory_bytes: 128 * MIB,
            stack_bytes: Self::MAX_STACK_BYTES,
            host_bytes: None,
            output_bytes: 32 * MIB,
            output_items: 20_000,
            calls: 100_000,
            calls_in_flight: 1_024,
            input_bytes: 32 * MIB,
            result_bytes: 32 * MIB,
            timers: 10_000,
            stored_bytes: 16 * MIB,
            stored_keys: 10_000,
            source_bytes: 4 * MIB,
            typescript_bytes: MIB / 4,
            cancel_grace: Duration::from_secs(5),
        }
    }
}

/// What one session may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Cells that live at one time.
    pub cells: usize,
    /// Results that wait to be fetched; above it the oldest is dropped.
    pub unread_results: usize,
    /// Bytes of output in results that wait to be fetched; above it the oldest is dropped.
    pub unread_bytes: usize,
    /// Bytes of stored values, keys included, over the life of the session. A cell whose
    /// writes do not fit ends at this limit and stores nothing.
    pub stored_bytes: usize,
    /// Keys of stored values over the life of the session.
    pub stored_keys: usize,
    /// Bound on what a caller may ask for with `yield_time_ms`, applied after
    /// the grace second; 0 answers at once.
    pub max_yield_time_ms: Option<u64>,
    /// Limits of each cell.
    pub cell: CellLimits,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            cells: 1_024,
            unread_results: 256,
            unread_bytes: 256 * MIB,
            stored_bytes: 64 * MIB,
            stored_keys: 100_000,
            max_yield_time_ms: None,
            cell: CellLimits::default(),
        }
    }
}

#[cfg(feature = "wasm")]
impl SessionLimits {
    /// A limit's value and what to do about it, for the error text of a cell with these
    /// limits.
    pub(crate) fn describe(&self, cell: &CellLimits, limit: LimitKind) -> (String, String) {
        let remedy = "write keys that exist again, or store less";
        match limit {
            LimitKind::SessionStoredBytes => (self.stored_bytes.to_string(), remedy.to_owned()),
            LimitKind::SessionStoredKeys => (self.stored_keys.to_string(), remedy.to_owned()),
            limit => cell.describe(limit),
        }
    }
}

/// Times as text in milliseconds, such as `1500ms`.
mod milliseconds {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{}ms", time.as_millis()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        let number = text.strip_suffix("ms").and_then(|number| number.parse().ok());
        number.map(Duration::from_millis).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is not a time in milliseconds such as \"1500ms\""))
        })
    }
}

/// Yield time of a request that names none, in milliseconds.
pub const DEFAULT_YIELD_TIME_MS: u64 = 10_000;
/// From this yield time up, [`YIELD_GRACE_MS`] is added.
const YIELD_GRACE_FROM_MS: u64 = 10_000;
/// Added so that a tool that takes as long as the yield time still makes it.
const YIELD_GRACE_MS: u64 = 1_000;

/// How long to wait before answering that a cell still runs: what was asked
/// for, the grace second, then the session's bound.
pub fn yield_timeout(requested_ms: Option<u64>, max_ms: Option<u64>) -> Duration {
    let requested = requested_ms.unwrap_or(DEFAULT_YIELD_TIME_MS);
    let grace = if requested >= YIELD_GRACE_FROM_MS { YIELD_GRACE_MS } else { 0 };
    let graced = requested.saturating_add(grace);
    Duration::from_millis(max_ms.map_or(graced, |max| graced.min(max)))
}

#[cfg(test)]
mod tests {
    use super::yield_timeout;

    /// `resolve_yield_timeout_applies_grace_before_session_limits`
    #[test]
    fn grace_comes_before_the_sessions_bound() {
        for (requested, max, expected_ms) in [
            (None, None, 11_000),
            (Some(0), None, 0),
            (Some(1), None, 1),
            (Some(9_999), None, 9_999),
            (Some(10_000), None, 11_000),
            (Some(30_000), None, 31_000),
            (Some(u64::MAX), None, u64::MAX),
            (None, Some(5_000), 5_000),
            (None, Some(10_500), 10_500),
            (None, Some(20_000), 11_000),
            (Some(10_000), Some(0), 0),
            (Some(10_000), Some(10_000), 10_000),
            (Some(500), Some(1_000), 500),
        ] {
            let timeout = yield_timeout(requested, max);
            assert_eq!(u128::from(expected_ms), timeout.as_millis(), "{requested:?} {max:?}");
        }
    }
}
