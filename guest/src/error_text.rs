//! Errors as text: what a program that fails is reported with. Stacks are the engine's
//! own, which `quickjs/edits` lays out as V8 does.

use crate::engine::{self, Thrown};
use rquickjs::{Ctx, Value};

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
    let Some(object) = error.as_object() else { return String::new() };
    let stack = engine::get(ctx, object, c"stack").and_then(|stack| {
        if stack.is_string() {
            engine::head_of(ctx, &stack, MAX_BYTES as u32)
        } else {
            Ok(String::new())
        }
    });
    let stack = stack.unwrap_or_default();
    stack.find("\n    at ").map_or_else(String::new, |at| stack[at + 1..].to_owned())
}
