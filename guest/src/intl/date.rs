//! `Intl.DateTimeFormat`.

use super::js::{
    self, Js, bound, parts, range_error, receiver, text, type_error, unwrapped_receiver,
};
use super::locales::{Key, canonical_list, default_zone, resolve, system_key};
use super::options::Options;
use crate::engine::{self, run_helper};
use crate::globals::{Args, Returned};
use cellblock_intl::date::calendar::Calendar;
use cellblock_intl::date::zone::Zone;
use cellblock_intl::date::{
    DateTimeFormat, HourCycle, Options as Asked, Shown, Style, customs, cycle_of,
};
use rquickjs::{Ctx, Value, qjs};
use std::cell::RefCell;
use std::ffi::{CStr, c_int};
use std::rc::Rc;

const NAME: &str = "Intl.DateTimeFormat";

/// What a date and time format holds.
#[derive(Debug)]
pub(super) struct Service {
    locale: String,
    system: String,
    styles: Option<(Option<Style>, Option<Style>)>,
    pub(super) format: DateTimeFormat,
}

/// Which fields a method is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// Dates and times; a date when nothing is asked for.
    Any,
    /// Dates and times; both when nothing is asked for.
    All,
    /// A date.
    Date,
    /// A time.
    Time,
}

const CYCLES: [(&str, HourCycle); 4] = [
    ("h11", HourCycle::H11),
    ("h12", HourCycle::H12),
    ("h23", HourCycle::H23),
    ("h24", HourCycle::H24),
];
const STYLES: [(&str, Style); 4] = [
    ("full", Style::Full),
    ("long", Style::Long),
    ("medium", Style::Medium),
    ("short", Style::Short),
];

/// Words of an option, each with the letters it stands for in a skeleton.
type Words = &'static [(&'static str, &'static str)];

const NAMES_OF_WEEKDAYS: Words = &[("narrow", "EEEEE"), ("long", "EEEE"), ("short", "EEE")];
const DIGITS_OF_DAYS: Words = &[("2-digit", "dd"), ("numeric", "d")];

/// The options that are fields, in the order in which they are read.
const FIELDS: [(&CStr, Words); 9] = [
    (c"weekday", NAMES_OF_WEEKDAYS),
    (c"era", &[("narrow", "GGGGG"), ("long", "GGGG"), ("short", "GGG")]),
    (c"year", &[("2-digit", "yy"), ("numeric", "y")]),
    (
        c"month",
        &[
            ("narrow", "MMMMM"),
            ("long", "MMMM"),
            ("short", "MMM"),
            ("2-digit", "MM"),
            ("numeric", "M"),
        ],
    ),
    (c"day", DIGITS_OF_DAYS),
    (c"dayPeriod", &[("narrow", "BBBBB"), ("long", "BBBB"), ("short", "B")]),
    (c"hour", &[("2-digit", "jj"), ("numeric", "j")]),
    (c"minute", &[("2-digit", "mm"), ("numeric", "m")]),
    (c"second", &[("2-digit", "ss"), ("numeric", "s")]),
];
const ZONE_NAMES: Words = &[
    ("long", "zzzz"),
    ("short", "z"),
    ("longOffset", "OOOO"),
    ("shortOffset", "O"),
    ("longGeneric", "vvvv"),
    ("shortGeneric", "v"),
];

/// `new Intl.DateTimeFormat(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = create(ctx, args.first(), args.get(1), About::Any, NAME)?;
    js::construct_shared(ctx, args.this, "DateTimeFormat", service)
}

thread_local! {
    /// Formats made last, with what they were made from: most programs write many dates
    /// in one way.
    static MADE: RefCell<Vec<(String, Asked, Rc<Service>)>> = const { RefCell::new(Vec::new()) };
}

/// Formats that are kept.
const KEPT: usize = 8;

