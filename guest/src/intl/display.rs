//! `Intl.DisplayNames`.

use super::js::{self, range_error, receiver, text, type_error};
use super::locales::{canonical_list, resolve};
use super::number::{WIDTHS, word_of};
use super::options::Options;
use crate::engine;
use crate::globals::{Args, Returned};
use cellblock_intl::display::{DisplayNames, Kind};
use cellblock_intl::number::Width;
use rquickjs::{Ctx, Value};

/// What an object of names holds.
#[derive(Debug)]
struct Service {
    locale: String,
    names: DisplayNames,
}

const KINDS: [(&str, Kind); 6] = [
    ("language", Kind::Language),
    ("region", Kind::Region),
    ("script", Kind::Script),
    ("currency", Kind::Currency),
    ("calendar", Kind::Calendar),
    ("dateTimeField", Kind::DateTimeField),
];

/// `new Intl.DisplayNames(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let requested = canonical_list(ctx, args.first())?;
    if args.get(1).is_none_or(Value::is_undefined) {
        return Err(type_error(ctx, "invalid_argument"));
    }
    let options = Options::object(ctx, args.get(1), "Intl.DisplayNames")?;
    options.matcher()?;
    let width = options.choice(c"style", &WIDTHS)?.unwrap_or(Width::Long);
    let kind = options.choice(c"type", &KINDS)?;
    let kind = kind.ok_or_else(|| type_error(ctx, "invalid_argument"))?;
    let codes = options.choice(c"fallback", &[("code", true), ("none", false)])?.unwrap_or(true);
    let dialects = [("dialect", true), ("standard", false)];
    let dialects = options.choice(c"languageDisplay", &dialects)?.unwrap_or(true);
    let resolved = resolve(&requested, &[]);
    let names = DisplayNames { data: resolved.held.data, kind, width, codes, dialects };
    js::construct(ctx, args.this, "DisplayNames", Service { locale: resolved.locale, names })
}

/// `of(code)`
pub(super) fn of<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = receiver::<Service>(ctx, args.this, "Intl.DisplayNames.prototype.of")?;
    let undefined = Value::new_undefined(ctx.clone());
    let code = args.first().unwrap_or(&undefined);
    if code.is_symbol() {
        return Err(type_error(ctx, "Cannot convert a Symbol value to a string"));
    }
    match service.names.of(&engine::string_of(ctx, code)?) {
        Ok(Some(name)) => engine::new_string(ctx, &name),
        Ok(None) => Ok(undefined),
        Err(_) => Err(range_error(ctx, "invalid_argument")),
    }
}

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.DisplayNames.prototype.resolvedOptions";
    let service = receiver::<Service>(ctx, args.this, method)?;
    let names = &service.names;
    let dialects = match (names.kind, names.dialects) {
        (Kind::Language, true) => text(ctx, "dialect")?,
        (Kind::Language, false) => text(ctx, "standard")?,
        _ => None,
    };
    js::object(
        ctx,
        &[
            ("locale", text(ctx, &service.locale)?),
            ("style", text(ctx, word_of(&WIDTHS, &names.width))?),
            ("type", text(ctx, word_of(&KINDS, &names.kind))?),
            ("fallback", text(ctx, if names.codes { "code" } else { "none" })?),
            ("languageDisplay", dialects),
        ],
    )
}
