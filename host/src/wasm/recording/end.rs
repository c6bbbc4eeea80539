//! The end of a cell that is run again: whether it had ended like this when it was recorded.
//!
//! What a program does by itself is compared. That somebody ended it, parked it, or that its time
//! was over, comes from outside: that is compared with where the program is, for it cannot happen
//! everywhere.

use super::super::bindings::cellblock::code_mode::types;
use super::super::cell::{Program, limit_text};
use super::super::engine::Engine;
use super::super::error_text::{ERROR_TEXT_BYTES, shorten};
use super::super::sandbox::Finished;
use super::lines::{End as EndLine, Reached, guest_limits};
use super::replay::{Replayed, Running};
use super::tape::End;
use crate::backend::{CodeModeError, Language, LimitKind, unsettled_text};

/// Limits of its own that a cell reaches while its guest does nothing.
const OF_TIME: [LimitKind; 2] = [LimitKind::RunningTime, LimitKind::TotalTime];

/// The same of its engine, whose values are not recorded.
const OF_ENGINE: [LimitKind; 2] = [LimitKind::SandboxQueue, LimitKind::SandboxWait];

/// Limits at which a session refuses what an ended program stored.
const OF_VALUES: [LimitKind; 2] = [LimitKind::SessionStoredBytes, LimitKind::SessionStoredKeys];

/// Characters of an error text that are shown.
const SHOWN: usize = 200;

impl Running {
    /// Compares the end with the one that was recorded; the text says what is different.
    pub(super) async fn end(&mut self, engine: &Engine, recorded: &EndLine) -> Result<(), String> {
        let EndLine { end, steps } = recorded;
        if *steps != self.steps {
            return Err(format!(
                "the recording has {} steps, and had {steps} when it was made",
                self.steps
            ));
        }
        self.read_as_typescript(engine, end).await;
        if self.can_be(end) {
            return Ok(());
        }
        let now = match &self.finished {
            Some(Finished::Completed { .. }) => "completed".to_owned(),
            Some(Finished::Failed { error_text, .. } | Finished::Unparsed { error_text, .. }) => {
                failed(error_text)
            }
            Some(Finished::Limited { limit, .. }) => failed(&self.limit_text(*limit, "")),
            Some(Finished::Broken) => failed(&CodeModeError::EndedUnexpectedly.to_string()),
            None if self.is_stopped => "was stopped".to_owned(),
            None => "waits".to_owned(),
        };
        let then = match end {
            End::Failed(text) => failed(text),
            end => words(end).to_owned(),
        };
        Err(format!("the program {now}, and the recording ends with: {then}"))
    }

    /// What was reached at the end.
    pub(super) fn ended(self, end: &End) -> Replayed {
        let mut error_text = None;
        if let End::Failed(text) = end {
            error_text = Some(text.clone());
        } else if let (End::Terminated, Some(Reached::Place(place)), None) =
            (end, &self.last, self.reached.timer)
            && self.calls.is_empty()
        {
            error_text = Some(unsettled_text(place.clone()));
        }
        Replayed { end: Some(words(end).to_owned()), error_text, ..self.stopped() }
    }

    /// Reads a program that failed because it is not JavaScript as TypeScript, as it was when it
    /// was recorded: that takes fuel, and decides what its error is.
    async fn read_as_typescript(&mut self, engine: &Engine, end: &End) {
        let unparsed = match (&self.finished, self.language) {
            (Some(Finished::Unparsed { error_text, hint }), Language::Auto) => {
                Some((error_text.clone(), hint.clone()))
            }
            (None, Language::Ts) if self.steps == 0 => None,
            _ => return,
        };
        let End::Failed(text) = end else { return };
        if self.is_outside(text) {
            return;
        }
        let Some(sandbox) = &mut self.sandbox else { return };
        let request = types::ExecuteRequest {
            source: self.source.clone(),
            shifts: Vec::new(),
            tools: Vec::new(),
            random_seed: 0,
            limits: guest_limits(&self.limits),
            locale: None,
            time_zone: None,
            value: None,
        };
        let typescript_bytes = self.limits.typescript_bytes;
        let mut program = Program { language: self.language, request, typescript_bytes };
        // One that is TypeScript was started then, so there would be a step.
        self.finished = program.read(engine, sandbox, unparsed).await.err();
        self.note_fuel();
    }

    /// Whether the cell can have ended like this, where it is now.
    fn can_be(&self, end: &End) -> bool {
        let finished = self.finished.as_ref();
        match (end, finished) {
            // Wherever the recording had no room for more.
            (End::Full, _)
            | (End::Completed, Some(Finished::Completed { .. }))
            | (End::Terminated, None | Some(Finished::Unparsed { .. })) => true,
            // Its notifications were still being delivered.
            (End::Terminated, Some(_)) => !self.reached.notifications.is_empty(),
            (End::Parked, None) => !self.is_stopped && self.steps > 0,
            (End::Failed(text), Some(Finished::Completed { stored, .. })) => {
                !stored.is_empty() && is_of(&OF_VALUES, text)
            }
            (End::Failed(text), Some(Finished::Failed { error_text, stored, .. })) => {
                *text == shorten(error_text.clone())
                    || !stored.is_empty() && is_of(&OF_VALUES, text)
            }
            (End::Failed(text), Some(Finished::Unparsed { error_text, .. })) => {
                *text == shorten(error_text.clone()) || self.is_outside(text)
            }
            (End::Failed(text), Some(Finished::Limited { limit, stack })) => {
                self.is_at(*limit, stack, text)
            }
            (End::Failed(text), Some(Finished::Broken)) => is_broken(text),
            (End::Failed(text), None) => {
                let is_begun = self.steps > 0;
                self.is_outside(text)
                    || is_begun
                        && (is_broken(text) || text.starts_with("failed to wake the cell: "))
                    || !is_begun && text.starts_with("failed to initialize code mode runtime: ")
            }
            (End::Completed | End::Parked, _) => false,
        }
    }

    /// Whether a text is that of a limit that a cell reaches while its guest does nothing.
    fn is_outside(&self, text: &str) -> bool {
        is_of(&OF_ENGINE, text) || OF_TIME.iter().any(|limit| self.is_at(*limit, "", text))
    }

    /// Whether a text is that of this limit; a list of calls may follow.
    fn is_at(&self, limit: LimitKind, stack: &str, text: &str) -> bool {
        let expected = self.limit_text(limit, stack);
        let kept = &expected[..expected.floor_char_boundary(ERROR_TEXT_BYTES)];
        let is_listed = |rest: &str| rest.is_empty() || rest.starts_with("\nnested calls:");
        text.strip_prefix(kept).is_some_and(|rest| kept.len() < expected.len() || is_listed(rest))
    }

    fn limit_text(&self, limit: LimitKind, stack: &str) -> String {
        let (value, remedy) = self.limits.describe(limit);
        limit_text(limit, &value, &remedy, stack.to_owned())
    }
}

/// Whether a text is that of one of these limits.
fn is_of(limits: &[LimitKind], text: &str) -> bool {
    limits.iter().any(|limit| text.starts_with(&format!("cell stopped: its {limit} limit of ")))
}

fn is_broken(text: &str) -> bool {
    text == CodeModeError::EndedUnexpectedly.to_string()
}

fn failed(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("failed: {shown}{more}")
}

/// An end in words.
fn words(end: &End) -> &'static str {
    match end {
        End::Completed => "completed",
        End::Failed(_) => "failed",
        End::Terminated => "terminated",
        End::Parked => "parked",
        End::Full => "recorded in part",
    }
}
