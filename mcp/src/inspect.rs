//! Cells as people look at them: with the lines and columns of their authors, without the
//! prelude that stands in front.

use crate::gateway::Gateway;
use crate::host::Cell;
use crate::prelude::{message_of, without_prelude};
use crate::session::Session;
use cellblock::{CellEvent, CellId, CellMonitor, MonitorHandle, RuntimeResponse};
use cellblock_inspect::About;
use std::sync::Arc;

/// Characters of a session's handle that are shown: the handle itself is a secret.
const SESSION_CHARS: usize = 6;

impl Gateway {
    /// Starts the recording of a cell, where somebody may look; what the request needs for it.
    pub(crate) fn record(
        &self,
        session: &Session,
        id: &CellId,
        cell: &Cell,
        code: &str,
    ) -> MonitorHandle {
        let Some(inspector) = &self.0.options.inspector else { return MonitorHandle::default() };
        let title = if self.is_implicit(session) {
            format!("cell {id}")
        } else {
            let session: String = session.id.chars().take(SESSION_CHARS).collect();
            format!("cell {id} of session {session}…")
        };
        let limits = self.0.options.limits.clone();
        let about = About { title, source: code.to_owned(), limits };
        let Some(recording) = inspector.record(about) else { return MonitorHandle::default() };
        let (recorder, prelude) = (recording.recorder(), cell.catalog.prelude.len());
        cell.set_recording(recording);
        MonitorHandle::new(Arc::new(WithoutPrelude { recorder, prelude }))
    }
}

impl Cell {
    /// Records an end that the backend does not know of.
    pub(crate) fn record_end(&self, response: &RuntimeResponse) {
        if let Some(recording) = self.recording() {
            recording.end(&end(response, self.catalog.prelude.len()));
        }
    }
}

/// Sends on what happens, with places set right.
struct WithoutPrelude {
    recorder: Arc<dyn CellMonitor>,
    prelude: usize,
}

impl CellMonitor for WithoutPrelude {
    fn event(&self, event: CellEvent<'_>) {
        match event {
            CellEvent::Waiting { place: Some(place), usage } => {
                let place = without_prelude(place, self.prelude);
                self.recorder.event(CellEvent::Waiting { place: Some(&place), usage });
            }
            CellEvent::CallEnded { runtime_tool_call_id, result: Err(error) } => {
                let error = message_of(error);
                let result = Err(error.as_ref());
                self.recorder.event(CellEvent::CallEnded { runtime_tool_call_id, result });
            }
            CellEvent::Ended(response) => {
                self.recorder.event(CellEvent::Ended(&end(response, self.prelude)));
            }
            event => self.recorder.event(event),
        }
    }
}

/// The end that a response says, without its output, which was recorded before.
fn end(response: &RuntimeResponse, prelude: usize) -> RuntimeResponse {
    let right = |text: &Option<String>| text.as_ref().map(|text| without_prelude(text, prelude));
    let mut report = response.report().clone();
    report.hint = right(&report.hint);
    let (cell_id, content_items) = (response.cell_id().clone(), Vec::new());
    match response {
        RuntimeResponse::Result { error_text, .. } => RuntimeResponse::Result {
            cell_id,
            content_items,
            error_text: right(error_text),
            report,
        },
        RuntimeResponse::Terminated { .. } => {
            RuntimeResponse::Terminated { cell_id, content_items, report }
        }
        RuntimeResponse::Yielded { .. } => {
            RuntimeResponse::Yielded { cell_id, content_items, report }
        }
    }
}
