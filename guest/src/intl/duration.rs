//! `Intl.DurationFormat`.

use super::js::{self, Js, number, parts, range_error, receiver, shown, text, type_error};
use super::locales::{canonical_list, resolve, system_key};
use super::options::Options;
use crate::engine;
use crate::globals::{Args, Returned};
use cellblock_intl::duration::{Duration, DurationFormat, UnitOptions, UnitStyle};
use cellblock_intl::number::Width;
use cellblock_intl::part::{self, Part};
use rquickjs::{Ctx, Value};
use std::ffi::CStr;

/// What a format of durations holds.
#[derive(Debug)]
struct Service {
    locale: String,
    system: String,
    /// The width of names; `None` is `digital`.
    style: Option<Width>,
    format: DurationFormat,
}

const NAMES: [&CStr; 10] = [
    c"years",
    c"months",
    c"weeks",
    c"days",
    c"hours",
    c"minutes",
    c"seconds",
    c"milliseconds",
    c"microseconds",
    c"nanoseconds",
];
const DISPLAYS: [&CStr; 10] = [
    c"yearsDisplay",
    c"monthsDisplay",
    c"weeksDisplay",
    c"daysDisplay",
    c"hoursDisplay",
    c"minutesDisplay",
    c"secondsDisplay",
    c"millisecondsDisplay",
    c"microsecondsDisplay",
    c"nanosecondsDisplay",
];
/// The order in which the amounts of a duration are read, by their place in [`NAMES`].
const READ: [usize; 10] = [3, 4, 8, 7, 5, 1, 9, 6, 2, 0];

const STYLES: [(&str, Option<Width>); 4] = [
    ("long", Some(Width::Long)),
    ("short", Some(Width::Short)),
    ("narrow", Some(Width::Narrow)),
    ("digital", None),
];
const UNIT_STYLES: [(&str, UnitStyle); 5] = [
    ("long", UnitStyle::Named(Width::Long)),
    ("short", UnitStyle::Named(Width::Short)),
    ("narrow", UnitStyle::Named(Width::Narrow)),
    ("numeric", UnitStyle::Numeric),
    ("2-digit", UnitStyle::TwoDigit),
];

/// Places of units in [`NAMES`].
const HOURS: usize = 4;
const MINUTES: usize = 5;
const SECONDS: usize = 6;

/// `new Intl.DurationFormat(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let requested = canonical_list(ctx, args.first())?;
    let options = Options::object(ctx, args.get(1), "Intl.DurationFormat")?;
    options.matcher()?;
    let system = options.keyword(c"numberingSystem")?;
    let mut resolved = resolve(&requested, &[system_key(system)]);
    let default = resolved.held.data.core("ns");
    let system = resolved.values.remove(0).unwrap_or_else(|| default.to_owned());
    let style = options.choice(c"style", &STYLES)?.unwrap_or(Some(Width::Short));
    let mut units = [UnitOptions { style: UnitStyle::Numeric, always: false }; 10];
    let mut previous = None;
    for at in 0..units.len() {
        let Some(unit) = read_unit(&options, at, style, previous)? else {
            let options = args.get(1).map_or_else(String::new, |options| shown(ctx, options));
            return Err(range_error(ctx, &format!("Invalid object : {options}")));
        };
        units[at] = unit;
        previous = (at >= HOURS).then_some(unit.style);
    }
    let fraction = options.number(c"fractionalDigits", 0, 9)?;
    let width = style.unwrap_or(Width::Short);
    let format = DurationFormat::new(resolved.held.data, &system, width, units, fraction);
    let service = Service { locale: resolved.locale, system, style, format };
    js::construct(ctx, args.this, "DurationFormat", service)
}

