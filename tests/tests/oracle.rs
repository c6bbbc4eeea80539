//! The contract of the seam, asked of another make's host: `CELLBLOCK_ORACLE` is the
//! path of a program that serves framed JSON with `--listen stdio`, such as Codex's
//! `codex-code-mode-host`.

#![allow(clippy::print_stdout, reason = "a test that cannot be run says so")]

use cellblock_tests::backends::Backends;
use cellblock_tests::differing::assert_differs;
use std::path::Path;

#[test]
fn oracle() {
    let Some(oracle) = std::env::var_os("CELLBLOCK_ORACLE") else {
        println!("NOTICE: CELLBLOCK_ORACLE is not set, so no other host was asked");
        return;
    };
    let oracle = Path::new(&oracle).to_owned().leak();
    // What is beyond the contract is ours alone.
    let differences = include_str!("oracle-differences.toml");
    assert_differs(Backends::Oracle(oracle), differences, &["beyond"]);
}
