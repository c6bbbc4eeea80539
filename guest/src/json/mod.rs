//! `JSON.parse` and `JSON.stringify`: what programs spend most of their time with.
//!
//! The engine's own build a string for every key and a token for every value. Here
//! text becomes values and values become text in one pass, with keys looked up by
//! what they were the last time. What is rare is left to the engine, which then
//! decides: revivers, and texts nested beyond [`MAX_DEPTH`].

mod error;
mod open;
mod out;
mod parse;
mod runs;
mod style;
mod write;

use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use parse::Parser;
use rquickjs::{Array, Ctx, Function, Persistent, Value, qjs};
use std::cell::RefCell;
use style::Style;
use write::Writer;

/// Nesting of a text that is parsed here, so that no input can exhaust this code's stack.
const MAX_DEPTH: usize = 400;

/// Keys that are remembered, a power of two.
const KEYS: usize = 256;

/// Bytes of quoted keys that are remembered while one value is written.
const KEY_BYTES: usize = 64 << 10;

/// Classes of ordinary objects and of arrays, as the engine numbers them; checked by
/// [`check_classes`] when the guest is built.
const OBJECT: qjs::JSClassID = 1;
const ARRAY: qjs::JSClassID = 2;
const NUMBER: qjs::JSClassID = 4;
const STRING: qjs::JSClassID = 5;
const BOOLEAN: qjs::JSClassID = 6;
const BIG_INT: qjs::JSClassID = 35;
const RAW_JSON: qjs::JSClassID = 66;

thread_local! {
    /// The engine's own `JSON.parse`, for revivers.
    static PARSE: RefCell<Option<Persistent<Function<'static>>>> = const { RefCell::new(None) };
}

/// Panics unless the engine numbers its classes as this code expects.
pub(crate) fn check_classes<'js>(ctx: &Ctx<'js>) -> Result<(), Thrown<'js>> {
    let expected = [OBJECT, ARRAY, NUMBER, STRING, BOOLEAN, BIG_INT, RAW_JSON];
    let values: Array = ctx
        .eval("[{}, [], Object(1), Object(''), Object(true), Object(1n), JSON.rawJSON('1')]")
        .map_err(|_| Thrown::caught(ctx))?;
    for (at, class) in expected.into_iter().enumerate() {
        let value: Value = values.get(at).map_err(|_| Thrown::caught(ctx))?;
        // SAFETY: the value is alive.
        let found = unsafe { qjs::JS_GetClassID(value.as_raw()) };
        assert_eq!(found, class, "the engine numbers its classes otherwise");
    }
    Ok(())
}

/// Keeps the engine's own `JSON.parse`.
pub(crate) fn keep<'js>(ctx: &Ctx<'js>, parse: Function<'js>) {
    PARSE.set(Some(Persistent::save(ctx, parse)));
}

/// `JSON.parse(text, reviver)`
pub(crate) fn parse<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let undefined = Value::new_undefined(ctx.clone());
    let text = engine::to_string(ctx, args.first().unwrap_or(&undefined))?;
    let plain = args.get(1).is_none_or(|reviver| !reviver.is_function());
    let parsed = engine::with_utf8(ctx, &text, |utf8, value| {
        // Lone surrogates are the engine's to read.
        let Some(utf8) = utf8 else {
            return plain.then(|| engine::parse_json_slowly(ctx, value));
        };
        let parsed = if plain { parse_text(ctx, utf8) } else { None };
        parsed.or_else(|| match error::message(utf8) {
            Some(message) => Some(Err(engine::syntax_error(ctx, &message))),
            None if plain => Some(engine::parse_json_slowly(ctx, value)),
            None => None,
        })
    })?;
    parsed.unwrap_or_else(|| {
        let original = PARSE.with_borrow(Clone::clone);
        let original = original.and_then(|original| original.restore(ctx).ok());
        let original = original.ok_or_else(|| Thrown::text("JSON.parse is not there"))?;
        let arguments = [text.clone(), args.get(1).unwrap_or(&undefined).clone()];
        engine::call_with(ctx, &original, args.this, &arguments)
    })
}

/// `JSON.stringify(value, replacer, space)`
pub(crate) fn stringify<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let undefined = Value::new_undefined(ctx.clone());
    let given = |at: usize| args.get(at).filter(|value| !value.is_undefined());
    let value = args.first().unwrap_or(&undefined);
    let style =
        Style::new(ctx.as_raw().as_ptr(), given(1).map(Value::as_raw), given(2).map(Value::as_raw));
    match write(ctx, value, style.map_err(|_| Thrown::caught(ctx))?)? {
        Some(text) => engine::new_string(ctx, &text),
        None => Ok(undefined),
    }
}

/// The value of a JSON text; `None` when it is not valid, or
/// needs the engine's own parser.
pub(crate) fn parse_text<'js>(ctx: &Ctx<'js>, text: &str) -> Option<Returned<'js>> {
    let mut parser = Parser::new(ctx.as_raw().as_ptr(), text.as_bytes());
    let value = parser.document();
    drop(parser);
    match value {
        // SAFETY: the parser gives up its reference.
        Ok(value) => Some(Ok(unsafe { Value::from_raw(ctx.clone(), value) })),
        Err(Fail::Thrown) => Some(Err(Thrown::caught(ctx))),
        Err(Fail::Rejected) => None,
    }
}

/// A value as JSON text; `None` where that is `undefined`.
pub(crate) fn to_text<'js>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
) -> Result<Option<String>, Thrown<'js>> {
    write(ctx, value, Style::default())
}

fn write<'js>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
    style: Style,
) -> Result<Option<String>, Thrown<'js>> {
    let mut writer = Writer::new(ctx.as_raw().as_ptr(), style);
    let written = writer.value(value.as_raw());
    let out = writer.take();
    drop(writer);
    match written {
        // What is written is UTF-8: surrogates are escaped.
        Ok(true) => Ok(Some(String::from_utf8(out).unwrap_or_default())),
        Ok(false) => Ok(None),
        Err(Fail::Rejected | Fail::Thrown) => Err(Thrown::caught(ctx)),
    }
}

/// Why there is no value.
enum Fail {
    /// The engine is to look at it.
    Rejected,
    /// The engine holds an exception.
    Thrown,
}

/// A key that was seen: where its text is, and the engine's name for it.
#[derive(Clone, Copy, Default)]
struct Key {
    start: usize,
    length: usize,
    /// Zero is the engine's atom for nothing.
    atom: qjs::JSAtom,
}

/// One reference to a value, given back in the end.
struct Owned {
    raw: *mut qjs::JSContext,
    value: qjs::JSValue,
}

impl Owned {
    fn new(raw: *mut qjs::JSContext, value: qjs::JSValue) -> Result<Self, Fail> {
        // SAFETY: only looks at the tag.
        if unsafe { qjs::JS_IsException(value) } {
            return Err(Fail::Thrown);
        }
        Ok(Self { raw, value })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { qjs::JS_FreeValue(self.raw, self.value) }
    }
}
fn free_keys(raw: *mut qjs::JSContext, keys: &[Key]) {
    for key in keys.iter().filter(|key| key.atom != 0) {
        // SAFETY: the table's own reference.
        unsafe { qjs::JS_FreeAtom(raw, key.atom) }
    }
}
