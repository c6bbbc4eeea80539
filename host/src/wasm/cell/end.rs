//! The end of a cell: its stages, its last response, and the text of a limit.

use super::super::bindings::cellblock::code_mode::types;
use super::super::error_text::shorten;
use super::super::recording::End as RecordedEnd;
use super::super::sandbox::Finished;
use super::{Cell, Guest};
use crate::backend::{
    CallReport, CellEvent, CellId, CellReport, CellState, CodeModeError, LimitKind, ProgramValue,
    RuntimeResponse,
};
use crate::cells::{Conclusion, Content};
use std::fmt::Write;

/// Nested calls that the text of a limit lists.
const CALLS_IN_TEXT: usize = 10;

/// Where a cell is on its way to its end.
pub(super) enum Stage {
    Running,
    /// The program has ended; notifications are still being delivered.
    Draining(End),
    /// Calls have been asked to return.
    Closing(End),
}

/// How a cell ends.
pub(super) enum End {
    Program(Finished),
    Terminated,
}

/// The key under which a value is stored that is too long to be answered.
pub(in super::super) fn value_key(id: &CellId) -> String {
    format!("result_{id}")
}

/// How the text begins of a cell that reached a limit; a list of its calls may follow.
pub(in super::super) fn limit_text(
    limit: LimitKind,
    value: &str,
    remedy: &str,
    stack: String,
) -> String {
    let mut text = format!("cell stopped: its {limit} limit of {value} was reached; {remedy}");
    if !stack.is_empty() {
        text.push('\n');
        text.push_str(&shorten(stack));
    }
    text
}

impl Cell {
    /// The program has ended: what it notified is still delivered.
    pub(super) fn finish(&mut self, finished: Finished) -> Stage {
        self.guest = Guest::Gone;
        self.outbox.status.set_state(CellState::Ending);
        self.callbacks.drop_undeliverable();
        Stage::Draining(End::Program(finished))
    }

    /// Ends the guest where it is, at a limit.
    pub(super) fn stop_at(&mut self, limit: LimitKind) -> Stage {
        // Dropping the sandbox ends it.
        self.guest = Guest::Gone;
        self.take_output();
        self.finish(Finished::Limited { limit, stack: String::new() })
    }

    /// Asks outstanding calls to return.
    pub(super) fn begin_closing(&mut self, end: End) -> Stage {
        self.recent_calls.cancelled();
        self.callbacks.begin_closing(self.limits.cancel_grace);
        Stage::Closing(end)
    }

    /// Ends the guest where it is, and asks calls and notifications to return.
    pub(super) fn begin_terminating(&mut self, stage: Stage) -> Stage {
        if matches!(stage, Stage::Closing(..)) {
            return stage;
        }
        self.guest = Guest::Gone;
        self.take_output();
        self.outbox.status.set_state(CellState::Ending);
        self.callbacks.cancel_all();
        self.begin_closing(End::Terminated)
    }

    /// Commits, answers and leaves the list, all in one moment.
    pub(super) fn close(mut self, end: End) {
        let content = std::mem::take(&mut self.content);
        let observer = self.observer.take().map(|observer| observer.reply);
        let replies = self.terminator.take().into_iter().chain(observer).collect();
        let mut recorded = RecordedEnd::Terminated;
        if let Some(entry) = self.entry.take() {
            entry.end(replies, || {
                let conclusion = self.conclude(content, end);
                recorded = RecordedEnd::of(&conclusion.response);
                self.monitored.send(CellEvent::Ended(&conclusion.response));
                conclusion
            });
        }
        self.outbox.tape.end(&self.id, recorded);
        self.callbacks.cell_closed();
    }

    /// Commits what the program stored, and makes the last response.
    fn conclude(&self, content: Content, end: End) -> Conclusion {
        let Content { items: content_items, charge } = content;
        let cell_id = self.id.clone();
        let mut report = CellReport {
            usage: self.usage_now(),
            calls: self.recent_calls.report(),
            ..CellReport::default()
        };
        let response = match end {
            End::Terminated => RuntimeResponse::Terminated { cell_id, content_items, report },
            End::Program(finished) => {
                let error_text = self.commit(finished, &mut report).map(shorten);
                RuntimeResponse::Result { cell_id, content_items, error_text, report }
            }
        };
        Conclusion { response, charge }
    }

    /// Commits what the program stored; its error text, if it failed.
    fn commit(&self, finished: Finished, report: &mut CellReport) -> Option<String> {
        let (error_text, stored) = match finished {
            Finished::Completed { mut stored, hint, value } => {
                let key = value_key(&self.id);
                // Its guest knows the key of the cell that was parked.
                for (written, _) in &mut stored {
                    if *written == self.value_key {
                        written.clone_from(&key);
                    }
                }
                report.hint = hint;
                report.value = value.map(|value| match value {
                    types::ProgramValue::Json(json) => ProgramValue::Json(json),
                    types::ProgramValue::Stored(bytes) => ProgramValue::Stored { key, bytes },
                    types::ProgramValue::Refused(why) => ProgramValue::Refused(why),
                });
                (None, stored)
            }
            Finished::Failed { error_text, stored, hint } => {
                report.hint = hint;
                (Some(error_text), stored)
            }
            // It was read as nothing else.
            Finished::Unparsed { error_text, hint } => {
                report.hint = hint;
                (Some(error_text), Vec::new())
            }
            Finished::Limited { limit, stack } => return Some(self.limited(limit, stack, report)),
            Finished::Broken => return Some(CodeModeError::EndedUnexpectedly.to_string()),
        };
        match self.stored_values.merge(stored, &self.session.limits) {
            Ok(()) => error_text,
            Err(limit) => {
                report.hint = None;
                report.value = None;
                Some(self.limited(limit, String::new(), report))
            }
        }
    }

    /// Names the limit, the line being run, the remedy, and what was called.
    fn limited(&self, limit: LimitKind, stack: String, report: &mut CellReport) -> String {
        report.limit = Some(limit);
        let of_the_engine = self.session.engine.slots().describe(limit);
        let (value, remedy) =
            of_the_engine.unwrap_or_else(|| self.session.limits.describe(&self.limits, limit));
        let mut text = limit_text(limit, &value, &remedy, stack);
        let calls = &report.calls;
        if let Some(unlisted) = calls.len().checked_sub(CALLS_IN_TEXT).filter(|n| *n > 0) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\nnested calls: {unlisted} earlier ones, then");
        } else if !calls.is_empty() {
            text.push_str("\nnested calls:");
        }
        for call in calls.iter().skip(calls.len().saturating_sub(CALLS_IN_TEXT)) {
            let CallReport { runtime_tool_call_id, tool, end } = call;
            let _ = write!(text, "\n    {runtime_tool_call_id} {tool} {end}");
        }
        text
    }
}
