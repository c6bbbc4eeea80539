//! `Intl` as JavaScript sees it: reading arguments and options, and handing them to
//! the crate `cellblock-intl`, which computes.
//!
//! [`FUNCTIONS`] lists every function; [`js`] has what they share, [`locales`] and
//! [`options`] the reading, and each constructor has a file of its own.

mod array;
mod break_iterator;
mod case;
mod clock;
mod collator;
mod date;
mod display;
mod duration;
mod js;
mod list;
mod locale;
mod locales;
mod number;
mod options;
mod plural;
mod relative;
mod segmenter;

use crate::engine::{self, Property, Thrown, run_helper};
use crate::globals::{Args, Returned};
pub(crate) use locales::set_defaults;

use js::Js;
use rquickjs::{Ctx, Object, Value, qjs};
use std::ffi::{CStr, c_int};

/// What the engine calls with a magic number.
type Native = unsafe extern "C" fn(
    *mut qjs::JSContext,
    qjs::JSValue,
    c_int,
    *mut qjs::JSValue,
    c_int,
) -> qjs::JSValue;

type Run = for<'a, 'js> fn(&Ctx<'js>, Args<'a, 'js>) -> Returned<'js>;

/// What a function is on the object it belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A constructor on `Intl` that may be called without `new`.
    Callable,
    /// A constructor on `Intl` that requires `new`.
    Constructor,
    /// A function of a constructor.
    Static,
    /// A method of a prototype.
    Method,
    /// A method of a prototype that belongs to no constructor; a name in brackets is a
    /// symbol's.
    Internal,
    /// A getter of a prototype.
    Getter,
    /// A function of `Intl`.
    Function,
    /// A method of a built-in prototype, which replaces the engine's own.
    Replacement,
    /// The same of the prototype that a built-in prototype inherits from.
    Inherited,
}

/// One function: whose it is, what it is, its name, its length and what runs it.
type Function = (&'static CStr, Kind, &'static CStr, c_int, Run);

use Kind::{Callable, Constructor, Getter, Inherited, Internal, Method, Replacement, Static};

/// `supportedLocalesOf` of a constructor, which its messages name.
macro_rules! supported {
    ($name:literal) => {
        |ctx, args| {
            let method = concat!("Intl.", $name, ".supportedLocalesOf");
            locales::supported_locales_of(ctx, args, method)
        }
    };
}

