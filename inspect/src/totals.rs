//! Sums over all calls and waits of a cell, also over those that are not kept.

use crate::entries::CallEnd;
use serde::Serialize;
use std::collections::BTreeMap;

/// Tools that are counted by their names; further ones are counted together.
const MAX_TOOLS: usize = 500;
/// Lines whose waits are counted.
const MAX_LINES: usize = 2_000;
/// The name under which further tools are counted.
const OTHER_TOOLS: &str = "(other tools)";

/// Sums of one cell.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    tools: BTreeMap<String, ToolTotals>,
    lines: BTreeMap<u32, LineTotals>,
}

/// The calls of one tool. Times are in microseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ToolTotals {
    pub(crate) calls: u64,
    /// Those that have not ended.
    pub(crate) open: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    /// The sum of how long they took.
    pub(crate) time: u64,
}

/// The waits at one line of a program. Times are in microseconds.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LineTotals {
    pub(crate) waits: u64,
    /// How long they lasted together.
    pub(crate) time: u64,
}

impl Totals {
    pub(crate) fn call_started(&mut self, tool: &str) {
        let totals = self.tool(tool);
        totals.calls += 1;
        totals.open += 1;
    }

    pub(crate) fn call_ended(&mut self, tool: &str, how: &CallEnd, time: u64) {
        let totals = self.tool(tool);
        totals.open = totals.open.saturating_sub(1);
        totals.time += time;
        match how {
            CallEnd::Succeeded { .. } => {}
            CallEnd::Failed { .. } => totals.failed += 1,
            CallEnd::Cancelled => totals.cancelled += 1,
        }
    }

    pub(crate) fn waited(&mut self, line: u32, time: u64) {
        if self.lines.len() < MAX_LINES || self.lines.contains_key(&line) {
            let totals = self.lines.entry(line).or_default();
            totals.waits += 1;
            totals.time += time;
        }
    }

    pub(crate) fn tools(&self) -> impl Iterator<Item = (&str, &ToolTotals)> {
        self.tools.iter().map(|(name, totals)| (name.as_str(), totals))
    }

    pub(crate) fn lines(&self) -> &BTreeMap<u32, LineTotals> {
        &self.lines
    }

    fn tool(&mut self, name: &str) -> &mut ToolTotals {
        let is_counted = self.tools.len() < MAX_TOOLS || self.tools.contains_key(name);
        let name = if is_counted { name } else { OTHER_TOOLS };
        self.tools.entry(name.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_lines_are_bounded() {
        let mut totals = Totals::default();
        for number in 0..MAX_TOOLS + 100 {
            totals.call_started(&format!("tool{number}"));
            totals.call_ended(&format!("tool{number}"), &CallEnd::Cancelled, 3);
        }
        assert_eq!(totals.tools().count(), MAX_TOOLS + 1);
        let (_, other) = totals.tools().find(|(name, _)| *name == OTHER_TOOLS).expect("a sum");
        assert_eq!((other.calls, other.open, other.cancelled, other.time), (100, 0, 100, 300));
        for line in 0..10_000 {
            totals.waited(line, 1);
            totals.waited(1, 1);
        }
        assert_eq!(totals.lines().len(), MAX_LINES);
        assert_eq!(totals.lines()[&1], LineTotals { waits: 10_001, time: 10_001 });
    }
}
