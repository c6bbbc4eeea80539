//! Patterns of compact notation, such as `0K`.

use crate::data::{Data, RECORD, UNIT};
use crate::number::options::{CurrencyDisplay, Notation, Options, Style};
use crate::number::pattern::Pattern;
use crate::number::symbols::table;
use crate::plural::{Category, pick};

/// The patterns of a locale for each power of ten from a thousand on.
#[derive(Clone, Debug)]
pub(super) struct Compact {
    magnitudes: Vec<&'static str>,
    /// Grouping digits, which the patterns leave out.
    grouping: (usize, usize),
}

/// The power of ten of the first pattern.
const FIRST: i32 = 3;

impl Compact {
    pub(super) fn new(data: Data, system: &str, options: &Options) -> Self {
        let money =
            options.style == Style::Currency && options.currency_display != CurrencyDisplay::Name;
        let long = options.notation == Notation::CompactLong;
        let kinds: &[&str] = match (money, long) {
            (true, _) => &["cc"],
            (false, true) => &["cl", "cs"],
            (false, false) => &["cs"],
        };
        let patterns =
            kinds.iter().map(|kind| table(data, kind, system)).find(|list| !list.is_empty());
        let decimal =
            Pattern::parse(table(data, "pat", system).split(UNIT).next().unwrap_or_default());
        Self {
            magnitudes: patterns.unwrap_or_default().split(RECORD).collect(),
            grouping: (decimal.primary, decimal.secondary),
        }
    }

    /// How many digits a number of that magnitude loses.
    pub(super) fn shift(&self, magnitude: i32) -> i32 {
        let Some((patterns, at)) = self.patterns(magnitude) else { return 0 };
        let zeros = Pattern::parse(pick(patterns, Category::Other)).zeros as i32;
        if zeros == 0 || is_plain(pick(patterns, Category::Other)) { 0 } else { at + 1 - zeros }
    }

    /// The pattern for a number of that magnitude and category; `None` where it is
    /// written in full.
    pub(super) fn pattern(
        &self,
        magnitude: i32,
        category: Category,
        exactly: Option<u64>,
    ) -> Option<Pattern> {
        let (patterns, _) = self.patterns(magnitude)?;
        let exact = exactly.filter(|number| *number < 2).and_then(|number| {
            let mark = if number == 0 { '0' } else { '1' };
            patterns.split(UNIT).find_map(|pattern| pattern.strip_prefix(mark))
        });
        let text = exact.unwrap_or_else(|| pick(patterns, category));
        if text.is_empty() || is_plain(text) {
            return None;
        }
        let mut pattern = Pattern::parse(text);
        (pattern.primary, pattern.secondary) = self.grouping;
        Some(pattern)
    }

    fn patterns(&self, magnitude: i32) -> Option<(&'static str, i32)> {
        let last = self.magnitudes.len() as i32 - 1 + FIRST;
        let at = magnitude.min(last);
        let patterns = self.magnitudes.get(usize::try_from(at - FIRST).ok()?)?;
        (!patterns.is_empty()).then_some((*patterns, at))
    }
}

/// Whether a pattern is `0`, which says that nothing is shortened.
fn is_plain(pattern: &str) -> bool {
    pattern == "0"
}
