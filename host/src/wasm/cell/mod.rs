//! One cell: the task that owns a sandbox, and decides who is answered what when.
//!
//! The task turns one loop. What it looks at first wins: shutdown, then callers,
//! then deadlines, then the guest, then what happened outside. So neither
//! a program that spins nor one that floods its output can keep a caller waiting.
//! However the steps of a program are made, the task lets others run every fraction of a
//! millisecond, and all the time it is at work counts as the program's running time.
//!
//! A cell ends in three stages: it runs; it drains, when the program has ended
//! and notifications are still being delivered; it closes, when its calls have
//! been asked to return. Termination goes straight to the last.
//!
//! `guest` is the sandbox and its steps, `program` how it is started, `sent` what it sends,
//! `calls` the outcomes of its calls, `callers` who is answered, `end` the stages of
//! the end, `sleep` how it gives its sandbox up while it waits, `keep` how it outlives the
//! process meanwhile, `park` how it leaves as bytes and comes back, `busy` and `alarm` the time, `monitored` what whoever follows the
//! cell receives.

pub(super) use end::{limit_text, value_key};
pub(super) use park::{Arrival, Charges, allowed};
pub(super) use program::Program;

mod alarm;
mod busy;
mod callers;
mod calls;
mod end;
mod guest;
mod keep;
mod monitored;
mod park;
mod program;
mod sent;
mod sleep;

use super::bindings::cellblock::code_mode::types;
use super::engine::limit_kind;
use super::guest_clock::GuestClock;
use super::imports::{Imports, Outbox, Spent};
use super::sandbox::{Sandbox, Step};
use super::session::Session;
use crate::backend::{CellId, CellState, CellUsage, ExecuteRequest, LimitKind, ToolInput};
use crate::cells::{Callbacks, Charge, Command, Content, LiveEntry, Next, ParkReply, Reply, Until};
use crate::limits::CellLimits;
use crate::stored::{Snapshot, StoredValues};
use crate::tools::ToolName;
use alarm::{Alarm, due};
use busy::BusyTime;
use calls::{CallEnd, RecentCalls};
use end::{End, Stage};
use guest::{Events, Guest};
use keep::InStore;
use monitored::Monitored;
use sleep::Moved;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Running time that a guest has to end in once it was asked to.
const HARD_STOP_GRACE: Duration = Duration::from_millis(20);

/// A caller that waits for an answer.
struct Observer {
    reply: Reply,
    /// When to answer that the cell still runs; `None` waits for the frontier.
    deadline: Option<Instant>,
}

/// What a new cell is made from.
pub(super) struct Start {
    /// Its place in the registry.
    pub(super) entry: LiveEntry,
    pub(super) id: CellId,
    pub(super) request: ExecuteRequest,
    pub(super) stored_values: StoredValues,
    pub(super) session: Arc<Session>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// What the first caller waits for, and where its answer goes.
    pub(super) first: (Until, Reply),
    /// What the cell is charged for its tools.
    pub(super) tools_charge: Charge,
    /// The cell's limits.
    pub(super) limits: Arc<CellLimits>,
    /// The time as the guest of a parked cell saw it; `None` for one that begins now.
    pub(super) clock: Option<GuestClock>,
    /// The values that the program may load.
    pub(super) seen: Arc<Snapshot>,
    /// The key under which the guest stores a value that is too long.
    pub(super) value_key: String,
    /// The tools that the program may call; `None` for all of the request's.
    pub(super) allowed: Option<HashSet<ToolName>>,
}

/// Where a new cell comes from.
pub(super) enum Origin {
    /// A program.
    Program {
        /// Property names of the tools, in the order of the request.
        tool_names: Vec<String>,
        /// What the cell is charged for its source, until the guest has it.
        source_charge: Charge,
    },
    /// A parked cell.
    Parked(Box<Arrival>),
}

