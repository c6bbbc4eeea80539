//! Writes packs of what `guest/intl` needs of ICU4X's data, which is CLDR 48 in the
//! pinned release of its crates, and nothing of other languages.
//!
//! A pack begins with ranges of its pieces: their count, and the start and the end of each,
//! four bytes, little-endian, each. In a range, elements of collations are differences, as
//! [`to_differences`] makes them. Pieces follow, one after the other: the length of the piece's name (one byte), the
//! name, the length of the piece (four bytes, little-endian), and the piece, which is one
//! of ICU4X's structures in postcard's form.
//!
//! Usage: `cellblock-icu-tables FOLDER`

mod provider;

use icu_casemap::provider::CaseMapV1;
use icu_collator::provider::{
    CollationDiacriticsV1, CollationJamoV1, CollationMetadataV1, CollationReorderingV1,
    CollationRootV1, CollationSpecialPrimariesV1, CollationTailoringV1,
};
use icu_normalizer::provider::{NormalizerNfdDataV1, NormalizerNfdTablesV1};
use icu_properties::CodePointMapData;
use icu_properties::props::WordBreak;
use icu_segmenter::provider::{
    SegmenterBreakGraphemeClusterV1, SegmenterBreakSentenceOverrideV1, SegmenterBreakSentenceV1,
};
use provider::{singleton, variants};
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::path::PathBuf;

/// Languages whose collation V8 has.
const LANGUAGES: [&str; 50] = [
    "af", "am", "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi",
    "fil", "fr", "gu", "he", "hi", "hr", "hu", "id", "it", "ja", "kn", "ko", "lt", "lv", "ml",
    "mr", "ms", "no", "nl", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "sw", "ta", "te", "th",
    "tr", "uk", "ur", "vi",
];

/// Tailorings of ideographs: large, so that each is a pack of its own.
const LARGE: [(&str, &str); 5] = [
    ("und-Hani/pinyin", "pinyin"),
    ("und-Hani/stroke", "stroke"),
    ("ja/", "ja"),
    ("ko/", "ko"),
    ("und/emoji", "emoji"),
];

type Pieces = BTreeMap<String, Vec<u8>>;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("which folder?")?);
    for (name, pieces) in packs()? {
        std::fs::write(folder.join(name), joined(&pieces)?)?;
    }
    Ok(())
}

fn packs() -> Result<BTreeMap<&'static str, Pieces>, Box<dyn Error>> {
    let mut root = Pieces::new();
    root.insert("root".to_owned(), singleton!(CollationRootV1));
    root.insert("jamo".to_owned(), singleton!(CollationJamoV1));
    root.insert("primaries".to_owned(), singleton!(CollationSpecialPrimariesV1));
    root.insert("nfd".to_owned(), singleton!(NormalizerNfdDataV1));
    root.insert("tables".to_owned(), singleton!(NormalizerNfdTablesV1));
    for (id, piece) in variants!(CollationDiacriticsV1) {
        if is_held(&id) {
            root.insert(format!("d.{id}"), piece);
        }
    }
    for (id, piece) in variants!(CollationMetadataV1) {
        if is_held(&id) {
            root.insert(format!("m.{id}"), piece);
        }
    }
    for (id, piece) in variants!(CollationReorderingV1) {
        if is_held(&id) {
            root.insert(format!("r.{id}"), piece);
        }
    }
    let mut packs = BTreeMap::from([("root", root), ("tailorings", Pieces::new())]);
    for (id, piece) in variants!(CollationTailoringV1) {
        if is_held(&id) {
            let pack = LARGE.iter().find(|(large, _)| *large == id);
            let pack = pack.map_or("tailorings", |(_, pack)| pack);
            packs.entry(pack).or_default().insert(format!("t.{id}"), piece);
        }
    }
    let mut breaks = Pieces::new();
    breaks.insert("grapheme".to_owned(), singleton!(SegmenterBreakGraphemeClusterV1));
    let words = CodePointMapData::<WordBreak>::new().static_to_owned();
    let words = words.as_code_point_trie().ok_or("the classes of words are not a trie")?;
    breaks.insert("word".to_owned(), postcard::to_allocvec(words)?);
    breaks.insert("sentence".to_owned(), singleton!(SegmenterBreakSentenceV1));
    for (id, piece) in variants!(SegmenterBreakSentenceOverrideV1) {
        breaks.insert(format!("sentence.{}", id.trim_end_matches('/')), piece);
    }
    packs.insert("breaks", breaks);
    packs.insert("case", Pieces::from([("case".to_owned(), singleton!(CaseMapV1))]));
    Ok(packs)
}

/// Types of collation that are left out, for they are large and seldom asked for.
const LEFT_OUT: [&str; 6] =
    ["und-Hani/unihan", "und-Hani/zhuyin", "ja/unihan", "ko/unihan", "bn/trad", "kn/trad"];

/// Whether `LOCALE/TYPE` is held. Chinese goes by its types.
fn is_held(id: &str) -> bool {
    let locale = id.split('/').next().unwrap_or_default();
    let language = locale.split('-').next().unwrap_or_default();
    (LANGUAGES.contains(&language) || matches!(locale, "und" | "und-Hani"))
        && !LEFT_OUT.contains(&id)
}

/// A pack in the form that the guest reads.
fn joined(pieces: &Pieces) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut ranges = Vec::new();
    let mut body = Vec::new();
    for (name, piece) in pieces {
        body.push(u8::try_from(name.len())?);
        body.extend(name.as_bytes());
        body.extend(u32::try_from(piece.len())?.to_le_bytes());
        let start = body.len();
        body.extend(piece);
        if name == "root" || name.starts_with("t.") {
            let elements = elements(piece)?;
            let range = start + elements.start..start + elements.end;
            to_differences(&mut body[range.clone()]);
            ranges.push(range);
        }
    }
    let mut pack = u32::try_from(ranges.len())?.to_le_bytes().to_vec();
    for range in ranges {
        pack.extend(u32::try_from(range.start)?.to_le_bytes());
        pack.extend(u32::try_from(range.end)?.to_le_bytes());
    }
    pack.extend(body);
    Ok(pack)
}

/// Where a structure of collation data has the elements of its trie: behind the trie's
/// header, which is five numbers and its type, and the trie's index.
fn elements(piece: &[u8]) -> Result<Range<usize>, Box<dyn Error>> {
    let mut at = 0;
    for _ in 0..6 {
        number(piece, &mut at)?;
    }
    at += number(piece, &mut at)?;
    let length = number(piece, &mut at)?;
    Ok(at..at + length)
}

/// A number in postcard's form.
fn number(piece: &[u8], at: &mut usize) -> Result<usize, Box<dyn Error>> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = *piece.get(*at).ok_or("a piece ends too soon")?;
        *at += 1;
        number |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
}

/// Replaces elements that point into another table, most often to where the one before
/// it ends, by how much further they point. The lowest byte of an element is its kind.
fn to_differences(elements: &mut [u8]) {
    let mut last = [0_u32; 256];
    for element in elements.as_chunks_mut::<4>().0 {
        let value = u32::from_le_bytes(*element);
        let kind = value & 0xFF;
        if kind > 0xC0 && value != u32::MAX {
            let before = std::mem::replace(&mut last[kind as usize], value >> 8);
            *element = ((value >> 8).wrapping_sub(before) << 8 | kind).to_le_bytes();
        }
    }
}
