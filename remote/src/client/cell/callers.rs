//! What callers ask of a cell: the next answer, and its end.

use super::super::connection::Failure;
use super::super::session::Connected;
use super::end::Outcome;
use super::{OnItsWay, RemoteCell, TRANSPORT};
use crate::protocol::Refusal;
use cellblock::cells::{self, Content, Until};
use cellblock::{CellReport, CodeModeError, RuntimeResponse, WaitOutcome};
use futures_util::FutureExt;
use std::time::Duration;
use tokio::time::Instant;

/// A caller that waits for an answer.
pub(super) struct Observer {
    pub(super) reply: cells::Reply,
    /// When it is to be answered at the latest.
    pub(super) deadline: Instant,
    /// Whether the answer on its way was asked for by this caller, so that the host keeps
    /// the time.
    pub(super) asked: bool,
}

impl Observer {
    /// The caller that starts the cell: the host keeps its time.
    pub(super) fn first(until: Until, reply: cells::Reply) -> Self {
        Self { reply, deadline: deadline(until), asked: true }
    }
}

/// When a caller is to be answered at the latest.
fn deadline(until: Until) -> Instant {
    // A time beyond the clock's end needs no timer: a century is the longest.
    let century = Duration::from_hours(100 * 365 * 24);
    Instant::now()
        + match until {
            Until::Yield(timeout) => timeout.min(century),
            Until::Frontier => century,
        }
}

impl RemoteCell {
    /// When the observer is to be answered that there is nothing yet. While the host keeps
    /// the time it answers by itself; once the cell has ended, what still runs on this side
    /// may take so long.
    pub(super) fn yields_at(&self) -> Option<Instant> {
        let observer = self.observer.as_ref()?;
        let waits_here = match self.outcome {
            Some(_) => !self.callbacks.is_idle(),
            None => !observer.asked,
        };
        waits_here.then_some(observer.deadline)
    }

    pub(super) fn observe(&mut self, until: Until, reply: cells::Reply) {
        if self.observer.as_ref().is_some_and(|observer| !observer.reply.is_closed()) {
            let _ = reply.send(Err(CodeModeError::AlreadyObserved(self.handle.id.clone())));
            return;
        }
        self.observer = Some(Observer { reply, deadline: deadline(until), asked: false });
        self.ask_anew();
    }

    /// Asks the host for the observer's answer, unless an answer is on its way already.
    fn ask_anew(&mut self) {
        if self.missing
            || self.answer.is_some()
            || self.termination.is_some()
            || self.outcome.is_some()
        {
            return;
        }
        let (Some(Connected { connection, remote }), Some(host_id), Some(observer)) =
            (self.connected.get(), self.handle.host_id(), self.observer.as_mut())
        else {
            return;
        };
        if !self.content.items.is_empty() {
            self.answer_yield();
            return;
        }
        observer.asked = true;
        let left = observer.deadline.saturating_duration_since(Instant::now());
        let yield_time_ms = u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let waiting = connection.wait(remote, host_id.clone(), yield_time_ms);
        let answer = async move {
            match waiting.answer.await? {
                WaitOutcome::LiveCell(response) => Ok(response),
                WaitOutcome::MissingCell(_) => Err(Failure::Missing),
            }
        };
        self.answer =
            Some(OnItsWay { answer: Box::pin(answer), wait: Some(waiting.id), cancelled: false });
    }

    /// The observer has gone away: its wait is cancelled, so that output stays on the host.
    pub(super) fn observer_left(&mut self) {
        self.observer = None;
        if let (Some(OnItsWay { wait: wait @ Some(_), cancelled, .. }), Some(connected)) =
            (&mut self.answer, self.connected.get())
        {
            *cancelled = true;
            if let Some(wait) = wait.take() {
                connected.connection.cancel_wait(&connected.remote, wait);
            }
        }
    }

