//! The end of a cell: how it came, and what still runs on this side.

use super::super::connection::{Failure, HostResponse};
use super::super::session::Connected;
use super::RemoteCell;
use crate::protocol::Refusal;
use cellblock::cells::{Conclusion, Content, LiveEntry};
use cellblock::{CellId, CellState, CodeModeError, RuntimeResponse};
use std::time::Duration;
use tokio::time::Instant;

/// How long the notifications of a cell that ended by itself may still take.
const NOTIFICATION_GRACE: Duration = Duration::from_secs(10);

/// How a cell has ended.
pub(super) enum Outcome {
    /// With a last response.
    Response(RuntimeResponse),
    /// Without one.
    Failed(CodeModeError),
    /// The host does not know the cell, or no longer.
    Missing,
}

/// How far the end of a cell is on this side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    /// The host has closed the cell; until then its notifications are still delivered.
    Draining(Instant),
    /// Calls have been asked to return.
    Closing,
    /// Nothing of the cell runs on this side any more.
    Closed,
}

impl RemoteCell {
    /// The cell has ended with this response. What the program stored is the caller's from
    /// here on, whether or not a caller waits.
    pub(super) fn last_response(&mut self, last: HostResponse) {
        let HostResponse { response, stored, .. } = last;
        if self.outcome.is_some() {
            return;
        }
        match self.stored.extend_json(stored) {
            Ok(()) => self.ended(Outcome::Response(response)),
            Err(error) => {
                let why = format!("code-mode host sent a stored value that is {error}");
                self.ended(Outcome::Failed(CodeModeError::Host(why)));
            }
        }
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        if self.can_be_found(&failure)
            && let Failure::Lost(reason) = failure
        {
            self.lost = Some(reason);
            return;
        }
        let outcome = match failure {
            Failure::Missing => Outcome::Missing,
            Failure::Cancelled => {
                Outcome::Failed(CodeModeError::Host(Refusal::Cancelled.to_string()))
            }
            Failure::Refused(error) => Outcome::Failed(error),
            Failure::Lost(reason) => {
                Outcome::Failed(self.session.lost(&self.handle.id, &reason, &self.calls))
            }
            Failure::Unavailable(reason) => {
                Outcome::Failed(CodeModeError::Unavailable(reason.to_string()))
            }
        };
        self.ended(outcome);
    }

    pub(super) fn ended(&mut self, outcome: Outcome) {
        if self.outcome.is_some() {
            return;
        }
        let closes_itself = !matches!(outcome, Outcome::Response(_));
        self.outcome = Some((outcome, Instant::now()));
        self.status.set_state(CellState::Ending);
        if closes_itself {
            // The host has nothing more to say of the cell.
            if let Some(Connected { remote, .. }) = self.connected.get() {
                remote.forget(&self.handle);
            }
            self.host_closed();
        }
    }

    /// The host has closed the cell: its calls are cancelled. Notifications are delivered to
    /// the end, unless the cell was ended.
    pub(super) fn host_closed(&mut self) {
        if self.stage != Stage::Running {
            return;
        }
        self.status.set_state(CellState::Ending);
        self.callbacks.cancel_calls();
        self.callbacks.drop_undeliverable();
        if self.termination.is_some() || self.terminator.is_some() {
            self.callbacks.cancel_all();
        }
        self.stage = Stage::Draining(Instant::now() + NOTIFICATION_GRACE);
    }

    pub(super) fn begin_closing(&mut self) {
        if !matches!(self.stage, Stage::Closing | Stage::Closed) {
            self.stage = Stage::Closing;
            self.callbacks.begin_closing(self.session.limits.cancel_grace);
        }
    }

    /// Answers, and leaves the list.
    pub(super) fn close(mut self, entry: LiveEntry) {
        let observer = self.observer.take().map(|observer| observer.reply);
        let replies = self.terminator.take().into_iter().chain(observer).collect();
        self.callbacks.cell_closed();
        match self.outcome.take() {
            Some((Outcome::Response(mut response), _)) => {
                let Content { items, charge } = std::mem::take(&mut self.content);
                response.prepend(items);
                rename(&mut response, &self.handle.id);
                entry.end(replies, || Conclusion { response, charge });
            }
            Some((Outcome::Failed(error), _)) => entry.fail(replies, Some(&error)),
            Some((Outcome::Missing, _)) | None => entry.fail(replies, None),
        }
    }
}

/// Gives a response this side's name of its cell.
fn rename(response: &mut RuntimeResponse, id: &CellId) {
    match response {
        RuntimeResponse::Yielded { cell_id, .. }
        | RuntimeResponse::Terminated { cell_id, .. }
        | RuntimeResponse::Result { cell_id, .. } => *cell_id = id.clone(),
    }
}
