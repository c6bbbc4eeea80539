//! Makes the `QuickJS` that the guest is built with: the sources of the package
//! `rquickjs-sys`, changed by the edits in `guest/quickjs/edits`.
//!
//! Only the edits are committed. Each names the place that it changes by an anchor,
//! a piece of the engine's text that must occur exactly once where it is looked for;
//! a build fails when an anchor is gone or is no longer unique. C code of our own
//! that an edit calls is in `guest/quickjs`, which is on the include path.

use crate::root;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that has the engine's sources.
const PACKAGE: &str = "rquickjs-sys";

/// One file of edits: a change to the engine, with its reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Why the engine is changed.
    #[allow(dead_code, reason = "for the reader, and required")]
    reason: String,
    /// Public threads about the fault, as `owner/repository#number`.
    #[serde(default)]
    #[allow(dead_code, reason = "for the reader")]
    threads: Vec<String>,
    /// The places that are changed.
    edit: Vec<Edit>,
}

/// One place that is changed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    /// The file, relative to the engine's folder.
    #[serde(default = "engine_file")]
    file: String,
    /// The beginning of a definition: the anchor is looked for from there to the
    /// next line that begins with `}`. Without it, in the whole file.
    within: Option<String>,
    /// Text that occurs exactly once.
    anchor: String,
    /// What is put before the anchor, behind it, or in its place.
    #[serde(flatten)]
    change: Placement,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Placement {
    Before(String),
    After(String),
    Instead(String),
}

fn engine_file() -> String {
    "quickjs.c".to_owned()
}

/// Copies the package, applies the edits, and returns the folder of the copy, which
/// is inside the guest's own so that nothing depends on where the repository is.
pub fn edited(cargo: &str, guest: &Path) -> Result<PathBuf> {
    let package = package(cargo, guest)?;
    let copy = guest.join("target").join(PACKAGE);
    copy_folder(&package, &copy)?;
    let mut texts = BTreeMap::new();
    for path in edit_files()? {
        let name = path.display();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        let change: Change =
            toml::from_str(&text).with_context(|| format!("{name} is malformed"))?;
        for edit in change.edit {
            let file = copy.join("quickjs").join(&edit.file);
            let text = match texts.remove(&file) {
                Some(text) => text,
                None => std::fs::read_to_string(&file)
                    .with_context(|| format!("cannot read {}", file.display()))?,
            };
            let edited = edit.apply(&text).with_context(|| format!("{name}: {}", edit.file))?;
            texts.insert(file, edited);
        }
    }
    for (file, text) in texts {
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(copy)
}

/// The files of edits, in the order of their names.
pub fn edit_files() -> Result<Vec<PathBuf>> {
    let folder = root().join("guest/quickjs/edits");
    let mut files = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

impl Edit {
    fn apply(&self, text: &str) -> Result<String> {
        let scope = match &self.within {
            None => 0..text.len(),
            Some(definition) => {
                let start = only(text, &format!("\n{definition}"))?;
                let length = text[start + 1..].find("\n}").context("the definition has no end")?;
                start..start + 1 + length
            }
        };
        let at = scope.start + only(&text[scope.clone()], self.anchor.trim_matches('\n'))?;
        let (head, tail) = text.split_at(at);
        let (anchor, tail) = tail.split_at(self.anchor.trim_matches('\n').len());
        Ok(match &self.change {
            Placement::Before(new) => format!("{head}{}\n{anchor}{tail}", new.trim_matches('\n')),
            Placement::After(new) => format!("{head}{anchor}\n{}{tail}", new.trim_matches('\n')),
            Placement::Instead(new) => format!("{head}{}{tail}", new.trim_matches('\n')),
        })
    }
}

/// Where `needle` is, which must occur exactly once.
fn only(text: &str, needle: &str) -> Result<usize> {
    let mut found = text.match_indices(needle);
    let (at, _) = found.next().with_context(|| format!("not found: {needle:?}"))?;
    ensure!(found.next().is_none(), "found more than once: {needle:?}");
    Ok(at)
}

/// The folder where cargo keeps the package, of the version in the guest's lock file.
fn package(cargo: &str, guest: &Path) -> Result<PathBuf> {
    let output = Command::new(cargo)
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(guest)
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let package = packages.iter().find(|package| package["name"] == PACKAGE);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.with_context(|| format!("the guest does not depend on {PACKAGE}"))?;
    Ok(Path::new(manifest).parent().context("a manifest without a folder")?.to_owned())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in
        std::fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))?
    {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Edit, Placement};

    const TEXT: &str = "int a(void)\n{\n    x();\n}\n\nint b(void)\n{\n    x();\n}\n";

    fn edit(within: Option<&str>, anchor: &str) -> Edit {
        Edit {
            file: String::new(),
            within: within.map(str::to_owned),
            anchor: anchor.to_owned(),
            change: Placement::After("    y();".to_owned()),
        }
    }

    #[test]
    fn an_anchor_is_looked_for_in_its_definition() {
        let edited = edit(Some("int b("), "    x();").apply(TEXT).expect("the anchor is there");
        assert_eq!(
            edited,
            TEXT.replace("int b(void)\n{\n    x();", "int b(void)\n{\n    x();\n    y();")
        );
    }

    #[test]
    fn an_anchor_that_is_gone_or_not_unique_is_an_error() {
        assert!(edit(None, "    x();").apply(TEXT).is_err());
        assert!(edit(Some("int b("), "    z();").apply(TEXT).is_err());
        assert!(edit(Some("int c("), "    x();").apply(TEXT).is_err());
    }
}