/// Every function, in V8's order. A constructor comes before what belongs to it.
const FUNCTIONS: &[Function] = &[
    (c"Intl", Kind::Function, c"getCanonicalLocales", 1, locales::get_canonical_locales),
    (c"Intl", Kind::Function, c"supportedValuesOf", 1, locale::supported_values_of),
    (c"DateTimeFormat", Callable, c"DateTimeFormat", 0, date::construct),
    (c"DateTimeFormat", Static, c"supportedLocalesOf", 1, supported!("DateTimeFormat")),
    (c"DateTimeFormat", Method, c"resolvedOptions", 0, date::resolved_options),
    (c"DateTimeFormat", Method, c"formatToParts", 1, date::format_to_parts),
    (c"DateTimeFormat", Getter, c"format", 0, date::get_format),
    (c"DateTimeFormat", Method, c"formatRange", 2, date::format_range),
    (c"DateTimeFormat", Method, c"formatRangeToParts", 2, date::format_range_to_parts),
    (c"NumberFormat", Callable, c"NumberFormat", 0, number::construct),
    (c"NumberFormat", Static, c"supportedLocalesOf", 1, supported!("NumberFormat")),
    (c"NumberFormat", Method, c"resolvedOptions", 0, number::resolved_options),
    (c"NumberFormat", Method, c"formatToParts", 1, number::format_to_parts),
    (c"NumberFormat", Getter, c"format", 0, number::get_format),
    (c"NumberFormat", Method, c"formatRange", 2, number::format_range),
    (c"NumberFormat", Method, c"formatRangeToParts", 2, number::format_range_to_parts),
    (c"v8BreakIterator", Callable, c"v8BreakIterator", 0, break_iterator::construct),
    (c"v8BreakIterator", Static, c"supportedLocalesOf", 1, supported!("v8BreakIterator")),
    (c"v8BreakIterator", Method, c"resolvedOptions", 0, break_iterator::resolved_options),
    (c"v8BreakIterator", Getter, c"adoptText", 0, break_iterator::ADOPT_TEXT),
    (c"v8BreakIterator", Getter, c"first", 0, break_iterator::FIRST),
    (c"v8BreakIterator", Getter, c"next", 0, break_iterator::NEXT),
    (c"v8BreakIterator", Getter, c"current", 0, break_iterator::CURRENT),
    (c"v8BreakIterator", Getter, c"breakType", 0, break_iterator::BREAK_TYPE),
    (c"PluralRules", Constructor, c"PluralRules", 0, plural::construct),
    (c"PluralRules", Static, c"supportedLocalesOf", 1, supported!("PluralRules")),
    (c"PluralRules", Method, c"resolvedOptions", 0, plural::resolved_options),
    (c"PluralRules", Method, c"select", 1, plural::select),
    (c"PluralRules", Method, c"selectRange", 2, plural::select_range),
    (c"RelativeTimeFormat", Constructor, c"RelativeTimeFormat", 0, relative::construct),
    (c"RelativeTimeFormat", Static, c"supportedLocalesOf", 1, supported!("RelativeTimeFormat")),
    (c"RelativeTimeFormat", Method, c"resolvedOptions", 0, relative::resolved_options),
    (c"RelativeTimeFormat", Method, c"format", 2, relative::format),
    (c"RelativeTimeFormat", Method, c"formatToParts", 2, relative::format_to_parts),
    (c"ListFormat", Constructor, c"ListFormat", 0, list::construct),
    (c"ListFormat", Static, c"supportedLocalesOf", 1, supported!("ListFormat")),
    (c"ListFormat", Method, c"resolvedOptions", 0, list::resolved_options),
    (c"ListFormat", Method, c"format", 1, list::format),
    (c"ListFormat", Method, c"formatToParts", 1, list::format_to_parts),
    (c"Locale", Constructor, c"Locale", 1, locale::construct),
    (c"Locale", Method, c"toString", 0, locale::to_string),
    (c"Locale", Method, c"maximize", 0, locale::maximize),
    (c"Locale", Method, c"minimize", 0, locale::minimize),
    (c"Locale", Getter, c"language", 0, locale::language),
    (c"Locale", Getter, c"script", 0, locale::script),
    (c"Locale", Getter, c"region", 0, locale::region),
    (c"Locale", Getter, c"baseName", 0, locale::base_name),
    (c"Locale", Getter, c"calendar", 0, locale::calendar),
    (c"Locale", Getter, c"caseFirst", 0, locale::case_first),
    (c"Locale", Getter, c"collation", 0, locale::collation),
    (c"Locale", Getter, c"firstDayOfWeek", 0, locale::first_day_of_week),
    (c"Locale", Getter, c"hourCycle", 0, locale::hour_cycle),
    (c"Locale", Getter, c"numeric", 0, locale::numeric),
    (c"Locale", Getter, c"numberingSystem", 0, locale::numbering_system),
    (c"Locale", Method, c"getCalendars", 0, locale::get_calendars),
    (c"Locale", Method, c"getCollations", 0, locale::get_collations),
    (c"Locale", Method, c"getHourCycles", 0, locale::get_hour_cycles),
    (c"Locale", Method, c"getNumberingSystems", 0, locale::get_numbering_systems),
    (c"Locale", Method, c"getTimeZones", 0, locale::get_time_zones),
    (c"Locale", Method, c"getTextInfo", 0, locale::get_text_info),
    (c"Locale", Method, c"getWeekInfo", 0, locale::get_week_info),
    (c"Locale", Getter, c"variants", 0, locale::variants),
    (c"DisplayNames", Constructor, c"DisplayNames", 2, display::construct),
    (c"DisplayNames", Static, c"supportedLocalesOf", 1, supported!("DisplayNames")),
    (c"DisplayNames", Method, c"resolvedOptions", 0, display::resolved_options),
    (c"DisplayNames", Method, c"of", 1, display::of),
    (c"DurationFormat", Constructor, c"DurationFormat", 0, duration::construct),
    (c"DurationFormat", Static, c"supportedLocalesOf", 1, supported!("DurationFormat")),
    (c"DurationFormat", Method, c"resolvedOptions", 0, duration::resolved_options),
    (c"DurationFormat", Method, c"format", 1, duration::format),
    (c"DurationFormat", Method, c"formatToParts", 1, duration::format_to_parts),
    (c"Collator", Callable, c"Collator", 0, collator::construct),
    (c"Collator", Static, c"supportedLocalesOf", 1, collator::supported_locales_of),
    (c"Collator", Method, c"resolvedOptions", 0, collator::resolved_options),
    (c"Collator", Getter, c"compare", 0, collator::get_compare),
    (c"Segmenter", Constructor, c"Segmenter", 0, segmenter::construct),
    (c"Segmenter", Static, c"supportedLocalesOf", 1, supported!("Segmenter")),
    (c"Segmenter", Method, c"resolvedOptions", 0, segmenter::resolved_options),
    (c"Segmenter", Method, c"segment", 1, segmenter::segment),
    (segmenter::SEGMENTS, Internal, c"containing", 1, segmenter::containing),
    (segmenter::SEGMENTS, Internal, c"[Symbol.iterator]", 0, segmenter::iterator),
    (segmenter::ITERATOR, Internal, c"next", 0, segmenter::next),
    (c"Number", Replacement, c"toLocaleString", 0, number::number_to_locale_string),
    (c"String", Replacement, c"localeCompare", 1, collator::locale_compare),
    (c"String", Replacement, c"toLocaleUpperCase", 0, case::to_locale_upper_case),
    (c"String", Replacement, c"toLocaleLowerCase", 0, case::to_locale_lower_case),
    (c"BigInt", Replacement, c"toLocaleString", 0, number::big_int_to_locale_string),
    (c"Date", Replacement, c"toLocaleString", 0, date::date_to_locale_string),
    (c"Date", Replacement, c"toLocaleDateString", 0, date::to_locale_date_string),
    (c"Date", Replacement, c"toLocaleTimeString", 0, date::to_locale_time_string),
    (c"Array", Replacement, c"toLocaleString", 0, array::to_locale_string),
    (c"Int8Array", Inherited, c"toLocaleString", 0, array::typed_to_locale_string),
];

