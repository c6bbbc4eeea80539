//! Reads TypeScript: a component of its own makes JavaScript of it.
//!
//! A parser reads hostile text. So it runs as the programs do, in a sandbox with fuel and
//! memory limits, and its imports are none at all. Each text has a fresh instance, which
//! is dropped after it.

use super::cache;
use super::engine::EngineError;
use super::sandbox::SLICE_FUEL;
use std::path::PathBuf;
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::component::Linker;
use wasmtime::{ResourceLimiter, Store, Trap};

mod bindings {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        reason = "generated from wit/typescript, which documents every item"
    )]

    wasmtime::component::bindgen!({
        path: "wit/typescript",
        world: "typescript",
        exports: { default: async },
    });
}

pub(super) use bindings::{Program, Refusal, Shift};

/// The component, as `cargo xtask typescript` built it.
pub(super) const COMPONENT: cache::Code = cache::Code {
    kind: "typescript",
    wasm: include_bytes!("../../prebuilt/cellblock-typescript.wasm"),
    hash: cache::component_hash(include_str!("../../prebuilt/typescript-manifest.json")),
};

/// Texts that are read at one time; further ones wait. The pool has room for them beside
/// the cells.
pub(super) const READERS: u32 = 16;

/// Fuel for one text. One of 2 KB takes a five-thousandth of it.
const FUEL: u64 = 4_000_000_000;

/// Bytes of memory for one text, its stack of eight mebibytes included.
const MEMORY_BYTES: usize = 64 << 20;

/// Elements that a table may have: the component's functions.
const TABLE_ELEMENTS: usize = 20_000;

/// Why there is no JavaScript of a text.
#[derive(Debug)]
pub(super) enum Unread {
    /// The text is not TypeScript.
    Refused(Refusal),
    /// The fuel that was granted is used up.
    OutOfFuel,
    /// The text nests too deeply, or takes too much to read.
    TooMuch,
    /// The component cannot be used on this machine.
    Broken(String),
}

/// What reading a text has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) fuel: u64,
    pub(super) memory_bytes: usize,
}

/// Reads TypeScript on an engine.
pub(super) struct TypeScript {
    /// Compiled when it is first used.
    component: OnceCell<Result<bindings::TypescriptPre<Memory>, EngineError>>,
    readers: Semaphore,
    cache_dir: Option<PathBuf>,
}

/// The memory of an instance.
#[derive(Debug, Default)]
struct Memory {
    bytes: usize,
    refused: bool,
}

impl TypeScript {
    pub(super) fn new(cache_dir: Option<PathBuf>) -> Self {
        let readers = Semaphore::new(READERS as usize);
        Self { component: OnceCell::new(), readers, cache_dir }
    }

    /// The JavaScript of a text, with at most so much fuel, and what it has cost.
    pub(super) async fn javascript(
        &self,
        engine: &wasmtime::Engine,
        source: &str,
        fuel: u64,
    ) -> (Result<Program, Unread>, Cost) {
        let component = match self.component(engine).await {
            Ok(component) => component,
            Err(error) => return (Err(Unread::Broken(error.to_string())), Cost::default()),
        };
        // Never closed.
        let _place = self.readers.acquire().await;
        let granted = fuel.min(FUEL);
        let mut store = Store::new(engine, Memory::default());
        store.limiter(|memory| memory);
        let read = async {
            store.set_fuel(granted)?;
            store.fuel_async_yield_interval(Some(SLICE_FUEL))?;
            let instance = component.instantiate_async(&mut store).await?;
            instance.call_strip(&mut store, source).await
        };
        let read: wasmtime::Result<_> = read.await;
        let fuel_used = granted - store.get_fuel().unwrap_or(0);
        let cost = Cost { fuel: fuel_used, memory_bytes: store.data().bytes };
        let program = match read {
            Ok(Ok(program)) => Ok(program),
            Ok(Err(refusal)) => Err(Unread::Refused(refusal)),
            Err(error) => Err(match error.downcast_ref::<Trap>() {
                Some(Trap::OutOfFuel) if granted == fuel => Unread::OutOfFuel,
                // A stack that is used up reaches below the memory.
                Some(Trap::OutOfFuel | Trap::StackOverflow | Trap::MemoryOutOfBounds) => {
                    Unread::TooMuch
                }
                _ if store.data().refused => Unread::TooMuch,
                _ => Unread::Broken(format!("{error:#}")),
            }),
        };
        (program, cost)
    }

    async fn component(
        &self,
        engine: &wasmtime::Engine,
    ) -> Result<&bindings::TypescriptPre<Memory>, EngineError> {
        let load = || async {
            let (engine, dir) = (engine.clone(), self.cache_dir.clone());
            // Compiling takes a second on every core there is.
            let load = tokio::task::spawn_blocking(move || {
                let component = cache::load_or_compile(&engine, dir.as_deref(), COMPONENT)?;
                // An import that the component does not have cannot be linked.
                Linker::new(&engine)
                    .instantiate_pre(&component)
                    .and_then(bindings::TypescriptPre::new)
                    .map_err(|error| EngineError::Setup(format!("{error:#}")))
            });
            load.await.unwrap_or_else(|error| Err(EngineError::Setup(error.to_string())))
        };
        self.component.get_or_init(load).await.as_ref().map_err(Clone::clone)
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grows = desired <= MEMORY_BYTES;
        if grows {
            self.bytes = desired;
        } else {
            self.refused = true;
        }
        Ok(grows)
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
