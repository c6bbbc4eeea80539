//! The host's side of the guest's imports: everything a guest can reach.
//!
//! Imports only put things down: output and calls into the [`Outbox`], from
//! where the cell's task takes them between two slices of the guest's time.
//! They count as they go, and refuse what is over a limit.

use super::bindings::cellblock::code_mode::{clock, output, stored_values, tools, types};
use super::guest_clock::GuestClock;
use super::park::{Image, Pristine};
use super::recording::Tape;
use super::sandbox::SLICE_FUEL;
use crate::backend::{ContentItem, ImageDetail};
use crate::cells::{Account, CellStatus, Charge};
use crate::json::escaped_len;
use crate::limits::CellLimits;
use crate::stored::Snapshot;
use crate::support::lock;
use crate::tools::ToolDefinition;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Elements that a table may have: the guest's functions, of which QuickJS has a few
/// thousand. Its tables are made with their final size.
const TABLE_ELEMENTS: usize = 20_000;

/// What a guest sends, in order, with what it is charged for it.
#[derive(Debug)]
pub(super) enum GuestOutput {
    Item(ContentItem, Charge),
    Notification(String, Charge),
    Yield,
    Call { id: u64, tool: usize, input: Option<String>, charge: Charge },
}

/// What the guest has sent and the cell's task has not taken yet, and what both
/// must know at the same time. The lock is held for a push or a swap.
#[derive(Debug)]
pub(super) struct Outbox {
    sent: Mutex<Vec<GuestOutput>>,
    /// What the host holds for the cell.
    pub(super) account: Arc<Account>,
    /// An import was refused because its bytes did not fit into the account.
    overdrawn: AtomicBool,
    /// Growth of a sandbox's memory was refused.
    memory_refused: AtomicBool,
    /// Set by the task when the guest should end by itself, at this limit.
    asked_to_end: OnceLock<types::Limit>,
    /// What others see of the cell: the guest's calls are counted there.
    pub(super) status: Arc<CellStatus>,
    // Totals, which outlive the sandbox.
    peak_memory: AtomicUsize,
    calls: AtomicUsize,
    output_bytes: AtomicUsize,
    output_items: AtomicUsize,
    /// Fuel of what has ended: steps, and reading TypeScript.
    fuel: AtomicU64,
    /// Slices of fuel that the step that runs has had.
    slices: AtomicU64,
    /// What is recorded of the cell.
    pub(super) tape: Tape,
}

/// Why a guest is refused a call or an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The limit that it receives.
    pub(super) limit: types::Limit,
    /// Its bytes do not fit into the account.
    pub(super) overdrawn: bool,
}

impl From<types::Limit> for Refusal {
    fn from(limit: types::Limit) -> Self {
        Self { limit, overdrawn: false }
    }
}

/// What the guest has used, over the life of its cell.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spent {
    /// Largest size of the sandbox's memory, in bytes.
    pub(super) peak_memory: usize,
    /// Nested calls.
    pub(super) calls: usize,
    /// Bytes of output and notifications.
    pub(super) output_bytes: usize,
    /// Content items and notifications.
    pub(super) output_items: usize,
}

impl Outbox {
    /// The outbox of a cell that has used so much.
    pub(super) fn new(account: Arc<Account>, status: Arc<CellStatus>, spent: Spent) -> Self {
        Self {
            sent: Mutex::default(),
            account,
            overdrawn: AtomicBool::new(false),
            memory_refused: AtomicBool::new(false),
            asked_to_end: OnceLock::new(),
            status,
            peak_memory: AtomicUsize::new(spent.peak_memory),
            calls: AtomicUsize::new(spent.calls),
            output_bytes: AtomicUsize::new(spent.output_bytes),
            output_items: AtomicUsize::new(spent.output_items),
            fuel: AtomicU64::new(0),
            slices: AtomicU64::new(0),
            tape: Tape::Off,
        }
    }

    /// The same, recorded or played.
    pub(super) fn with_tape(self, tape: Tape) -> Self {
        Self { tape, ..self }
    }

    /// Takes what was sent since the last time.
    pub(super) fn take(&self) -> Vec<GuestOutput> {
        std::mem::take(&mut *lock(&self.sent))
    }

    fn push(&self, output: GuestOutput) {
        self.tape.sent(&output);
        lock(&self.sent).push(output);
    }

    /// Charges the cell for bytes that the host is to hold. The guest receives `limit` when
    /// they do not fit.
    fn charge(&self, bytes: usize, limit: types::Limit) -> Result<Charge, Refusal> {
        self.account.charge(bytes).ok_or(Refusal { limit, overdrawn: true })
    }

