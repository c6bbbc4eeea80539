//! The memory of this process, as Linux counts it.

/// Resets the peak of the resident memory, and returns what is resident now, in bytes.
///
/// # Panics
/// Where there is no `/proc`.
pub fn reset_peak() -> usize {
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
    field("VmRSS:")
}

/// The most that was resident since the last reset, in bytes.
///
/// # Panics
/// Where there is no `/proc`.
pub fn peak() -> usize {
    field("VmHWM:")
}

/// What is this process's own, pages that others share in part, in bytes.
///
/// # Panics
/// Where there is no `/proc`.
pub fn own() -> usize {
    own_of("self")
}

/// The same of another process, by its number.
///
/// # Panics
/// When there is no such process, or no `/proc`.
pub fn own_of(process: &str) -> usize {
    read(&format!("/proc/{process}/smaps_rollup"), "Pss:")
}

fn field(name: &str) -> usize {
    read("/proc/self/status", name)
}

fn read(file: &str, name: &str) -> usize {
    let status = std::fs::read_to_string(file).expect("there is /proc");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    kib << 10
}
