//! Upper and lower case of strings in a locale.

use super::js::{self, Js, type_error};
use super::locales::{canonical_list, with_defaults};
use super::member;
use crate::engine;
use crate::globals::{Args, Returned};
use cellblock_intl::case;
use rquickjs::{Ctx, Value};

/// The names under which the engine's own methods are kept.
const UPPER: &str = "String.prototype.toUpperCase";
const LOWER: &str = "String.prototype.toLowerCase";

/// Keeps the engine's own methods, which most locales share.
pub(super) fn keep_methods<'js>(ctx: &Ctx<'js>) -> Js<'js, ()> {
    let string = member(ctx, &member(ctx, &ctx.globals(), c"String")?, c"prototype")?;
    js::keep_prototype(ctx, UPPER, &member(ctx, &string, c"toUpperCase")?);
    js::keep_prototype(ctx, LOWER, &member(ctx, &string, c"toLowerCase")?);
    Ok(())
}

/// `String.prototype.toLocaleUpperCase(locales)`
pub(super) fn to_locale_upper_case<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    convert(ctx, args, true)
}

/// `String.prototype.toLocaleLowerCase(locales)`
pub(super) fn to_locale_lower_case<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    convert(ctx, args, false)
}

fn convert<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>, upper: bool) -> Returned<'js> {
    let (who, kept) = if upper {
        ("String.prototype.toLocaleUpperCase", UPPER)
    } else {
        ("String.prototype.toLocaleLowerCase", LOWER)
    };
    if args.this.is_null() || args.this.is_undefined() {
        return Err(type_error(ctx, &format!("{who} called on null or undefined")));
    }
    let text = engine::to_string(ctx, args.this)?;
    let requested = canonical_list(ctx, args.first())?;
    let language = match requested.first() {
        Some(tag) => tag.language.clone(),
        None => with_defaults(|defaults| {
            defaults.held.tag.split('-').next().unwrap_or_default().to_owned()
        }),
    };
    if case::is_special(&language) {
        let units = engine::units_of(ctx, &text)?;
        return engine::new_string_of(ctx, &case::map(&language, upper, &units));
    }
    let method = js::prototype(ctx, kept)?;
    let method = method.as_function().ok_or_else(|| engine::Thrown::text("no such method"))?;
    engine::call_with(ctx, method, &text, &[] as &[Value<'js>])
}
