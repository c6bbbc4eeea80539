//! What callers ask of a cell: the next answer, and its end.

use super::super::connection::{Failure, HostResponse, Wait};
use super::super::session::Connected;
use super::end::Outcome;
use super::park::Parking;
use super::{OnItsWay, RemoteCell, TRANSPORT};
use crate::protocol::Refusal;
use cellblock::cells::{self, Content, Until};
use cellblock::{CodeModeError, ParkError, RuntimeResponse};
use futures_util::FutureExt;
use std::time::Duration;
use tokio::time::Instant;

/// A caller that waits for an answer.
pub(super) struct Observer {
    pub(super) reply: cells::Reply,
    /// Whether it waits until the program is frozen or has ended.
    until_frontier: bool,
    /// When it is to be answered at the latest.
    pub(super) deadline: Instant,
    /// Whether the answer on its way was asked for by this caller, so that the host keeps
    /// the time.
    pub(super) asked: bool,
}

impl Observer {
    fn new(until: Until, reply: cells::Reply) -> Self {
        let until_frontier = until == Until::Frontier;
        Self { reply, until_frontier, deadline: deadline(until), asked: false }
    }

    /// The caller that starts the cell: the host keeps its time.
    pub(super) fn first(until: Until, reply: cells::Reply) -> Self {
        Self { asked: true, ..Self::new(until, reply) }
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
        self.observer = Some(Observer::new(until, reply));
        self.ask_anew();
    }

