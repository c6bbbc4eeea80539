//! One cell on a host: the task that owns it on this side.
//!
//! The task has at most one answer on its way from the host: to the execution, or to a wait
//! that it made for a caller. It answers the caller with it. A caller that goes away leaves
//! the wait cancelled, and output that came all the same is kept for the next. Nested calls
//! and notifications run here. The cell ends once its last answer has come, the host has
//! closed it, and nothing of it runs on this side any more.
//!
//! `handle` is what the connection knows of the task, `callers` what its callers ask for,
//! `park` how it leaves as bytes, `resume` how it outlives its host, `away` how it goes on when no
//! worker of its fleet has it, `end` how it ends.

mod away;
mod call_log;
mod callers;
mod end;
mod handle;
mod park;
mod resume;

pub(super) use call_log::CallLog;
pub(super) use handle::{CellHandle, Event, Reply};

use super::connection::{Answer, ConnectionError, Failure, HostResponse, Program, WaitId};
use super::session::{Connected, Session};
use crate::protocol::{SeamKeep, SeamWake};
use away::{Away, time_to_wake};
use callers::Observer;
use cellblock::PendingCalls;
use cellblock::cells::{self, Callbacks, CellStatus, Command, Content, LiveEntry, Next, Until};
use cellblock::{
    CellId, CellReport, CellState, CodeModeNestedToolCall, ExecuteRequest, StoredValues, ToolResult,
};
use end::{Outcome, Stage};
use park::{Parking, parked};
use resume::InStore;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How long an answer may take to travel, beyond the time it was asked to take.
pub(super) const TRANSPORT: Duration = Duration::from_mins(1);

/// An answer that is on its way from the host.
struct OnItsWay {
    answer: Answer<HostResponse>,
    /// Names the wait; `None` for an execution, which cannot be cancelled.
    wait: Option<WaitId>,
    /// The host was asked to cancel the wait.
    cancelled: bool,
}

/// The task's state.
struct RemoteCell {
    handle: CellHandle,
    session: Arc<Session>,
    /// The connection that the cell is on, once there is one.
    connected: Arc<OnceLock<Connected>>,
    /// What others see of the cell.
    status: Arc<CellStatus>,
    /// Requests of callers.
    commands: mpsc::Receiver<Command>,
    /// What the connection receives.
    events: mpsc::UnboundedReceiver<Event>,
    /// Nested calls and notifications.
    callbacks: Callbacks<()>,
    /// The caller that waits, if one does.
    observer: Option<Observer>,
    /// The caller that terminates the cell, if one does.
    terminator: Option<cells::Reply>,
    /// The answer to the execution or to a wait.
    answer: Option<OnItsWay>,
    /// The answer to a termination, and when it must have come.
    termination: Option<(Answer<HostResponse>, Instant)>,
    /// The cell is to be ended, and the host has not admitted it yet.
    ends_when_admitted: bool,
    /// The host has said that it does not know the cell, while another answer is on its way.
    missing: bool,
    /// The host has said that the cell has ended.
    has_ended: bool,
    /// Output that no caller has received yet.
    content: Content,
    /// The program is frozen, and has made these calls: no caller has received that yet.
    frontier: Option<Vec<u64>>,
    /// What the cell has used so far, from the newest response.
    report: CellReport,
    /// The caller's values, which the program reads and writes.
    stored: StoredValues,
    /// How the cell has ended, and when that was known.
    outcome: Option<(Outcome, Instant)>,
    stage: Stage,
    /// The nested calls that it has made.
    calls: CallLog,
    /// The caller that parks the cell, if one does, and how far that is.
    parking: Option<Parking>,
    /// Nested calls of a woken cell that its caller has, and of one that is away.
    pending: PendingCalls,
    /// What is known of the cell in its host's store.
    in_store: InStore,
    /// Where the cell may be kept while it waits.
    keep: Option<SeamKeep>,
    /// The class of workers that can run it, once it was kept.
    class: Option<String>,
    /// Set while no worker runs the cell.
    away: Option<Away>,
    /// Why its worker was lost, until the cell is looked for.
    lost: Option<ConnectionError>,
}

/// What a new cell is made from.
pub(super) struct Start {
    /// Its place in the registry.
    pub(super) entry: LiveEntry,
    pub(super) id: CellId,
    pub(super) request: ExecuteRequest,
    pub(super) stored: StoredValues,
    pub(super) session: Arc<Session>,
    pub(super) status: Arc<CellStatus>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// What the first caller waits for, and where its answer goes; nobody waits for a cell that
    /// is taken up.
    pub(super) first: Option<(Until, cells::Reply)>,
    /// The parked cell that it is, if it is one, and the calls that its caller has.
    pub(super) wake: Option<(SeamWake, PendingCalls)>,
    /// Where its fleet keeps the cell, of one that is taken up, and the class of workers that can
    /// wake it.
    pub(super) kept: Option<(SeamKeep, String)>,
}

