//! `Intl.ListFormat`.

use crate::data::Data;
use crate::number::Width;
use crate::part::{Part, push, text};

/// Kind of list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum Kind {
    #[default]
    Conjunction,
    Disjunction,
    Unit,
}

/// The patterns of a kind of list in a locale.
#[derive(Clone, Debug)]
pub struct ListFormat {
    /// Between the first two elements, in the middle, before the last, and between two.
    patterns: [&'static str; 4],
    language: &'static str,
}

impl ListFormat {
    /// The list format of a locale that is held.
    #[must_use]
    pub fn new(data: Data, kind: Kind, width: Width) -> Self {
        let kind = match kind {
            Kind::Conjunction => "standard",
            Kind::Disjunction => "or",
            Kind::Unit => "unit",
        };
        let width = match width {
            Width::Long => "",
            Width::Short => "-short",
            Width::Narrow => "-narrow",
        };
        let list = data.list(&format!("lp.{kind}{width}"));
        let of = |at: usize| list.get(at).copied().unwrap_or("{0}, {1}");
        let language = data.tag().split('-').next().unwrap_or_default();
        Self { patterns: [of(0), of(1), of(2), of(3)], language }
    }

    /// The elements as one list; what stands between them is literal.
    #[must_use]
    pub fn join(&self, elements: Vec<Vec<Part>>) -> Vec<Part> {
        let count = elements.len();
        let mut out: Vec<Part> = Vec::new();
        for (at, element) in elements.into_iter().enumerate() {
            if at == 0 {
                out = element;
                continue;
            }
            let pattern = match at {
                _ if count == 2 => self.patterns[3],
                1 => self.patterns[0],
                _ if at + 1 == count => self.patterns[2],
                _ => self.patterns[1],
            };
            let pattern = self.suited(pattern, &element);
            let (before, rest) = pattern.split_once("{0}").unwrap_or_default();
            let (between, after) = rest.split_once("{1}").unwrap_or((rest, ""));
            if !before.is_empty() {
                out.insert(0, Part::new("literal", before));
            }
            push(&mut out, Part::new("literal", between));
            out.extend(element.into_iter().filter(|part| !part.value.is_empty()));
            push(&mut out, Part::new("literal", after));
        }
        out.retain(|part| !part.value.is_empty());
        out
    }

    /// The pattern as the sound of the element after it wants it: ICU does so in Spanish
    /// and in Hebrew.
    fn suited(&self, pattern: &'static str, next: &[Part]) -> &'static str {
        match (self.language, pattern) {
            ("es", "{0} y {1}") if sounds_like_i(&text(next)) => "{0} e {1}",
            ("es", "{0} o {1}") if sounds_like_o(&text(next)) => "{0} u {1}",
            ("he", "{0} ו{1}") if !starts_in_hebrew(&text(next)) => "{0} ו-{1}",
            _ => pattern,
        }
    }
}

fn starts_in_hebrew(text: &str) -> bool {
    text.starts_with(|first| matches!(first, '\u{591}'..='\u{5f4}' | '\u{fb1d}'..='\u{fb4f}'))
}

/// `i…`, and `hi…` but `hia…` and `hie…`.
fn sounds_like_i(text: &str) -> bool {
    let mut letters = text.chars().map(|letter| letter.to_ascii_lowercase());
    match letters.next() {
        Some('i') => true,
        Some('h') => letters.next() == Some('i') && !matches!(letters.next(), Some('a' | 'e')),
        _ => false,
    }
}

/// `o…`, `ho…`, `8…` and eleven.
fn sounds_like_o(text: &str) -> bool {
    let mut letters = text.chars().map(|letter| letter.to_ascii_lowercase());
    match letters.next() {
        Some('o' | '8') => true,
        Some('h') => letters.next() == Some('o'),
        _ => text == "11" || text.starts_with("11 "),
    }
}
