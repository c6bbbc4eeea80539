//! The engine: places for very many short-lived sandboxes, and what a guest in one can reach.

use super::bindings::CellPre;
use super::bindings::cellblock::code_mode::{clock, output, stored_values, tools, types};
use super::cache::{self, Code};
use super::guest_clock::GuestClock;
use super::imports::{Imports, Moving, Outbox, Spent};
use super::park::{Dictionary, Image, Pristine};
use super::pools::Pools;
use super::recording::guest_limits;
use super::recording::hex;
use super::sandbox::{FUEL_RESERVE, Sandbox};
use super::slots::{Slot, Slots};
use super::typescript::TypeScript;
use crate::backend::LimitKind;
use crate::cells::Account;
use crate::clock::Clock;
use crate::limits::CellLimits;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, WasmList};

/// The guest, as `cargo xtask guest` built it.
pub(super) const GUEST: Code = Code {
    kind: "guest",
    wasm: include_bytes!("../../prebuilt/cellblock-guest.wasm"),
    hash: cache::component_hash(include_str!("../../prebuilt/guest-manifest.json")),
};

/// How an [`Engine`] is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Cells that may run at one time, over all sessions; 10,240 by default. Those that
    /// sleep do not count, see [`EngineConfig::sleeps_after`].
    /// Address space is reserved for each, 4 GiB, but no memory. Places for the first 512 are
    /// made with the engine; those for more than these when they are first needed, which takes
    /// some microseconds for each.
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
    pools: Pools,
    typescript: TypeScript,
    /// What every guest begins as.
    pristine: Pristine,
    /// What images are compressed against.
    dictionary: Dictionary,
    /// The places for sandboxes.
    slots: Slots,
    /// How long a cell that waits keeps its sandbox.
    sleeps_after: Option<Duration>,
}

impl Engine {
    /// Sets up an engine and loads or compiles the guest: about a second the first
    /// time, milliseconds when compiled code is found in the cache.
    ///
    /// # Errors
    /// [`EngineError`], on a machine that wasmtime cannot serve.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let pools = Pools::new(config.max_cells, config.cache_dir.clone())?;
        let typescript = TypeScript::new(config.cache_dir.clone());
        let first = first(pools.first()).map_err(|error| EngineError::Setup(format!("{error:#}")));
        let (pristine, waiting) = first?;
        let dictionary = Dictionary::new(&GUEST.hash, waiting);
        let slots =
            Slots::new(pools.first_places(), config.max_cells, config.max_waiting, config.max_wait);
        Ok(Self(Arc::new(Inner {
            pools,
            typescript,
            pristine,
            dictionary,
            slots,
            sleeps_after: config.sleeps_after,
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
        self.0.pools.are_pooled()
    }

    /// SHA-256 of the guest component, in hexadecimal digits: two builds with the same run
    /// programs alike.
    pub fn guest_digest(&self) -> String {
        hex(&GUEST.hash)
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

    pub(super) fn slots(&self) -> &Slots {
        &self.0.slots
    }

    pub(super) fn sleeps_after(&self) -> Option<Duration> {
        self.0.sleeps_after
    }

    /// The guest in the pool that a place belongs to.
    pub(super) async fn guest(&self, slot: &Slot) -> wasmtime::Result<&CellPre<Imports>> {
        self.0.pools.of(slot).await
    }

    /// Wasmtime's engine for what belongs to no cell.
    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        self.0.pools.first().engine()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("pooled", &self.is_pooled()).finish_non_exhaustive()
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

/// Everything that a guest can reach.
pub(super) fn link(linker: &mut Linker<Imports>) -> wasmtime::Result<()> {
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
