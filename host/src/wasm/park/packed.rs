//! An image in few bytes: what is kept of a guest that sleeps or is parked.

use super::image::{Image, Malformed};
use std::fmt;
use std::sync::Arc;

/// The most that an LZ4 block grows for each of its bytes when it is decompressed.
const MOST_GROWTH: usize = 255;

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
    pub(in super::super) fn of(image: &Image) -> Self {
        let block = compressed(&image.runs).into();
        // A run is a part of a memory of 32 bits, and all of them are one at most.
        let length = u32::try_from(image.runs.len()).unwrap_or(u32::MAX);
        Self { pages: image.pages, length, block }
    }

    /// The image.
    pub(in super::super) fn image(&self) -> Result<Image, Malformed> {
        let runs = decompressed(&self.block, self.length as usize).ok_or(Malformed)?;
        Image::from_runs(self.pages, runs)
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

/// Bytes as an LZ4 block.
pub(super) fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut block = vec![0; lz4_flex::block::get_maximum_output_size(plain.len())];
    // The room is the most that it takes, so it fits.
    let length = lz4_flex::block::compress_into(plain, &mut block).unwrap_or_default();
    block.truncate(length);
    block
}

/// The bytes of an LZ4 block, which must be of this length. No more memory is taken than the
/// block can grow to.
pub(super) fn decompressed(block: &[u8], length: usize) -> Option<Vec<u8>> {
    if length > block.len().saturating_mul(MOST_GROWTH).saturating_add(64) {
        return None;
    }
    let mut plain = vec![0; length];
    let written = lz4_flex::block::decompress_into(block, &mut plain).ok()?;
    (written == length).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_packed_and_unpacked() {
        let runs = [&[64, 0, 0, 0, 200, 0, 0, 0][..], &[7; 200]].concat();
        let image = Image::from_runs(3, runs).unwrap();
        let packed = Packed::of(&image);
        assert!(packed.bytes() < packed.plain_bytes());
        assert_eq!(packed.image(), Ok(image));
        let longer = Packed { length: packed.length + 1, ..packed.clone() };
        assert_eq!(longer.image(), Err(Malformed));
        let bomb = Packed { length: u32::MAX, ..packed };
        assert_eq!(bomb.image(), Err(Malformed));
        assert_eq!(Packed::of(&Image::default()).image(), Ok(Image::default()));
    }
}
