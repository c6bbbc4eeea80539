//! Who follows a cell while it runs.

use super::{CellUsage, CodeModeNestedToolCall, ContentItem, RuntimeResponse};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Receives what happens to a cell, when it happens: for those who record or show it.
///
/// It is called on the task that owns the cell, in part under a lock, so it must return at
/// once and must not call the backend. One that panics receives nothing more, and its cell
/// goes on. A cell that dies without a last response ends without [`CellEvent::Ended`]; its
/// monitor is dropped then, as after every end.
///
/// ```
/// use cellblock::*;
/// use std::sync::{Arc, Mutex};
///
/// #[derive(Default)]
/// struct Places(Mutex<Vec<String>>);
///
/// impl CellMonitor for Places {
///     fn event(&self, event: CellEvent<'_>) {
///         if let CellEvent::Waiting { place: Some(place), .. } = event {
///             self.0.lock().unwrap().push(place.to_owned());
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let places = Arc::new(Places::default());
/// let request = ExecuteRequest {
///     monitor: MonitorHandle::new(Arc::clone(&places) as _),
///     ..ExecuteRequest::new("await new Promise((done) => setTimeout(done, 1))")
/// };
/// CodeModeService::new(Arc::new(WasmBackend::new()?)).execute(request).await?;
/// assert_eq!(*places.0.lock().unwrap(), ["exec_main.mjs:1:1"]);
/// # Ok(())
/// # }
/// ```
pub trait CellMonitor: Send + Sync {
    /// Something happened.
    fn event(&self, event: CellEvent<'_>);
}

/// What happens to a cell. Its program runs from the start until it waits or ends.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum CellEvent<'a> {
    /// The cell was admitted.
    Started,
    /// The program waits for calls or timers.
    Waiting {
        /// The place of the top-level `await` at which it is suspended, as
        /// `exec_main.mjs:LINE:COLUMN`, where it is known.
        place: Option<&'a str>,
        /// What the cell has used so far.
        usage: &'a CellUsage,
    },
    /// The program runs on.
    Resumed,
    /// A piece of output.
    Output(&'a ContentItem),
    /// A notification.
    Notification(&'a str),
    /// A nested call was made.
    CallStarted(&'a CodeModeNestedToolCall),
    /// A nested call has ended. What has not ended when the cell does was cancelled.
    CallEnded {
        /// The call's [`runtime_tool_call_id`](CodeModeNestedToolCall::runtime_tool_call_id).
        runtime_tool_call_id: &'a str,
        /// The result as JSON, or the text that the promise is rejected with.
        result: Result<&'a str, &'a str>,
    },
    /// A caller was answered that the cell still runs.
    Yielded {
        /// What the cell has used so far.
        usage: &'a CellUsage,
    },
    /// The cell was parked: it is bytes now, and has left its session. Nothing follows.
    Parked,
    /// The cell has ended, with this last response. Nothing follows.
    Ended(&'a RuntimeResponse),
}

/// The monitor of a cell, if it has one. In an [`ExecuteRequest`](super::ExecuteRequest).
#[derive(Clone, Default)]
pub struct MonitorHandle(Option<Arc<dyn CellMonitor>>);

impl MonitorHandle {
    /// This monitor.
    pub fn new(monitor: Arc<dyn CellMonitor>) -> Self {
        Self(Some(monitor))
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Sends an event, if there is a monitor; for implementors of a backend.
    pub fn send(&mut self, event: CellEvent<'_>) {
        if let Some(monitor) = &self.0
            && catch_unwind(AssertUnwindSafe(|| monitor.event(event))).is_err()
        {
            tracing::error!("the monitor of a cell panicked, and receives nothing more");
            self.0 = None;
        }
    }
}

impl fmt::Debug for MonitorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MonitorHandle").field(&self.is_set()).finish()
    }
}

impl PartialEq for MonitorHandle {
    /// Whether it is the same monitor.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}
