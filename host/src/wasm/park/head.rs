//! What the host knows of a parked cell, beside its memory.
//!
//! It is read from bytes that somebody else may have made. So every figure is checked against
//! the session's limits, every text against its bounds, and what is missing or unknown is
//! refused.

use super::super::bindings::cellblock::code_mode::types;
use super::super::imports::Spent;
use super::super::{MAX_NAME_BYTES, MAX_TOOLS};
use super::above;
use crate::backend::{CallEnd, CellReport, ContentItem, ParkError, ParkedCall, ToolInput};
use crate::limits::{CellLimits, SessionLimits};
use crate::tools::ToolDefinition;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What the host knows of a parked cell.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Head {
    /// The limits that the cell was started with; `host_bytes` is always there.
    pub(in super::super) limits: CellLimits,
    /// What it has used of them.
    pub(in super::super) spent: Spent,
    /// Fuel of the steps that have ended.
    pub(in super::super) fuel: u64,
    /// Running time, in nanoseconds.
    pub(in super::super) running_time: u64,
    /// Time until the total time is over, in nanoseconds.
    pub(in super::super) time_left: u64,
    /// The guest's monotonic clock, in nanoseconds.
    pub(in super::super) monotonic: u64,
    /// The guest's wall clock, in nanoseconds.
    pub(in super::super) wall: u64,
    /// The timer that is due next: its id, and when on the guest's monotonic clock.
    pub(in super::super) timer: Option<(u64, u64)>,
    /// As the request's.
    pub(in super::super) tool_call_id: String,
    /// The key under which the guest stores a value that is too long.
    pub(in super::super) value_key: String,
    /// The tools in the order in which the guest numbers them. Their schemas stay with those
    /// who describe tools to a model.
    pub(in super::super) tools: Vec<ToolDefinition>,
    /// Nested calls that have not ended.
    pub(in super::super) pending: Vec<PendingCall>,
    /// Events that the guest has not received: of a cell that is frozen.
    pub(in super::super) events: Vec<ParkedEvent>,
    /// Output that no caller has received yet.
    pub(in super::super) content: Vec<ContentItem>,
    /// Pieces of output that callers have received.
    pub(in super::super) received: u64,
    /// The newest calls: number, tool, and how they ended.
    pub(in super::super) recent_calls: Vec<(u64, String, Option<CallEnd>)>,
    /// Numbers of the calls made since the last frontier.
    pub(in super::super) calls_since_frontier: Vec<u64>,
    /// The values that the program may load, as JSON text by key.
    pub(in super::super) stored: BTreeMap<String, Arc<str>>,
}

/// A nested call that has not ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PendingCall {
    /// Its number.
    pub(in super::super) id: u64,
    /// The tool's place in the list.
    pub(in super::super) tool: usize,
    /// The JSON of its input.
    pub(in super::super) input: Option<Box<RawValue>>,
}

/// An event that the guest has not received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in super::super) enum ParkedEvent {
    /// A call returned: its number, and the JSON of its result.
    Succeeded(u64, String),
    /// A call failed: its number, and the text.
    Failed(u64, String),
    /// A timer fired.
    Timer(u64),
}

impl From<&types::Event> for ParkedEvent {
    fn from(event: &types::Event) -> Self {
        match event {
            types::Event::CallSucceeded(end) => Self::Succeeded(end.id, end.text.clone()),
            types::Event::CallFailed(end) => Self::Failed(end.id, end.text.clone()),
            types::Event::TimerFired(id) => Self::Timer(*id),
        }
    }
}

impl From<ParkedEvent> for types::Event {
    fn from(event: ParkedEvent) -> Self {
        match event {
            ParkedEvent::Succeeded(id, text) => Self::CallSucceeded(types::CallEnd { id, text }),
            ParkedEvent::Failed(id, text) => Self::CallFailed(types::CallEnd { id, text }),
            ParkedEvent::Timer(id) => Self::TimerFired(id),
        }
    }
}

impl Head {
    /// Counts time since the cell was parked as if the cell had waited.
    pub(in super::super) fn advance(&mut self, elapsed: Duration) {
        let elapsed = nanos(elapsed);
        self.monotonic = self.monotonic.saturating_add(elapsed);
        self.time_left = self.time_left.saturating_sub(elapsed);
    }

    /// The cell's caller has received so many pieces of output.
    pub(in super::super) fn note_received(&mut self, received: u64) {
        let newly_received = received.saturating_sub(self.received);
        let count = usize::try_from(newly_received).unwrap_or(usize::MAX).min(self.content.len());
        self.content.drain(..count);
        self.received = self.received.max(received);
    }

