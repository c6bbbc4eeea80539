//! `Intl.Segmenter`: where graphemes, words and sentences end.

use crate::icu::{Pack, load, table};
use icu_collections::codepointtrie::CodePointTrie;
use icu_locale_core::LanguageIdentifier;
use icu_provider::prelude::*;
use icu_segmenter::options::SentenceBreakOptions;
use icu_segmenter::provider::{
    SegmenterBreakGraphemeClusterV1, SegmenterBreakSentenceOverrideV1, SegmenterBreakSentenceV1,
};
use icu_segmenter::{GraphemeClusterSegmenter, SentenceSegmenter};

/// What a text is cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// What a reader takes for one character.
    #[default]
    Grapheme,
    /// Words, and what stands between them.
    Word,
    /// Sentences.
    Sentence,
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it ends, in units of UTF-16; it begins where the one before ends.
    pub end: usize,
    /// Whether it is a word or a number rather than what stands between words.
    pub word_like: bool,
}

/// The segments of a text in a language; none where it is empty.
#[must_use]
pub fn segments(granularity: Granularity, language: &str, text: &[u16]) -> Vec<Segment> {
    if text.is_empty() {
        return Vec::new();
    }
    cut(granularity, language, text)
        .unwrap_or_else(|_| vec![Segment { end: text.len(), word_like: false }])
}

fn cut(granularity: Granularity, language: &str, text: &[u16]) -> Result<Vec<Segment>, DataError> {
    let plain = |end| Segment { end, word_like: false };
    Ok(match granularity {
        Granularity::Grapheme => {
            let graphemes = GraphemeClusterSegmenter::try_new_unstable(&Source)?;
            graphemes.as_borrowed().segment_utf16(text).skip(1).map(plain).collect()
        }
        Granularity::Sentence => {
            let mut options = SentenceBreakOptions::default();
            let language = LanguageIdentifier::try_from_str(language);
            let language = language.unwrap_or(LanguageIdentifier::UNKNOWN);
            options.content_locale = Some(&language);
            let sentences = SentenceSegmenter::try_new_unstable(&Source, options)?;
            sentences.as_borrowed().segment_utf16(text).skip(1).map(plain).collect()
        }
        Granularity::Word => return words(text),
    })
}

/// The classes of UAX 29's property `Word_Break`, by ICU's numbers.
mod class {
    pub(super) const ALETTER: u8 = 1;
    pub(super) const FORMAT: u8 = 2;
    pub(super) const KATAKANA: u8 = 3;
    pub(super) const MID_LETTER: u8 = 4;
    pub(super) const MID_NUM: u8 = 5;
    pub(super) const NUMERIC: u8 = 6;
    pub(super) const EXTEND_NUM_LET: u8 = 7;
    pub(super) const CR: u8 = 8;
    pub(super) const EXTEND: u8 = 9;
    pub(super) const LF: u8 = 10;
    pub(super) const MID_NUM_LET: u8 = 11;
    pub(super) const NEWLINE: u8 = 12;
    pub(super) const REGIONAL_INDICATOR: u8 = 13;
    pub(super) const HEBREW_LETTER: u8 = 14;
    pub(super) const SINGLE_QUOTE: u8 = 15;
    pub(super) const DOUBLE_QUOTE: u8 = 16;
    pub(super) const ZWJ: u8 = 21;
    pub(super) const W_SEG_SPACE: u8 = 22;
    /// Ours: syllables of Hangul, which ICU keeps from other letters.
    pub(super) const HANGUL: u8 = 100;
    /// Ours: letters that belong to no class, which ICU leaves to dictionaries.
    pub(super) const UNSPACED: u8 = 101;
}

/// A character of a text.
struct Unit {
    start: usize,
    class: u8,
    is_pictograph: bool,
}

impl Unit {
    /// Whether it belongs to the character before it.
    fn is_extension(&self) -> bool {
        matches!(self.class, class::EXTEND | class::FORMAT | class::ZWJ)
    }

    fn is_line_end(&self) -> bool {
        matches!(self.class, class::CR | class::LF | class::NEWLINE)
    }

    fn is_letter(&self) -> bool {
        matches!(self.class, class::ALETTER | class::HEBREW_LETTER)
    }
}

/// The words of a text by the rules of UAX 29 as ICU has them: a full stop does not hold
/// letters together, nor does a colon.
fn words(text: &[u16]) -> Result<Vec<Segment>, DataError> {
    let table: CodePointTrie<'static, u8> = table(Pack::Breaks, "word")?;
    let graphemes: DataResponse<SegmenterBreakGraphemeClusterV1> =
        Source.load(Default::default())?;
    let pictographs = &graphemes.payload.get().property_table;
    let pictograph = pictographs.get('\u{1F44D}');
    let mut start = 0;
    let mut units = Vec::with_capacity(text.len());
    for unit in char::decode_utf16(text.iter().copied()) {
        let character = unit.unwrap_or(char::REPLACEMENT_CHARACTER);
        let class = match character {
            '.' | '\u{FF0E}' => class::MID_NUM,
            ':' | '\u{FE55}' | '\u{FF1A}' => 0,
            '\u{AC00}'..='\u{D7A3}' => class::HANGUL,
            _ => match table.get(character) {
                0 if character.is_alphabetic() => class::UNSPACED,
                class => class,
            },
        };
        let is_pictograph = pictographs.get(character) == pictograph;
        units.push(Unit { start, class, is_pictograph });
        start += character.len_utf16();
    }
    let mut out = Vec::new();
    let mut first = 0;
    for at in 1..=units.len() {
        if at == units.len() || is_boundary(&units, at) {
            let end = units.get(at).map_or(text.len(), |unit| unit.start);
            out.push(Segment { end, word_like: is_word(&units[first..at]) });
            first = at;
        }
    }
    Ok(out)
}