/// Runs a cell to its end.
pub(super) async fn run(start: Start) {
    let Start { entry, id, request, stored, session, status, commands, first, wake, kept } = start;
    let (wake, pending) = wake.unzip();
    let resumed = wake.as_ref().and_then(|wake: &SeamWake| wake.kept.as_ref());
    let in_store = resumed.map(InStore::resuming).unwrap_or_default();
    let callbacks = Callbacks::new(&entry, session.turns.watch());
    let (handle, events) = CellHandle::new(id, &callbacks);
    let connected = Arc::new(OnceLock::<Connected>::new());
    let until_frontier = first.as_ref().is_some_and(|(until, _)| *until == Until::Frontier);
    let (keep, class) = kept.unzip();
    let away = keep.is_some().then(Away::default);
    let keep = keep.or_else(|| session.host.keep(&handle.id));
    let answer = away.is_none().then(|| {
        let (stored, keep) = (stored.clone(), keep.clone());
        let program = Program { request, stored, until_frontier, wake, keep, class: None };
        let answer = executing(&session, &connected, handle.clone(), program);
        OnItsWay { answer, wait: None, cancelled: false }
    });
    let state = if away.is_some() { CellState::Waiting } else { CellState::Running };
    status.set_state(state);
    let mut cell = RemoteCell {
        handle,
        session,
        connected,
        status,
        commands,
        events,
        callbacks,
        observer: None,
        terminator: None,
        answer,
        termination: None,
        ends_when_admitted: false,
        missing: false,
        has_ended: false,
        content: Content::default(),
        frontier: None,
        report: CellReport::default(),
        stored,
        outcome: None,
        stage: Stage::Running,
        calls: CallLog::default(),
        parking: None,
        pending: pending.unwrap_or_default(),
        in_store,
        keep,
        class,
        away,
        lost: None,
    };
    cell.observer = first.map(|(until, reply)| Observer::first(until, reply));
    if cell.run_to_close(&entry).await {
        cell.close(entry);
    } else {
        entry.park();
    }
}

/// Starts a program on the session's host; its first response.
fn executing(
    session: &Arc<Session>,
    connected: &Arc<OnceLock<Connected>>,
    handle: CellHandle,
    program: Program,
) -> Answer<HostResponse> {
    let (session, slot) = (Arc::clone(session), Arc::clone(connected));
    Box::pin(async move {
        let connected = session.connected(&program).await?;
        let Connected { connection, remote } = slot.get_or_init(|| connected);
        connection.execute(Arc::clone(remote), handle, program).await
    })
}

impl RemoteCell {
    /// Turns the loop until the cell has ended, and nothing of it runs any more; false when
    /// it was parked.
    async fn run_to_close(&mut self, entry: &LiveEntry) -> bool {
        let shutdown = self.session.shutdown.clone();
        let mut ending = false;
        while self.outcome.is_none() || self.stage != Stage::Closed {
            if matches!(self.stage, Stage::Draining(_)) && !self.callbacks.is_notifying() {
                self.begin_closing();
            }
            self.look_for(entry).await;
            if self.leave(entry).await {
                return false;
            }
            let is_wanted = self.is_wanted();
            let yields_at = self.yields_at();
            let patience = self.patience().map(|(at, _)| at);
            let drained_at = match self.stage {
                Stage::Draining(at) => Some(at),
                _ => None,
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !ending => {
                    ending = true;
                    self.end();
                }
                Some(command) = self.commands.recv() => match command {
                    Command::Observe(until, reply) => self.observe(until, reply),
                    Command::Terminate(reply) => self.terminate(reply),
                    Command::Park(reply) => self.ask_to_park(reply).await,
                },
                parked = parked(&mut self.parking), if self.parking.is_some() => {
                    self.parked(parked);
                }
                observed = answered(&mut self.answer), if self.answer.is_some() => {
                    if let Some(answer) = self.answer.take() {
                        self.answered(observed, &answer);
                    }
                }
                outcome = terminated(&mut self.termination), if self.termination.is_some() => {
                    self.termination = None;
                    self.terminated(outcome);
                }
                () = time_to_wake(&mut self.away, &mut self.pending, is_wanted),
                    if self.is_asleep() => self.wake_up(entry),
                () = gone(&mut self.observer), if self.observer.is_some() => self.observer_left(),
                () = at(yields_at), if yields_at.is_some() => self.answer_with_content(),
                Some(event) = self.events.recv() => match event {
                    Event::Lost if self.resume(entry).await => {}
                    event => self.event(event),
                },
                next = self.callbacks.next(),
                    if self.stage != Stage::Closed && self.callbacks.has_next() => match next {
                        Next::CallEnded(()) => self.call_ended(),
                        Next::Ended => {}
                        Next::Closed => self.stage = Stage::Closed,
                    },
                () = at(drained_at), if drained_at.is_some() => {
                    self.callbacks.cancel_all();
                    self.begin_closing();
                }
                () = at(patience), if patience.is_some() => self.out_of_patience(),
            }
        }
        true
    }

