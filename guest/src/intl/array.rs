//! `toLocaleString` of arrays, which hands its arguments to every element.

use super::js::{Js, to_object, type_error};
use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use rquickjs::{Ctx, Value, qjs};
use std::cell::RefCell;

thread_local! {
    /// Arrays that are being written, outermost first: one inside itself is empty.
    static OPEN: RefCell<Vec<qjs::JSValue>> = const { RefCell::new(Vec::new()) };
}

/// `Array.prototype.toLocaleString(locales, options)`
pub(super) fn to_locale_string<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let array = to_object(ctx, args.this)?;
    let length = engine::number_of(ctx, &engine::get(ctx, &array, c"length")?)?;
    write(ctx, &array, length, args)
}

/// `TypedArray.prototype.toLocaleString(locales, options)`
pub(super) fn typed_to_locale_string<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    // SAFETY: the value is alive.
    let is_typed = unsafe { qjs::JS_GetTypedArrayType(args.this.as_raw()) } >= 0;
    let Some(array) = args.this.as_object().filter(|_| is_typed) else {
        return Err(type_error(ctx, "this is not a typed array."));
    };
    let length = engine::number_of(ctx, &engine::get(ctx, array, c"length")?)?;
    write(ctx, array, length, args)
}

fn write<'js>(
    ctx: &Ctx<'js>,
    array: &rquickjs::Object<'js>,
    length: f64,
    args: Args<'_, 'js>,
) -> Returned<'js> {
    // SAFETY: an array that is open is alive: the call that opened it holds it.
    let same = |open: &qjs::JSValue| unsafe {
        qjs::JS_IsStrictEqual(ctx.as_raw().as_ptr(), *open, array.as_raw())
    };
    if OPEN.with_borrow(|open| open.iter().any(same)) {
        return engine::new_string(ctx, "");
    }
    OPEN.with_borrow_mut(|open| open.push(array.as_raw()));
    let written = elements(ctx, array, length, args);
    OPEN.with_borrow_mut(Vec::pop);
    engine::new_string(ctx, &written?)
}

fn elements<'js>(
    ctx: &Ctx<'js>,
    array: &rquickjs::Object<'js>,
    length: f64,
    args: Args<'_, 'js>,
) -> Js<'js, String> {
    let undefined = Value::new_undefined(ctx.clone());
    let passed: Vec<_> = (0..2).map(|at| args.get(at).unwrap_or(&undefined).clone()).collect();
    let length = if length.is_nan() { 0 } else { length.clamp(0.0, f64::from(u32::MAX)) as u32 };
    let mut out = String::new();
    for at in 0..length {
        if engine::must_stop() {
            return Err(Thrown::Exit);
        }
        if at > 0 {
            out.push(',');
        }
        let element: Value<'js> = array.get(at).map_err(|_| Thrown::caught(ctx))?;
        if element.is_undefined() || element.is_null() {
            continue;
        }
        let method = engine::get(ctx, &to_object(ctx, &element)?, c"toLocaleString")?;
        let Some(method) = method.into_function() else {
            return Err(type_error(ctx, "toLocaleString is not a function"));
        };
        out += &engine::string_of(ctx, &engine::call_with(ctx, &method, &element, &passed)?)?;
    }
    Ok(out)
}
