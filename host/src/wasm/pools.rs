//! Pools of places for sandboxes: wasmtime set up for very many that are short-lived, and the
//! guest compiled for it.
//!
//! A pool guards the stack of each place when it is made, with a system call for each. So an
//! engine begins with a small pool, and makes a second one for all further cells when there is
//! no place left in the first.

use super::bindings::CellPre;
use super::cache;
use super::engine::{EngineError, GUEST, link};
use super::imports::Imports;
use super::slots::Slot;
use super::typescript::READERS;
use crate::limits::CellLimits;
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// Places of the first pool, at most: it takes two milliseconds to make.
const FIRST: u32 = 512;

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

/// The pools of an engine.
pub(super) struct Pools {
    first: Pool,
    /// Made when it is first needed.
    second: OnceCell<Pool>,
    /// Cells that may run at one time.
    max_cells: u32,
    /// Where compiled code is kept.
    cache_dir: Option<PathBuf>,
}

/// Places for sandboxes.
struct Pool {
    guest: CellPre<Imports>,
    /// Whether the address space was to be had.
    is_pooled: bool,
}

impl Pools {
    pub(super) fn new(max_cells: u32, cache_dir: Option<PathBuf>) -> Result<Self, EngineError> {
        let first = Pool::new(max_cells.min(FIRST), READERS, cache_dir.as_deref())?;
        Ok(Self { first, second: OnceCell::new(), max_cells, cache_dir })
    }

    /// The guest in the first pool.
    pub(super) fn first(&self) -> &CellPre<Imports> {
        &self.first.guest
    }

    /// Cells that have a place in the first pool.
    pub(super) fn first_places(&self) -> u32 {
        self.max_cells.min(FIRST)
    }

    pub(super) fn are_pooled(&self) -> bool {
        self.first.is_pooled
    }

    /// The guest in the pool that a place belongs to.
    pub(super) async fn of(&self, slot: &Slot) -> wasmtime::Result<&CellPre<Imports>> {
        if slot.is_in_first_pool() {
            return Ok(self.first());
        }
        let make = || async {
            let (cells, dir) = (self.max_cells - self.first_places(), self.cache_dir.clone());
            // Guarding ten thousand stacks takes tens of milliseconds.
            tokio::task::spawn_blocking(move || Pool::new(cells, 0, dir.as_deref()))
                .await?
                .map_err(wasmtime::Error::new)
        };
        Ok(&self.second.get_or_try_init(make).await?.guest)
    }
}

impl Pool {
    /// A pool for so many cells, and texts of TypeScript that are read beside them.
    fn new(cells: u32, readers: u32, cache_dir: Option<&Path>) -> Result<Self, EngineError> {
        let (engine, is_pooled) = create(cells, readers)?;
        let component = cache::load_or_compile(&engine, cache_dir, GUEST)?;
        let mut linker = Linker::new(&engine);
        let guest = link(&mut linker)
            .and_then(|()| linker.instantiate_pre(&component))
            .and_then(CellPre::new)
            .map_err(|error| EngineError::Setup(format!("{error:#}")))?;
        Ok(Self { guest, is_pooled })
    }
}

/// Tries the pool, then does without.
fn create(cells: u32, readers: u32) -> Result<(wasmtime::Engine, bool), EngineError> {
    let mut wasm = base_config();
    wasm.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
        cells.saturating_add(readers),
    )));
    match wasmtime::Engine::new(&wasm) {
        Ok(engine) => Ok((engine, true)),
        Err(error) => {
            tracing::warn!(
                "no address space for a pool of {} sandboxes, so each is allocated on demand: \
                 {error:#}",
                cells
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
        .generate_address_map(false)
        .native_unwind_info(false)
        // What the guest does not need is not there.
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false);
    config
}

fn pool(sandboxes: u32) -> PoolingAllocationConfig {
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
