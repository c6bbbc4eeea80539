//! The guest component alone, driven by a scripted host: what a rebuilt guest must
//! do, whatever host it meets.

use crate::repository;
use cellblock::code_mode::{clock, output, park, stored_values, tools, types, watch};
use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, Store};

pub use cellblock::code_mode::types::{
    CallEnd, Event, ExecuteRequest, Finished, GuestLimits, Limit, Outcome, ProgramValue, Step,
    ValueRequest,
};

#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated from wit/code-mode.wit"
)]
mod generated {
    wasmtime::component::bindgen!({ path: "../wit", world: "cell" });
}
use generated::{Cell, cellblock};

/// Nanoseconds on the scripted clock when a cell starts.
pub const START: u64 = 1_000_000_000;

/// What the guest did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// Emitted a text.
    Text(String),
    /// Emitted something else.
    Media(String),
    /// Notified.
    Notify(String),
    /// Asked for a yield.
    Yield,
    /// Called a tool: number, index, input.
    Call(u64, u32, Option<String>),
    /// Asked for the tools' descriptions.
    Descriptions,
}

/// The scripted host.
#[derive(Debug, Default)]
pub struct Script {
    /// What the guest did.
    pub did: Vec<Did>,
    /// Time on both clocks, in nanoseconds.
    pub now: u64,
    /// Values stored by earlier cells.
    pub stored: HashMap<String, String>,
    /// What `poll` answers.
    pub limit: Option<Limit>,
    /// What the next import that can refuse answers.
    pub refusal: Option<Limit>,
    /// What is asked for of the program's value.
    pub value: Option<ValueRequest>,
}

impl Script {
    fn do_or_refuse(&mut self, did: Did) -> Result<(), Limit> {
        if let Some(limit) = self.refusal {
            return Err(limit);
        }
        self.did.push(did);
        Ok(())
    }
}

impl types::Host for Script {}

impl tools::Host for Script {
    fn call(&mut self, id: u64, tool: u32, input: Option<String>) -> Result<(), Limit> {
        self.do_or_refuse(Did::Call(id, tool, input))
    }

    fn descriptions(&mut self) -> Vec<String> {
        self.did.push(Did::Descriptions);
        vec!["first".to_owned(), "second".to_owned()]
    }
}

impl output::Host for Script {
    fn emit(&mut self, item: output::ContentItem) -> Result<(), Limit> {
        self.do_or_refuse(match item {
            output::ContentItem::Text(text) => Did::Text(text),
            output::ContentItem::Image(image) => Did::Media(image.url),
            output::ContentItem::Audio(url) => Did::Media(url),
        })
    }

    fn notify(&mut self, text: String) -> Result<(), Limit> {
        self.do_or_refuse(Did::Notify(text))
    }

    fn yield_control(&mut self) {
        self.did.push(Did::Yield);
    }
}

impl stored_values::Host for Script {
    fn get(&mut self, key: String) -> Option<String> {
        self.stored.get(&key).cloned()
    }
}

impl clock::Host for Script {
    fn wall(&mut self) -> u64 {
        self.now
    }

    fn monotonic(&mut self) -> u64 {
        self.now
    }
}

impl watch::Host for Script {
    fn poll(&mut self) -> Option<Limit> {
        self.limit
    }
}

/// It parks nothing: what the guest shows is not kept.
impl park::Host for Script {
    fn image(&mut self, _address: u32, _memory: Vec<u8>) {}

    fn next(&mut self) -> u64 {
        0
    }

    fn fill(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// A component that is ready to be instantiated.
pub struct Compiled {
    engine: Engine,
    component: Component,
}

impl Compiled {
    /// Compiles a component.
    ///
    /// # Panics
    /// If the component is missing, or is not valid.
    pub fn read(path: &Path) -> Self {
        let mut config = Config::new();
        config.concurrency_support(false).max_wasm_stack(15 << 20);
        config.async_stack_size(16 << 20);
        let engine = Engine::new(&config).expect("an engine");
        let component = Component::from_file(&engine, path).expect("a component");
        Self { engine, component }
    }
}

/// A guest instance and its host.
pub struct Guest {
    store: Store<Script>,
    cell: Cell,
}

impl Guest {
    /// A fresh instance of the prebuilt component.
    ///
    /// # Panics
    /// If the component is missing, or it does not fit the WIT world.
    pub fn new() -> Self {
        Self::with(Script { now: START, ..Script::default() })
    }

    /// A fresh instance with a host of its own.
    ///
    /// # Panics
    /// As for [`Guest::new`].
    pub fn with(script: Script) -> Self {
        static COMPILED: OnceLock<Compiled> = OnceLock::new();
        let prebuilt = || Compiled::read(&repository("guest/prebuilt/cellblock-guest.wasm"));
        Self::of(COMPILED.get_or_init(prebuilt), script)
    }

    /// A fresh instance of another component.
    ///
    /// # Panics
    /// If the component does not fit the WIT world.
    pub fn of(compiled: &Compiled, script: Script) -> Self {
        let mut linker = Linker::new(&compiled.engine);
        Cell::add_to_linker::<_, HasSelf<Script>>(&mut linker, |script| script)
            .expect("every import is scripted");
        let mut store = Store::new(&compiled.engine, script);
        let cell =
            Cell::instantiate(&mut store, &compiled.component, &linker).expect("an instance");
        Self { store, cell }
    }

    /// Starts a program with the tools `first` and `second`.
    ///
    /// # Panics
    /// When the guest traps, which no program may bring about.
    pub fn execute(&mut self, source: &str) -> Step {
        let request = ExecuteRequest {
            source: source.to_owned(),
            shifts: Vec::new(),
            tools: vec!["first".to_owned(), "second".to_owned()],
            random_seed: 7,
            limits: GuestLimits {
                memory_bytes: 64 << 20,
                stack_bytes: 1 << 20,
                timers: 10,
                stored_bytes: 1 << 20,
                stored_keys: 100,
            },
            locale: None,
            time_zone: None,
            value: self.store.data().value.clone(),
        };
        self.cell.call_execute(&mut self.store, &request).expect("no trap")
    }

    /// Delivers a batch of events.
    ///
    /// # Panics
    /// As for [`Guest::execute`].
    pub fn wait(&mut self, events: &[Event]) -> Step {
        self.cell.call_wait(&mut self.store, events).expect("no trap")
    }

    /// The place of the top-level `await` at which the program is suspended.
    ///
    /// # Panics
    /// As for [`Guest::execute`].
    pub fn awaiting(&mut self) -> Option<String> {
        self.cell.call_awaiting(&mut self.store).expect("no trap")
    }

    /// The host, to look at or to change.
    pub fn script(&mut self) -> &mut Script {
        self.store.data_mut()
    }

    /// The texts emitted so far.
    pub fn texts(&self) -> Vec<String> {
        let text = |did: &Did| match did {
            Did::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.store.data().did.iter().filter_map(text).collect()
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}