/// Adds `Intl` to the global scope and replaces the methods of built-ins that follow it.
pub(crate) fn install<'js>(ctx: &Ctx<'js>) -> Js<'js, ()> {
    js::register(ctx);
    let date = member(ctx, &member(ctx, &ctx.globals(), c"Date")?, c"prototype")?;
    js::keep_prototype(ctx, js::DATE_VALUE, &member(ctx, &date, c"getTime")?);
    case::keep_methods(ctx)?;
    segmenter::make_prototypes(ctx)?;
    let intl = Object::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?;
    tag(ctx, &intl, "Intl")?;
    for (at, (owner, kind, name, length, _)) in FUNCTIONS.iter().enumerate() {
        let function = function(ctx, at, *kind, name, *length)?;
        let name = name.to_str().unwrap_or_default();
        match kind {
            Callable | Constructor => add_constructor(ctx, &intl, name, &function)?,
            Kind::Function => engine::define(ctx, &intl, name, &function, Property::Hidden)?,
            Static => {
                let constructor = member(ctx, &intl, owner)?;
                engine::define(ctx, &constructor, name, &function, Property::Hidden)?;
            }
            Method | Getter => {
                let prototype = member(ctx, &member(ctx, &intl, owner)?, c"prototype")?;
                if *kind == Method {
                    engine::define(ctx, &prototype, name, &function, Property::Hidden)?;
                } else {
                    let none = Value::new_undefined(ctx.clone());
                    let hidden = Property::Hidden;
                    engine::define_accessor(ctx, &prototype, name, &function, &none, hidden)?;
                }
            }
            Internal => {
                let prototype = js::prototype(ctx, &owner.to_string_lossy())?;
                let prototype = prototype.as_object().ok_or_else(missing)?;
                if name == "[Symbol.iterator]" {
                    let symbol = symbol(ctx, c"iterator")?;
                    let function = rquickjs::object::Property::from(function);
                    prototype
                        .prop(symbol, function.writable().configurable())
                        .map_err(|_| Thrown::caught(ctx))?;
                } else {
                    engine::define(ctx, prototype, name, &function, Property::Hidden)?;
                }
            }
            Replacement | Inherited => {
                let own = member(ctx, &member(ctx, &ctx.globals(), owner)?, c"prototype")?;
                let inherited = own.get_prototype().filter(|_| *kind == Inherited);
                let prototype = inherited.unwrap_or(own);
                engine::define(ctx, &prototype, name, &function, Property::Hidden)?;
            }
        }
    }
    engine::define(ctx, &ctx.globals(), "Intl", intl.as_value(), Property::Hidden)
}

