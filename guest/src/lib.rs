//! The guest: one JavaScript program in `QuickJS`, behind the WIT world `cell`.
//!
//! `execute` starts the program, `wait` delivers what happened outside; both
//! run until `QuickJS` is idle and return the step reached. Nothing here blocks,
//! and no import calls back, so between two calls the whole cell is linear memory.
//!
//! The file list is the map: [`cell`] is the life of the program, [`engine`] the
//! one place that calls `QuickJS` in C, [`globals`] what a program finds,
//! with one file for each kind of helper, [`intl`] the global `Intl`, [`park`] how the
//! memory leaves and comes back, and [`wasi`] what libc asks for.

mod calls;
mod cell;
mod engine;
mod error_text;
mod globals;
mod hint;
mod intl;
mod json;
mod media;
mod park;
#[cfg(feature = "profile")]
mod profile;
mod state;
mod stored;
mod text;
mod timers;
mod value;
mod wasi;

#[allow(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    reason = "generated from wit/code-mode.wit, which documents every item"
)]
mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "cell" });
    super::export_component!();
}

/// Exports [`Component`]; a macro because the generated `export!` lives with the bindings.
#[macro_export]
#[doc(hidden)]
macro_rules! export_component {
    () => {
        export!(Component with_types_in self);
        use super::Component;
    };
}

use bindings::cellblock::code_mode::types::{Event, ExecuteRequest, Step};

struct Component;

impl bindings::Guest for Component {
    fn execute(request: ExecuteRequest) -> Step {
        cell::execute(request)
    }

    fn wait(events: Vec<Event>) -> Step {
        cell::wait(events)
    }

    fn awaiting() -> Option<String> {
        cell::awaiting()
    }

    fn park() {
        park::park();
    }

    fn wake(pages: u32, random_seed: Option<u64>) {
        park::wake(pages, random_seed);
    }

    fn initialize() {
        cell::initialize();
    }
}