    /// Whether what the guest asks for is admitted; why it was not is [`Outbox::is_overdrawn`].
    fn admit(&self, admitted: Result<Charge, Refusal>) -> Result<Charge, types::Limit> {
        self.tape.admit(admitted).map_err(|refusal| {
            self.overdrawn.fetch_or(refusal.overdrawn, Ordering::Relaxed);
            refusal.limit
        })
    }

    /// The cell has used so much fuel, and no step of it runs.
    pub(super) fn note_fuel(&self, used: u64) {
        self.fuel.store(used, Ordering::Relaxed);
        self.slices.store(0, Ordering::Relaxed);
    }

    /// The step that runs has had a slice of fuel, and has not ended.
    pub(super) fn note_slice(&self) {
        self.slices.fetch_add(1, Ordering::Relaxed);
        self.tape.slice();
    }

    /// Fuel of the steps that have ended.
    pub(super) fn fuel_of_steps(&self) -> u64 {
        self.fuel.load(Ordering::Relaxed)
    }

    /// Fuel that was used so far. A step that has not ended, or was dropped, counts with the
    /// slices that it has had.
    pub(super) fn fuel_used(&self) -> u64 {
        let slices = self.slices.load(Ordering::Relaxed);
        self.fuel_of_steps().saturating_add(slices.saturating_mul(SLICE_FUEL))
    }

    /// A sandbox of the cell has had so many bytes of memory.
    pub(super) fn note_memory(&self, bytes: usize) {
        self.peak_memory.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Whether a sandbox of the cell was refused memory.
    pub(super) fn was_memory_refused(&self) -> bool {
        self.memory_refused.load(Ordering::Relaxed)
    }

    /// Whether the guest was refused for want of room in its account.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.overdrawn.load(Ordering::Relaxed)
    }

    /// Asks the guest to end, at its next look at the clock.
    pub(super) fn ask_to_end(&self, limit: types::Limit) {
        // The first reason stays.
        let _ = self.asked_to_end.set(limit);
    }

    /// The limit at which the guest was asked to end.
    pub(super) fn asked_to_end(&self) -> Option<types::Limit> {
        self.asked_to_end.get().copied()
    }

    /// What the guest has used so far.
    pub(super) fn spent(&self) -> Spent {
        Spent {
            peak_memory: self.peak_memory.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            output_bytes: self.output_bytes.load(Ordering::Relaxed),
            output_items: self.output_items.load(Ordering::Relaxed),
        }
    }
}

/// What a store carries for its cell.
pub(super) struct Imports {
    /// Where everything that the guest sends goes.
    pub(super) outbox: Arc<Outbox>,
    pub(super) limits: Arc<CellLimits>,
    /// The tools that the program may call.
    tools: Arc<[ToolDefinition]>,
    /// The values that the program may load.
    stored: Arc<Snapshot>,
    clock: GuestClock,
    /// What `park` and `wake` are to do, while they run.
    pub(super) moving: Moving,
}

/// A guest's memory on its way out or in.
pub(super) enum Moving {
    /// Neither: the guest does not call the imports.
    Still,
    /// The guest is to show its memory.
    Leaving(Pristine),
    /// It has shown it.
    Left(Image),
    /// The memory of a fresh guest is to be shown.
    First,
    /// It was shown.
    Pristine(Pristine),
    /// Runs are written: the place of the next one, and of where this call of `wake` ends.
    Coming { image: Image, at: usize, until: usize },
}

impl Imports {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        limits: Arc<CellLimits>,
        tools: Arc<[ToolDefinition]>,
        stored: Arc<Snapshot>,
        clock: GuestClock,
    ) -> Self {
        Self { outbox, limits, tools, stored, clock, moving: Moving::Still }
    }

    /// The guest's wall clock less its monotonic one, in nanoseconds.
    pub(super) fn epoch(&self) -> i64 {
        self.clock.epoch()
    }

    /// What an output of so many bytes is charged.
    fn output_charge(&self, bytes: usize) -> Result<Charge, Refusal> {
        let used = self.outbox.spent();
        if used.output_items >= self.limits.output_items {
            return Err(types::Limit::OutputItems.into());
        }
        if bytes > self.limits.output_bytes.saturating_sub(used.output_bytes) {
            return Err(types::Limit::OutputBytes.into());
        }
        self.outbox.charge(bytes, types::Limit::OutputBytes)
    }

    /// What a call with an input of so many bytes is charged.
    fn call_charge(&self, bytes: usize) -> Result<Charge, Refusal> {
        if self.outbox.spent().calls as u64 >= self.limits.calls {
            return Err(types::Limit::Calls.into());
        }
        if self.outbox.status.calls_in_flight() >= self.limits.calls_in_flight {
            return Err(types::Limit::CallsInFlight.into());
        }
        if bytes > self.limits.input_bytes {
            return Err(types::Limit::InputBytes.into());
        }
        self.outbox.charge(bytes, types::Limit::InputBytes)
    }

    fn count_output(&mut self, bytes: usize) -> Result<Charge, types::Limit> {
        let charge = self.outbox.admit(self.output_charge(bytes))?;
        self.outbox.output_items.fetch_add(1, Ordering::Relaxed);
        self.outbox.output_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(charge)
    }
}

