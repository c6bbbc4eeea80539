//! Unpacking what `cargo xtask intl` packed: LZMA, which makes the least of tables.

use lzma_rust2::LzmaReader;
use std::io::Read;

/// Unpacks bytes, which then live as long as the program: a cell asks for few. Only the
/// generator makes them, so that damaged ones, which would be empty, do not occur.
pub(crate) fn unpack(packed: &[u8]) -> &'static [u8] {
    read(packed).unwrap_or_default().leak()
}

/// Unpacks bytes that begin with the properties of the stream, one byte, and the length of
/// what is packed, four bytes, little-endian.
pub(crate) fn read(packed: &[u8]) -> Option<Vec<u8>> {
    let (properties, rest) = packed.split_first()?;
    let (length, stream) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let mut plain = vec![0; length as usize];
    let size = u64::from(length);
    let mut reader = LzmaReader::new_with_props(stream, size, *properties, length, None).ok()?;
    reader.read_exact(&mut plain).ok()?;
    Some(plain)
}
