//! Formatted text in parts, as `formatToParts` returns it.

/// A piece of formatted text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is, in ECMA-402's words.
    pub kind: &'static str,
    /// The text.
    pub value: String,
    /// Of a range: where it comes from.
    pub source: Source,
    /// Of relative time and durations: the unit it belongs to, or empty.
    pub unit: &'static str,
}

/// Which end of a range a part comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Both ends, or what stands between them.
    #[default]
    Shared,
    /// The start.
    Start,
    /// The end.
    End,
}

impl Source {
    /// ECMA-402's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Start => "startRange",
            Self::End => "endRange",
        }
    }
}

impl Part {
    /// A part.
    #[must_use]
    pub fn new(kind: &'static str, value: impl Into<String>) -> Self {
        Self { kind, value: value.into(), source: Source::Shared, unit: "" }
    }
}

/// Appends a part without empty ones, and joins literals that meet.
pub fn push(parts: &mut Vec<Part>, part: Part) {
    if part.value.is_empty() {
        return;
    }
    match parts.last_mut() {
        Some(last)
            if last.kind == part.kind
                && part.kind == "literal"
                && last.source == part.source
                && last.unit == part.unit =>
        {
            last.value.push_str(&part.value);
        }
        _ => parts.push(part),
    }
}

/// The text of the parts.
#[must_use]
pub fn text(parts: &[Part]) -> String {
    parts.iter().map(|part| part.value.as_str()).collect()
}

/// Fills `{0}`, `{1}` … of a pattern: literals go to `parts`, and `fill` adds what
/// stands for each number.
pub fn fill(pattern: &str, parts: &mut Vec<Part>, mut each: impl FnMut(usize, &mut Vec<Part>)) {
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let number = rest[open + 1..].find('}').and_then(|close| {
            rest[open + 1..open + 1 + close]
                .parse::<usize>()
                .ok()
                .map(|number| (number, open + close + 2))
        });
        let Some((number, next)) = number else { break };
        push(parts, Part::new("literal", unquote(&rest[..open])));
        each(number, parts);
        rest = &rest[next..];
    }
    push(parts, Part::new("literal", unquote(rest)));
}

/// Text without the apostrophes that quote it in a pattern; two in a row are one.
#[must_use]
pub fn unquote(text: &str) -> String {
    if !text.contains('\'') {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\'' {
            out.push(character);
        } else if characters.peek() == Some(&'\'') {
            characters.next();
            out.push('\'');
        }
    }
    out
}
