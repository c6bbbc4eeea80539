//! Writes the packs of guest/intl/icu: what `guest/intl` needs of ICU4X's data, which
//! is CLDR 48 in the pinned release of its crates, and nothing of other languages.
//!
//! A pack is a file in the format `.lzma` of pieces, one after the other: the length
//! of the piece's name (one byte), the name, the length of the piece (four bytes,
//! little-endian), and the piece, which is one of ICU4X's structures in postcard's form.
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
use lzma_rust2::{LzmaOptions, LzmaWriter};
use provider::{singleton, variants};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

/// Languages whose collation V8 has.
const LANGUAGES: [&str; 50] = [
    "af", "am", "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi",
    "fil", "fr", "gu", "he", "hi", "hr", "hu", "id", "it", "ja", "kn", "ko", "lt", "lv", "ml",
    "mr", "ms", "no", "nl", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "sw", "ta", "te", "th",
    "tr", "uk", "ur", "vi",
];

/// Tailorings of ideographs: large, so that each is a pack of its own.
const LARGE: [(&str, &str); 6] = [
    ("und-Hani/pinyin", "pinyin"),
    ("und-Hani/stroke", "stroke"),
    ("und-Hani/zhuyin", "zhuyin"),
    ("ja/", "ja"),
    ("ko/", "ko"),
    ("und/emoji", "emoji"),
];

type Pieces = BTreeMap<String, Vec<u8>>;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("which folder?")?);
    for (name, pieces) in packs()? {
        std::fs::write(folder.join(format!("{name}.lzma")), compress(&pieces)?)?;
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

/// Whether `LOCALE/TYPE` is of a language that is held. Chinese goes by its types.
fn is_held(id: &str) -> bool {
    let language = id.split(['-', '/']).next().unwrap_or_default();
    LANGUAGES.contains(&language)
        || id.starts_with("und/")
        || id.starts_with("und-Hani/") && id != "und-Hani/unihan"
}

fn compress(pieces: &Pieces) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut plain = Vec::new();
    for (name, piece) in pieces {
        plain.push(u8::try_from(name.len())?);
        plain.extend(name.as_bytes());
        plain.extend(u32::try_from(piece.len())?.to_le_bytes());
        plain.extend(piece);
    }
    // Most of it is numbers of four bytes, so bytes are told apart by their place.
    let mut options = LzmaOptions::with_preset(9);
    (options.lc, options.lp, options.pb) = (0, 2, 2);
    options.dict_size = u32::try_from(plain.len())?.next_power_of_two();
    options.nice_len = 273;
    let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, Some(plain.len() as u64))?;
    writer.write_all(&plain)?;
    Ok(writer.finish()?)
}
