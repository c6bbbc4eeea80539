//! Recordings: all that came into a cell from outside, so that it can be run again.
//!
//! `lines` is the format, `tape` what is written while a cell runs and read while it is run
//! again, `sent` what the two are compared by, `replay` the run, and `end` its end.

mod end;
mod lines;
mod replay;
mod sent;
mod tape;

pub(super) use lines::{Run, guest_limits};
pub use replay::{Divergence, RecordedEvent, Replay, ReplayError, Replayed, WaitingCall};
pub(super) use sent::hex;
pub(super) use tape::{End, Tape};

use crate::backend::CellId;
use std::fmt;
use std::sync::Arc;

/// Takes the recording of a cell.
type Keep = dyn Fn(&CellId, Recording) + Send + Sync;

/// What a session does with the recordings of its cells.
///
/// ```
/// use cellblock::recording::Recordings;
/// use std::sync::mpsc;
///
/// let (kept, _recordings) = mpsc::sync_channel(64);
/// let recordings = Recordings::new(move |cell, recording| {
///     // Full, and nobody takes them: this one is lost.
///     let _ = kept.try_send((cell.clone(), recording));
/// });
/// # let _ = recordings;
/// ```
#[derive(Clone)]
pub struct Recordings {
    keep: Arc<Keep>,
    most_bytes: usize,
}

impl Recordings {
    /// Bytes that the recording of one cell may have by default: 64 MiB.
    pub const MAX_BYTES: usize = 64 << 20;

    /// Hands each recording to `keep` when its cell has ended, in the cell's task: it must
    /// not block. The host holds what is recorded until then, beside what the cell's limits
    /// count.
    pub fn new(keep: impl Fn(&CellId, Recording) + Send + Sync + 'static) -> Self {
        Self { keep: Arc::new(keep), most_bytes: Self::MAX_BYTES }
    }

    /// Records at most so many bytes of a cell. One that has more is recorded up to the last
    /// step that fits, and says so.
    #[must_use]
    pub fn limited_to(self, bytes: usize) -> Self {
        Self { most_bytes: bytes, ..self }
    }

    /// Bytes that a recording may have.
    pub(super) fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    pub(super) fn keep(&self, cell: &CellId, bytes: Vec<u8>) {
        (self.keep)(cell, Recording(bytes.into()));
    }
}

impl fmt::Debug for Recordings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recordings").field("most_bytes", &self.most_bytes).finish_non_exhaustive()
    }
}

/// All that came into a cell: its program, the results of its calls, the stored values that it
/// loaded, the times that it was told and the seed of its random numbers.
///
/// It is text, a line of JSON for each step of the program; `docs/replay.md` has the format.
/// Whoever has it knows what the program knew.
#[derive(Clone, PartialEq, Eq)]
pub struct Recording(Arc<[u8]>);

impl Recording {
    /// Takes bytes that were a recording. [`Replay::new`] checks them.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, to be kept or sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}
