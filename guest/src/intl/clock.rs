//! The clock on a program's wall: the zone and the locale that the host has set, for the
//! engine's dates.

use super::locales::with_defaults;

/// Seconds that the program's zone is ahead of UTC, see `quickjs/time-zone.h`.
#[unsafe(no_mangle)]
extern "C" fn cellblock_zone_offset(time: i64, local: bool) -> i32 {
    let seconds = time.div_euclid(1000);
    with_defaults(|defaults| {
        let zone = &defaults.zone;
        if local { zone.offset_of_local(seconds) } else { zone.offset_at(seconds) }.seconds
    })
}

/// Writes the name of the program's zone in parentheses, see `quickjs/time-zone.h`.
///
/// # Safety
/// `out` must be valid for writing `size` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn cellblock_zone_name_at(time: i64, out: *mut u8, size: i32) -> i32 {
    let name = with_defaults(|defaults| {
        let name = defaults.zone.long_name(defaults.held.data, time.div_euclid(1000));
        format!(" ({name})")
    });
    let mut length = name.len().min(usize::try_from(size).unwrap_or(0));
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    // SAFETY: the caller's contract.
    unsafe { std::ptr::copy_nonoverlapping(name.as_ptr(), out, length) };
    length as i32
}
