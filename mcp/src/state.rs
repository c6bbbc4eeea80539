//! Sessions on disk: a file for each, replaced in one go.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that a session's file may have.
const MAX_BYTES: u64 = 1 << 30;

/// A folder with the sessions of one user.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder(PathBuf);

/// What is kept of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) tainted: bool,
    pub(crate) values: HashMap<String, Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Whose session it is.
    owner: Option<String>,
    /// Values were stored by a program that had read untrusted text.
    tainted: bool,
    /// The values, as the JSON text that each is.
    values: BTreeMap<String, Box<RawValue>>,
}

impl StateFolder {
    /// Takes a folder, which is made for this user alone when it is missing.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    /// What is kept of a session; `None` when nothing is, or nothing that can be read.
    pub(crate) fn read(&self, id: &str) -> Option<Kept> {
        let path = self.file(id)?;
        let mut text = String::new();
        let file = std::fs::File::open(&path).ok()?;
        file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        let file: File = serde_json::from_str(&text)
            .inspect_err(|error| tracing::error!("{}: {error}", path.display()))
            .ok()?;
        let value = |(key, value): (String, Box<RawValue>)| {
            let text: Box<str> = value.into();
            (key, Arc::from(text))
        };
        Some(Kept {
            owner: file.owner.map(Arc::from),
            tainted: file.tainted,
            values: file.values.into_iter().map(value).collect(),
        })
    }

    /// Keeps a session. Once this returns, it survives the loss of power.
    pub(crate) fn write(&self, id: &str, kept: &Kept) -> std::io::Result<()> {
        let path = self.file(id).ok_or(std::io::ErrorKind::InvalidInput)?;
        let value = |(key, text): (&String, &Arc<str>)| {
            Ok((key.clone(), RawValue::from_string(text.to_string())?))
        };
        let values: Result<_, serde_json::Error> = kept.values.iter().map(value).collect();
        let file = File {
            owner: kept.owner.as_deref().map(str::to_owned),
            tainted: kept.tainted,
            values: values?,
        };
        let text = serde_json::to_string_pretty(&file)?;
        let mut draft = tempfile::Builder::new().prefix(".draft-").make_in(&self.0, |path| {
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
        })?;
        draft.write_all(text.as_bytes())?;
        draft.as_file().sync_all()?;
        draft.persist(&path).map_err(|error| error.error)?;
        std::fs::File::open(&self.0)?.sync_all()
    }

    /// The file of a session: a handle that is none names no file.
    fn file(&self, id: &str) -> Option<PathBuf> {
        let is_handle =
            id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_handle.then(|| self.0.join(format!("{id}.json")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_session_comes_back_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = StateFolder::open(&dir.path().join("new")).expect("a folder");
        let id = "0123456789abcdef0123456789abcdef";
        let kept = Kept {
            owner: Some("tenant".into()),
            tainted: true,
            values: [("big".to_owned(), Arc::from("12345678901234567890123"))].into(),
        };
        state.write(id, &kept).expect("written");
        let read = state.read(id).expect("kept");
        assert_eq!((read.owner, read.tainted, read.values), (kept.owner, true, kept.values));
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("new")), 0o700);
        assert_eq!(mode(&dir.path().join("new").join(format!("{id}.json"))), 0o600);
        for none in ["", "../../etc/passwd", "0123456789ABCDEF0123456789ABCDEF"] {
            assert!(
                state.read(none).is_none() && state.write(none, &read_again(&state, id)).is_err()
            );
        }
        std::fs::write(dir.path().join("new").join(format!("{id}.json")), "{").expect("broken");
        assert!(state.read(id).is_none());
    }

    fn read_again(state: &StateFolder, id: &str) -> Kept {
        state.read(id).unwrap_or_default()
    }
}
