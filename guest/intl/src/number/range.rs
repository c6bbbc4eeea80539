//! Ranges of numbers: what both ends share is written once.

use super::NumberFormat;
use super::format::Pieces;
use crate::data::UNIT;
use crate::decimal::Decimal;
use crate::number::symbols::table;
use crate::part::{Part, Source, push};

impl NumberFormat {
    /// A range in parts; `None` when an end is not a number.
    #[must_use]
    pub fn format_range_to_parts(&self, start: &Decimal, end: &Decimal) -> Vec<Part> {
        let first = self.pieces(start, false);
        let second = self.pieces(end, false);
        if first.rounded == second.rounded {
            return self.pieces(start, true).join();
        }
        let category = self.rules.select_range(first.category, second.category);
        let outer = self.long_name(category);
        let same = first.middle == second.middle;
        let characters = |pieces: &Pieces| {
            [&pieces.middle.0, &pieces.middle.1]
                .into_iter()
                .flatten()
                .map(|part| part.value.chars().count())
                .sum::<usize>()
        };
        let collapses = same && characters(&first) > 1;
        let repeats = !collapses && characters(&first) > 0 || first.exponent;
        let pattern = table(self.data, "pat", &self.system).split(UNIT).nth(5).unwrap_or("{0}–{1}");
        let between = pattern.trim_start_matches("{0}").trim_end_matches("{1}");
        let mut between = between.to_owned();
        if repeats && !between.starts_with(char::is_whitespace) {
            between.insert(0, ' ');
        }
        if repeats && !between.ends_with(char::is_whitespace) {
            between.push(' ');
        }
        let spaced = first.spaced;
        let mut parts = Vec::new();
        let mut add = |list: Vec<Part>, source: Source| {
            for part in list {
                push(&mut parts, Part { source, ..part });
            }
        };
        add(outer.before, Source::Shared);
        let (own, other) =
            if collapses { (Source::Shared, Source::Shared) } else { (Source::Start, Source::End) };
        add(first.middle.0, own);
        add(first.number, Source::Start);
        if !collapses {
            add(first.middle.1, own);
        }
        add(vec![Part::new("literal", between)], Source::Shared);
        if !collapses {
            add(second.middle.0, other);
        }
        add(second.number, Source::End);
        add(second.middle.1, other);
        add(outer.after, Source::Shared);
        if collapses && spaced {
            shift_sources(&mut parts);
        }
        parts
    }
}

/// Does as ICU, which forgets the space that it puts between the letters of a currency
/// and the range: what it says of both ends is one place too far to the front.
fn shift_sources(parts: &mut [Part]) {
    let sources: Vec<_> = parts.iter().map(|part| part.source).collect();
    let Some(first) = sources.iter().position(|source| *source == Source::Start) else { return };
    for (at, part) in parts.iter_mut().enumerate() {
        let next = sources.get(at + 1).copied();
        let long = part.value.chars().count() > 1;
        part.source = match part.source {
            _ if at + 1 == first => Source::Start,
            // The last character lies outside, and with it the part.
            source if source != Source::Shared && next != Some(source) => Source::Shared,
            Source::Shared if next == Some(Source::End) && !long => Source::End,
            source => source,
        };
    }
}
