//! Language tags: their form, their canonical form, likely subtags, and which of
//! the locales held here serves one.

use crate::data::{Data, subtag, supplement, supplement_entry};
use std::fmt::{self, Display};

/// A language tag, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// Language, in small letters.
    pub language: String,
    /// Script, or empty.
    pub script: String,
    /// Region, or empty.
    pub region: String,
    /// Variants.
    pub variants: Vec<String>,
    /// Attributes of the `-u-` extension.
    pub attributes: Vec<String>,
    /// Keys and values of the `-u-` extension, sorted by key.
    pub keywords: Vec<(String, String)>,
    /// Other extensions, each led by its letter and sorted by it; `x` comes last.
    pub extensions: Vec<String>,
}

impl Tag {
    /// Reads a tag and brings it to canonical form; `None` when it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut tag = Self::read(text)?;
        tag.replace_aliases();
        Some(tag)
    }

    fn read(text: &str) -> Option<Self> {
        if !text.is_ascii() || text.len() > 1000 {
            return None;
        }
        let lower = text.to_ascii_lowercase();
        let mut parts = lower.split('-').peekable();
        let mut tag = Self::default();
        let language = parts.next()?;
        if !is_language(language) {
            return None;
        }
        language.clone_into(&mut tag.language);
        if let Some(script) = parts.next_if(|part| part.len() == 4 && letters(part)) {
            tag.script = capitalized(script);
        }
        if let Some(region) = parts.next_if(|part| is_region(part)) {
            tag.region = region.to_ascii_uppercase();
        }
        while let Some(variant) = parts.next_if(|part| is_variant(part)) {
            if tag.variants.iter().any(|known| known == variant) {
                return None;
            }
            tag.variants.push(variant.to_owned());
        }
        tag.variants.sort();
        let mut seen = Vec::new();
        while let Some(letter) = parts.next() {
            if letter.len() != 1 || !alphanumeric(letter) || seen.contains(&letter) {
                return None;
            }
            seen.push(letter);
            let mut subtags = Vec::new();
            let private = letter == "x";
            while let Some(part) = parts.next_if(|part| private || part.len() != 1) {
                let most = alphanumeric(part) && part.len() <= 8 && (private || part.len() >= 2);
                if !most || part.is_empty() {
                    return None;
                }
                subtags.push(part);
            }
            if subtags.is_empty() {
                return None;
            }
            match letter {
                "u" => tag.read_unicode(&subtags)?,
                "t" => tag.extensions.push(transform(&subtags)?),
                _ => tag.extensions.push(format!("{letter}-{}", subtags.join("-"))),
            }
        }
        tag.extensions.sort_by_key(|extension| {
            extension.replacen("x-", "~", usize::from(extension.starts_with('x')))
        });
        Some(tag)
    }

    fn read_unicode(&mut self, subtags: &[&str]) -> Option<()> {
        let mut rest = subtags.iter().peekable();
        while let Some(attribute) = rest.next_if(|part| part.len() > 2) {
            self.attributes.push((*attribute).to_owned());
        }
        self.attributes.sort();
        self.attributes.dedup();
        while let Some(key) = rest.next() {
            if key.len() != 2 || !key.as_bytes()[1].is_ascii_alphabetic() {
                return None;
            }
            let mut value = Vec::new();
            while let Some(part) = rest.next_if(|part| part.len() > 2) {
                value.push(*part);
            }
            if !self.keywords.iter().any(|(known, _)| known == key) {
                self.keywords.push(((*key).to_owned(), canonical_value(key, &value.join("-"))));
            }
        }
        self.keywords.sort();
        Some(())
    }

    /// The value of a keyword; `true` is empty.
    #[must_use]
    pub fn keyword(&self, key: &str) -> Option<&str> {
        self.keywords.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Sets a keyword, or takes it away.
    pub fn set_keyword(&mut self, key: &str, value: Option<&str>) {
        self.keywords.retain(|(known, _)| known != key);
        if let Some(value) = value {
            self.keywords.push((key.to_owned(), canonical_value(key, value)));
            self.keywords.sort();
        }
    }

    /// Language, script, region and variants.
    #[must_use]
    pub fn base_name(&self) -> String {
        let mut out = self.language.clone();
        for part in [&self.script, &self.region].into_iter().chain(&self.variants) {
            if !part.is_empty() {
                out.push('-');
                out.push_str(part);
            }
        }
        out
    }

    fn replace_aliases(&mut self) {
        // Everyday tags have no alias; the tables are not touched for them.
        if supplement(&format!("av.{}", self.base_name())).is_some() {
            return;
        }
        self.replace_language();
        if let Some(script) = subtag(&format!("sa.{}", self.script.to_lowercase())) {
            script.clone_into(&mut self.script);
        }
        if let Some(regions) = subtag(&format!("ta.{}", self.region.to_lowercase())) {
            let regions: Vec<_> = regions.split(' ').collect();
            let mut likely = Self {
                language: self.language.clone(),
                script: self.script.clone(),
                ..Self::default()
            };
            likely.maximize();
            let region =
                regions.iter().find(|region| **region == likely.region).unwrap_or(&regions[0]);
            (*region).clone_into(&mut self.region);
        }
        for variant in &mut self.variants {
            if let Some(other) = subtag(&format!("va.{variant}")) {
                *variant = other.to_lowercase();
            }
        }
    }

    fn replace_language(&mut self) {
        if self.variants.len() > 1
            && let Some(other) = subtag(&format!("la.und-{}", self.variants.join("-")))
        {
            let language = self.language.clone();
            self.variants.clear();
            self.take_over(other);
            self.language = language;
        }
        for variant in self.variants.clone() {
            for key in [format!("la.{}-{variant}", self.language), format!("la.und-{variant}")] {
                if let Some(other) = subtag(&key) {
                    self.variants.retain(|known| *known != variant);
                    let language = key.starts_with("la.und").then(|| self.language.clone());
                    self.take_over(other);
                    if let Some(language) = language {
                        self.language = language;
                    }
                    break;
                }
            }
        }
        let region = self.region.to_lowercase();
        if !region.is_empty()
            && let Some(other) = subtag(&format!("la.{}-{region}", self.language))
        {
            self.region.clear();
            self.take_over(other);
        }
        if let Some(other) = subtag(&format!("la.{}", self.language)) {
            self.take_over(other);
        }
    }

    fn take_over(&mut self, other: &str) {
        let Some(other) = Self::read(&other.replace('_', "-")) else { return };
        self.language = other.language;
        if self.script.is_empty() {
            self.script = other.script;
        }
        if self.region.is_empty() {
            self.region = other.region;
        }
        for variant in other.variants {
            if !self.variants.contains(&variant) {
                self.variants.push(variant);
            }
        }
        self.variants.sort();
    }

    /// Adds the likely script and region.
    pub fn maximize(&mut self) {
        if !self.script.is_empty() && !self.region.is_empty() && self.language != "und" {
            return;
        }
        let join = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).copied().collect();
            format!("lk.{}", parts.join("-"))
        };
        let (l, s, r) = (self.language.as_str(), self.script.as_str(), self.region.as_str());
        let keys = [join(&[l, s, r]), join(&[l, r]), join(&[l, s]), join(&[l]), join(&["und", s])];
        let wanted = [true, !r.is_empty(), !s.is_empty(), true, !s.is_empty()];
        let found =
            keys.iter().zip(wanted).filter(|(_, wanted)| *wanted).find_map(|(key, _)| subtag(key));
        let Some(likely) = found.and_then(Self::read) else { return };
        if self.language == "und" {
            self.language = likely.language;
        }
        if self.script.is_empty() {
            self.script = likely.script;
        }
        if self.region.is_empty() {
            self.region = likely.region;
        }
    }

    /// Takes away the script and region that are likely anyway.
    pub fn minimize(&mut self) {
        let mut full = self.clone();
        full.maximize();
        let tries = [
            (String::new(), String::new()),
            (String::new(), full.region.clone()),
            (full.script.clone(), String::new()),
        ];
        for (script, region) in tries {
            let mut probe =
                Self { script, region, language: full.language.clone(), ..Self::default() };
            let (script, region) = (probe.script.clone(), probe.region.clone());
            probe.maximize();
            if (&probe.language, &probe.script, &probe.region)
                == (&full.language, &full.script, &full.region)
            {
                self.language = full.language;
                self.script = script;
                self.region = region;
                return;
            }
        }
        (self.language, self.script, self.region) = (full.language, full.script, full.region);
    }
}

