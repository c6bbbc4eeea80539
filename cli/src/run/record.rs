//! What `--record` writes: all that came to the script from outside.

use super::output_file::OutputFile;
use anyhow::Result;
use cellblock::recording::{Recording, Recordings};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The file that a recording goes to.
pub struct RecordFile {
    file: OutputFile,
    kept: SyncSender<Recording>,
    recording: Receiver<Recording>,
}

impl RecordFile {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OutputFile::open(path)?;
        // A run has one cell.
        let (kept, recording) = sync_channel(1);
        Ok(Self { file, kept, recording })
    }

    /// Empties the file: the script is about to start.
    pub fn clear(&self) -> Result<()> {
        self.file.clear()
    }

    /// What the session does with the recording of its cell.
    pub fn recordings(&self) -> Recordings {
        let kept = self.kept.clone();
        Recordings::new(move |_, recording| {
            let _ = kept.try_send(recording);
        })
    }

    /// Writes the recording, of a script that has ended; false for one that did not start.
    pub fn write(self) -> Result<bool> {
        let Ok(recording) = self.recording.try_recv() else { return Ok(false) };
        self.file.write(recording.as_bytes())?;
        Ok(true)
    }
}
