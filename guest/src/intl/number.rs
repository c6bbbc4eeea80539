//! `Intl.NumberFormat`, and `toLocaleString` of numbers and big integers.

use super::js::{
    self, Js, bound, number, parts, range_error, receiver, text, type_error, unwrapped_receiver,
};
use super::locales::{canonical_list, resolve, system_key};
use super::options::{Options, within};
use crate::engine::{self, run_helper};
use crate::globals::{Args, Returned};
use cellblock_intl::decimal::{Decimal, Kind, Mode};
use cellblock_intl::number::{
    CurrencyDisplay, Digits, Grouping, Notation, NumberFormat, Options as Asked, Precision,
    SignDisplay, Style, Width, currency_digits, is_sanctioned,
};
use rquickjs::{Ctx, Value, qjs};
use std::cell::RefCell;
use std::ffi::{CStr, c_int};
use std::rc::Rc;

const NAME: &str = "Intl.NumberFormat";

/// What a number format holds.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) locale: String,
    pub(super) system: String,
    pub(super) format: NumberFormat,
}

const STYLES: [(&str, Style); 4] = [
    ("decimal", Style::Decimal),
    ("percent", Style::Percent),
    ("currency", Style::Currency),
    ("unit", Style::Unit),
];
const CURRENCY_DISPLAYS: [(&str, CurrencyDisplay); 4] = [
    ("code", CurrencyDisplay::Code),
    ("symbol", CurrencyDisplay::Symbol),
    ("narrowSymbol", CurrencyDisplay::NarrowSymbol),
    ("name", CurrencyDisplay::Name),
];
/// Widths of units and of other names.
pub(super) const WIDTHS: [(&str, Width); 3] =
    [("short", Width::Short), ("narrow", Width::Narrow), ("long", Width::Long)];
const SIGNS: [(&str, SignDisplay); 5] = [
    ("auto", SignDisplay::Auto),
    ("never", SignDisplay::Never),
    ("always", SignDisplay::Always),
    ("exceptZero", SignDisplay::ExceptZero),
    ("negative", SignDisplay::Negative),
];
const MODES: [(&str, Mode); 9] = [
    ("ceil", Mode::Ceil),
    ("floor", Mode::Floor),
    ("expand", Mode::Expand),
    ("trunc", Mode::Trunc),
    ("halfCeil", Mode::HalfCeil),
    ("halfFloor", Mode::HalfFloor),
    ("halfExpand", Mode::HalfExpand),
    ("halfTrunc", Mode::HalfTrunc),
    ("halfEven", Mode::HalfEven),
];
const INCREMENTS: [u32; 15] = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 2500, 5000];

