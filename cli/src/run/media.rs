//! Images and audio: `data:` URLs written as files.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// Files that one run may write.
const FILES: usize = 1_000;
/// Bytes that they may have in all.
const BYTES: usize = 256 << 20;
/// Names that are tried for a file, as earlier runs may have left theirs.
const NAMES: usize = 100_000;

/// Kinds that have an extension of their own. All others end in `bin`, so that a
/// program cannot leave what a browser or a desktop would run (SVG and HTML among them).
const EXTENSIONS: [(&str, &str); 19] = [
    ("audio/aac", "aac"),
    ("audio/flac", "flac"),
    ("audio/m4a", "m4a"),
    ("audio/mp3", "mp3"),
    ("audio/mp4", "m4a"),
    ("audio/mpeg", "mp3"),
    ("audio/ogg", "ogg"),
    ("audio/opus", "opus"),
    ("audio/wav", "wav"),
    ("audio/wave", "wav"),
    ("audio/webm", "webm"),
    ("audio/x-wav", "wav"),
    ("image/avif", "avif"),
    ("image/bmp", "bmp"),
    ("image/gif", "gif"),
    ("image/jpeg", "jpg"),
    ("image/jpg", "jpg"),
    ("image/png", "png"),
    ("image/webp", "webp"),
];

/// Bytes and kind of a `data:` URL.
pub struct Media {
    kind: String,
    bytes: Vec<u8>,
}

impl Media {
    /// Reads a `data:` URL; `None` for another URL, or broken base64.
    pub fn parse(url: &str) -> Option<Self> {
        let (head, body) = url.get(5..)?.split_once(',')?;
        let kind = head.split(';').next().unwrap_or_default().to_ascii_lowercase();
        let bytes = if head.to_ascii_lowercase().ends_with(";base64") {
            STANDARD.decode(body).ok()?
        } else {
            body.as_bytes().to_vec()
        };
        Some(Self { kind, bytes })
    }

    /// One line about it.
    pub fn describe(&self) -> String {
        format!("{}, {} bytes", self.kind, self.bytes.len())
    }

    fn extension(&self) -> &'static str {
        EXTENSIONS
            .iter()
            .find_map(|(kind, extension)| (*kind == self.kind).then_some(*extension))
            .unwrap_or("bin")
    }
}

/// The folder that media are written to.
pub struct Folder {
    path: PathBuf,
    /// The files that were written.
    files: Vec<PathBuf>,
    bytes: usize,
    /// Number of the next name to try.
    next: usize,
}

impl Folder {
    /// Makes the folder if there is none.
    pub fn create(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create --out-dir {}", path.display()))?;
        Ok(Self { path, files: Vec::new(), bytes: 0, next: 1 })
    }

    /// The files that were written.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Writes media to a file that does not exist yet, numbered.
    ///
    /// # Errors
    /// A text that says why it was not written.
    pub fn write(&mut self, media: &Media) -> Result<PathBuf, String> {
        if self.files.len() >= FILES {
            return Err(format!("not written, as {FILES} files were written before"));
        }
        let bytes = self.bytes + media.bytes.len();
        if bytes > BYTES {
            return Err(format!("not written, as all files would have more than {BYTES} bytes"));
        }
        for _ in 0..NAMES {
            let name = format!("output-{}.{}", self.next, media.extension());
            let path = self.path.join(name);
            self.next += 1;
            // A file that is there is left alone, and a link is not followed.
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(&media.bytes).map_err(|error| {
                        let _ = std::fs::remove_file(&path);
                        format!("cannot be written to {}: {error}", path.display())
                    })?;
                    self.bytes = bytes;
                    self.files.push(path.clone());
                    return Ok(path);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(format!("cannot be written to {}: {error}", path.display()));
                }
            }
        }
        Err(format!("not written, as {} is full of files from earlier runs", self.path.display()))
    }
}