/// `CreateDateTimeFormat`
pub(super) fn create<'js>(
    ctx: &Ctx<'js>,
    locales: Option<&Value<'js>>,
    options: Option<&Value<'js>>,
    about: About,
    who: &'static str,
) -> Js<'js, Rc<Service>> {
    let requested = canonical_list(ctx, locales)?;
    let options = Options::coerced(ctx, options, who)?;
    options.matcher()?;
    let calendar = options.keyword(c"calendar")?;
    let system = options.keyword(c"numberingSystem")?;
    let twelve = options.value(c"hour12")?.map(|value| js::to_boolean(ctx, &value));
    let cycle = options.choice(c"hourCycle", &CYCLES)?;
    let cycle = cycle.filter(|_| twelve.is_none());
    let word = |cycle: &HourCycle| cycle.name().to_owned();
    let is_cycle =
        |_, name: &str| twelve.is_none() && CYCLES.iter().any(|(known, _)| *known == name);
    let resolved = resolve(
        &requested,
        &[
            Key { name: "ca", option: calendar, known: &|_, name| Calendar::of(name).is_some() },
            Key { name: "hc", option: cycle.as_ref().map(word), known: &is_cycle },
            system_key(system),
        ],
    );
    let [calendar, named_cycle, system] = &resolved.values[..] else {
        return Err(engine::Thrown::text("three keys have three values"));
    };
    let tag = resolved.held.tag;
    let (default_cycle, default_calendar) = customs(tag);
    let named_cycle = named_cycle
        .as_deref()
        .and_then(|name| CYCLES.iter().find(|(known, _)| *known == name).map(|(_, cycle)| *cycle));
    let region = tag.rsplit('-').next().unwrap_or_default();
    let hour_cycle = match twelve {
        Some(twelve) => cycle_of(twelve, default_cycle, region),
        None => named_cycle.unwrap_or(default_cycle),
    };
    let calendar = calendar.as_deref().and_then(Calendar::of);
    let default_system = resolved.held.data.core("ns");
    let zone = match options.string(c"timeZone")? {
        None => default_zone(),
        Some(name) => Zone::parse(&name)
            .ok_or_else(|| range_error(ctx, &format!("Invalid time zone specified: {name}")))?,
    };
    let (shown, styles) = read_shown(ctx, &options, about)?;
    let asked = Asked {
        calendar: calendar.unwrap_or(default_calendar),
        system: system.clone().unwrap_or_else(|| default_system.to_owned()),
        zone,
        hour_cycle,
        shown,
    };
    let known = MADE.with_borrow(|made| {
        let same = made.iter().find(|(locale, one, _)| *locale == resolved.locale && *one == asked);
        same.map(|(_, _, service)| Rc::clone(service))
    });
    if let Some(service) = known {
        return Ok(service);
    }
    // A cycle that the locale's name has is what ICU takes for the locale's own.
    let own_cycle = named_cycle.filter(|_| resolved.locale.contains("-hc-"));
    let format =
        DateTimeFormat::new(resolved.held.data, own_cycle.unwrap_or(default_cycle), &asked);
    let service = Rc::new(Service {
        locale: resolved.locale.clone(),
        system: asked.system.clone(),
        styles,
        format,
    });
    MADE.with_borrow_mut(|made| {
        if made.len() == KEPT {
            made.remove(0);
        }
        made.push((resolved.locale, asked, Rc::clone(&service)));
    });
    Ok(service)
}

type Styles = Option<(Option<Style>, Option<Style>)>;

/// Reads the fields and the styles.
fn read_shown<'js>(
    ctx: &Ctx<'js>,
    options: &Options<'_, 'js>,
    about: About,
) -> Js<'js, (Shown, Styles)> {
    let mut skeleton = String::new();
    let (mut has_date, mut has_time) = (false, false);
    for (at, (name, words)) in FIELDS.iter().enumerate() {
        if let Some(letters) = options.choice(name, words)? {
            skeleton.push_str(letters);
            has_date |= matches!(at, 0 | 2..=4);
            has_time |= at >= 5;
        }
    }
    if let Some(digits) = options.number(c"fractionalSecondDigits", 1, 3)? {
        skeleton.extend(std::iter::repeat_n('S', digits as usize));
        has_time = true;
    }
    if let Some(letters) = options.choice(c"timeZoneName", ZONE_NAMES)? {
        skeleton.push_str(letters);
    }
    options.word(c"formatMatcher", &["best fit", "basic"])?;
    let date = options.choice(c"dateStyle", &STYLES)?;
    let time = options.choice(c"timeStyle", &STYLES)?;
    if date.is_some() || time.is_some() {
        let wrong = match about {
            _ if !skeleton.is_empty() => Some("option"),
            About::Date if time.is_some() => Some("timeStyle"),
            About::Time if date.is_some() => Some("dateStyle"),
            _ => None,
        };
        return match wrong {
            Some(name) => Err(type_error(ctx, &format!("Invalid option : {name}"))),
            None => Ok((Shown::Styles(date, time), Some((date, time)))),
        };
    }
    let asked = match about {
        About::Date => has_date,
        About::Time => has_time,
        About::Any | About::All => has_date || has_time,
    };
    if !asked && about != About::Time {
        skeleton.push_str("yMd");
    }
    if !asked && matches!(about, About::Time | About::All) {
        skeleton.push_str("Jms");
    }
    Ok((Shown::Fields(skeleton), None))
}