impl Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base_name())?;
        let mut unicode = String::new();
        for attribute in &self.attributes {
            unicode = unicode + "-" + attribute;
        }
        for (key, value) in &self.keywords {
            unicode = unicode + "-" + key;
            if !value.is_empty() {
                unicode = unicode + "-" + value;
            }
        }
        let mut written = unicode.is_empty();
        for extension in &self.extensions {
            let letter = extension.as_bytes()[0];
            if !written && (letter > b'u' || letter == b'x') {
                write!(f, "-u{unicode}")?;
                written = true;
            }
            write!(f, "-{extension}")?;
        }
        if written { Ok(()) } else { write!(f, "-u{unicode}") }
    }
}

/// The canonical value of a keyword.
#[must_use]
pub fn canonical_value(key: &str, value: &str) -> String {
    if matches!(key, "rg" | "sd")
        && let Some(other) = subtag(&format!("ua.{value}"))
    {
        let other = other.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        return if other.len() == 2 { other + "zzzz" } else { other };
    }
    let value = supplement(&format!("kw.{key}.{value}")).unwrap_or(value);
    if value == "true" || value == "yes" && matches!(key, "kb" | "kc" | "kh" | "kk" | "kn") {
        return String::new();
    }
    value.to_owned()
}

/// `t` with its language and fields in order.
fn transform(subtags: &[&str]) -> Option<String> {
    let is_field = |part: &str| {
        part.len() == 2
            && part.as_bytes()[0].is_ascii_alphabetic()
            && part.as_bytes()[1].is_ascii_digit()
    };
    let first = subtags.iter().position(|part| is_field(part)).unwrap_or(subtags.len());
    let mut out = String::from("t");
    if first > 0 {
        let language = Tag::parse(&subtags[..first].join("-"))?;
        out = format!("{out}-{}", language.base_name().to_lowercase());
    }
    let mut fields: Vec<String> = Vec::new();
    for part in &subtags[first..] {
        if is_field(part) {
            fields.push((*part).to_owned());
        } else {
            let last = fields.last_mut()?;
            *last = format!("{last}-{part}");
        }
    }
    if fields.iter().any(|field| field.len() == 2) {
        return None;
    }
    fields.sort();
    for field in fields {
        out = format!("{out}-{field}");
    }
    Some(out)
}

