//! Helpers as functions of the engine.

use super::thrown::throw;
use super::values::{borrowed, owned};
use super::{Thrown, must_stop};
use crate::globals::{Args, Returned};
use rquickjs::{Ctx, qjs};
use smallvec::SmallVec;
use std::ffi::{CStr, c_int};

/// The C function behind a family of helpers, told apart by `magic`.
pub(crate) type Native = unsafe extern "C" fn(
    *mut qjs::JSContext,
    qjs::JSValue,
    c_int,
    *mut qjs::JSValue,
    c_int,
) -> qjs::JSValue;

/// A helper: a function without name or length that is no constructor.
/// The engine keeps `magic` in sixteen bits.
pub(crate) fn new_function<'js>(ctx: &Ctx<'js>, native: Native, magic: i16) -> Returned<'js> {
    new_built_in(ctx, native, magic, c"", 0)
}

/// A helper that stands for a built-in, with its name and length.
pub(crate) fn new_built_in<'js>(
    ctx: &Ctx<'js>,
    native: Native,
    magic: i16,
    name: &CStr,
    length: c_int,
) -> Returned<'js> {
    // SAFETY: the engine calls a `generic_magic` function with the magic it was
    // created with, so the type it is passed as is the type it is called as.
    let value = unsafe {
        let native = std::mem::transmute::<Native, qjs::JSCFunction>(native);
        qjs::JS_NewCFunction2(
            ctx.as_raw().as_ptr(),
            native,
            name.as_ptr(),
            length,
            qjs::JSCFunctionEnum_JS_CFUNC_generic_magic,
            c_int::from(magic),
        )
    };
    owned(ctx, value)
}

/// Runs a helper for the engine: arguments in, value or exception out.
///
/// # Safety
/// The pointers must be those that the engine passes to a native function.
pub(crate) unsafe fn run_helper(
    raw: *mut qjs::JSContext,
    this: qjs::JSValue,
    count: c_int,
    values: *mut qjs::JSValue,
    helper: impl for<'a, 'js> FnOnce(&Ctx<'js>, Args<'a, 'js>) -> Returned<'js>,
) -> qjs::JSValue {
    let Some(raw) = std::ptr::NonNull::new(raw) else { core::arch::wasm32::unreachable() };
    // SAFETY: the engine passes a live context and `count` live values.
    let (ctx, this, arguments) = unsafe {
        let ctx = Ctx::from_raw(raw);
        let this = borrowed(&ctx, this);
        // Few enough for the stack: an allocation would cost as much as many a helper.
        let arguments: SmallVec<[_; 4]> =
            (0..count as usize).map(|at| borrowed(&ctx, *values.add(at))).collect();
        (ctx, this, arguments)
    };
    let returned = if must_stop() {
        Err(Thrown::Exit)
    } else {
        helper(&ctx, Args { this: &this, values: &arguments })
    };
    match returned {
        Ok(value) => {
            let result = value.as_raw();
            // The reference that `value` holds becomes the engine's.
            std::mem::forget(value);
            result
        }
        Err(thrown) => {
            throw(&ctx, thrown);
            qjs::JS_EXCEPTION
        }
    }
}