    /// When the host must have answered or closed the cell, and what it has failed to do
    /// if it has not.
    fn patience(&self) -> Option<(Instant, ConnectionError)> {
        if let Some((_, until)) = self.termination {
            return Some((until, ConnectionError::TimedOut("terminate")));
        }
        if let Some((_, at)) = self.outcome {
            let not_closed = self.stage == Stage::Running;
            return not_closed.then_some((at + TRANSPORT, ConnectionError::NotClosed));
        }
        let observer = self.observer.as_ref()?;
        let waits = observer.asked && self.answer.as_ref().is_some_and(|each| each.wait.is_some());
        waits.then_some((observer.deadline + TRANSPORT, ConnectionError::TimedOut("wait")))
    }

    fn out_of_patience(&mut self) {
        if let (Some((_, reason)), Some(Connected { connection, .. })) =
            (self.patience(), self.connected.get())
        {
            connection.fail(reason);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Admitted if self.ends_when_admitted && self.away.is_none() => self.end(),
            Event::Admitted => {}
            Event::Invoke { mut call, is_resumed, cancellation, reply } => {
                call.cell_id = self.handle.id.clone();
                self.status.call_started();
                let reply = self.noted(&call, is_resumed, reply);
                self.publish_state();
                let (sent, id) = (self.in_store.sent(), call.runtime_tool_call_id.clone());
                if is_resumed && let Some(end) = sent.take(&id) {
                    self.pending.insert(id.as_str(), end);
                }
                let reply = move |result| reply(sent.note(id, result));
                if is_resumed {
                    self.callbacks.resume(call, &mut self.pending, cancellation, reply);
                } else {
                    self.callbacks.call(call, cancellation, reply);
                }
                // The runtime keeps the task that was spawned last for this thread, and wakes
                // no other for it. A tool that blocks would then hold up the connection, if
                // this thread is the one that listens to it; so the call is not the last.
                tokio::spawn(std::future::ready(()));
            }
            Event::Notify { call_id, text, cancellation, reply } => {
                self.callbacks.notify(call_id, text, cancellation, reply);
            }
            Event::Kept(name) => self.kept(name),
            Event::Ended => {
                self.has_ended = true;
                self.ask_anew();
            }
            // The host has no cell any more that it has parked.
            Event::Closed if self.is_leaving() => self.closed_meanwhile(),
            Event::Closed if self.away.is_some() => self.closed_while_waking(),
            Event::Closed => self.host_closed(),
            Event::Leave => self.asked_to_leave(),
            // The answer that is on its way says so too.
            Event::Lost if self.away.is_some() => {}
            Event::Lost => {
                let failure = self
                    .connected
                    .get()
                    .map_or(Failure::Lost(ConnectionError::Dropped), |connected| {
                        connected.connection.lifeline().failure()
                    });
                if !self.can_be_found(&failure) {
                    self.callbacks.cancel_all();
                    self.begin_closing();
                }
                self.failed(failure);
            }
        }
    }

    /// Notes a nested call of a fleet's cell, for the report of its loss; the reply notes how it
    /// has ended.
    fn noted(
        &self,
        call: &CodeModeNestedToolCall,
        is_resumed: bool,
        reply: Reply<ToolResult>,
    ) -> Reply<ToolResult> {
        if self.keep.is_none() {
            return reply;
        }
        // One that goes on here was noted when it was made.
        if !(is_resumed && self.calls.is_running(&call.runtime_tool_call_id)) {
            self.calls.started(call);
        }
        let (calls, id) = (self.calls.clone(), call.runtime_tool_call_id.clone());
        Box::new(move |result| {
            calls.ended(&id, result.is_ok());
            reply(result)
        })
    }

    fn call_ended(&mut self) {
        self.status.call_ended();
        self.publish_state();
    }

    fn publish_state(&self) {
        if self.outcome.is_none() {
            let waits = self.status.calls_in_flight() > 0;
            self.status.set_state(if waits { CellState::Waiting } else { CellState::Running });
        }
    }
}

/// The answer that is on its way.
async fn answered(answer: &mut Option<OnItsWay>) -> Result<HostResponse, Failure> {
    match answer {
        Some(on_its_way) => on_its_way.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

/// The answer to a termination.
async fn terminated(
    termination: &mut Option<(Answer<HostResponse>, Instant)>,
) -> Result<HostResponse, Failure> {
    match termination {
        Some((answer, _)) => answer.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Returns when the observer has gone away.
async fn gone(observer: &mut Option<Observer>) {
    match observer {
        Some(observer) => observer.reply.closed().await,
        None => std::future::pending().await,
    }
}

/// Returns at an instant; never without one.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
