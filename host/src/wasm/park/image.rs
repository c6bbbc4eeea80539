//! A guest's memory as the runs of bytes in which it differs from a fresh guest's.
//!
//! A run is its address, its length, both four bytes, little-endian, and its bytes. Runs come
//! in the order of their addresses and do not touch. An image is untrusted: an address in it
//! decides only where in the guest's own memory a byte goes, and is checked all the same.

use super::written::{self, Pagemap, Unwritten};
use std::fmt;
use std::sync::Arc;

/// Bytes of a page of WebAssembly.
pub(in super::super) const PAGE: usize = 64 << 10;

/// Memory is compared in pieces of so many bytes: what a small cell changes lies scattered.
const GRAIN: usize = 64;

/// The longest run. Between two, others can be let run.
const LONGEST: usize = 1 << 20;

/// Bytes before those of a run.
const HEAD: usize = 8;

/// The memory of a fresh guest, above its stack.
#[derive(Clone)]
pub(in super::super) struct Pristine {
    /// Address of its first byte.
    start: usize,
    bytes: Arc<[u8]>,
    pagemap: Arc<Pagemap>,
    /// Pages that are as they were mapped: such a page of another guest is the same.
    unwritten: Arc<Unwritten>,
}

/// What a parked guest's memory differs in from a fresh guest's.
#[derive(Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Image {
    /// Size of the whole memory in pages.
    pub(super) pages: u32,
    pub(super) runs: Vec<u8>,
}

/// The bytes are not the runs of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image of the guest's memory is damaged")]
pub(in super::super) struct Malformed;

impl Pristine {
    /// `bytes` is the memory from the address `start`, the end of the stack, to its end.
    pub(in super::super) fn new(start: usize, bytes: &[u8]) -> Self {
        let pagemap = Pagemap::open();
        let unwritten = pagemap.unwritten(bytes).into();
        Self { start, bytes: bytes.into(), pagemap: pagemap.into(), unwritten }
    }

    /// Address of the first byte.
    pub(in super::super) fn start(&self) -> usize {
        self.start
    }

    /// Compares the same part of another guest's memory.
    pub(in super::super) fn difference(&self, bytes: &[u8]) -> Image {
        let mut runs = Vec::new();
        let mut open: Option<usize> = None;
        let close = |runs: &mut Vec<u8>, open: &mut Option<usize>, end: usize| {
            let Some(start) = open.take() else { return };
            for piece in (start..end).step_by(LONGEST) {
                let length = LONGEST.min(end - piece);
                runs.extend_from_slice(&word(self.start + piece));
                runs.extend_from_slice(&word(length));
                runs.extend_from_slice(&bytes[piece..piece + length]);
            }
        };
        let (known, new) = bytes.split_at(self.bytes.len().min(bytes.len()));
        // Whole pages first: most are the same, and most of those were never written.
        let unwritten = self.pagemap.unwritten(known);
        let zeros = [0; written::PAGE];
        for (number, page) in known.chunks(written::PAGE).enumerate() {
            let at = number * written::PAGE;
            if unwritten.has(number) && self.unwritten.has(number) {
                close(&mut runs, &mut open, at);
                continue;
            }
            compare(at, page, &self.bytes[at..at + page.len()], &mut open, |open, end| {
                close(&mut runs, open, end);
            });
        }
        for (number, page) in new.chunks(written::PAGE).enumerate() {
            let at = known.len() + number * written::PAGE;
            compare(at, page, &zeros[..page.len()], &mut open, |open, end| {
                close(&mut runs, open, end);
            });
        }
        close(&mut runs, &mut open, bytes.len());
        let pages = u32::try_from((self.start + bytes.len()) / PAGE).unwrap_or(u32::MAX);
        Image { pages, runs }
    }
}

/// Compares a page with another: `open` is where the run began that has not ended.
fn compare(
    at: usize,
    page: &[u8],
    other: &[u8],
    open: &mut Option<usize>,
    mut close: impl FnMut(&mut Option<usize>, usize),
) {
    if page == other {
        close(open, at);
        return;
    }
    // A memory ends with a page of WebAssembly, so no grain is left over.
    let ((grains, _), (others, _)) = (page.as_chunks::<GRAIN>(), other.as_chunks());
    for (piece, (grain, was)) in grains.iter().zip(others).enumerate() {
        let at = at + piece * GRAIN;
        if grain == was {
            close(open, at);
        } else {
            open.get_or_insert(at);
        }
    }
}

