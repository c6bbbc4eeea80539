//! What `--trace` writes: what the script did, as a page.

use super::output_file::OutputFile;
use anyhow::Result;
use cellblock::{CellLimits, MonitorHandle, RuntimeResponse};
use cellblock_inspect::{About, Recording};
use std::path::Path;

/// The recording of a run, and the file that it goes to.
pub struct Trace {
    file: OutputFile,
    recording: Recording,
}

/// How the run of a script ended.
#[derive(Clone, Copy)]
pub enum TraceEnd<'a> {
    /// With this response.
    Response(&'a RuntimeResponse),
    /// The script was parked.
    Parked,
    /// The run itself failed.
    Failed(&'a anyhow::Error),
}

impl Trace {
    /// Opens the file.
    pub fn open(path: &Path, script: &Path, source: &str, limits: &CellLimits) -> Result<Self> {
        let title = match script.file_name() {
            Some(name) if name != "-" => name.to_string_lossy().into_owned(),
            _ => "standard input".to_owned(),
        };
        let about = About { title, source: source.to_owned(), limits: limits.clone() };
        Ok(Self { file: OutputFile::open(path)?, recording: Recording::new(about) })
    }

    /// Empties the file: the script is about to start.
    pub fn clear(&self) -> Result<()> {
        self.file.clear()
    }

    /// What goes into the request.
    pub fn monitor(&self) -> MonitorHandle {
        self.recording.monitor()
    }

    /// Writes the page, of a script that ended so.
    pub fn write(self, end: TraceEnd<'_>) -> Result<()> {
        match end {
            TraceEnd::Response(response) => self.recording.end(response),
            // The monitor knows.
            TraceEnd::Parked => {}
            TraceEnd::Failed(error) => self.recording.refuse(&format!("{error:#}")),
        }
        self.file.write(self.recording.page().as_bytes())
    }
}