/// The task's state.
struct Cell {
    /// The cell's place in the registry, until its end. First, so that a task that dies
    /// ends the cell before its callers find the channel closed.
    entry: Option<LiveEntry>,
    id: CellId,
    /// The request, without its source.
    request: ExecuteRequest,
    /// Where the program's writes are committed.
    stored_values: StoredValues,
    session: Arc<Session>,
    /// What the guest sends, and what others see of the cell.
    outbox: Arc<Outbox>,
    /// Requests of callers.
    commands: mpsc::Receiver<Command>,
    /// The session is shutting down.
    shutdown: CancellationToken,
    /// The caller that waits, if one does.
    observer: Option<Observer>,
    /// The caller that terminates the cell, once one does.
    terminator: Option<Reply>,
    /// Output that no answer has taken yet.
    content: Content,
    /// Pieces of output that there have been.
    items: u64,
    /// Nested calls and notifications.
    callbacks: Callbacks<CallEnd>,
    /// The newest calls, for the report.
    recent_calls: RecentCalls,
    /// Who follows the cell.
    monitored: Monitored,
    guest: Guest,
    /// What the next step will deliver.
    events: Events,
    /// The program waits at a frontier that was answered; it stays until observed.
    frozen: bool,
    /// Numbers of the calls made since the last frontier.
    calls_since_frontier: Vec<u64>,
    /// Wakes the task when something may be due.
    alarm: Alarm,
    /// The time that the task has been at work, which is the program's running time.
    busy: BusyTime,
    /// The limit at which the guest was asked to end, and the running time by
    /// which it must have.
    asked_to_end: Option<(types::Limit, Duration)>,
    /// When the total time is over.
    ends_at: Instant,
    /// What the cell is charged for its tools.
    _tools: Charge,
    limits: Arc<CellLimits>,
    /// The time as the guest sees it.
    clock: GuestClock,
    /// The values that the program may load.
    seen: Arc<Snapshot>,
    /// The key under which the guest stores a value that is too long.
    value_key: String,
    /// The tools that the program may call; `None` for all of the request's.
    allowed: Option<HashSet<ToolName>>,
    /// Nested calls that have not ended: the tool's place in the request, and the input.
    pending: BTreeMap<u64, (usize, Option<ToolInput>)>,
    /// The caller that parks the cell, if one does.
    parker: Option<ParkReply>,
    /// The cell in its session's store, if that has one.
    in_store: Option<InStore>,
}

/// Why the loop woke up.
enum Wake {
    Shutdown,
    Command(Command),
    YieldTime,
    /// The guest has come to where it was on its way to.
    Moved(Moved),
    /// The guest is to give its sandbox up, or to be kept.
    Sleep,
    /// Something may be due.
    Alarm,
    /// The guest has had a slice: `Some` when its step has ended.
    Slice(Option<(Option<Sandbox>, Step)>),
    Callback(Next<CallEnd>),
    Timer(u64),
    TotalTime,
}

/// Runs a cell to its end, or until it was parked.
///
/// What is large is on the heap once, and not in the future, which has room for everything
/// that it ever holds.
pub(super) async fn run(start: Box<Start>, origin: Origin) {
    let (mut cell, first) = Cell::new(*start);
    match origin {
        Origin::Program { tool_names, source_charge } => cell.begin(tool_names, source_charge),
        Origin::Parked(arrival) => cell.take_up(*arrival),
    }
    cell.observe(first.0, first.1);
    if let Some(end) = cell.run_to_close().await {
        cell.leave_store().await;
        cell.close(end);
    }
}

