//! `cargo xtask guest` and `cargo xtask typescript`: from a component's sources to what the
//! library embeds.

use crate::manifest::{Manifest, hash, sources};
use crate::root;
use crate::snapshot::snapshot;
use crate::toolchain::{Engine, Toolchain};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// A component of the repository.
pub struct Part {
    /// Its folder, and the name of the chore that builds it.
    pub folder: &'static str,
    /// Files and folders outside `src` that it is made from.
    pub sources: &'static [&'static str],
    /// Bytes of its shadow stack. Pages that are not touched cost nothing.
    pub stack_bytes: u32,
    /// Whether it is built with the edited engine.
    pub has_engine: bool,
}

/// The guest. Its stack is the most that JavaScript may use of it, and two mebibytes for C
/// and Rust below that, which do not look at every step how deep they are.
pub const GUEST: Part = Part {
    folder: "guest",
    sources: &[
        "guest/intl/Cargo.toml",
        "guest/intl/src",
        "guest/intl/data",
        "guest/quickjs",
        "wit/code-mode.wit",
        "xtask/src/profile.rs",
        "xtask/src/quickjs.rs",
    ],
    stack_bytes: (8 + 2) << 20,
    has_engine: true,
};

/// What makes JavaScript of TypeScript. Its parser is recursive, and looks nowhere how
/// deep it is: a program that is too deep ends it.
pub const TYPESCRIPT: Part = Part {
    folder: "typescript",
    sources: &["wit/typescript"],
    stack_bytes: 8 << 20,
    has_engine: false,
};

impl Part {
    /// The file that the library embeds.
    fn component_path(&self) -> PathBuf {
        root().join(self.folder).join(format!("prebuilt/cellblock-{}.wasm", self.folder))
    }

    fn build(&self, toolchain: &Toolchain) -> Result<Vec<u8>> {
        snapshot(&toolchain.build(self, Engine::Profiled)?)
    }

    /// Builds and stores the component.
    pub fn rebuild(&self) -> Result<()> {
        let toolchain =
            Toolchain::find().context("no guest toolchain; run scripts/guest-toolchain.sh")?;
        let component = self.build(&toolchain)?;
        let manifest = Manifest::describe(self, &component, toolchain.versions()?)?;
        let path = self.component_path();
        std::fs::create_dir_all(root().join(self.folder).join("prebuilt"))?;
        std::fs::write(&path, &component).context("cannot write the component")?;
        manifest.write(self)?;
        println!("{}: {} bytes", path.display(), component.len());
        Ok(())
    }

    /// Fails when the committed component is not what the sources make.
    pub fn check(&self) -> Result<()> {
        let chore = self.folder;
        let manifest = Manifest::read(self)?;
        let component =
            std::fs::read(self.component_path()).context("cannot read the component")?;
        if hash(&component) != manifest.component || component.len() != manifest.size {
            bail!("the prebuilt component is not the one its manifest describes");
        }
        let now = sources(self)?;
        let names = now.keys().chain(manifest.sources.keys());
        let mut stale: Vec<_> =
            names.filter(|name| now.get(*name) != manifest.sources.get(*name)).collect();
        stale.sort();
        stale.dedup();
        if !stale.is_empty() {
            bail!("changed since the component was built: {stale:?}; run `cargo xtask {chore}`");
        }
        println!("{chore}: sources and manifest agree");
        let Some(toolchain) = Toolchain::find() else {
            println!("{chore}: NOTICE: no toolchain here, so no rebuild was compared");
            return Ok(());
        };
        let tools = toolchain.versions()?;
        if tools != manifest.tools {
            println!("{chore}: NOTICE: other tools here ({tools:?}), so no rebuild was compared");
            return Ok(());
        }
        if hash(&self.build(&toolchain)?) != manifest.component {
            bail!("a rebuild differs from the prebuilt component; run `cargo xtask {chore}`");
        }
        println!("{chore}: a rebuild gives the same component");
        Ok(())
    }
}
