//! Those who wait for the cell or end it, and their answers.

use super::end::{End, Stage};
use super::{Cell, Observer};
use crate::backend::{CellEvent, CellReport, CodeModeError, RuntimeResponse};
use crate::cells::{Answer, Content, Reply, Until};
use std::time::Duration;
use tokio::time::Instant;

impl Cell {
    pub(super) fn terminate(&mut self, stage: Stage, reply: Reply) -> Stage {
        if self.terminator.is_some() || matches!(stage, Stage::Closing(End::Terminated)) {
            // A caller that has gone away needs no answer.
            let _ = reply.send(Err(CodeModeError::AlreadyTerminating(self.id.clone())));
            return stage;
        }
        self.terminator = Some(reply);
        match stage {
            // The program has ended and nothing of it is cancelled any more: it wins.
            closing @ Stage::Closing(..) => closing,
            running => self.begin_terminating(running),
        }
    }

    pub(super) fn observe(&mut self, until: Until, reply: Reply) {
        if self.observer.as_ref().is_some_and(|observer| !observer.reply.is_closed()) {
            let _ = reply.send(Err(CodeModeError::AlreadyObserved(self.id.clone())));
            return;
        }
        let deadline = match until {
            // A time beyond the clock's end needs no timer: a century is the longest.
            Until::Yield(timeout) => {
                Some(Instant::now() + timeout.min(Duration::from_hours(100 * 365 * 24)))
            }
            Until::Frontier => None,
        };
        self.observer = Some(Observer { reply, deadline });
        self.frozen = false;
    }

    pub(super) fn answer_yield(&mut self) {
        let Content { items: content_items, charge } = std::mem::take(&mut self.content);
        let report = CellReport { usage: self.usage_now(), ..CellReport::default() };
        self.monitored.send(CellEvent::Yielded { usage: &report.usage });
        let cell_id = self.id.clone();
        let response = RuntimeResponse::Yielded { cell_id, content_items, report };
        self.answer(Answer::Yielded(response, charge));
    }

    pub(super) fn answer_frontier(&mut self) {
        let content = std::mem::take(&mut self.content);
        let calls = std::mem::take(&mut self.calls_since_frontier);
        self.frozen = true;
        self.answer(Answer::Pending(content, calls));
    }

    /// Answers the observer; output comes back when they have gone away.
    pub(super) fn answer(&mut self, answer: Answer) {
        let Some(observer) = self.observer.take() else { return };
        let Err(Ok(mut answer)) = observer.reply.send(Ok(answer)) else { return };
        if let Answer::Pending(_, calls) = &mut answer {
            self.calls_since_frontier.splice(0..0, calls.drain(..));
        }
        self.content.prepend(answer.into_content());
    }
}
