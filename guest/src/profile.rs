//! The counters of clang's instrumentation, which `cargo xtask profile` builds the engine
//! with; no other build has this file.
//!
//! clang has no runtime for WebAssembly that would write them, so they are laid out here as
//! that runtime does it: a header (`INSTR_PROF_RAW_HEADER` of raw version 10 in LLVM 19's
//! `InstrProfData.inc`), then three sections of the linked module.

use crate::bindings::cellblock::code_mode::output::{self, ContentItem};
use crate::engine::Thrown;
use crate::globals::{Args, Returned};
use rquickjs::{Ctx, Value};
use std::fmt::Write as _;

/// `\377lprofR\201`, which stands for a profile of a 32-bit program.
const MAGIC: u64 = 0xff6c_7072_6f66_5281;
/// Raw version 10, with the mark of counters that LLVM added and not clang's front end.
const VERSION: u64 = 10 | 1 << 56;
/// Bytes that LLVM keeps for each function: two hashes, four pointers, three numbers.
const RECORD_BYTES: usize = 48;
/// The last kind of value that a profile of this version may have. None is recorded.
const LAST_VALUE_KIND: u64 = 2;

unsafe extern "C" {
    static __start___llvm_prf_data: u8;
    static __stop___llvm_prf_data: u8;
    static __start___llvm_prf_cnts: u8;
    static __stop___llvm_prf_cnts: u8;
    static __start___llvm_prf_names: u8;
    static __stop___llvm_prf_names: u8;
}

/// What instrumented code links to, so that a runtime is there.
#[unsafe(no_mangle)]
static __llvm_profile_runtime: i32 = 0;

/// Instrumented code reports its records here when it starts. The linker knows them all.
#[unsafe(no_mangle)]
extern "C" fn __llvm_profile_register_function(_record: *const u8) {}

/// As above, for the names of functions.
#[unsafe(no_mangle)]
extern "C" fn __llvm_profile_register_names_function(_names: *const u8, _bytes: u64) {}

/// The bytes between two symbols of the linker's.
fn section(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: the symbols enclose one section, which is part of the module's data. The
    // engine's code changes the counters, and none of it runs while they are read.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// `profile()`: emits the raw profile of all that ran so far, in hexadecimal.
pub(crate) fn profile<'js>(ctx: &Ctx<'js>, _args: Args<'_, 'js>) -> Returned<'js> {
    let records = section(&raw const __start___llvm_prf_data, &raw const __stop___llvm_prf_data);
    let counters = section(&raw const __start___llvm_prf_cnts, &raw const __stop___llvm_prf_cnts);
    let names = section(&raw const __start___llvm_prf_names, &raw const __stop___llvm_prf_names);
    let distance = counters.as_ptr().addr().wrapping_sub(records.as_ptr().addr());
    let header = [
        MAGIC,
        VERSION,
        0, // Bytes of binary ids.
        (records.len() / RECORD_BYTES) as u64,
        0, // Padding before the counters.
        (counters.len() / size_of::<u64>()) as u64,
        0, // Padding after the counters.
        0, // Bytes of bitmaps.
        0, // Padding after the bitmaps.
        names.len() as u64,
        distance as u64,
        0, // Where bitmaps would be.
        names.as_ptr().addr() as u64,
        0, // Virtual tables.
        0, // Bytes of their names.
        LAST_VALUE_KIND,
    ];
    let padding = [0; 8];
    let padding = &padding[..names.len().next_multiple_of(8) - names.len()];
    let header = header.map(u64::to_le_bytes);
    let parts = [header.as_flattened(), records, counters, names, padding];
    let mut text = String::with_capacity(2 * parts.iter().map(|part| part.len()).sum::<usize>());
    for byte in parts.into_iter().flatten() {
        let _ = write!(text, "{byte:02x}");
    }
    output::emit(&ContentItem::Text(text)).map_err(Thrown::Limit)?;
    Ok(Value::new_undefined(ctx.clone()))
}
