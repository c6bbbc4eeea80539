//! One sandbox: a store, the guest in it, and the steps it makes.
//!
//! Every step ends in a [`Step`]; what wasmtime calls a trap has become the
//! limit that was met, or a bug of ours.

use super::bindings::cellblock::code_mode::types;
use super::bindings::{Cell, CellPre};
use super::engine::{Engine, limit_kind};
use super::imports::{Imports, Moving, Outbox};
use super::park::{Image, ParkedEvent, Pristine};
use super::recording::Run;
use super::slots::Slot;
use super::typescript;
use crate::backend::LimitKind;
use futures_util::FutureExt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use wasmtime::{Store, Trap};

/// Fuel above a limit that lets the guest end by itself: it must reach its next
/// look at the clock, ten thousand loop turns or calls away, and unwind.
pub(super) const FUEL_RESERVE: u64 = 5_000_000;

/// Fuel after which a running guest lets others run: a tenth of a millisecond
/// or two. Fifty spinning cells on two cores then come round in a few.
pub(super) const SLICE_FUEL: u64 = 2_000_000;

/// Fuel for a guest that shows its memory, or writes a piece of it.
const MOVING_FUEL: u64 = 100_000_000;

/// Fuel for the place at which a program waits, which takes a few thousand.
const AWAITING_FUEL: u64 = 1_000_000;

/// What a step reached.
#[derive(Debug)]
pub(super) enum Step {
    /// The program waits; the time is how far off its next timer is.
    Pending(Option<Timer>),
    /// The program ended.
    Finished(Finished),
}

/// The timer that is due next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    pub(super) id: u64,
    /// When it is due, in nanoseconds on the guest's monotonic clock.
    pub(super) due: u64,
}

/// How a program ended.
#[derive(Debug)]
pub(super) enum Finished {
    Completed {
        stored: Vec<(String, Arc<str>)>,
        hint: Option<String>,
        value: Option<types::ProgramValue>,
    },
    Failed {
        error_text: String,
        stored: Vec<(String, Arc<str>)>,
        hint: Option<String>,
    },
    /// It does not parse; the sandbox can be given another program.
    Unparsed {
        error_text: String,
        hint: Option<String>,
    },
    Limited {
        limit: LimitKind,
        stack: String,
    },
    /// A bug of ours: the guest broke in a way that no limit explains.
    Broken,
}

impl Finished {
    /// A program that was stopped at a limit outside its sandbox.
    pub(super) fn stopped_at(limit: LimitKind) -> Self {
        Self::Limited { limit, stack: String::new() }
    }
}

/// A guest that is at rest.
pub(super) struct Sandbox {
    store: Store<Imports>,
    guest: Cell,
    fuel_left: u64,
    /// Its place in the engine, which is free once the store is gone: so it comes after.
    _slot: Option<Slot>,
}

impl Sandbox {
    /// Instantiates the guest.
    pub(super) async fn new(
        engine: &Engine,
        imports: Imports,
        slot: Slot,
    ) -> wasmtime::Result<Self> {
        Self::instantiate(engine.guest(&slot).await?, imports, Some(slot)).await
    }

    async fn instantiate(
        pre: &CellPre<Imports>,
        imports: Imports,
        slot: Option<Slot>,
    ) -> wasmtime::Result<Self> {
        let fuel_left = imports.limits.fuel;
        let mut store = Store::new(pre.engine(), imports);
        store.limiter(|imports| imports);
        store.set_fuel(SLICE_FUEL)?;
        store.fuel_async_yield_interval(Some(SLICE_FUEL))?;
        let guest = pre.instantiate_async(&mut store).await?;
        Ok(Self { store, guest, fuel_left, _slot: slot })
    }

    /// A sandbox with the guest of an image, which has used so much fuel. With a
    /// seed, its `Math.random` goes on from there.
    pub(super) async fn wake(
        engine: &Engine,
        imports: Imports,
        slot: Slot,
        image: Image,
        fuel_used: u64,
        seed: Option<u64>,
    ) -> wasmtime::Result<Self> {
        let mut sandbox = Self::new(engine, imports, slot).await?;
        sandbox.fuel_left = sandbox.fuel_left.saturating_sub(fuel_used);
        if image.begins_below(engine.pristine().start()) {
            wasmtime::bail!("the image has a run in the guest's stack");
        }
        let (pages, stops) = (image.pages(), image.stops());
        sandbox.store.data_mut().moving = Moving::Coming { image, at: 0, until: 0 };
        for (number, stop) in stops.iter().enumerate() {
            if let Moving::Coming { until, .. } = &mut sandbox.store.data_mut().moving {
                *until = *stop;
            }
            let is_last = number + 1 == stops.len();
            // Not the cell's fuel: the program uses as much as if it had not been parked.
            sandbox.store.set_fuel(MOVING_FUEL)?;
            let seed = seed.filter(|_| is_last);
            sandbox.guest.call_wake(&mut sandbox.store, pages, seed).await?;
            if !is_last {
                tokio::task::yield_now().await;
            }
        }
        sandbox.store.data_mut().moving = Moving::Still;
        Ok(sandbox)
    }

