//! The cells of a session as its client knows them, and the calls they make here.
//!
//! A [`RemoteSession`] is a session on one connection. It runs nested calls and
//! notifications as tasks, and closes every cell exactly once: after its calls have
//! returned and its notifications were delivered.

use super::connection::Failure;
use crate::protocol::{CALL_CANCELLED, MAX_DELEGATE_CALLS, NOTIFICATION_CANCELLED, Refusal};
use cellblock::support::{CurrentTurn, TurnWorkers, lock};
use cellblock::{
    BoxFuture, CellId, CellInfo, CellState, CodeModeError, CodeModeNestedToolCall,
    CodeModeTurnHost, RuntimeResponse, ToolResult,
};
use futures_util::FutureExt;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long calls that were dropped have to notice.
const ABORT_GRACE: Duration = Duration::from_millis(100);

/// How long the notifications of a cell that ended by itself may still take.
const NOTIFICATION_GRACE: Duration = Duration::from_secs(10);

/// The response that an observer receives.
pub(super) type Observed = Result<RuntimeResponse, Failure>;

/// The observer of a cell.
#[derive(Debug, Default)]
pub(super) enum Observer {
    /// Nobody.
    #[default]
    None,
    /// A caller waits.
    Watching,
    /// A caller has gone away; its response is still to come, or has come.
    Left(JoinHandle<Observed>, Asked),
}

/// The request that a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The execution itself: it cannot be repeated.
    Execute,
    /// A wait, cancelled when its caller went away.
    Wait,
}

/// A cell on the host.
#[derive(Debug)]
pub(super) struct RemoteCell {
    /// Its id on this side.
    pub(super) id: CellId,
    /// Its id on the host, once it was admitted.
    host_id: OnceLock<CellId>,
    started: Instant,
    observer: Mutex<Observer>,
    terminating: Mutex<bool>,
    calls: TaskTracker,
    notifications: TaskTracker,
    in_flight: AtomicUsize,
    /// Cancels its calls.
    cancelled: CancellationToken,
    /// Cancels its notifications.
    abandoned: CancellationToken,
    /// Drops what did not end when it was cancelled.
    aborted: CancellationToken,
    /// When the notification before the next one has been delivered.
    last_notification: Mutex<Option<oneshot::Receiver<()>>>,
    closing: Mutex<bool>,
    /// Nothing of the cell runs on this side any more.
    pub(super) closed: CancellationToken,
}

impl RemoteCell {
    pub(super) fn new(id: CellId) -> Self {
        Self {
            id,
            host_id: OnceLock::new(),
            started: Instant::now(),
            observer: Mutex::default(),
            terminating: Mutex::default(),
            calls: TaskTracker::new(),
            notifications: TaskTracker::new(),
            in_flight: AtomicUsize::new(0),
            cancelled: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            aborted: CancellationToken::new(),
            last_notification: Mutex::default(),
            closing: Mutex::default(),
            closed: CancellationToken::new(),
        }
    }

    /// The cell was admitted under this id of the host's.
    pub(super) fn admitted(&self, host_id: CellId) {
        // A repeated id is ignored; the first one stands.
        let _ = self.host_id.set(host_id);
    }

    /// A refusal that names the cell as the host does, with this side's name of it.
    pub(super) fn named_here(&self, refusal: CodeModeError) -> CodeModeError {
        match (refusal, self.host_id()) {
            (CodeModeError::Host(text), Some(host_id)) => {
                Refusal::read(&text, Some((host_id, &self.id))).into()
            }
            (other, _) => other,
        }
    }

    /// Its id on the host; `None` until it was admitted.
    pub(super) fn host_id(&self) -> Option<&CellId> {
        self.host_id.get()
    }

    pub(super) fn observer(&self) -> MutexGuard<'_, Observer> {
        lock(&self.observer)
    }

    /// Asks notifications that are still being delivered to end.
    pub(super) fn abandon(&self) {
        self.abandoned.cancel();
    }

    /// Claims the termination; false when somebody else has.
    pub(super) fn claim_termination(&self) -> bool {
        !std::mem::replace(&mut *lock(&self.terminating), true)
    }

    /// Takes the claim back: the termination was not carried out.
    pub(super) fn unclaim_termination(&self) {
        *lock(&self.terminating) = false;
    }

    /// Whether a call or a notification of the cell still runs on this side.
    pub(super) fn is_busy(&self) -> bool {
        !self.calls.is_empty() || !self.notifications.is_empty()
    }

    pub(super) fn info(&self) -> CellInfo {
        let calls_in_flight = self.in_flight.load(Ordering::Relaxed);
        let state = if self.closed.is_cancelled() {
            CellState::Finished
        } else if *lock(&self.closing) {
            CellState::Ending
        } else if calls_in_flight > 0 {
            CellState::Waiting
        } else {
            CellState::Running
        };
        CellInfo {
            cell_id: self.id.clone(),
            state,
            age: self.started.elapsed(),
            calls_in_flight,
            stuck_at: None,
        }
    }
}