/// The moment of an argument, now when there is none.
fn moment<'js>(ctx: &Ctx<'js>, value: Option<&Value<'js>>) -> Js<'js, i64> {
    const MOST: f64 = 8.64e15;
    let time = match value.filter(|value| !value.is_undefined()) {
        Some(value) if value.is_symbol() => {
            return Err(type_error(ctx, "Cannot convert a Symbol value to a number"));
        }
        Some(value) if value.type_of() == rquickjs::Type::BigInt => {
            return Err(type_error(ctx, "Cannot convert a BigInt value to a number"));
        }
        Some(value) => engine::number_of(ctx, value)?,
        None => (crate::bindings::cellblock::code_mode::clock::wall() / 1_000_000) as f64,
    };
    if time.is_nan() || time.abs() > MOST {
        return Err(range_error(ctx, "Invalid time value"));
    }
    Ok(time.trunc() as i64)
}

fn this<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>, method: &str) -> Js<'js, Rc<Service>> {
    unwrapped_receiver(ctx, args.this, method, ("UnwrapDateTimeFormat", args.this))
}

/// `format`, bound to its format.
pub(super) fn get_format<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    this(ctx, args, "get Intl.DateTimeFormat.prototype.format")?;
    bound(ctx, args.this, (0, 1), format)
}

unsafe extern "C" fn format(
    raw: *mut qjs::JSContext,
    _this: qjs::JSValue,
    count: c_int,
    values: *mut qjs::JSValue,
    _magic: c_int,
    data: *mut qjs::JSValue,
) -> qjs::JSValue {
    // SAFETY: called by the engine with its own arguments; the data is the format.
    unsafe {
        run_helper(raw, *data, count, values, |ctx, args| {
            let service = receiver::<Service>(ctx, args.this, "get format")?;
            let moment = moment(ctx, args.first())?;
            engine::new_string(ctx, &service.format.format(moment))
        })
    }
}

/// `formatToParts(date)`
pub(super) fn format_to_parts<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.DateTimeFormat.prototype.formatToParts";
    let service = receiver::<Service>(ctx, args.this, method)?;
    parts(ctx, &service.format.format_to_parts(moment(ctx, args.first())?), false)
}

/// `formatRange(start, end)`
pub(super) fn format_range<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.DateTimeFormat.prototype.formatRange";
    let service = receiver::<Service>(ctx, args.this, method)?;
    let (start, end) = ends(ctx, args)?;
    let list = service.format.format_range_to_parts(start, end);
    engine::new_string(ctx, &cellblock_intl::part::text(&list))
}

/// `formatRangeToParts(start, end)`
pub(super) fn format_range_to_parts<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.DateTimeFormat.prototype.formatRangeToParts";
    let service = receiver::<Service>(ctx, args.this, method)?;
    let (start, end) = ends(ctx, args)?;
    parts(ctx, &service.format.format_range_to_parts(start, end), true)
}

fn ends<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Js<'js, (i64, i64)> {
    let given = |at: usize| args.get(at).filter(|value| !value.is_undefined());
    let (Some(start), Some(end)) = (given(0), given(1)) else {
        return Err(type_error(ctx, "Invalid time value"));
    };
    Ok((moment(ctx, Some(start))?, moment(ctx, Some(end))?))
}

