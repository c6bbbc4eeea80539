//! `setTimeout` and `clearTimeout`. The host sleeps; the guest only knows what
//! is due when, on the host's monotonic clock.

use crate::bindings::cellblock::code_mode::{
    clock,
    types::{Limit, Timer, TimerId},
};
use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use crate::state;
use rquickjs::{Ctx, Function, Persistent, Value};
use std::collections::BTreeMap;

const NANOS_PER_MS: f64 = 1e6;
/// Longest delay, about 73 years: keeps `due` far from overflow.
const MAX_DELAY_MS: f64 = 2_305_843_009_213.0;

/// Pending timers, in the order they are due.
#[derive(Default)]
pub(crate) struct Timers {
    last: TimerId,
    /// Due time and id give the firing order; equal times fire in the order of `setTimeout`.
    queue: BTreeMap<(u64, TimerId), Persistent<Function<'static>>>,
    due: BTreeMap<TimerId, u64>,
    limit: usize,
}

impl Timers {
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The timer that is due next.
    pub(crate) fn next(&self) -> Option<Timer> {
        let (&(due, id), _) = self.queue.first_key_value()?;
        Some(Timer { id, due })
    }

    fn add(&mut self, due: u64, callback: Persistent<Function<'static>>) -> Result<TimerId, Limit> {
        if self.queue.len() >= self.limit {
            return Err(Limit::Timers);
        }
        self.last += 1;
        self.queue.insert((due, self.last), callback);
        self.due.insert(self.last, due);
        Ok(self.last)
    }

    /// Removes a timer, to clear it or to run it.
    pub(crate) fn take(&mut self, id: TimerId) -> Option<Persistent<Function<'static>>> {
        let due = self.due.remove(&id)?;
        self.queue.remove(&(due, id))
    }
}

/// `setTimeout(callback, delay)`
pub(crate) fn set_timeout<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let callback = args
        .first()
        .and_then(Value::as_function)
        .ok_or_else(|| Thrown::text("setTimeout expects a function callback"))?;
    let delay = match args.get(1) {
        Some(delay) => Thrown::passed_over(engine::number_of(ctx, delay))?.unwrap_or(0.0),
        None => 0.0,
    };
    let delay =
        if delay.is_finite() && delay > 0.0 { delay.trunc().min(MAX_DELAY_MS) } else { 0.0 };
    let due = clock::monotonic().saturating_add((delay * NANOS_PER_MS) as u64);
    let callback = Persistent::save(ctx, callback.clone());
    let id = state::with(|state| state.timers.add(due, callback)).map_err(Thrown::Limit)?;
    Ok(Value::new_number(ctx.clone(), id as f64))
}

/// `clearTimeout(id)`
pub(crate) fn clear_timeout<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let undefined = Value::new_undefined(ctx.clone());
    let id = match args.first() {
        None => return Ok(undefined),
        Some(id) if id.is_undefined() || id.is_null() => return Ok(undefined),
        Some(id) => engine::number_of(ctx, id)
            .map_err(|thrown| thrown.or_text("clearTimeout expects a numeric timeout id"))?,
    };
    if id >= 1.0 {
        // The callback is dropped outside the borrow: freeing it may run the engine.
        let callback = state::with(|state| state.timers.take(id.trunc() as TimerId));
        drop(callback);
    }
    Ok(undefined)
}
