//! What the guest remembers of its cell between calls from the engine.
//!
//! One value, borrowed for the length of an access and never across a call into
//! JavaScript, which may call any helper and with it borrow again.

use crate::bindings::cellblock::code_mode::types::{GuestLimits, Limit};
use crate::calls::Calls;
use crate::stored::Stored;
use crate::timers::Timers;
use std::cell::RefCell;

/// Why the program must not run on. Once set it stays: helpers refuse, and the
/// interrupt handler unwinds whatever still runs.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// `exit()` was called.
    Exit,
    /// A limit that does not throw was reached.
    Limit(Limit),
    /// The cell failed outside the main module: a timer callback threw, or the
    /// host broke the contract.
    Failed(String),
}

/// The cell's state; see the module documentation.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) stop: Option<Stop>,
    /// Frames of the line that ran into a limit.
    pub(crate) stop_stack: String,
    pub(crate) calls: Calls,
    pub(crate) timers: Timers,
    pub(crate) stored: Stored,
    /// State of `Math.random`.
    pub(crate) random: u64,
    /// Names of the tools, for `ALL_TOOLS` and hints.
    pub(crate) tool_names: Vec<String>,
    /// The program, for hints.
    pub(crate) source: String,
    /// The program has printed, notified or stored something.
    pub(crate) said: bool,
    /// Bytes of text that it has printed.
    pub(crate) printed: u64,
    /// The main module is being linked: an import now is a static one.
    pub(crate) linking: bool,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Reads or changes the state. `access` must not run JavaScript.
pub(crate) fn with<R>(access: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(access)
}

/// Notes why the program must stop; the first reason stays.
pub(crate) fn stop(reason: Stop) {
    with(|state| {
        state.stop.get_or_insert(reason);
    });
}

/// Takes over the limits that the guest enforces itself.
pub(crate) fn set_limits(limits: &GuestLimits) {
    with(|state| {
        state.timers.set_limit(limits.timers as usize);
        state.stored.set_limits(limits.stored_bytes, limits.stored_keys);
    });
}

/// Notes that the program has printed, notified or stored something.
pub(crate) fn note_said() {
    with(|state| state.said = true);
}
