//! What the monitor of a cell receives. Without one, nothing here costs anything.

use super::Cell;
use super::calls::CallEnd;
use super::guest::{Body, Guest};
use crate::backend::{CellEvent, MonitorHandle};

/// The monitor, and what it has received.
pub(super) struct Monitored {
    monitor: MonitorHandle,
    /// It knows that the program waits.
    waits: bool,
}

impl Monitored {
    /// The cell starts.
    pub(super) fn new(monitor: MonitorHandle) -> Self {
        let mut monitored = Self { monitor, waits: false };
        monitored.send(CellEvent::Started);
        monitored
    }

    /// Sends an event.
    pub(super) fn send(&mut self, event: CellEvent<'_>) {
        self.monitor.send(event);
    }

    /// A call has ended.
    pub(super) fn call_ended(&mut self, end: &CallEnd) {
        if self.monitor.is_set() {
            let result = end.result.as_deref().map_err(String::as_str);
            let id = format!("tool-{}", end.id);
            self.send(CellEvent::CallEnded { runtime_tool_call_id: &id, result });
        }
    }

    /// The program runs on.
    pub(super) fn resumed(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.send(CellEvent::Resumed);
        }
    }
}

impl Cell {
    /// Sends once that a program at rest waits, and where.
    pub(super) async fn report_wait(&mut self) {
        if self.monitored.waits || !self.monitored.monitor.is_set() {
            return;
        }
        let Guest::Resting { body: Body::Awake { sandbox, .. }, .. } = &mut self.guest else {
            return;
        };
        // Runs a few instructions, and no JavaScript.
        let place = sandbox.awaiting().await;
        let usage = self.usage_now();
        self.monitored.waits = true;
        self.monitored.send(CellEvent::Waiting { place: place.as_deref(), usage: &usage });
    }
}
