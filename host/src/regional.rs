//! The locale and the time zone that programs find where they name none.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What `Intl`, the `toLocale` methods and `Date` of a program go by where it names
/// nothing else.
///
/// ```
/// let regional = cellblock::RegionalSettings {
///     locale: Some("de-CH".parse().unwrap()),
///     time_zone: Some("Europe/Zurich".parse().unwrap()),
/// };
/// assert_ne!(regional, cellblock::RegionalSettings::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegionalSettings {
    /// The locale; `en-US` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Locale>,
    /// The time zone; `UTC` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<TimeZone>,
}

impl RegionalSettings {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A well-formed language tag, such as `pt-BR`. A locale of which programs find no data
/// falls back as the standard says, in the end to `en-US`; `resolvedOptions` names the
/// one that serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locale(Arc<str>);

/// A time zone: a name of the IANA database, such as `Europe/Zurich`, in any case of
/// letters, or an offset from UTC, such as `+05:30`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeZone(Arc<str>);

/// Why a text is not a locale or not a time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionalError {
    /// The text is not a well-formed language tag.
    #[error("{0:?} is not a language tag; write one such as `en-US` or `zh-Hant-TW`")]
    Locale(String),
    /// The text is neither a time zone of the IANA database nor an offset.
    #[error("{0:?} is not a time zone; write one such as `Europe/Zurich`, `UTC` or `+05:30`")]
    TimeZone(String),
}

/// Every name of a time zone, one a line. `cargo xtask intl` writes it with the tables of
/// the guest.
static TIME_ZONES: &str = include_str!("time-zones.txt");

impl FromStr for Locale {
    type Err = RegionalError;

    fn from_str(text: &str) -> Result<Self, RegionalError> {
        if is_language_tag(text) {
            Ok(Self(text.into()))
        } else {
            Err(RegionalError::Locale(text.to_owned()))
        }
    }
}

impl FromStr for TimeZone {
    type Err = RegionalError;

    fn from_str(text: &str) -> Result<Self, RegionalError> {
        let named = TIME_ZONES.lines().any(|name| name.eq_ignore_ascii_case(text));
        if named || is_offset(text) {
            Ok(Self(text.into()))
        } else {
            Err(RegionalError::TimeZone(text.to_owned()))
        }
    }
}

/// What both types of text have.
macro_rules! text {
    ($name:ident) => {
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = RegionalError;

            fn try_from(text: String) -> Result<Self, RegionalError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0.as_ref().to_owned()
            }
        }
    };
}

text!(Locale);
text!(TimeZone);

/// The form of a language tag as ECMA-402 wants it: language, script, region, variants,
/// and extensions, each led by a single character.
fn is_language_tag(text: &str) -> bool {
    let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphabetic());
    let alphanumeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let lower = text.to_ascii_lowercase();
    let mut parts = lower.split('-').peekable();
    let language = parts.next().unwrap_or_default();
    if text.len() > 200 || !letters(language) || !matches!(language.len(), 2 | 3 | 5..=8) {
        return false;
    }
    parts.next_if(|part| part.len() == 4 && letters(part));
    parts.next_if(|part| {
        part.len() == 2 && letters(part)
            || part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit())
    });
    let mut seen = Vec::new();
    while let Some(variant) = parts.next_if(|part| {
        alphanumeric(part)
            && (matches!(part.len(), 5..=8)
                || part.len() == 4 && part.as_bytes()[0].is_ascii_digit())
    }) {
        if seen.contains(&variant) {
            return false;
        }
        seen.push(variant);
    }
    while let Some(singleton) = parts.next() {
        if singleton.len() != 1 || !alphanumeric(singleton) || seen.contains(&singleton) {
            return false;
        }
        seen.push(singleton);
        let private = singleton == "x";
        let mut length = 0;
        while let Some(part) = parts.next_if(|part| private || part.len() != 1) {
            let least = if private { 1 } else { 2 };
            if !alphanumeric(part) || part.len() < least || part.len() > 8 {
                return false;
            }
            length += 1;
        }
        if length == 0 {
            return false;
        }
    }
    true
}

/// `+05:30`, `-0800` or `+01`
fn is_offset(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['+', '-']) else { return false };
    let digits = match rest.as_bytes() {
        [a, b] => vec![*a, *b],
        [a, b, c, d] | [a, b, b':', c, d] => vec![*a, *b, *c, *d],
        _ => return false,
    };
    digits.iter().all(u8::is_ascii_digit)
        && (digits[0], digits[1]) < (b'2', b'4')
        && digits.get(2).is_none_or(|tens| *tens < b'6')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_a_locale_or_a_zone_is_refused_with_its_text() {
        for text in ["", "x", "en_US", "e", "en-", "en-US-u", "en-u-a", "de-u-co-u-nu", "C.UTF-8"] {
            assert_eq!(text.parse::<Locale>(), Err(RegionalError::Locale(text.to_owned())));
        }
        for text in ["", "Mars/Olympus", "+24:00", "+5", "-05:60", "UTC+1", "Europe/Berlin "] {
            assert_eq!(text.parse::<TimeZone>(), Err(RegionalError::TimeZone(text.to_owned())));
        }
    }

    #[test]
    fn locales_and_zones_are_kept_as_written() {
        for text in ["en", "zh-Hant-TW", "de-DE-u-co-phonebk", "sl-rozaj-biske", "en-x-a", "es-419"]
        {
            assert_eq!(
                text.parse::<Locale>().map(|locale| locale.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["UTC", "europe/zurich", "America/Argentina/Buenos_Aires", "+05:30", "-0800"] {
            assert_eq!(text.parse::<TimeZone>().map(|zone| zone.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn settings_are_read_from_json() {
        let json = r#"{"locale":"fr-CH","timeZone":"Asia/Kolkata"}"#;
        let regional: RegionalSettings = serde_json::from_str(json).expect("settings");
        assert_eq!(serde_json::to_string(&regional).expect("JSON"), json);
        let wrong = serde_json::from_str::<RegionalSettings>(r#"{"timeZone":"Nowhere"}"#);
        assert!(wrong.expect_err("no such zone").to_string().contains("Nowhere"));
    }
}
