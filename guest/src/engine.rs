//! The one place that speaks to `QuickJS` in C.
//!
//! Everything unsafe about the engine is here, and in `json` for the speed of it,
//! behind functions that take and give `rquickjs` values. Two rules hold throughout: strings that leave the
//! engine are UTF-8 with every lone surrogate replaced by U+FFFD, and an
//! exception that the engine marks uncatchable stays so on its way out.

use crate::bindings::cellblock::code_mode::types::Limit;
use crate::error_text::frames_of;
use crate::globals::{Args, Returned};
use crate::json;
use crate::state::{self, Stop};
use crate::wasi;
use rquickjs::{Context, Ctx, Function, Object, Persistent, Promise, Runtime, Value, qjs};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

/// Name of the main module, in stacks and messages.
pub(crate) const MODULE: &CStr = c"exec_main.mjs";

/// Set by the engine when it was refused memory, see `quickjs/wasm.h`.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the name is C's")]
static cellblock_out_of_memory: AtomicI32 = AtomicI32::new(0);

/// Whether the program must not run on. Memory that was refused is a reason too: an
/// engine that could not allocate may throw anything, and a script may catch it.
pub(crate) fn must_stop() -> bool {
    if cellblock_out_of_memory.load(Ordering::Relaxed) != 0 {
        state::stop(Stop::Limit(Limit::Memory));
    }
    state::with(|state| state.stop.is_some())
}

/// What a helper throws instead of returning.
#[derive(Debug)]
pub(crate) enum Thrown<'js> {
    /// A primitive string, as the contract's helpers throw.
    Text(String),
    /// A value thrown by JavaScript that the helper called.
    Value(Value<'js>),
    /// An exception that no script may catch, on its way out.
    Uncatchable(Value<'js>),
    /// The program ran into a limit and must end.
    Limit(Limit),
    /// The program asked to end.
    Exit,
}

impl<'js> Thrown<'js> {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Takes the exception that the engine holds.
    pub(crate) fn caught(ctx: &Ctx<'js>) -> Self {
        let exception = ctx.catch();
        if exception.is_uncatchable_error() {
            Self::Uncatchable(exception)
        } else {
            Self::Value(exception)
        }
    }

    /// Replaces what a script threw by a text of the helper's own.
    pub(crate) fn or_text(self, text: &str) -> Self {
        match self {
            Self::Value(_) => Self::text(text),
            other => other,
        }
    }
}

/// Creates the runtime and its context with every intrinsic.
pub(crate) fn new_runtime() -> (Runtime, Context) {
    let runtime = Runtime::new().expect("the build machine has memory for a runtime");
    runtime.set_interrupt_handler(Some(Box::new(interrupt)));
    let context = Context::full(&runtime).expect("the build machine has memory for a context");
    // SAFETY: the runtime is alive, and the callback keeps to the engine's rules for it.
    context.with(|ctx| unsafe {
        qjs::JS_SetModuleLoaderFunc(
            runtime_of(&ctx),
            Some(refuse_import),
            None,
            std::ptr::null_mut(),
        );
    });
    (runtime, context)
}

/// Tells the engine where the stack begins in this call, and how deep it may go.
pub(crate) fn enter(ctx: &Ctx<'_>, stack_bytes: Option<usize>) {
    // SAFETY: the runtime is alive.
    unsafe {
        qjs::JS_UpdateStackTop(runtime_of(ctx));
        if let Some(bytes) = stack_bytes {
            qjs::JS_SetMaxStackSize(runtime_of(ctx), bytes as _);
        }
    }
}

/// Compiles, links and starts the main module.
pub(crate) fn start_module<'js>(
    ctx: &Ctx<'js>,
    source: String,
) -> Result<Promise<'js>, Thrown<'js>> {
    let length = source.len();
    let source = nul_terminated(source);
    let flags = (qjs::JS_EVAL_TYPE_MODULE | qjs::JS_EVAL_FLAG_COMPILE_ONLY) as c_int;
    state::with(|state| state.linking = true);
    // SAFETY: `source` ends with a NUL after `length` bytes, as the engine asks.
    let module = unsafe {
        qjs::JS_Eval(
            ctx.as_raw().as_ptr(),
            source.as_ptr().cast(),
            length as _,
            MODULE.as_ptr(),
            flags,
        )
    };
    drop(source);
    let promise = owned(ctx, module).and_then(|module| {
        // SAFETY: `module` is a compiled module; `JS_EvalFunction` takes one reference.
        let promise = unsafe {
            let module = qjs::JS_DupValue(ctx.as_raw().as_ptr(), module.as_raw());
            qjs::JS_EvalFunction(ctx.as_raw().as_ptr(), module)
        };
        owned(ctx, promise)
    });
    state::with(|state| state.linking = false);
    promise?.into_promise().ok_or_else(|| Thrown::text("unknown code mode exception"))
}

