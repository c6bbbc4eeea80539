//! The store file: stored values from one run to the next.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A JSON object in a file.
pub struct StoreFile {
    path: PathBuf,
    values: HashMap<String, Value>,
}

impl StoreFile {
    /// Reads the file; a missing one is empty.
    pub fn open(path: PathBuf) -> Result<Self> {
        let values = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| {
                format!("the store file {} is not a JSON object", path.display())
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => HashMap::new(),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read the store file {}", path.display()));
            }
        };
        Ok(Self { path, values })
    }

    /// The values as they were read.
    pub fn values(&self) -> &HashMap<String, Value> {
        &self.values
    }

    /// Replaces the file in one go, so that an interrupted write loses nothing.
    pub fn write(&self, values: &HashMap<String, Value>) -> Result<()> {
        if *values == self.values {
            return Ok(());
        }
        let sorted: BTreeMap<_, _> = values.iter().collect();
        let text = serde_json::to_string_pretty(&sorted)? + "\n";
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let context = || format!("cannot write the store file {}", self.path.display());
        let mut draft = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
            .with_context(context)?;
        draft.write_all(text.as_bytes()).with_context(context)?;
        draft.persist(&self.path).with_context(context)?;
        Ok(())
    }
}
