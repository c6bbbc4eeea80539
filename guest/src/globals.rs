//! What a program finds in its global scope: the language, and the helpers.
//!
//! The global object is cleaned by an allow-list, so that nothing a new engine
//! version brings along appears by accident. To add a helper, write it in the
//! file of its kind and list it in [`HELPERS`].

use crate::bindings::cellblock::code_mode::tools;
use crate::calls;
use crate::engine::{self, Property, Thrown};
use crate::intl;
use crate::json;
use crate::media;
use crate::state;
use crate::stored;
use crate::text;
use crate::timers;
use rquickjs::{Array, Ctx, Object, Persistent, Value, qjs};
use std::cell::RefCell;
use std::ffi::{CStr, c_int};

/// What a helper was called with.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a, 'js> {
    pub(crate) this: &'a Value<'js>,
    pub(crate) values: &'a [Value<'js>],
}

impl<'a, 'js> Args<'a, 'js> {
    pub(crate) fn first(self) -> Option<&'a Value<'js>> {
        self.values.first()
    }

    pub(crate) fn get(self, at: usize) -> Option<&'a Value<'js>> {
        self.values.get(at)
    }
}

/// What a helper gives back to the engine.
pub(crate) type Returned<'js> = Result<Value<'js>, Thrown<'js>>;

type Helper = for<'a, 'js> fn(&Ctx<'js>, Args<'a, 'js>) -> Returned<'js>;

/// Helpers that programs see, by name.
const HELPERS: &[(&str, Helper)] = &[
    ("text", text::text),
    ("image", media::image),
    ("audio", media::audio),
    ("generatedImage", media::generated_image),
    ("store", stored::store),
    ("load", stored::load),
    ("notify", text::notify),
    ("yield_control", yield_control),
    ("exit", exit),
    ("setTimeout", timers::set_timeout),
    ("clearTimeout", timers::clear_timeout),
    #[cfg(feature = "profile")]
    ("profile", crate::profile::profile),
];

/// Functions that stand behind built-ins and accessors. The engine knows them by
/// numbers that follow those of [`HELPERS`].
#[derive(Clone, Copy)]
enum Inner {
    Random,
    GetAllTools,
    SetAllTools,
    ParseJson,
    StringifyJson,
}

impl Inner {
    const ALL: [Self; 5] =
        [Self::Random, Self::GetAllTools, Self::SetAllTools, Self::ParseJson, Self::StringifyJson];

    fn helper(self) -> Helper {
        match self {
            Self::Random => random,
            Self::GetAllTools => get_all_tools,
            Self::SetAllTools => set_all_tools,
            Self::ParseJson => json::parse,
            Self::StringifyJson => json::stringify,
        }
    }

    /// The function, with the name and length of the built-in that it stands for.
    fn function<'js>(self, ctx: &Ctx<'js>, name: &CStr, length: c_int) -> Returned<'js> {
        engine::new_built_in(ctx, helper, (HELPERS.len() + self as usize) as i16, name, length)
    }
}

/// Own properties of the global object that stay. `Temporal` is on the contract's
/// list and absent from this engine; `Intl` is added afterwards.
const ALLOWED: &[&str] = &[
    "AggregateError",
    "Array",
    "ArrayBuffer",
    "AsyncDisposableStack",
    "BigInt",
    "BigInt64Array",
    "BigUint64Array",
    "Boolean",
    "DataView",
    "Date",
    "DisposableStack",
    "Error",
    "EvalError",
    "FinalizationRegistry",
    "Float16Array",
    "Float32Array",
    "Float64Array",
    "Function",
    "Infinity",
    "Int16Array",
    "Int32Array",
    "Int8Array",
    "Iterator",
    "JSON",
    "Map",
    "Math",
    "NaN",
    "Number",
    "Object",
    "Promise",
    "Proxy",
    "RangeError",
    "ReferenceError",
    "Reflect",
    "RegExp",
    "Set",
    "String",
    "SuppressedError",
    "Symbol",
    "SyntaxError",
    "TypeError",
    "URIError",
    "Uint16Array",
    "Uint32Array",
    "Uint8Array",
    "Uint8ClampedArray",
    "WeakMap",
    "WeakRef",
    "WeakSet",
    "decodeURI",
    "decodeURIComponent",
    "encodeURI",
    "encodeURIComponent",
    "escape",
    "eval",
    "globalThis",
    "isFinite",
    "isNaN",
    "parseFloat",
    "parseInt",
    "undefined",
    "unescape",
];

