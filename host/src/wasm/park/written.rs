//! Which pages of memory were written, as the kernel knows: a guest's memory begins as a private
//! mapping of the file of a fresh guest, and a page of it that is still the file's was never
//! written.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a page, here and of the kernel. Where the kernel's are larger, nothing is known.
pub(super) const PAGE: usize = 4 << 10;

/// The most pages that are looked up at one time; what lies above is compared.
const MOST_PAGES: usize = 4 << 10;

/// Bytes of what the kernel says of a page.
const ENTRY: usize = 8;

/// The page is in memory, in swap, a page of a file (`Documentation/admin-guide/mm/pagemap.rst`
/// of Linux).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// What the kernel knows of the pages of this process.
#[derive(Debug)]
pub(super) struct Pagemap {
    /// Absent where `/proc` is not mounted, and on other systems.
    file: Option<File>,
    /// The process that the file is about: a fork of it has other memory.
    process: u32,
}

/// Pages of a piece of memory that were never written since it was mapped. One that is not known
/// counts as written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unwritten(Vec<bool>);

impl Pagemap {
    pub(super) fn open() -> Self {
        let file = File::open("/proc/self/pagemap").ok();
        Self { file, process: std::process::id() }
    }

    /// The pages of some memory that were never written.
    pub(super) fn unwritten(&self, memory: &[u8]) -> Unwritten {
        self.looked_up(memory).unwrap_or_default()
    }

    fn looked_up(&self, memory: &[u8]) -> Option<Unwritten> {
        let address = memory.as_ptr().addr();
        let file = self.file.as_ref().filter(|_| std::process::id() == self.process)?;
        if rustix::param::page_size() != PAGE || !address.is_multiple_of(PAGE) {
            return None;
        }
        let pages = memory.len().div_ceil(PAGE).min(MOST_PAGES);
        let mut entries = vec![0; pages * ENTRY];
        file.read_exact_at(&mut entries, (address / PAGE * ENTRY) as u64).ok()?;
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let is_unwritten = |entry: &[u8; ENTRY]| {
            let entry = u64::from_ne_bytes(*entry);
            // One that is nowhere was not touched.
            entry & OF_FILE != 0 || entry & (PRESENT | SWAPPED) == 0
        };
        Some(Unwritten(entries.iter().map(is_unwritten).collect()))
    }
}

impl Unwritten {
    /// Whether a page was never written, by its number.
    pub(super) fn has(&self, page: usize) -> bool {
        self.0.get(page).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_were_written_are_told_from_those_that_were_not() {
        // So much is a mapping of its own; and a huge page is far smaller.
        let mut memory = vec![0_u8; 16_384 * PAGE];
        let first = memory.as_ptr().align_offset(PAGE);
        let memory = &mut memory[first..][..10_000 * PAGE];
        memory[7 * PAGE + 5] = 1;
        let pagemap = Pagemap::open();
        let unwritten = pagemap.unwritten(memory);
        assert!(!unwritten.has(7));
        // More than are looked up.
        assert!(!unwritten.has(9_000));
        #[cfg(target_os = "linux")]
        assert!(unwritten.has(3_000));
        // What does not begin with a page is not known.
        assert_eq!(pagemap.unwritten(&memory[1..]), Unwritten::default());
        let of_another = Pagemap { process: 1, ..pagemap };
        assert_eq!(of_another.unwritten(memory), Unwritten::default());
    }
}
