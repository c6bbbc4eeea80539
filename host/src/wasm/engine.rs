//! The engine: wasmtime set up for very many short-lived sandboxes, and the
//! guest component compiled for it.

use super::bindings::CellPre;
use super::bindings::cellblock::code_mode::{clock, output, stored_values, tools, types};
use super::cache::{self, Code};
use super::guest_clock::GuestClock;
use super::imports::{Imports, Moving, Outbox, Spent};
use super::park::{Dictionary, Image, Pristine};
use super::recording::guest_limits;
use super::sandbox::{FUEL_RESERVE, Sandbox};
use super::slots::Slots;
use super::typescript::{READERS, TypeScript};
use crate::backend::LimitKind;
use crate::cells::Account;
use crate::clock::Clock;
use crate::limits::CellLimits;
use sha2::{Digest, Sha256};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use wasmtime::component::{HasSelf, Linker, WasmList};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, StoreContextMut,
};

/// The guest, as `cargo xtask guest` built it.
const GUEST: &[u8] = include_bytes!("../../prebuilt/cellblock-guest.wasm");

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Native stack of a running cell. Measured, a program uses up to three bytes of it for
/// each byte of the guest's stack, and the parser fifteen, of which the guest gives it
/// one mebibyte; the rest is margin. Pages that are not touched cost nothing.
const WASM_STACK_BYTES: usize = 10 * CellLimits::MAX_STACK_BYTES;
/// What host functions may use of the same stack.
const HOST_STACK_BYTES: usize = 2 * MIB;

/// Memory that a freed slot keeps mapped, so that the next cell finds its pages
/// there: the pages that a small program touches, rounded up.
const KEEP_RESIDENT_BYTES: usize = 4 * MIB;

/// How an [`Engine`] is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Cells that may run at one time, over all sessions; 10,240 by default. Those that
    /// sleep do not count, see [`EngineConfig::sleeps_after`].
    /// Address space is reserved for each, 4 GiB, but no memory. Guarding its stack
    /// takes three microseconds when the engine is made: ask for fewer where a
    /// process is short-lived.
    pub max_cells: u32,
    /// How long a cell that waits keeps its sandbox, a second by default. Then it sleeps: what
    /// it is lies compressed in the process's memory, about 9 KB for a small one, until
    /// something comes for it. Nobody notices, but that the next step begins some tens of
    /// microseconds later. When others wait for a sandbox, cells that wait do not keep theirs. `None` lets no cell sleep.
    pub sleeps_after: Option<Duration>,
    /// Cells that may wait for a sandbox at one time, new ones and those that are to wake;
    /// 131,072 by default. One more ends with
    /// [`LimitKind::SandboxQueue`](crate::LimitKind::SandboxQueue).
    pub max_waiting: usize,
    /// How long a cell may wait for a sandbox, a minute by default. Then it ends with
    /// [`LimitKind::SandboxWait`](crate::LimitKind::SandboxWait).
    pub max_wait: Duration,
    /// Where compiled code is kept; `None` compiles anew in every process. It
    /// must be a place that only this user can write, or it is not used.
    pub cache_dir: Option<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_cells: 10_240,
            sleeps_after: Some(Duration::from_secs(1)),
            max_waiting: 131_072,
            max_wait: Duration::from_mins(1),
            cache_dir: cache::default_dir(),
        }
    }
}

/// Why no engine could be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Wasmtime refused the set-up; the text is its own.
    #[error("cannot set up the sandbox engine: {0}")]
    Setup(String),
    /// The guest could not be compiled; the text is wasmtime's own.
    #[error("cannot compile the guest component: {0}")]
    Compile(String),
}

/// The sandbox engine. One is enough for a process; a clone is a handle to the same.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    guest: CellPre<Imports>,
    typescript: TypeScript,
    /// What every guest begins as.
    pristine: Pristine,
    /// What images are compressed against.
    dictionary: Dictionary,
    /// SHA-256 of the guest: parked cells are tied to it.
    guest_hash: [u8; 32],
    /// The places for sandboxes.
    slots: Slots,
    /// How long a cell that waits keeps its sandbox.
    sleeps_after: Option<Duration>,
    pooled: bool,
}

