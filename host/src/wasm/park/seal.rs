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
//!     36     32  SHA-256 of the guest
//!     68     24  nonce of the encryption; zeros without one
//!     92      n  payload
//!   92+n     32  HMAC-SHA256 of all before; 16 bytes of Poly1305 when encrypted
//! ```
//!
//! The payload is the length of what follows once it is decompressed, four bytes, and an LZ4
//! block: the length of the head, four bytes, the head as JSON, the number of pages, four
//! bytes, and the runs of the image.

use super::head::Head;
use super::image::Image;
use super::key::{Seal, TAG};
use super::{Name, Opened};
use crate::backend::{ParkError, ParkedCell};

/// Where the fields of the envelope begin.
const FLAGS: usize = 10;
const KEY: usize = 12;
const NAME: usize = 20;
const GUEST: usize = 36;
const NONCE: usize = 68;
pub(super) const PAYLOAD: usize = 92;

/// The most that an LZ4 block grows for each of its bytes when it is decompressed.
const MOST_GROWTH: usize = 255;

/// The most that a payload may have once it is decompressed.
pub(super) const MOST_BYTES: usize = 1 << 31;

/// What a cell is parked as, before it is sealed.
#[derive(Debug)]
pub(in super::super) struct Contents {
    pub(in super::super) head: Head,
    pub(in super::super) image: Image,
}

/// Writes a parked cell.
///
/// # Errors
/// The number of bytes that it would have, when they are too many.
pub(super) fn seal(
    contents: &Contents,
    guest: &[u8; 32],
    seal: &Seal,
    name: Name,
    nonce: [u8; 24],
) -> Result<ParkedCell, usize> {
    // A head is made of texts, numbers and JSON, which are always written.
    let head = serde_json::to_vec(&contents.head).unwrap_or_default();
    let runs = &contents.image.runs;
    let plain_len = 4 + head.len() + 4 + runs.len();
    let plain_word = u32::try_from(plain_len).ok().filter(|_| plain_len <= MOST_BYTES);
    let (Some(plain_word), Ok(head_word)) = (plain_word, u32::try_from(head.len())) else {
        return Err(plain_len);
    };
    let mut plain = Vec::with_capacity(plain_len);
    plain.extend_from_slice(&head_word.to_le_bytes());
    plain.extend_from_slice(&head);
    plain.extend_from_slice(&contents.image.pages.to_le_bytes());
    plain.extend_from_slice(runs);

    let most = lz4_flex::block::get_maximum_output_size(plain_len);
    let mut bytes = Vec::with_capacity(PAYLOAD + 4 + most + TAG);
    bytes.extend_from_slice(ParkedCell::MAGIC);
    bytes.extend_from_slice(&ParkedCell::VERSION.to_le_bytes());
    bytes.extend_from_slice(&[u8::from(seal.encrypts()), 0]);
    bytes.extend_from_slice(seal.name());
    bytes.extend_from_slice(&name);
    bytes.extend_from_slice(guest);
    bytes.extend_from_slice(&if seal.encrypts() { nonce } else { [0; 24] });
    bytes.extend_from_slice(&plain_word.to_le_bytes());
    bytes.resize(PAYLOAD + 4 + most, 0);
    // The room is the most that it takes, so it fits.
    let compressed =
        lz4_flex::block::compress_into(&plain, &mut bytes[PAYLOAD + 4..]).unwrap_or_default();
    bytes.truncate(PAYLOAD + 4 + compressed);
    seal.close(&mut bytes, NONCE, PAYLOAD);
    // The magic and the version were just written.
    ParkedCell::from_bytes(bytes).map_err(|_| plain_len)
}

/// Reads a parked cell that has at most `most` bytes once it is decompressed.
pub(super) fn open(
    cell: &ParkedCell,
    guest: &[u8; 32],
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
    let is_same_guest = field(GUEST, NONCE)? == guest;
    let payload = seal.open(bytes, NONCE, PAYLOAD, is_encrypted).ok_or(ParkError::Damaged)?;
    // Known to be true only from here on.
    if !is_same_guest {
        return Err(ParkError::OtherGuest);
    }
    Ok(Opened { name, contents: read(&payload, most)? })
}

/// Reads a payload. Nothing of it is trusted.
pub(super) fn read(payload: &[u8], most: usize) -> Result<Contents, ParkError> {
    let damaged = |_| ParkError::Damaged;
    let (length, block) = payload.split_first_chunk().ok_or(ParkError::Damaged)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > block.len().saturating_mul(MOST_GROWTH).saturating_add(64) {
        return Err(ParkError::Damaged);
    }
    if length > most {
        return Err(ParkError::OverLimits("of memory".to_owned()));
    }
    let mut plain = vec![0; length];
    let written =
        lz4_flex::block::decompress_into(block, &mut plain).map_err(|_| ParkError::Damaged)?;
    if written != length {
        return Err(ParkError::Damaged);
    }
    let (head_len, rest) = plain.split_first_chunk().ok_or(ParkError::Damaged)?;
    let head_len = u32::from_le_bytes(*head_len) as usize;
    let (head, rest) = rest.split_at_checked(head_len).ok_or(ParkError::Damaged)?;
    let head: Head = serde_json::from_slice(head).map_err(|_| ParkError::Damaged)?;
    let (pages, runs) = rest.split_first_chunk().ok_or(ParkError::Damaged)?;
    let (pages, runs_at) = (u32::from_le_bytes(*pages), plain.len() - runs.len());
    plain.drain(..runs_at);
    let image = Image::from_runs(pages, plain).map_err(damaged)?;
    Ok(Contents { head, image })
}
