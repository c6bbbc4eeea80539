//! Strings, numbers and properties. Strings that leave the engine are UTF-8 with
//! every lone surrogate replaced by U+FFFD.

use super::Thrown;
use crate::globals::Returned;
use crate::json;
use rquickjs::{Ctx, Object, Value, qjs};
use std::ffi::{CStr, CString, c_int};

unsafe extern "C" {
    /// The first UTF-16 units of a string, see `quickjs/bounded-text.h`.
    fn cellblock_head(raw: *mut qjs::JSContext, string: qjs::JSValue, length: u32) -> qjs::JSValue;
}

/// `String(value)`, but a symbol throws.
pub(crate) fn string_of<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<String, Thrown<'js>> {
    let mut length = 0;
    // SAFETY: the value is alive; the engine gives `length` bytes or null.
    unsafe {
        let start =
            qjs::JS_ToCStringLen2(ctx.as_raw().as_ptr(), &raw mut length, value.as_raw(), false);
        if start.is_null() {
            return Err(Thrown::caught(ctx));
        }
        let bytes = std::slice::from_raw_parts(start.cast::<u8>(), length as usize);
        let text = scalar_text(bytes);
        qjs::JS_FreeCString(ctx.as_raw().as_ptr(), start);
        Ok(text)
    }
}

/// Hands over the bytes of a string in UTF-8, in which lone surrogates are encoded, too;
/// those of ASCII are not copied.
pub(crate) fn with_bytes<'js, T>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
    read: impl FnOnce(&[u8]) -> T,
) -> Result<T, Thrown<'js>> {
    let mut length = 0;
    // SAFETY: the value is alive; the engine gives `length` bytes or null, which stay
    // as they are until they are given back.
    unsafe {
        let raw = ctx.as_raw().as_ptr();
        let start = qjs::JS_ToCStringLen2(raw, &raw mut length, value.as_raw(), false);
        if start.is_null() {
            return Err(Thrown::caught(ctx));
        }
        let result = read(std::slice::from_raw_parts(start.cast::<u8>(), length as usize));
        qjs::JS_FreeCString(raw, start);
        Ok(result)
    }
}

/// `String(value)` as a value; a symbol throws.
pub(crate) fn to_string<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Returned<'js> {
    // SAFETY: the value is alive.
    owned(ctx, unsafe { qjs::JS_ToString(ctx.as_raw().as_ptr(), value.as_raw()) })
}

/// A `SyntaxError` with the stack of the moment.
pub(crate) fn syntax_error<'js>(ctx: &Ctx<'js>, message: &str) -> Thrown<'js> {
    let message = CString::new(message.replace('\0', "\u{FFFD}")).unwrap_or_default();
    // SAFETY: the format takes one C string.
    unsafe { qjs::JS_ThrowSyntaxError(ctx.as_raw().as_ptr(), c"%s".as_ptr(), message.as_ptr()) };
    Thrown::caught(ctx)
}

/// The beginning of `String(value)`, at most so many UTF-16 units; a symbol throws.
pub(crate) fn head_of<'js>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
    length: u32,
) -> Result<String, Thrown<'js>> {
    let string = to_string(ctx, value)?;
    // SAFETY: the string is alive.
    let head =
        owned(ctx, unsafe { cellblock_head(ctx.as_raw().as_ptr(), string.as_raw(), length) })?;
    string_of(ctx, &head)
}

/// `Number(value)`; symbols and big integers throw.
pub(crate) fn number_of<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<f64, Thrown<'js>> {
    let mut number = 0.0;
    // SAFETY: the value is alive; the engine writes one number.
    let failed =
        unsafe { qjs::JS_ToFloat64(ctx.as_raw().as_ptr(), &raw mut number, value.as_raw()) < 0 };
    if failed { Err(Thrown::caught(ctx)) } else { Ok(number) }
}

/// Evaluates a piece of JavaScript of the guest's own, whose frames no stack shows.
pub(crate) fn eval_built_in<'js>(ctx: &Ctx<'js>, source: String) -> Returned<'js> {
    let length = source.len();
    let source = nul_terminated(source);
    let flags = (qjs::JS_EVAL_TYPE_GLOBAL | qjs::JS_EVAL_FLAG_STRICT) as c_int;
    // SAFETY: the source ends with a NUL after `length` bytes, as the engine asks.
    let value = unsafe {
        qjs::JS_Eval(
            ctx.as_raw().as_ptr(),
            source.as_ptr().cast(),
            length as _,
            c"<built-in>".as_ptr(),
            flags,
        )
    };
    owned(ctx, value)
}