/// A session on one connection.
pub(super) struct RemoteSession {
    /// Its id on the host.
    pub(super) id: OnceLock<String>,
    /// This side has asked the host to close the session: its streams may end.
    pub(super) closing: AtomicBool,
    /// Cancelled when the session was closed.
    pub(super) ended: CancellationToken,
    turns: Arc<TurnWorkers>,
    /// Cells by what their messages carry: their id on the host, or their execution's.
    cells: Mutex<HashMap<String, Arc<RemoteCell>>>,
    delegates: Arc<Semaphore>,
    cancel_grace: Duration,
    tasks: TaskTracker,
    lost: AtomicBool,
}

impl RemoteSession {
    pub(super) fn new(turns: Arc<TurnWorkers>, cancel_grace: Duration) -> Self {
        Self {
            id: OnceLock::new(),
            closing: AtomicBool::new(false),
            ended: CancellationToken::new(),
            turns,
            cells: Mutex::default(),
            delegates: Arc::new(Semaphore::new(MAX_DELEGATE_CALLS)),
            cancel_grace,
            tasks: TaskTracker::new(),
            lost: AtomicBool::new(false),
        }
    }

    /// Its id on the host; empty until it is open.
    pub(super) fn id(&self) -> &str {
        self.id.get().map_or("", String::as_str)
    }

    /// A cell was announced: messages that carry `key` are its.
    pub(super) fn announce(&self, key: String, cell: &Arc<RemoteCell>) {
        lock(&self.cells).insert(key, Arc::clone(cell));
        if self.lost.load(Ordering::Acquire) {
            self.lost();
        }
    }

    fn cell(&self, key: &str) -> Option<Arc<RemoteCell>> {
        lock(&self.cells).get(key).cloned()
    }

    /// What cancels a nested call of a cell.
    pub(super) fn call_token(&self, key: &str) -> CancellationToken {
        self.cell(key).map_or_else(CancellationToken::new, |cell| cell.cancelled.child_token())
    }

    /// What cancels a notification of a cell.
    pub(super) fn notification_token(&self, key: &str) -> CancellationToken {
        self.cell(key).map_or_else(CancellationToken::new, |cell| cell.abandoned.child_token())
    }

    /// Runs a nested call; its result goes to `reply`.
    pub(super) fn invoke(
        &self,
        key: &str,
        mut call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
        reply: Reply<ToolResult>,
    ) {
        let cell = self.cell(key);
        let permit = Arc::clone(&self.delegates).try_acquire_owned();
        let (Some(cell), Ok(permit)) = (cell, permit) else {
            self.tasks.spawn(reply(Err(CALL_CANCELLED.to_owned())));
            return;
        };
        call.cell_id = cell.id.clone();
        cell.in_flight.fetch_add(1, Ordering::Relaxed);
        let turn = self.turns.watch();
        let tracked = Arc::clone(&cell);
        cell.calls.spawn(async move {
            let result = tokio::select! {
                biased;
                result = run_call(turn, call, cancellation) => result,
                () = tracked.aborted.cancelled() => {
                    Err(CALL_CANCELLED.to_owned())
                }
            };
            tracked.in_flight.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
            reply(result).await;
        });
        // The runtime keeps the task that was spawned last for this thread, and wakes no
        // other for it. A tool that blocks would then hold up the connection, if this
        // thread is the one that listens to it; so the call is not the last.
        tokio::spawn(std::future::ready(()));
    }

    /// Delivers a notification after those before it.
    pub(super) fn notify(
        &self,
        key: &str,
        call_id: String,
        text: String,
        cancellation: CancellationToken,
        reply: Reply<()>,
    ) {
        let cell = self.cell(key);
        let permit = Arc::clone(&self.delegates).try_acquire_owned();
        let (Some(cell), Ok(permit)) = (cell, permit) else {
            self.tasks.spawn(reply(Err(NOTIFICATION_CANCELLED.to_owned())));
            return;
        };
        let (delivered, next) = oneshot::channel();
        let previous = lock(&cell.last_notification).replace(next);
        let turn = self.turns.watch();
        let tracked = Arc::clone(&cell);
        cell.notifications.spawn(async move {
            if let Some(previous) = previous {
                // Its sender is dropped when that notification is through.
                let _ = previous.await;
            }
            let delivery = run_notification(turn, &tracked.id, call_id, text, cancellation);
            let result = tokio::select! {
                biased;
                result = delivery => result,
                () = tracked.aborted.cancelled() => {
                    Err(NOTIFICATION_CANCELLED.to_owned())
                }
            };
            drop((delivered, permit));
            reply(result).await;
        });
    }