fn member<'js>(ctx: &Ctx<'js>, object: &Object<'js>, name: &CStr) -> Js<'js, Object<'js>> {
    let value = engine::get(ctx, object, name)?;
    value.into_object().ok_or_else(missing)
}

/// A well-known symbol.
fn symbol<'js>(ctx: &Ctx<'js>, name: &CStr) -> Js<'js, rquickjs::Symbol<'js>> {
    let symbol = engine::get(ctx, &member(ctx, &ctx.globals(), c"Symbol")?, name)?;
    symbol.into_symbol().ok_or_else(missing)
}

fn missing<'js>() -> Thrown<'js> {
    Thrown::text("a built-in is missing")
}

fn add_constructor<'js>(
    ctx: &Ctx<'js>,
    intl: &Object<'js>,
    name: &'static str,
    constructor: &Value<'js>,
) -> Js<'js, ()> {
    let prototype = Object::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?;
    // V8's own constructor predates the tags.
    if name != "v8BreakIterator" {
        tag(ctx, &prototype, &format!("Intl.{name}"))?;
    }
    // SAFETY: both objects are alive; the engine links the two.
    unsafe {
        let raw = ctx.as_raw().as_ptr();
        qjs::JS_SetConstructor(raw, constructor.as_raw(), prototype.as_raw());
    }
    js::keep_prototype(ctx, name, &prototype);
    engine::define(ctx, intl, name, constructor, Property::Hidden)
}

/// Sets `Symbol.toStringTag`, which is neither writable nor enumerable.
fn tag<'js>(ctx: &Ctx<'js>, object: &Object<'js>, name: &str) -> Js<'js, ()> {
    let symbol = symbol(ctx, c"toStringTag")?;
    object
        .prop(symbol, rquickjs::object::Property::from(name).configurable())
        .map_err(|_| Thrown::caught(ctx))
}

fn function<'js>(
    ctx: &Ctx<'js>,
    at: usize,
    kind: Kind,
    name: &CStr,
    length: c_int,
) -> Returned<'js> {
    let name = match kind {
        Getter => std::ffi::CString::new(format!("get {}", name.to_string_lossy())),
        _ => Ok(name.to_owned()),
    };
    let name = name.unwrap_or_default();
    if !matches!(kind, Callable | Constructor) {
        return engine::new_built_in(ctx, call, at as i16, &name, length);
    }
    // SAFETY: the engine calls a `constructor_or_func_magic` function with the magic it
    // was created with, so the type it is passed as is the type it is called as.
    unsafe {
        let native = std::mem::transmute::<Native, qjs::JSCFunction>(call);
        let value = qjs::JS_NewCFunction2(
            ctx.as_raw().as_ptr(),
            native,
            name.as_ptr(),
            length,
            qjs::JSCFunctionEnum_JS_CFUNC_constructor_or_func_magic,
            at as c_int,
        );
        let value = Value::from_raw(ctx.clone(), value);
        if value.is_exception() { Err(Thrown::caught(ctx)) } else { Ok(value) }
    }
}

/// The engine's way into every function of [`FUNCTIONS`]. To a constructor, `this` is
/// `new.target`.
unsafe extern "C" fn call(
    raw: *mut qjs::JSContext,
    this: qjs::JSValue,
    count: c_int,
    values: *mut qjs::JSValue,
    magic: c_int,
) -> qjs::JSValue {
    let (_, kind, name, _, run) = FUNCTIONS[magic as usize];
    // SAFETY: called by the engine with its own arguments.
    unsafe {
        run_helper(raw, this, count, values, |ctx, args| {
            if kind == Constructor && args.this.is_undefined() {
                let name = name.to_string_lossy();
                return Err(js::type_error(
                    ctx,
                    &format!("Constructor Intl.{name} requires 'new'"),
                ));
            }
            run(ctx, args)
        })
    }
}