impl Cell {
    /// A cell that has not begun, and its first observer.
    fn new(mut start: Start) -> (Box<Self>, (Until, Reply)) {
        // The clock is the session's, and may panic: that ends the cell, whose task this is.
        let now = || GuestClock::new(Arc::clone(&start.session.clock));
        let clock = start.clock.take().unwrap_or_else(now);
        let Start {
            entry, id, mut request, stored_values, session, outbox, commands, first, ..
        } = start;
        let callbacks = Callbacks::new(&entry, session.turns.watch());
        let in_store = session.store().and_then(InStore::new);
        let cell = Box::new(Self {
            entry: Some(entry),
            monitored: Monitored::new(std::mem::take(&mut request.monitor)),
            shutdown: session.shutdown.clone(),
            ends_at: Instant::now() + start.limits.total_time,
            id,
            request,
            stored_values,
            session,
            outbox,
            commands,
            observer: None,
            terminator: None,
            content: Content::default(),
            items: 0,
            callbacks,
            recent_calls: RecentCalls::default(),
            guest: Guest::Gone,
            events: Events::default(),
            frozen: false,
            calls_since_frontier: Vec::new(),
            alarm: Alarm::default(),
            busy: BusyTime::start(Duration::ZERO),
            asked_to_end: None,
            _tools: start.tools_charge,
            limits: start.limits,
            clock,
            seen: start.seen,
            value_key: start.value_key,
            allowed: start.allowed,
            pending: BTreeMap::new(),
            parker: None,
            in_store,
        });
        (cell, first)
    }

    /// What the cell's guest can reach.
    fn imports(&self) -> Imports {
        Imports::new(
            Arc::clone(&self.outbox),
            Arc::clone(&self.limits),
            Arc::clone(&self.request.enabled_tools),
            Arc::clone(&self.seen),
            self.clock.clone(),
        )
    }

    /// Turns the loop until nothing of the cell runs any more; `None` when it was parked.
    async fn run_to_close(&mut self) -> Option<End> {
        let mut stage = Stage::Running;
        loop {
            // Before calls are made: a task that yields waits for what its worker runs next, and
            // that must not be a tool that blocks.
            self.busy.be_fair().await;
            self.take_output();
            if matches!(stage, Stage::Running) {
                self.resume();
                self.publish_state().await;
                // Boxed: seldom there, and larger than all the rest.
                if self.parker.is_some() && Box::pin(self.park()).await {
                    return None;
                }
            }
            stage = match stage {
                Stage::Draining(end) if !self.callbacks.is_notifying() => self.begin_closing(end),
                other => other,
            };
            stage = match self.wake(&stage).await {
                Wake::Shutdown => self.begin_terminating(stage),
                Wake::Command(Command::Observe(until, reply)) => {
                    self.observe(until, reply);
                    stage
                }
                Wake::Command(Command::Terminate(reply)) => self.terminate(stage, reply),
                Wake::Command(Command::Park(reply)) => {
                    self.ask_to_park(reply);
                    stage
                }
                Wake::YieldTime => {
                    self.answer_yield();
                    stage
                }
                Wake::Sleep => {
                    self.fall_asleep();
                    stage
                }
                Wake::Moved(moved) => self.moved(moved),
                Wake::Slice(None) => self.watch_running_time(stage),
                Wake::Slice(Some((sandbox, step))) => {
                    let stage = self.step_reached(sandbox, step);
                    self.watch_running_time(stage)
                }
                Wake::Callback(Next::CallEnded(end)) => {
                    self.call_ended(end);
                    stage
                }
                Wake::Alarm | Wake::Callback(Next::Ended) => stage,
                Wake::Callback(Next::Closed) => match stage {
                    Stage::Closing(end) => return Some(end),
                    other => other,
                },
                Wake::Timer(id) => {
                    if let Guest::Resting { timer, .. } = &mut self.guest {
                        *timer = None;
                    }
                    self.events.timer_fired(id);
                    stage
                }
                Wake::TotalTime => self.total_time_over(stage),
            };
        }
    }