/// The word for a value of a list.
pub(super) fn word_of<T: PartialEq>(list: &[(&'static str, T)], value: &T) -> &'static str {
    list.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// `new Intl.NumberFormat(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = create(ctx, args.first(), args.get(1), NAME)?;
    js::construct_shared(ctx, args.this, "NumberFormat", service)
}

thread_local! {
    /// Formats made last: most programs write many numbers in one way.
    static MADE: RefCell<Vec<Rc<Service>>> = const { RefCell::new(Vec::new()) };
}

/// Formats that are kept.
const KEPT: usize = 8;

pub(super) fn create<'js>(
    ctx: &Ctx<'js>,
    locales: Option<&Value<'js>>,
    options: Option<&Value<'js>>,
    who: &'static str,
) -> Js<'js, Rc<Service>> {
    let requested = canonical_list(ctx, locales)?;
    let options = Options::coerced(ctx, options, who)?;
    options.matcher()?;
    let system = options.keyword(c"numberingSystem")?;
    let mut resolved = resolve(&requested, &[system_key(system)]);
    let default = resolved.held.data.core("ns");
    let system = resolved.values.remove(0).unwrap_or_else(|| default.to_owned());
    let mut asked =
        Asked { style: options.choice(c"style", &STYLES)?.unwrap_or_default(), ..Asked::default() };
    read_unit(ctx, &options, &mut asked)?;
    let notation =
        options.word(c"notation", &["standard", "scientific", "engineering", "compact"])?;
    let compact = notation == Some("compact");
    let (least, most) = match asked.style {
        Style::Currency if notation.unwrap_or("standard") == "standard" => {
            let digits = currency_digits(&asked.currency);
            (digits, digits)
        }
        Style::Percent => (0, 0),
        _ => (0, 3),
    };
    asked.digits = read_digits(ctx, &options, least, most, compact)?;
    let long = options.word(c"compactDisplay", &["short", "long"])? == Some("long");
    asked.notation = match notation {
        Some("scientific") => Notation::Scientific,
        Some("engineering") => Notation::Engineering,
        Some("compact") if long => Notation::CompactLong,
        Some("compact") => Notation::CompactShort,
        _ => Notation::Standard,
    };
    asked.grouping = read_grouping(ctx, &options, compact)?;
    asked.sign = options.choice(c"signDisplay", &SIGNS)?.unwrap_or_default();
    let known = MADE.with_borrow(|made| {
        let same = |one: &&Rc<Service>| {
            one.locale == resolved.locale && one.system == system && *one.format.options() == asked
        };
        made.iter().find(same).map(Rc::clone)
    });
    if let Some(service) = known {
        return Ok(service);
    }
    let format = NumberFormat::new(resolved.held.data, &system, asked);
    let service = Rc::new(Service { locale: resolved.locale, system, format });
    MADE.with_borrow_mut(|made| {
        if made.len() == KEPT {
            made.remove(0);
        }
        made.push(Rc::clone(&service));
    });
    Ok(service)
}

fn read_unit<'js>(ctx: &Ctx<'js>, options: &Options<'_, 'js>, asked: &mut Asked) -> Js<'js, ()> {
    let currency = options.string(c"currency")?;
    if let Some(code) = &currency
        && (code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_alphabetic()))
    {
        return Err(range_error(ctx, &format!("Invalid currency code : {code}")));
    }
    if asked.style == Style::Currency {
        asked.currency = currency
            .ok_or_else(|| type_error(ctx, "Currency code is required with currency style."))?
            .to_ascii_uppercase();
    }
    asked.currency_display =
        options.choice(c"currencyDisplay", &CURRENCY_DISPLAYS)?.unwrap_or_default();
    asked.accounting = options
        .choice(c"currencySign", &[("standard", false), ("accounting", true)])?
        .unwrap_or(false);
    let unit = options.string(c"unit")?;
    if let Some(unit) = &unit
        && !is_sanctioned(unit)
    {
        return Err(range_error(
            ctx,
            &format!("Invalid unit argument for Intl.NumberFormat() '{unit}'"),
        ));
    }
    asked.unit_display = options.choice(c"unitDisplay", &WIDTHS)?.unwrap_or_default();
    if asked.style == Style::Unit {
        asked.unit = unit
            .ok_or_else(|| type_error(ctx, "Invalid unit argument for Intl.NumberFormat() ''"))?;
    }
    Ok(())
}