/// Builds the global scope that every program starts from, but for its tools.
pub(crate) fn install<'js>(ctx: &Ctx<'js>) -> Result<(), Thrown<'js>> {
    let globals = ctx.globals();
    let names: Vec<String> =
        globals.own_keys(rquickjs::Filter::new().string()).filter_map(Result::ok).collect();
    for name in names.iter().filter(|name| !ALLOWED.contains(&name.as_str())) {
        globals.remove(name.as_str()).map_err(|_| Thrown::caught(ctx))?;
    }
    for (at, (name, _)) in HELPERS.iter().enumerate() {
        let function = engine::new_function(ctx, helper, at as i16)?;
        engine::define(ctx, &globals, name, &function, Property::Plain)?;
    }
    prepare_tools(ctx)?;
    let json = namespace(ctx, c"JSON")?;
    let parse = engine::get(ctx, &json, c"parse")?.into_function();
    json::keep(ctx, parse.ok_or_else(|| Thrown::text("no JSON.parse"))?);
    json::check_classes(ctx)?;
    let built_ins = [
        (&json, c"parse", 2, Inner::ParseJson),
        (&json, c"stringify", 3, Inner::StringifyJson),
        (&namespace(ctx, c"Math")?, c"random", 0, Inner::Random),
    ];
    for (object, name, length, inner) in built_ins {
        let function = inner.function(ctx, name, length)?;
        let name = name.to_str().unwrap_or_default();
        engine::define(ctx, object, name, &function, Property::Hidden)?;
    }
    install_from_async(ctx)?;
    intl::install(ctx)?;
    let getter = Inner::GetAllTools.function(ctx, c"get ALL_TOOLS", 0)?;
    let setter = Inner::SetAllTools.function(ctx, c"set ALL_TOOLS", 1)?;
    engine::define_accessor(ctx, &globals, "ALL_TOOLS", &getter, &setter, Property::Plain)
}

/// Puts `Array.fromAsync` in the place of the engine's, which closes iterators when it
/// must not, and does not wait when it must (quickjs-ng/quickjs#1596).
fn install_from_async<'js>(ctx: &Ctx<'js>) -> Result<(), Thrown<'js>> {
    const INTERNALS: &str = "({ TypeError, Array, Object, call: Reflect.apply, \
        define: Object.defineProperty, asyncIterator: Symbol.asyncIterator, \
        iterator: Symbol.iterator, min: Math.min, trunc: Math.trunc, isNaN, \
        isConstructor: (Reflect => value => { \
            try { Reflect.construct(Object, [], value); return true } catch { return false } \
        })({ construct: Reflect.construct }) })";
    let source = format!("({}\n)({INTERNALS})", include_str!("array_from_async.js").trim_end());
    let made = engine::eval_built_in(ctx, source)?;
    let made = made.into_object().ok_or_else(|| Thrown::text("no built-ins"))?;
    let function = engine::get(ctx, &made, c"fromAsync")?;
    // It is no async function but a built-in one.
    let prototype =
        namespace(ctx, c"Function").and_then(|it| engine::get(ctx, &it, c"prototype"))?;
    if let (Some(function), Some(prototype)) = (function.as_object(), prototype.as_object()) {
        function.set_prototype(Some(prototype)).map_err(|_| Thrown::caught(ctx))?;
    }
    engine::define(ctx, &namespace(ctx, c"Array")?, "fromAsync", &function, Property::Hidden)
}

/// An object of the language that groups functions, such as `Math`.
fn namespace<'js>(ctx: &Ctx<'js>, name: &CStr) -> Result<Object<'js>, Thrown<'js>> {
    let value = engine::get(ctx, &ctx.globals(), name)?;
    value.into_object().ok_or_else(|| Thrown::text("a built-in is missing"))
}

/// Tool functions that are made when the guest is built. A cell with more tools
/// makes the rest itself.
const PREPARED_TOOLS: i16 = 256;

thread_local! {
    /// Functions for the first tools of a request, by index.
    static TOOLS: RefCell<Vec<Persistent<Value<'static>>>> = const { RefCell::new(Vec::new()) };
}

/// Makes the functions for the first tools of any request; only their names are
/// not known yet.
fn prepare_tools<'js>(ctx: &Ctx<'js>) -> Result<(), Thrown<'js>> {
    let prepared: Result<Vec<_>, _> = (0..PREPARED_TOOLS)
        .map(|at| Ok(Persistent::save(ctx, engine::new_function(ctx, tool, at)?)))
        .collect();
    TOOLS.set(prepared?);
    Ok(())
}

