//! ICU4X's data for the crates that are used of it, in the packs `data/icu.*.bin`.
//!
//! A pack is unpacked when a piece of it is first asked for, and stays for as long as
//! the program: a cell asks for few. The program `cellblock-icu-tables` of guest/icu
//! writes them and describes their form.

use crate::packed::read;
use icu_provider::prelude::*;
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::BTreeMap;

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
            Self::Root => include_bytes!("../data/icu.root.bin"),
            Self::Tailorings => include_bytes!("../data/icu.tailorings.bin"),
            Self::Pinyin => include_bytes!("../data/icu.pinyin.bin"),
            Self::Stroke => include_bytes!("../data/icu.stroke.bin"),
            Self::Japanese => include_bytes!("../data/icu.ja.bin"),
            Self::Korean => include_bytes!("../data/icu.ko.bin"),
            Self::Emoji => include_bytes!("../data/icu.emoji.bin"),
            Self::Breaks => include_bytes!("../data/icu.breaks.bin"),
            Self::Case => include_bytes!("../data/icu.case.bin"),
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
    let unpacked = UNPACKED.with_borrow_mut(|packs| {
        *packs.entry(pack).or_insert_with(|| open(pack.bytes()).unwrap_or_default())
    });
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

/// Unpacks a pack and puts elements in the place of their differences.
fn open(packed: &[u8]) -> Option<&'static [u8]> {
    let mut plain = read(packed)?;
    let (count, rest) = plain.split_first_chunk_mut::<4>()?;
    let (ranges, body) = rest.split_at_mut_checked(8 * u32::from_le_bytes(*count) as usize)?;
    for range in ranges.as_chunks::<4>().0.as_chunks::<2>().0 {
        let [start, end] = range.map(|at| u32::from_le_bytes(at) as usize);
        let mut last = [0_u32; 256];
        for element in body.get_mut(start..end)?.as_chunks_mut::<4>().0 {
            let value = u32::from_le_bytes(*element);
            let kind = value & 0xFF;
            if kind > 0xC0 && value != u32::MAX {
                let further = &mut last[kind as usize];
                *further = further.wrapping_add(value >> 8) & 0xFF_FFFF;
                *element = (*further << 8 | kind).to_le_bytes();
            }
        }
    }
    let skipped = 4 + ranges.len();
    Some(&plain.leak()[skipped..])
}
