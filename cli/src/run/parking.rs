//! Where a script is parked.

use crate::park_key;
use anyhow::{Context, Result, bail};
use cellblock::{ParkKey, ParkedCell, Parking};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of a parked script.
const MAX_BYTES: u64 = 1 << 31;

/// The file that a script is parked in.
pub struct ParkFile {
    file: PathBuf,
    parking: Parking,
}

impl ParkFile {
    /// A file, and the key of `--park-key` or this user's own.
    pub fn new(file: &Path, key: Option<&Path>) -> Result<Self> {
        let key = match key {
            Some(path) => path.to_owned(),
            None => park_key::default_path()
                .context("there is no home folder for a key; use --park-key")?,
        };
        let secret = park_key::secret(&key)?;
        Ok(Self { file: file.to_owned(), parking: Parking::new(&ParkKey::encrypting(secret)) })
    }

    /// How the script is parked.
    pub fn parking(&self) -> Parking {
        self.parking.clone()
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Reads a parked script.
    pub fn read(&self) -> Result<ParkedCell> {
        let name = || format!("cannot read the parked script {}", self.file.display());
        let file = File::open(&self.file).with_context(name)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(name)?;
        if bytes.len() as u64 > MAX_BYTES {
            bail!("{} has more than {MAX_BYTES} bytes", self.file.display());
        }
        ParkedCell::from_bytes(bytes).with_context(|| self.file.display().to_string())
    }

    /// Writes a parked script in one go: another file of this name is replaced. Once this
    /// returns, the file survives the loss of power.
    pub fn write(&self, cell: &ParkedCell) -> Result<()> {
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let write = || {
            let mut draft = tempfile::NamedTempFile::new_in(folder)?;
            draft.write_all(cell.as_bytes())?;
            draft.as_file().sync_all()?;
            draft.persist(&self.file)?;
            File::open(folder)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", self.file.display()))
    }
}
