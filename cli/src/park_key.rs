//! The key that parked cells are authenticated and encrypted with, in a file.

use anyhow::{Context, Result, bail};
use cellblock::ParkKey;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a key, which a file has in hexadecimal.
const KEY_BYTES: usize = 32;

/// Where this user's key is.
pub fn default_path() -> Option<PathBuf> {
    let folder = |variable| {
        std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute())
    };
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("cellblock/park.key"))
}

/// Reads a key, and makes it when there is none.
pub fn secret(path: &Path) -> Result<[u8; KEY_BYTES]> {
    read_or_make(path).with_context(|| format!("the park key {}", path.display()))
}

/// Reads a key that must be there.
pub fn existing(path: &Path) -> Result<[u8; KEY_BYTES]> {
    let read = || read_secret(path)?.context("there is no such file");
    read().with_context(|| format!("the park key {}", path.display()))
}

fn read_or_make(path: &Path) -> Result<[u8; KEY_BYTES]> {
    if let Some(secret) = read_secret(path)? {
        return Ok(secret);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let secret = ParkKey::random_secret().context("no randomness")?;
    let digit = |four: u8| char::from_digit(u32::from(four), 16).unwrap_or_default();
    let text: String =
        secret.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
    // Written whole before it has its name, so that two runs do not make two keys.
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(draft, "{text}")?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Ok(_) => Ok(secret),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            read_secret(path)?.context("it was removed")
        }
        Err(error) => Err(error.error.into()),
    }
}

/// The key in a file; `None` when there is no file.
fn read_secret(path: &Path) -> Result<Option<[u8; KEY_BYTES]>> {
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(nonblock).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if file.metadata()?.mode() & 0o077 != 0 {
        bail!("others than its owner may use it; chmod 600 it");
    }
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text)?;
    let digits = text.trim().as_bytes();
    let mut secret = [0; KEY_BYTES];
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    for (at, byte) in secret.iter_mut().enumerate() {
        let value = digit(2 * at).zip(digit(2 * at + 1)).map(|(high, low)| high * 16 + low);
        *byte = value.and_then(|value| u8::try_from(value).ok()).with_context(malformed)?;
    }
    if digits.len() != 2 * KEY_BYTES {
        bail!(malformed());
    }
    Ok(Some(secret))
}

fn malformed() -> String {
    format!("it must have {} hexadecimal digits", 2 * KEY_BYTES)
}
