//! `Intl.Locale`, and `Intl.supportedValuesOf`.

use super::js::{self, Js, array, number, range_error, receiver, strings, text, type_error};
use super::options::Options;
use crate::engine;
use crate::globals::{Args, Returned};
use cellblock_intl::info;
use cellblock_intl::locale::{Tag, is_keyword_value, is_language, is_region, is_script};
use rquickjs::{Ctx, Value};
use std::ffi::CStr;
use std::rc::Rc;

/// The tag of a value that is an `Intl.Locale`.
pub(super) fn tag_of(value: &Value<'_>) -> Option<Rc<Tag>> {
    js::service::<Tag>(value)
}

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

fn incorrect<'js>(ctx: &Ctx<'js>) -> engine::Thrown<'js> {
    range_error(ctx, "Incorrect locale information provided")
}

/// `new Intl.Locale(tag, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let missing = "First argument to Intl.Locale constructor can't be empty or missing";
    let Some(value) = args.first().filter(|value| value.is_string() || value.is_object()) else {
        return Err(type_error(ctx, missing));
    };
    let text = match tag_of(value) {
        Some(tag) => tag.to_string(),
        None => engine::string_of(ctx, value)?,
    };
    if args.get(1).is_some_and(Value::is_null) {
        return Err(type_error(ctx, "Intl.Locale called on null or undefined"));
    }
    let options = Options::coerced(ctx, args.get(1), "locale")?;
    if text.is_empty() {
        return Err(range_error(ctx, missing));
    }
    let mut tag = Tag::parse(&text).ok_or_else(|| incorrect(ctx))?;
    read_names(ctx, &options, &mut tag)?;
    read_keywords(ctx, &options, &mut tag)?;
    js::construct(ctx, args.this, "Locale", tag)
}

/// Language, script, region and variants, and the canonical form with them.
fn read_names<'js>(ctx: &Ctx<'js>, options: &Options<'_, 'js>, tag: &mut Tag) -> Js<'js, ()> {
    let part = |name: &CStr, fits: fn(&str) -> bool| match options.string(name)? {
        Some(text) if !fits(&text) => Err(incorrect(ctx)),
        text => Ok(text),
    };
    let language = part(c"language", is_language)?;
    let script = part(c"script", is_script)?;
    let region = part(c"region", is_region)?;
    let variants = options.string(c"variants")?;
    if language.is_none() && script.is_none() && region.is_none() && variants.is_none() {
        return Ok(());
    }
    let mut changed = tag.clone();
    changed.language = language.unwrap_or(changed.language);
    changed.script = script.unwrap_or(changed.script);
    changed.region = region.unwrap_or(changed.region);
    if let Some(variants) = variants {
        // They must be nothing but variants.
        let read = Tag::parse(&format!("und-{variants}")).ok_or_else(|| incorrect(ctx))?;
        if read.base_name().split('-').count() != read.variants.len() + 1 {
            return Err(incorrect(ctx));
        }
        changed.variants = read.variants;
    }
    *tag = Tag::parse(&changed.to_string()).ok_or_else(|| incorrect(ctx))?;
    Ok(())
}

fn read_keywords<'js>(ctx: &Ctx<'js>, options: &Options<'_, 'js>, tag: &mut Tag) -> Js<'js, ()> {
    let mut set = |key: &str, value: Option<String>| match value {
        Some(value) if !is_keyword_value(&value) => Err(incorrect(ctx)),
        Some(value) => {
            tag.set_keyword(key, Some(&value.to_ascii_lowercase()));
            Ok(())
        }
        None => Ok(()),
    };
    set("ca", options.string(c"calendar")?)?;
    set("co", options.string(c"collation")?)?;
    let day = options.string(c"firstDayOfWeek")?;
    let day = day.map(|day| match day.as_bytes() {
        [digit @ b'0'..=b'7'] => DAYS[usize::from(digit - b'0') % 7].to_owned(),
        _ => day,
    });
    set("fw", day)?;
    let cycle = options.word(c"hourCycle", &["h11", "h12", "h23", "h24"])?;
    set("hc", cycle.map(str::to_owned))?;
    let first = options.word(c"caseFirst", &["upper", "lower", "false"])?;
    set("kf", first.map(str::to_owned))?;
    let numeric = options.value(c"numeric")?.map(|value| js::to_boolean(ctx, &value));
    set("kn", numeric.map(|numeric| numeric.to_string()))?;
    set("nu", options.string(c"numberingSystem")?)
}

fn this<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>, member: &str) -> Js<'js, Rc<Tag>> {
    receiver::<Tag>(ctx, args.this, &format!("Intl.Locale.prototype.{member}"))
}

/// `toString()`
pub(super) fn to_string<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    engine::new_string(ctx, &this(ctx, args, "toString")?.to_string())
}

/// `maximize()`
pub(super) fn maximize<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let mut tag = this(ctx, args, "maximize")?.as_ref().clone();
    tag.maximize();
    js::new_object(ctx, &js::prototype(ctx, "Locale")?, Rc::new(tag))
}