    /// The host has closed a cell: its calls are cancelled, and when they have ended, the
    /// turn's host is called.
    pub(super) fn close(&self, key: &str) {
        if let Some(cell) = lock(&self.cells).remove(key) {
            self.close_cell(cell, false);
        }
    }

    /// The host does not know a cell any more.
    pub(super) fn forgotten(&self, cell: &Arc<RemoteCell>) {
        lock(&self.cells).retain(|_, each| !Arc::ptr_eq(each, cell));
        self.close_cell(Arc::clone(cell), false);
    }

    /// The connection is gone, and with it every cell.
    pub(super) fn lost(&self) {
        self.lost.store(true, Ordering::Release);
        for (_, cell) in std::mem::take(&mut *lock(&self.cells)) {
            self.close_cell(cell, true);
        }
    }

    /// A cell that was announced was not admitted after all.
    pub(super) fn refused(&self, key: &str) {
        if let Some(cell) = lock(&self.cells).remove(key) {
            cell.closed.cancel();
        }
    }

    fn close_cell(&self, cell: Arc<RemoteCell>, lost: bool) {
        cell.cancelled.cancel();
        if lost || *lock(&cell.terminating) {
            cell.abandoned.cancel();
        }
        if std::mem::replace(&mut *lock(&cell.closing), true) {
            return;
        }
        let (turn, grace) = (self.turns.watch(), self.cancel_grace);
        cell.calls.close();
        cell.notifications.close();
        self.tasks.spawn(async move {
            if timeout(grace, cell.calls.wait()).await.is_err() {
                cell.aborted.cancel();
                // A call that blocks its thread cannot be ended, only left.
                let _ = timeout(ABORT_GRACE, cell.calls.wait()).await;
            }
            // Notifications are delivered to the end, unless the cell was ended.
            let patience = if cell.abandoned.is_cancelled() { grace } else { NOTIFICATION_GRACE };
            if timeout(patience, cell.notifications.wait()).await.is_err() {
                cell.abandoned.cancel();
                cell.aborted.cancel();
                let _ = timeout(ABORT_GRACE, cell.notifications.wait()).await;
            }
            if let Some(host) = turn.host() {
                // A host that panics here loses the message and nothing else.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(|| host.cell_closed(&cell.id)));
            }
            cell.closed.cancel();
        });
    }
}

/// Where a result goes.
pub(super) type Reply<T> = Box<dyn FnOnce(Result<T, String>) -> BoxFuture<'static, ()> + Send>;

/// The host that serves, when there is one.
async fn serving(mut turn: CurrentTurn) -> Arc<dyn CodeModeTurnHost> {
    loop {
        if let Some(host) = turn.host() {
            return host;
        }
        turn.changed().await;
    }
}

async fn run_call(
    turn: CurrentTurn,
    call: CodeModeNestedToolCall,
    cancellation: CancellationToken,
) -> Result<ToolResult, String> {
    let host = tokio::select! {
        biased;
        host = serving(turn) => host,
        () = cancellation.cancelled() => {
            return Err(CALL_CANCELLED.to_owned());
        }
    };
    let cell = call.cell_id.clone();
    let running = async move { host.invoke_tool(call, cancellation).await };
    AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a tool panicked in cell {cell}");
        Err("code mode tool task panicked".to_owned())
    })
}

async fn run_notification(
    turn: CurrentTurn,
    cell: &CellId,
    call_id: String,
    text: String,
    cancellation: CancellationToken,
) -> Result<(), String> {
    let host = tokio::select! {
        biased;
        host = serving(turn) => host,
        () = cancellation.cancelled() => return Err(NOTIFICATION_CANCELLED.to_owned()),
    };
    let running = async { host.notify(call_id, cell.clone(), text, cancellation).await };
    let result = AssertUnwindSafe(running)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err("code mode notification task panicked".to_owned()));
    if let Err(error) = &result {
        tracing::warn!("failed to deliver code mode notification for cell {cell}: {error}");
    }
    result
}