/// Runs queued jobs until none is left or the program must stop.
pub(crate) fn run_jobs(ctx: &Ctx<'_>) {
    loop {
        let mut job_context = std::ptr::null_mut();
        // SAFETY: the runtime is alive; the engine writes one pointer.
        let ran = unsafe { qjs::JS_ExecutePendingJob(runtime_of(ctx), &raw mut job_context) };
        if ran < 0 {
            let thrown = Thrown::caught(ctx);
            note_stack(ctx, &thrown);
        }
        if ran == 0 || must_stop() {
            return;
        }
    }
}

/// Calls a function that returns nothing of interest and throws nothing of interest.
pub(crate) fn call<'js>(
    ctx: &Ctx<'js>,
    function: Persistent<Function<'static>>,
    argument: Option<&Value<'js>>,
) {
    let _ = call_throwing(ctx, function, argument);
}

/// Calls a function with `this` undefined.
pub(crate) fn call_throwing<'js>(
    ctx: &Ctx<'js>,
    function: Persistent<Function<'static>>,
    argument: Option<&Value<'js>>,
) -> Returned<'js> {
    let function = function.restore(ctx).map_err(|_| Thrown::caught(ctx))?;
    call_with(
        ctx,
        &function,
        &Value::new_undefined(ctx.clone()),
        argument.map_or(&[], std::slice::from_ref),
    )
}

/// Calls a function.
pub(crate) fn call_with<'js>(
    ctx: &Ctx<'js>,
    function: &Function<'js>,
    this: &Value<'js>,
    arguments: &[Value<'js>],
) -> Returned<'js> {
    let mut raw: Vec<_> = arguments.iter().map(Value::as_raw).collect();
    // SAFETY: every value is alive for the length of the call.
    let result = unsafe {
        qjs::JS_Call(
            ctx.as_raw().as_ptr(),
            function.as_raw(),
            this.as_raw(),
            raw.len() as c_int,
            raw.as_mut_ptr(),
        )
    };
    owned(ctx, result)
}

/// Keeps the stack of an exception that ended the program.
pub(crate) fn note_stack<'js>(ctx: &Ctx<'js>, thrown: &Thrown<'js>) {
    if let Thrown::Uncatchable(exception) | Thrown::Value(exception) = thrown {
        let frames = frames_of(ctx, exception);
        state::with(|state| {
            if state.stop_stack.is_empty() {
                state.stop_stack = frames;
            }
        });
    }
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

/// `Number(value)`; symbols and big integers throw.
pub(crate) fn number_of<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<f64, Thrown<'js>> {
    let mut number = 0.0;
    // SAFETY: the value is alive; the engine writes one number.
    let failed =
        unsafe { qjs::JS_ToFloat64(ctx.as_raw().as_ptr(), &raw mut number, value.as_raw()) < 0 };
    if failed { Err(Thrown::caught(ctx)) } else { Ok(number) }
}

/// `JSON.stringify(value, replacer, space)`, by the engine.
pub(crate) fn stringify_json_slowly<'js>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
    replacer: &Value<'js>,
    space: &Value<'js>,
) -> Returned<'js> {
    // SAFETY: the values are alive.
    let json = unsafe {
        qjs::JS_JSONStringify(
            ctx.as_raw().as_ptr(),
            value.as_raw(),
            replacer.as_raw(),
            space.as_raw(),
        )
    };
    owned(ctx, json)
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