/// `minimize()`
pub(super) fn minimize<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let mut tag = this(ctx, args, "minimize")?.as_ref().clone();
    tag.minimize();
    js::new_object(ctx, &js::prototype(ctx, "Locale")?, Rc::new(tag))
}

/// A part of the tag, `undefined` where there is none.
fn part<'js>(
    ctx: &Ctx<'js>,
    args: Args<'_, 'js>,
    member: &str,
    of: impl Fn(&Tag) -> Option<&str>,
) -> Returned<'js> {
    let tag = this(ctx, args, member)?;
    match of(&tag) {
        Some(part) => engine::new_string(ctx, part),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

fn present(part: &str) -> Option<&str> {
    (!part.is_empty()).then_some(part)
}

/// A keyword's value as the standard's getters have it: one without a value is `true`.
fn keyword<'a>(tag: &'a Tag, key: &str) -> Option<&'a str> {
    tag.keyword(key).map(|value| if value.is_empty() { "true" } else { value })
}

/// `language`
pub(super) fn language<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    part(ctx, args, "language", |tag| Some(&tag.language))
}

/// `script`
pub(super) fn script<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    part(ctx, args, "script", |tag| present(&tag.script))
}

/// `region`
pub(super) fn region<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    part(ctx, args, "region", |tag| present(&tag.region))
}

/// `variants`
pub(super) fn variants<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let tag = this(ctx, args, "variants")?;
    if tag.variants.is_empty() {
        return Ok(Value::new_undefined(ctx.clone()));
    }
    engine::new_string(ctx, &tag.variants.join("-"))
}

/// `baseName`
pub(super) fn base_name<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    engine::new_string(ctx, &this(ctx, args, "baseName")?.base_name())
}

/// `calendar`
pub(super) fn calendar<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    part(ctx, args, "calendar", |tag| keyword(tag, "ca"))
}

/// `caseFirst`
pub(super) fn case_first<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    part(ctx, args, "caseFirst", |tag| tag.keyword("kf"))
}

/// `collation`
pub(super) fn collation<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    part(ctx, args, "collation", |tag| keyword(tag, "co"))
}

/// `firstDayOfWeek`
pub(super) fn first_day_of_week<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    part(ctx, args, "firstDayOfWeek", |tag| keyword(tag, "fw"))
}

/// `hourCycle`
pub(super) fn hour_cycle<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    part(ctx, args, "hourCycle", |tag| keyword(tag, "hc"))
}

/// `numberingSystem`
pub(super) fn numbering_system<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    part(ctx, args, "numberingSystem", |tag| keyword(tag, "nu"))
}

/// `numeric`
pub(super) fn numeric<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let numeric = keyword(&*this(ctx, args, "numeric")?, "kn") == Some("true");
    Ok(Value::new_bool(ctx.clone(), numeric))
}

/// `getCalendars()`
pub(super) fn get_calendars<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    strings(ctx, info::calendars(&*this(ctx, args, "getCalendars")?))
}

/// `getCollations()`
pub(super) fn get_collations<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    strings(ctx, info::collations(&*this(ctx, args, "getCollations")?))
}

/// `getHourCycles()`
pub(super) fn get_hour_cycles<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    strings(ctx, info::hour_cycles(&*this(ctx, args, "getHourCycles")?))
}

/// `getNumberingSystems()`
pub(super) fn get_numbering_systems<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    strings(ctx, info::numbering_systems(&*this(ctx, args, "getNumberingSystems")?))
}

/// `getTimeZones()`
pub(super) fn get_time_zones<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    match info::time_zones(&*this(ctx, args, "getTimeZones")?) {
        Some(zones) => strings(ctx, zones),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

/// `getTextInfo()`
pub(super) fn get_text_info<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let direction = info::is_right_to_left(&*this(ctx, args, "getTextInfo")?);
    js::object(ctx, &[("direction", text(ctx, if direction { "rtl" } else { "ltr" })?)])
}

/// `getWeekInfo()`
pub(super) fn get_week_info<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let (first, weekend) = info::week(&*this(ctx, args, "getWeekInfo")?);
    let weekend = weekend.into_iter().filter_map(|day| number(ctx, day)).collect();
    let weekend = array(ctx, weekend)?;
    js::object(ctx, &[("firstDay", number(ctx, first)), ("weekend", Some(weekend))])
}

/// `Intl.supportedValuesOf(key)`
pub(super) fn supported_values_of<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let undefined = Value::new_undefined(ctx.clone());
    let key = args.first().unwrap_or(&undefined);
    if key.is_symbol() {
        return Err(type_error(ctx, "Cannot convert a Symbol value to a string"));
    }
    let key = engine::string_of(ctx, key)?;
    match info::supported_values(&key) {
        Some(values) => strings(ctx, values),
        None => Err(range_error(ctx, &format!("Invalid key : {key}"))),
    }
}
