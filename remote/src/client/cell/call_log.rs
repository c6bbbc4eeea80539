//! The nested calls that a cell has made, for the report of its loss.

use cellblock::support::lock;
use cellblock::{CallEnd, CallReport, CellReport, CodeModeNestedToolCall};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// The newest nested calls of a cell. Clones are handles to the same calls.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct CallLog(Arc<Mutex<VecDeque<CallReport>>>);

impl CallLog {
    /// Whether a call was made and has not ended.
    pub(super) fn is_running(&self, id: &str) -> bool {
        let calls = lock(&self.0);
        let mut running = calls.iter().filter(|call| call.end == CallEnd::Cancelled);
        running.any(|call| call.runtime_tool_call_id == id)
    }

    /// A call was made; it counts as cancelled until it has ended.
    pub(super) fn started(&self, call: &CodeModeNestedToolCall) {
        let mut calls = lock(&self.0);
        if calls.len() >= CellReport::MAX_CALLS {
            calls.pop_front();
        }
        calls.push_back(CallReport {
            runtime_tool_call_id: call.runtime_tool_call_id.clone(),
            tool: call.tool_name.name.clone(),
            end: CallEnd::Cancelled,
        });
    }

    /// A call has ended.
    pub(super) fn ended(&self, id: &str, succeeded: bool) {
        let end = if succeeded { CallEnd::Succeeded } else { CallEnd::Failed };
        let mut calls = lock(&self.0);
        if let Some(call) = calls.iter_mut().rev().find(|call| call.runtime_tool_call_id == id) {
            call.end = end;
        }
    }

    /// The calls, oldest first.
    #[cfg(feature = "nats")]
    pub(in super::super) fn reports(&self) -> Vec<CallReport> {
        lock(&self.0).iter().cloned().collect()
    }
}