/// What `resolvedOptions` says of fields: V8 looks for their letters anywhere in the
/// pattern, even in its words.
const RESOLVED: [(&str, Words); 9] = [
    (
        "weekday",
        &[
            ("narrow", "EEEEE"),
            ("long", "EEEE"),
            ("short", "EEE"),
            ("narrow", "ccccc"),
            ("long", "cccc"),
            ("short", "ccc"),
        ],
    ),
    ("era", &[("narrow", "GGGGG"), ("long", "GGGG"), ("short", "GGG")]),
    ("year", &[("2-digit", "yy"), ("numeric", "y")]),
    (
        "month",
        &[
            ("narrow", "MMMMM"),
            ("long", "MMMM"),
            ("short", "MMM"),
            ("2-digit", "MM"),
            ("numeric", "M"),
            ("narrow", "LLLLL"),
            ("long", "LLLL"),
            ("short", "LLL"),
            ("2-digit", "LL"),
            ("numeric", "L"),
        ],
    ),
    ("day", DIGITS_OF_DAYS),
    (
        "dayPeriod",
        &[
            ("narrow", "BBBBB"),
            ("narrow", "bbbbb"),
            ("long", "BBBB"),
            ("long", "bbbb"),
            ("short", "B"),
            ("short", "b"),
        ],
    ),
    (
        "hour",
        &[
            ("2-digit", "HH"),
            ("numeric", "H"),
            ("2-digit", "hh"),
            ("numeric", "h"),
            ("2-digit", "kk"),
            ("numeric", "k"),
            ("2-digit", "KK"),
            ("numeric", "K"),
        ],
    ),
    ("minute", &[("2-digit", "mm"), ("numeric", "m")]),
    ("second", &[("2-digit", "ss"), ("numeric", "s")]),
];

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = this(ctx, args, "Intl.DateTimeFormat.prototype.resolvedOptions")?;
    let format = &service.format;
    let pattern = format.pattern();
    let mut members = vec![
        ("locale", text(ctx, &service.locale)?),
        ("calendar", text(ctx, format.calendar().name())?),
        ("numberingSystem", text(ctx, &service.system)?),
        ("timeZone", text(ctx, &format.zone().name)?),
    ];
    if let Some(cycle) = format.hour_cycle() {
        members.push(("hourCycle", text(ctx, cycle.name())?));
        members.push(("hour12", Some(Value::new_bool(ctx.clone(), cycle.is_twelve()))));
    }
    let find = |words: Words| words.iter().find(|(_, letters)| pattern.contains(letters));
    if let Some((date, time)) = service.styles {
        for (name, style) in [("dateStyle", date), ("timeStyle", time)] {
            let word = style.map(|style| text(ctx, super::number::word_of(&STYLES, &style)));
            members.push((name, word.transpose()?.flatten()));
        }
    } else {
        for (name, words) in RESOLVED {
            let word = find(words).map(|(word, _)| text(ctx, word));
            members.push((name, word.transpose()?.flatten()));
        }
        let digits = pattern.matches('S').count().min(3) as u32;
        if digits > 0 {
            members.push(("fractionalSecondDigits", js::number(ctx, digits)));
        }
        let word = find(ZONE_NAMES).map(|(word, _)| text(ctx, word));
        members.push(("timeZoneName", word.transpose()?.flatten()));
    }
    js::object(ctx, &members)
}

thread_local! {
    /// The last format that a method of dates made without options, by what the method
    /// is about and its locale; the default locale's name is `None`.
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

type Last = (About, Option<String>, Rc<Service>);

fn to_locale_string<'js>(
    ctx: &Ctx<'js>,
    args: Args<'_, 'js>,
    about: About,
    who: &'static str,
) -> Returned<'js> {
    let Some(time) = js::date_value(ctx, args.this) else {
        return Err(js::incompatible(ctx, args.this, who));
    };
    if args.get(1).is_some_and(Value::is_null) {
        return Err(type_error(ctx, &format!("{who} called on null or undefined")));
    }
    if time.is_nan() {
        return engine::new_string(ctx, "Invalid Date");
    }
    let undefined = |value: Option<&Value<'js>>| value.is_none_or(Value::is_undefined);
    let plain = undefined(args.first()) || args.first().is_some_and(Value::is_string);
    let service = if plain && undefined(args.get(1)) {
        let name = match args.first().filter(|value| !value.is_undefined()) {
            Some(value) => Some(engine::string_of(ctx, value)?),
            None => None,
        };
        let last = LAST.with_borrow(|last| {
            let same = last.as_ref().filter(|(of, known, _)| *of == about && *known == name);
            same.map(|(_, _, service)| Rc::clone(service))
        });
        match last {
            Some(service) => service,
            None => {
                let service = create(ctx, args.first(), None, about, who)?;
                LAST.set(Some((about, name, Rc::clone(&service))));
                service
            }
        }
    } else {
        create(ctx, args.first(), args.get(1), about, who)?
    };
    engine::new_string(ctx, &service.format.format(time as i64))
}

/// `Date.prototype.toLocaleString(locales, options)`
pub(super) fn date_to_locale_string<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    to_locale_string(ctx, args, About::All, "Date.prototype.toLocaleString")
}

/// `Date.prototype.toLocaleDateString(locales, options)`
pub(super) fn to_locale_date_string<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    to_locale_string(ctx, args, About::Date, "Date.prototype.toLocaleDateString")
}

/// `Date.prototype.toLocaleTimeString(locales, options)`
pub(super) fn to_locale_time_string<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    to_locale_string(ctx, args, About::Time, "Date.prototype.toLocaleTimeString")
}
