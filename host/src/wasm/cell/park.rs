//! A cell on its way out of the session as bytes, and one that comes back.

use super::super::engine::Engine;
use super::super::park::{Head, Image, Packed, ParkedEvent, Parking, PendingCall, nanos};
use super::super::recording::End as RecordedEnd;
use super::super::sandbox::Timer;
use super::Cell;
use super::busy::BusyTime;
use super::calls::CallEnd;
use super::guest::{Body, Guest};
use super::sleep::Kept;
use crate::backend::{
    CellEvent, CellId, CodeModeError, ContentItem, KeptName, ParkError, Parked, ParkedCell,
    ToolInput,
};
use crate::cells::{Account, Charge, Offer, ParkReply, PendingCalls};
use crate::tools::{ToolDefinition, ToolName};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// How long a caller may take to accept a parked cell: it does so whenever it is polled.
const PATIENCE: Duration = Duration::from_secs(5);

/// Images above this are sealed where they hold nobody up.
const LARGE: usize = 256 << 10;

/// A parked cell that is to go on.
pub(in super::super) struct Arrival {
    pub(in super::super) head: Head,
    pub(in super::super) image: Image,
    /// The pending calls that the caller has.
    pub(in super::super) calls: PendingCalls,
    /// `Math.random` goes on from here, for a fork.
    pub(in super::super) seed: Option<u64>,
    /// What the session's store has the cell as, which sleeps on then.
    pub(in super::super) kept: Option<KeptName>,
    /// What the cell is charged for output that nobody has received, for events, and for the
    /// inputs of pending calls.
    pub(in super::super) charges: Charges,
}

/// What a woken cell is charged for from its start.
pub(in super::super) struct Charges {
    content: Charge,
    events: Vec<Charge>,
    inputs: Vec<Charge>,
}

impl Charges {
    /// Charges the account for what the head holds; `None` when it does not fit.
    pub(in super::super) fn of(head: &Head, account: &Arc<Account>) -> Option<Self> {
        let bytes = head.content.iter().map(ContentItem::escaped_len).sum();
        let event = |event: &ParkedEvent| match event {
            ParkedEvent::Succeeded(_, text) | ParkedEvent::Failed(_, text) => text.len(),
            ParkedEvent::Timer(_) => 0,
        };
        let input = |call: &PendingCall| call.input.as_ref().map_or(0, |input| input.get().len());
        Some(Self {
            content: account.charge(bytes)?,
            events: head
                .events
                .iter()
                .map(|each| account.charge(event(each)))
                .collect::<Option<_>>()?,
            inputs: head
                .pending
                .iter()
                .map(|each| account.charge(input(each)))
                .collect::<Option<_>>()?,
        })
    }
}

/// The tools of a woken cell that it may call; all of them without a list.
pub(in super::super) fn allowed(tools: Option<&[ToolDefinition]>) -> Option<HashSet<ToolName>> {
    tools.map(|tools| tools.iter().map(|tool| tool.tool_name.clone()).collect())
}

impl Cell {
    /// A caller parks the cell, as soon as that can be done.
    pub(super) fn ask_to_park(&mut self, reply: ParkReply) {
        if self.parker.as_ref().is_some_and(|parker| !parker.is_closed()) {
            let error = ParkError::AlreadyParking(self.id.clone());
            // One that has gone away needs no answer.
            let _ = reply.send(Err(error.into()));
            return;
        }
        self.parker = Some(reply);
    }

    /// Parks the cell, if a caller waits for that and its program does: it sleeps first. True
    /// when the cell is the caller's from here on.
    pub(super) async fn park(&mut self) -> bool {
        let Guest::Resting { body, .. } = &self.guest else { return false };
        let is_asleep = matches!(body, Body::Asleep(_));
        let can = (self.events.is_empty() || self.frozen)
            && self.asked_to_end.is_none()
            && !self.callbacks.is_notifying();
        if !can || self.parker.as_ref().is_none_or(ParkReply::is_closed) {
            return false;
        }
        if !is_asleep {
            self.fall_asleep();
            return false;
        }
        self.busy.suspend();
        let is_parked = self.leave().await;
        self.busy.resume();
        is_parked
    }

    /// Offers the cell to its caller. True when it was accepted.
    async fn leave(&mut self) -> bool {
        let Some(reply) = self.parker.take() else { return false };
        if let Err(error) = self.step_out_of_store().await {
            let _ = reply.send(Err(CodeModeError::Host(error.to_string())));
            return false;
        }
        if self.observer.is_some() {
            self.answer_yield();
        }
        for end in self.callbacks.hold().await {
            self.call_ended(end);
        }
        self.take_back_unreceived();
        let is_parked = match self.seal().await {
            Ok(cell) => {
                let (calls, handover) = self.callbacks.offer();
                let wakes_in = Some(self.wakes_in());
                let parked = Parked { cell, calls, content_items: Vec::new(), wakes_in };
                let is_accepted = self.accepted(reply, parked).await;
                if is_accepted {
                    self.callbacks.release(handover);
                }
                is_accepted
            }
            Err(error) => {
                let _ = reply.send(Err(error.into()));
                false
            }
        };
        if !is_parked {
            self.callbacks.deliver();
            return false;
        }
        self.guest = Guest::Gone;
        if let Some(entry) = self.entry.take() {
            entry.park();
        }
        self.outbox.tape.end(&self.id, RecordedEnd::Parked);
        self.monitored.send(CellEvent::Parked);
        self.callbacks.cell_closed();
        true
    }