/// `JSON.parse(text)`, by the engine.
pub(crate) fn parse_json_slowly<'js>(ctx: &Ctx<'js>, text: CText<'_>) -> Returned<'js> {
    // SAFETY: the text ends with a NUL after its bytes, as the engine asks.
    let value = unsafe {
        qjs::JS_ParseJSON(
            ctx.as_raw().as_ptr(),
            text.0.as_ptr().cast(),
            text.0.len() as _,
            c"<input>".as_ptr(),
        )
    };
    owned(ctx, value)
}

/// `JSON.parse(json)`
pub(crate) fn parse_json<'js>(ctx: &Ctx<'js>, json: String) -> Returned<'js> {
    json::parse_text(ctx, &json).unwrap_or_else(|| {
        let length = json.len();
        let json = nul_terminated(json);
        parse_json_slowly(ctx, CText(&json[..length]))
    })
}

/// Bytes that a NUL follows.
#[derive(Clone, Copy)]
pub(crate) struct CText<'a>(&'a [u8]);

/// Hands over a string as UTF-8, if it has no lone surrogates, and as the engine has it.
pub(crate) fn with_utf8<'js, R>(
    ctx: &Ctx<'js>,
    string: &Value<'js>,
    take: impl FnOnce(Option<&str>, CText<'_>) -> R,
) -> Result<R, Thrown<'js>> {
    let mut length = 0;
    // SAFETY: the value is alive; the engine gives `length` bytes and a NUL, or null.
    unsafe {
        let raw = ctx.as_raw().as_ptr();
        let start = qjs::JS_ToCStringLen2(raw, &raw mut length, string.as_raw(), false);
        if start.is_null() {
            return Err(Thrown::caught(ctx));
        }
        let bytes = std::slice::from_raw_parts(start.cast::<u8>(), length as usize);
        let taken = take(std::str::from_utf8(bytes).ok(), CText(bytes));
        qjs::JS_FreeCString(raw, start);
        Ok(taken)
    }
}

/// A JavaScript string.
pub(crate) fn new_string<'js>(ctx: &Ctx<'js>, text: &str) -> Returned<'js> {
    // SAFETY: the engine copies `text.len()` bytes.
    let value = unsafe {
        qjs::JS_NewStringLen(ctx.as_raw().as_ptr(), text.as_ptr().cast(), text.len() as _)
    };
    owned(ctx, value)
}

/// The units of a string in UTF-16.
pub(crate) fn units_of<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<Vec<u16>, Thrown<'js>> {
    let mut length = 0;
    // SAFETY: the value is alive; the engine gives `length` units or null.
    unsafe {
        let raw = ctx.as_raw().as_ptr();
        let start = qjs::JS_ToCStringLenUTF16(raw, &raw mut length, value.as_raw());
        if start.is_null() {
            return Err(Thrown::caught(ctx));
        }
        let units = std::slice::from_raw_parts(start, length as usize).to_vec();
        qjs::JS_FreeCStringUTF16(raw, start);
        Ok(units)
    }
}

/// A JavaScript string of units of UTF-16.
pub(crate) fn new_string_of<'js>(ctx: &Ctx<'js>, units: &[u16]) -> Returned<'js> {
    // SAFETY: the engine copies `units.len()` units.
    let value =
        unsafe { qjs::JS_NewStringUTF16(ctx.as_raw().as_ptr(), units.as_ptr(), units.len() as _) };
    owned(ctx, value)
}

/// A member, read as a script would read it: getters and proxies run.
pub(crate) fn get<'js>(ctx: &Ctx<'js>, object: &Object<'js>, name: &CStr) -> Returned<'js> {
    // SAFETY: the object is alive and the name is a C string.
    let value =
        unsafe { qjs::JS_GetPropertyStr(ctx.as_raw().as_ptr(), object.as_raw(), name.as_ptr()) };
    owned(ctx, value)
}

