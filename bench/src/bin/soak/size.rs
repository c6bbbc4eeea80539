//! How large a process is, as Linux counts it.

use anyhow::{Context, Result};
use std::fs;

/// What of a process may not grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

impl Size {
    /// The size of a process.
    pub fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))
            .with_context(|| format!("process {process} has ended"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find(|line| line.starts_with(name)).context("no field")?;
            let digits: String = line.chars().filter(char::is_ascii_digit).collect();
            Ok(digits.parse()?)
        };
        Ok(Self {
            rss_kib: field("VmRSS")?,
            descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count() as u64,
            threads: field("Threads")?,
        })
    }

    /// The larger of each.
    pub fn max(self, other: Self) -> Self {
        Self {
            rss_kib: self.rss_kib.max(other.rss_kib),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
        }
    }

    /// Whether this is more than what was there before, beyond `noise_kib` of memory.
    pub fn has_grown(self, before: Self, noise_kib: u64) -> bool {
        self.rss_kib > before.rss_kib + noise_kib
            || self.descriptors > before.descriptors
            || self.threads > before.threads
    }
}

/// The processes that this one started and that have not ended.
pub fn children() -> Result<Vec<u32>> {
    let parent = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has just ended has nothing to read.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name, in parentheses, may hold anything; the state and the parent follow it.
        let after = stat.rsplit(')').next().unwrap_or_default();
        if after.split_whitespace().nth(1) == Some(parent.as_str()) {
            found.push(process);
        }
    }
    Ok(found)
}