    /// Whether a call has not ended, by its `runtime_tool_call_id`.
    pub(in super::super) fn is_pending(&self, id: &str) -> bool {
        let number = id.strip_prefix("tool-").and_then(|number| number.parse::<u64>().ok());
        number.is_some_and(|number| self.pending.iter().any(|call| call.id == number))
    }

    /// The calls that have not ended.
    pub(in super::super) fn parked_calls(&self) -> Result<Vec<ParkedCall>, ParkError> {
        let parked = |call: &PendingCall| {
            let tool = self.tools.get(call.tool).ok_or(ParkError::Damaged)?;
            let input = call.input.as_ref().map(|input| ToolInput::from_json(input.get()));
            Ok(ParkedCall {
                runtime_tool_call_id: format!("tool-{}", call.id),
                tool_name: tool.tool_name.clone(),
                input: input.transpose().map_err(|_| ParkError::Damaged)?,
            })
        };
        self.pending.iter().map(parked).collect()
    }

    /// Refuses a head that the session's limits do not allow, or that no cell can have.
    pub(in super::super) fn check(&self, session: &SessionLimits) -> Result<(), ParkError> {
        self.check_limits(&session.cell)?;
        let is_sound = self.counts_are_sound() && self.ids_are_sound() && self.texts_are_sound();
        if !is_sound {
            return Err(ParkError::Damaged);
        }
        let stored: usize = self.stored.iter().map(|(key, json)| key.len() + json.len()).sum();
        if stored > session.stored_bytes {
            return Err(above("session stored bytes", &stored, session.stored_bytes));
        }
        if self.stored.len() > session.stored_keys {
            return Err(above("session stored keys", &self.stored.len(), session.stored_keys));
        }
        Ok(())
    }

    /// A cell keeps the limits that it was started with, which its guest knows. So each must
    /// be one that the session would have granted.
    fn check_limits(&self, session: &CellLimits) -> Result<(), ParkError> {
        let own = &self.limits;
        if own.check().is_err() || own.host_bytes.is_none() {
            return Err(ParkError::Damaged);
        }
        match own.first_above(&session.with_held_bytes()) {
            Some(limit) => Err(ParkError::OverLimits(limit)),
            None => Ok(()),
        }
    }

    fn counts_are_sound(&self) -> bool {
        let Self { limits, spent, .. } = self;
        let timers = self.events.iter().filter(|event| matches!(event, ParkedEvent::Timer(_)));
        self.fuel <= limits.fuel
            && spent.output_bytes <= limits.output_bytes
            && spent.output_items <= limits.output_items
            && spent.calls as u64 <= limits.calls
            && self.pending.len() <= limits.calls_in_flight
            && self.running_time <= nanos(limits.running_time)
            && self.time_left <= nanos(limits.total_time)
            && self.content.len() <= limits.output_items
            && self.recent_calls.len() <= CellReport::MAX_CALLS
            && self.tools.len() <= MAX_TOOLS
            && timers.count() <= limits.timers
    }

    /// A guest numbers its calls from 1, and each ends once.
    fn ids_are_sound(&self) -> bool {
        let calls = self.spent.calls as u64;
        let ended = self.events.iter().filter_map(|event| match event {
            ParkedEvent::Succeeded(id, _) | ParkedEvent::Failed(id, _) => Some(*id),
            ParkedEvent::Timer(_) => None,
        });
        let (mut ids, mut distinct) = (BTreeSet::new(), true);
        for id in self.pending.iter().map(|call| call.id).chain(ended) {
            distinct &= ids.insert(id);
        }
        let known = |id: &u64| (1..=calls).contains(id);
        distinct
            && ids.iter().all(known)
            && self.calls_since_frontier.iter().all(known)
            && self.recent_calls.iter().all(|(id, ..)| known(id))
            && self.pending.iter().all(|call| call.tool < self.tools.len())
    }

    fn texts_are_sound(&self) -> bool {
        let Self { limits, .. } = self;
        let short = |text: &str| text.len() <= MAX_NAME_BYTES;
        let input = |call: &PendingCall| {
            call.input.as_ref().is_none_or(|input| input.get().len() <= limits.input_bytes)
        };
        short(&self.tool_call_id)
            && short(&self.value_key)
            && self.tools.iter().all(|tool| {
                let name = &tool.tool_name;
                short(&tool.name)
                    && short(&name.name)
                    && name.namespace.as_deref().is_none_or(short)
            })
            && self.recent_calls.iter().all(|(_, tool, _)| tool.len() <= 2 * MAX_NAME_BYTES)
            && self.pending.iter().all(input)
    }
}

pub(in super::super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
