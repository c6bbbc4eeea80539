//! `Intl.PluralRules`.

use super::js::{self, receiver, strings, text};
use super::locales::{canonical_list, resolve};
use super::number::{decimal, digit_members, ends, read_digits, rounding_members};
use super::options::Options;
use crate::engine;
use crate::globals::{Args, Returned};
use cellblock_intl::decimal::Decimal;
use cellblock_intl::number::{Notation, NumberFormat, Options as Asked, Precision};
use cellblock_intl::plural::{Category, Rules};
use rquickjs::Ctx;

/// What plural rules hold.
#[derive(Debug)]
struct Service {
    locale: String,
    ordinal: bool,
    notation: &'static str,
    rules: Rules,
    /// How numbers are written, which decides about their category.
    format: NumberFormat,
}

/// `new Intl.PluralRules(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let requested = canonical_list(ctx, args.first())?;
    let options = Options::coerced(ctx, args.get(1), "Intl.PluralRules")?;
    options.matcher()?;
    let kind = options.word(c"type", &["cardinal", "ordinal"])?;
    let words = ["standard", "scientific", "engineering", "compact"];
    let notation = options.word(c"notation", &words)?.unwrap_or("standard");
    let compact = notation == "compact";
    let digits = read_digits(ctx, &options, 0, 3, compact)?;
    let long = options.word(c"compactDisplay", &["short", "long"])? == Some("long");
    let resolved = resolve(&requested, &[]);
    let ordinal = kind == Some("ordinal");
    let rules = Rules::of(resolved.held.data, ordinal);
    // V8 names the locale whose rules they are: a language, or Portugal's Portuguese.
    let locale = match resolved.held.tag {
        tag if tag.starts_with("pt-PT") => "pt-PT",
        tag => tag.split('-').next().unwrap_or(tag),
    };
    let asked = Asked {
        notation: match notation {
            "scientific" => Notation::Scientific,
            "engineering" => Notation::Engineering,
            "compact" if long => Notation::CompactLong,
            "compact" => Notation::CompactShort,
            _ => Notation::Standard,
        },
        digits,
        ..Asked::default()
    };
    let format = NumberFormat::new(resolved.held.data, "latn", asked);
    let service = Service { locale: locale.to_owned(), ordinal, notation, rules, format };
    js::construct(ctx, args.this, "PluralRules", service)
}

impl Service {
    fn select(&self, number: &Decimal) -> Category {
        self.format.category(self.rules, number)
    }
}

/// `select(number)`
pub(super) fn select<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = receiver::<Service>(ctx, args.this, "Intl.PluralRules.prototype.select")?;
    let number = decimal(ctx, args.first())?;
    engine::new_string(ctx, service.select(&number).name())
}

/// `selectRange(start, end)`
pub(super) fn select_range<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = receiver::<Service>(ctx, args.this, "Intl.PluralRules.prototype.selectRange")?;
    let (start, end) = ends(ctx, args)?;
    let (start, end) = (service.select(&start), service.select(&end));
    engine::new_string(ctx, service.rules.select_range(start, end).name())
}

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.PluralRules.prototype.resolvedOptions";
    let service = receiver::<Service>(ctx, args.this, method)?;
    let categories = strings(ctx, service.rules.categories().iter().map(|one| one.name()))?;
    let kind = if service.ordinal { "ordinal" } else { "cardinal" };
    let mut members = vec![
        ("locale", text(ctx, &service.locale)?),
        ("type", text(ctx, kind)?),
        ("notation", text(ctx, service.notation)?),
    ];
    let asked = service.format.options();
    if asked.notation.is_compact() {
        let long = asked.notation == Notation::CompactLong;
        members.push(("compactDisplay", text(ctx, if long { "long" } else { "short" })?));
    }
    let digits = digit_members(ctx, &asked.digits);
    // V8 leaves out the digits after the point that compact notation has by itself.
    let hidden = asked.digits.precision == Precision::COMPACT;
    let shown = |name: &str| !(hidden && name.ends_with("FractionDigits"));
    members.extend(digits.into_iter().filter(|(name, _)| shown(name)));
    members.push(("pluralCategories", Some(categories)));
    members.extend(rounding_members(ctx, &asked.digits)?);
    js::object(ctx, &members)
}
