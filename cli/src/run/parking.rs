//! Where a script is parked.

use super::input;
use super::output_file::{folder_of, plain, replaceable};
use crate::park_key;
use anyhow::{Context, Result, bail};
use cellblock::{ParkKey, ParkedCell, Parking};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of a parked script.
const MAX_BYTES: u64 = 1 << 31;

/// The key that scripts are parked with: that of `--park-key`, or this user's own.
pub struct Key {
    file: PathBuf,
    parking: Parking,
}

impl Key {
    /// The key for a script that may be parked; it is made when it is missing.
    pub fn made(file: Option<&Path>) -> Result<Self> {
        Self::read_with(file, park_key::secret)
    }

    /// The key for a script that was parked.
    pub fn existing(file: Option<&Path>) -> Result<Self> {
        Self::read_with(file, park_key::existing)
    }

    fn read_with(
        file: Option<&Path>,
        read: impl FnOnce(&Path) -> Result<[u8; 32]>,
    ) -> Result<Self> {
        let file = match file {
            Some(path) => path.to_owned(),
            None => park_key::default_path()
                .context("there is no home folder for a key; use --park-key")?,
        };
        let parking = Parking::new(&ParkKey::encrypting(read(&file)?));
        Ok(Self { file, parking })
    }

    /// The file that it is in.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How scripts are parked with it.
    pub fn parking(&self) -> Parking {
        self.parking.clone()
    }
}

/// A file for a script that is parked.
pub struct ParkFile {
    /// The file as the user named it, for messages.
    name: PathBuf,
    /// The file that links lead to.
    path: PathBuf,
}

impl ParkFile {
    /// A file that a script may be parked in. What is there and is not a regular file is refused.
    pub fn new(name: &Path) -> Result<Self> {
        Ok(Self { name: name.to_owned(), path: replaceable(name)? })
    }

    /// The file, as it was named.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Writes a parked script in one go: another file of this name is replaced. Once this
    /// returns, the file survives the loss of power.
    pub fn write(&self, cell: &ParkedCell) -> Result<()> {
        let folder = folder_of(&self.path);
        let write = || {
            let mut draft = tempfile::NamedTempFile::new_in(folder).map_err(plain)?;
            draft.as_file_mut().write_all(cell.as_bytes())?;
            draft.as_file().sync_all()?;
            draft.persist(&self.path).map_err(|failed| plain(failed.error))?;
            File::open(folder)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", self.name.display()))
    }
}

/// Reads a parked script.
pub fn read(path: &Path) -> Result<ParkedCell> {
    let name = || format!("cannot read the parked script {}", path.display());
    let file = input::open_regular(OpenOptions::new().read(true), path).with_context(name)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(name)?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{} has more than {MAX_BYTES} bytes", path.display());
    }
    ParkedCell::from_bytes(bytes).with_context(|| path.display().to_string())
}
