//! Pre-initialises the component: runs `initialize` and keeps the memory it leaves.
//!
//! The runtime, its context and the global scope are then part of the component,
//! and a new cell starts with them built. Every import traps meanwhile, so
//! nothing of the build machine (clock, randomness) can be baked in.

use anyhow::{Context, Result, anyhow};
use std::future::Future;
use std::pin::pin;
use std::task::{Poll, Waker};
use wasmtime::component::{Component, Instance, Lift, Linker, WasmList};
use wasmtime::{Config, Engine, Store};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

/// The export that builds the state to keep.
const INITIALIZE: &str = "initialize";

/// Returns the component with its initialised memory.
pub fn snapshot(component: &[u8]) -> Result<Vec<u8>> {
    ready(initialised(component)).map_err(|error| anyhow!("{error:?}"))
}

async fn initialised(wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
    let mut wizer = Wizer::new();
    wizer.init_func(INITIALIZE).keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(wasm)?;

    let mut config = Config::new();
    config.concurrency_support(false);
    let engine = Engine::new(&config)?;
    let component = Component::new(&engine, instrumented)?;
    let mut linker = Linker::<()>::new(&engine);
    linker.define_unknown_imports_as_traps(&component)?;
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &component)?;
    let initialize = instance.get_typed_func::<(), ()>(&mut store, INITIALIZE)?;
    initialize.call(&mut store, ())?;
    wizer.snapshot_component(&context, &mut State { store, instance }).await
}

/// What the snapshot reads its state through.
struct State {
    store: Store<()>,
    instance: Instance,
}

impl State {
    fn call<R: Lift + 'static>(&mut self, instance: &str, name: &str) -> R {
        let read = |state: &mut Self| -> Option<R> {
            let owner = state.instance.get_export_index(&mut state.store, None, instance)?;
            let function = state.instance.get_export_index(&mut state.store, Some(&owner), name)?;
            let function =
                state.instance.get_typed_func::<(), (R,)>(&mut state.store, function).ok()?;
            Some(function.call(&mut state.store, ()).ok()?.0)
        };
        // The trait leaves no room for an error, and the function is the snapshot's own.
        read(self).expect("an accessor that the instrumentation added")
    }
}

impl ComponentInstanceState for State {
    async fn call_func_ret_list_u8(
        &mut self,
        instance: &str,
        func: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        let list: WasmList<u8> = self.call(instance, func);
        contents(list.as_le_slice(&self.store));
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.call(instance, func)
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.call(instance, func)
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.call::<f32>(instance, func).to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.call::<f64>(instance, func).to_bits()
    }
}

/// Runs a future that never waits.
fn ready<T>(future: impl Future<Output = wasmtime::Result<T>>) -> Result<T> {
    let mut context = std::task::Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => result.map_err(|error| anyhow!("{error:?}")),
        Poll::Pending => Err(anyhow!("the snapshot waited for something")).context("a bug"),
    }
}
