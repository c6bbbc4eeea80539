//! What people look at: the page of `cellblock run --trace` and of `cellblock mcp --inspect`,
//! in a real browser.

#![allow(clippy::print_stdout, reason = "a test that cannot be run says so")]

mod browser;
mod hostile;
mod legible;
mod trace;
