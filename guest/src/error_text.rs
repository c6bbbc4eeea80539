//! Errors as text: what a program that fails is reported with, and what its own
//! `error.stack` says. The layout is V8's, which programs and models expect:
//! `Name: message`, then one frame a line, `    at f (exec_main.mjs:L:C)`. Places
//! are moved to where V8 sees them, see [`crate::source`].

use crate::engine::{self, Property, Thrown};
use crate::globals::{Args, Returned};
use crate::source;
use rquickjs::{Ctx, Function, Object, Persistent, Value};
use std::cell::RefCell;

thread_local! {
    /// The engine's own `stack` getter and `captureStackTrace`.
    static ENGINE: RefCell<Option<[Persistent<Function<'static>>; 2]>> = const { RefCell::new(None) };
}

/// Puts V8's layout in front of the engine's own stacks.
pub(crate) fn install<'js>(
    ctx: &Ctx<'js>,
    getter: &Value<'js>,
    setter: &Value<'js>,
    capture: &Value<'js>,
) -> Result<(), Thrown<'js>> {
    let error = object(engine::get(ctx, &ctx.globals(), c"Error")?)?;
    let prototype = object(engine::get(ctx, &error, c"prototype")?)?;
    let original = engine_getter(ctx, &prototype)?;
    let captures = engine::get(ctx, &error, c"captureStackTrace")?;
    let captures = captures.into_function().ok_or_else(|| Thrown::text("no captureStackTrace"))?;
    ENGINE.set(Some([Persistent::save(ctx, original), Persistent::save(ctx, captures)]));
    engine::define_accessor(ctx, &prototype, "stack", getter, setter, Property::Hidden)?;
    engine::define(ctx, &error, "captureStackTrace", capture, Property::Hidden)
}

fn engine_getter<'js>(
    ctx: &Ctx<'js>,
    prototype: &Object<'js>,
) -> Result<Function<'js>, Thrown<'js>> {
    let object_constructor = object(engine::get(ctx, &ctx.globals(), c"Object")?)?;
    let describe = engine::get(ctx, &object_constructor, c"getOwnPropertyDescriptor")?
        .into_function()
        .ok_or_else(|| Thrown::text("no getOwnPropertyDescriptor"))?;
    let name = engine::new_string(ctx, "stack")?;
    let undefined = Value::new_undefined(ctx.clone());
    let descriptor =
        engine::call_with(ctx, &describe, &undefined, &[prototype.as_value().clone(), name])?;
    engine::get(ctx, &object(descriptor)?, c"get")?
        .into_function()
        .ok_or_else(|| Thrown::text("no stack getter"))
}

fn object<'js>(value: Value<'js>) -> Result<Object<'js>, Thrown<'js>> {
    value.into_object().ok_or_else(|| Thrown::text("not an object"))
}

/// `get Error.prototype.stack`
pub(crate) fn get_stack<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let Some(error) = args.this.as_object() else {
        return Ok(Value::new_undefined(ctx.clone()));
    };
    let Some(frames) = engine_frames(ctx, args.this) else {
        // What `Error.prepareStackTrace` made, or nothing.
        return engine_stack(ctx, args.this);
    };
    let (header, frames) = pointed(header(ctx, error), frames);
    engine::new_string(ctx, &join(&header, &frames))
}

/// Points where V8 points: it names what was called and is no function, and a
/// member of nothing at the member's name.
fn pointed(header: String, frames: String) -> (String, String) {
    let first = frames.lines().next().unwrap_or_default();
    let place = first.trim_end_matches(')').rsplit(['(', ' ']).next().unwrap_or_default();
    if let Some((kind, "not a function")) = header.split_once(": ") {
        if let Some(callee) = source::callee(place) {
            return (format!("{kind}: {callee} is not a function"), frames);
        }
    } else if let Some((_, member)) = header.split_once(" (reading '")
        && let Some(moved) = source::member(place, member.trim_end_matches("')"))
    {
        let frames = frames.replacen(place, &moved, 1);
        return (header, frames);
    }
    (header, frames)
}

/// `set Error.prototype.stack`: an own property like any other, as in V8.
pub(crate) fn set_stack<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    if let (Some(error), Some(value)) = (args.this.as_object(), args.first()) {
        engine::define(ctx, error, "stack", value, Property::Hidden)?;
    }
    Ok(Value::new_undefined(ctx.clone()))
}

/// `Error.captureStackTrace(object, above)`
pub(crate) fn capture<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let Some(original) = engine_function(ctx, 1) else {
        return Ok(Value::new_undefined(ctx.clone()));
    };
    engine::call_with(ctx, &original, args.this, args.values)?;
    if let Some(target) = args.first().and_then(Value::as_object) {
        let captured = engine::get(ctx, target, c"stack")?;
        if captured.is_string() {
            let frames = layout(&engine::string_of(ctx, &captured)?, None);
            let text = engine::new_string(ctx, &join(&header(ctx, target), &frames))?;
            engine::define(ctx, target, "stack", &text, Property::Hidden)?;
        }
    }
    Ok(Value::new_undefined(ctx.clone()))
}

