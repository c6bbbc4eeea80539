//! What happened to a cell, in order: bounded in number and in bytes. The beginning stays,
//! and of the rest the newest; what has not ended yet stays longest.

use crate::text::Text;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Entries that are kept.
pub(crate) const MAX_ENTRIES: usize = 4_000;
/// Of these, entries at the beginning, which stay.
pub(crate) const FIRST_ENTRIES: usize = 1_000;
/// Bytes of texts that are kept, over all entries.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Of these, bytes at the beginning, which stay.
const FIRST_BYTES: usize = MAX_BYTES / 4;

/// Something that happened. Times are in microseconds since the cell's start.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// Its number, from 0 in the order in which entries began.
    number: u64,
    /// When it began.
    at: u64,
    /// When it ended; absent while it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// The version of the recording at which it changed last.
    #[serde(skip)]
    version: u64,
    #[serde(flatten)]
    what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum What {
    /// The program waited at a top-level `await`.
    Wait {
        /// Where; absent when that is not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
    },
    /// A nested call.
    Call {
        tool: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Option<Text>,
        #[serde(skip_serializing_if = "Option::is_none")]
        end: Option<CallEnd>,
    },
    /// A text that was printed.
    Text { text: Text },
    /// An image or sound that was printed.
    Media {
        /// Such as `image/png`.
        kind: String,
        /// Bytes of its `data:` URL.
        bytes: usize,
        /// The URL, of an image that is small and of a kind that contains no scripts.
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<String>,
    },
    /// A notification.
    Notification { text: Text },
    /// A caller was answered that the cell still runs.
    Yield,
    /// A person was asked to approve a call.
    Approval {
        question: Text,
        /// The answer; absent when nobody gave one.
        #[serde(skip_serializing_if = "Option::is_none")]
        approved: Option<bool>,
    },
}

/// A place in a program: its line and column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// How a call ended.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub(crate) enum CallEnd {
    Succeeded { result: Text },
    Failed { error: Text },
    Cancelled,
}

/// Entries that were not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Dropped {
    pub(crate) calls: u64,
    pub(crate) output: u64,
    pub(crate) other: u64,
}

/// The entries of a recording.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    kept: BTreeMap<u64, Entry>,
    /// Entries that have ended and are not of the beginning, in the order in which they end.
    droppable: VecDeque<u64>,
    /// The number of the next entry.
    next: u64,
    /// Bytes of the texts that are kept.
    bytes: usize,
    /// Of these, those of the beginning.
    first_bytes: usize,
    dropped: Dropped,
}

impl Entries {
    /// Adds what has only begun; `None` when there is no room.
    pub(crate) fn begin(&mut self, at: u64, version: u64, what: What) -> Option<u64> {
        self.add(Entry { number: self.next, at, until: None, version, what })
    }

    /// Adds what has no duration.
    pub(crate) fn moment(&mut self, at: u64, version: u64, what: What) {
        let added = self.add(Entry { number: self.next, at, until: Some(at), version, what });
        if let Some(number) = added {
            self.ended(number);
        }
    }

    /// Ends what has begun. `change` may add a text, which is left out where there is no room.
    pub(crate) fn end(
        &mut self,
        number: u64,
        at: u64,
        version: u64,
        change: impl FnOnce(&mut What),
    ) {
        let Some(mut entry) = self.kept.remove(&number) else { return };
        self.bytes -= entry.what.bytes();
        change(&mut entry.what);
        entry.until = Some(at);
        entry.version = version;
        if !self.make_room(entry.what.bytes()) {
            entry.what.clear();
        }
        self.bytes += entry.what.bytes();
        self.kept.insert(number, entry);
        self.ended(number);
    }

    /// Those that changed after a version of the recording.
    pub(crate) fn since(&self, version: u64) -> impl Iterator<Item = &Entry> {
        self.kept.values().filter(move |entry| entry.version > version)
    }

    /// First and last number of each row of entries that are kept.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in self.kept.keys() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => ranges.push((*number, *number)),
            }
        }
        ranges
    }

    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn add(&mut self, entry: Entry) -> Option<u64> {
        let number = self.next;
        self.next += 1;
        while self.kept.len() >= MAX_ENTRIES && self.drop_oldest() {}
        let bytes = entry.what.bytes();
        if self.kept.len() >= MAX_ENTRIES || !self.make_room(bytes) {
            self.dropped.count(&entry.what);
            return None;
        }
        self.bytes += bytes;
        self.kept.insert(number, entry);
        Some(number)
    }

    /// An entry may be dropped from now on, unless it is of the beginning.
    fn ended(&mut self, number: u64) {
        let bytes = self.kept.get(&number).map_or(0, |entry| entry.what.bytes());
        if number < FIRST_ENTRIES as u64 && self.first_bytes + bytes <= FIRST_BYTES {
            self.first_bytes += bytes;
        } else {
            self.droppable.push_back(number);
        }
    }

    /// Drops old entries until so many bytes fit. False when they cannot.
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.bytes + bytes > MAX_BYTES && self.drop_oldest() {}
        self.bytes + bytes <= MAX_BYTES
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.droppable.pop_front() else { return false };
        if let Some(entry) = self.kept.remove(&oldest) {
            self.bytes -= entry.what.bytes();
            self.dropped.count(&entry.what);
        }
        true
    }
}

