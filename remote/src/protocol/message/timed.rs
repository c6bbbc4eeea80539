//! Responses with the times that a host measured.

use super::SeamResponse;
use cellblock::{CellId, CellReport, ContentItem, RuntimeResponse, WaitOutcome};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A [`RuntimeResponse`] with the times a host measured. Hosts of before 0.152
/// send none, so both are optional when read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum TimedResponse {
    /// The cell still runs.
    Yielded {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// From the request's arrival to this, in nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code_mode_host_duration_ns: Option<u64>,
        /// Only where [`SEAM_CAPABILITY`](crate::protocol::SEAM_CAPABILITY) was granted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seam: Option<Box<SeamResponse>>,
    },
    /// The cell was terminated.
    Terminated {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// From the request's arrival to this, in nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code_mode_host_duration_ns: Option<u64>,
        /// Only where [`SEAM_CAPABILITY`](crate::protocol::SEAM_CAPABILITY) was granted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seam: Option<Box<SeamResponse>>,
    },
    /// The cell ended.
    Result {
        /// The cell.
        cell_id: CellId,
        /// Output since the last response.
        content_items: Vec<ContentItem>,
        /// Why the program failed.
        error_text: Option<String>,
        /// How long the result waited to be fetched, in nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result_buffered_for_ns: Option<u64>,
        /// From the request's arrival to this, in nanoseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code_mode_host_duration_ns: Option<u64>,
        /// Only where [`SEAM_CAPABILITY`](crate::protocol::SEAM_CAPABILITY) was granted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seam: Option<Box<SeamResponse>>,
    },
}

impl TimedResponse {
    /// Bytes that came from a cell.
    pub(crate) fn carried_bytes(&self) -> usize {
        let (Self::Yielded { content_items, .. }
        | Self::Terminated { content_items, .. }
        | Self::Result { content_items, .. }) = self;
        let error_text = match self {
            Self::Result { error_text, .. } => error_text.as_ref().map_or(0, String::len),
            _ => 0,
        };
        let stored = self.seam().map_or(0, SeamResponse::carried_bytes);
        content_items.iter().map(ContentItem::byte_len).sum::<usize>() + error_text + stored
    }

    fn seam(&self) -> Option<&SeamResponse> {
        let (Self::Yielded { seam, .. }
        | Self::Terminated { seam, .. }
        | Self::Result { seam, .. }) = self;
        seam.as_deref()
    }

    /// Takes what only hosts of this project's send.
    pub(crate) fn take_seam(&mut self) -> Option<SeamResponse> {
        let (Self::Yielded { seam, .. }
        | Self::Terminated { seam, .. }
        | Self::Result { seam, .. }) = self;
        seam.take().map(|seam| *seam)
    }

    /// The same with what only clients of this project's take.
    #[must_use]
    pub(crate) fn with_seam(mut self, addition: SeamResponse) -> Self {
        let (Self::Yielded { seam, .. }
        | Self::Terminated { seam, .. }
        | Self::Result { seam, .. }) = &mut self;
        *seam = Some(Box::new(addition));
        self
    }

    /// A response that took `duration`; a result waited for `buffered` of it or before.
    pub fn new(response: RuntimeResponse, duration: Duration, buffered: Duration) -> Self {
        let nanos = |time: Duration| Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let code_mode_host_duration_ns = nanos(duration);
        match response {
            RuntimeResponse::Yielded { cell_id, content_items, .. } => {
                Self::Yielded { cell_id, content_items, code_mode_host_duration_ns, seam: None }
            }
            RuntimeResponse::Terminated { cell_id, content_items, .. } => {
                Self::Terminated { cell_id, content_items, code_mode_host_duration_ns, seam: None }
            }
            RuntimeResponse::Result { cell_id, content_items, error_text, .. } => Self::Result {
                cell_id,
                content_items,
                error_text,
                result_buffered_for_ns: nanos(buffered),
                code_mode_host_duration_ns,
                seam: None,
            },
        }
    }
}

impl From<TimedResponse> for RuntimeResponse {
    fn from(mut response: TimedResponse) -> Self {
        let report = response.take_seam().map_or_else(CellReport::default, |seam| seam.report);
        match response {
            TimedResponse::Yielded { cell_id, content_items, .. } => {
                Self::Yielded { cell_id, content_items, report }
            }
            TimedResponse::Terminated { cell_id, content_items, .. } => {
                Self::Terminated { cell_id, content_items, report }
            }
            TimedResponse::Result { cell_id, content_items, error_text, .. } => {
                Self::Result { cell_id, content_items, error_text, report }
            }
        }
    }
}

/// A [`WaitOutcome`] with the times a host measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimedWaitOutcome {
    /// The cell answered.
    LiveCell(TimedResponse),
    /// There is no such cell, or no longer.
    MissingCell(TimedResponse),
}

impl TimedWaitOutcome {
    /// An outcome that took `duration`; see [`TimedResponse::new`].
    pub fn new(outcome: WaitOutcome, duration: Duration, buffered: Duration) -> Self {
        match outcome {
            WaitOutcome::LiveCell(response) => {
                Self::LiveCell(TimedResponse::new(response, duration, buffered))
            }
            WaitOutcome::MissingCell(response) => {
                Self::MissingCell(TimedResponse::new(response, duration, buffered))
            }
        }
    }
}

impl From<TimedWaitOutcome> for WaitOutcome {
    fn from(outcome: TimedWaitOutcome) -> Self {
        match outcome {
            TimedWaitOutcome::LiveCell(response) => Self::LiveCell(response.into()),
            TimedWaitOutcome::MissingCell(response) => Self::MissingCell(response.into()),
        }
    }
}