/// Hands over a string as UTF-8, `""` where it has lone surrogates, and as the engine
/// has it.
pub(crate) fn with_utf8<'js, R>(
    ctx: &Ctx<'js>,
    string: &Value<'js>,
    take: impl FnOnce(&str, CText<'_>) -> R,
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
        let taken = take(std::str::from_utf8(bytes).unwrap_or_default(), CText(bytes));
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
        let arguments: Vec<_> =
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

fn throw<'js>(ctx: &Ctx<'js>, thrown: Thrown<'js>) {
    let value = match thrown {
        Thrown::Text(text) => match new_string(ctx, &text) {
            Ok(text) => text,
            // Out of memory: that exception is the one to throw.
            Err(Thrown::Value(value) | Thrown::Uncatchable(value)) => value,
            Err(_) => Value::new_null(ctx.clone()),
        },
        Thrown::Value(value) | Thrown::Uncatchable(value) => value,
        Thrown::Limit(limit) => {
            state::stop(Stop::Limit(limit));
            uncatchable(ctx)
        }
        Thrown::Exit => {
            state::stop(Stop::Exit);
            uncatchable(ctx)
        }
    };
    ctx.throw(value);
}

/// An error, with the stack of the moment, that unwinds through every `catch` and `finally`.
fn uncatchable<'js>(ctx: &Ctx<'js>) -> Value<'js> {
    // SAFETY: the format has no directives; the engine owns the exception until it is caught.
    unsafe {
        qjs::JS_ThrowInternalError(ctx.as_raw().as_ptr(), c"stopped".as_ptr());
        let exception = ctx.catch();
        qjs::JS_SetUncatchableError(ctx.as_raw().as_ptr(), exception.as_raw());
        exception
    }
}

/// Asked by the engine every ten thousand loop turns and calls: must the program stop?
fn interrupt() -> bool {
    use crate::bindings::cellblock::code_mode::watch;
    if must_stop() {
        return true;
    }
    if !wasi::is_live() {
        return false;
    }
    let Some(limit) = watch::poll() else {
        return false;
    };
    state::stop(Stop::Limit(limit));
    true
}

/// Module names resolve to nothing: throws the contract's text for every import.
unsafe extern "C" fn refuse_import(
    raw: *mut qjs::JSContext,
    _base: *const c_char,
    name: *const c_char,
    _opaque: *mut c_void,
) -> *mut c_char {
    let Some(raw) = std::ptr::NonNull::new(raw) else {
        return std::ptr::null_mut();
    };
    // SAFETY: the engine passes a live context and a C string.
    let (ctx, name) = unsafe { (Ctx::from_raw(raw), CStr::from_ptr(name)) };
    let text = if state::with(|state| state.linking) {
        format!("Unsupported import in exec: {}", name.to_string_lossy())
    } else {
        "unsupported import in exec".to_owned()
    };
    throw(&ctx, Thrown::Text(text));
    std::ptr::null_mut()
}

/// Takes over a value that the engine returned, or the exception it stands for.
fn owned<'js>(ctx: &Ctx<'js>, raw: qjs::JSValue) -> Returned<'js> {
    // SAFETY: the engine returned one reference, which the `Value` now holds.
    let value = unsafe { Value::from_raw(ctx.clone(), raw) };
    if value.is_exception() { Err(Thrown::caught(ctx)) } else { Ok(value) }
}

/// A second reference to a value that the engine lends.
///
/// # Safety
/// `raw` must be a live value of the context's runtime.
unsafe fn borrowed<'js>(ctx: &Ctx<'js>, raw: qjs::JSValue) -> Value<'js> {
    // SAFETY: the caller's contract; the duplicate is what the `Value` frees.
    unsafe { Value::from_raw(ctx.clone(), qjs::JS_DupValue(ctx.as_raw().as_ptr(), raw)) }
}

fn runtime_of(ctx: &Ctx<'_>) -> *mut qjs::JSRuntime {
    // SAFETY: a live context has a live runtime.
    unsafe { qjs::JS_GetRuntime(ctx.as_raw().as_ptr()) }
}

fn nul_terminated(text: String) -> Vec<u8> {
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