impl Engine {
    /// Sets up an engine and loads or compiles the guest: about a second the first
    /// time, milliseconds when compiled code is found in the cache.
    ///
    /// # Errors
    /// [`EngineError`], on a machine that wasmtime cannot serve.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let (engine, pooled) = create(config)?;
        let guest = Code { kind: "guest", wasm: GUEST };
        let component = cache::load_or_compile(&engine, config.cache_dir.as_deref(), guest)?;
        let mut linker = Linker::new(&engine);
        let pre = link(&mut linker)
            .and_then(|()| linker.instantiate_pre(&component))
            .and_then(CellPre::new)
            .map_err(|error| EngineError::Setup(format!("{error:#}")))?;
        let typescript = TypeScript::new(config.cache_dir.clone());
        let first = first(&pre).map_err(|error| EngineError::Setup(format!("{error:#}")));
        let (pristine, waiting) = first?;
        let guest_hash = Sha256::digest(GUEST).into();
        let dictionary = Dictionary::new(&guest_hash, waiting);
        let slots = Slots::new(config.max_cells, config.max_waiting, config.max_wait);
        Ok(Self(Arc::new(Inner {
            guest: pre,
            typescript,
            pristine,
            dictionary,
            guest_hash,
            slots,
            sleeps_after: config.sleeps_after,
            pooled,
        })))
    }

    /// The engine of this process, made on first use with the default set-up.
    ///
    /// # Errors
    /// As for [`Engine::new`]; the same error every time.
    pub fn shared() -> Result<Self, EngineError> {
        static SHARED: OnceLock<Result<Engine, EngineError>> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(&EngineConfig::default())).clone()
    }

    /// Whether sandboxes come from a pool. If not, each costs ten times as much
    /// to start: the address space for the pool was not to be had.
    pub fn is_pooled(&self) -> bool {
        self.0.pooled
    }

    /// SHA-256 of the guest component, in hexadecimal digits: two builds with the same run
    /// programs alike.
    pub fn guest_digest(&self) -> String {
        format!("{:x}", Sha256::digest(GUEST))
    }

    pub(super) fn typescript(&self) -> &TypeScript {
        &self.0.typescript
    }

    pub(super) fn pristine(&self) -> &Pristine {
        &self.0.pristine
    }

    pub(super) fn dictionary(&self) -> &Dictionary {
        &self.0.dictionary
    }

    pub(super) fn guest_hash(&self) -> &[u8; 32] {
        &self.0.guest_hash
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.0.slots
    }

    pub(super) fn sleeps_after(&self) -> Option<Duration> {
        self.0.sleeps_after
    }

    pub(super) fn guest(&self) -> &CellPre<Imports> {
        &self.0.guest
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("pooled", &self.0.pooled).finish_non_exhaustive()
    }
}

/// A clock that stands still, so that a guest is the same every time.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn wall(&self) -> Duration {
        Duration::ZERO
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// The memory of a guest that has run nothing, and the image of one that waits for a call.
fn first(guest: &CellPre<Imports>) -> wasmtime::Result<(Pristine, Image)> {
    let limits = CellLimits::default();
    let account = Account::new(limits.held_bytes());
    let outbox = Outbox::new(account, Arc::default(), Spent::default());
    let waiting = types::ExecuteRequest {
        source: "const result = await tools.t({ a: 1 }); text(result)".to_owned(),
        shifts: Vec::new(),
        tools: vec!["t".to_owned()],
        random_seed: 0,
        limits: guest_limits(&limits),
        locale: None,
        time_zone: None,
        value: None,
    };
    let clock = GuestClock::new(Arc::new(Still));
    let imports =
        Imports::new(Arc::new(outbox), Arc::new(limits), [].into(), Arc::default(), clock);
    let showing = pin!(Sandbox::first(guest, imports, &waiting));
    // It runs a few hundred thousand instructions, and waits for nothing.
    match showing.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(first) => first,
        Poll::Pending => wasmtime::bail!("the guest did not show its memory at once"),
    }
}

/// Tries the pool, then does without.
fn create(config: &EngineConfig) -> Result<(wasmtime::Engine, bool), EngineError> {
    let mut wasm = base_config();
    wasm.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config.max_cells)));
    match wasmtime::Engine::new(&wasm) {
        Ok(engine) => Ok((engine, true)),
        Err(error) => {
            tracing::warn!(
                "no address space for a pool of {} sandboxes, so each is allocated on demand: \
                 {error:#}",
                config.max_cells
            );
            let mut wasm = base_config();
            wasm.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            let engine = wasmtime::Engine::new(&wasm)
                .map_err(|error| EngineError::Setup(format!("{error:#}")))?;
            Ok((engine, false))
        }
    }
}

fn base_config() -> Config {
    let mut config = Config::new();
    config
        // The guest queues and resumes; nothing waits inside it.
        .concurrency_support(false)
        .consume_fuel(true)
        .cranelift_opt_level(OptLevel::Speed)
        // The same bits for the same program on every machine.
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(WASM_STACK_BYTES + HOST_STACK_BYTES)
        // A stack that a deep recursion has touched goes back to the system, and none
        // shows the next cell's host functions what the last left there.
        .async_stack_zeroing(true)
        // Traps are distinguished by their kind; wasm frames are not used.
        .wasm_backtrace_max_frames(None)
        // What the guest does not need is not there.
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false);
    config
}

