//! What the tests share.

pub mod backends;
pub mod contract;
pub mod guest;
pub mod vectors;

use std::path::PathBuf;

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}
