//! The memory of a process, as Linux counts it.

use anyhow::{Context, Result};

/// KiB of a process, by its number or `self`: pages that others share are counted in part
/// (PSS). Resident memory (RSS) would count the guest's image once for each cell.
pub fn kib(process: &str) -> Result<u64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no PSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
