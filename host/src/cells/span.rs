//! Spans for whoever collects traces: a session, in it each cell, in that each nested call.
//!
//! They carry ids, names of tools, outcomes and figures; never a program, an argument, an
//! output or the text of an error, which may be anybody's secrets.

use crate::backend::{
    CellId, CellReport, CellUsage, CodeModeNestedToolCall, LimitKind, RuntimeResponse,
};
use tracing::Span;
use tracing::field::Empty;

/// A session, from its first cell's admission until the last is forgotten.
pub(super) fn session() -> Span {
    tracing::info_span!("session")
}

/// A cell, from its admission to its end.
pub(super) fn cell(session: &Span, id: &CellId) -> Span {
    tracing::info_span!(
        parent: session,
        "cell",
        cell_id = %id,
        // `completed`, `failed`, `terminated`, `parked`, or `lost`, when there is no last response.
        outcome = Empty,
        // The limit that ended it.
        limit = Empty,
        fuel = Empty,
        peak_memory_bytes = Empty,
        // Time spent running, in microseconds.
        running_us = Empty,
        calls = Empty,
        output_bytes = Empty,
    )
}

/// A nested call, from the moment at which the program made it until its outcome is known.
pub(super) fn call(cell: &Span, call: &CodeModeNestedToolCall) -> Span {
    tracing::info_span!(
        parent: cell,
        "call",
        tool = %call.tool_name,
        call_id = %call.runtime_tool_call_id,
        // `returned` or `failed`.
        outcome = Empty,
    )
}

/// The outcome of a call, for its span.
pub(super) fn record_call(span: &Span, returned: bool) {
    span.record("outcome", if returned { "returned" } else { "failed" });
}

/// Records that a cell was parked.
pub(super) fn parked(span: &Span) {
    span.record("outcome", "parked");
}

/// What a span says of the end of a cell.
pub(super) struct End {
    outcome: &'static str,
    limit: Option<LimitKind>,
    usage: CellUsage,
}

impl End {
    /// The end with this last response.
    pub(super) fn of(response: &RuntimeResponse) -> Self {
        let outcome = match response {
            RuntimeResponse::Result { error_text: None, .. } => "completed",
            RuntimeResponse::Terminated { .. } => "terminated",
            RuntimeResponse::Result { .. } | RuntimeResponse::Yielded { .. } => "failed",
        };
        let CellReport { usage, limit, .. } = response.report();
        Self { outcome, limit: *limit, usage: *usage }
    }

    /// Records it; `None` is an end without a last response.
    pub(super) fn record(span: &Span, end: Option<&Self>) {
        let Some(&Self { outcome, limit, usage }) = end else {
            span.record("outcome", "lost");
            return;
        };
        span.record("outcome", outcome);
        if let Some(limit) = limit {
            span.record("limit", tracing::field::display(limit));
        }
        let running_us = u64::try_from(usage.running_time.as_micros()).unwrap_or(u64::MAX);
        span.record("fuel", usage.fuel);
        span.record("peak_memory_bytes", usage.peak_memory_bytes);
        span.record("running_us", running_us);
        span.record("calls", usage.calls);
        span.record("output_bytes", usage.output_bytes);
    }
}