/// `SetNumberFormatDigitOptions`
pub(super) fn read_digits<'js>(
    ctx: &Ctx<'js>,
    options: &Options<'_, 'js>,
    least: u32,
    most: u32,
    compact: bool,
) -> Js<'js, Digits> {
    let min_integer = options.number(c"minimumIntegerDigits", 1, 21)?.unwrap_or(1);
    let min_fraction = options.value(c"minimumFractionDigits")?;
    let max_fraction = options.value(c"maximumFractionDigits")?;
    let min_significant = options.value(c"minimumSignificantDigits")?;
    let max_significant = options.value(c"maximumSignificantDigits")?;
    let increment = options.number(c"roundingIncrement", 1, 5000)?.unwrap_or(1);
    if !INCREMENTS.contains(&increment) {
        return Err(range_error(ctx, "roundingIncrement value is out of range."));
    }
    let mode = options.choice(c"roundingMode", &MODES)?.unwrap_or_default();
    let priority = options
        .word(c"roundingPriority", &["auto", "morePrecision", "lessPrecision"])?
        .unwrap_or("auto");
    let strip = options.word(c"trailingZeroDisplay", &["auto", "stripIfInteger"])?;
    let most = if increment == 1 { most } else { least };
    let has_significant = min_significant.is_some() || max_significant.is_some();
    let has_fraction = min_fraction.is_some() || max_fraction.is_some();
    let auto = priority == "auto";
    let need_significant = !auto || has_significant;
    let need_fraction = !auto || !(has_significant || !has_fraction && compact);
    let number = |value: &Option<Value<'js>>, name: &CStr, least: u32, most: u32| {
        within(ctx, value.as_ref(), name, least, most)
    };
    let mut significant = (1, 21);
    if need_significant && has_significant {
        let low = number(&min_significant, c"minimumSignificantDigits", 1, 21)?.unwrap_or(1);
        let high = number(&max_significant, c"maximumSignificantDigits", low, 21)?.unwrap_or(21);
        significant = (low, high);
    }
    let mut fraction = (least, most);
    if need_fraction && has_fraction {
        let low = number(&min_fraction, c"minimumFractionDigits", 0, 100)?;
        let high = number(&max_fraction, c"maximumFractionDigits", 0, 100)?;
        fraction = match (low, high) {
            (None, Some(high)) => (least.min(high), high),
            (Some(low), None) => (low, most.max(low)),
            (Some(low), Some(high)) if low > high => {
                return Err(range_error(ctx, "maximumFractionDigits value is out of range."));
            }
            (low, high) => (low.unwrap_or(least), high.unwrap_or(most)),
        };
    }
    let precision = if !need_significant && !need_fraction {
        Precision::COMPACT
    } else if !auto {
        Precision::Both { fraction, significant, more: priority == "morePrecision" }
    } else if has_significant {
        Precision::Significant(significant.0, significant.1)
    } else {
        Precision::Fraction(fraction.0, fraction.1)
    };
    if increment != 1 {
        match precision {
            Precision::Fraction(low, high) if low == high => {}
            Precision::Fraction(..) => {
                return Err(range_error(ctx, "maximumFractionDigits value is out of range."));
            }
            _ => return Err(type_error(ctx, "RoundingType is not fractionDigits")),
        }
    }
    let strip_if_integer = strip == Some("stripIfInteger");
    Ok(Digits { min_integer, precision, increment, mode, strip_if_integer })
}

fn read_grouping<'js>(
    ctx: &Ctx<'js>,
    options: &Options<'_, 'js>,
    compact: bool,
) -> Js<'js, Grouping> {
    let default = if compact { Grouping::Min2 } else { Grouping::Auto };
    let Some(value) = options.value(c"useGrouping")? else { return Ok(default) };
    if value.as_bool() == Some(true) {
        return Ok(Grouping::Always);
    }
    if !js::to_boolean(ctx, &value) {
        return Ok(Grouping::Never);
    }
    match engine::string_of(ctx, &value)?.as_str() {
        "true" | "false" => Ok(default),
        "min2" => Ok(Grouping::Min2),
        "auto" => Ok(Grouping::Auto),
        "always" => Ok(Grouping::Always),
        other => Err(options.out_of_range(c"useGrouping", other)),
    }
}

/// `ToIntlMathematicalValue`
pub(super) fn decimal<'js>(ctx: &Ctx<'js>, value: Option<&Value<'js>>) -> Js<'js, Decimal> {
    let Some(value) = value else { return Ok(Decimal::from_f64(f64::NAN)) };
    if let Some(number) = value.as_int() {
        return Ok(Decimal::from_f64(f64::from(number)));
    }
    if let Some(number) = value.as_float() {
        return Ok(Decimal::from_f64(number));
    }
    if value.is_symbol() {
        return Err(type_error(ctx, "Cannot convert a Symbol value to a number"));
    }
    if value.type_of() == rquickjs::Type::BigInt || value.is_string() {
        let text = engine::string_of(ctx, value)?;
        let plain = text.trim();
        if plain.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E'))
            && let Some(decimal) = Decimal::parse(plain)
        {
            return Ok(decimal);
        }
    }
    engine::number_of(ctx, value).map(Decimal::from_f64)
}

fn this<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>, method: &str) -> Js<'js, Rc<Service>> {
    let found = ("UnwrapNumberFormat", &Value::new_undefined(ctx.clone()));
    unwrapped_receiver(ctx, args.this, method, found)
}

/// `format`, bound to its format.
pub(super) fn get_format<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    this(ctx, args, "get Intl.NumberFormat.prototype.format")?;
    bound(ctx, args.this, (0, 1), format)
}

unsafe extern "C" fn format(
    raw: *mut qjs::JSContext,
    this: qjs::JSValue,
    count: c_int,
    values: *mut qjs::JSValue,
    _magic: c_int,
    data: *mut qjs::JSValue,
) -> qjs::JSValue {
    let _ = this;
    // SAFETY: called by the engine with its own arguments; the data is the format.
    unsafe {
        run_helper(raw, *data, count, values, |ctx, args| {
            let service = receiver::<Service>(ctx, args.this, "get format")?;
            let number = decimal(ctx, args.first())?;
            engine::new_string(ctx, &service.format.format(&number))
        })
    }
}

