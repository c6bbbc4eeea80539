//! `Intl.DisplayNames`.

use crate::data::{Data, Section, UNIT};
use crate::locale::{Tag, is_keyword_value, is_region, is_script};
use crate::number::{Width, currency_name};
use crate::relative::field;

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum Kind {
    Language,
    Region,
    Script,
    Currency,
    Calendar,
    DateTimeField,
}

/// Names of codes in a locale.
#[derive(Clone, Debug)]
pub struct DisplayNames {
    /// The locale.
    pub data: Data,
    /// What is named.
    pub kind: Kind,
    /// How long names are.
    pub width: Width,
    /// Whether a code without a name stands for itself.
    pub codes: bool,
    /// Whether dialects have names of their own, as `American English`.
    pub dialects: bool,
}

/// A code that is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Fields of dates, each with its name in CLDR.
const FIELDS: [(&str, &str); 12] = [
    ("era", "era"),
    ("year", "year"),
    ("quarter", "quarter"),
    ("month", "month"),
    ("weekOfYear", "week"),
    ("weekday", "weekday"),
    ("day", "day"),
    ("dayPeriod", "dayperiod"),
    ("hour", "hour"),
    ("minute", "minute"),
    ("second", "second"),
    ("timeZoneName", "zone"),
];

/// Regions that are no more, with those that ICU names for them.
const FORMER: [(&str, &str); 16] = [
    ("AN", "CW"),
    ("BU", "MM"),
    ("CS", "RS"),
    ("DD", "DE"),
    ("DY", "BJ"),
    ("FX", "FR"),
    ("HV", "BF"),
    ("NH", "VU"),
    ("RH", "ZW"),
    ("SU", "RU"),
    ("TP", "TL"),
    ("UK", "GB"),
    ("VD", "VN"),
    ("YD", "YE"),
    ("YU", "RS"),
    ("ZR", "CD"),
];

impl DisplayNames {
    /// The name of a code; `None` where it has none and codes do not stand for themselves.
    ///
    /// # Errors
    /// The code has not the form of its kind.
    pub fn of(&self, code: &str) -> Result<Option<String>, Malformed> {
        let well_formed = match self.kind {
            Kind::Language => true,
            Kind::Region => is_region(code),
            Kind::Script => is_script(code),
            Kind::Currency => code.len() == 3 && code.bytes().all(|b| b.is_ascii_alphabetic()),
            Kind::Calendar => is_keyword_value(code),
            Kind::DateTimeField => FIELDS.iter().any(|(known, _)| *known == code),
        };
        if !well_formed {
            return Err(Malformed);
        }
        let name = match self.kind {
            Kind::Language => return self.language(code),
            Kind::Region => self.region(code).map(str::to_owned),
            Kind::Script => self.short("s", code).map(str::to_owned),
            Kind::Currency => {
                currency_name(self.data, &code.to_ascii_uppercase(), None).map(str::to_owned)
            }
            Kind::Calendar => self.name(&format!("k.{code}")).map(str::to_owned),
            Kind::DateTimeField => self.field(code),
        };
        Ok(name.or_else(|| self.codes.then(|| code.to_owned())))
    }

    fn name(&self, key: &str) -> Option<&'static str> {
        self.data.get(Section::Names, key)
    }

    /// A name, in its short form where there is one and it is wanted.
    fn short(&self, mark: &str, code: &str) -> Option<&'static str> {
        let short = (self.width != Width::Long)
            .then(|| self.name(&format!("{mark}.{code}~short")))
            .flatten();
        short.or_else(|| self.name(&format!("{mark}.{code}")))
    }

    fn region(&self, code: &str) -> Option<&'static str> {
        self.short("r", code).or_else(|| {
            let (_, now) = FORMER.iter().find(|(former, _)| *former == code)?;
            self.short("r", now)
        })
    }

    fn field(&self, code: &str) -> Option<String> {
        let (_, name) = FIELDS.iter().find(|(known, _)| *known == code)?;
        let entries = field(self.data, name, self.width).split(UNIT);
        entries.into_iter().find_map(|entry| entry.strip_prefix('n')).map(str::to_owned)
    }

    fn language(&self, code: &str) -> Result<Option<String>, Malformed> {
        let tag = Tag::parse(code).ok_or(Malformed)?;
        if !tag.keywords.is_empty() || !tag.attributes.is_empty() || !tag.extensions.is_empty() {
            return Err(Malformed);
        }
        Ok(self.language_of(&tag))
    }

    fn language_of(&self, tag: &Tag) -> Option<String> {
        let or_code = |name: Option<&str>, code: &str| {
            name.map(str::to_owned).or_else(|| self.codes.then(|| code.to_owned()))
        };
        let language = if tag.language == "und" { "root" } else { tag.language.as_str() };
        // A dialect has a script or a region; ICU does not look further where it has both.
        let dialect = match (tag.script.as_str(), tag.region.as_str()) {
            ("", part) | (part, "") if self.dialects && !part.is_empty() => {
                self.short("l", &format!("{language}-{part}"))
            }
            _ => None,
        };
        let name = match dialect {
            Some(name) => name.to_owned(),
            None => or_code(self.short("l", language), language)?,
        };
        let mut rest = Vec::new();
        if dialect.is_none() && !tag.script.is_empty() {
            rest.push(or_code(self.short("s", &tag.script), &tag.script)?);
        }
        if dialect.is_none() && !tag.region.is_empty() {
            rest.push(or_code(self.region(&tag.region), &tag.region)?);
        }
        if !tag.variants.is_empty() {
            rest.push(or_code(None, &tag.variants.join("_").to_ascii_uppercase())?);
        }
        if rest.is_empty() {
            return Some(name);
        }
        let patterns = self.name("pattern").unwrap_or_default();
        let mut patterns = patterns.split(UNIT);
        let outer = patterns.next().unwrap_or("{0} ({1})");
        let separator = patterns.next().unwrap_or("{0}, {1}");
        let rest = rest
            .into_iter()
            .reduce(|all, part| separator.replace("{1}", &part).replace("{0}", &all))
            .unwrap_or_default();
        // What stands in parentheses has brackets within.
        let rest = if outer.contains('（') {
            rest.replace('（', "［").replace('）', "］")
        } else {
            rest.replace('(', "[").replace(')', "]")
        };
        Some(outer.replace("{1}", &rest).replace("{0}", &name))
    }
}
