//! The guest of a cell: what it is doing, and its next step.

use super::super::bindings::cellblock::code_mode::types;
use super::super::park::ParkedEvent;
use super::super::recording::guest_limits;
use super::super::sandbox::{Finished, Sandbox, Step, Timer};
use super::busy::slice;
use super::calls::CallEnd;
use super::program::Program;
use super::{Cell, Start};
use crate::backend::ProgramValue;
use crate::cells::Charge;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// A sandbox at work: gives itself back with the step it reached.
type Working = Pin<Box<dyn Future<Output = (Option<Sandbox>, Step)> + Send>>;

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
        sandbox: Box<Sandbox>,
        /// The timer that is due next.
        timer: Option<Armed>,
    },
    /// The program has ended, or was stopped. The sandbox is gone.
    Gone,
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

    /// When the next timer is due, of a program that waits.
    pub(super) fn timer(&self) -> Option<(u64, Instant)> {
        match self {
            Self::Resting { timer, .. } => timer.map(|armed| (armed.timer.id, armed.at)),
            _ => None,
        }
    }

    /// Lets the guest run for one slice: `Some` when its step has ended.
    pub(super) async fn slice(&mut self) -> Option<(Option<Sandbox>, Step)> {
        match self {
            Self::Running(working) => slice(working).await,
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
    /// The first step: instantiate, and run the program.
    pub(super) fn first_step(
        start: &mut Start,
        tool_names: Vec<String>,
        source_charge: Charge,
    ) -> Guest {
        let imports = start.imports();
        let Start { request, session, limits, value_key, .. } = start;
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
        Guest::Running(Box::pin(async move {
            match Sandbox::new(&engine, imports).await {
                Ok(mut sandbox) => {
                    let program = Program { language, request, typescript_bytes };
                    let step = program.start(&engine, &mut sandbox).await;
                    drop(source_charge);
                    (Some(sandbox), step)
                }
                Err(error) => {
                    tracing::error!("no sandbox for a new cell: {error:#}");
                    let error_text = format!("failed to initialize code mode runtime: {error:#}");
                    let stored = Vec::new();
                    (None, Step::Finished(Finished::Failed { error_text, stored, hint: None }))
                }
            }
        }))
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
        let Guest::Resting { mut sandbox, .. } = std::mem::replace(&mut self.guest, Guest::Gone)
        else {
            return;
        };
        let Events { batch, charge } = std::mem::take(&mut self.events);
        self.monitored.resumed();
        self.guest = Guest::Running(Box::pin(async move {
            let step = sandbox.wait(batch).await;
            drop(charge);
            (Some(*sandbox), step)
        }));
    }

    /// When a timer of the guest's is due, on the runtime's clock.
    pub(super) fn arm(&self, timer: Timer) -> Armed {
        let left = Duration::from_nanos(timer.due.saturating_sub(self.clock.monotonic()));
        Armed { timer, at: Instant::now() + left }
    }

    /// Whether nothing is left that could wake a program that waits. Notes the place of
    /// the `await` once.
    pub(super) async fn is_stuck(&mut self) -> bool {
        let Guest::Resting { sandbox, timer: None } = &mut self.guest else { return false };
        if !self.events.is_empty() || !self.callbacks.is_idle() {
            return false;
        }
        if !self.outbox.status.is_stuck() {
            // Runs a few instructions, and no JavaScript.
            self.outbox.status.note_stuck_at(sandbox.awaiting().await);
        }
        true
    }
}
