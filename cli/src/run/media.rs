//! Images and audio: `data:` URLs written as files.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::{Path, PathBuf};

/// Bytes and kind of a `data:` URL.
pub struct Media {
    kind: String,
    bytes: Vec<u8>,
}

impl Media {
    /// Reads a `data:` URL; `None` when it is none, or its base64 is broken.
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

    /// Writes it into a folder, numbered.
    pub fn write(&self, folder: &Path, number: usize) -> Result<PathBuf> {
        let path = folder.join(format!("output-{number}.{}", self.extension()));
        std::fs::write(&path, &self.bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The subtype where it is a plain word, so that a script names no path.
    fn extension(&self) -> &str {
        match self.kind.as_str() {
            "image/jpeg" => "jpg",
            "image/svg+xml" => "svg",
            "audio/mpeg" => "mp3",
            kind => kind
                .split_once('/')
                .map(|(_, subtype)| subtype)
                .filter(|subtype| !subtype.is_empty() && subtype.len() <= 8)
                .filter(|subtype| subtype.bytes().all(|byte| byte.is_ascii_alphanumeric()))
                .unwrap_or("bin"),
        }
    }
}
