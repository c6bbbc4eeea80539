//! The manifest beside a prebuilt component: what it was made from.

use crate::component::Part;
use crate::root;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Contents of `prebuilt/manifest.json` of a component. Hashes are SHA-256, in hex.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Hash of the component.
    pub component: String,
    /// Size of the component in bytes.
    pub size: usize,
    /// Hash of each source by its path: its folder, its lock file, its contract, and the
    /// parts of xtask that decide how it is built.
    pub sources: BTreeMap<String, String>,
    /// Versions of the tools that built it.
    pub tools: BTreeMap<String, String>,
}

impl Manifest {
    /// Describes a component built from the sources as they are now.
    pub fn describe(
        part: &Part,
        component: &[u8],
        tools: BTreeMap<String, String>,
    ) -> Result<Self> {
        let sources = sources(part)?;
        Ok(Self { component: hash(component), size: component.len(), sources, tools })
    }

    /// Reads the committed manifest.
    pub fn read(part: &Part) -> Result<Self> {
        let path = path(part);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is malformed", path.display()))
    }

    /// Writes the manifest.
    pub fn write(&self, part: &Part) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path(part), text).context("cannot write the manifest")
    }
}

fn path(part: &Part) -> PathBuf {
    root().join(part.folder).join("prebuilt/manifest.json")
}

/// Hashes of everything that a component is made from.
pub fn sources(part: &Part) -> Result<BTreeMap<String, String>> {
    let root = root();
    let own = root.join(part.folder);
    let mut files = vec![
        own.join("Cargo.toml"),
        own.join("Cargo.lock"),
        root.join("xtask/src/component.rs"),
        root.join("xtask/src/snapshot.rs"),
        root.join("xtask/src/toolchain.rs"),
    ];
    list(&own.join("src"), &mut files)?;
    for path in part.sources {
        let path = root.join(path);
        if path.is_dir() {
            list(&path, &mut files)?;
        } else {
            files.push(path);
        }
    }
    files
        .into_iter()
        .map(|file| {
            let bytes =
                std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.strip_prefix(&root)?.to_string_lossy().into_owned();
            Ok((name, hash(&bytes)))
        })
        .collect()
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// SHA-256 in hex.
pub fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