    /// What was answered and not received goes along.
    pub(super) fn take_back_unreceived(&mut self) {
        if let Some(entry) = &self.entry {
            let unreceived = entry.unreceived();
            self.content.prepend(unreceived);
        }
    }

    /// Whether the caller has taken the cell.
    async fn accepted(&mut self, reply: ParkReply, parked: Parked) -> bool {
        let (accept, accepted) = oneshot::channel();
        if reply.send(Ok(Offer { parked, accept })).is_err() {
            return false;
        }
        tokio::select! {
            biased;
            accepted = timeout(PATIENCE, accepted) => matches!(accepted, Ok(Ok(()))),
            () = self.shutdown.cancelled() => false,
        }
    }

    /// How long until the cell has something to do by itself.
    fn wakes_in(&self) -> Duration {
        let timer = self.guest.timer().map(|(_, at)| at);
        let at = timer.map_or(self.ends_at, |at| at.min(self.ends_at));
        at.saturating_duration_since(Instant::now())
    }

    async fn seal(&mut self) -> Result<ParkedCell, ParkError> {
        let Guest::Resting { body: Body::Asleep(packed), timer } = &self.guest else {
            // It was looked at before.
            return Err(ParkError::AlreadyParking(self.id.clone()));
        };
        let head = self.head(timer.map(|armed| armed.timer));
        let (id, packed) = (self.id.clone(), packed.clone());
        let (parking, engine) = (self.session.parking(), self.session.engine.clone());
        seal(&parking, &engine, id, head, packed).await
    }

    /// What is known of the cell here.
    pub(super) fn head(&self, timer: Option<Timer>) -> Head {
        let plain = |tool: &ToolDefinition| ToolDefinition {
            input_schema: None,
            output_schema: None,
            ..tool.clone()
        };
        let text = |input: ToolInput| -> Option<Box<RawValue>> {
            // It was made from text that is valid.
            RawValue::from_string(input.into_json().ok()?).ok()
        };
        Head {
            limits: self.limits.with_held_bytes(),
            spent: self.outbox.spent(),
            fuel: self.outbox.fuel_of_steps(),
            running_time: nanos(self.busy.total()).min(nanos(self.limits.running_time)),
            time_left: nanos(self.ends_at.saturating_duration_since(Instant::now())),
            monotonic: self.clock.monotonic(),
            wall: self.clock.wall(),
            timer: timer.map(|timer| (timer.id, timer.due)),
            tool_call_id: self.request.tool_call_id.clone(),
            value_key: self.value_key.clone(),
            tools: self.request.enabled_tools.iter().map(plain).collect(),
            pending: self
                .pending
                .iter()
                .map(|(id, (tool, input))| PendingCall {
                    id: *id,
                    tool: *tool,
                    input: input.clone().and_then(text),
                })
                .collect(),
            events: self.events.parked(),
            content: self.content.items.clone(),
            received: self.items.saturating_sub(self.content.items.len() as u64),
            recent_calls: self.recent_calls.parked(),
            calls_since_frontier: self.calls_since_frontier.clone(),
            stored: self.seen.iter().map(|(key, json)| (key.clone(), Arc::clone(json))).collect(),
        }
    }

    /// Goes on with what was under way when the cell was parked.
    pub(super) fn take_up(&mut self, arrival: Arrival) {
        let Arrival { head, image, mut calls, seed, charges, kept } = arrival;
        self.outbox.note_fuel(head.fuel);
        let timer = head.timer.map(|(id, due)| self.arm(Timer { id, due }));
        self.items = head.content.len() as u64;
        match kept {
            None => self.rouse(Kept::Plain(image), seed, timer),
            Some(name) => {
                self.items = self.items.saturating_add(head.received);
                self.sleep_on(name, image, timer);
            }
        }
        self.busy = BusyTime::start(Duration::from_nanos(head.running_time));
        self.ends_at = Instant::now() + Duration::from_nanos(head.time_left);
        self.calls_since_frontier = head.calls_since_frontier;
        self.recent_calls.take_up(head.recent_calls);
        self.content.items = head.content;
        self.content.charge = charges.content;
        for (event, charge) in head.events.into_iter().zip(charges.events) {
            self.events.take_up(event, charge);
        }
        for (call, charge) in head.pending.into_iter().zip(charges.inputs) {
            let PendingCall { id, tool, input } = call;
            self.outbox.status.call_started();
            let input = input.map(|input| ToolInput::from_json(Box::<str>::from(input)));
            match input.transpose() {
                Ok(input) => self.nested_call(id, tool, input, charge, Some(&mut calls)),
                // It was checked when the call was made.
                Err(error) => {
                    self.outbox.status.call_ended();
                    self.events.call_ended(CallEnd::failed(id, &error.to_string()));
                }
            }
        }
    }
}

/// Seals a cell: where that holds nobody up, if it is large.
pub(super) async fn seal(
    parking: &Parking,
    engine: &Engine,
    id: CellId,
    head: Head,
    packed: Packed,
) -> Result<ParkedCell, ParkError> {
    let (parking, engine, is_large) = (parking.clone(), engine.clone(), packed.bytes() > LARGE);
    let seal = move || parking.seal(&id, &head, &packed, engine.dictionary().hash());
    if !is_large {
        return seal();
    }
    match tokio::task::spawn_blocking(seal).await {
        Ok(sealed) => sealed,
        // The runtime is shutting down, and the cell with it.
        Err(_) => std::future::pending().await,
    }
}
