//! What the guest needs of ICU4X's data, which the program in guest/icu cuts out of the
//! crates that carry it.

use super::page::{Kind, pack};
use crate::root;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The packs by the names of their files.
pub fn packs(downloads: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let folder = downloads.join("icu");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let status = Command::new("cargo")
        .args(["run", "--release", "--locked", "--package", "cellblock-icu-tables", "--"])
        .arg(&folder)
        .current_dir(root().join("guest"))
        .env("CARGO_TARGET_DIR", downloads.join("icu-target"))
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cellblock-icu-tables failed; its output is above");
    }
    std::fs::read_dir(&folder)?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let plain = std::fs::read(entry.path())?;
            Ok((format!("icu.{name}.bin"), pack(&plain, Kind::Numbers)?))
        })
        .collect()
}
