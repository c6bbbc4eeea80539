//! Parking: this guest's memory, shown to the host, and written again into a fresh guest.
//!
//! Between two calls the stack is empty and all that the guest knows lies in its memory above
//! the stack. Nothing else can differ between a guest that rests and a fresh one: the one
//! mutable global is the stack pointer, the table of functions is never written, and there are
//! no resources (`tests/tests/component.rs` holds this). So that part of the memory is the
//! cell.
//!
//! The imports are declared by hand. The generated ones would copy the memory that is shown,
//! and would allocate the list that is filled where the allocator likes.

use crate::state;
use core::arch::wasm32::{memory_grow, memory_size};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::Layout;

const PAGE: usize = 64 << 10;

#[link(wasm_import_module = "cellblock:code-mode/park@0.1.0")]
unsafe extern "C" {
    #[link_name = "image"]
    safe fn image(address: usize, start: usize, length: usize);
    #[link_name = "next"]
    safe fn next() -> u64;
    #[link_name = "fill"]
    unsafe fn fill(returned: *mut [usize; 2]);
}

unsafe extern "C" {
    /// The end of the stack, which is the first part of the memory; a symbol of the linker's.
    static __stack_high: u8;
}

/// Where the next allocation of the host's goes; 0 where the allocator likes.
static TARGET: AtomicUsize = AtomicUsize::new(0);

/// Shows the memory above the stack to the host.
pub(crate) fn park() {
    let start = &raw const __stack_high as usize;
    image(start, start, memory_size(0) * PAGE - start);
}

/// Writes the runs that the host has for this call.
pub(crate) fn wake(pages: u32, random_seed: Option<u64>) {
    let missing = (pages as usize).saturating_sub(memory_size(0));
    assert!(memory_grow(0, missing) != usize::MAX, "the host grants the memory that it asks for");
    let mut returned = [0; 2];
    loop {
        let run = next();
        if run == 0 {
            break;
        }
        // Set for each run anew: a run may overwrite it.
        TARGET.store((run >> 32) as usize, Ordering::Relaxed);
        // SAFETY: the host writes the two words of a list to the local. What it writes to the
        // list is the memory of a guest that was built from the same component.
        unsafe { fill(&raw mut returned) };
    }
    TARGET.store(0, Ordering::Relaxed);
    if let Some(seed) = random_seed {
        state::with(|state| state.random = seed.max(1));
    }
}

/// Allocates what the host hands over. It takes the place of wit-bindgen's, which is weak.
///
/// # Safety
/// As `std::alloc::realloc` asks, and `old_size` is 0 for a new allocation.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_size: usize,
    align: usize,
    size: usize,
) -> *mut u8 {
    let target = TARGET.load(Ordering::Relaxed);
    if target != 0 {
        return target as *mut u8;
    }
    if size == 0 {
        return align as *mut u8;
    }
    // SAFETY: the caller's contract: sizes and alignments are those of the canonical ABI.
    unsafe {
        let allocated = if old_size == 0 {
            std::alloc::alloc(Layout::from_size_align_unchecked(size, align))
        } else {
            let layout = Layout::from_size_align_unchecked(old_size, align);
            std::alloc::realloc(old, layout, size)
        };
        if allocated.is_null() {
            core::arch::wasm32::unreachable();
        }
        allocated
    }
}