/// Adds `tools` for the tools of this cell.
pub(crate) fn install_tools<'js>(ctx: &Ctx<'js>, names: Vec<String>) -> Result<(), Thrown<'js>> {
    let object = Object::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?;
    let mut scripts = None;
    for (at, name) in names.iter().enumerate() {
        let prepared = TOOLS.with_borrow(|tools| tools.get(at).cloned());
        let function = match prepared.map(|function| function.restore(ctx)) {
            Some(Ok(function)) => function,
            _ => engine::new_function(ctx, tool, at as i16)?,
        };
        engine::define(ctx, &object, name, &function, Property::Plain)?;
        if let Some(script) = name.strip_prefix(SCRIPT_PREFIX) {
            if scripts.is_none() {
                scripts = Some(Object::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?);
            }
            if let Some(scripts) = &scripts {
                engine::define(ctx, scripts, script, &function, Property::Plain)?;
            }
        }
    }
    state::with(|state| state.tool_names = names);
    if let Some(scripts) = scripts {
        engine::define(ctx, &ctx.globals(), "scripts", scripts.as_value(), Property::Plain)?;
    }
    engine::define(ctx, &ctx.globals(), "tools", object.as_value(), Property::Plain)
}

/// How the names of tools begin that run saved scripts. `scripts.NAME` calls the tool
/// `scripts__NAME`; without such tools there is no `scripts`.
const SCRIPT_PREFIX: &str = "scripts__";

/// The engine's way into every helper but the tools.
unsafe extern "C" fn helper(
    raw: *mut qjs::JSContext,
    this: qjs::JSValue,
    count: c_int,
    values: *mut qjs::JSValue,
    magic: c_int,
) -> qjs::JSValue {
    let at = magic as usize;
    let run = match HELPERS.get(at) {
        Some((_, helper)) => helper,
        None => &Inner::ALL[at - HELPERS.len()].helper(),
    };
    // SAFETY: called by the engine with its own arguments.
    unsafe { engine::run_helper(raw, this, count, values, run) }
}

/// The engine's way into the tools.
unsafe extern "C" fn tool(
    raw: *mut qjs::JSContext,
    this: qjs::JSValue,
    count: c_int,
    values: *mut qjs::JSValue,
    magic: c_int,
) -> qjs::JSValue {
    // SAFETY: called by the engine with its own arguments.
    unsafe {
        engine::run_helper(raw, this, count, values, |ctx, args| {
            calls::call(ctx, args, magic as u32)
        })
    }
}

/// `yield_control()`
fn yield_control<'js>(ctx: &Ctx<'js>, _args: Args<'_, 'js>) -> Returned<'js> {
    crate::bindings::cellblock::code_mode::output::yield_control();
    Ok(Value::new_undefined(ctx.clone()))
}

/// `exit()`
fn exit<'js>(_ctx: &Ctx<'js>, _args: Args<'_, 'js>) -> Returned<'js> {
    Err(Thrown::Exit)
}

/// `Math.random()`: xorshift64* from the host's seed, so that the seed decides
/// every number. The engine's own generator was seeded when the guest was built.
fn random<'js>(ctx: &Ctx<'js>, _args: Args<'_, 'js>) -> Returned<'js> {
    let bits = state::with(|state| {
        let mut x = state.random;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.random = x;
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    });
    let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    Ok(Value::new_float(ctx.clone(), unit))
}

/// `ALL_TOOLS`, made when first touched: a catalogue can be long, and most
/// programs never look. From then on it is an ordinary property.
fn get_all_tools<'js>(ctx: &Ctx<'js>, _args: Args<'_, 'js>) -> Returned<'js> {
    let descriptions = tools::descriptions();
    let names = state::with(|state| state.tool_names.clone());
    let list = Array::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?;
    for (at, (name, description)) in names.iter().zip(&descriptions).enumerate() {
        let entry = Object::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?;
        engine::define(ctx, &entry, "name", &engine::new_string(ctx, name)?, Property::Plain)?;
        let description = engine::new_string(ctx, description)?;
        engine::define(ctx, &entry, "description", &description, Property::Plain)?;
        list.set(at, entry).map_err(|_| Thrown::caught(ctx))?;
    }
    engine::define(ctx, &ctx.globals(), "ALL_TOOLS", list.as_value(), Property::Plain)?;
    Ok(list.into_value())
}

/// Assignment to `ALL_TOOLS` before it was read.
fn set_all_tools<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let undefined = Value::new_undefined(ctx.clone());
    let value = args.first().unwrap_or(&undefined);
    engine::define(ctx, &ctx.globals(), "ALL_TOOLS", value, Property::Plain)?;
    Ok(undefined)
}