fn word(value: usize) -> [u8; 4] {
    // Addresses and lengths in a memory of 32 bits.
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

impl Image {
    /// Takes runs that somebody else wrote: whether they are within the memory and in order.
    pub(super) fn from_runs(pages: u32, runs: Vec<u8>) -> Result<Self, Malformed> {
        let memory = u64::from(pages) * PAGE as u64;
        let (mut at, mut free_from) = (0, 1_u64);
        while at < runs.len() {
            let (address, length) = head(&runs, at).ok_or(Malformed)?;
            let (start, end) = (u64::from(address), u64::from(address) + u64::from(length));
            let bytes = length as usize;
            if start < free_from || end > memory || !(1..=LONGEST).contains(&bytes) {
                return Err(Malformed);
            }
            free_from = end;
            at += HEAD;
            if runs.len() - at < bytes {
                return Err(Malformed);
            }
            at += bytes;
        }
        Ok(Self { pages, runs })
    }

    /// The run at a place among the runs, and the place of the next one.
    pub(in super::super) fn run(&self, at: usize) -> Option<(u32, &[u8], usize)> {
        let (address, length) = head(&self.runs, at)?;
        let start = at + HEAD;
        let end = start.checked_add(length as usize)?;
        Some((address, self.runs.get(start..end)?, end))
    }

    /// Places among the runs at which to let others run, and the end.
    pub(in super::super) fn stops(&self) -> Vec<usize> {
        let (mut stops, mut at, mut next_stop) = (Vec::new(), 0, LONGEST);
        while let Some((_, _, next)) = self.run(at) {
            at = next;
            if at >= next_stop && at < self.runs.len() {
                stops.push(at);
                next_stop = at + LONGEST;
            }
        }
        stops.push(self.runs.len());
        stops
    }

    /// Whether a run begins below an address.
    pub(in super::super) fn begins_below(&self, address: usize) -> bool {
        // They are in order.
        self.run(0).is_some_and(|(first, ..)| (first as usize) < address)
    }

    /// Bytes of memory of the whole guest.
    pub(in super::super) fn memory(&self) -> u64 {
        u64::from(self.pages) * PAGE as u64
    }

    /// Size of the whole memory in pages.
    pub(in super::super) fn pages(&self) -> u32 {
        self.pages
    }
}

/// Address and length of the run at a place.
fn head(runs: &[u8], at: usize) -> Option<(u32, u32)> {
    let (address, rest) = runs.get(at..)?.split_first_chunk()?;
    let length = rest.first_chunk()?;
    Some((u32::from_le_bytes(*address), u32::from_le_bytes(*length)))
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pages, runs } = self;
        f.debug_struct("Image").field("pages", pages).field("bytes", &runs.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies the runs to a memory.
    fn apply(image: &Image, memory: &mut [u8]) -> usize {
        let (mut at, mut runs) = (0, 0);
        while let Some((address, bytes, next)) = image.run(at) {
            memory[address as usize..][..bytes.len()].copy_from_slice(bytes);
            (at, runs) = (next, runs + 1);
        }
        assert_eq!(at, image.runs.len());
        runs
    }

    #[test]
    fn the_runs_make_a_fresh_memory_the_other() {
        let stack = 3 * PAGE;
        let mut fresh = vec![0_u8; 8 * PAGE];
        for (at, byte) in fresh.iter_mut().enumerate().skip(stack) {
            *byte = u8::try_from(at % 251).unwrap();
        }
        let pristine = Pristine::new(stack, &fresh[stack..]);
        let mut memory = fresh.clone();
        memory.resize(60 * PAGE, 0);
        for (start, length) in [(stack, 1), (5 * PAGE - 10, 20), (9 * PAGE, 40 * PAGE)] {
            memory[start..start + length].fill(255);
        }
        *memory.last_mut().unwrap() = 1;
        // The stack of a guest at rest is not its state.
        memory[5] = 1;
        let image = pristine.difference(&memory[stack..]);
        assert_eq!(image, Image::from_runs(60, image.runs.clone()).unwrap());
        fresh.resize(60 * PAGE, 0);
        // The third is longer than a run may be.
        assert_eq!(apply(&image, &mut fresh), 6);
        memory[5] = 0;
        assert!(fresh == memory);
    }

    #[test]
    fn runs_that_are_out_of_order_or_out_of_bounds_are_refused() {
        let runs = |runs: &[(u32, u32, usize)]| {
            let mut bytes = Vec::new();
            for (address, length, given) in runs {
                bytes.extend(address.to_le_bytes());
                bytes.extend(length.to_le_bytes());
                bytes.resize(bytes.len() + given, 7);
            }
            Image::from_runs(2, bytes).map(drop)
        };
        let end = u32::try_from(2 * PAGE).unwrap();
        assert_eq!(runs(&[]), Ok(()));
        assert_eq!(runs(&[(1, 4, 4), (5, 4, 4), (end - 1, 1, 1)]), Ok(()));
        for wrong in [
            &[(0, 4, 4)][..],
            &[(8, 4, 4), (8, 4, 4)],
            &[(8, 4, 4), (4, 4, 4)],
            &[(8, 0, 0)],
            &[(8, 4, 3)],
            &[(end - 1, 2, 2)],
            &[(end, 1, 1)],
            &[(u32::MAX, u32::MAX, 4)],
            &[(8, u32::MAX, 4)],
        ] {
            assert_eq!(runs(wrong), Err(Malformed), "{wrong:?}");
        }
        assert_eq!(Image::from_runs(2, vec![1, 0, 0, 0, 1, 0, 0]).map(drop), Err(Malformed));
    }
}
