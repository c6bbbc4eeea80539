//! Lists of locales, and which locale serves a request.

use super::js::{Js, range_error, strings, to_object, type_error};
use super::locale::tag_of;
use super::options::Options;
use crate::engine;
use crate::globals::{Args, Returned};
use cellblock_intl::date::zone::Zone;
use cellblock_intl::locale::{DEFAULT, Held, Tag, begins_as_tag, best_available};
use cellblock_intl::number::symbols::is_numeric;
use rquickjs::{Ctx, Object, Value};
use std::cell::RefCell;

/// What holds where a program names no locale or no time zone.
pub(super) struct Defaults {
    /// The locale.
    pub(super) held: Held,
    /// The time zone.
    pub(super) zone: Zone,
}

thread_local! {
    static DEFAULTS: RefCell<Defaults> =
        RefCell::new(Defaults { held: DEFAULT, zone: Zone::utc() });
}

/// Takes over what the host has set. The host has checked both; a locale that is not held
/// falls back as one that a program asks for.
pub(crate) fn set_defaults(locale: Option<&str>, zone: Option<&str>) {
    DEFAULTS.with_borrow_mut(|defaults| {
        if let Some(held) = locale.and_then(Tag::parse).and_then(|tag| best_available(&tag)) {
            defaults.held = held;
        }
        if let Some(zone) = zone.and_then(Zone::parse) {
            defaults.zone = zone;
        }
    });
}

/// Looks at the defaults.
pub(super) fn with_defaults<R>(look: impl FnOnce(&Defaults) -> R) -> R {
    DEFAULTS.with_borrow(look)
}

/// The time zone where a program names none.
pub(super) fn default_zone() -> Zone {
    with_defaults(|defaults| defaults.zone.clone())
}

/// `CanonicalizeLocaleList`
pub(super) fn canonical_list<'js>(ctx: &Ctx<'js>, value: Option<&Value<'js>>) -> Js<'js, Vec<Tag>> {
    let Some(value) = value.filter(|value| !value.is_undefined()) else { return Ok(Vec::new()) };
    if value.is_string() {
        return Ok(vec![parse(ctx, &engine::string_of(ctx, value)?)?]);
    }
    if let Some(tag) = tag_of(value) {
        return Ok(vec![tag.as_ref().clone()]);
    }
    let list = to_object(ctx, value)?;
    let length = engine::number_of(ctx, &engine::get(ctx, &list, c"length")?)?;
    // A longer list than this is no list of locales.
    let length = if length.is_nan() { 0 } else { length.clamp(0.0, 10_000.0) as u32 };
    let mut tags: Vec<Tag> = Vec::new();
    for at in 0..length {
        let Some(item) = item(ctx, &list, at)? else { continue };
        let tag = if let Some(tag) = tag_of(&item) {
            tag.as_ref().clone()
        } else if item.is_string() || item.is_object() {
            parse(ctx, &engine::string_of(ctx, &item)?)?
        } else {
            return Err(type_error(ctx, "Language ID should be string or object."));
        };
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// An item of a list that may have holes.
pub(super) fn item<'js>(
    ctx: &Ctx<'js>,
    list: &Object<'js>,
    at: u32,
) -> Js<'js, Option<Value<'js>>> {
    if list.contains_key(at).map_err(|_| engine::Thrown::caught(ctx))? {
        list.get(at).map(Some).map_err(|_| engine::Thrown::caught(ctx))
    } else {
        Ok(None)
    }
}

/// A tag in canonical form, or the `RangeError` for a malformed one.
pub(super) fn parse<'js>(ctx: &Ctx<'js>, text: &str) -> Js<'js, Tag> {
    Tag::parse(text).ok_or_else(|| {
        // V8 brings what begins as a tag should to small letters before it reads on.
        let shown = if begins_as_tag(text) { text.to_lowercase() } else { text.to_owned() };
        range_error(ctx, &format!("Invalid language tag: {shown}"))
    })
}

/// A keyword that decides something about a service.
pub(super) struct Key<'a> {
    /// Its two letters.
    pub(super) name: &'static str,
    /// The option that goes before the keyword.
    pub(super) option: Option<String>,
    /// Whether a value is known.
    pub(super) known: &'a dyn Fn(Held, &str) -> bool,
}

/// The keyword of the numbering system.
pub(super) fn system_key(option: Option<String>) -> Key<'static> {
    fn known(_: Held, system: &str) -> bool {
        is_numeric(system)
    }
    Key { name: "nu", option, known: &known }
}

/// The locale that serves a request.
pub(super) struct Resolved {
    /// Its name, with the keywords that were heeded.
    pub(super) locale: String,
    /// Its data.
    pub(super) held: Held,
    /// The value of each key, `None` where the locale's default holds.
    pub(super) values: Vec<Option<String>>,
}

/// `ResolveLocale` among the locales that are held.
pub(super) fn resolve(requested: &[Tag], keys: &[Key<'_>]) -> Resolved {
    resolve_among(requested, keys, best_available)
}

/// `ResolveLocale` among the locales that `available` knows.
pub(super) fn resolve_among(
    requested: &[Tag],
    keys: &[Key<'_>],
    available: fn(&Tag) -> Option<Held>,
) -> Resolved {
    let found = requested.iter().find_map(|tag| available(tag).map(|held| (tag, held)));
    let default = || {
        let tag = Tag::parse(with_defaults(|defaults| defaults.held.tag));
        tag.and_then(|tag| available(&tag)).unwrap_or(DEFAULT)
    };
    let (tag, held) = found.map_or_else(|| (None, default()), |(tag, held)| (Some(tag), held));
    let mut name = Tag::default();
    let mut values = Vec::new();
    for key in keys {
        let mut value = None;
        if let Some(own) = tag.and_then(|tag| tag.keyword(key.name)) {
            let meant = if own.is_empty() { "true" } else { own };
            if (key.known)(held, meant) {
                value = Some(meant.to_owned());
                name.set_keyword(key.name, Some(own));
            }
        }
        if let Some(option) = key.option.as_deref()
            && (key.known)(held, option)
            && value.as_deref() != Some(option)
        {
            value = Some(option.to_owned());
            name.set_keyword(key.name, None);
        }
        values.push(value);
    }
    let keywords = name.to_string();
    Resolved { locale: format!("{}{}", held.tag, keywords.trim_start_matches("und")), held, values }
}

/// `supportedLocalesOf`
pub(super) fn supported_locales_of<'js>(
    ctx: &Ctx<'js>,
    args: Args<'_, 'js>,
    method: &'static str,
) -> Returned<'js> {
    supported_among(ctx, args, method, best_available)
}

/// `supportedLocalesOf` among the locales that `available` knows.
pub(super) fn supported_among<'js>(
    ctx: &Ctx<'js>,
    args: Args<'_, 'js>,
    method: &'static str,
    available: fn(&Tag) -> Option<Held>,
) -> Returned<'js> {
    let requested = canonical_list(ctx, args.first())?;
    let options = Options::coerced(ctx, args.get(1), method)?;
    options.matcher()?;
    let supported = requested.iter().filter(|tag| available(tag).is_some());
    strings(ctx, supported.map(ToString::to_string))
}

/// `Intl.getCanonicalLocales(locales)`
pub(super) fn get_canonical_locales<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let tags = canonical_list(ctx, args.first())?;
    strings(ctx, tags.iter().map(ToString::to_string))
}