/// Longest text of an error, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Ends a text that was longer.
const CUT: &str = "... [cut: this error's text is longer than 64 KiB]";

/// The contract's `error_text` of a thrown value: its `stack` where that is a
/// string, else `String(value)`, empty where that throws. What a script does
/// meanwhile may meet a limit or call `exit()`; that is the error then.
pub(crate) fn exception_text<'js>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
) -> Result<String, Thrown<'js>> {
    let stack = match value.as_object() {
        Some(object) => Thrown::passed_over(engine::get(ctx, object, c"stack"))?,
        None => None,
    };
    let shown = stack.filter(Value::is_string).unwrap_or_else(|| value.clone());
    let head = engine::head_of(ctx, &shown, MAX_BYTES as u32 + 1);
    Ok(bounded(Thrown::passed_over(head)?.unwrap_or_default()))
}

/// Cuts a text that is too long at a whole character, and says so.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_BYTES {
        text.truncate(text.floor_char_boundary(MAX_BYTES - CUT.len()));
        text.push_str(CUT);
    }
    text
}

/// The frames alone of an error of the engine.
pub(crate) fn frames_of<'js>(ctx: &Ctx<'js>, error: &Value<'js>) -> String {
    engine_frames(ctx, error).unwrap_or_default()
}

/// `Name: message`, as `Error.prototype.toString` says it.
fn header<'js>(ctx: &Ctx<'js>, error: &Object<'js>) -> String {
    let member = |name, default: &str| match engine::get(ctx, error, name) {
        Ok(value) if !value.is_undefined() => {
            engine::string_of(ctx, &value).unwrap_or_else(|_| default.to_owned())
        }
        _ => default.to_owned(),
    };
    let (name, message) = (member(c"name", "Error"), member(c"message", ""));
    match (name.is_empty(), message.is_empty()) {
        (true, _) => message,
        (_, true) => name,
        _ => format!("{name}: {message}"),
    }
}

fn join(header: &str, frames: &str) -> String {
    if frames.is_empty() { header.to_owned() } else { format!("{header}\n{frames}") }
}

fn engine_function<'js>(ctx: &Ctx<'js>, at: usize) -> Option<Function<'js>> {
    let saved = ENGINE.with_borrow(|saved| saved.as_ref().map(|saved| saved[at].clone()))?;
    saved.restore(ctx).ok()
}

/// The stack as the engine keeps it.
fn engine_stack<'js>(ctx: &Ctx<'js>, error: &Value<'js>) -> Returned<'js> {
    match engine_function(ctx, 0) {
        Some(getter) => engine::call_with(ctx, &getter, error, &[]),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

/// The frames that the engine recorded, laid out like V8's.
fn engine_frames<'js>(ctx: &Ctx<'js>, error: &Value<'js>) -> Option<String> {
    let raw = engine_stack(ctx, error).ok()?;
    if !raw.is_string() {
        return None;
    }
    let raw = engine::string_of(ctx, &raw).ok()?;
    Some(layout(&raw, constructor_name(ctx, error).as_deref()))
}

/// The name of the error's class, whose constructor frames V8 leaves out.
fn constructor_name<'js>(ctx: &Ctx<'js>, error: &Value<'js>) -> Option<String> {
    let constructor = engine::get(ctx, error.as_object()?, c"constructor").ok()?;
    let name = engine::get(ctx, constructor.as_object()?, c"name").ok()?;
    if !name.is_string() {
        return None;
    }
    engine::string_of(ctx, &name).ok().filter(|name| !name.is_empty())
}

/// The engine writes `    at f (file:L:C)`, `<anonymous>` for a function without
/// a name and `native` for a place without a line.
fn layout(raw: &str, constructor: Option<&str>) -> String {
    let mut in_constructor = constructor.is_some();
    let mut lines = Vec::new();
    for line in raw.lines() {
        let frame = line.trim_start().strip_prefix("at ").unwrap_or(line);
        let (name, place) = match frame.strip_suffix(')').and_then(|frame| frame.rsplit_once(" ("))
        {
            Some((name, place)) => (name, place),
            None => ("", frame),
        };
        let name = if name == "<anonymous>" { "" } else { name };
        if in_constructor && !name.is_empty() && Some(name) == constructor {
            continue;
        }
        in_constructor = false;
        match (name, place) {
            ("", "native" | "missing") => {}
            ("", place) => lines.push(format!("    at {}", source::place(place))),
            (name, "native" | "missing") => lines.push(format!("    at {name} (<anonymous>)")),
            (name, place) => lines.push(format!("    at {name} ({})", source::place(place))),
        }
    }
    lines.join("\n")
}
