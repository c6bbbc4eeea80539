//! `Intl.RelativeTimeFormat`.

use super::js::{self, Js, parts, range_error, receiver, text, type_error};
use super::locales::{canonical_list, resolve, system_key};
use super::number::{WIDTHS, word_of};
use super::options::Options;
use crate::engine;
use crate::globals::{Args, Returned};
use cellblock_intl::number::Width;
use cellblock_intl::part::{self, Part};
use cellblock_intl::relative::{RelativeTimeFormat, UNITS};
use rquickjs::{Ctx, Value};

/// What a format of relative time holds.
#[derive(Debug)]
struct Service {
    locale: String,
    system: String,
    width: Width,
    /// Whether words such as `yesterday` are written.
    words: bool,
    format: RelativeTimeFormat,
}

/// `new Intl.RelativeTimeFormat(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let requested = canonical_list(ctx, args.first())?;
    let options = Options::coerced(ctx, args.get(1), "Intl.RelativeTimeFormat")?;
    options.matcher()?;
    let system = options.keyword(c"numberingSystem")?;
    let mut resolved = resolve(&requested, &[system_key(system)]);
    let default = resolved.held.data.core("ns");
    let system = resolved.values.remove(0).unwrap_or_else(|| default.to_owned());
    let width = options.choice(c"style", &WIDTHS)?.unwrap_or(Width::Long);
    let words = options.choice(c"numeric", &[("always", false), ("auto", true)])?.unwrap_or(false);
    let format = RelativeTimeFormat::new(resolved.held.data, &system, width, words);
    let service = Service { locale: resolved.locale, system, width, words, format };
    js::construct(ctx, args.this, "RelativeTimeFormat", service)
}

fn format_value<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>, method: &str) -> Js<'js, Vec<Part>> {
    let service = receiver::<Service>(ctx, args.this, method)?;
    let value = match args.first() {
        Some(value) if value.is_symbol() => {
            return Err(type_error(ctx, "Cannot convert a Symbol value to a number"));
        }
        Some(value) if value.type_of() == rquickjs::Type::BigInt => {
            return Err(type_error(ctx, "Cannot convert a BigInt value to a number"));
        }
        Some(value) => engine::number_of(ctx, value)?,
        None => f64::NAN,
    };
    let undefined = Value::new_undefined(ctx.clone());
    let name = args.get(1).unwrap_or(&undefined);
    if name.is_symbol() {
        return Err(type_error(ctx, "Cannot convert a Symbol value to a string"));
    }
    let name = engine::string_of(ctx, name)?;
    if !value.is_finite() {
        return Err(range_error(ctx, &format!("Value need to be finite number for {method}()")));
    }
    let singular = name.strip_suffix('s').unwrap_or(&name);
    let unit = UNITS.iter().find(|unit| **unit == singular);
    let Some(unit) = unit else {
        return Err(range_error(ctx, &format!("Invalid unit argument for {method}() '{name}'")));
    };
    Ok(service.format.format_to_parts(value, unit))
}

/// `format(value, unit)`
pub(super) fn format<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let list = format_value(ctx, args, "Intl.RelativeTimeFormat.prototype.format")?;
    engine::new_string(ctx, &part::text(&list))
}

/// `formatToParts(value, unit)`
pub(super) fn format_to_parts<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let list = format_value(ctx, args, "Intl.RelativeTimeFormat.prototype.formatToParts")?;
    parts(ctx, &list, false)
}

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.RelativeTimeFormat.prototype.resolvedOptions";
    let service = receiver::<Service>(ctx, args.this, method)?;
    js::object(
        ctx,
        &[
            ("locale", text(ctx, &service.locale)?),
            ("style", text(ctx, word_of(&WIDTHS, &service.width))?),
            ("numeric", text(ctx, if service.words { "auto" } else { "always" })?),
            ("numberingSystem", text(ctx, &service.system)?),
        ],
    )
}
