//! Files that the command reads, each up to a bound.

use anyhow::{Context, Result, anyhow, bail};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads the script, or standard input for `-`: no more than `limit` bytes and one.
pub fn script(path: &Path, limit: usize) -> Result<String> {
    let (bytes, name) = if path.as_os_str() == "-" {
        let bytes = read(io::stdin().lock(), limit).context("cannot read standard input")?;
        (bytes, "on standard input".to_owned())
    } else {
        let bytes = File::open(path)
            .and_then(|file| read(file, limit))
            .with_context(|| format!("cannot read the script {}", path.display()))?;
        (bytes, path.display().to_string())
    };
    if bytes.len() > limit {
        bail!("the script {name} has more than {limit} bytes, which is the limit (source_bytes)");
    }
    text(bytes).with_context(|| format!("the script {name}"))
}

/// Reads a text file of at most `limit` bytes.
pub fn file(path: &Path, limit: usize) -> Result<String> {
    let bytes = File::open(path).and_then(|file| read(file, limit))?;
    if bytes.len() > limit {
        bail!("it has more than {limit} bytes");
    }
    text(bytes)
}

/// Opens a regular file, and waits for nobody if it is something else.
pub fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.custom_flags(nonblock).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow!("it is not UTF-8: byte {} is where it stops being text", at + 1)
    })
}

fn read(source: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take((limit as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
