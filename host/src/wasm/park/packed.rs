//! An image in few bytes: what is kept of a guest that sleeps or is parked.

use super::image::{Image, Malformed};
use lz4_flex::block;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// The most that an LZ4 block grows for each of its bytes when it is decompressed.
const MOST_GROWTH: usize = 255;

/// What images are compressed against: what a small guest that waits differs in from a fresh
/// one. Most of that is the same in every guest, so little is left of a small one. It is made
/// by the guest, always in the same way, and so is part of what an image is tied to.
pub(in super::super) struct Dictionary {
    bytes: Box<[u8]>,
    /// SHA-256 of the guest's own hash and of this.
    hash: [u8; 32],
}

impl Dictionary {
    /// The dictionary of a guest with this hash: the image of one that waits.
    pub(in super::super) fn new(guest: &[u8; 32], image: Image) -> Self {
        let bytes = image.runs.into_boxed_slice();
        let hash = Sha256::new().chain_update(guest).chain_update(&bytes).finalize().into();
        Self { bytes, hash }
    }

    /// What an image is tied to.
    pub(in super::super) fn hash(&self) -> &[u8; 32] {
        &self.hash
    }
}

/// An image, compressed. A clone is a handle to the same bytes.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct Packed {
    /// Size of the guest's whole memory in pages.
    pub(super) pages: u32,
    /// Bytes of the runs.
    pub(super) length: u32,
    /// The runs, as one LZ4 block.
    pub(super) block: Arc<[u8]>,
}

impl Packed {
    /// Compresses an image.
    pub(in super::super) fn of(image: &Image, dictionary: &Dictionary) -> Self {
        let block = compressed(&image.runs, &dictionary.bytes).into();
        // A run is a part of a memory of 32 bits, and all of them are one at most.
        let length = u32::try_from(image.runs.len()).unwrap_or(u32::MAX);
        Self { pages: image.pages, length, block }
    }

    /// The image.
    pub(in super::super) fn image(&self, dictionary: &Dictionary) -> Result<Image, Malformed> {
        unpacked(self.pages, &self.block, self.length as usize, dictionary)
    }

    /// Bytes that it takes.
    pub(in super::super) fn bytes(&self) -> usize {
        self.block.len()
    }

    /// Bytes of the image's runs.
    pub(in super::super) fn plain_bytes(&self) -> usize {
        self.length as usize
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pages, length, block } = self;
        let bytes = block.len();
        f.debug_struct("Packed")
            .field("pages", pages)
            .field("length", length)
            .field("bytes", &bytes)
            .finish()
    }
}

/// The image of which this is the LZ4 block.
pub(super) fn unpacked(
    pages: u32,
    block: &[u8],
    length: usize,
    dictionary: &Dictionary,
) -> Result<Image, Malformed> {
    let runs = decompressed(block, length, &dictionary.bytes).ok_or(Malformed)?;
    Image::from_runs(pages, runs)
}

/// Bytes as an LZ4 block.
pub(super) fn compressed(plain: &[u8], dictionary: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; block::get_maximum_output_size(plain.len())];
    // The room is the most that it takes, so it fits.
    let length = block::compress_into_with_dict(plain, &mut bytes, dictionary).unwrap_or_default();
    bytes.truncate(length);
    bytes
}

/// The bytes of an LZ4 block, which must be of this length. No more memory is taken than the
/// block can grow to.
pub(super) fn decompressed(bytes: &[u8], length: usize, dictionary: &[u8]) -> Option<Vec<u8>> {
    if length > bytes.len().saturating_mul(MOST_GROWTH).saturating_add(64) {
        return None;
    }
    let mut plain = vec![0; length];
    let written = block::decompress_into_with_dict(bytes, &mut plain, dictionary).ok()?;
    (written == length).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_packed_and_unpacked() {
        let runs = [&[64, 0, 0, 0, 200, 0, 0, 0][..], &[7; 200]].concat();
        let image = Image::from_runs(3, runs).unwrap();
        let none = Dictionary::new(&[0; 32], Image::default());
        let same = Dictionary::new(&[0; 32], image.clone());
        assert_ne!(none.hash(), same.hash());
        let packed = Packed::of(&image, &none);
        assert!(packed.bytes() < packed.plain_bytes());
        assert_eq!(packed.image(&none), Ok(image.clone()));
        let longer = Packed { length: packed.length + 1, ..packed.clone() };
        assert_eq!(longer.image(&none), Err(Malformed));
        let bomb = Packed { length: u32::MAX, ..packed.clone() };
        assert_eq!(bomb.image(&none), Err(Malformed));
        assert_eq!(Packed::of(&Image::default(), &none).image(&none), Ok(Image::default()));
        let known = Packed::of(&image, &same);
        assert!(known.bytes() < packed.bytes(), "{known:?} {packed:?}");
        assert_eq!(known.image(&same), Ok(image.clone()));
        assert_ne!(known.image(&none), Ok(image));
    }
}
