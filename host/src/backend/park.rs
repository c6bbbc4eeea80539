//! Parking: a cell that waits becomes bytes, and bytes become a cell.

use super::{CellId, ContentItem, ToolInput};
use crate::cells::PendingCalls;
use crate::limits::OverLimit;
use crate::tools::{ToolDefinition, ToolName};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A cell that waits, as bytes: they may outlive the process, travel to another machine, and
/// be woken there.
///
/// Whoever has them has all that the program knows; they are encrypted only where the host
/// has a key for that. See `docs/parking.md`.
#[derive(Clone, PartialEq, Eq)]
pub struct ParkedCell(Arc<[u8]>);

impl ParkedCell {
    /// What the bytes begin with.
    pub(crate) const MAGIC: &[u8; 8] = b"CBPARKED";
    /// The version of the format that is written and read.
    pub const VERSION: u16 = 1;

    /// Takes bytes that a cell was parked as.
    ///
    /// Whether they were changed since is found out when they are woken, for that takes the
    /// host's key.
    ///
    /// # Errors
    /// [`ParkError::NotParked`] and [`ParkError::Version`].
    ///
    /// ```
    /// use cellblock::{ParkError, ParkedCell};
    ///
    /// assert_eq!(ParkedCell::from_bytes(*b"something else"), Err(ParkError::NotParked));
    /// ```
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self, ParkError> {
        let bytes = bytes.into();
        let rest = bytes.strip_prefix(Self::MAGIC).ok_or(ParkError::NotParked)?;
        let version = rest.first_chunk().map(|version| u16::from_le_bytes(*version));
        match version {
            Some(Self::VERSION) => Ok(Self(bytes)),
            Some(found) => Err(ParkError::Version { found }),
            None => Err(ParkError::NotParked),
        }
    }

    /// The bytes, to be kept or sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ParkedCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkedCell").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

/// What [`CodeModeBackend::park`](super::CodeModeBackend::park) leaves of a cell.
#[derive(Debug)]
pub struct Parked {
    /// The cell.
    pub cell: ParkedCell,
    /// Its nested calls that have not ended. They run on, and their ends may go into the
    /// [`WakeRequest`]; dropped, they are cancelled.
    pub calls: PendingCalls,
    /// Output that had left the cell's host and reached no caller, of a cell in another
    /// process. What no caller was sent is in the cell, which says it again when it is woken.
    pub content_items: Vec<ContentItem>,
    /// How long until the cell has something to do by itself: until its next timer is due, or
    /// its total time is over. `None` from a host that does not say.
    pub wakes_in: Option<Duration>,
}

/// A parked cell that is to be woken.
#[derive(Debug)]
pub struct WakeRequest {
    /// The cell.
    pub cell: ParkedCell,
    /// The nested calls that were pending, as far as the caller has them: they run on as calls
    /// of the woken cell. For each of the others the turn's host is asked to
    /// [resume](super::CodeModeTurnHost::resume_call) it.
    pub calls: PendingCalls,
    /// The tools that the program may call from now on, of those that it was started with:
    /// a call of another is rejected. `None` for all of them. An image carries the tools'
    /// identities, so a host whose sessions may call different tools must say which.
    pub enabled_tools: Option<Arc<[ToolDefinition]>>,
    /// The model's call that wakes the cell: notifications carry it. `None` for the one that
    /// started the cell.
    pub tool_call_id: Option<String>,
    /// As [`ExecuteRequest::yield_time_ms`](super::ExecuteRequest::yield_time_ms).
    pub yield_time_ms: Option<u64>,
    /// Whether the woken cell is a copy of one that goes on elsewhere: its `Math.random` goes
    /// on from another seed. A backend that has woken the same cell before makes a fork
    /// without being asked.
    pub is_fork: bool,
    /// Time since the cell was parked that counts for its timers and its total time, as if it
    /// had waited in a session; zero unless the caller knows it.
    pub elapsed: Duration,
}

impl WakeRequest {
    /// Wakes a cell as it was parked.
    pub fn new(cell: ParkedCell) -> Self {
        Self {
            cell,
            calls: PendingCalls::default(),
            enabled_tools: None,
            tool_call_id: None,
            yield_time_ms: None,
            is_fork: false,
            elapsed: Duration::ZERO,
        }
    }
}

/// A nested call that a parked cell waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct ParkedCall {
    /// `tool-1`, `tool-2`, ... in the order of the cell's calls.
    pub runtime_tool_call_id: String,
    /// The tool.
    pub tool_name: ToolName,
    /// The argument; `None` when the program gave none.
    pub input: Option<ToolInput>,
}

/// What a parked cell waits for, for those who are to wake it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParkedInfo {
    /// The nested calls that it waits for, in the order in which they were made.
    pub calls: Vec<ParkedCall>,
    /// How long after it was parked its next timer is due; `None` when it has none.
    pub timer_in: Option<Duration>,
    /// How long after it was parked its total time is over.
    pub ends_in: Duration,
    /// Time since it was parked, for [`WakeRequest::elapsed`]: by the wall clocks of the two
    /// hosts, so zero where the one of this host is behind; and no longer than its total time.
    pub elapsed: Duration,
}

/// Why a cell was not parked or not woken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParkError {
    /// The bytes are something else.
    #[error("these bytes are not a parked cell")]
    NotParked,
    /// It is of another version of the format.
    #[error(
        "the parked cell has version {found} of the format, and this host reads version {}",
        ParkedCell::VERSION
    )]
    Version {
        /// The version that it has.
        found: u16,
    },
    /// It was parked by a build of Cellblock with another sandbox.
    #[error("the parked cell needs the sandbox of another build of Cellblock than this host's")]
    OtherGuest,
    /// It was parked by a host with another key.
    #[error("the parked cell was made with another key than this host's")]
    OtherKey,
    /// The bytes are not as they were made.
    #[error("the parked cell is damaged")]
    Damaged,
    /// It was started with a limit that the session would not grant.
    #[error("the parked cell may use more than this session allows: {0}")]
    OverLimits(OverLimit),
    /// It was woken before, and the session forbids forks.
    #[error("a second wake of a parked cell is a fork, and this session forbids forks")]
    ForkForbidden,
    /// The request names a pending call that the parked cell does not have.
    #[error("the parked cell has no pending call {0}")]
    UnknownCall(String),
    /// No earlier process kept a cell under this name, or its program was running when that
    /// process ended.
    #[error(
        "no cell is kept under this name: it goes on here already, has ended, or was running when its \
         host ended"
    )]
    NotKept,
    /// There is no such cell, or no longer; the text says more.
    #[error("exec cell {0} not found{1}")]
    Missing(CellId, &'static str),
    /// The cell ended before it came to rest. Its result waits to be fetched.
    #[error("exec cell {0} ended before it could be parked; wait for its result")]
    Ended(CellId),
    /// Another caller is parking the cell.
    #[error("exec cell {0} is already being parked")]
    AlreadyParking(CellId),
    /// The system has no randomness for keys and names.
    #[error("a cell cannot be parked while the system has no randomness to give")]
    NoRandomness,
    /// The cell is larger than a parked cell may be. It runs on.
    #[error("exec cell {cell} is too large to be parked: {bytes} bytes, and at most {limit} fit")]
    TooLarge {
        /// The cell.
        cell: CellId,
        /// Bytes that it would take.
        bytes: usize,
        /// Bytes that it may take.
        limit: usize,
    },
}
