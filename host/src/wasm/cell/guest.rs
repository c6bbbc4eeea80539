//! The guest of a cell: what it is doing, and its next step.

use super::super::bindings::cellblock::code_mode::types;
use super::super::engine::Engine;
use super::super::park::{Packed, ParkedEvent};
use super::super::recording::guest_limits;
use super::super::sandbox::{Finished, Sandbox, Step, Timer};
use super::super::slots::Slot;
use super::busy::slice;
use super::calls::CallEnd;
use super::program::Program;
use super::sleep::{Kept, Moved, Moving, Place};
use super::{Cell, Wake};
use crate::backend::ProgramValue;
use crate::cells::Charge;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// A sandbox at work: gives itself back with the step it reached.
pub(super) type Working = Pin<Box<dyn Future<Output = (Option<Sandbox>, Step)> + Send>>;

/// Bytes of a program's value for each token of the output's budget, and the budget of a
/// request that names none: as the contract counts output.
const BYTES_PER_TOKEN: usize = 4;
const DEFAULT_OUTPUT_TOKENS: usize = 10_000;

/// What the guest is doing.
pub(super) enum Guest {
    /// A step is being made.
    Running(Working),
    /// The program waits for events.
    Resting {
        body: Body,
        /// The timer that is due next.
        timer: Option<Armed>,
    },
    /// It is on its way to a sandbox, or out of one.
    Moving(Moving),
    /// The program has ended, or was stopped. The sandbox is gone.
    Gone,
}

/// Where a guest at rest is.
pub(super) enum Body {
    /// In its sandbox.
    Awake {
        sandbox: Box<Sandbox>,
        /// When it gives that up.
        sleeps_at: Option<Instant>,
    },
    /// In few bytes.
    Asleep(Packed),
}

/// A timer of the guest's.
#[derive(Clone, Copy)]
pub(super) struct Armed {
    pub(super) timer: Timer,
    /// When it is due, on the runtime's clock.
    pub(super) at: Instant,
}

impl Guest {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    pub(super) fn is_moving(&self) -> bool {
        matches!(self, Self::Moving(_))
    }

    /// When it gives its sandbox up, if it is at rest in one.
    pub(super) fn sleeps_at(&self) -> Option<Instant> {
        match self {
            Self::Resting { body: Body::Awake { sleeps_at, .. }, .. } => *sleeps_at,
            _ => None,
        }
    }

    /// When the next timer is due, of a program that waits.
    pub(super) fn timer(&self) -> Option<(u64, Instant)> {
        match self {
            Self::Resting { timer, .. } => timer.map(|armed| (armed.timer.id, armed.at)),
            _ => None,
        }
    }

    /// Lets the guest run for one slice, or waits until it has come to where it is on its way to.
    pub(super) async fn go_on(&mut self) -> Wake {
        match self {
            Self::Running(working) => Wake::Slice(slice(working).await),
            Self::Moving(moving) => Wake::Moved(moving.await),
            _ => std::future::pending().await,
        }
    }
}

/// Events for the guest, with what the cell is charged for them.
#[derive(Default)]
pub(super) struct Events {
    batch: Vec<types::Event>,
    charge: Charge,
}

impl Events {
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(super) fn call_ended(&mut self, end: CallEnd) {
        let CallEnd { id, result, charge } = end;
        self.batch.push(match result {
            Ok(text) => types::Event::CallSucceeded(types::CallEnd { id, text }),
            Err(text) => types::Event::CallFailed(types::CallEnd { id, text }),
        });
        self.charge.add(charge);
    }

    pub(super) fn timer_fired(&mut self, id: u64) {
        self.batch.push(types::Event::TimerFired(id));
    }

    /// The events, for a cell that is parked.
    pub(super) fn parked(&self) -> Vec<ParkedEvent> {
        self.batch.iter().map(ParkedEvent::from).collect()
    }

    /// Takes up an event of a cell that was parked.
    pub(super) fn take_up(&mut self, event: ParkedEvent, charge: Charge) {
        match event {
            ParkedEvent::Succeeded(id, text) => {
                self.call_ended(CallEnd { id, result: Ok(text), charge });
            }
            ParkedEvent::Failed(id, text) => {
                self.call_ended(CallEnd { id, result: Err(text), charge });
            }
            ParkedEvent::Timer(id) => self.timer_fired(id),
        }
    }
}

