//! The form of the tables: keys of a section once, and one page of values per locale.
//!
//! A key list is a count, that many and one offsets, and the bytes of the sorted keys.
//! A page is as many and one offsets and the bytes of the values, in the order of
//! the keys; the high bit of an offset says that the value is absent. Numbers are
//! 32 bits, little-endian. A packed page is the length of
//! each value plus one (LEB128; zero says absent) and then the values.

use lzma_rust2::{LzmaOptions, LzmaWriter};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// Values of one section of one locale, by key.
pub type Values = BTreeMap<String, Vec<u8>>;

const ABSENT: u32 = 1 << 31;

/// The key list of a section.
pub fn key_list(keys: &BTreeSet<String>) -> Vec<u8> {
    let mut out = u32::try_from(keys.len()).unwrap_or(0).to_le_bytes().to_vec();
    let mut at = 0_u32;
    for key in keys {
        out.extend(at.to_le_bytes());
        at += u32::try_from(key.len()).unwrap_or(0);
    }
    out.extend(at.to_le_bytes());
    for key in keys {
        out.extend(key.as_bytes());
    }
    out
}

/// A page that is read where it lies.
pub fn plain(keys: &BTreeSet<String>, values: &Values) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes: Vec<u8> = Vec::new();
    for key in keys {
        let at = u32::try_from(bytes.len()).unwrap_or(0);
        match values.get(key) {
            Some(value) => {
                out.extend(at.to_le_bytes());
                bytes.extend(value);
            }
            None => out.extend((at | ABSENT).to_le_bytes()),
        }
    }
    out.extend(u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
    out.extend(bytes);
    out
}

/// A page that is unpacked when first read.
pub fn compressed(keys: &BTreeSet<String>, values: &Values) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for key in keys {
        leb128(&mut bytes, values.get(key).map_or(0, |value| value.len() as u64 + 1));
    }
    for key in keys {
        bytes.extend(values.get(key).map_or(&[][..], Vec::as_slice));
    }
    pack(&bytes, Kind::Text)
}

/// Keys and values in one, packed: the length of the key list, the key list, and a page.
pub fn table(values: &Values) -> std::io::Result<Vec<u8>> {
    let keys = values.keys().cloned().collect();
    let list = key_list(&keys);
    let mut out = u32::try_from(list.len()).unwrap_or(0).to_le_bytes().to_vec();
    out.extend(list);
    out.extend(plain(&keys, values));
    pack(&out, Kind::Text)
}

/// What is packed, which decides how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, for the most part.
    Text,
    /// Numbers of four bytes, for the most part.
    Numbers,
}

/// Packs bytes with LZMA. `guest/intl/src/packed.rs` unpacks them and says in what form.
pub fn pack(bytes: &[u8], kind: Kind) -> std::io::Result<Vec<u8>> {
    let mut options = LzmaOptions::with_preset(9);
    (options.lc, options.lp, options.pb) = match kind {
        Kind::Text => (3, 0, 0),
        Kind::Numbers => (0, 2, 2),
    };
    options.nice_len = 273;
    options.dict_size = u32::try_from(bytes.len()).unwrap_or(u32::MAX).next_power_of_two();
    let size = bytes.len() as u64;
    let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, Some(size))?;
    writer.write_all(bytes)?;
    let packed = writer.finish()?;
    // Of the header: properties, size of the dictionary (four bytes), length (eight bytes).
    Ok([&packed[..1], &packed[5..9], &packed[13..]].concat())
}

/// Keys and values as lines of text, sorted by key; a tab stands between the two.
pub fn lines(values: &Values) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in values {
        out.extend(key.as_bytes());
        out.push(b'\t');
        out.extend(value);
        out.push(b'\n');
    }
    out
}

/// Appends a number in LEB128.
pub fn leb128(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
