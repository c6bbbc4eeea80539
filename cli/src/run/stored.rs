//! The store file: stored values from one run to the next.
//!
//! The file is an object, and each of its values is kept as the text that it is. It is
//! replaced in one go, under a lock, by what is in it at that moment and the keys that
//! this run wrote: runs at the same time wait for each other and lose nothing.

use super::input::open_regular;
use super::output_file::folder_of;
use anyhow::{Context, Result, bail};
use cellblock::StoredValues;
use rustix::fs::{Gid, Uid, fchown};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a store file.
const MAX_BYTES: u64 = 1 << 30;
/// Links that lead to a file: as many as Linux follows.
const LINKS: usize = 40;
/// Mode of a file that is made: what programs store may be private.
const NEW_MODE: u32 = 0o600;

/// A JSON object in a file.
pub struct StoreFile {
    /// The file as the user named it, for messages.
    name: PathBuf,
    /// The file that the links lead to.
    path: PathBuf,
    /// The values as they were when the program started.
    before: HashMap<String, Arc<str>>,
}

/// The values of a file, each with its text.
type Values = BTreeMap<String, Box<RawValue>>;

impl StoreFile {
    /// Reads the file into `values`; a missing one is empty.
    pub fn open(name: &Path, values: &StoredValues) -> Result<Self> {
        let context = || format!("cannot read the store file {}", name.display());
        let path = target(name).with_context(context)?;
        // Before the program runs: its values could not be written afterwards.
        match path.metadata() {
            Ok(data) if data.permissions().mode() & 0o222 == 0 => {
                bail!(
                    "the store file {} is read-only (mode {:o})",
                    name.display(),
                    data.permissions().mode() & 0o7777
                );
            }
            _ => {}
        }
        match open_regular(OpenOptions::new().read(true).write(true), &path) {
            Ok(file) => {
                for (key, value) in read(&file, name)? {
                    let text: Box<str> = value.into();
                    values.insert_json(key, text).with_context(context)?;
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let folder = folder_of(&path);
                if !folder.is_dir() {
                    bail!("{}: there is no folder {}", context(), folder.display());
                }
            }
            Err(error) => return Err(error).with_context(context),
        }
        Ok(Self { name: name.to_owned(), path, before: values.to_json() })
    }

    /// Writes the keys that were written since the file was read. Waits for other runs
    /// that write the same file.
    pub fn write(&self, values: &StoredValues) -> Result<()> {
        let written = values.written_since(&self.before);
        if written.is_empty() {
            return Ok(());
        }
        let context = || format!("cannot write the store file {}", self.name.display());
        let file = lock(&self.path).with_context(context)?;
        let mut merged = read(&file, &self.name)?;
        for (key, text) in written {
            merged.insert(key, RawValue::from_string(text.to_string())?);
        }
        replace(&self.path, &file, &text_of(&merged)?).with_context(context)
    }
}

/// The file that symbolic links lead to, whether it exists or not.
fn target(name: &Path) -> std::io::Result<PathBuf> {
    let mut path = name.to_owned();
    for _ in 0..LINKS {
        match std::fs::read_link(&path) {
            Ok(link) => path = folder_of(&path).join(link),
            // It is a file, or there is none yet.
            Err(_) => return Ok(path),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// Reads all values. An empty file has none: a run that was killed may have left it.
fn read(file: &File, name: &Path) -> Result<Values> {
    let context = || format!("cannot read the store file {}", name.display());
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).with_context(context)?;
    if text.len() as u64 > MAX_BYTES {
        bail!("the store file {} has more than {MAX_BYTES} bytes", name.display());
    }
    if text.is_empty() {
        return Ok(Values::new());
    }
    serde_json::from_str(&text)
        .with_context(|| format!("the store file {} is not a JSON object", name.display()))
}

/// Makes the file if there is none, and locks it.
fn lock(path: &Path) -> std::io::Result<File> {
    loop {
        let mut options = OpenOptions::new();
        let file = open_regular(options.read(true).write(true).create(true).mode(NEW_MODE), path)?;
        file.lock()?;
        // The run that had the lock before has put another file in its place.
        let (locked, named) = (file.metadata()?, path.metadata());
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
            return Ok(file);
        }
    }
}

/// An object with a line for each value, in the order of the keys.
fn text_of(values: &Values) -> Result<String> {
    let mut text = String::from("{");
    for (at, (key, value)) in values.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(text, "{comma}\n  {}: {}", serde_json::to_string(key)?, value.get())?;
    }
    text += "\n}\n";
    Ok(text)
}

/// Replaces the file in one go, with its mode and owner; once this returns, the file
/// survives the loss of power.
fn replace(path: &Path, old: &File, text: &str) -> std::io::Result<()> {
    let folder = folder_of(path);
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".draft");
    let draft_path = folder.join(name);
    // Only the run that has the lock is here: what is there was left by one that was killed.
    let _ = std::fs::remove_file(&draft_path);
    let mut options = OpenOptions::new();
    let mut draft = options.write(true).create_new(true).mode(NEW_MODE).open(&draft_path)?;
    let mut write = || {
        let data = old.metadata()?;
        // Only root can give a file away; another user's file becomes this user's.
        let (owner, group) = (Uid::from_raw(data.uid()), Gid::from_raw(data.gid()));
        let _ = fchown(&draft, Some(owner), Some(group));
        draft.set_permissions(data.permissions())?;
        draft.write_all(text.as_bytes())?;
        draft.sync_all()?;
        std::fs::rename(&draft_path, path)
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&draft_path);
    }
    written?;
    File::open(folder)?.sync_all()
}