    pub(super) fn answered(&mut self, observed: Result<RuntimeResponse, Failure>, cancelled: bool) {
        match observed {
            Ok(RuntimeResponse::Yielded { content_items, .. }) => {
                let asked = self.observer.as_ref().is_some_and(|observer| observer.asked);
                let content = Content { items: content_items, ..Content::default() };
                self.content.append(content);
                if asked {
                    self.answer_yield();
                } else {
                    self.ask_anew();
                }
            }
            Ok(last) => self.ended(Outcome::Response(last)),
            Err(Failure::Cancelled) if cancelled => self.ask_anew(),
            Err(Failure::Cancelled) => {
                self.refuse(CodeModeError::Host(Refusal::Cancelled.to_string()));
            }
            Err(Failure::Refused(error)) if self.handle.host_id().is_some() => {
                let error = self.named_here(error);
                self.refuse(error);
            }
            Err(failure) => self.failed(failure),
        }
        if self.missing && self.answer.is_none() {
            self.ended(Outcome::Missing);
        }
    }

    /// Answers the observer with an error; the cell goes on.
    fn refuse(&mut self, error: CodeModeError) {
        if let Some(observer) = self.observer.take() {
            // One that has gone away needs no answer.
            let _ = observer.reply.send(Err(error));
        }
    }

    pub(super) fn answer_yield(&mut self) {
        let Some(observer) = self.observer.take() else { return };
        let Content { items: content_items, charge } = std::mem::take(&mut self.content);
        let (cell_id, report) = (self.handle.id.clone(), CellReport::default());
        let response = RuntimeResponse::Yielded { cell_id, content_items, report };
        let answer = cells::Answer::Yielded(response, charge);
        // Output of one that has gone away is for the next.
        if let Err(Ok(answer)) = observer.reply.send(Ok(answer)) {
            self.content = answer.into_content();
        }
    }

    pub(super) fn terminate(&mut self, reply: cells::Reply) {
        if self.terminator.is_some() {
            // A caller that has gone away needs no answer.
            let _ = reply.send(Err(CodeModeError::AlreadyTerminating(self.handle.id.clone())));
        } else if self.outcome.is_some() || self.end() {
            self.terminator = Some(reply);
        } else {
            let _ = reply.send(Err(CodeModeError::Unsupported(
                "termination of a cell that is not yet admitted",
            )));
        }
    }

    /// Asks the host to end the cell. False if it cannot be asked yet.
    pub(super) fn end(&mut self) -> bool {
        if self.termination.is_some() || self.outcome.is_some() {
            return true;
        }
        let (Some(Connected { connection, remote }), Some(host_id)) =
            (self.connected.get(), self.handle.host_id())
        else {
            return false;
        };
        let mut answer = connection.terminate(remote, host_id.clone());
        // Sends the request; and only then do notifications end, which the host may notice.
        let sent = (&mut answer).now_or_never();
        self.callbacks.cancel_notifications();
        match sent {
            Some(outcome) => self.terminated(outcome),
            None => self.termination = Some((answer, Instant::now() + TRANSPORT)),
        }
        true
    }

    pub(super) fn terminated(&mut self, outcome: Result<WaitOutcome, Failure>) {
        match outcome {
            Ok(WaitOutcome::LiveCell(response)) => self.ended(Outcome::Response(response)),
            // It has ended meanwhile, and its result is on its way.
            Ok(WaitOutcome::MissingCell(_)) if self.answer.is_some() => self.missing = true,
            Ok(WaitOutcome::MissingCell(_)) => self.ended(Outcome::Missing),
            Err(Failure::Refused(error)) => {
                let error = self.named_here(error);
                if let Some(terminator) = self.terminator.take() {
                    let _ = terminator.send(Err(error));
                }
                self.ask_anew();
            }
            Err(failure) => self.failed(failure),
        }
    }

    /// A refusal that names the cell as the host does, with this side's name of it.
    fn named_here(&self, refusal: CodeModeError) -> CodeModeError {
        match (refusal, self.handle.host_id()) {
            (CodeModeError::Host(text), Some(host_id)) => {
                Refusal::read(&text, Some((host_id, &self.handle.id))).into()
            }
            (other, _) => other,
        }
    }
}
