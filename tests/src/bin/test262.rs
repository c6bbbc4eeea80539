//! `cargo xtask test262 PATH [FOLDER...]`: runs test262 and compares with the known failures.

#![allow(clippy::print_stdout, reason = "a report")]

use cellblock_tests::repository;
use cellblock_tests::test262::{Checkout, Count, run};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Tests, or folders of them, with reasons.
type Names = BTreeMap<String, String>;

/// The tests that are known to fail.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Known {
    /// What no cell may run, which counts as skipped.
    beyond_cells: Names,
    /// What a cell may run.
    failures: Names,
}

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
    let mut summary = run(checkout, tests.clone()).await?;
    let known = std::fs::read_to_string(repository("tests/test262/known-failures.toml"))?;
    let known: Known = toml::from_str(&known)?;
    let is_in = |list: &Names, test: &str| list.keys().any(|name| test.starts_with(name.as_str()));
    let beyond = summary.failed.keys().filter(|test| is_in(&known.beyond_cells, test)).count();
    for test in summary.failed.keys().filter(|test| is_in(&known.beyond_cells, test)) {
        let folder: Vec<_> = test.split('/').take(2).collect();
        if let Some(count) = summary.folders.get_mut(&folder.join("/")) {
            count.ran -= 1;
            count.skipped += 1;
        }
    }
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
    let is_known = |test: &str| is_in(&known.beyond_cells, test) || is_in(&known.failures, test);
    let mut unexpected = 0;
    for (test, why) in summary.failed.iter().filter(|(test, _)| !is_known(test)) {
        unexpected += 1;
        if unexpected <= SHOWN {
            println!("FAILED {test}: {}", why.lines().next().unwrap_or_default());
        }
    }
    let mut stale = 0;
    let listed = known.beyond_cells.keys().chain(known.failures.keys());
    for name in listed.filter(|name| tests.iter().any(|test| test.starts_with(name.as_str()))) {
        if !summary.failed.keys().any(|test| test.starts_with(name.as_str())) {
            stale += 1;
            println!("PASSES and is listed: {name}");
        }
    }
    println!(
        "{} failed, {unexpected} of them unlisted; {stale} listed ones pass",
        summary.failed.len() - beyond
    );
    Ok(if unexpected + stale == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