/// Whether it has the form of a language.
#[must_use]
pub fn is_language(part: &str) -> bool {
    letters(part) && matches!(part.len(), 2 | 3 | 5..=8)
}

/// Whether it has the form of a script.
#[must_use]
pub fn is_script(part: &str) -> bool {
    letters(part) && part.len() == 4
}

/// Whether it has the form of a region.
#[must_use]
pub fn is_region(part: &str) -> bool {
    part.len() == 2 && letters(part)
        || part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text begins with language, script, region and variants, or with a language
/// and a single letter or nothing at all.
#[must_use]
pub fn begins_as_tag(text: &str) -> bool {
    let mut parts = text.split('-').peekable();
    if !text.is_ascii() || !parts.next().is_some_and(is_language) {
        return false;
    }
    parts.next_if(|part| is_script(part));
    parts.next_if(|part| is_region(part));
    while parts.next_if(|part| is_variant(part)).is_some() {}
    let rest: Vec<_> = parts.collect();
    rest.first().is_none_or(|part| part.len() == 1) || rest == [""]
}

fn is_variant(part: &str) -> bool {
    alphanumeric(part)
        && (matches!(part.len(), 5..=8) || part.len() == 4 && part.as_bytes()[0].is_ascii_digit())
}

/// Whether it has the form of a keyword's value.
#[must_use]
pub fn is_keyword_value(value: &str) -> bool {
    !value.is_empty()
        && value.split('-').all(|part| alphanumeric(part) && matches!(part.len(), 3..=8))
}

fn letters(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn alphanumeric(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn capitalized(script: &str) -> String {
    script[..1].to_ascii_uppercase() + &script[1..]
}

/// A locale that is held here: its name, and its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The tag it is known by.
    pub tag: &'static str,
    /// Its data.
    pub data: Data,
}

/// English as it is in the United States.
pub const DEFAULT: Held = Held { tag: "en-US", data: Data::english() };

/// The locale held here that serves a tag, by ECMA-402's `BestAvailableLocale`.
#[must_use]
pub fn best_available(tag: &Tag) -> Option<Held> {
    let mut name = tag.base_name();
    loop {
        if let Some(held) = held(&name) {
            return Some(held);
        }
        name.truncate(name.rfind('-')?);
        if name.rfind('-').is_some_and(|at| name.len() - at == 2) {
            name.truncate(name.len() - 2);
        }
    }
}

fn held(name: &str) -> Option<Held> {
    if name == "en-US" {
        return Some(DEFAULT);
    }
    let (key, data) = supplement_entry(&format!("av.{name}"))?;
    Some(Held { tag: &key[3..], data: Data::of(data)? })
}
