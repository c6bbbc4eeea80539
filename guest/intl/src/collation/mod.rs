//! `Intl.Collator`: which locale, which order, and the comparison of two strings.

mod ascii;
mod data;
mod locales;

pub use locales::{best_available, types};

use ascii::Ascii;
use data::Source;
use icu_collator::options::{AlternateHandling, CaseLevel, CollatorOptions, Strength};
use icu_collator::preferences::{CollationCaseFirst, CollationNumericOrdering};
use icu_collator::{Collator, CollatorPreferences};
use std::cell::OnceCell;
use std::cmp::Ordering;

/// Which differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sensitivity {
    /// Letters.
    Base,
    /// Letters and their accents.
    Accent,
    /// Letters and their case.
    Case,
    /// Letters, accents, case and more.
    #[default]
    Variant,
}

/// Which of two letters that differ only in case comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaseFirst {
    /// The capital.
    Upper,
    /// The small one.
    Lower,
    /// As the tailoring has it, the small one unless it says otherwise.
    #[default]
    False,
}

/// What a collation compares by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A language tag of [`best_available`].
    pub locale: &'static str,
    /// The type of collation, `None` for the locale's own.
    pub kind: Option<String>,
    /// To search rather than to sort.
    pub search: bool,
    /// Whether digits count as numbers.
    pub numeric: bool,
    /// `None` for the locale's own.
    pub case_first: Option<CaseFirst>,
    /// Which differences count.
    pub sensitivity: Sensitivity,
    /// Whether punctuation does not count; `None` for the locale's own.
    pub ignore_punctuation: Option<bool>,
}

/// An order of strings.
#[derive(Debug)]
pub struct Collation {
    options: Options,
    /// The order of ASCII where the locale and the options leave it as the root has it.
    ascii: Option<Ascii>,
    /// Loaded when strings are first compared that need it; `None` without its data.
    full: OnceCell<Option<Collator>>,
}

impl Collation {
    /// The order that the options describe.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { ascii: Ascii::of(&options), options, full: OnceCell::new() }
    }

    /// The same order, by the tables alone.
    #[must_use]
    pub fn with_tables(options: Options) -> Self {
        Self { ascii: None, ..Self::new(options) }
    }

    /// What was asked for.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Compares two strings in UTF-8, in which lone surrogates may be encoded, too.
    #[must_use]
    pub fn compare(&self, left: &[u8], right: &[u8]) -> Ordering {
        if let Some(order) = self.ascii.as_ref().and_then(|ascii| ascii.compare(left, right)) {
            return order;
        }
        let full = self.full.get_or_init(|| load(&self.options));
        full.as_ref()
            .map_or_else(|| left.cmp(right), |full| full.as_borrowed().compare_utf8(left, right))
    }
}

/// The default of `ignorePunctuation` in a locale.
#[must_use]
pub fn ignores_punctuation(locale: &str) -> bool {
    locale == "th"
}

/// The default of `caseFirst` in a locale.
#[must_use]
pub fn case_first(locale: &str) -> CaseFirst {
    if locale == "da" { CaseFirst::Upper } else { CaseFirst::False }
}

fn load(options: &Options) -> Option<Collator> {
    let mut preferences = CollatorPreferences::default();
    if options.numeric {
        preferences.numeric_ordering = Some(CollationNumericOrdering::True);
    }
    preferences.case_first = options.case_first.map(|first| match first {
        CaseFirst::Upper => CollationCaseFirst::Upper,
        CaseFirst::Lower => CollationCaseFirst::Lower,
        CaseFirst::False => CollationCaseFirst::False,
    });
    let mut settings = CollatorOptions::default();
    settings.strength = Some(match options.sensitivity {
        Sensitivity::Base | Sensitivity::Case => Strength::Primary,
        Sensitivity::Accent => Strength::Secondary,
        Sensitivity::Variant => Strength::Tertiary,
    });
    if options.sensitivity == Sensitivity::Case {
        settings.case_level = Some(CaseLevel::On);
    }
    settings.alternate_handling = options.ignore_punctuation.map(|ignore| {
        if ignore { AlternateHandling::Shifted } else { AlternateHandling::NonIgnorable }
    });
    Collator::try_new_unstable(&Source::of(options), preferences, settings).ok()
}