impl Cell {
    /// Begins the first step: takes a sandbox, and runs the program.
    pub(super) fn begin(&mut self, tool_names: Vec<String>, source_charge: Charge) {
        let imports = self.imports();
        let Self { request, session, limits, value_key, .. } = self;
        let language = request.language;
        let request = types::ExecuteRequest {
            source: std::mem::take(&mut request.source),
            shifts: Vec::new(),
            tools: tool_names,
            random_seed: session.random.seed(),
            limits: guest_limits(limits),
            locale: request.regional.locale.take().map(String::from),
            time_zone: request.regional.time_zone.take().map(String::from),
            value: request.wants_value.then(|| {
                let tokens = request.max_output_tokens.unwrap_or(DEFAULT_OUTPUT_TOKENS);
                let bytes = tokens.saturating_mul(BYTES_PER_TOKEN).min(ProgramValue::MAX_BYTES);
                types::ValueRequest { max_bytes: bytes as u64, key: value_key.clone() }
            }),
        };
        let typescript_bytes = limits.typescript_bytes;
        let engine = session.engine.clone();
        let work = move |engine: Engine, slot: Slot| -> Working {
            Box::pin(async move {
                match Sandbox::new(&engine, imports, slot).await {
                    Ok(mut sandbox) => {
                        let program = Program { language, request, typescript_bytes };
                        let step = program.start(&engine, &mut sandbox).await;
                        drop(source_charge);
                        (Some(sandbox), step)
                    }
                    Err(error) => {
                        tracing::error!("no sandbox for a new cell: {error:#}");
                        let error_text =
                            format!("failed to initialize code mode runtime: {error:#}");
                        let stored = Vec::new();
                        (None, Step::Finished(Finished::Failed { error_text, stored, hint: None }))
                    }
                }
            })
        };
        self.guest = match engine.slots().try_take() {
            Some(slot) => Guest::Running(work(engine, slot)),
            None => Guest::Moving(Box::pin(async move {
                let slot = engine.slots().take().await.map_err(Finished::stopped_at);
                let to = slot.map(|slot| Place::Begun(work(engine, slot)));
                Moved { to, took: Duration::ZERO }
            })),
        };
    }

    /// Delivers events to a guest at rest, or answers that it waits.
    pub(super) fn resume(&mut self) {
        if self.frozen || !matches!(self.guest, Guest::Resting { .. }) {
            return;
        }
        if self.events.is_empty() {
            if self.observer.as_ref().is_some_and(|observer| observer.deadline.is_none()) {
                self.answer_frontier();
            }
            return;
        }
        match std::mem::replace(&mut self.guest, Guest::Gone) {
            Guest::Resting { body: Body::Awake { mut sandbox, .. }, .. } => {
                let Events { batch, charge } = std::mem::take(&mut self.events);
                self.monitored.resumed();
                self.guest = Guest::Running(Box::pin(async move {
                    let step = sandbox.wait(batch).await;
                    drop(charge);
                    (Some(*sandbox), step)
                }));
            }
            // It receives the events once it is awake.
            Guest::Resting { body: Body::Asleep(packed), timer } => {
                self.rouse(Kept::Packed(packed), None, timer);
            }
            guest => self.guest = guest,
        }
    }

    /// When a timer of the guest's is due, on the runtime's clock.
    pub(super) fn arm(&self, timer: Timer) -> Armed {
        let left = Duration::from_nanos(timer.due.saturating_sub(self.clock.monotonic()));
        Armed { timer, at: Instant::now() + left }
    }

    /// Whether nothing is left that could wake a program that waits. Notes the place of
    /// the `await` once.
    pub(super) async fn is_stuck(&mut self) -> bool {
        let Guest::Resting { body, timer: None } = &mut self.guest else { return false };
        if !self.events.is_empty() || !self.callbacks.is_idle() {
            return false;
        }
        if self.outbox.status.is_stuck() {
            return true;
        }
        match body {
            // Runs a few instructions, and no JavaScript.
            Body::Awake { sandbox, .. } => {
                self.outbox.status.note_stuck_at(sandbox.awaiting().await);
                true
            }
            // It is asked once it is awake.
            Body::Asleep(packed) => {
                let packed = packed.clone();
                self.rouse(Kept::Packed(packed), None, None);
                false
            }
        }
    }
}