/// `formatToParts(number)`
pub(super) fn format_to_parts<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = receiver::<Service>(ctx, args.this, "Intl.NumberFormat.prototype.formatToParts")?;
    let number = decimal(ctx, args.first())?;
    parts(ctx, &service.format.format_to_parts(&number), false)
}

/// `formatRange(start, end)`
pub(super) fn format_range<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = receiver::<Service>(ctx, args.this, "Intl.NumberFormat.prototype.formatRange")?;
    let (start, end) = ends(ctx, args)?;
    let list = service.format.format_range_to_parts(&start, &end);
    engine::new_string(ctx, &cellblock_intl::part::text(&list))
}

/// `formatRangeToParts(start, end)`
pub(super) fn format_range_to_parts<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.NumberFormat.prototype.formatRangeToParts";
    let service = receiver::<Service>(ctx, args.this, method)?;
    let (start, end) = ends(ctx, args)?;
    parts(ctx, &service.format.format_range_to_parts(&start, &end), true)
}

pub(super) fn ends<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Js<'js, (Decimal, Decimal)> {
    let given = |value: Option<&Value<'js>>, name: &str| match value {
        Some(value) if !value.is_undefined() => Ok(value.clone()),
        _ => Err(type_error(ctx, &format!("Invalid {name} : undefined"))),
    };
    let (start, end) = (given(args.first(), "start")?, given(args.get(1), "end")?);
    let numbers = (decimal(ctx, Some(&start))?, decimal(ctx, Some(&end))?);
    for (name, value, number) in [("start", start, &numbers.0), ("end", end, &numbers.1)] {
        if number.kind == Kind::Nan {
            let shown = engine::string_of(ctx, &value)?;
            return Err(range_error(ctx, &format!("Invalid {name} : {shown}")));
        }
    }
    Ok(numbers)
}

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = this(ctx, args, "Intl.NumberFormat.prototype.resolvedOptions")?;
    let asked = service.format.options();
    let money = asked.style == Style::Currency;
    let unit = asked.style == Style::Unit;
    let when = |wanted: bool, word: &str| if wanted { text(ctx, word) } else { Ok(None) };
    let mut members = vec![
        ("locale", text(ctx, &service.locale)?),
        ("numberingSystem", text(ctx, &service.system)?),
        ("style", text(ctx, word_of(&STYLES, &asked.style))?),
        ("currency", when(money, &asked.currency)?),
        ("currencyDisplay", when(money, word_of(&CURRENCY_DISPLAYS, &asked.currency_display))?),
        ("currencySign", when(money, if asked.accounting { "accounting" } else { "standard" })?),
        ("unit", when(unit, &asked.unit)?),
        ("unitDisplay", when(unit, word_of(&WIDTHS, &asked.unit_display))?),
    ];
    members.extend(digit_members(ctx, &asked.digits));
    let grouping = match asked.grouping {
        Grouping::Never => Some(Value::new_bool(ctx.clone(), false)),
        Grouping::Auto => text(ctx, "auto")?,
        Grouping::Always => text(ctx, "always")?,
        Grouping::Min2 => text(ctx, "min2")?,
    };
    let (notation, display) = match asked.notation {
        Notation::Standard => ("standard", ""),
        Notation::Scientific => ("scientific", ""),
        Notation::Engineering => ("engineering", ""),
        Notation::CompactShort => ("compact", "short"),
        Notation::CompactLong => ("compact", "long"),
    };
    members.push(("useGrouping", grouping));
    members.push(("notation", text(ctx, notation)?));
    members.push(("compactDisplay", when(!display.is_empty(), display)?));
    members.push(("signDisplay", text(ctx, word_of(&SIGNS, &asked.sign))?));
    let mut digits = asked.digits;
    // V8 looks for `/w` in ICU's words for the format, and stops at that of `unit/week`.
    digits.strip_if_integer &= !(unit && asked.unit.starts_with("week"));
    members.extend(rounding_members(ctx, &digits)?);
    js::object(ctx, &members)
}

type Member<'js> = (&'static str, Option<Value<'js>>);

