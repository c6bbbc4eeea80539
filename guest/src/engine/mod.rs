//! The one place that calls into `QuickJS` in C.
//!
//! Everything unsafe about the engine is here, and in `json` for the speed of it,
//! behind functions that take and give `rquickjs` values. Two rules hold throughout: strings that leave the
//! engine are UTF-8 with every lone surrogate replaced by U+FFFD, and an
//! exception that the engine marks uncatchable stays so on its way out.

mod functions;
mod thrown;
mod values;

pub(crate) use functions::{new_built_in, new_function, run_helper};
pub(crate) use thrown::Thrown;
pub(crate) use values::*;

use crate::bindings::cellblock::code_mode::types::{Limit, Shift};
use crate::error_text::frames_of;
use crate::globals::Returned;
use crate::state::{self, Stop};
use crate::wasi;
use rquickjs::{Context, Ctx, Function, Persistent, Promise, Runtime, Value, qjs};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use thrown::throw;
use values::{nul_terminated, owned};

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

/// Ends the program with an error text, unless it had to stop before.
pub(crate) fn fail(error_text: String) {
    if !must_stop() {
        state::stop(Stop::Failed(error_text));
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

/// Compiles and links the main module.
pub(crate) fn compile_module<'js>(
    ctx: &Ctx<'js>,
    source: String,
    shifts: &[Shift],
) -> Result<Value<'js>, Thrown<'js>> {
    let shifts: Vec<_> =
        shifts.iter().map(|shift| [shift.line, shift.column, shift.original]).collect();
    let length = source.len();
    let source = nul_terminated(source);
    let flags = (qjs::JS_EVAL_TYPE_MODULE | qjs::JS_EVAL_FLAG_COMPILE_ONLY) as c_int;
    state::with(|state| state.linking = true);
    // SAFETY: `source` ends with a NUL after `length` bytes, as the engine asks. The shifts
    // outlive the compilation, after which they are gone.
    let module = unsafe {
        cellblock_set_shifts(shifts.as_ptr(), shifts.len());
        let module = qjs::JS_Eval(
            ctx.as_raw().as_ptr(),
            source.as_ptr().cast(),
            length as _,
            MODULE.as_ptr(),
            flags,
        );
        cellblock_set_shifts(std::ptr::null(), 0);
        module
    };
    state::with(|state| state.linking = false);
    owned(ctx, module)
}

/// Starts the main module.
pub(crate) fn start_module<'js>(
    ctx: &Ctx<'js>,
    module: &Value<'js>,
) -> Result<Promise<'js>, Thrown<'js>> {
    state::with(|state| state.linking = true);
    // SAFETY: `module` is a compiled module; `JS_EvalFunction` takes one reference.
    let promise = unsafe {
        let module = qjs::JS_DupValue(ctx.as_raw().as_ptr(), module.as_raw());
        qjs::JS_EvalFunction(ctx.as_raw().as_ptr(), module)
    };
    let promise = owned(ctx, promise);
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

unsafe extern "C" {
    /// Where columns are not the author's: line, column and the author's column, see
    /// `quickjs/places.h`.
    fn cellblock_set_shifts(list: *const [u32; 3], count: usize);

    /// Counts pending promises that nothing waits for, see `quickjs/unawaited.h`.
    fn cellblock_unawaited(raw: *mut qjs::JSContext, line: *mut c_int, column: *mut c_int)
    -> c_int;

    /// The place of the await at which the main module is suspended, see
    /// `quickjs/main-await.h`.
    fn cellblock_awaiting(raw: *mut qjs::JSContext, line: *mut c_int, column: *mut c_int) -> bool;

    /// Asks for the value of the program, see `quickjs/main-await.h`.
    fn cellblock_want_value();

    /// The value of the program, see `quickjs/main-await.h`.
    fn cellblock_take_value() -> qjs::JSValue;
}

/// Asks for the value of the program, before it is compiled.
pub(crate) fn want_value() {
    // SAFETY: sets a flag; there is one thread.
    unsafe { cellblock_want_value() }
}

/// The value of the program once it has ended; of anything that may be a promise, a
/// promise of that.
pub(crate) fn take_value<'js>(ctx: &Ctx<'js>) -> Result<Value<'js>, Thrown<'js>> {
    let raw = ctx.as_raw().as_ptr();
    // SAFETY: the engine gives its reference away.
    let value = owned(ctx, unsafe { cellblock_take_value() })?;
    if !value.is_object() {
        return Ok(value);
    }
    let mut settle = [qjs::JS_UNDEFINED; 2];
    // SAFETY: the engine writes two functions, which are owned from then on.
    let promise = owned(ctx, unsafe { qjs::JS_NewPromiseCapability(raw, settle.as_mut_ptr()) })?;
    let [resolve, reject] = settle;
    // SAFETY: each function is one reference.
    let (resolve, _reject) =
        unsafe { (Value::from_raw(ctx.clone(), resolve), Value::from_raw(ctx.clone(), reject)) };
    let resolve = resolve.into_function().ok_or_else(|| Thrown::text("no function"))?;
    call_with(ctx, &resolve, &Value::new_undefined(ctx.clone()), &[value])?;
    Ok(promise)
}

/// Promises that are pending and that nothing waits for.
pub(crate) struct Unawaited {
    /// How many there are.
    pub(crate) count: c_int,
    /// Line and column where the main module made the first, if it did.
    pub(crate) place: Option<(c_int, c_int)>,
}

/// Looks for promises that nothing waits for.
pub(crate) fn unawaited(ctx: &Ctx<'_>) -> Unawaited {
    let (mut line, mut column) = (0, 0);
    // SAFETY: the context is alive; the engine writes two numbers.
    let count =
        unsafe { cellblock_unawaited(ctx.as_raw().as_ptr(), &raw mut line, &raw mut column) };
    Unawaited { count, place: (line > 0).then_some((line, column)) }
}

/// Line and column of the top-level `await` at which the program is suspended.
pub(crate) fn awaiting(ctx: &Ctx<'_>) -> Option<(c_int, c_int)> {
    let (mut line, mut column) = (0, 0);
    // SAFETY: the context is alive; the engine writes two numbers.
    let known =
        unsafe { cellblock_awaiting(ctx.as_raw().as_ptr(), &raw mut line, &raw mut column) };
    known.then_some((line, column))
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

fn runtime_of(ctx: &Ctx<'_>) -> *mut qjs::JSRuntime {
    // SAFETY: a live context has a live runtime.
    unsafe { qjs::JS_GetRuntime(ctx.as_raw().as_ptr()) }
}
