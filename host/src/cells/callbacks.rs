//! What a cell has running on this side: nested calls and notifications.
//!
//! Each is a task of its own in one join set, which the cell's task polls; a tool that answers at
//! once is polled there first. Calls run side by side, notifications one after the other. What
//! no worker serves yet waits for one. A tool that panics ends its own call alone, and every call
//! ends exactly once.
//!
//! When a cell is parked, the ends of calls that it has not received go to the caller.

use super::ends::{Ends, released};
use super::pending::{CallResult, PendingCalls, PendingEnd, Running};
use super::registry::LiveEntry;
use super::serving::{Serving, deliver, invoke};
use super::span;
use crate::backend::{
    BoxFuture, CellId, CodeModeNestedToolCall, CodeModeTurnHost, Keeping, ToolResult,
};
use crate::support::{CALL_CANCELLED, NOTIFICATION_CANCELLED};
use crate::tools::ToolName;
use crate::turns::CurrentTurn;
use futures_util::FutureExt;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// How long calls that were dropped have to notice.
const ABORT_GRACE: Duration = Duration::from_millis(100);

/// Receives the outcome of a notification, in the notification's task.
pub type Delivered = Box<dyn FnOnce(Result<(), String>) -> BoxFuture<'static, ()> + Send>;

/// What happens to callbacks.
#[derive(Debug)]
pub enum Next<R> {
    /// A call has ended.
    CallEnded(R),
    /// A notification has ended, or a call that was dropped.
    Ended,
    /// Nothing of the cell runs any more, or what does cannot be stopped. Only after
    /// [`Callbacks::begin_closing`].
    Closed,
}

enum Done<R> {
    Call(Arc<str>, R),
    /// The call's end went to the caller that parked the cell.
    Released,
    Notification,
}

/// Hands the calls of a cell over to the caller that parks it.
pub struct Handover {
    senders: HashMap<Arc<str>, oneshot::Sender<CallResult>>,
    running: Weak<Running>,
}

/// Where the end of a call comes from.
enum Source {
    /// The turn's host runs the tool.
    Invoke,
    /// The turn's host goes on with a call that was pending when the cell was parked.
    Resume,
    /// The caller that woke the cell has it.
    Pending(PendingEnd),
}

/// A call whose end the cell has not received.
struct InFlight {
    tool: ToolName,
    /// Of a call that runs on from an earlier life of the cell: where its end comes from, and
    /// the task that waits for it here. The next caller waits there itself, or each time that
    /// the cell is parked would leave a task behind.
    passed_on: Option<(PendingEnd, AbortHandle)>,
}

/// A notification that waits for those before it.
struct Waiting {
    call_id: String,
    text: String,
    cancellation: CancellationToken,
    delivered: Delivered,
}

/// The time that calls have to end.
#[derive(Clone, Copy)]
struct Closing {
    until: Instant,
    /// Those that still run were dropped where they await.
    aborted: bool,
}

/// The callbacks of one cell. `R` is the outcome of a call, as the cell's task receives it.
///
/// Dropping it drops what still runs.
pub struct Callbacks<R> {
    cell_id: CellId,
    /// The cell, for traces.
    span: Span,
    /// The worker that serves, if there is one.
    turn: CurrentTurn,
    /// Asks calls to end.
    calls: CancellationToken,
    /// Asks notifications to end.
    notifications: CancellationToken,
    /// Ends notifications that wait for a worker.
    undeliverable: CancellationToken,
    /// Calls, and the notification that is being delivered, each a task of its own.
    running: JoinSet<Done<R>>,
    /// Calls that have ended at once, and that no one has taken yet.
    at_once: VecDeque<(Arc<str>, R)>,
    /// The task that delivers a notification, while one does.
    notifying: Option<Id>,
    /// Notifications that come after it.
    waiting: VecDeque<Waiting>,
    /// Set once the calls were asked to end for good.
    closing: Option<Closing>,
    /// Calls whose ends the cell has not received, by their ids.
    in_flight: HashMap<Arc<str>, InFlight>,
    ends: watch::Sender<Ends>,
    /// Calls whose ends are on their way to the cell.
    delivering: Arc<AtomicUsize>,
}

