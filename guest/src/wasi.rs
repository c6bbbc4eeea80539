//! What libc asks of WASI preview 1, answered inside the guest.
//!
//! wasi-libc imports these functions by the symbols below. Defining them here
//! keeps the component free of every WASI import: no filesystem, environment,
//! standard streams or sockets exist, and the only clock is the contract's own.

use crate::bindings::cellblock::code_mode::clock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once the component runs inside a host. Before that it is being built,
/// and no clock may leak into the snapshot.
static LIVE: AtomicBool = AtomicBool::new(false);

/// From now on clocks are the host's.
pub(crate) fn go_live() {
    LIVE.store(true, Ordering::Relaxed);
}

/// Whether a host is there to be asked.
pub(crate) fn is_live() -> bool {
    LIVE.load(Ordering::Relaxed)
}

const SUCCESS: i32 = 0;
/// `EBADF` of preview 1: there are no file descriptors.
const BADF: i32 = 8;
const MONOTONIC: i32 = 1;

/// Nanoseconds on the wall clock, or on the monotonic one.
///
/// # Safety
/// `out` must be valid for writing eight bytes; libc passes a local.
#[unsafe(no_mangle)]
unsafe extern "C" fn __imported_wasi_snapshot_preview1_clock_time_get(
    id: i32,
    _precision: i64,
    out: *mut u64,
) -> i32 {
    let now = match (is_live(), id) {
        (false, _) => 0,
        (true, MONOTONIC) => clock::monotonic(),
        (true, _) => clock::wall(),
    };
    // SAFETY: the caller's contract.
    unsafe { out.write_unaligned(now) };
    SUCCESS
}

/// An empty environment.
///
/// # Safety
/// Both pointers must be valid for writing a `usize`; libc passes locals.
#[unsafe(no_mangle)]
unsafe extern "C" fn __imported_wasi_snapshot_preview1_environ_sizes_get(
    count: *mut usize,
    bytes: *mut usize,
) -> i32 {
    // SAFETY: the caller's contract.
    unsafe {
        count.write_unaligned(0);
        bytes.write_unaligned(0);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_environ_get(_list: i32, _bytes: i32) -> i32 {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_close(_fd: i32) -> i32 {
    BADF
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_fdstat_get(_fd: i32, _out: i32) -> i32 {
    BADF
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_prestat_get(_fd: i32, _out: i32) -> i32 {
    BADF
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_prestat_dir_name(
    _fd: i32,
    _out: i32,
    _length: i32,
) -> i32 {
    BADF
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_seek(
    _fd: i32,
    _offset: i64,
    _whence: i32,
    _out: i32,
) -> i32 {
    BADF
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_write(
    _fd: i32,
    _vectors: i32,
    _count: i32,
    _out: i32,
) -> i32 {
    BADF
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_proc_exit(_code: i32) -> ! {
    core::arch::wasm32::unreachable()
}