    /// Asks the host for the observer's answer, or for the last response of a cell that has
    /// ended, unless an answer is on its way already.
    pub(super) fn ask_anew(&mut self) {
        if self.missing
            || self.is_leaving()
            || self.answer.is_some()
            || self.termination.is_some()
            || self.outcome.is_some()
        {
            return;
        }
        let kept = !self.content.items.is_empty() || self.frontier.is_some();
        if self.observer.is_some() && kept {
            self.answer_with_content();
            return;
        }
        let (Some(Connected { connection, remote }), Some(host_id)) =
            (self.connected.get(), self.handle.host_id())
        else {
            return;
        };
        let wait = match &mut self.observer {
            Some(observer) => {
                observer.asked = true;
                let left = observer.deadline.saturating_duration_since(Instant::now());
                let ms = u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
                if observer.until_frontier { Wait::Frontier } else { Wait::Yield(ms) }
            }
            None if self.has_ended => Wait::Yield(0),
            None => return,
        };
        let waiting = connection.wait(remote, host_id.clone(), wait);
        self.answer =
            Some(OnItsWay { answer: waiting.answer, wait: Some(waiting.id), cancelled: false });
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

    /// The answer `to` an execution or a wait has come.
    pub(super) fn answered(&mut self, observed: Result<HostResponse, Failure>, to: &OnItsWay) {
        let is_execution = to.wait.is_none() && !to.cancelled;
        let Some((observed, is_closed)) = self.woken(observed) else { return };
        match observed {
            Ok(HostResponse {
                response: RuntimeResponse::Yielded { content_items, report, .. },
                pending,
                ..
            }) => {
                let is_nothing = content_items.is_empty() && pending.is_none();
                let asked = match &mut self.observer {
                    // Its worker is about to end, and not its wait.
                    Some(observer)
                        if is_nothing
                            && self.parking.as_ref().is_some_and(Parking::is_for_fleet) =>
                    {
                        observer.asked = false;
                        false
                    }
                    observer => observer.as_ref().is_some_and(|observer| observer.asked),
                };
                self.in_store.resumed();
                self.in_store.received += content_items.len() as u64;
                self.content.append(Content { items: content_items, ..Content::default() });
                self.report = report;
                if let Some(calls) = pending {
                    self.frontier.get_or_insert_default().extend(calls);
                }
                if asked {
                    self.answer_with_content();
                } else {
                    self.ask_anew();
                }
            }
            Ok(last) => self.last_response(last),
            // It was parked, and the answer to that is on its way.
            Err(Failure::Missing) if self.is_leaving() => {}
            // The termination has taken its last response.
            Err(Failure::Missing) if self.termination.is_some() => self.missing = true,
            Err(Failure::Cancelled) if to.cancelled => self.ask_anew(),
            Err(Failure::Cancelled) => {
                self.refuse(CodeModeError::Host(Refusal::Cancelled.to_string()));
            }
            Err(Failure::Refused(error)) if !is_execution => {
                let error = self.named_here(error);
                self.refuse(error);
            }
            // The cell was not kept: it is lost with the host that it ran on.
            Err(Failure::Refused(CodeModeError::Park(ParkError::NotKept)))
                if self.in_store.is_resuming() =>
            {
                let lost = self.in_store.take_lost();
                self.failed(lost.unwrap_or(Failure::Missing));
            }
            Err(Failure::Lost(_) | Failure::Unavailable(_))
                if self.in_store.is_resuming()
                    && self.handle.host_id().is_none()
                    && self.go_on() => {}
            // Its host is lost, which the cell is going to receive.
            Err(Failure::Lost(_)) if self.handle.host_id().is_some() && self.can_resume() => {}
            Err(failure) => self.failed(failure),
        }
        if is_closed {
            self.host_closed();
        }
        if self.ends_when_admitted && self.handle.host_id().is_some() {
            self.end();
        }
        self.end_if_missing();
    }

    /// The host does not know the cell, and no answer is on its way any more.
    fn end_if_missing(&mut self) {
        if self.missing && self.answer.is_none() && self.termination.is_none() {
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

    /// Answers the observer with what has come so far.
    pub(super) fn answer_with_content(&mut self) {
        let Some(observer) = self.observer.take() else { return };
        let content = std::mem::take(&mut self.content);
        let answer = match self.frontier.take() {
            Some(calls) if observer.until_frontier => cells::Answer::Pending(content, calls),
            _ => {
                let Content { items: content_items, charge } = content;
                let (cell_id, report) = (self.handle.id.clone(), std::mem::take(&mut self.report));
                let response = RuntimeResponse::Yielded { cell_id, content_items, report };
                cells::Answer::Yielded(response, charge)
            }
        };
        // What one that has gone away did not receive is for the next.
        if let Err(Ok(mut answer)) = observer.reply.send(Ok(answer)) {
            if let cells::Answer::Pending(_, calls) = &mut answer {
                self.frontier = Some(std::mem::take(calls));
            }
            self.content = answer.into_content();
        }
    }

    pub(super) fn terminate(&mut self, reply: cells::Reply) {
        if self.terminator.is_some() {
            // A caller that has gone away needs no answer.
            let _ = reply.send(Err(CodeModeError::AlreadyTerminating(self.handle.id.clone())));
        } else {
            self.terminator = Some(reply);
            self.end();
        }
    }

    /// Asks the host to end the cell, as soon as the host has admitted it.
    pub(super) fn end(&mut self) {
        if self.termination.is_some() || self.outcome.is_some() {
            return;
        }
        if self.away.is_some() {
            // Its worker knows it once it is awake.
            self.ends_when_admitted = true;
            return;
        }
        let (Some(Connected { connection, remote }), Some(host_id)) =
            (self.connected.get(), self.handle.host_id())
        else {
            self.ends_when_admitted = true;
            return;
        };
        self.ends_when_admitted = false;
        let mut answer = connection.terminate(remote, host_id.clone());
        // Sends the request; and only then do notifications end, which the host may notice.
        let sent = (&mut answer).now_or_never();
        self.callbacks.cancel_notifications();
        match sent {
            Some(outcome) => self.terminated(outcome),
            None => self.termination = Some((answer, Instant::now() + TRANSPORT)),
        }
    }

    pub(super) fn terminated(&mut self, outcome: Result<HostResponse, Failure>) {
        match outcome {
            Ok(response) => self.last_response(response),
            // It has ended meanwhile, and its result is on its way.
            Err(Failure::Missing) if self.answer.is_some() => self.missing = true,
            Err(Failure::Refused(error)) => {
                let error = self.named_here(error);
                if let Some(terminator) = self.terminator.take() {
                    let _ = terminator.send(Err(error));
                }
                self.ask_anew();
            }
            Err(failure) => self.failed(failure),
        }
        self.end_if_missing();
    }

    /// A refusal that names the cell as the host does, with this side's name of it.
    pub(super) fn named_here(&self, refusal: CodeModeError) -> CodeModeError {
        match (refusal, self.handle.host_id()) {
            (CodeModeError::Host(text), Some(host_id)) => {
                Refusal::read(&text, Some((host_id, &self.handle.id))).into()
            }
            (other, _) => other,
        }
    }
}
