//! What `--record` writes: all that came to the script from outside.

use super::create_private;
use anyhow::{Context, Result};
use cellblock::recording::{Recording, Recordings};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The file that a recording goes to.
pub struct RecordFile {
    file: File,
    path: PathBuf,
    kept: SyncSender<Recording>,
    recording: Receiver<Recording>,
}

impl RecordFile {
    /// Makes the file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = create_private(path)?;
        // A run has one cell.
        let (kept, recording) = sync_channel(1);
        Ok(Self { file, path: path.to_owned(), kept, recording })
    }

    /// What the session does with the recording of its cell.
    pub fn recordings(&self) -> Recordings {
        let kept = self.kept.clone();
        Recordings::new(move |_, recording| {
            let _ = kept.try_send(recording);
        })
    }

    /// Writes the recording, of a script that has ended; false for one that did not start.
    pub fn write(mut self) -> Result<bool> {
        let Ok(recording) = self.recording.try_recv() else { return Ok(false) };
        self.file
            .write_all(recording.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(true)
    }
}
