//! ICU4X's data for the crates that are used of it, in the packs of `guest/intl/icu`.
//!
//! A pack is unpacked when a piece of it is first asked for, and stays for as long as
//! the program: a cell asks for few. The program `cellblock-icu-tables` of guest/icu
//! writes them and describes their form.

use icu_provider::prelude::*;
use lzma_rust2::LzmaReader;
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;

/// A file of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pack {
    /// What every collation needs.
    Root,
    /// Tailorings of languages but for ideographs.
    Tailorings,
    /// Tailorings of ideographs, and of emoji.
    Pinyin,
    Stroke,
    Zhuyin,
    Japanese,
    Korean,
    Emoji,
    /// Where graphemes, words and sentences end.
    Breaks,
    /// Upper and lower case.
    Case,
}

impl Pack {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Root => include_bytes!("../icu/root.lzma"),
            Self::Tailorings => include_bytes!("../icu/tailorings.lzma"),
            Self::Pinyin => include_bytes!("../icu/pinyin.lzma"),
            Self::Stroke => include_bytes!("../icu/stroke.lzma"),
            Self::Zhuyin => include_bytes!("../icu/zhuyin.lzma"),
            Self::Japanese => include_bytes!("../icu/ja.lzma"),
            Self::Korean => include_bytes!("../icu/ko.lzma"),
            Self::Emoji => include_bytes!("../icu/emoji.lzma"),
            Self::Breaks => include_bytes!("../icu/breaks.lzma"),
            Self::Case => include_bytes!("../icu/case.lzma"),
        }
    }
}

thread_local! {
    static UNPACKED: RefCell<BTreeMap<Pack, &'static [u8]>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// A piece of a pack as the structure that it is, for a structure's marker.
pub(crate) fn load<M>(pack: Pack, name: &str) -> Result<DataResponse<M>, DataError>
where
    M: DataMarker,
    M::DataStruct: Deserialize<'static>,
{
    let data = table(pack, name).map_err(|error| error.with_marker(M::INFO))?;
    let metadata = DataResponseMetadata::default();
    Ok(DataResponse { metadata, payload: DataPayload::from_owned(data) })
}

/// A piece of a pack as the structure that it is.
pub(crate) fn table<T: Deserialize<'static>>(pack: Pack, name: &str) -> Result<T, DataError> {
    let bytes = piece(pack, name).ok_or(DataErrorKind::IdentifierNotFound.into_error())?;
    postcard::from_bytes(bytes).map_err(|_| DataErrorKind::Deserialize.into_error())
}

/// A piece of a pack, `None` when it has none of that name.
pub(crate) fn piece(pack: Pack, name: &str) -> Option<&'static [u8]> {
    let unpacked = UNPACKED
        .with_borrow_mut(|packs| *packs.entry(pack).or_insert_with(|| unpack(pack.bytes())));
    let mut rest = unpacked;
    loop {
        let (length, after) = rest.split_first()?;
        let (found, after) = after.split_at_checked(usize::from(*length))?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let (piece, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        if found == name.as_bytes() {
            return Some(piece);
        }
        rest = after;
    }
}

fn unpack(packed: &[u8]) -> &'static [u8] {
    let mut plain = Vec::new();
    // The packs are the generator's: a damaged one would have no pieces.
    if let Ok(mut reader) = LzmaReader::new_mem_limit(packed, u32::MAX, None)
        && reader.read_to_end(&mut plain).is_err()
    {
        plain.clear();
    }
    plain.leak()
}
