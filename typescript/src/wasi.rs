//! What libc asks of WASI preview 1, answered inside the component.
//!
//! wasi-libc imports these functions by the symbols below. Defining them here leaves the
//! component without any import: no clock, filesystem, environment, streams or sockets.

const SUCCESS: i32 = 0;
/// `EBADF` of preview 1: there are no file descriptors.
const BADF: i32 = 8;

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
