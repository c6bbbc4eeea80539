//! Nested tool calls: queued by the program, settled by the host's events.

use crate::bindings::cellblock::code_mode::{
    tools,
    types::{CallEnd, CallId},
};
use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use crate::state;
use crate::text::json_text;
use rquickjs::{Ctx, Function, Persistent};
use std::collections::BTreeMap;

/// Calls whose promises have not settled.
#[derive(Default)]
pub(crate) struct Calls {
    last: CallId,
    pending: BTreeMap<CallId, Settle>,
}

/// The two ends of a call's promise.
struct Settle {
    resolve: Persistent<Function<'static>>,
    reject: Persistent<Function<'static>>,
}

/// `tools.NAME(input)`
pub(crate) fn call<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>, tool: u32) -> Returned<'js> {
    let input = match args.first() {
        Some(value) if !value.is_undefined() => Some(json_text(ctx, value)?),
        _ => None,
    };
    let (promise, resolve, reject) = ctx.promise().map_err(|_| Thrown::caught(ctx))?;
    let id = state::with(|state| {
        state.calls.last += 1;
        state.calls.last
    });
    tools::call(id, tool, input.as_deref()).map_err(Thrown::Limit)?;
    let settle =
        Settle { resolve: Persistent::save(ctx, resolve), reject: Persistent::save(ctx, reject) };
    state::with(|state| state.calls.pending.insert(id, settle));
    Ok(promise.into_value())
}

/// Resolves a call's promise with parsed JSON.
pub(crate) fn succeeded(ctx: &Ctx<'_>, end: CallEnd) {
    let Some(settle) = take(end.id) else { return };
    match engine::parse_json(ctx, end.text) {
        Ok(value) => engine::call(ctx, settle.resolve, Some(&value)),
        Err(_) => engine::fail("failed to serialize tool response".to_owned()),
    }
}

/// Rejects a call's promise with the error's text, a string.
pub(crate) fn failed(ctx: &Ctx<'_>, end: &CallEnd) {
    let Some(settle) = take(end.id) else { return };
    match engine::new_string(ctx, &end.text) {
        Ok(text) => engine::call(ctx, settle.reject, Some(&text)),
        Err(_) => engine::fail("failed to serialize tool response".to_owned()),
    }
}

fn take(id: CallId) -> Option<Settle> {
    let settle = state::with(|state| state.calls.pending.remove(&id));
    if settle.is_none() {
        engine::fail(format!("unknown tool call `tool-{id}`"));
    }
    settle
}
