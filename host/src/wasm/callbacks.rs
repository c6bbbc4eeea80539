//! What a cell has running on the host's side: nested calls and notifications.
//!
//! Each is a task of its own in one join set, which the cell's task polls.
//! What no worker serves yet waits here. A panic or a lost task ends that call
//! alone, and every call ends exactly once.

use super::imports::Outbox;
use crate::backend as report;
use crate::backend::{CellId, CodeModeNestedToolCall, CodeModeTurnHost};
use crate::turns::CurrentTurn;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A nested call that has ended: its number, and the JSON of its result.
pub(super) type CallEnd = (u64, Result<String, String>);

/// What happens to callbacks.
pub(super) enum Next {
    /// A call has ended, or a notification (`None`).
    Ended(Option<CallEnd>),
    /// A worker has started or ended while something waits for one.
    WorkerChanged,
}

enum Done {
    Call(CallEnd),
    Notification,
}

/// Which callback a task carries.
#[derive(Clone, Copy)]
enum Kind {
    Call(u64),
    Notification,
}

/// The callbacks of one cell.
pub(super) struct Callbacks {
    cell_id: CellId,
    tool_call_id: String,
    result_bytes: usize,
    outbox: Arc<Outbox>,
    turn: CurrentTurn,
    calls: CancellationToken,
    notifications: CancellationToken,
    running: JoinSet<Done>,
    kinds: HashMap<tokio::task::Id, Kind>,
    waiting_calls: VecDeque<(u64, CodeModeNestedToolCall)>,
    waiting_notifications: VecDeque<String>,
    notifying: bool,
    /// The newest calls, for the report; `None` has not ended.
    recent: VecDeque<(u64, String, Option<report::CallEnd>)>,
}

impl Callbacks {
    pub(super) fn new(
        cell_id: CellId,
        tool_call_id: String,
        result_bytes: usize,
        outbox: Arc<Outbox>,
        turn: CurrentTurn,
    ) -> Self {
        Self {
            cell_id,
            tool_call_id,
            result_bytes,
            outbox,
            turn,
            calls: CancellationToken::new(),
            notifications: CancellationToken::new(),
            running: JoinSet::new(),
            kinds: HashMap::new(),
            waiting_calls: VecDeque::new(),
            waiting_notifications: VecDeque::new(),
            notifying: false,
            recent: VecDeque::new(),
        }
    }

    /// Starts a call, or lets it wait for a worker.
    pub(super) fn call(&mut self, id: u64, call: CodeModeNestedToolCall) {
        if self.recent.len() >= report::CellReport::MAX_CALLS {
            self.recent.pop_front();
        }
        self.recent.push_back((id, call.tool_name.to_string(), None));
        match self.turn.host() {
            Some(host) => self.start_call(host, id, call),
            None => self.waiting_calls.push_back((id, call)),
        }
    }

    /// Sends a notification after those before it.
    pub(super) fn notify(&mut self, text: String) {
        self.waiting_notifications.push_back(text);
        self.next_notification();
    }

    /// Hands what waits to the worker that serves now.
    pub(super) fn dispatch_waiting(&mut self) {
        let Some(host) = self.turn.host() else { return };
        while let Some((id, call)) = self.waiting_calls.pop_front() {
            self.start_call(Arc::clone(&host), id, call);
        }
        self.next_notification();
    }

    /// Whether any task runs.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether a notification is being delivered, or will be while a worker lives.
    pub(super) fn is_notifying(&self) -> bool {
        self.notifying
    }

    /// Whether [`Callbacks::next`] has anything to wait for.
    pub(super) fn has_next(&self) -> bool {
        !self.running.is_empty() || self.wants_worker()
    }

    /// The next thing to happen. Only while there is something to wait for.
    pub(super) async fn next(&mut self) -> Next {
        let wants_worker = self.wants_worker();
        let joined = tokio::select! {
            biased;
            Some(joined) = self.running.join_next_with_id() => joined,
            () = self.turn.changed(), if wants_worker => return Next::WorkerChanged,
            else => std::future::pending().await,
        };
        Next::Ended(self.ended(joined))
    }

    fn wants_worker(&self) -> bool {
        !self.waiting_calls.is_empty() || !self.waiting_notifications.is_empty()
    }

    /// A call that has ended already, if any: keeps batches large.
    pub(super) fn try_next(&mut self) -> Option<CallEnd> {
        loop {
            let joined = self.running.try_join_next_with_id()?;
            if let Some(end) = self.ended(joined) {
                return Some(end);
            }
        }
    }

