//! What `--trace` writes: what the script did, as a page.

use super::create_private;
use anyhow::{Context, Result};
use cellblock::{CellLimits, MonitorHandle, RuntimeResponse};
use cellblock_inspect::{About, Recording};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The recording of a run, and the file that it goes to.
pub struct Trace {
    file: File,
    path: PathBuf,
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
    /// Makes the file.
    pub fn create(path: &Path, script: &Path, source: &str, limits: &CellLimits) -> Result<Self> {
        let title = match script.file_name() {
            Some(name) if name != "-" => name.to_string_lossy().into_owned(),
            _ => "standard input".to_owned(),
        };
        let about = About { title, source: source.to_owned(), limits: limits.clone() };
        let file = create_private(path)?;
        Ok(Self { file, path: path.to_owned(), recording: Recording::new(about) })
    }

    /// What goes into the request.
    pub fn monitor(&self) -> MonitorHandle {
        self.recording.monitor()
    }

    /// Writes the page, of a script that ended so.
    pub fn write(mut self, end: TraceEnd<'_>) -> Result<()> {
        match end {
            TraceEnd::Response(response) => self.recording.end(response),
            // The monitor knows.
            TraceEnd::Parked => {}
            TraceEnd::Failed(error) => self.recording.refuse(&format!("{error:#}")),
        }
        self.file
            .write_all(self.recording.page().as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}