/// Kinds of property that helpers define.
#[derive(Clone, Copy)]
pub(crate) enum Property {
    /// Writable, enumerable, configurable: what assignment makes.
    Plain,
    /// Writable and configurable: what built-ins are.
    Hidden,
}

/// Defines an own data property.
pub(crate) fn define<'js>(
    ctx: &Ctx<'js>,
    object: &Object<'js>,
    name: &str,
    value: &Value<'js>,
    property: Property,
) -> Result<(), Thrown<'js>> {
    let flags = match property {
        Property::Plain => qjs::JS_PROP_C_W_E,
        Property::Hidden => qjs::JS_PROP_WRITABLE | qjs::JS_PROP_CONFIGURABLE,
    };
    // SAFETY: object and value are alive; the definition takes one reference of
    // the value, and the atom is freed after its use.
    let defined = unsafe {
        let raw = ctx.as_raw().as_ptr();
        let atom = qjs::JS_NewAtomLen(raw, name.as_ptr().cast(), name.len() as _);
        let value = qjs::JS_DupValue(raw, value.as_raw());
        let defined =
            qjs::JS_DefinePropertyValue(raw, object.as_raw(), atom, value, flags as c_int);
        qjs::JS_FreeAtom(raw, atom);
        defined
    };
    if defined < 0 { Err(Thrown::caught(ctx)) } else { Ok(()) }
}

/// Defines an own accessor, enumerable or not, both ends helpers.
pub(crate) fn define_accessor<'js>(
    ctx: &Ctx<'js>,
    object: &Object<'js>,
    name: &str,
    getter: &Value<'js>,
    setter: &Value<'js>,
    property: Property,
) -> Result<(), Thrown<'js>> {
    let flags = match property {
        Property::Plain => qjs::JS_PROP_CONFIGURABLE | qjs::JS_PROP_ENUMERABLE,
        Property::Hidden => qjs::JS_PROP_CONFIGURABLE,
    };
    // SAFETY: as in `define`; the definition takes one reference of each end.
    let defined = unsafe {
        let raw = ctx.as_raw().as_ptr();
        let atom = qjs::JS_NewAtomLen(raw, name.as_ptr().cast(), name.len() as _);
        let getter = qjs::JS_DupValue(raw, getter.as_raw());
        let setter = qjs::JS_DupValue(raw, setter.as_raw());
        let defined = qjs::JS_DefinePropertyGetSet(
            raw,
            object.as_raw(),
            atom,
            getter,
            setter,
            flags as c_int,
        );
        qjs::JS_FreeAtom(raw, atom);
        defined
    };
    if defined < 0 { Err(Thrown::caught(ctx)) } else { Ok(()) }
}

/// Takes over a value that the engine returned, or the exception it stands for.
pub(super) fn owned<'js>(ctx: &Ctx<'js>, raw: qjs::JSValue) -> Returned<'js> {
    // SAFETY: the engine returned one reference, which the `Value` now holds.
    let value = unsafe { Value::from_raw(ctx.clone(), raw) };
    if value.is_exception() { Err(Thrown::caught(ctx)) } else { Ok(value) }
}

/// A second reference to a value that the engine lends.
///
/// # Safety
/// `raw` must be a live value of the context's runtime.
pub(super) unsafe fn borrowed<'js>(ctx: &Ctx<'js>, raw: qjs::JSValue) -> Value<'js> {
    // SAFETY: the caller's contract; the duplicate is what the `Value` frees.
    unsafe { Value::from_raw(ctx.clone(), qjs::JS_DupValue(ctx.as_raw().as_ptr(), raw)) }
}

pub(super) fn nul_terminated(text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    bytes.push(0);
    bytes
}

/// The engine's UTF-8, in which a lone surrogate is three bytes from `ED A0` on.
fn scalar_text(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Err(error) = std::str::from_utf8(rest) {
        let (valid, tail) = rest.split_at(error.valid_up_to());
        text.push_str(&String::from_utf8_lossy(valid));
        text.push(char::REPLACEMENT_CHARACTER);
        let surrogate = tail.first() == Some(&0xED) && tail.get(1).is_some_and(|b| *b >= 0xA0);
        rest = &tail[if surrogate { 3 } else { 1 }.min(tail.len())..];
    }
    text.push_str(&String::from_utf8_lossy(rest));
    text
}
