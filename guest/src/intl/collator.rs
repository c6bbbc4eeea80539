//! `Intl.Collator`, and `localeCompare` of strings.

use super::js::{self, Js, bound, receiver, text, type_error};
use super::locales::{Key, canonical_list, resolve_among, supported_among};
use super::number::word_of;
use super::options::Options;
use crate::engine::{self, run_helper};
use crate::globals::{Args, Returned};
use cellblock_intl::collation::{
    self, CaseFirst, Collation, Options as Asked, Sensitivity, best_available,
};
use cellblock_intl::locale::{Held, Tag};
use rquickjs::{Ctx, Value, qjs};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::ffi::c_int;
use std::rc::Rc;

const NAME: &str = "Intl.Collator";

const SENSITIVITIES: [(&str, Sensitivity); 4] = [
    ("base", Sensitivity::Base),
    ("accent", Sensitivity::Accent),
    ("case", Sensitivity::Case),
    ("variant", Sensitivity::Variant),
];
const CASES: [(&str, CaseFirst); 3] =
    [("upper", CaseFirst::Upper), ("lower", CaseFirst::Lower), ("false", CaseFirst::False)];

/// What a program asked for.
#[derive(Debug, PartialEq)]
struct Request {
    /// The one language tag, empty for the default; `None` when it was not one string.
    locale: Option<String>,
    search: bool,
    kind: Option<String>,
    numeric: Option<bool>,
    case_first: Option<&'static str>,
    sensitivity: Sensitivity,
    ignore_punctuation: Option<bool>,
}

/// What a collator holds.
#[derive(Debug)]
struct Service {
    request: Request,
    locale: String,
    collation: Collation,
}

thread_local! {
    /// What was made last: `localeCompare` asks for the same thing all through a sort.
    static MADE: RefCell<Vec<Rc<Service>>> = const { RefCell::new(Vec::new()) };
    /// What is made without locales and options, as most sorts ask for it.
    static PLAIN: RefCell<Option<Rc<Service>>> = const { RefCell::new(None) };
}

/// How many are remembered.
const MOST_MADE: usize = 4;

/// `new Intl.Collator(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = create(ctx, args.first(), args.get(1), NAME)?;
    js::construct_shared(ctx, args.this, "Collator", service)
}

fn create<'js>(
    ctx: &Ctx<'js>,
    locales: Option<&Value<'js>>,
    options: Option<&Value<'js>>,
    who: &'static str,
) -> Js<'js, Rc<Service>> {
    let is_plain = [locales, options].into_iter().flatten().all(Value::is_undefined);
    if is_plain && let Some(service) = PLAIN.with_borrow(Clone::clone) {
        return Ok(service);
    }
    let service = create_or_find(ctx, locales, options, who)?;
    if is_plain {
        PLAIN.set(Some(Rc::clone(&service)));
    }
    Ok(service)
}

fn create_or_find<'js>(
    ctx: &Ctx<'js>,
    locales: Option<&Value<'js>>,
    options: Option<&Value<'js>>,
    who: &'static str,
) -> Js<'js, Rc<Service>> {
    let locale = match locales {
        Some(value) if value.is_string() => {
            Some(engine::string_of(ctx, value)?).filter(|tag| !tag.is_empty())
        }
        Some(value) if !value.is_undefined() => None,
        _ => Some(String::new()),
    };
    // A tag that was read before is valid. Any other is read before the options are.
    let known = |service: &Rc<Service>| locale.is_some() && service.request.locale == locale;
    let requested = if MADE.with_borrow(|made| made.iter().any(known)) {
        None
    } else {
        Some(canonical_list(ctx, locales)?)
    };
    let request = read(ctx, locale, &Options::coerced(ctx, options, who)?)?;
    let same =
        |service: &&Rc<Service>| service.request.locale.is_some() && service.request == request;
    if let Some(service) = MADE.with_borrow(|made| made.iter().find(same).cloned()) {
        return Ok(service);
    }
    let requested = requested.map_or_else(|| canonical_list(ctx, locales), Ok)?;
    let service = Rc::new(resolve(&requested, request));
    MADE.with_borrow_mut(|made| {
        made.insert(0, Rc::clone(&service));
        made.truncate(MOST_MADE);
    });
    Ok(service)
}

fn read<'js>(
    ctx: &Ctx<'js>,
    locale: Option<String>,
    options: &Options<'_, 'js>,
) -> Js<'js, Request> {
    let search = options.word(c"usage", &["sort", "search"])? == Some("search");
    options.matcher()?;
    let boolean = |value: Value<'js>| js::to_boolean(ctx, &value);
    Ok(Request {
        locale,
        search,
        kind: options.keyword(c"collation")?,
        numeric: options.value(c"numeric")?.map(boolean),
        case_first: options.word(c"caseFirst", &["upper", "lower", "false"])?,
        sensitivity: options.choice(c"sensitivity", &SENSITIVITIES)?.unwrap_or_default(),
        ignore_punctuation: options.value(c"ignorePunctuation")?.map(boolean),
    })
}