impl What {
    /// Bytes of texts in it.
    fn bytes(&self) -> usize {
        match self {
            Self::Wait { .. } | Self::Yield => 0,
            Self::Text { text } | Self::Notification { text } => text.len(),
            Self::Approval { question, .. } => question.len(),
            Self::Media { kind, url, .. } => kind.len() + url.as_ref().map_or(0, String::len),
            Self::Call { tool, input, end } => {
                let end = match end {
                    Some(CallEnd::Succeeded { result: text } | CallEnd::Failed { error: text }) => {
                        text.len()
                    }
                    Some(CallEnd::Cancelled) | None => 0,
                };
                tool.len() + input.as_ref().map_or(0, Text::len) + end
            }
        }
    }

    /// Keeps nothing of what was added at the end.
    fn clear(&mut self) {
        if let Self::Call {
            end: Some(CallEnd::Succeeded { result: text } | CallEnd::Failed { error: text }),
            ..
        } = self
        {
            text.clear();
        }
    }
}

impl Dropped {
    fn count(&mut self, what: &What) {
        *match what {
            What::Call { .. } => &mut self.calls,
            What::Text { .. } | What::Media { .. } => &mut self.output,
            What::Wait { .. } | What::Notification { .. } | What::Yield | What::Approval { .. } => {
                &mut self.other
            }
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> What {
        What::Text { text: Text::new(&"x".repeat(bytes), bytes) }
    }

    fn call(input: usize) -> What {
        let input = Some(Text::new(&"x".repeat(input), input));
        What::Call { tool: String::new(), input, end: None }
    }

    #[test]
    fn the_beginning_and_the_newest_stay() {
        let mut entries = Entries::default();
        for at in 0..100_000 {
            entries.moment(at, at, text(1));
        }
        let first = FIRST_ENTRIES as u64;
        let rest = (MAX_ENTRIES - FIRST_ENTRIES) as u64;
        assert_eq!(entries.ranges(), [(0, first - 1), (100_000 - rest, 99_999)]);
        assert_eq!(entries.dropped().output, 100_000 - MAX_ENTRIES as u64);
        assert_eq!(entries.since(99_997).count(), 2);
    }

    #[test]
    fn bytes_are_bounded_however_large_the_texts_are() {
        let mut entries = Entries::default();
        for at in 0..10_000 {
            entries.moment(at, at, text(10_000));
            assert!(entries.bytes <= MAX_BYTES);
        }
        assert_eq!(entries.ranges().first().map(|range| range.0), Some(0));
        assert_eq!(entries.ranges().last().map(|range| range.1), Some(9_999));
        let kept = entries.since(0).count();
        assert!((100..=105).contains(&kept), "{kept}");
    }

    #[test]
    fn what_has_not_ended_outlives_what_has() {
        let mut entries = Entries::default();
        for at in 0..FIRST_ENTRIES as u64 {
            entries.moment(at, at, text(1));
        }
        let open = entries.begin(0, 0, call(10)).expect("room");
        for at in 0..10_000 {
            entries.moment(at, at, text(1));
        }
        assert!(entries.kept.contains_key(&open));
        let end = |what: &mut What| {
            if let What::Call { end, .. } = what {
                *end = Some(CallEnd::Succeeded { result: Text::new("done", 10) });
            }
        };
        entries.end(open, 7, 20_000, end);
        assert_eq!(entries.kept[&open].until, Some(7));
        assert_eq!(entries.since(19_999).count(), 1);
        for at in 0..10_000 {
            entries.moment(at, at, text(1));
        }
        assert!(!entries.kept.contains_key(&open));
        // It has gone, which is no reason to fail.
        entries.end(open, 8, 8, |_| {});
    }

    #[test]
    fn when_nothing_has_ended_the_new_is_not_kept() {
        let mut entries = Entries::default();
        for at in 0..MAX_ENTRIES as u64 {
            assert!(entries.begin(at, at, call(0)).is_some());
        }
        assert!(entries.begin(0, 0, call(0)).is_none());
        assert_eq!(entries.dropped(), Dropped { calls: 1, ..Dropped::default() });

        let mut entries = Entries::default();
        let one = entries.begin(0, 0, call(MAX_BYTES - 1)).expect("room");
        assert!(entries.begin(0, 0, call(2)).is_none());
        entries.end(one, 1, 1, |what| {
            if let What::Call { end, .. } = what {
                *end = Some(CallEnd::Failed { error: Text::new("too much", 100) });
            }
        });
        assert!(entries.bytes <= MAX_BYTES);
        let entry = serde_json::to_value(&entries.kept[&one]).expect("JSON");
        assert_eq!(entry["end"]["error"]["cut"], 8);
    }
}