    /// Asks calls to end, and drops those that wait.
    pub(super) fn cancel_calls(&mut self) {
        self.calls.cancel();
        for (_, _, end) in &mut self.recent {
            end.get_or_insert(report::CallEnd::Cancelled);
        }
        for _ in self.waiting_calls.drain(..) {
            self.outbox.call_ended();
        }
    }

    /// Asks calls and notifications to end, and drops those that wait.
    pub(super) fn cancel_all(&mut self) {
        self.cancel_calls();
        self.notifications.cancel();
        self.waiting_notifications.clear();
    }

    /// Drops notifications that no worker takes.
    pub(super) fn drop_undeliverable(&mut self) {
        if !self.notifying && !self.waiting_notifications.is_empty() {
            tracing::warn!(
                "failed to deliver code mode notification for cell {}: no turn is active",
                self.cell_id
            );
            self.waiting_notifications.clear();
        }
    }

    /// The newest calls and how they ended.
    pub(super) fn report(&self) -> Vec<report::CallReport> {
        let report = |(id, tool, end): &(u64, String, Option<_>)| report::CallReport {
            runtime_tool_call_id: format!("tool-{id}"),
            tool: tool.clone(),
            end: end.unwrap_or(report::CallEnd::Cancelled),
        };
        self.recent.iter().map(report).collect()
    }

    /// Ends what did not end when asked: its futures are dropped where they await.
    pub(super) fn abort(&mut self) {
        self.running.abort_all();
    }

    /// Tells the turn's host that the cell is closed.
    pub(super) fn cell_closed(&self) {
        if let Some(host) = self.turn.host() {
            host.cell_closed(&self.cell_id);
        }
    }

    fn note_end(&mut self, id: u64, succeeded: bool) {
        // Newest last, and most calls end soon after they were made.
        let call = self.recent.iter_mut().rev().find(|(each, ..)| *each == id);
        if let Some((_, _, end)) = call {
            let how = if succeeded { report::CallEnd::Succeeded } else { report::CallEnd::Failed };
            end.get_or_insert(how);
        }
    }

    fn start_call(
        &mut self,
        host: Arc<dyn CodeModeTurnHost>,
        id: u64,
        call: CodeModeNestedToolCall,
    ) {
        let (token, limit) = (self.calls.clone(), self.result_bytes);
        let task = self.running.spawn(async move {
            let result = host.invoke_tool(call, token).await;
            Done::Call((
                id,
                result.and_then(|result| {
                    result.into_json(limit).map_err(|error| format!("tool result is {error}"))
                }),
            ))
        });
        self.kinds.insert(task.id(), Kind::Call(id));
    }

    fn next_notification(&mut self) {
        if self.notifying {
            return;
        }
        let Some(host) = self.turn.host() else { return };
        let Some(text) = self.waiting_notifications.pop_front() else { return };
        let (token, cell, request) =
            (self.notifications.clone(), self.cell_id.clone(), self.tool_call_id.clone());
        let task = self.running.spawn(async move {
            if let Err(error) = host.notify(request, cell.clone(), text, token).await {
                tracing::warn!("failed to deliver code mode notification for cell {cell}: {error}");
            }
            Done::Notification
        });
        self.kinds.insert(task.id(), Kind::Notification);
        self.notifying = true;
    }

    fn ended(
        &mut self,
        joined: Result<(tokio::task::Id, Done), tokio::task::JoinError>,
    ) -> Option<CallEnd> {
        let (task, done) = match joined {
            Ok((task, done)) => (task, Ok(done)),
            Err(error) => (error.id(), Err(error)),
        };
        let kind = self.kinds.remove(&task);
        let end = match (done, kind) {
            (Ok(Done::Call(end)), _) => Some(end),
            (Err(error), Some(Kind::Call(id))) if error.is_panic() => {
                tracing::error!("a tool panicked in cell {}", self.cell_id);
                Some((id, Err("code mode tool task panicked".to_owned())))
            }
            (Err(_), Some(Kind::Call(id))) => {
                Some((id, Err("code mode nested tool call cancelled".to_owned())))
            }
            (Ok(Done::Notification), _) => None,
            (Err(error), _) => {
                if error.is_panic() {
                    tracing::error!("code mode notification task panicked in {}", self.cell_id);
                }
                None
            }
        };
        if let Some((id, result)) = &end {
            self.outbox.call_ended();
            self.note_end(*id, result.is_ok());
        } else {
            self.notifying = false;
            self.next_notification();
        }
        end
    }
}