    /// Waits for the next thing to do. The order of the branches is the priority.
    async fn wake(&mut self, stage: &Stage) -> Wake {
        let running = matches!(stage, Stage::Running);
        let yield_at = self.observer.as_ref().and_then(|observer| observer.deadline);
        let alive = running || matches!(stage, Stage::Draining(_));
        let ends_at = Some(self.ends_at).filter(|_| alive && self.asked_to_end.is_none());
        let (timer, is_awake) = (self.guest.timer(), self.guest.sleeps_at().is_some());
        let sleeps_at = self.guest.sleeps_at().or_else(|| self.keeps_at());
        let timer_at = timer.map(|(_, at)| at);
        let earliest = [yield_at, ends_at, timer_at, sleeps_at].into_iter().flatten().min();
        let Self { busy, shutdown, commands, guest, callbacks, alarm, session, .. } = self;
        busy.measure(async {
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if alive => Wake::Shutdown,
                Some(command) = commands.recv() => Wake::Command(command),
                () = due(yield_at) => Wake::YieldTime,
                () = due(ends_at) => Wake::TotalTime,
                wake = guest.go_on(), if guest.is_running() || guest.is_moving() => wake,
                next = callbacks.next(), if callbacks.has_next() => Wake::Callback(next),
                () = due(timer_at) => Wake::Timer(timer.map_or(0, |(id, _)| id)),
                () = due(sleeps_at) => Wake::Sleep,
                () = session.engine.slots().wanted(), if is_awake => Wake::Sleep,
                () = alarm.ring(earliest), if earliest.is_some() => Wake::Alarm,
            }
        })
        .await
    }

    async fn publish_state(&mut self) {
        let state = if self.guest.is_moving() {
            // As before.
            return;
        } else if self.guest.is_running() {
            CellState::Running
        } else if self.is_stuck().await {
            CellState::Stuck
        } else {
            CellState::Waiting
        };
        self.outbox.status.set_state(state);
        self.report_wait().await;
    }

    fn step_reached(&mut self, sandbox: Option<Sandbox>, step: Step) -> Stage {
        match (step, sandbox) {
            (Step::Pending(timer), Some(sandbox)) => {
                let timer = timer.map(|timer| self.arm(timer));
                self.rest(Box::new(sandbox), timer);
                Stage::Running
            }
            (Step::Finished(finished), sandbox) => {
                // The sandbox is gone from here on; only what it sent is left.
                drop(sandbox);
                self.take_output();
                self.finish(finished)
            }
            // Cannot be: a step that is pending has its sandbox.
            (Step::Pending(_), None) => self.finish(super::sandbox::Finished::Broken),
        }
    }

    /// Looks at the time after a slice or a step: asks the guest to end, or ends it when
    /// it was asked and did not, or is at rest.
    fn watch_running_time(&mut self, stage: Stage) -> Stage {
        if !matches!(stage, Stage::Running) {
            return stage;
        }
        let running_time = self.busy.total();
        match self.asked_to_end {
            Some((limit, patience)) if running_time >= patience || !self.guest.is_running() => {
                self.stop_at(limit_kind(limit))
            }
            None if running_time >= self.limits.running_time => {
                if self.guest.is_running() {
                    self.ask_to_end(types::Limit::RunningTime);
                    stage
                } else {
                    self.stop_at(LimitKind::RunningTime)
                }
            }
            _ => stage,
        }
    }

    fn ask_to_end(&mut self, limit: types::Limit) {
        self.outbox.ask_to_end(limit);
        self.asked_to_end = Some((limit, self.busy.total() + HARD_STOP_GRACE));
    }

    /// The cell has had its time: a guest that runs is asked to end, one that rests is
    /// ended, and notifications that were not delivered by now are dropped.
    fn total_time_over(&mut self, stage: Stage) -> Stage {
        match stage {
            Stage::Running if self.guest.is_running() => {
                self.ask_to_end(types::Limit::TotalTime);
                stage
            }
            Stage::Running => self.stop_at(LimitKind::TotalTime),
            Stage::Draining(end) => {
                self.callbacks.cancel_all();
                self.begin_closing(end)
            }
            closing @ Stage::Closing(..) => closing,
        }
    }

    /// Usage so far.
    fn usage_now(&self) -> CellUsage {
        let Spent { peak_memory, calls, output_bytes, .. } = self.outbox.spent();
        CellUsage {
            fuel: self.outbox.fuel_used(),
            peak_memory_bytes: peak_memory as u64,
            running_time: self.busy.total(),
            calls: calls as u64,
            output_bytes: output_bytes as u64,
        }
    }
}