    /// What the guest's memory differs in from a fresh guest's. Changes nothing of a guest
    /// that waits.
    pub(super) fn image(&mut self, pristine: &Pristine) -> wasmtime::Result<Image> {
        match self.show(Moving::Leaving(pristine.clone()))? {
            Moving::Left(image) => Ok(image),
            _ => wasmtime::bail!("the guest has not shown its memory"),
        }
    }

    /// The memory of a guest that has run nothing, and the image of one that waits.
    pub(super) async fn first(
        engine: &CellPre<Imports>,
        imports: Imports,
        waiting: &types::ExecuteRequest,
    ) -> wasmtime::Result<(Pristine, Image)> {
        let mut sandbox = Self::instantiate(engine, imports, None).await?;
        let Moving::Pristine(pristine) = sandbox.show(Moving::First)? else {
            wasmtime::bail!("the guest has not shown its memory");
        };
        match sandbox.execute(waiting).await {
            Step::Pending(_) => {
                let image = sandbox.image(&pristine)?;
                Ok((pristine, image))
            }
            Step::Finished(finished) => wasmtime::bail!("the guest does not wait: {finished:?}"),
        }
    }

    /// Has the guest show its memory, which takes it a few instructions.
    fn show(&mut self, how: Moving) -> wasmtime::Result<Moving> {
        self.store.data_mut().moving = how;
        self.store.set_fuel(MOVING_FUEL)?;
        let granted = self.store.hostcall_fuel();
        // The memory is read in place, so what it counts is not held.
        self.store.set_hostcall_fuel(usize::MAX);
        let shown = self.guest.call_park(&mut self.store).now_or_never();
        self.store.set_hostcall_fuel(granted);
        let moved = std::mem::replace(&mut self.store.data_mut().moving, Moving::Still);
        match shown {
            Some(shown) => shown.map(|()| moved),
            None => wasmtime::bail!("the guest did not show its memory at once"),
        }
    }

    /// Starts the program.
    pub(super) async fn execute(&mut self, request: &types::ExecuteRequest) -> Step {
        self.begin(|source| Run::execute(request, source));
        let granted = self.fuel_up();
        let outbox = Arc::clone(&self.store.data().outbox);
        let step = counted(&outbox, self.guest.call_execute(&mut self.store, request)).await;
        self.conclude(granted, step)
    }

    /// Delivers events.
    pub(super) async fn wait(&mut self, events: Vec<types::Event>) -> Step {
        self.begin(|_| Run::Wait(events.iter().map(ParkedEvent::from).collect()));
        let granted = self.fuel_up();
        let outbox = Arc::clone(&self.store.data().outbox);
        let step = counted(&outbox, self.guest.call_wait(&mut self.store, &events)).await;
        self.conclude(granted, step)
    }

    /// The place of the top-level `await` at which the program is suspended, as
    /// `exec_main.mjs:L:C`. Called only after a step that was pending.
    ///
    /// It takes nothing of the cell's fuel, so that a program uses as much whether or not
    /// somebody wants to know where it waits.
    pub(super) async fn awaiting(&mut self) -> Option<String> {
        self.begin(|_| Run::Awaiting);
        // The engine meters fuel, so this cannot fail.
        let _ = self.store.set_fuel(AWAITING_FUEL);
        let place = self.guest.call_awaiting(&mut self.store).await.ok().flatten();
        self.store.data().outbox.tape.awaiting(place.clone());
        place
    }

    /// The JavaScript of a text in TypeScript; what that takes counts to the cell.
    pub(super) async fn javascript(
        &mut self,
        engine: &Engine,
        source: &str,
    ) -> Result<typescript::Program, typescript::Unread> {
        let fuel = self.store.data().limits.step_fuel.min(self.fuel_left);
        let (program, cost) = engine.typescript().javascript(engine.wasmtime(), source, fuel).await;
        self.fuel_left = self.fuel_left.saturating_sub(cost.fuel);
        let outbox = &self.store.data().outbox;
        outbox.note_fuel(self.fuel_used());
        outbox.note_memory(cost.memory_bytes);
        program
    }

