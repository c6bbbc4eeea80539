//! Files that a run writes when its script has ended. What is at their places is looked at before
//! the script runs, for an error after it could not help any more.

use anyhow::{Context, Result, bail};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that is written as a whole.
pub struct OutputFile {
    file: File,
    path: PathBuf,
}

impl OutputFile {
    /// Opens the file, which keeps what it has; a new one is for this user alone, as what tools
    /// return may be secret.
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Empties the file: the script is about to start.
    pub fn clear(&self) -> Result<()> {
        let clear = || if self.file.metadata()?.is_file() { self.file.set_len(0) } else { Ok(()) };
        clear().with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Writes the file.
    pub fn write(mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The file that is replaced when something is written to this path: what links lead to. It is a
/// regular file, or there is none yet, and its folder can be written.
pub fn replaceable(path: &Path) -> Result<PathBuf> {
    let name = || format!("cannot write {}", path.display());
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned().with_context(name)?);
    let is_output = |data: &Metadata| {
        output
            .metadata()
            .is_ok_and(|output| (output.dev(), output.ino()) == (data.dev(), data.ino()))
    };
    let target = match path.metadata() {
        Ok(data) if is_output(&data) => bail!("{}: the output is written there", name()),
        Ok(data) if data.is_file() => path.canonicalize().with_context(name)?,
        Ok(data) if data.is_dir() => bail!("{}: it is a folder", name()),
        Ok(_) => bail!("{}: it is not a regular file", name()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if path.symlink_metadata().is_ok() {
                bail!("{}: it is a link that leads nowhere", name());
            }
            path.to_owned()
        }
        Err(error) => return Err(error).with_context(name),
    };
    let folder = folder_of(&target);
    if !folder.is_dir() {
        bail!("{}: there is no folder {}", name(), folder.display());
    }
    if target.file_name().is_none() {
        bail!("{}: it is not the name of a file", name());
    }
    let draft = tempfile::NamedTempFile::new_in(folder);
    draft.map_err(plain).with_context(name)?;
    Ok(target)
}

/// An error without the name of a draft, which means nothing to the user.
pub fn plain(error: std::io::Error) -> std::io::Error {
    let inner = error.get_ref().and_then(std::error::Error::source);
    let inner = inner.and_then(|inner| inner.downcast_ref::<std::io::Error>());
    match inner.and_then(std::io::Error::raw_os_error) {
        Some(number) => std::io::Error::from_raw_os_error(number),
        None => error,
    }
}

/// The folder of a file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses files that are written while another option names them, too. Each file comes with
/// the option that names it, and whether it is written.
pub fn distinct(files: &[(&str, Option<&Path>, bool)]) -> Result<()> {
    let known: Vec<_> = files
        .iter()
        .filter_map(|(option, path, is_written)| {
            let path = (*path)?;
            Some((option, path, *is_written, path.metadata().ok().filter(Metadata::is_file)))
        })
        .collect();
    for (at, (option, path, is_written, data)) in known.iter().enumerate() {
        for (other, other_path, other_is_written, other_data) in &known[..at] {
            let is_same = match (data, other_data) {
                (Some(one), Some(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
                (None, None) => !path.exists() && path == other_path,
                _ => false,
            };
            if is_same && (*is_written || *other_is_written) {
                bail!("{other} and {option} are the same file, {}", path.display());
            }
        }
    }
    Ok(())
}
