//! Developer chores: `cargo xtask --help`.

mod guest;
mod manifest;
mod snapshot;
mod toolchain;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer chores of Cellblock")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Rebuild the guest component and its manifest in guest/prebuilt.
    Guest {
        /// Change nothing; fail when the prebuilt component is not what the sources make.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Guest { check: false } => guest::rebuild(),
        Chore::Guest { check: true } => guest::check(),
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
