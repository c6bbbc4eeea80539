//! A recording as the page reads it: JSON. Times are in microseconds since the cell's start.

use crate::entries::{Dropped, Entry, Place};
use crate::state::{End, How, State, micros};
use crate::text::Text;
use crate::totals::{LineTotals, ToolTotals};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

/// Characters of the line that a list shows of a program.
const LINE_CHARS: usize = 120;

/// What changed since a version of a recording.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    version: u64,
    title: &'a str,
    /// The program; only where everything is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a Text>,
    /// When it started, in milliseconds since 1970.
    started_ms: u64,
    /// How long it has lasted, in microseconds.
    lasted: u64,
    limits: ShownLimits,
    usage: ShownUsage,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<ShownWait>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'a End>,
    tools: Vec<(&'a str, &'a ToolTotals)>,
    lines: &'a BTreeMap<u32, LineTotals>,
    dropped: Dropped,
    /// First and last number of each row of entries that are kept.
    kept: Vec<(u64, u64)>,
    entries: Vec<&'a Entry>,
}

#[derive(Serialize)]
struct ShownLimits {
    fuel: u64,
    memory_bytes: usize,
    running: u64,
    lasted: u64,
    calls: u64,
    output_bytes: usize,
}

#[derive(Serialize)]
struct ShownUsage {
    fuel: u64,
    memory_bytes: u64,
    running: u64,
    calls: u64,
    output_bytes: u64,
}

#[derive(Serialize)]
struct ShownWait {
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    since: u64,
}

/// A question that waits for an answer.
#[derive(Debug, Serialize)]
struct Question {
    number: u64,
    text: Text,
    since: u64,
}

/// A line of a list of recordings.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    title: String,
    /// The first line of the program that says something.
    line: String,
    started_ms: u64,
    lasted: u64,
    state: &'static str,
    calls: u64,
    questions: Vec<Question>,
}

impl State {
    fn lasted(&self) -> u64 {
        self.end.as_ref().map_or_else(|| self.now(), |end| end.at)
    }

    fn started_ms(&self) -> u64 {
        let since = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// A line of a list.
    pub(crate) fn summary(&self) -> Summary {
        let state = match &self.end {
            None if !self.questions.is_empty() => "asking",
            None if self.waiting.is_some() => "waiting",
            None => "running",
            Some(end) => match end.how {
                How::Completed => "completed",
                How::Failed => "failed",
                How::Limit => "limit",
                How::Terminated => "terminated",
                How::Parked => "parked",
                How::Lost => "lost",
            },
        };
        Summary {
            title: self.title.clone(),
            line: self.source.first_line(LINE_CHARS),
            started_ms: self.started_ms(),
            lasted: self.lasted(),
            state,
            calls: self.usage.calls,
            questions: self
                .questions
                .iter()
                .map(|(number, open)| Question {
                    number: *number,
                    text: open.text.clone(),
                    since: open.since,
                })
                .collect(),
        }
    }

    /// What changed after a version.
    pub(crate) fn shown(&self, version: u64) -> Shown<'_> {
        let (limits, usage) = (&self.limits, &self.usage);
        Shown {
            version: self.version,
            title: &self.title,
            source: (version == 0).then_some(&self.source),
            started_ms: self.started_ms(),
            lasted: self.lasted(),
            limits: ShownLimits {
                fuel: limits.fuel,
                memory_bytes: limits.memory_bytes,
                running: micros(limits.running_time),
                lasted: micros(limits.total_time),
                calls: limits.calls,
                output_bytes: limits.output_bytes,
            },
            usage: ShownUsage {
                fuel: usage.fuel,
                memory_bytes: usage.peak_memory_bytes,
                running: micros(usage.running_time),
                calls: usage.calls,
                output_bytes: usage.output_bytes,
            },
            waiting: self.waiting.map(|(_, place, since)| ShownWait { place, since }),
            end: self.end.as_ref(),
            tools: self.totals.tools().collect(),
            lines: self.totals.lines(),
            dropped: self.entries.dropped(),
            kept: self.entries.ranges(),
            entries: self.entries.since(version).collect(),
        }
    }
}
