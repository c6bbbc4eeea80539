//! `Intl.ListFormat`.

use super::js::{self, Js, parts, receiver, shown, text, to_object, type_error};
use super::locales::{canonical_list, resolve};
use super::number::{WIDTHS, word_of};
use super::options::Options;
use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use cellblock_intl::list::{Kind, ListFormat};
use cellblock_intl::number::Width;
use cellblock_intl::part::{self, Part};
use rquickjs::atom::PredefinedAtom;
use rquickjs::{Ctx, Value};

/// What a list format holds.
#[derive(Debug)]
struct Service {
    locale: String,
    kind: Kind,
    width: Width,
    format: ListFormat,
}

const KINDS: [(&str, Kind); 3] =
    [("conjunction", Kind::Conjunction), ("disjunction", Kind::Disjunction), ("unit", Kind::Unit)];

/// `new Intl.ListFormat(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let requested = canonical_list(ctx, args.first())?;
    let options = Options::object(ctx, args.get(1), "Intl.ListFormat")?;
    options.matcher()?;
    let kind = options.choice(c"type", &KINDS)?.unwrap_or_default();
    let width = options.choice(c"style", &WIDTHS)?.unwrap_or(Width::Long);
    let resolved = resolve(&requested, &[]);
    let format = ListFormat::new(resolved.held.data, kind, width);
    let service = Service { locale: resolved.locale, kind, width, format };
    js::construct(ctx, args.this, "ListFormat", service)
}

fn format_list<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>, method: &str) -> Js<'js, Vec<Part>> {
    let service = receiver::<Service>(ctx, args.this, method)?;
    let elements = strings_of(ctx, args.first())?;
    let elements = elements.into_iter().map(|text| vec![Part::new("element", text)]).collect();
    Ok(service.format.join(elements))
}

/// `format(list)`
pub(super) fn format<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let list = format_list(ctx, args, "Intl.ListFormat.prototype.format")?;
    engine::new_string(ctx, &part::text(&list))
}

/// `formatToParts(list)`
pub(super) fn format_to_parts<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let list = format_list(ctx, args, "Intl.ListFormat.prototype.formatToParts")?;
    parts(ctx, &list, false)
}

/// `StringListFromIterable`
fn strings_of<'js>(ctx: &Ctx<'js>, value: Option<&Value<'js>>) -> Js<'js, Vec<String>> {
    let Some(value) = value.filter(|value| !value.is_undefined()) else { return Ok(Vec::new()) };
    let method = if value.is_null() {
        None
    } else {
        let object = to_object(ctx, value)?;
        let method = object.get::<_, Value<'js>>(PredefinedAtom::SymbolIterator);
        method.map_err(|_| Thrown::caught(ctx))?.into_function()
    };
    let Some(method) = method else {
        let message = format!(
            "{} is not iterable (cannot read property Symbol(Symbol.iterator))",
            site(ctx, value)
        );
        return Err(type_error(ctx, &message));
    };
    let iterator = engine::call_with(ctx, &method, value, &[])?;
    let Some(object) = iterator.as_object() else {
        let message = format!("{} is not an object", shown(ctx, &iterator));
        return Err(type_error(ctx, &message));
    };
    let Some(next) = engine::get(ctx, object, c"next")?.into_function() else {
        return Err(type_error(ctx, "iterator.next is not a function"));
    };
    let mut strings = Vec::new();
    loop {
        if engine::must_stop() {
            return Err(Thrown::Exit);
        }
        let result = engine::call_with(ctx, &next, &iterator, &[])?;
        let Some(result) = result.as_object() else {
            let message = format!("Iterator result {} is not an object", shown(ctx, &result));
            return Err(type_error(ctx, &message));
        };
        if js::to_boolean(ctx, &engine::get(ctx, result, c"done")?) {
            return Ok(strings);
        }
        let item = engine::get(ctx, result, c"value")?;
        if !item.is_string() {
            let message = format!("Iterable yielded {} which is not a string", shown(ctx, &item));
            let error = type_error(ctx, &message);
            // What closing the iterator throws gives way to this error.
            let close = Thrown::passed_over(engine::get(ctx, object, c"return"))?;
            if let Some(close) = close.and_then(Value::into_function) {
                Thrown::passed_over(engine::call_with(ctx, &close, &iterator, &[]))?;
            }
            return Err(error);
        }
        strings.push(engine::string_of(ctx, &item)?);
    }
}

/// A value as V8 names it where it is not iterable.
fn site<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> String {
    match value.type_of() {
        rquickjs::Type::Null => "object null".to_owned(),
        rquickjs::Type::Bool => format!("boolean {}", shown(ctx, value)),
        rquickjs::Type::Int | rquickjs::Type::Float => format!("number {}", shown(ctx, value)),
        rquickjs::Type::Symbol => "symbol".to_owned(),
        rquickjs::Type::BigInt => "bigint".to_owned(),
        _ if value.is_function() => "function".to_owned(),
        _ => "object".to_owned(),
    }
}

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.ListFormat.prototype.resolvedOptions";
    let service = receiver::<Service>(ctx, args.this, method)?;
    js::object(
        ctx,
        &[
            ("locale", text(ctx, &service.locale)?),
            ("type", text(ctx, word_of(&KINDS, &service.kind))?),
            ("style", text(ctx, word_of(&WIDTHS, &service.width))?),
        ],
    )
}
