//! `cargo xtask guest`: from the guest's sources to the component that the library embeds.

use crate::manifest::{Manifest, hash, sources};
use crate::root;
use crate::snapshot::snapshot;
use crate::toolchain::Toolchain;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

fn component_path() -> PathBuf {
    root().join("guest/prebuilt/cellblock-guest.wasm")
}

/// Builds, pre-initialises and stores the component.
pub fn rebuild() -> Result<()> {
    let toolchain =
        Toolchain::find().context("no guest toolchain; run scripts/guest-toolchain.sh")?;
    let component = snapshot(&toolchain.build()?)?;
    let manifest = Manifest::describe(&component, toolchain.versions()?)?;
    std::fs::create_dir_all(root().join("guest/prebuilt"))?;
    std::fs::write(component_path(), &component).context("cannot write the component")?;
    manifest.write()?;
    println!("guest/prebuilt/cellblock-guest.wasm: {} bytes", component.len());
    Ok(())
}

/// Fails when the committed component is not what the sources make.
pub fn check() -> Result<()> {
    let manifest = Manifest::read()?;
    let component = std::fs::read(component_path()).context("cannot read the component")?;
    if hash(&component) != manifest.component || component.len() != manifest.size {
        bail!("the prebuilt component is not the one its manifest describes");
    }
    let now = sources()?;
    let names = now.keys().chain(manifest.sources.keys());
    let mut stale: Vec<_> =
        names.filter(|name| now.get(*name) != manifest.sources.get(*name)).collect();
    stale.sort();
    stale.dedup();
    if !stale.is_empty() {
        bail!("changed since the guest was built: {stale:?}; run `cargo xtask guest`");
    }
    println!("guest: sources and manifest agree");
    let Some(toolchain) = Toolchain::find() else {
        println!("guest: NOTICE: no toolchain here, so no rebuild was compared");
        return Ok(());
    };
    let tools = toolchain.versions()?;
    if tools != manifest.tools {
        println!("guest: NOTICE: other tools here ({tools:?}), so no rebuild was compared");
        return Ok(());
    }
    if hash(&snapshot(&toolchain.build()?)?) != manifest.component {
        bail!("a rebuild differs from the prebuilt component; run `cargo xtask guest`");
    }
    println!("guest: a rebuild gives the same component");
    Ok(())
}