fn resolve(requested: &[Tag], request: Request) -> Service {
    let has_kind = |held: Held, kind: &str| collation::types(held.tag).contains(&kind);
    let is_boolean = |_: Held, value: &str| matches!(value, "true" | "false");
    let is_case = |_: Held, value: &str| matches!(value, "upper" | "lower" | "false");
    let sort = !request.search;
    let keys = [
        Key { name: "co", option: request.kind.clone().filter(|_| sort), known: &has_kind },
        Key { name: "kf", option: request.case_first.map(str::to_owned), known: &is_case },
        Key { name: "kn", option: request.numeric.map(|on| on.to_string()), known: &is_boolean },
    ];
    let resolved = resolve_among(requested, &keys, best_available);
    let [kind, first, numeric] = <[_; 3]>::try_from(resolved.values).unwrap_or_default();
    let asked = Asked {
        locale: resolved.held.tag,
        kind: kind.filter(|_| sort),
        search: request.search,
        numeric: numeric.as_deref() == Some("true"),
        case_first: first.and_then(|word| {
            CASES.iter().find(|(known, _)| *known == word).map(|(_, first)| *first)
        }),
        sensitivity: request.sensitivity,
        ignore_punctuation: request.ignore_punctuation,
    };
    Service { request, locale: resolved.locale, collation: Collation::new(asked) }
}

/// Compares two values as strings.
fn compare<'js>(
    ctx: &Ctx<'js>,
    collation: &Collation,
    left: Option<&Value<'js>>,
    right: Option<&Value<'js>>,
) -> Returned<'js> {
    let none = Value::new_undefined(ctx.clone());
    let left = engine::to_string(ctx, left.unwrap_or(&none))?;
    let right = engine::to_string(ctx, right.unwrap_or(&none))?;
    let order = engine::with_bytes(ctx, &left, |left| {
        engine::with_bytes(ctx, &right, |right| collation.compare(left, right))
    })??;
    let number = match order {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    };
    Ok(Value::new_int(ctx.clone(), number))
}

/// `compare`, bound to its collator.
pub(super) fn get_compare<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    receiver::<Service>(ctx, args.this, "get Intl.Collator.prototype.compare")?;
    bound(ctx, args.this, (0, 2), compare_bound)
}

unsafe extern "C" fn compare_bound(
    raw: *mut qjs::JSContext,
    _this: qjs::JSValue,
    count: c_int,
    values: *mut qjs::JSValue,
    _magic: c_int,
    data: *mut qjs::JSValue,
) -> qjs::JSValue {
    // SAFETY: called by the engine with its own arguments; the data is the collator.
    unsafe {
        run_helper(raw, *data, count, values, |ctx, args| {
            let service = receiver::<Service>(ctx, args.this, "compare")?;
            compare(ctx, &service.collation, args.first(), args.get(1))
        })
    }
}

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.Collator.prototype.resolvedOptions";
    let service = receiver::<Service>(ctx, args.this, method)?;
    let asked = service.collation.options();
    let default = |locale: &str| match locale {
        _ if asked.search => "default",
        "zh" | "zh-CN" | "zh-SG" => "pinyin",
        _ if locale.starts_with("zh-Hans") => "pinyin",
        _ if locale.starts_with("zh") => "stroke",
        _ => "default",
    };
    let punctuation =
        asked.ignore_punctuation.unwrap_or_else(|| collation::ignores_punctuation(asked.locale));
    let first = asked.case_first.unwrap_or_else(|| collation::case_first(asked.locale));
    let boolean = |on: bool| Some(Value::new_bool(ctx.clone(), on));
    js::object(
        ctx,
        &[
            ("locale", text(ctx, &service.locale)?),
            ("usage", text(ctx, if asked.search { "search" } else { "sort" })?),
            ("sensitivity", text(ctx, word_of(&SENSITIVITIES, &asked.sensitivity))?),
            ("ignorePunctuation", boolean(punctuation)),
            ("collation", text(ctx, asked.kind.as_deref().unwrap_or(default(asked.locale)))?),
            ("numeric", boolean(asked.numeric)),
            ("caseFirst", text(ctx, word_of(&CASES, &first))?),
        ],
    )
}

/// `Intl.Collator.supportedLocalesOf(locales, options)`
pub(super) fn supported_locales_of<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    supported_among(ctx, args, "Intl.Collator.supportedLocalesOf", best_available)
}

/// `String.prototype.localeCompare(that, locales, options)`
pub(super) fn locale_compare<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    const WHO: &str = "String.prototype.localeCompare";
    if args.this.is_null() || args.this.is_undefined() {
        return Err(type_error(ctx, &format!("{WHO} called on null or undefined")));
    }
    let this = engine::to_string(ctx, args.this)?;
    let none = Value::new_undefined(ctx.clone());
    let that = engine::to_string(ctx, args.first().unwrap_or(&none))?;
    let service = create(ctx, args.get(1), args.get(2), WHO)?;
    compare(ctx, &service.collation, Some(&this), Some(&that))
}
