//! A cell that leaves its host as bytes.
//!
//! From the moment at which the host is asked, the ends of nested calls are held on this side,
//! so that each is known to have reached the cell or not: what was sent before comes back with
//! the bytes if the cell has not received it.

use super::super::connection::{Answer, Failure, HostResponse, Program, Wait};
use super::super::session::Connected;
use super::{CellHandle, OnItsWay, RemoteCell, executing};
use crate::protocol::{Base64, SeamParked, SeamWake};
use cellblock::cells::{Callbacks, LiveEntry, Offer, ParkReply};
use cellblock::{
    CodeModeError, ExecuteRequest, ParkError, Parked, ParkedCell, PendingCalls, ToolResult,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a caller may take to accept a parked cell: it does so whenever it is polled.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends of calls, each result as JSON text.
type Ends = BTreeMap<String, Result<String, String>>;

/// A caller that parks the cell, and how far that is.
pub(super) struct Parking {
    /// `None` where its fleet is to keep the cell.
    reply: Option<ParkReply>,
    stage: Stage,
    /// The host has said meanwhile that it has closed the cell.
    closed: bool,
}

enum Stage {
    /// The host has not admitted the cell yet, or another answer is on its way.
    Waiting,
    /// The host was asked.
    Asked(Answer<HostResponse>),
    /// The host has parked the cell.
    Parked(SeamParked),
}

impl Parking {
    /// Its fleet is to keep the cell.
    pub(super) fn for_fleet() -> Self {
        Self { reply: None, stage: Stage::Waiting, closed: false }
    }

    pub(super) fn is_for_fleet(&self) -> bool {
        self.reply.is_none()
    }

    /// A caller is to receive the cell, if it is still there.
    fn for_caller(reply: ParkReply) -> Option<Self> {
        let reply = (!reply.is_closed()).then_some(reply)?;
        Some(Self { reply: Some(reply), stage: Stage::Waiting, closed: false })
    }

    /// What becomes of it when the host is gone.
    pub(super) fn begin_again(self) -> Option<Self> {
        self.reply.and_then(Self::for_caller)
    }

    /// Whether a caller waits for it.
    fn has_caller(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    fn answer(self, error: CodeModeError) {
        if let Some(reply) = self.reply {
            // A caller that has gone away needs no answer.
            let _ = reply.send(Err(error));
        }
    }
}

impl RemoteCell {
    /// A caller parks the cell.
    pub(super) async fn ask_to_park(&mut self, reply: ParkReply) {
        if self.parking.as_ref().is_some_and(Parking::has_caller) {
            let error = ParkError::AlreadyParking(self.handle.id.clone());
            // One that has gone away needs no answer.
            let _ = reply.send(Err(error.into()));
            return;
        }
        if let Some(parking) = &mut self.parking {
            // The caller that asked first has gone away: what comes is for this one.
            parking.reply = Some(reply);
        } else {
            self.parking = Parking::for_caller(reply);
        }
        self.begin_parking().await;
    }

    /// Whether the host was asked to park the cell, or has parked it.
    pub(super) fn is_leaving(&self) -> bool {
        self.parking.as_ref().is_some_and(|parking| !matches!(parking.stage, Stage::Waiting))
    }

    /// The host has closed the cell while it is being parked: it counts if it was not.
    pub(super) fn closed_meanwhile(&mut self) {
        if let Some(parking) = &mut self.parking {
            parking.closed = true;
        }
    }

    /// Asks the host, once it has the cell.
    pub(super) async fn begin_parking(&mut self) {
        let is_waiting = self.parking.as_ref().is_some_and(|parking| {
            let is_waiting = matches!(parking.stage, Stage::Waiting);
            is_waiting && (parking.is_for_fleet() || parking.has_caller())
        });
        let can = self.outcome.is_none()
            && self.away.is_none()
            && self.termination.is_none()
            && !self.missing;
        if !is_waiting || !can {
            return;
        }
        let (Some(Connected { connection, remote }), Some(host_id)) =
            (self.connected.get(), self.handle.host_id())
        else {
            return;
        };
        let (connection, remote, host_id) =
            (Arc::clone(connection), Arc::clone(remote), host_id.clone());
        if !connection.parks(&remote) {
            if let Some(parking) = self.parking.take() {
                parking.answer(CodeModeError::Unsupported("parked cells"));
            }
            return;
        }
        for () in self.callbacks.hold().await {
            self.call_ended();
        }
        let is_for_fleet = self.parking.as_ref().is_some_and(Parking::is_for_fleet);
        let wait = if is_for_fleet { Wait::Keep } else { Wait::Park };
        let asked = connection.wait(&remote, host_id, wait).answer;
        if let Some(parking) = &mut self.parking {
            parking.stage = Stage::Asked(asked);
        }
    }

    /// The host has answered.
    pub(super) fn parked(&mut self, answer: Result<HostResponse, Failure>) {
        let Some(mut parking) = self.parking.take() else { return };
        let error = match answer {
            Ok(HostResponse { response, parked: Some(parked), .. }) => {
                self.content.items.extend(response.into_content());
                parking.stage = Stage::Parked(parked);
                self.parking = Some(parking);
                return;
            }
            // The last response was on its way already.
            Ok(HostResponse { .. }) | Err(Failure::Missing | Failure::Cancelled) => {
                CodeModeError::Unsupported("parked cells")
            }
            Err(Failure::Refused(error @ CodeModeError::Park(ParkError::NotKept))) => {
                parking.answer(error);
                return self.gone(None);
            }
            Err(Failure::Refused(error)) => self.named_here(error),
            // Its calls are held: their ends go to whoever has the cell then.
            Err(failure) if self.can_be_found(&failure) => {
                self.parking = Some(parking);
                return self.failed(failure);
            }
            Err(Failure::Lost(reason)) => CodeModeError::Host(reason.to_string()),
            Err(Failure::Unavailable(reason)) => CodeModeError::Unavailable(reason.to_string()),
        };
        self.callbacks.deliver();
        let closed = parking.closed;
        parking.answer(error);
        if closed {
            self.host_closed();
        }
        self.ask_anew();
    }

    /// Gives a parked cell to its caller. True when it has left.
    pub(super) async fn leave(&mut self, entry: &LiveEntry) -> bool {
        self.begin_parking().await;
        // An observer's answer comes before, and so do notifications.
        let can = self.answer.is_none() && self.outcome.is_none() && !self.callbacks.is_notifying();
        if !can || !matches!(&self.parking, Some(Parking { stage: Stage::Parked(_), .. })) {
            return false;
        }
        let Some(Parking { reply, stage: Stage::Parked(parked), .. }) = self.parking.take() else {
            return false;
        };
        let reply = match reply {
            Some(reply) if parked.kept.is_none() => reply,
            reply => {
                self.go_away(entry, parked);
                // A caller that has asked meanwhile receives the cell once it is awake.
                self.parking = reply.and_then(Parking::for_caller);
                return false;
            }
        };
        if let Some(Connected { remote, .. }) = self.connected.get() {
            remote.forget(&self.handle);
        }
        let SeamParked { cell, ends, wakes_in_ms, .. } = parked;
        let cell = match ParkedCell::from_bytes(cell.0) {
            Ok(cell) => cell,
            Err(error) => {
                let why = format!("code-mode host sent a parked cell that cannot be read: {error}");
                self.failed(Failure::Refused(CodeModeError::Host(why)));
                return false;
            }
        };
        self.content.prepend(entry.unreceived());
        let (calls, handover) = self.callbacks.offer();
        let content_items = self.content.items.clone();
        let wakes_in = wakes_in_ms.map(Duration::from_millis);
        let calls = with(calls, &ends);
        let parked = Parked { cell: cell.clone(), calls, content_items, wakes_in };
        let (accept, accepted) = oneshot::channel();
        let is_accepted = match reply.send(Ok(Offer { parked, accept })) {
            Ok(()) => matches!(timeout(PATIENCE, accepted).await, Ok(Ok(()))),
            Err(_) => false,
        };
        if is_accepted {
            self.callbacks.release(handover);
            self.callbacks.cell_closed();
            return true;
        }
        // The caller has gone away, and the host has the cell no more.
        let (calls, handover) = self.callbacks.offer();
        self.callbacks.release(handover);
        self.pending = with(calls, &ends);
        self.wake_again(entry, &cell);
        false
    }

    /// Has the host wake the cell that nobody took: it goes on under its id on this side.
    fn wake_again(&mut self, entry: &LiveEntry, cell: &ParkedCell) {
        self.callbacks = Callbacks::new(entry, self.session.turns.watch());
        let (handle, events) = CellHandle::new(self.handle.id.clone(), &self.callbacks);
        (self.handle, self.events) = (handle.clone(), events);
        // What the host has said of the cell that was parked.
        self.has_ended = false;
        let wake = SeamWake {
            cell: Base64(cell.as_bytes().into()),
            pending: self.pending.iter().map(|(id, _)| id.to_owned()).collect(),
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
        let executing = executing(&self.session, &self.connected, handle, program);
        self.answer = Some(OnItsWay { answer: executing, wait: None, cancelled: false });
    }
}

/// Adds ends that had reached the host, and not the cell.
pub(super) fn with(mut calls: PendingCalls, ends: &Ends) -> PendingCalls {
    for (id, end) in ends {
        let end = end.clone().and_then(|json| {
            ToolResult::from_json(json).map_err(|error| format!("tool result is {error}"))
        });
        calls.insert(id.as_str(), end);
    }
    calls
}

/// The host's answer to a caller that parks the cell.
pub(super) async fn parked(parking: &mut Option<Parking>) -> Result<HostResponse, Failure> {
    match parking {
        Some(Parking { stage: Stage::Asked(answer), .. }) => answer.as_mut().await,
        _ => std::future::pending().await,
    }
}
