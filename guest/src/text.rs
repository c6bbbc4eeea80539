//! Values as text: `text`, `notify`, and the JSON that leaves the guest.

use crate::bindings::cellblock::code_mode::output::{self, ContentItem};
use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use crate::json;
use crate::state;
use rquickjs::{Ctx, Type, Value};

/// `text(value)`
pub(crate) fn text<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let text = display(ctx, args.first())?;
    let bytes = text.len() as u64;
    output::emit(&ContentItem::Text(text)).map_err(Thrown::Limit)?;
    state::note_said();
    state::with(|state| state.printed += bytes);
    Ok(Value::new_undefined(ctx.clone()))
}

/// `notify(value)`
pub(crate) fn notify<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let text = display(ctx, args.first())?;
    if text.trim().is_empty() {
        return Err(Thrown::text("notify expects non-empty text"));
    }
    output::notify(&text).map_err(Thrown::Limit)?;
    state::note_said();
    Ok(Value::new_undefined(ctx.clone()))
}

/// A value as `text` shows it: primitives as `String(value)`, the rest as JSON;
/// `undefined` where JSON cannot express it.
pub(crate) fn display<'js>(
    ctx: &Ctx<'js>,
    value: Option<&Value<'js>>,
) -> Result<String, Thrown<'js>> {
    let Some(value) = value else {
        return Ok("undefined".to_owned());
    };
    match value.type_of() {
        Type::Undefined
        | Type::Null
        | Type::Bool
        | Type::Int
        | Type::Float
        | Type::BigInt
        | Type::String => engine::string_of(ctx, value),
        _ => Ok(stringify(ctx, value)?.unwrap_or_else(|| "undefined".to_owned())),
    }
}

/// A value as JSON for the host: what `JSON.stringify` gives, refused where the
/// host's parser would refuse it.
pub(crate) fn json_text<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<String, Thrown<'js>> {
    let json = stringify(ctx, value)?.ok_or_else(|| refused("expected value", 1))?;
    check(&json)?;
    Ok(json)
}

/// `JSON.stringify(value)`, untouched by what the script did to `JSON`. What it
/// throws becomes a string.
fn stringify<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<Option<String>, Thrown<'js>> {
    json::to_text(ctx, value).map_err(|thrown| match thrown {
        Thrown::Value(exception) => Thrown::as_text(ctx, &exception),
        other => other,
    })
}

/// Nesting that the contract's JSON parser accepts (serde_json's limit).
const MAX_DEPTH: usize = 127;

/// Refuses lone surrogates and deep nesting. `JSON.stringify` escapes exactly
/// the lone surrogates as `\udXXX`, so one pass over the bytes finds both.
fn check<'js>(json: &str) -> Result<(), Thrown<'js>> {
    let bytes = json.as_bytes();
    let (mut at, mut depth, mut in_string) = (0, 0_usize, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                if bytes[at + 1] == b'u' && matches!(bytes[at + 2], b'd' | b'D') {
                    let what = if bytes[at + 3] < b'c' {
                        "unexpected end of hex escape"
                    } else {
                        "lone leading surrogate in hex escape"
                    };
                    return Err(refused(what, at + 7));
                }
                at += 1;
            }
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(refused("recursion limit exceeded", at + 1));
                }
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn refused<'js>(what: &str, column: usize) -> Thrown<'js> {
    Thrown::text(format!("failed to serialize JavaScript value: {what} at line 1 column {column}"))
}
