//! What a cell has running on the host's side: nested calls and notifications.
//!
//! Each is a task of its own in one join set, which the cell's task polls.
//! What no worker serves yet waits here. A panic or a lost task ends that call
//! alone, and every call ends exactly once.

use super::account::{Account, Charge};
use super::error_text;
use super::imports::Outbox;
use crate::backend as report;
use crate::backend::{CellId, CodeModeNestedToolCall, CodeModeTurnHost};
use crate::support::CALL_CANCELLED;
use crate::turns::CurrentTurn;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A nested call that has ended.
pub(super) struct CallEnd {
    /// Its number.
    pub(super) id: u64,
    /// The JSON of its result, or the text that rejects its promise.
    pub(super) result: Result<String, String>,
    /// What the cell is charged for the result.
    pub(super) charge: Charge,
}

impl CallEnd {
    /// Charges the account for a result. One that does not fit fails the call: what the
    /// cell is not taking must not pile up.
    fn new(id: u64, result: Result<String, String>, account: &Arc<Account>) -> Self {
        let result = result.map_err(error_text::shorten);
        let bytes = result.as_ref().map_or_else(String::len, String::len);
        if let Some(charge) = account.charge(bytes) {
            return Self { id, result, charge };
        }
        let limit = account.limit();
        let why = format!(
            "tool result does not fit: it has {bytes} bytes, and the host may hold {limit} for \
             the cell, other results that wait included; await fewer calls at a time"
        );
        Self::failed(id, &why)
    }

    /// A call that failed with a short text.
    pub(super) fn failed(id: u64, why: &str) -> Self {
        Self { id, result: Err(why.to_owned()), charge: Charge::default() }
    }
}

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
    /// The request's `tool_call_id`, which notifications carry.
    tool_call_id: String,
    /// Bytes that one result may have.
    result_bytes: usize,
    /// Counts calls in flight, and has the cell's account.
    outbox: Arc<Outbox>,
    /// The worker that serves, if there is one.
    turn: CurrentTurn,
    /// Asks calls to end.
    calls: CancellationToken,
    /// Asks notifications to end.
    notifications: CancellationToken,
    /// Calls and notifications, each a task of its own.
    running: JoinSet<Done>,
    /// What each task is, for those that panic or are aborted.
    kinds: HashMap<tokio::task::Id, Kind>,
    /// Calls that no worker serves yet, with what they are charged for.
    waiting_calls: VecDeque<(u64, CodeModeNestedToolCall, Charge)>,
    /// Notifications that come after the one being delivered.
    waiting_notifications: VecDeque<(String, Charge)>,
    /// A notification is being delivered.
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
    pub(super) fn call(&mut self, id: u64, call: CodeModeNestedToolCall, charge: Charge) {
        if self.recent.len() >= report::CellReport::MAX_CALLS {
            self.recent.pop_front();
        }
        self.recent.push_back((id, call.tool_name.to_string(), None));
        match self.turn.host() {
            Some(host) => self.start_call(host, id, call, charge),
            None => self.waiting_calls.push_back((id, call, charge)),
        }
    }

    /// Sends a notification after those before it.
    pub(super) fn notify(&mut self, text: String, charge: Charge) {
        self.waiting_notifications.push_back((text, charge));
        self.next_notification();
    }

    /// Hands what waits to the worker that serves now.
    pub(super) fn dispatch_waiting(&mut self) {
        let Some(host) = self.turn.host() else { return };
        while let Some((id, call, charge)) = self.waiting_calls.pop_front() {
            self.start_call(Arc::clone(&host), id, call, charge);
        }
        self.next_notification();
    }

    /// Whether any task runs.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether nothing runs and nothing waits: no event can come of it.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && !self.wants_worker()
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
        for waiting in self.waiting_calls.drain(..) {
            drop(waiting);
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
        charge: Charge,
    ) {
        let (token, limit) = (self.calls.clone(), self.result_bytes);
        let account = Arc::clone(&self.outbox.account);
        let task = self.running.spawn(async move {
            let result = host.invoke_tool(call, token).await;
            // The input is gone.
            drop(charge);
            let result = result.and_then(|result| {
                result.into_json(limit).map_err(|error| format!("tool result is {error}"))
            });
            Done::Call(CallEnd::new(id, result, &account))
        });
        self.kinds.insert(task.id(), Kind::Call(id));
    }

    fn next_notification(&mut self) {
        if self.notifying {
            return;
        }
        let Some(host) = self.turn.host() else { return };
        let Some((text, charge)) = self.waiting_notifications.pop_front() else { return };
        let (token, cell, request) =
            (self.notifications.clone(), self.cell_id.clone(), self.tool_call_id.clone());
        let task = self.running.spawn(async move {
            if let Err(error) = host.notify(request, cell.clone(), text, token).await {
                tracing::warn!("failed to deliver code mode notification for cell {cell}: {error}");
            }
            drop(charge);
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
                Some(CallEnd::failed(id, "code mode tool task panicked"))
            }
            (Err(_), Some(Kind::Call(id))) => Some(CallEnd::failed(id, CALL_CANCELLED)),
            (Ok(Done::Notification), _) => None,
            (Err(error), _) => {
                if error.is_panic() {
                    tracing::error!("code mode notification task panicked in {}", self.cell_id);
                }
                None
            }
        };
        if let Some(end) = &end {
            self.outbox.call_ended();
            self.note_end(end.id, end.result.is_ok());
        } else {
            self.notifying = false;
            self.next_notification();
        }
        end
    }
}
