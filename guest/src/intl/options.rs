//! Reading the options of a constructor, in the standard's way and with V8's messages.

use super::js::{Js, range_error, to_object, type_error};
use crate::engine::{self, Thrown};
use rquickjs::{Ctx, Object, Value};
use std::ffi::CStr;

/// An options argument.
pub(super) struct Options<'a, 'js> {
    ctx: &'a Ctx<'js>,
    object: Option<Object<'js>>,
    /// Who reads, for messages.
    service: &'static str,
}

impl<'a, 'js> Options<'a, 'js> {
    /// `CoerceOptionsToObject`: anything but `null` will do.
    pub(super) fn coerced(
        ctx: &'a Ctx<'js>,
        value: Option<&Value<'js>>,
        service: &'static str,
    ) -> Js<'js, Self> {
        let object = match value {
            Some(value) if value.is_null() => {
                let message = format!("{service} called on null or undefined");
                return Err(type_error(ctx, &message));
            }
            Some(value) if !value.is_undefined() => Some(to_object(ctx, value)?),
            _ => None,
        };
        Ok(Self { ctx, object, service })
    }

    /// `GetOptionsObject`: an object and nothing else.
    pub(super) fn object(
        ctx: &'a Ctx<'js>,
        value: Option<&Value<'js>>,
        service: &'static str,
    ) -> Js<'js, Self> {
        match value {
            Some(value) if !value.is_undefined() && !value.is_object() => {
                Err(type_error(ctx, "invalid_argument"))
            }
            _ => Self::coerced(ctx, value, service),
        }
    }

    /// A member, `None` when undefined.
    pub(super) fn value(&self, name: &CStr) -> Js<'js, Option<Value<'js>>> {
        let Some(object) = &self.object else { return Ok(None) };
        let value = engine::get(self.ctx, object, name)?;
        Ok((!value.is_undefined()).then_some(value))
    }

    /// A member as a string.
    pub(super) fn string(&self, name: &CStr) -> Js<'js, Option<String>> {
        self.value(name)?.map(|value| engine::string_of(self.ctx, &value)).transpose()
    }

    /// A member that is one of some strings.
    pub(super) fn choice<T: Copy>(&self, name: &CStr, choices: &[(&str, T)]) -> Js<'js, Option<T>> {
        let Some(text) = self.string(name)? else { return Ok(None) };
        match choices.iter().find(|(choice, _)| *choice == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => Err(self.out_of_range(name, &text)),
        }
    }

    /// A member that is one of some strings, which are what they mean.
    pub(super) fn word(
        &self,
        name: &CStr,
        words: &[&'static str],
    ) -> Js<'js, Option<&'static str>> {
        let Some(text) = self.string(name)? else { return Ok(None) };
        let found = words.iter().find(|word| **word == text);
        found.copied().map_or_else(|| Err(self.out_of_range(name, &text)), |word| Ok(Some(word)))
    }

    pub(super) fn out_of_range(&self, name: &CStr, text: &str) -> Thrown<'js> {
        let (service, name) = (self.service, name.to_string_lossy());
        range_error(
            self.ctx,
            &format!("Value {text} out of range for {service} options property {name}"),
        )
    }

    /// A member as a whole number within bounds.
    pub(super) fn number(&self, name: &CStr, least: u32, most: u32) -> Js<'js, Option<u32>> {
        let value = self.value(name)?;
        within(self.ctx, value.as_ref(), name, least, most)
    }

    /// `localeMatcher`, which decides nothing here.
    pub(super) fn matcher(&self) -> Js<'js, ()> {
        self.word(c"localeMatcher", &["lookup", "best fit"]).map(drop)
    }

    /// A member that has the form of a keyword's value.
    pub(super) fn keyword(&self, name: &CStr) -> Js<'js, Option<String>> {
        let Some(text) = self.string(name)? else { return Ok(None) };
        if cellblock_intl::locale::is_keyword_value(&text) {
            return Ok(Some(text.to_ascii_lowercase()));
        }
        Err(range_error(self.ctx, &format!("Invalid {} : {text}", name.to_string_lossy())))
    }
}

/// `DefaultNumberOption`
pub(super) fn within<'js>(
    ctx: &Ctx<'js>,
    value: Option<&Value<'js>>,
    name: &CStr,
    least: u32,
    most: u32,
) -> Js<'js, Option<u32>> {
    let Some(value) = value else { return Ok(None) };
    let number = engine::number_of(ctx, value)?;
    if number.is_nan() || number < f64::from(least) || number > f64::from(most) {
        let name = name.to_string_lossy();
        return Err(range_error(ctx, &format!("{name} value is out of range.")));
    }
    Ok(Some(number.floor() as u32))
}