/// `GetDurationUnitOptions`; `None` where options contradict each other.
fn read_unit<'js>(
    options: &Options<'_, 'js>,
    at: usize,
    base: Option<Width>,
    previous: Option<UnitStyle>,
) -> Js<'js, Option<UnitOptions>> {
    let choices = match at {
        0..HOURS => &UNIT_STYLES[..3],
        HOURS..=SECONDS => &UNIT_STYLES[..],
        _ => &UNIT_STYLES[..4],
    };
    let after_digits = matches!(previous, Some(UnitStyle::Numeric | UnitStyle::TwoDigit));
    let asked = options.choice(NAMES[at], choices)?;
    let (mut style, mut always) = match (asked, base) {
        (Some(style), _) => (style, true),
        (None, None) if at < HOURS => (UnitStyle::Named(Width::Short), false),
        (None, None) => (UnitStyle::Numeric, at <= SECONDS),
        (None, Some(_)) if after_digits => (UnitStyle::Numeric, matches!(at, MINUTES | SECONDS)),
        (None, Some(width)) => (UnitStyle::Named(width), false),
    };
    let fraction = at > SECONDS && style == UnitStyle::Numeric;
    if fraction {
        always = false;
    }
    let display = options.choice(DISPLAYS[at], &[("auto", false), ("always", true)])?;
    let always = display.unwrap_or(always);
    if always && fraction || after_digits && matches!(style, UnitStyle::Named(_)) {
        return Ok(None);
    }
    if after_digits && matches!(at, MINUTES | SECONDS) {
        style = UnitStyle::TwoDigit;
    }
    Ok(Some(UnitOptions { style, always }))
}

/// `ToDurationRecord`
fn duration<'js>(ctx: &Ctx<'js>, value: Option<&Value<'js>>) -> Js<'js, Duration> {
    let invalid =
        |value: &Value<'js>| range_error(ctx, &format!("Invalid object : {}", shown(ctx, value)));
    let Some(object) = value.and_then(Value::as_object) else {
        return Err(match value {
            Some(value) if value.is_string() => invalid(value),
            _ => type_error(ctx, "Temporal error: Duration argument must be an object."),
        });
    };
    let mut amounts = [0.0; 10];
    let mut any = false;
    for at in READ {
        let amount = engine::get(ctx, object, NAMES[at])?;
        if amount.is_undefined() {
            continue;
        }
        any = true;
        let kind = match amount.type_of() {
            rquickjs::Type::Symbol => Some("Symbol"),
            rquickjs::Type::BigInt => Some("BigInt"),
            _ => None,
        };
        if let Some(kind) = kind {
            return Err(type_error(ctx, &format!("Cannot convert a {kind} value to a number")));
        }
        let amount = engine::number_of(ctx, &amount)?;
        if amount.is_infinite() || amount.fract() != 0.0 && !amount.is_nan() {
            return Err(range_error(ctx, "Temporal error: Number not integral."));
        }
        amounts[at] = if amount.is_nan() { 0.0 } else { amount };
    }
    if !any {
        let message =
            "Temporal error: Duration argument must contain at least one date/time field.";
        return Err(type_error(ctx, message));
    }
    let duration = Duration(amounts);
    if duration.is_valid() { Ok(duration) } else { Err(invalid(object.as_value())) }
}

fn format_value<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>, method: &str) -> Js<'js, Vec<Part>> {
    let service = receiver::<Service>(ctx, args.this, method)?;
    Ok(service.format.format_to_parts(&duration(ctx, args.first())?))
}

/// `format(duration)`
pub(super) fn format<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let list = format_value(ctx, args, "Intl.DurationFormat.prototype.format")?;
    engine::new_string(ctx, &part::text(&list))
}

/// `formatToParts(duration)`
pub(super) fn format_to_parts<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let list = format_value(ctx, args, "Intl.DurationFormat.prototype.formatToParts")?;
    parts(ctx, &list, false)
}

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.DurationFormat.prototype.resolvedOptions";
    let service = receiver::<Service>(ctx, args.this, method)?;
    let word = |style: &UnitStyle| super::number::word_of(&UNIT_STYLES, style);
    let mut members = vec![
        ("locale", text(ctx, &service.locale)?),
        ("numberingSystem", text(ctx, &service.system)?),
        ("style", text(ctx, super::number::word_of(&STYLES, &service.style))?),
    ];
    for (at, unit) in service.format.units().iter().enumerate() {
        let display = if unit.always { "always" } else { "auto" };
        members.push((NAMES[at].to_str().unwrap_or_default(), text(ctx, word(&unit.style))?));
        members.push((DISPLAYS[at].to_str().unwrap_or_default(), text(ctx, display)?));
    }
    members.push(("fractionalDigits", service.format.fraction().and_then(|n| number(ctx, n))));
    js::object(ctx, &members)
}