/// The digits of `resolvedOptions`.
pub(super) fn digit_members<'js>(ctx: &Ctx<'js>, digits: &Digits) -> Vec<Member<'js>> {
    let (fraction, significant) = match digits.precision {
        Precision::Fraction(low, high) => (Some((low, high)), None),
        Precision::Significant(low, high) => (None, Some((low, high))),
        Precision::Both { fraction, significant, .. } => (Some(fraction), Some(significant)),
    };
    let mut members = vec![("minimumIntegerDigits", number(ctx, digits.min_integer))];
    if let Some((low, high)) = fraction {
        members.push(("minimumFractionDigits", number(ctx, low)));
        members.push(("maximumFractionDigits", number(ctx, high)));
    }
    if let Some((low, high)) = significant {
        members.push(("minimumSignificantDigits", number(ctx, low)));
        members.push(("maximumSignificantDigits", number(ctx, high)));
    }
    members
}

/// The rounding of `resolvedOptions`.
pub(super) fn rounding_members<'js>(ctx: &Ctx<'js>, digits: &Digits) -> Js<'js, Vec<Member<'js>>> {
    let priority = match digits.precision {
        // V8 says so of compact notation, whose default precision is both.
        Precision::Both { fraction: (0, 0), significant: (1, 2), more: true }
            if digits.strip_if_integer =>
        {
            "auto"
        }
        Precision::Both { more: true, .. } => "morePrecision",
        Precision::Both { more: false, .. } => "lessPrecision",
        _ => "auto",
    };
    let zeros = if digits.strip_if_integer { "stripIfInteger" } else { "auto" };
    Ok(vec![
        ("roundingIncrement", number(ctx, digits.increment)),
        ("roundingMode", text(ctx, word_of(&MODES, &digits.mode))?),
        ("roundingPriority", text(ctx, priority)?),
        ("trailingZeroDisplay", text(ctx, zeros)?),
    ])
}

thread_local! {
    /// The last format that `toLocaleString` made without options, by its locale;
    /// the default locale's name is empty here.
    static LAST: RefCell<Option<(String, Rc<Service>)>> = const { RefCell::new(None) };
}

fn to_locale_string<'js>(
    ctx: &Ctx<'js>,
    this: &Value<'js>,
    args: Args<'_, 'js>,
    who: &'static str,
) -> Returned<'js> {
    let number = decimal(ctx, Some(this))?;
    let undefined = |value: Option<&Value<'js>>| value.is_none_or(Value::is_undefined);
    let plain = undefined(args.first()) || args.first().is_some_and(Value::is_string);
    if !plain || !undefined(args.get(1)) {
        let service = create(ctx, args.first(), args.get(1), who)?;
        return engine::new_string(ctx, &service.format.format(&number));
    }
    let name = match args.first().filter(|value| !value.is_undefined()) {
        Some(value) => engine::string_of(ctx, value)?,
        None => String::new(),
    };
    let explicit = args.first().is_some_and(|value| !value.is_undefined());
    let last = LAST.with_borrow(|last| {
        last.as_ref()
            .filter(|(known, _)| *known == name && (explicit != name.is_empty()))
            .map(|(_, service)| Rc::clone(service))
    });
    let service = if let Some(service) = last {
        service
    } else {
        let service = create(ctx, args.first(), None, who)?;
        LAST.set(Some((name, Rc::clone(&service))));
        service
    };
    engine::new_string(ctx, &service.format.format(&number))
}

/// `Number.prototype.toLocaleString(locales, options)`
pub(super) fn number_to_locale_string<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let who = "Number.prototype.toLocaleString";
    let this = js::unwrapped(ctx, args.this, c"Number");
    let Some(this) = this.filter(Value::is_number) else {
        return Err(type_error(ctx, &format!("{who} requires that 'this' be a Number")));
    };
    to_locale_string(ctx, &this, args, who)
}

/// `BigInt.prototype.toLocaleString(locales, options)`
pub(super) fn big_int_to_locale_string<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let who = "BigInt.prototype.toLocaleString";
    let this = js::unwrapped(ctx, args.this, c"BigInt");
    let Some(this) = this.filter(|this| this.type_of() == rquickjs::Type::BigInt) else {
        return Err(type_error(ctx, &format!("{who} requires that 'this' be a BigInt")));
    };
    to_locale_string(ctx, &this, args, who)
}