fn pool(max_cells: u32) -> PoolingAllocationConfig {
    let sandboxes = max_cells.saturating_add(READERS);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(sandboxes)
        .total_core_instances(sandboxes.saturating_mul(4))
        .total_memories(sandboxes)
        .total_tables(sandboxes.saturating_mul(2))
        // A store keeps the stack of its last step, one at rest too.
        .total_stacks(sandboxes)
        .max_memory_size(CellLimits::MAX_MEMORY_BYTES + CellLimits::MAX_MEMORY_BYTES / 8)
        .max_core_instances_per_component(4)
        .max_memories_per_component(1)
        .max_tables_per_component(2)
        .max_tables_per_module(2)
        .table_keep_resident(64 * KIB)
        // What a cell that does not recurse touches; the rest goes back.
        .async_stack_keep_resident(32 * KIB)
        // Times what each keeps: the memory that an idle process holds on to.
        .max_unused_warm_slots(32);
    if swap_is_off() && PoolingAllocationConfig::is_pagemap_scan_available() {
        // Resets the pages that were written and no others: most of a cold start.
        // A page that was swapped out would be missed, and the next cell could read
        // it; so only where nothing can be. Elsewhere all pages go back: the first
        // ones, which would be kept, are the far end of the guest's stack.
        pool.pagemap_scan(Enabled::Auto).linear_memory_keep_resident(KEEP_RESIDENT_BYTES);
    }
    pool
}

/// Whether this machine has no swap space: the kernel's list has only its heading.
fn swap_is_off() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() <= 1)
}

/// Everything that a guest can reach.
fn link(linker: &mut Linker<Imports>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasSelf<_>>(linker, |imports| imports)?;
    tools::add_to_linker::<_, HasSelf<_>>(linker, |imports| imports)?;
    output::add_to_linker::<_, HasSelf<_>>(linker, |imports| imports)?;
    stored_values::add_to_linker::<_, HasSelf<_>>(linker, |imports| imports)?;
    clock::add_to_linker::<_, HasSelf<_>>(linker, |imports| imports)?;
    // By hand, because the memory is read in place.
    let mut park = linker.instance("cellblock:code-mode/park@0.1.0")?;
    park.func_wrap(
        "image",
        |mut store: StoreContextMut<'_, Imports>, (address, memory): (u32, WasmList<u8>)| {
            // Out of the store while that is borrowed.
            let how = std::mem::replace(&mut store.data_mut().moving, Moving::Still);
            let moved = how.shown(address, memory.as_le_slice(&store))?;
            store.data_mut().moving = moved;
            Ok(())
        },
    )?;
    park.func_wrap("next", |store: StoreContextMut<'_, Imports>, (): ()| {
        Ok((store.data().moving.next_run()?,))
    })?;
    park.func_wrap("fill", |mut store: StoreContextMut<'_, Imports>, (): ()| {
        Ok((store.data_mut().moving.fill()?,))
    })?;
    // By hand, because only the store knows how much fuel is left.
    linker.instance("cellblock:code-mode/watch@0.1.0")?.func_wrap(
        "poll",
        |store: StoreContextMut<'_, Imports>, (): ()| {
            let out_of_fuel = store.get_fuel()? < FUEL_RESERVE;
            let limit = if out_of_fuel {
                Some(types::Limit::Fuel)
            } else {
                let outbox = &store.data().outbox;
                outbox.tape.asked(outbox.asked_to_end())
            };
            Ok((limit,))
        },
    )
}

/// Every limit that a guest knows.
const GUEST_LIMITS: [types::Limit; 13] = [
    types::Limit::Fuel,
    types::Limit::RunningTime,
    types::Limit::TotalTime,
    types::Limit::Memory,
    types::Limit::Stack,
    types::Limit::OutputBytes,
    types::Limit::OutputItems,
    types::Limit::Calls,
    types::Limit::CallsInFlight,
    types::Limit::InputBytes,
    types::Limit::Timers,
    types::Limit::StoredBytes,
    types::Limit::StoredKeys,
];

/// The limit as the guest knows it; `None` for one that it does not.
pub(super) fn guest_limit(kind: LimitKind) -> Option<types::Limit> {
    GUEST_LIMITS.into_iter().find(|limit| limit_kind(*limit) == kind)
}

/// The limit that the guest speaks of.
pub(super) fn limit_kind(limit: types::Limit) -> LimitKind {
    match limit {
        types::Limit::Fuel => LimitKind::Fuel,
        types::Limit::RunningTime => LimitKind::RunningTime,
        types::Limit::TotalTime => LimitKind::TotalTime,
        types::Limit::Memory => LimitKind::Memory,
        types::Limit::Stack => LimitKind::Stack,
        types::Limit::OutputBytes => LimitKind::OutputBytes,
        types::Limit::OutputItems => LimitKind::OutputItems,
        types::Limit::Calls => LimitKind::Calls,
        types::Limit::CallsInFlight => LimitKind::CallsInFlight,
        types::Limit::InputBytes => LimitKind::InputBytes,
        types::Limit::Timers => LimitKind::Timers,
        types::Limit::StoredBytes => LimitKind::StoredBytes,
        types::Limit::StoredKeys => LimitKind::StoredKeys,
    }
}
