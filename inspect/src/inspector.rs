//! The recordings of a process.

use crate::recording::{About, Recording};
use crate::shown::Summary;
use cellblock::support::lock;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Cells whose recordings are kept. Of those that have ended, the oldest makes room; a cell
/// that starts while so many are alive is not recorded.
const MAX_CELLS: usize = 100;

/// The recordings of a process, for people who look at it. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub struct Inspector(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cells: Mutex<Cells>,
    /// Counts changes of anything.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Cells {
    kept: BTreeMap<u64, Recording>,
    /// Number of the last recording.
    last: u64,
    /// Cells that were not recorded.
    unrecorded: u64,
}

/// What the page shows.
#[derive(Serialize)]
struct Shown {
    /// The count of changes.
    version: u64,
    /// Newest first.
    cells: Vec<Line>,
    unrecorded: u64,
    /// The recording that was asked for, where it is still kept.
    recording: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Line {
    number: u64,
    #[serde(flatten)]
    summary: Summary,
}

impl Default for Inspector {
    fn default() -> Self {
        Self::new()
    }
}

impl Inspector {
    /// No recordings yet.
    pub fn new() -> Self {
        Self(Arc::new(Shared { cells: Mutex::default(), changes: watch::Sender::new(1) }))
    }

    /// Starts the recording of a cell. `None` when as many cells as can be recorded are alive.
    pub fn record(&self, about: About) -> Option<Recording> {
        let mut cells = lock(&self.0.cells);
        if cells.kept.len() >= MAX_CELLS {
            let ended = cells.kept.iter().find(|(_, recording)| recording.has_ended());
            let Some(oldest) = ended.map(|(number, _)| *number) else {
                cells.unrecorded += 1;
                return None;
            };
            cells.kept.remove(&oldest);
        }
        let recording = Recording::announced(about, Some(self.0.changes.clone()));
        cells.last += 1;
        let number = cells.last;
        cells.kept.insert(number, recording.clone());
        drop(cells);
        self.0.changes.send_modify(|count| *count += 1);
        Some(recording)
    }

    /// Counts changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    pub(crate) fn recording(&self, number: u64) -> Option<Recording> {
        lock(&self.0.cells).kept.get(&number).cloned()
    }

    /// All cells, and what changed of one since a version of it, as JSON.
    pub(crate) fn to_json(&self, number: Option<u64>, since: u64) -> String {
        // Before anything is read, so that what changes meanwhile is read again.
        let version = *self.0.changes.borrow();
        let (kept, unrecorded) = {
            let cells = lock(&self.0.cells);
            (cells.kept.clone(), cells.unrecorded)
        };
        let line = |(number, recording): (&u64, &Recording)| Line {
            number: *number,
            summary: recording.summary(),
        };
        let cells: Vec<_> = kept.iter().rev().map(line).collect();
        let recording = number.and_then(|number| kept.get(&number));
        let recording =
            recording.and_then(|recording| RawValue::from_string(recording.since(since)).ok());
        let shown = Shown { version, cells, unrecorded, recording };
        serde_json::to_string(&shown).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(title: &str) -> About {
        About { title: title.to_owned(), ..About::default() }
    }

    #[test]
    fn ended_cells_make_room_and_living_ones_do_not() {
        let inspector = Inspector::new();
        let living: Vec<_> =
            (0..MAX_CELLS - 1).map(|_| inspector.record(about("living")).expect("room")).collect();
        for number in 0..10 {
            let ended = inspector.record(about(&format!("ended {number}"))).expect("room");
            ended.refuse("it never started");
        }
        let kept = lock(&inspector.0.cells).kept.len();
        assert_eq!(kept, MAX_CELLS);
        let last = inspector.record(about("alive as well")).expect("the last that ended has gone");
        assert!(inspector.record(about("one too many")).is_none());
        let shown: serde_json::Value =
            serde_json::from_str(&inspector.to_json(None, 0)).expect("JSON");
        assert_eq!(shown["unrecorded"], 1);
        assert_eq!(shown["cells"][0]["title"], "alive as well");
        assert_eq!(shown["recording"], serde_json::Value::Null);
        drop((living, last));
    }

    #[test]
    fn every_change_is_counted() {
        let inspector = Inspector::new();
        let changes = inspector.changes();
        let before = *changes.borrow();
        let recording = inspector.record(about("one")).expect("room");
        assert!(*changes.borrow() > before);
        let before = *changes.borrow();
        drop(recording.ask("may it?", |_| true));
        assert_eq!(*changes.borrow(), before + 2);
    }
}
