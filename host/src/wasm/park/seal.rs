//! The bytes of a parked cell: how they are written, and what is checked when they are read.
//!
//! ```text
//! offset  bytes
//!      0      8  "CBPARKED"
//!      8      2  version, little-endian
//!     10      1  1 when the payload is encrypted, else 0
//!     11      1  0
//!     12      8  name of the key
//!     20     16  the parked cell's own name, at random
//!     36     32  SHA-256 of the guest and the dictionary
//!     68     24  nonce of the encryption; zeros without one
//!     92      n  payload
//!   92+n     32  HMAC-SHA256 of all before; 16 bytes of Poly1305 when encrypted
//! ```
//!
//! The payload: the length of the head once it is decompressed, four bytes; the length of its
//! block, four bytes; the head as JSON, an LZ4 block; the number of pages, four bytes; the
//! length of the image's runs once they are decompressed, four bytes; and the runs, an LZ4
//! block that was made with the dictionary. The runs are a block of their own because a cell
//! that sleeps has that already.

use super::head::Head;
use super::image::Image;
use super::key::{Seal, TAG};
use super::packed::{Dictionary, Packed, compressed, decompressed, unpacked};
use super::{Name, Opened, above};
use crate::backend::{ParkError, ParkedCell};

/// Where the fields of the envelope begin.
const FLAGS: usize = 10;
const KEY: usize = 12;
const NAME: usize = 20;
const GUEST: usize = 36;
const NONCE: usize = 68;
pub(super) const PAYLOAD: usize = 92;

/// The most that a payload may have once it is decompressed.
pub(super) const MOST_BYTES: usize = 1 << 31;

/// Writes a parked cell.
///
/// # Errors
/// The number of bytes that it would have, when they are too many.
pub(super) fn seal(
    head: &Head,
    image: &Packed,
    guest: &[u8; 32],
    seal: &Seal,
    name: Name,
    nonce: [u8; 24],
) -> Result<ParkedCell, usize> {
    // A head is made of texts, numbers and JSON, which are always written.
    let head = serde_json::to_vec(head).unwrap_or_default();
    let plain_len = head.len() + image.plain_bytes();
    if plain_len > MOST_BYTES {
        return Err(plain_len);
    }
    // Shorter than the above.
    let word = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let block = compressed(&head, &[]);

    let mut bytes = Vec::with_capacity(PAYLOAD + 16 + block.len() + image.bytes() + TAG);
    bytes.extend_from_slice(ParkedCell::MAGIC);
    bytes.extend_from_slice(&ParkedCell::VERSION.to_le_bytes());
    bytes.extend_from_slice(&[u8::from(seal.encrypts()), 0]);
    bytes.extend_from_slice(seal.name());
    bytes.extend_from_slice(&name);
    bytes.extend_from_slice(guest);
    bytes.extend_from_slice(&if seal.encrypts() { nonce } else { [0; 24] });
    bytes.extend_from_slice(&word(head.len()));
    bytes.extend_from_slice(&word(block.len()));
    bytes.extend_from_slice(&block);
    bytes.extend_from_slice(&image.pages.to_le_bytes());
    bytes.extend_from_slice(&image.length.to_le_bytes());
    bytes.extend_from_slice(&image.block);
    seal.close(&mut bytes, NONCE, PAYLOAD);
    // The magic and the version were just written.
    ParkedCell::from_bytes(bytes).map_err(|_| plain_len)
}

/// Reads a parked cell that has at most `most` bytes once it is decompressed.
pub(super) fn open(
    cell: &ParkedCell,
    dictionary: &Dictionary,
    seal: &Seal,
    most: usize,
) -> Result<Opened, ParkError> {
    let bytes = cell.as_bytes();
    let field = |at: usize, end: usize| bytes.get(at..end).ok_or(ParkError::Damaged);
    let is_encrypted = match field(FLAGS, KEY)? {
        [0, 0] => false,
        [1, 0] => true,
        _ => return Err(ParkError::Damaged),
    };
    if field(KEY, NAME)? != seal.name() {
        return Err(ParkError::OtherKey);
    }
    let name = *field(NAME, GUEST)?.first_chunk::<16>().ok_or(ParkError::Damaged)?;
    let is_same_guest = field(GUEST, NONCE)? == dictionary.hash();
    let payload = seal.open(bytes, NONCE, PAYLOAD, is_encrypted).ok_or(ParkError::Damaged)?;
    // Known to be true only from here on.
    if !is_same_guest {
        return Err(ParkError::OtherGuest);
    }
    let (head, image) = read(&payload, dictionary, most)?;
    Ok(Opened { name, head, image })
}

/// Reads a payload. Nothing of it is trusted.
pub(super) fn read(
    payload: &[u8],
    dictionary: &Dictionary,
    most: usize,
) -> Result<(Head, Image), ParkError> {
    let (head_len, rest) = word(payload)?;
    let (block_len, rest) = word(rest)?;
    let (block, rest) = rest.split_at_checked(block_len as usize).ok_or(ParkError::Damaged)?;
    let (pages, rest) = word(rest)?;
    let (length, runs) = word(rest)?;
    let plain_len = (head_len as usize).saturating_add(length as usize);
    if plain_len > most {
        return Err(above("memory in bytes", &plain_len, most));
    }
    let head = decompressed(block, head_len as usize, &[]).ok_or(ParkError::Damaged)?;
    let head = serde_json::from_slice(&head).map_err(|_| ParkError::Damaged)?;
    let image =
        unpacked(pages, runs, length as usize, dictionary).map_err(|_| ParkError::Damaged)?;
    Ok((head, image))
}

/// A number of four bytes, and what comes after it.
fn word(bytes: &[u8]) -> Result<(u32, &[u8]), ParkError> {
    let (word, rest) = bytes.split_first_chunk().ok_or(ParkError::Damaged)?;
    Ok((u32::from_le_bytes(*word), rest))
}
