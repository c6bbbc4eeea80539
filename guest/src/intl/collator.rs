//! `Intl.Collator`, and `localeCompare` of strings.

use super::js::{self, Js, bound, receiver, text, type_error};
use super::locales::{Key, canonical_list, resolve_among};
use super::number::word_of;
use super::options::Options;
use crate::engine::{self, run_helper};
use crate::globals::{Args, Returned};
use cellblock_intl::collation::{
    self, CaseFirst, Collation, Options as Asked, Sensitivity, best_available,
};
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

/// What a collator holds.
#[derive(Debug)]
struct Service {
    locale: String,
    collation: Rc<Collation>,
}

thread_local! {
    /// The collations that were made last: a collation's tables are loaded once for
    /// all the calls of `localeCompare` in a sort.
    static MADE: RefCell<Vec<Rc<Collation>>> = const { RefCell::new(Vec::new()) };
    /// The collation of the last `localeCompare` without options, by its locale; the
    /// default locale's name is empty here.
    static LAST: RefCell<Option<(String, Rc<Collation>)>> = const { RefCell::new(None) };
}

/// How many collations are remembered.
const MOST_MADE: usize = 4;

/// `new Intl.Collator(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = create(ctx, args.first(), args.get(1), NAME)?;
    js::construct(ctx, args.this, "Collator", service)
}

fn create<'js>(
    ctx: &Ctx<'js>,
    locales: Option<&Value<'js>>,
    options: Option<&Value<'js>>,
    who: &'static str,
) -> Js<'js, Service> {
    let requested = canonical_list(ctx, locales)?;
    let options = Options::coerced(ctx, options, who)?;
    let search = options.word(c"usage", &["sort", "search"])? == Some("search");
    options.matcher()?;
    let kind = options.keyword(c"collation")?;
    let numeric = options.value(c"numeric")?.map(|value| js::to_boolean(ctx, &value));
    let first = options.word(c"caseFirst", &["upper", "lower", "false"])?;
    let sensitivity = options.choice(c"sensitivity", &SENSITIVITIES)?;
    let punctuation = options.value(c"ignorePunctuation")?;
    let has_kind = |locale: &str, kind: &str| collation::types(locale).contains(&kind);
    let is_boolean = |_: &str, value: &str| matches!(value, "true" | "false");
    let is_case = |_: &str, value: &str| matches!(value, "upper" | "lower" | "false");
    let keys = [
        Key { name: "co", option: kind.filter(|_| !search), known: &has_kind },
        Key { name: "kf", option: first.map(str::to_owned), known: &is_case },
        Key { name: "kn", option: numeric.map(|on| on.to_string()), known: &is_boolean },
    ];
    let resolved =
        resolve_among(&requested, &keys, &|tag| best_available(&tag.base_name()), "en-US");
    let [kind, first, numeric] = <[_; 3]>::try_from(resolved.values).unwrap_or_default();
    let asked = Asked {
        locale: resolved.held,
        kind: kind.filter(|_| !search),
        search,
        numeric: numeric.as_deref() == Some("true"),
        case_first: first.and_then(|word| {
            CASES.iter().find(|(known, _)| *known == word).map(|(_, first)| *first)
        }),
        sensitivity: sensitivity.unwrap_or_default(),
        ignore_punctuation: punctuation.map(|value| js::to_boolean(ctx, &value)),
    };
    Ok(Service { locale: resolved.locale, collation: collation_of(asked) })
}

fn collation_of(asked: Asked) -> Rc<Collation> {
    MADE.with_borrow_mut(|made| {
        if let Some(known) = made.iter().find(|known| *known.options() == asked) {
            return Rc::clone(known);
        }
        let collation = Rc::new(Collation::new(asked));
        made.insert(0, Rc::clone(&collation));
        made.truncate(MOST_MADE);
        collation
    })
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
    bound(ctx, args.this, 2, compare_bound)
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

/// `String.prototype.localeCompare(that, locales, options)`
pub(super) fn locale_compare<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    const WHO: &str = "String.prototype.localeCompare";
    if args.this.is_null() || args.this.is_undefined() {
        return Err(type_error(ctx, &format!("{WHO} called on null or undefined")));
    }
    let undefined = |value: Option<&Value<'js>>| value.is_none_or(Value::is_undefined);
    let plain = undefined(args.get(1)) || args.get(1).is_some_and(Value::is_string);
    if !plain || !undefined(args.get(2)) {
        let this = engine::to_string(ctx, args.this)?;
        let none = Value::new_undefined(ctx.clone());
        let that = engine::to_string(ctx, args.first().unwrap_or(&none))?;
        let service = create(ctx, args.get(1), args.get(2), WHO)?;
        return compare(ctx, &service.collation, Some(&this), Some(&that));
    }
    let this = engine::to_string(ctx, args.this)?;
    let name = match args.get(1).filter(|value| !value.is_undefined()) {
        Some(value) => engine::string_of(ctx, value)?,
        None => String::new(),
    };
    let explicit = args.get(1).is_some_and(|value| !value.is_undefined());
    let last = LAST.with_borrow(|last| {
        last.as_ref()
            .filter(|(known, _)| *known == name && (explicit != name.is_empty()))
            .map(|(_, collation)| Rc::clone(collation))
    });
    let collation = if let Some(collation) = last {
        collation
    } else {
        let collation = create(ctx, args.get(1), None, WHO)?.collation;
        LAST.set(Some((name, Rc::clone(&collation))));
        collation
    };
    compare(ctx, &collation, Some(&this), args.first())
}