    /// The end of a cell whose fuel was used up outside its program.
    pub(super) fn out_of_fuel(&self) -> Finished {
        Finished::Limited { limit: self.which(LimitKind::Fuel), stack: String::new() }
    }

    /// Fuel used so far, of a sandbox in which no step runs.
    fn fuel_used(&self) -> u64 {
        self.store.data().limits.fuel - self.fuel_left
    }

    /// Grants the fuel of one step.
    fn fuel_up(&mut self) -> u64 {
        let step = self.store.data().limits.step_fuel.min(self.fuel_left);
        let granted = step.saturating_add(FUEL_RESERVE);
        // The engine meters fuel, so this cannot fail.
        let _ = self.store.set_fuel(granted);
        granted
    }

    fn conclude(&mut self, granted: u64, step: wasmtime::Result<types::Step>) -> Step {
        let used = self.use_up(granted);
        let step = match step {
            Ok(types::Step::Pending(timer)) => {
                Step::Pending(timer.map(|timer| Timer { id: timer.id, due: timer.due }))
            }
            Ok(types::Step::Finished(finished)) => Step::Finished(self.finished(finished)),
            Err(error) => Step::Finished(self.trapped(&error)),
        };
        self.store.data().outbox.tape.reached(&step, used);
        step
    }

    /// Takes what a step has used from the fuel that is left: how much that was.
    fn use_up(&mut self, granted: u64) -> u64 {
        let used = (granted - self.store.get_fuel().unwrap_or(0)).min(self.fuel_left);
        self.fuel_left -= used;
        self.store.data().outbox.note_fuel(self.fuel_used());
        used
    }

    /// Records that a step begins.
    fn begin(&self, run: impl FnOnce(&str) -> Run) {
        let imports = self.store.data();
        imports.outbox.tape.begin(|| imports.epoch(), self.fuel_left, run);
    }

    /// Fuel that is left to the cell.
    pub(super) fn fuel_left(&self) -> u64 {
        self.fuel_left
    }

    /// Grants a cell that is run again what it had when it was recorded.
    pub(super) fn set_fuel_left(&mut self, fuel: u64) {
        self.fuel_left = fuel.min(self.store.data().limits.fuel);
        self.store.data().outbox.note_fuel(self.fuel_used());
    }

    fn finished(&self, finished: types::Finished) -> Finished {
        let stored = finished
            .stored
            .into_iter()
            .map(|stored| (stored.key, Arc::from(stored.value)))
            .collect();
        let hint = finished.hint;
        match finished.outcome {
            types::Outcome::Completed => {
                Finished::Completed { stored, hint, value: finished.value }
            }
            types::Outcome::Failed(error_text) => Finished::Failed { error_text, stored, hint },
            types::Outcome::Unparsed(error_text) => Finished::Unparsed { error_text, hint },
            types::Outcome::Limited(hit) => {
                Finished::Limited { limit: self.which(limit_kind(hit.limit)), stack: hit.stack }
            }
        }
    }

    fn trapped(&self, error: &wasmtime::Error) -> Finished {
        let limited = |limit| Finished::Limited { limit, stack: String::new() };
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => limited(self.which(LimitKind::Fuel)),
            Some(Trap::StackOverflow) => limited(LimitKind::Stack),
            // A guest that cannot have memory aborts where it cannot say so.
            _ if self.store.data().outbox.was_memory_refused() => limited(LimitKind::Memory),
            _ => {
                tracing::error!("the guest broke: {error:?}");
                Finished::Broken
            }
        }
    }

    /// Tells the cell's fuel from the step's, and the account from single sizes.
    fn which(&self, limit: LimitKind) -> LimitKind {
        match limit {
            LimitKind::Fuel if self.fuel_left > 0 => LimitKind::StepFuel,
            LimitKind::InputBytes | LimitKind::OutputBytes
                if self.store.data().outbox.is_overdrawn() =>
            {
                LimitKind::HostBytes
            }
            limit => limit,
        }
    }
}

/// Counts the slices of fuel that a step has had before it ended.
async fn counted<T>(outbox: &Outbox, step: impl Future<Output = T>) -> T {
    let mut step = pin!(step);
    poll_fn(|context| {
        let polled = step.as_mut().poll(context);
        if polled.is_pending() {
            outbox.note_slice();
        }
        polled
    })
    .await
}
