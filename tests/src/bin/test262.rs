//! `cargo xtask test262 PATH [FOLDER...]`: runs test262 and compares with the known failures.

#![allow(clippy::print_stdout, reason = "a report")]

use cellblock_tests::repository;
use cellblock_tests::test262::{Checkout, Count, run};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Failures that are printed in full.
const SHOWN: usize = 1_000;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: test262 PATH [FOLDER...]")?;
    let mut folders: Vec<_> = arguments.collect();
    if folders.is_empty() {
        folders = vec!["language".to_owned(), "built-ins".to_owned()];
    }
    let checkout = Arc::new(Checkout::new(Path::new(&path)));
    let mut tests = Vec::new();
    for folder in &folders {
        tests.extend(checkout.tests(folder)?);
    }
    let summary = run(checkout, tests.clone()).await?;
    println!("| folder | passed | of | skipped |\n|---|---|---|---|");
    let mut totals: BTreeMap<&str, Count> = BTreeMap::new();
    for (folder, count) in &summary.folders {
        println!("| {folder} | {} | {} | {} |", count.passed, count.ran, count.skipped);
        let total = totals.entry(folder.split('/').next().unwrap_or(folder)).or_default();
        total.passed += count.passed;
        total.ran += count.ran;
        total.skipped += count.skipped;
    }
    for (folder, count) in totals {
        println!("| **{folder}** | {} | {} | {} |", count.passed, count.ran, count.skipped);
    }
    let known = std::fs::read_to_string(repository("tests/test262/known-failures.toml"))?;
    let known: BTreeMap<String, String> = toml::from_str(&known)?;
    let is_known = |test: &str| known.keys().any(|name| test.starts_with(name.as_str()));
    let mut unexpected = 0;
    for (test, why) in summary.failed.iter().filter(|(test, _)| !is_known(test)) {
        unexpected += 1;
        if unexpected <= SHOWN {
            println!("FAILED {test}: {}", why.lines().next().unwrap_or_default());
        }
    }
    let mut stale = 0;
    for name in known.keys().filter(|name| tests.iter().any(|test| test.starts_with(name.as_str())))
    {
        if !summary.failed.keys().any(|test| test.starts_with(name.as_str())) {
            stale += 1;
            println!("PASSES and is listed: {name}");
        }
    }
    println!(
        "{} failed, {unexpected} of them unlisted; {stale} listed ones pass",
        summary.failed.len()
    );
    Ok(if unexpected + stale == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
