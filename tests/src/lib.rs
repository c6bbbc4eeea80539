//! What the tests share.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "panicking is how a rule says that it does not hold"
)]

pub mod backends;
pub mod contract;
pub mod differing;
pub mod guest;
pub mod memory;
pub mod npm;
pub mod test262;
pub mod vectors;

use std::path::PathBuf;

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}