impl<R: Send + 'static> Callbacks<R> {
    /// No callbacks yet; those to come are served by the session's workers.
    pub fn new(cell: &LiveEntry, turn: CurrentTurn) -> Self {
        Self {
            cell_id: cell.id().clone(),
            span: cell.span().clone(),
            turn,
            calls: CancellationToken::new(),
            notifications: CancellationToken::new(),
            undeliverable: CancellationToken::new(),
            running: JoinSet::new(),
            at_once: VecDeque::new(),
            notifying: None,
            waiting: VecDeque::new(),
            closing: None,
            in_flight: HashMap::new(),
            ends: watch::Sender::new(Ends::Deliver),
            delivering: Arc::default(),
        }
    }

    /// Is cancelled when the cell's calls are asked to end.
    pub fn calls_token(&self) -> &CancellationToken {
        &self.calls
    }

    /// Is cancelled when the cell's notifications are asked to end.
    pub fn notifications_token(&self) -> &CancellationToken {
        &self.notifications
    }

    /// Starts a call. `finish` receives its outcome in the call's own task, once, unless the
    /// cell is closed or parked before.
    pub fn call<F>(
        &mut self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
        finish: impl FnOnce(Result<ToolResult, String>) -> F + Send + 'static,
    ) where
        F: Future<Output = R> + Send,
    {
        self.start(Source::Invoke, call, cancellation, finish);
    }

    /// Goes on with a call that was pending when the cell was parked: with its end, if it is
    /// among `pending`, or else by asking the turn's host. As [`Callbacks::call`] otherwise.
    pub fn resume<F>(
        &mut self,
        call: CodeModeNestedToolCall,
        pending: &mut PendingCalls,
        cancellation: CancellationToken,
        finish: impl FnOnce(Result<ToolResult, String>) -> F + Send + 'static,
    ) where
        F: Future<Output = R> + Send,
    {
        let source = pending.take(&call.runtime_tool_call_id);
        let source = source.map_or(Source::Resume, Source::Pending);
        self.start(source, call, cancellation, finish);
    }

    fn start<F>(
        &mut self,
        source: Source,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
        finish: impl FnOnce(Result<ToolResult, String>) -> F + Send + 'static,
    ) where
        F: Future<Output = R> + Send,
    {
        let id: Arc<str> = call.runtime_tool_call_id.as_str().into();
        let (key, tool) = (Arc::clone(&id), call.tool_name.clone());
        let pending = if let Source::Pending(end) = &source { end.running() } else { None };
        let (ends, delivering) = (self.ends.subscribe(), Arc::clone(&self.delivering));
        let serving = self.serving();
        let at_once = matches!(source, Source::Invoke) && serving.answers_at_once(&tool);
        let span = span::call(&self.span, &call);
        let calling = async move {
            let calling = async {
                let is_resumed = match source {
                    Source::Pending(end) => return end.receive(&cancellation).await,
                    Source::Resume => true,
                    Source::Invoke => false,
                };
                match serving.before(&cancellation, None).await {
                    Some(host) => invoke(host, call, is_resumed, cancellation).await,
                    None => Err(CALL_CANCELLED.to_owned()),
                }
            };
            let result = calling.instrument(span.clone()).await;
            span::record_call(&span, result.is_ok());
            drop(span);
            if let Some(caller) = released(ends, &delivering, &id).await {
                // A caller that has dropped the calls does not need their ends.
                let _ = caller.send(result);
                return Done::Released;
            }
            Done::Call(id, finish(result).await)
        };
        let task = if at_once {
            let mut calling = Box::pin(calling);
            if let Some(done) = calling.as_mut().now_or_never() {
                if let Done::Call(id, end) = done {
                    self.in_flight.insert(key, InFlight { tool, passed_on: None });
                    self.at_once.push_back((id, end));
                }
                return;
            }
            self.running.spawn(calling)
        } else {
            self.running.spawn(calling)
        };
        let passed_on = pending.map(|end| (end, task));
        self.in_flight.insert(key, InFlight { tool, passed_on });
    }

    /// Holds the ends of calls back from here on. Returns those that were on their way to the
    /// cell: all others wait for [`Callbacks::release`] or [`Callbacks::deliver`].
    pub async fn hold(&mut self) -> Vec<R> {
        self.ends.send_replace(Ends::Hold);
        let mut ends = Vec::new();
        while self.delivering.load(Ordering::Acquire) > 0 {
            if let Some(end) = self.next_at_once() {
                ends.push(end);
                continue;
            }
            let Some(joined) = self.running.join_next_with_id().await else { break };
            if let Next::CallEnded(end) = self.ended(joined) {
                ends.push(end);
            }
        }
        ends
    }

    /// Delivers the ends of calls again: the cell is not parked after all.
    pub fn deliver(&mut self) {
        self.ends.send_replace(Ends::Deliver);
    }

    /// The calls that have not ended, for the caller that parks the cell, and what hands
    /// them over to it. Only after [`Callbacks::hold`].
    pub fn offer(&self) -> (PendingCalls, Handover) {
        let mut senders = HashMap::new();
        let running = Running::new(self.calls.clone());
        let calls: Vec<_> = self
            .in_flight
            .iter()
            .map(|(id, call)| {
                let passed_on = call.passed_on.as_ref().map(|(end, _)| end.clone());
                let end = passed_on.unwrap_or_else(|| {
                    let (sender, end) = oneshot::channel();
                    senders.insert(Arc::clone(id), sender);
                    PendingEnd::Running(end.shared(), Arc::clone(&running))
                });
                (Arc::clone(id), call.tool.clone(), end)
            })
            .collect();
        let handover = Handover { senders, running: Arc::downgrade(&running) };
        (PendingCalls::running(&running, calls), handover)
    }

    /// Hands the calls over: the cell is parked, and has none from here on.
    pub fn release(&mut self, handover: Handover) {
        let Handover { senders, running } = handover;
        for (_, call) in self.in_flight.drain() {
            if let Some((_, task)) = call.passed_on {
                task.abort();
            }
        }
        self.ends.send_replace(Ends::Release(Arc::new(Mutex::new(senders))));
        let tasks = std::mem::take(&mut self.running);
        // A caller that has dropped the calls has no use for them.
        match running.upgrade() {
            Some(running) => running.hand_over(Box::new(Mutex::new(tasks))),
            None => self.calls.cancel(),
        }
    }

    /// Delivers a notification after those before it. `delivered` receives its outcome,
    /// unless it is dropped before.
    pub fn notify(
        &mut self,
        call_id: String,
        text: String,
        cancellation: CancellationToken,
        delivered: Delivered,
    ) {
        self.waiting.push_back(Waiting { call_id, text, cancellation, delivered });
        self.next_notification();
    }

    /// Whether nothing runs: no event can come of it.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.at_once.is_empty()
    }

    /// Whether a notification is being delivered, or waits for a worker.
    pub fn is_notifying(&self) -> bool {
        self.notifying.is_some()
    }

    /// Whether [`Callbacks::next`] has anything to wait for.
    pub fn has_next(&self) -> bool {
        !self.is_idle() || self.closing.is_some()
    }

    /// The next thing to happen. Only while there is something to wait for. Dropped, it
    /// loses nothing.
    pub async fn next(&mut self) -> Next<R> {
        if let Some(end) = self.next_at_once() {
            return Next::CallEnded(end);
        }
        loop {
            let Some(Closing { until, aborted }) = self.closing else {
                return match self.running.join_next_with_id().await {
                    Some(joined) => self.ended(joined),
                    None => std::future::pending().await,
                };
            };
            tokio::select! {
                biased;
                joined = self.running.join_next_with_id() => return match joined {
                    Some(joined) => self.ended(joined),
                    None => Next::Closed,
                },
                // A call that blocks its thread cannot be ended, only left.
                () = sleep_until(until) => if aborted { return Next::Closed },
            }
            self.running.abort_all();
            self.closing = Some(Closing { until: Instant::now() + ABORT_GRACE, aborted: true });
        }
    }

    /// A call that has ended already, if any: keeps batches large.
    pub fn try_next(&mut self) -> Option<R> {
        if let Some(end) = self.next_at_once() {
            return Some(end);
        }
        loop {
            let joined = self.running.try_join_next_with_id()?;
            if let Next::CallEnded(end) = self.ended(joined) {
                return Some(end);
            }
        }
    }

    /// Asks calls to end.
    pub fn cancel_calls(&self) {
        self.calls.cancel();
    }

    /// Asks notifications to end, and drops those that wait for others.
    pub fn cancel_notifications(&mut self) {
        self.notifications.cancel();
        self.waiting.clear();
    }

    /// Asks calls and notifications to end.
    pub fn cancel_all(&mut self) {
        self.cancel_calls();
        self.cancel_notifications();
    }

    /// Drops notifications that no worker takes.
    pub fn drop_undeliverable(&mut self) {
        if self.turn.host().is_none() {
            self.undeliverable.cancel();
        }
    }

    /// Asks calls to end. Those that have not after `grace` are dropped where they await.
    pub fn begin_closing(&mut self, grace: Duration) {
        self.cancel_calls();
        self.closing = Some(Closing { until: Instant::now() + grace, aborted: false });
    }

    /// Tells the turn's host that the cell is closed. A host that panics there loses the
    /// message and nothing else.
    pub fn cell_closed(&self) {
        self.report(CodeModeTurnHost::cell_closed);
    }

    /// Tells the turn's host what became of the cell in its store, as
    /// [`Callbacks::cell_closed`] does.
    pub fn cell_kept(&self, keeping: Keeping) {
        self.report(|host, cell| host.cell_kept(cell, keeping));
    }

    fn report(&self, what: impl FnOnce(&dyn CodeModeTurnHost, &CellId)) {
        if let Some(host) = self.turn.host()
            && catch_unwind(AssertUnwindSafe(|| what(&*host, &self.cell_id))).is_err()
        {
            tracing::error!("a turn's host panicked at a message about cell {}", self.cell_id);
        }
    }

    fn serving(&self) -> Serving {
        match self.turn.host() {
            Some(host) => Serving::Now(host),
            None => Serving::Later(self.turn.clone()),
        }
    }

    fn next_notification(&mut self) {
        if self.notifying.is_some() {
            return;
        }
        let Some(Waiting { call_id, text, cancellation, delivered }) = self.waiting.pop_front()
        else {
            return;
        };
        let (serving, cell_id) = (self.serving(), self.cell_id.clone());
        let undeliverable = self.undeliverable.clone();
        let task = self.running.spawn(async move {
            let result = match serving.before(&cancellation, Some(&undeliverable)).await {
                Some(host) => deliver(host, call_id, cell_id.clone(), text, cancellation).await,
                None if undeliverable.is_cancelled() => Err("no turn is active".to_owned()),
                None => Err(NOTIFICATION_CANCELLED.to_owned()),
            };
            if let Err(error) = &result {
                tracing::warn!(
                    "failed to deliver code mode notification for cell {cell_id}: {error}"
                );
            }
            delivered(result).await;
            Done::Notification
        });
        self.notifying = Some(task.id());
    }

    /// The cell receives the end of a call that has ended at once, if there is one.
    fn next_at_once(&mut self) -> Option<R> {
        let (id, end) = self.at_once.pop_front()?;
        self.received(&id);
        Some(end)
    }

    /// The cell receives the end of a call.
    fn received(&mut self, id: &str) {
        self.in_flight.remove(id);
        self.delivering.fetch_sub(1, Ordering::Release);
    }

    fn ended(&mut self, joined: Result<(Id, Done<R>), JoinError>) -> Next<R> {
        let task = match joined {
            Ok((_, Done::Call(id, end))) => {
                self.received(&id);
                return Next::CallEnded(end);
            }
            Ok((task, Done::Released | Done::Notification)) => task,
            // It was dropped.
            Err(error) => error.id(),
        };
        if self.notifying == Some(task) {
            self.notifying = None;
            self.next_notification();
        }
        Next::Ended
    }
}

impl<R> fmt::Debug for Callbacks<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("cell_id", &self.cell_id)
            .field("running", &self.running.len())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
