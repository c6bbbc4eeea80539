//! The lines of a recording, as JSON.
//!
//! The first is a [`Head`], then comes a [`Step`] for each time the guest was called, and last,
//! where the cell ended while it was recorded, an [`End`].

use super::super::bindings::cellblock::code_mode::types;
use super::super::park::ParkedEvent;
use crate::backend::{Language, LimitKind};
use crate::limits::CellLimits;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the format that is written and read.
pub(super) const VERSION: u32 = 1;

/// What there is to know before the first step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// The version of the format.
    pub(super) cellblock_recording: u32,
    /// The version of Cellblock.
    pub(super) version: String,
    /// SHA-256 of the guest component, in hexadecimal digits.
    pub(super) guest: String,
    /// The cell's id.
    pub(super) cell: String,
    /// What its author wrote.
    pub(super) source: String,
    /// What it was written in, as the request said.
    pub(super) language: Language,
    /// The cell's limits; `host_bytes` is always there.
    pub(super) limits: CellLimits,
    /// The wall clock less the guest's monotonic one, in nanoseconds.
    pub(super) epoch: i64,
}

/// One call of the guest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// What the guest was called with.
    pub(super) run: Run,
    /// Fuel that was left to the cell.
    pub(super) fuel_left: u64,
    /// What its monotonic clock was each time it asked, in nanoseconds since the time before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) times: Vec<u64>,
    /// What else it asked for, and what it was refused, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) answers: Vec<Answer>,
    /// Fuel that the step took.
    pub(super) fuel: u64,
    /// SHA-256 of all that the guest sent and how it ended, in hexadecimal digits.
    pub(super) sent: String,
    /// Where the step ended.
    pub(super) reached: Reached,
}

/// What a guest is called with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in super::super) enum Run {
    /// A program is started.
    Execute(Program),
    /// Events are delivered.
    Wait(Vec<ParkedEvent>),
    /// The guest is asked where it waits.
    Awaiting,
}

/// A program as the guest receives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Program {
    /// The JavaScript; absent when it is what the author wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    javascript: Option<String>,
    /// Line, column and the author's column of each shift.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shifts: Vec<(u32, u32, u32)>,
    /// Property names of the tools.
    tools: Vec<String>,
    /// The seed of `Math.random`.
    seed: u64,
    locale: Option<String>,
    time_zone: Option<String>,
    /// The most bytes of the program's value, and the key for a longer one.
    value: Option<(u64, String)>,
}

/// An answer of the host's to the guest that is no time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Answer {
    /// The JSON of a stored value.
    Loaded(Option<String>),
    /// The tools' descriptions.
    Descriptions(Vec<String>),
    /// A call or an output was refused: its number among those of the step, from 0.
    Refused {
        at: u64,
        limit: LimitKind,
        /// Whether that was for want of room in the cell's account.
        overdrawn: bool,
    },
    /// The guest was asked to end: the number of its question, from 0.
    Asked { at: u64, limit: LimitKind },
}

/// Where a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Reached {
    /// The program waits; the id of its next timer, and when that is due.
    Waits(Option<(u64, u64)>),
    /// The program ended, or its guest.
    Ended,
    /// It does not parse, and another text may be started.
    Unparsed,
    /// The guest said where it waits.
    Place(Option<String>),
    /// The guest was stopped after so many slices of fuel.
    Stopped { slices: u64 },
}

/// The last line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) end: super::End,
    /// Steps that were recorded.
    pub(super) steps: u64,
}

impl Run {
    /// Bytes that it takes as JSON, about.
    pub(super) fn byte_len(&self) -> usize {
        let event = |event: &ParkedEvent| match event {
            ParkedEvent::Succeeded(_, text) | ParkedEvent::Failed(_, text) => text.len(),
            ParkedEvent::Timer(_) => 8,
        };
        match self {
            Self::Execute(program) => {
                let names: usize = program.tools.iter().map(String::len).sum();
                program.javascript.as_ref().map_or(0, String::len)
                    + names
                    + program.shifts.len() * 12
            }
            Self::Wait(events) => events.iter().map(event).sum(),
            Self::Awaiting => 0,
        }
    }
}

impl Answer {
    /// Bytes that it takes as JSON, about.
    pub(super) fn byte_len(&self) -> usize {
        match self {
            Self::Loaded(json) => json.as_ref().map_or(4, String::len),
            Self::Descriptions(texts) => texts.iter().map(String::len).sum(),
            Self::Refused { .. } | Self::Asked { .. } => 64,
        }
    }
}

impl Program {
    /// The program of a request, whose author wrote `source`.
    pub(super) fn of(request: &types::ExecuteRequest, source: &str) -> Self {
        Self {
            javascript: (request.source != source).then(|| request.source.clone()),
            shifts: request.shifts.iter().map(|s| (s.line, s.column, s.original)).collect(),
            tools: request.tools.clone(),
            seed: request.random_seed,
            locale: request.locale.clone(),
            time_zone: request.time_zone.clone(),
            value: request.value.as_ref().map(|value| (value.max_bytes, value.key.clone())),
        }
    }

    /// The request that it was made of.
    pub(super) fn into_request(self, source: &str, limits: &CellLimits) -> types::ExecuteRequest {
        let shift = |(line, column, original)| types::Shift { line, column, original };
        types::ExecuteRequest {
            source: self.javascript.unwrap_or_else(|| source.to_owned()),
            shifts: self.shifts.into_iter().map(shift).collect(),
            tools: self.tools,
            random_seed: self.seed,
            limits: guest_limits(limits),
            locale: self.locale,
            time_zone: self.time_zone,
            value: self.value.map(|(max_bytes, key)| types::ValueRequest { max_bytes, key }),
        }
    }

    /// Whether it was made of another text than its author wrote.
    pub(super) fn is_translated(&self) -> bool {
        self.javascript.is_some()
    }

    /// Names of the tools.
    pub(super) fn tools(&self) -> &[String] {
        &self.tools
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits(None) => f.write_str("came to wait"),
            Self::Waits(Some((id, due))) => {
                write!(f, "came to wait, with the timer {id} due at {due}")
            }
            Self::Ended => f.write_str("ended the program"),
            Self::Unparsed => f.write_str("found that the program does not parse"),
            Self::Place(None) => f.write_str("found no place where the program waits"),
            Self::Place(Some(place)) => write!(f, "found the program waiting at {place}"),
            Self::Stopped { slices } => write!(f, "was stopped after {slices} slices"),
        }
    }
}

/// The limits that the guest enforces itself.
pub(in super::super) fn guest_limits(limits: &CellLimits) -> types::GuestLimits {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    types::GuestLimits {
        memory_bytes: limits.memory_bytes as u64,
        stack_bytes: count(limits.stack_bytes),
        timers: count(limits.timers),
        stored_bytes: limits.stored_bytes as u64,
        stored_keys: count(limits.stored_keys),
    }
}