/// Whether letters or digits are in a segment, or it ends with syllables of Hangul, or with
/// a low line or its like after another.
fn is_word(segment: &[Unit]) -> bool {
    use class::{ALETTER, EXTEND_NUM_LET, HANGUL, HEBREW_LETTER, KATAKANA, NUMERIC, UNSPACED};
    let counts =
        |unit: &Unit| matches!(unit.class, ALETTER | HEBREW_LETTER | NUMERIC | KATAKANA | UNSPACED);
    segment.iter().any(counts)
        || segment.last().is_some_and(|last| match last.class {
            HANGUL => true,
            EXTEND_NUM_LET => segment.len() > 1,
            _ => false,
        })
}

/// Whether a word ends before a character that is not the first.
fn is_boundary(units: &[Unit], at: usize) -> bool {
    use class::{
        CR, DOUBLE_QUOTE, EXTEND_NUM_LET, HANGUL, HEBREW_LETTER, KATAKANA, LF, MID_LETTER, MID_NUM,
        MID_NUM_LET, NUMERIC, REGIONAL_INDICATOR, SINGLE_QUOTE, W_SEG_SPACE, ZWJ,
    };
    let (last, next) = (&units[at - 1], &units[at]);
    // WB3 to WB4.
    if last.is_line_end() || next.is_line_end() {
        return !(last.class == CR && next.class == LF);
    }
    if last.class == ZWJ && next.is_pictograph
        || last.class == W_SEG_SPACE && next.class == W_SEG_SPACE
        || next.is_extension()
    {
        return false;
    }
    // From here on, extensions count as part of what they extend.
    let before = |at: usize| {
        units[..at].iter().rposition(|unit| !unit.is_extension()).filter(|found| {
            // What follows the end of a line is not its extension.
            *found + 1 == at || !units[*found].is_line_end()
        })
    };
    let Some(left_at) = before(at) else { return true };
    let left = &units[left_at];
    let after = units[at + 1..].iter().find(|unit| !unit.is_extension());
    let earlier = before(left_at).map(|at| &units[at]);
    let joins = |class: u8, own: u8| matches!(class, MID_NUM_LET | SINGLE_QUOTE) || class == own;
    let is = |unit: Option<&Unit>, class: u8| unit.is_some_and(|unit| unit.class == class);
    let is_letter = |unit: Option<&Unit>| unit.is_some_and(Unit::is_letter);
    let hebrew = left.class == HEBREW_LETTER;
    let kept = left.is_letter() && next.is_letter()
        || left.is_letter() && joins(next.class, MID_LETTER) && is_letter(after)
        || next.is_letter() && joins(left.class, MID_LETTER) && is_letter(earlier)
        || hebrew && next.class == SINGLE_QUOTE
        || hebrew && next.class == DOUBLE_QUOTE && is(after, HEBREW_LETTER)
        || next.class == HEBREW_LETTER && left.class == DOUBLE_QUOTE && is(earlier, HEBREW_LETTER)
        || (left.is_letter() || left.class == NUMERIC) && next.class == NUMERIC
        || left.class == NUMERIC && next.is_letter()
        || next.class == NUMERIC && joins(left.class, MID_NUM) && is(earlier, NUMERIC)
        || left.class == NUMERIC && joins(next.class, MID_NUM) && is(after, NUMERIC)
        || left.class == KATAKANA && next.class == KATAKANA
        || last.class == HANGUL && next.class == HANGUL
        || next.class == EXTEND_NUM_LET
            && (left.is_letter() || matches!(left.class, NUMERIC | KATAKANA | EXTEND_NUM_LET))
        || left.class == EXTEND_NUM_LET
            && (next.is_letter() || matches!(next.class, NUMERIC | KATAKANA));
    if kept {
        return false;
    }
    if left.class == REGIONAL_INDICATOR && next.class == REGIONAL_INDICATOR {
        // WB15 and WB16: flags are pairs.
        let mut flags = units[..at].iter().rev().filter(|unit| !unit.is_extension());
        let count = flags.by_ref().take_while(|unit| unit.class == REGIONAL_INDICATOR).count();
        return count % 2 == 0;
    }
    true
}

/// The data of [`Pack::Breaks`].
struct Source;

macro_rules! singleton {
    ($marker:ty, $name:literal) => {
        impl DataProvider<$marker> for Source {
            fn load(&self, _: DataRequest<'_>) -> Result<DataResponse<$marker>, DataError> {
                load(Pack::Breaks, $name)
            }
        }
    };
}

singleton!(SegmenterBreakGraphemeClusterV1, "grapheme");
singleton!(SegmenterBreakSentenceV1, "sentence");

impl DataProvider<SegmenterBreakSentenceOverrideV1> for Source {
    /// What a language changes.
    fn load(
        &self,
        asked: DataRequest<'_>,
    ) -> Result<DataResponse<SegmenterBreakSentenceOverrideV1>, DataError> {
        load(Pack::Breaks, &format!("sentence.{}", asked.id.locale.language))
    }
}
