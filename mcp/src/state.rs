//! Sessions on disk: a file for each, replaced in one go.

use crate::replace::replace_file;
use cellblock::support::lock;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Bytes that a session's file may have: more than JSON makes of the most that is stored.
const MAX_BYTES: u64 = 1 << 28;
/// Sessions that are kept; those that were written first make room.
const MAX_FILES: usize = 10_000;
/// Sessions that make room at a time.
const ROOM: usize = 500;
/// How the name of a session's file ends.
const ENDING: &str = ".json";

/// A folder with sessions. Its methods wait for the disk.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
    /// How many sessions it has.
    files: Arc<Mutex<usize>>,
}

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
        let folder = Self { path: path.to_owned(), files: Arc::default() };
        *lock(&folder.files) = folder.sessions()?.len();
        Ok(folder)
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
        let is_new = !path.exists();
        replace_file(&path, &text, None)?;
        if is_new {
            self.make_room(MAX_FILES)?;
        }
        Ok(())
    }

    /// Counts a new session, and removes old ones when there are too many.
    fn make_room(&self, most: usize) -> std::io::Result<()> {
        let mut files = lock(&self.files);
        *files += 1;
        if *files <= most {
            return Ok(());
        }
        let mut sessions = self.sessions()?;
        sessions.sort_unstable();
        let excess = (sessions.len() + ROOM).saturating_sub(most).min(sessions.len());
        for (_, path) in sessions.drain(..excess) {
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
        *files = sessions.len();
        Ok(())
    }

    /// The files of sessions, each with the time when it was written.
    fn sessions(&self) -> std::io::Result<Vec<(SystemTime, PathBuf)>> {
        let mut sessions = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            // What is something else here is left alone.
            if id.is_some_and(|id| self.file(id).is_some()) {
                sessions.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        Ok(sessions)
    }

    /// The file of a session: a handle that is none names no file.
    fn file(&self, id: &str) -> Option<PathBuf> {
        let is_handle =
            id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_handle.then(|| self.path.join(format!("{id}{ENDING}")))
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

    #[test]
    fn the_oldest_make_room() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("notes.json"), "").expect("a file");
        let state = StateFolder::open(dir.path()).expect("a folder");
        let id = |n: u64| format!("{n:032x}");
        let age = |n: u64| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
        for n in 0..3 {
            state.write(&id(n), &Kept::default()).expect("written");
            let file = std::fs::File::open(state.file(&id(n)).expect("a name")).expect("there");
            file.set_modified(age(n)).expect("a time");
        }
        assert_eq!(*lock(&state.files), 3);
        state.make_room(ROOM).expect("there is room");
        assert_eq!(state.sessions().expect("a list").len(), 3);
        *lock(&state.files) = ROOM + 2;
        state.make_room(ROOM + 2).expect("room is made");
        let left: Vec<_> = (0..3).filter(|n| state.read(&id(*n)).is_some()).collect();
        assert_eq!(left, [1, 2]);
        assert_eq!(*lock(&StateFolder::open(dir.path()).expect("a folder").files), 2);
        assert!(dir.path().join("notes.json").exists());
    }

    fn read_again(state: &StateFolder, id: &str) -> Kept {
        state.read(id).unwrap_or_default()
    }
}