impl types::Host for Imports {}

impl tools::Host for Imports {
    fn call(&mut self, id: u64, tool: u32, input: Option<String>) -> Result<(), types::Limit> {
        let bytes = input.as_ref().map_or(0, String::len);
        let charge = self.outbox.admit(self.call_charge(bytes))?;
        self.outbox.calls.fetch_add(1, Ordering::Relaxed);
        self.outbox.status.call_started();
        self.outbox.push(GuestOutput::Call { id, tool: tool as usize, input, charge });
        Ok(())
    }

    fn descriptions(&mut self) -> Vec<String> {
        let texts = || self.tools.iter().map(|tool| tool.description.clone()).collect();
        self.outbox.tape.descriptions(texts)
    }
}

impl output::Host for Imports {
    fn emit(&mut self, item: output::ContentItem) -> Result<(), types::Limit> {
        let item = match item {
            output::ContentItem::Text(text) => ContentItem::InputText { text },
            output::ContentItem::Image(image) => ContentItem::InputImage {
                image_url: image.url,
                detail: Some(match image.detail {
                    output::ImageDetail::Auto => ImageDetail::Auto,
                    output::ImageDetail::Low => ImageDetail::Low,
                    output::ImageDetail::High => ImageDetail::High,
                    output::ImageDetail::Original => ImageDetail::Original,
                }),
            },
            output::ContentItem::Audio(audio_url) => ContentItem::InputAudio { audio_url },
        };
        let charge = self.count_output(item.escaped_len())?;
        self.outbox.push(GuestOutput::Item(item, charge));
        Ok(())
    }

    fn notify(&mut self, text: String) -> Result<(), types::Limit> {
        let charge = self.count_output(escaped_len(&text))?;
        self.outbox.push(GuestOutput::Notification(text, charge));
        Ok(())
    }

    fn yield_control(&mut self) {
        self.outbox.push(GuestOutput::Yield);
    }
}

impl stored_values::Host for Imports {
    fn get(&mut self, key: String) -> Option<String> {
        self.outbox.tape.loaded(|| self.stored.get(&key).map(|json| String::from(&**json)))
    }
}

impl clock::Host for Imports {
    fn wall(&mut self) -> u64 {
        let monotonic = self.monotonic();
        self.clock.wall_at(monotonic)
    }

    fn monotonic(&mut self) -> u64 {
        self.outbox.tape.time(|| self.clock.monotonic())
    }
}

impl Moving {
    /// The guest shows its memory from an address on.
    pub(super) fn shown(self, address: u32, memory: &[u8]) -> wasmtime::Result<Self> {
        let address = address as usize;
        match self {
            Self::Leaving(pristine) if pristine.start() == address => {
                Ok(Self::Left(pristine.difference(memory)))
            }
            Self::First => Ok(Self::Pristine(Pristine::new(address, memory))),
            _ => wasmtime::bail!("the guest has shown its memory without being asked to"),
        }
    }

    /// The run that the guest is to write next: its address and length, or 0.
    pub(super) fn next_run(&self) -> wasmtime::Result<u64> {
        match self {
            Self::Coming { at, until, .. } if at >= until => Ok(0),
            Self::Coming { image, at, .. } => match image.run(*at) {
                Some((address, run, _)) => Ok((u64::from(address) << 32) | run.len() as u64),
                None => Ok(0),
            },
            _ => wasmtime::bail!("the guest has asked for memory without being woken"),
        }
    }

    /// The bytes of that run.
    pub(super) fn fill(&mut self) -> wasmtime::Result<Vec<u8>> {
        if let Self::Coming { image, at, until } = self
            && *at < *until
            && let Some((_, run, next)) = image.run(*at)
        {
            let run = run.to_vec();
            *at = next;
            return Ok(run);
        }
        wasmtime::bail!("the guest has asked for a run that there is not")
    }
}

impl wasmtime::ResourceLimiter for Imports {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let without_stack = desired.saturating_sub(CellLimits::MAX_STACK_BYTES);
        if without_stack > self.limits.sandbox_bytes() {
            self.outbox.memory_refused.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        self.outbox.note_memory(without_stack);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}
