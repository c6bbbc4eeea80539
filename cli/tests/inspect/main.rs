//! What people look at: the page of `cellblock run --trace` and of `cellblock mcp --inspect`,
//! in a real browser.

#![allow(clippy::print_stdout, reason = "a test that cannot be run says so")]
#![allow(clippy::needless_pass_by_value, reason = "values that a test writes out are its own")]

mod browser;
mod hostile;
mod legible;
mod live;
mod trace;

/// The client of the tests of `cellblock mcp`.
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../mcp/raw.rs"]
mod raw;
