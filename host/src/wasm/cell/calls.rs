//! The outcomes of a cell's nested calls.

use super::super::error_text;
use crate::backend::{self as report, CallReport, CellReport, ToolResult};
use crate::cells::{Account, Charge};
use crate::tools::ToolName;
use std::collections::VecDeque;
use std::sync::Arc;

/// A nested call that has ended.
pub(super) struct CallEnd {
    /// Its number.
    pub(super) id: u64,
    /// The JSON of its result, or the text that rejects its promise.
    pub(super) result: Result<String, String>,
    /// What the cell is charged for the result.
    pub(super) charge: Charge,
}

impl CallEnd {
    /// A result of at most `limit` bytes, charged to the account. One that does not fit
    /// fails the call: what the cell is not taking must not pile up.
    pub(super) fn new(
        id: u64,
        result: Result<ToolResult, String>,
        limit: usize,
        account: &Arc<Account>,
    ) -> Self {
        let result = result
            .and_then(|result| {
                result.into_json(limit).map_err(|error| format!("tool result is {error}"))
            })
            .map_err(error_text::shorten);
        let bytes = result.as_ref().map_or_else(String::len, String::len);
        if let Some(charge) = account.charge(bytes) {
            return Self { id, result, charge };
        }
        let limit = account.limit();
        let why = format!(
            "tool result does not fit: it has {bytes} bytes, and the host may hold {limit} for \
             the cell, other results that wait included; await fewer calls at a time"
        );
        Self::failed(id, &why)
    }

    /// A call that failed with a short text.
    pub(super) fn failed(id: u64, why: &str) -> Self {
        Self { id, result: Err(why.to_owned()), charge: Charge::default() }
    }
}

/// The newest calls of a cell, oldest first; `None` has not ended.
#[derive(Default)]
pub(super) struct RecentCalls(VecDeque<(u64, String, Option<report::CallEnd>)>);

impl RecentCalls {
    /// A call was made.
    pub(super) fn made(&mut self, id: u64, tool: Option<&ToolName>) {
        let Some(tool) = tool else { return };
        if self.0.len() >= CellReport::MAX_CALLS {
            self.0.pop_front();
        }
        self.0.push_back((id, tool.to_string(), None));
    }

    /// A call has ended.
    pub(super) fn ended(&mut self, end: &CallEnd) {
        // Newest last, and most calls end soon after they were made.
        let call = self.0.iter_mut().rev().find(|(each, ..)| *each == end.id);
        if let Some((_, _, how)) = call {
            how.get_or_insert(match end.result {
                Ok(_) => report::CallEnd::Succeeded,
                Err(_) => report::CallEnd::Failed,
            });
        }
    }

    /// The calls that have not ended are cancelled.
    pub(super) fn cancelled(&mut self) {
        for (_, _, end) in &mut self.0 {
            end.get_or_insert(report::CallEnd::Cancelled);
        }
    }

    /// The calls, for a cell that is parked.
    pub(super) fn parked(&self) -> Vec<(u64, String, Option<report::CallEnd>)> {
        self.0.iter().cloned().collect()
    }

    /// The calls of a cell that was parked.
    pub(super) fn take_up(&mut self, calls: Vec<(u64, String, Option<report::CallEnd>)>) {
        self.0 = calls.into();
    }

    /// The calls and how they ended.
    pub(super) fn report(&self) -> Vec<CallReport> {
        let report = |(id, tool, end): &(u64, String, Option<_>)| CallReport {
            runtime_tool_call_id: format!("tool-{id}"),
            tool: tool.clone(),
            end: end.unwrap_or(report::CallEnd::Cancelled),
        };
        self.0.iter().map(report).collect()
    }
}
