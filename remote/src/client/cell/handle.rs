//! A cell's task as its connection knows it.

use cellblock::cells::Callbacks;
use cellblock::{BoxFuture, CellId, CodeModeNestedToolCall, ToolResult};
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Receives the outcome of a nested call or a notification, and sends it to the host.
pub(in super::super) type Reply<T> =
    Box<dyn FnOnce(Result<T, String>) -> BoxFuture<'static, ()> + Send>;

/// What a connection receives for a cell.
pub(in super::super) enum Event {
    /// The host has admitted the cell.
    Admitted,
    /// The program calls a tool, or has called it before its cell was parked.
    Invoke {
        call: CodeModeNestedToolCall,
        is_resumed: bool,
        cancellation: CancellationToken,
        reply: Reply<ToolResult>,
    },
    /// The program notifies its host.
    Notify { call_id: String, text: String, cancellation: CancellationToken, reply: Reply<()> },
    /// The cell sleeps, and the host has kept it under this name; or it runs on.
    Kept(Option<String>),
    /// The cell has ended, and its last response waits on the host.
    Ended,
    /// The host asks to have the cell kept.
    Leave,
    /// The host has closed the cell.
    Closed,
    /// The connection is gone, and the cell with it unless it was kept.
    Lost,
}

/// A cell's task, as its connection knows it. Clones are handles to the same task.
#[derive(Clone)]
pub(in super::super) struct CellHandle {
    /// Its id on this side.
    pub(in super::super) id: CellId,
    /// Its id on the host, once it was admitted.
    host_id: Arc<OnceLock<CellId>>,
    /// Unbounded: calls and notifications in flight are bounded by the session.
    events: mpsc::UnboundedSender<Event>,
    /// Cancels its calls.
    pub(in super::super) calls: CancellationToken,
    /// Cancels its notifications.
    pub(in super::super) notifications: CancellationToken,
}

impl CellHandle {
    /// The handle of a new cell, and the events that it sends.
    pub(super) fn new(
        id: CellId,
        callbacks: &Callbacks<()>,
    ) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, events) = mpsc::unbounded_channel();
        let handle = Self {
            id,
            host_id: Arc::default(),
            events: sender,
            calls: callbacks.calls_token().clone(),
            notifications: callbacks.notifications_token().clone(),
        };
        (handle, events)
    }

    /// The cell was admitted under this id of the host's.
    pub(in super::super) fn admitted(&self, host_id: CellId) {
        // A repeated id is ignored; the first one stands.
        if self.host_id.set(host_id).is_ok() {
            self.send(Event::Admitted);
        }
    }

    /// Its id on the host; `None` until it was admitted.
    pub(in super::super) fn host_id(&self) -> Option<&CellId> {
        self.host_id.get()
    }

    /// Sends an event to the task. One that has ended needs none.
    pub(in super::super) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}
