//! The engine's profile: how often each part of its C code runs in the programs of
//! `tests/training`. clang compiles what runs often for speed, the rest for size, and lays
//! each function out for its common paths.
//!
//! `cargo xtask profile` makes it anew: the guest itself is built with clang's counters, and
//! runs in wasmtime, so that what is counted is what is built for use.

use crate::component::GUEST;
use crate::snapshot::snapshot;
use crate::toolchain::{Engine, Toolchain};
use crate::{root, tests};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The committed profile, as text.
const PROFILE: &str = "guest/quickjs/engine.proftext";
/// Blocks of code that make up so many millionths of all counts are compiled for speed.
/// clang's default is 990,000, which makes the guest a fifth larger and not faster.
const HOT: u32 = 900_000;
/// Blocks beyond so many millionths of all counts are compiled for size.
const COLD: u32 = 999_000;
/// The interpreter's loop, which is left out: laid out by its counts it is slower, as every
/// step goes through one jump and what lies near it matters less than what stays in registers.
const LEFT_OUT: &str = "quickjs.c;JS_CallInternal";
/// The share of all counts that may belong to functions that have changed since they were
/// counted, in percent. clang compiles those as if they had not been counted.
const MAX_LOST_PERCENT: u64 = 2;

/// The flags by which clang uses the profile, which is made ready in the target folder.
pub fn use_flags(target: &Path) -> Result<String> {
    std::fs::create_dir_all(target).context("cannot create the target folder")?;
    let indexed = indexed(target);
    merge(&[], &[root().join(PROFILE)], &indexed)?;
    Ok(format!(
        "-fprofile-use={} -mllvm -profile-summary-cutoff-hot={HOT} \
         -mllvm -profile-summary-cutoff-cold={COLD}",
        indexed.display()
    ))
}

/// Has clang write its warnings to a file: cargo shows none of them.
pub fn log_diagnostics(command: &mut Command, target: &Path, sources: &str) {
    command.env("CC_LOG_DIAGNOSTICS", "1").env("CC_LOG_DIAGNOSTICS_FILE", log(target, sources));
}

/// Fails when too much of the profile is of functions that have changed since. The file is
/// that of the last build in which clang ran for these sources.
pub fn check(target: &Path, sources: &str) -> Result<()> {
    let warnings = std::fs::read_to_string(log(target, sources)).unwrap_or_default();
    let lost: u64 = warnings.lines().filter_map(discarded).sum();
    let output = Command::new("llvm-profdata-19")
        .args(["show", "--detailed-summary"])
        .arg(indexed(target))
        .output()
        .context("cannot run llvm-profdata-19")?;
    let summary = String::from_utf8_lossy(&output.stdout);
    let total = summary.lines().find_map(|line| line.strip_prefix("Total count: "));
    let total: u64 = total.context("the profile has no counts")?.trim().parse()?;
    ensure!(
        lost * 100 <= total * MAX_LOST_PERCENT,
        "{lost} of the profile's {total} counts are of functions that have changed; \
         run `cargo xtask profile`"
    );
    Ok(())
}

/// The counts that a warning of clang's says are not used.
fn discarded(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("(hash mismatch)")?;
    let (_, rest) = rest.split_once(" up to ")?;
    rest.split(' ').next()?.parse().ok()
}

fn indexed(target: &Path) -> PathBuf {
    target.join("engine.profdata")
}

fn log(target: &Path, sources: &str) -> PathBuf {
    target.join(format!("engine-{sources}.log"))
}

/// Merges profiles into one.
fn merge(options: &[&str], profiles: &[PathBuf], merged: &Path) -> Result<()> {
    let status = Command::new("llvm-profdata-19")
        .arg("merge")
        .args(options)
        .arg("-o")
        .arg(merged)
        .args(profiles)
        .status()
        .context("cannot run llvm-profdata-19")?;
    if status.success() { Ok(()) } else { bail!("llvm-profdata-19 failed; its output is above") }
}

/// Makes the committed profile anew.
pub fn profile() -> Result<()> {
    let toolchain =
        Toolchain::find().context("no guest toolchain; run scripts/guest-toolchain.sh")?;
    let guest = snapshot(&toolchain.build(&GUEST, Engine::Counting)?)?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let component = folder.path().join("guest.wasm");
    std::fs::write(&component, guest).context("cannot write the component")?;
    let arguments = [&component, folder.path()].map(|path| path.display().to_string());
    tests("training", &arguments)?;

    let mut profiles = Vec::new();
    for entry in std::fs::read_dir(folder.path()).context("cannot list the counters")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            let text = std::fs::read_to_string(&path).context("cannot read counters")?;
            let raw = path.with_extension("profraw");
            std::fs::write(&raw, hex::decode(text)?).context("cannot write a profile")?;
            profiles.push(raw);
        }
    }
    let merged = root().join(PROFILE);
    merge(&["-text"], &profiles, &merged)?;
    let text = std::fs::read_to_string(&merged).context("cannot read the profile")?;
    let functions = text.split("\n\n").filter(|function| function.lines().next() != Some(LEFT_OUT));
    let text = functions.collect::<Vec<_>>().join("\n\n");
    std::fs::write(&merged, &text).context("cannot write the profile")?;
    println!(
        "{PROFILE}: {} bytes from {} programs; now run `cargo xtask guest`",
        text.len(),
        profiles.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::discarded;

    #[test]
    fn counts_that_are_lost_are_read_from_warnings() {
        let line = "<string>a.c: function control flow change detected (hash mismatch) f \
                    Hash = 942389666994816328 up to 1005 count discarded</string>";
        assert_eq!(discarded(line), Some(1005));
        assert_eq!(discarded("<string>unused variable</string>"), None);
    }
}
