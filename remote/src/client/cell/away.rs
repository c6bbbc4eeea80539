//! A cell of a fleet that no worker runs: it was parked and the fleet keeps it, or its worker was
//! lost and it is looked for. Whatever comes for the cell wakes it, on the worker that takes it:
//! the end of a nested call, a timer, a caller.
//!
//! Its nested calls run on here meanwhile, and their ends go to the worker that wakes it.

use super::super::connection::{ConnectionError, Failure, HostResponse, Program};
use super::super::session::Connected;
use super::end::{Outcome, Stage};
use super::park::{Parking, with};
use super::{CellHandle, OnItsWay, RemoteCell, at, executing};
use crate::protocol::{Base64, SeamParked, SeamWake};
use cellblock::cells::{Callbacks, LiveEntry};
use cellblock::{
    CellReport, CellState, CodeModeError, ExecuteRequest, ParkError, PendingCalls, RuntimeResponse,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often a cell is looked for whose worker was lost, while no worker can be asked.
const SEARCHES: u32 = 4;

/// How often a cell is woken again that workers refuse.
const REFUSALS: u32 = 20;

/// How long to wait before a cell is woken again; twice as long each time.
const PAUSE: Duration = Duration::from_millis(250);

/// The longest of these times.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A cell that no worker runs.
#[derive(Default)]
pub(super) struct Away {
    /// The cell, where the fleet could not keep it.
    cell: Base64,
    /// When it was parked, if that is known.
    since: Option<Instant>,
    /// When it has something to do by itself.
    due: Option<Instant>,
    /// Something has come for it.
    is_wanted: bool,
    /// Why its worker was lost: then it may be lost too.
    lost: Option<ConnectionError>,
    /// A worker was asked to wake it.
    is_waking: bool,
    /// The worker has said meanwhile that it has closed the cell.
    closed: bool,
    /// Attempts to wake it that have failed, and when the next may be made.
    failed: u32,
    again_at: Option<Instant>,
}

impl RemoteCell {
    /// Whether no worker runs the cell, and none was asked to.
    pub(super) fn is_asleep(&self) -> bool {
        self.away.as_ref().is_some_and(|away| !away.is_waking) && self.outcome.is_none()
    }

    /// Whether somebody waits for the cell.
    pub(super) fn is_wanted(&self) -> bool {
        let is_sought = self.away.as_ref().is_some_and(|away| away.lost.is_some());
        let is_asked = self.observer.is_some() || self.terminator.is_some();
        is_sought || is_asked || self.ends_when_admitted || self.parking.is_some()
    }

    /// The host asks to have the cell kept.
    pub(super) fn asked_to_leave(&mut self) {
        let can = self.keep.is_some() && self.away.is_none() && self.outcome.is_none();
        if can && self.parking.is_none() {
            self.parking = Some(Parking::for_fleet());
        }
    }

    /// The cell has left its worker: nothing of it is there any more.
    pub(super) fn go_away(&mut self, entry: &LiveEntry, parked: SeamParked) {
        if let Some(Connected { remote, .. }) = self.connected.get() {
            remote.forget(&self.handle);
        }
        let SeamParked { cell, kept, wakes_in_ms, ends } = parked;
        let (calls, handover) = self.callbacks.offer();
        self.callbacks.release(handover);
        self.pending = with(calls, &ends);
        self.forget_calls();
        let now = Instant::now();
        let due = wakes_in_ms.and_then(|ms| now.checked_add(Duration::from_millis(ms)));
        self.away = Some(Away { cell, since: Some(now), due, ..Away::default() });
        self.class = kept.or(self.class.take());
        self.renew(entry);
        self.status.set_state(CellState::Waiting);
    }

    /// A cell whose worker was lost may be found: kept by the fleet, as the worker has left it.
    pub(super) fn can_be_found(&self, failure: &Failure) -> bool {
        let Failure::Lost(reason) = failure else { return false };
        reason.is_worker_lost()
            && self.keep.is_some()
            && self.outcome.is_none()
            && self.stage == Stage::Running
            && !self.session.shutdown.is_cancelled()
    }

    /// Looks for a cell whose worker was lost. Whoever is asked for it finds it, or sees to it
    /// that no worker brings it back.
    pub(super) async fn look_for(&mut self, entry: &LiveEntry) {
        let Some(reason) = self.lost.take() else { return };
        self.keep_calls().await;
        self.answer = None;
        self.ends_when_admitted |= self.termination.take().is_some();
        self.parking = self.parking.take().and_then(Parking::begin_again);
        let away = self.away.get_or_insert_default();
        away.is_waking = false;
        away.closed = false;
        away.lost.get_or_insert(reason);
        self.renew(entry);
    }

    /// The calls run on here, and whoever goes on with the cell asks for their ends.
    pub(super) async fn keep_calls(&mut self) {
        for () in self.callbacks.hold().await {
            self.call_ended();
        }
        let (mut calls, handover) = self.callbacks.offer();
        self.callbacks.release(handover);
        calls.append(std::mem::take(&mut self.pending));
        self.pending = calls;
        self.forget_calls();
    }

    /// The next worker, or host, has a connection of its own, and nothing that came from the last
    /// one counts.
    pub(super) fn renew(&mut self, entry: &LiveEntry) {
        self.connected = Arc::default();
        self.callbacks = Callbacks::new(entry, self.session.turns.watch());
        let (handle, events) = CellHandle::new(self.handle.id.clone(), &self.callbacks);
        (self.handle, self.events) = (handle, events);
        (self.missing, self.has_ended) = (false, false);
        if let Some(observer) = &mut self.observer {
            observer.asked = false;
        }
    }

    /// Asks a worker to wake the cell.
    pub(super) fn wake_up(&mut self, entry: &LiveEntry) {
        self.renew(entry);
        let Some(away) = &mut self.away else { return };
        away.is_waking = true;
        let elapsed = away.since.map_or(Duration::ZERO, |since| since.elapsed());
        let wake = SeamWake {
            cell: away.cell.clone(),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            // The worker asks for all pending calls.
            ..SeamWake::default()
        };
        let program = Program {
            request: ExecuteRequest { yield_time_ms: Some(0), ..ExecuteRequest::default() },
            stored: self.stored.clone(),
            until_frontier: false,
            wake: Some(wake),
            keep: self.keep.clone(),
            class: self.class.clone(),
        };
        let executing = executing(&self.session, &self.connected, self.handle.clone(), program);
        self.answer = Some(OnItsWay { answer: executing, wait: None, cancelled: false });
    }

    /// An answer, which may be the first of a cell that was being woken, and whether the worker
    /// has closed the cell since; `None` when it was not woken.
    pub(super) fn woken(
        &mut self,
        answer: Result<HostResponse, Failure>,
    ) -> Option<(Result<HostResponse, Failure>, bool)> {
        let Some(away) = self.away.take_if(|away| away.is_waking) else {
            return Some((answer, false));
        };
        match answer {
            Ok(response) => Some((Ok(response), away.closed)),
            Err(failure) => {
                self.not_woken(away, failure);
                None
            }
        }
    }

    /// The worker has closed the cell, and its last response is on its way.
    pub(super) fn closed_while_waking(&mut self) {
        if let Some(away) = &mut self.away {
            away.closed = true;
        }
    }

    fn not_woken(&mut self, mut away: Away, failure: Failure) {
        (away.is_waking, away.closed) = (false, false);
        let error = match failure {
            Failure::Lost(reason) if reason.is_worker_lost() => {
                self.away = Some(away);
                self.lost = Some(reason);
                return;
            }
            Failure::Refused(CodeModeError::Park(ParkError::NotKept)) => {
                return self.gone(away.lost);
            }
            Failure::Refused(error @ CodeModeError::Park(_)) => {
                return self.cannot_wake(error);
            }
            Failure::Refused(error) => error,
            Failure::Unavailable(reason) => CodeModeError::Unavailable(reason.to_string()),
            Failure::Lost(reason) => CodeModeError::Unavailable(reason.to_string()),
            Failure::Missing | Failure::Cancelled => CodeModeError::EndedUnexpectedly,
        };
        away.failed += 1;
        let is_unavailable = matches!(error, CodeModeError::Unavailable(_));
        if self.ends_when_admitted {
            // Nobody can say what it still had to say, and nobody wakes it any more.
            let (cell_id, content_items) = (self.handle.id.clone(), Vec::new());
            let report = CellReport::default();
            let last = RuntimeResponse::Terminated { cell_id, content_items, report };
            self.ended(Outcome::Response(last));
            return self.host_closed();
        }
        if away.lost.is_some() && away.failed >= SEARCHES {
            return self.gone(away.lost);
        }
        if !is_unavailable && away.failed >= REFUSALS {
            return self.cannot_wake(error);
        }
        tracing::debug!("cell {} is not woken yet: {error}", self.handle.id);
        let pause = PAUSE.saturating_mul(1 << away.failed.min(6)).min(LONGEST_PAUSE);
        away.again_at = Some(Instant::now() + pause);
        self.away = Some(away);
    }

    fn cannot_wake(&mut self, error: CodeModeError) {
        let error = self.session.cannot_wake(&self.handle.id, error);
        self.ended(Outcome::Failed(error));
    }

    /// No worker has the cell, and the fleet does not keep it.
    pub(super) fn gone(&mut self, reason: Option<ConnectionError>) {
        let reason = reason.unwrap_or(ConnectionError::NotKept);
        let error = self.session.lost(&self.handle.id, &reason, &self.calls);
        self.ended(Outcome::Failed(error));
    }
}

/// Returns when it is time to wake a cell.
pub(super) async fn time_to_wake(
    away: &mut Option<Away>,
    calls: &mut PendingCalls,
    is_wanted: bool,
) {
    let Some(away) = away else { return std::future::pending().await };
    if !is_wanted && !away.is_wanted {
        tokio::select! {
            () = at(away.due) => {}
            () = calls.any_ended() => {}
        }
        away.is_wanted = true;
    }
    if let Some(again_at) = away.again_at {
        sleep_until(again_at).await;
    }
}
