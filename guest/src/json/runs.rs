//! Runs of bytes that need no attention, found sixteen at a time.

use super::KEYS;
use core::arch::wasm32::{
    i8x16_bitmask, i8x16_eq, i8x16_splat, u8x16_lt, u8x16_splat, v128, v128_load, v128_or,
};

/// Where a key is remembered.
pub(super) fn slot_of(key: &[u8]) -> usize {
    let at = |index: usize| key.get(index).copied().map_or(0, usize::from);
    let mixed = at(0) + at(key.len() / 2) * 7 + at(key.len().wrapping_sub(1)) * 31 + key.len() * 3;
    mixed % KEYS
}

/// Bytes up to the first that ends a run within a JSON string: a quote, a backslash
/// or a control character.
pub(super) fn plain_run(text: &[u8]) -> usize {
    run(text, |bytes| common_ends(bytes), |byte| byte < 0x20 || byte == b'"' || byte == b'\\')
}

/// Bytes up to the first that may need an escape: those, or one that may begin a
/// surrogate.
pub(super) fn quotable_run(text: &[u8]) -> usize {
    let ends = |bytes| v128_or(common_ends(bytes), i8x16_eq(bytes, i8x16_splat(0xED_u8 as i8)));
    run(text, ends, |byte| byte < 0x20 || byte == b'"' || byte == b'\\' || byte == 0xED)
}

fn common_ends(bytes: v128) -> v128 {
    let quotes = i8x16_eq(bytes, i8x16_splat(b'"' as i8));
    let slashes = i8x16_eq(bytes, i8x16_splat(b'\\' as i8));
    let controls = u8x16_lt(bytes, u8x16_splat(0x20));
    v128_or(v128_or(quotes, slashes), controls)
}

/// Bytes up to the first that ends a run, sixteen at a time.
fn run(text: &[u8], ends: impl Fn(v128) -> v128, is_end: impl Fn(u8) -> bool) -> usize {
    let mut at = 0;
    while let Some(bytes) = text.get(at..at + 16) {
        // SAFETY: sixteen bytes are there; the load needs no alignment.
        let found = i8x16_bitmask(ends(unsafe { v128_load(bytes.as_ptr().cast()) }));
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += 16;
    }
    let rest = &text[at..];
    at + rest.iter().position(|byte| is_end(*byte)).unwrap_or(rest.len())
}
