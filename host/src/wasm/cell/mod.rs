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
//! `guest` is the sandbox and its steps, `program` how it is started, `calls` the outcomes of its calls, `end` the stages of
//! the end, `busy` the time, `monitored` what whoever follows the cell receives.

mod busy;
mod calls;
mod end;
mod guest;
mod monitored;
mod program;

use super::bindings::cellblock::code_mode::types;
use super::engine::limit_kind;
use super::imports::{GuestOutput, Outbox, Totals};
use super::sandbox::{SLICE_FUEL, Sandbox, Step};
use super::session::Session;
use crate::backend::{
    BoxFuture, CellEvent, CellId, CellReport, CellState, CellUsage, CodeModeError,
    CodeModeNestedToolCall, ExecuteRequest, LimitKind, RuntimeResponse, ToolInput,
};
use crate::cells::{Answer, Callbacks, Charge, Command, Content, LiveEntry, Next, Reply, Until};
use crate::stored::StoredValues;
use busy::{BusyTime, at};
use calls::{CallEnd, RecentCalls};
use end::{End, Stage};
use guest::{Events, Guest};
use monitored::Monitored;
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
    /// Property names of the tools, in the order of the request.
    pub(super) tool_names: Vec<String>,
    /// What the cell is charged for its source, until the guest has it.
    pub(super) source_charge: Charge,
    /// What the cell is charged for its tools.
    pub(super) tools_charge: Charge,
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
    /// Fuel of the steps that have ended.
    fuel: u64,
    /// Slices of the step that runs.
    slices: u64,
    /// The time that the task has been at work, which is the program's running time.
    busy: BusyTime,
    /// The limit at which the guest was asked to end, and the running time by
    /// which it must have.
    asked_to_end: Option<(types::Limit, Duration)>,
    /// When the total time is over.
    ends_at: Instant,
    /// What the cell is charged for its tools.
    _tools: Charge,
}

/// Why the loop woke up.
enum Wake {
    Shutdown,
    Command(Command),
    YieldTime,
    /// The guest has had a slice: `Some` when its step has ended.
    Slice(Option<(Option<Sandbox>, Step)>),
    Callback(Next<CallEnd>),
    Timer(u64),
    TotalTime,
}

/// Runs a cell to its end.
pub(super) async fn run(start: Start) {
    let (mut cell, first) = Cell::new(start);
    cell.observe(first.0, first.1);
    let end = cell.run_to_close().await;
    cell.close(end);
}

impl Cell {
    /// A cell whose first step is to be made, and its first observer.
    fn new(mut start: Start) -> (Self, (Until, Reply)) {
        let guest = Self::first_step(&mut start);
        let Start {
            entry, id, mut request, stored_values, session, outbox, commands, first, ..
        } = start;
        let callbacks = Callbacks::new(&entry, session.turns.watch());
        let cell = Self {
            entry: Some(entry),
            monitored: Monitored::new(std::mem::take(&mut request.monitor)),
            shutdown: session.shutdown.clone(),
            ends_at: Instant::now() + session.limits.cell.total_time,
            id,
            request,
            stored_values,
            session,
            outbox,
            commands,
            observer: None,
            terminator: None,
            content: Content::default(),
            callbacks,
            recent_calls: RecentCalls::default(),
            guest,
            events: Events::default(),
            frozen: false,
            calls_since_frontier: Vec::new(),
            fuel: 0,
            slices: 0,
            busy: BusyTime::start(),
            asked_to_end: None,
            _tools: start.tools_charge,
        };
        (cell, first)
    }

    /// Turns the loop until nothing of the cell runs any more.
    async fn run_to_close(&mut self) -> End {
        let mut stage = Stage::Running;
        loop {
            // Before calls are made: a task that yields waits for what its worker runs next, and
            // that must not be a tool that blocks.
            self.busy.be_fair().await;
            self.take_output();
            if matches!(stage, Stage::Running) {
                self.resume();
                self.publish_state().await;
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
                Wake::YieldTime => {
                    self.answer_yield();
                    stage
                }
                Wake::Slice(None) => {
                    self.slices += 1;
                    self.watch_running_time(stage)
                }
                Wake::Slice(Some((sandbox, step))) => {
                    let stage = self.step_reached(sandbox, step);
                    self.watch_running_time(stage)
                }
                Wake::Callback(Next::CallEnded(end)) => {
                    self.call_ended(end);
                    stage
                }
                Wake::Callback(Next::Ended) => stage,
                Wake::Callback(Next::Closed) => match stage {
                    Stage::Closing(end) => return end,
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
        let timer = self.guest.timer();
        let Self { busy, shutdown, commands, guest, callbacks, .. } = self;
        busy.measure(async {
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if alive => Wake::Shutdown,
                Some(command) = commands.recv() => Wake::Command(command),
                () = at(yield_at), if yield_at.is_some() => Wake::YieldTime,
                () = at(ends_at), if ends_at.is_some() => Wake::TotalTime,
                done = guest.slice(), if guest.is_running() => Wake::Slice(done),
                next = callbacks.next(), if callbacks.has_next() => Wake::Callback(next),
                () = at(timer.map(|(_, at)| at)), if timer.is_some() => {
                    Wake::Timer(timer.map_or(0, |(id, _)| id))
                }
            }
        })
        .await
    }

    /// Takes what the guest sent since the last turn.
    fn take_output(&mut self) {
        for output in self.outbox.take() {
            match output {
                GuestOutput::Item(item, charge) => {
                    self.monitored.send(CellEvent::Output(&item));
                    self.content.push(item, charge);
                }
                GuestOutput::Notification(text, charge) => self.notify(text, charge),
                GuestOutput::Yield => {
                    // An observer of the frontier is not interested.
                    if self.observer.as_ref().is_some_and(|observer| observer.deadline.is_some()) {
                        self.answer_yield();
                    }
                }
                GuestOutput::Call { id, tool, input, charge } => self.call(id, tool, input, charge),
            }
        }
    }

    fn notify(&mut self, text: String, charge: Charge) {
        self.monitored.send(CellEvent::Notification(&text));
        let (request, token) =
            (self.request.tool_call_id.clone(), self.callbacks.notifications_token().clone());
        let delivered = move |_| -> BoxFuture<'static, ()> {
            drop(charge);
            Box::pin(std::future::ready(()))
        };
        self.callbacks.notify(request, text, token, Box::new(delivered));
    }

    fn call(&mut self, id: u64, tool: usize, input: Option<String>, charge: Charge) {
        self.calls_since_frontier.push(id);
        let refuse = |cell: &mut Self, why: String| {
            cell.outbox.status.call_ended();
            cell.events.call_ended(CallEnd::failed(id, &why));
        };
        // The guest is not trusted: what is sent on as JSON must be JSON.
        let input = match input.map(ToolInput::from_json).transpose() {
            Ok(input) => input,
            Err(error) => {
                refuse(self, format!("failed to serialize JavaScript value: {error}"));
                return;
            }
        };
        let Some(tool) = self.request.enabled_tools.get(tool) else {
            refuse(self, "code mode nested tool is unknown".to_owned());
            return;
        };
        let call = CodeModeNestedToolCall {
            cell_id: self.id.clone(),
            runtime_tool_call_id: format!("tool-{id}"),
            tool_name: tool.tool_name.clone(),
            tool_kind: tool.kind,
            input,
        };
        self.recent_calls.made(id, &call.tool_name);
        self.monitored.send(CellEvent::CallStarted(&call));
        let (account, limit) =
            (Arc::clone(&self.outbox.account), self.session.limits.cell.result_bytes);
        let token = self.callbacks.calls_token().clone();
        self.callbacks.call(call, token, move |result| {
            // The input is gone.
            drop(charge);
            std::future::ready(CallEnd::new(id, result, limit, &account))
        });
    }

    fn call_ended(&mut self, end: CallEnd) {
        // Whatever else has ended by now goes into the same batch.
        let mut next = Some(end);
        while let Some(end) = next {
            self.outbox.status.call_ended();
            self.recent_calls.ended(&end);
            self.monitored.call_ended(&end);
            self.events.call_ended(end);
            next = self.callbacks.try_next();
        }
    }

    async fn publish_state(&mut self) {
        let state = if self.guest.is_running() {
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
        if let Some(sandbox) = &sandbox {
            self.slices = 0;
            self.fuel = sandbox.fuel_used();
        }
        match (step, sandbox) {
            (Step::Pending(timer), Some(sandbox)) => {
                let timer = timer.map(|timer| self.arm(timer));
                self.guest = Guest::Resting { sandbox: Box::new(sandbox), timer };
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
            None if running_time >= self.session.limits.cell.running_time => {
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

    fn terminate(&mut self, stage: Stage, reply: Reply) -> Stage {
        if self.terminator.is_some() || matches!(stage, Stage::Closing(End::Terminated)) {
            // A caller that has gone away needs no answer.
            let _ = reply.send(Err(CodeModeError::AlreadyTerminating(self.id.clone())));
            return stage;
        }
        self.terminator = Some(reply);
        match stage {
            // The program has ended and nothing of it is cancelled any more: it wins.
            closing @ Stage::Closing(..) => closing,
            running => self.begin_terminating(running),
        }
    }

    fn observe(&mut self, until: Until, reply: Reply) {
        if self.observer.as_ref().is_some_and(|observer| !observer.reply.is_closed()) {
            let _ = reply.send(Err(CodeModeError::AlreadyObserved(self.id.clone())));
            return;
        }
        let deadline = match until {
            // A time beyond the clock's end needs no timer: a century is the longest.
            Until::Yield(timeout) => {
                Some(Instant::now() + timeout.min(Duration::from_hours(100 * 365 * 24)))
            }
            Until::Frontier => None,
        };
        self.observer = Some(Observer { reply, deadline });
        self.frozen = false;
    }

    fn answer_yield(&mut self) {
        let Content { items: content_items, charge } = std::mem::take(&mut self.content);
        let report = CellReport { usage: self.usage_now(), ..CellReport::default() };
        self.monitored.send(CellEvent::Yielded { usage: &report.usage });
        let cell_id = self.id.clone();
        let response = RuntimeResponse::Yielded { cell_id, content_items, report };
        self.answer(Answer::Yielded(response, charge));
    }

    fn answer_frontier(&mut self) {
        let content = std::mem::take(&mut self.content);
        let calls = std::mem::take(&mut self.calls_since_frontier);
        self.frozen = true;
        self.answer(Answer::Pending(content, calls));
    }

    /// Answers the observer; output comes back when they have gone away.
    fn answer(&mut self, answer: Answer) {
        let Some(observer) = self.observer.take() else { return };
        let Err(Ok(mut answer)) = observer.reply.send(Ok(answer)) else { return };
        if let Answer::Pending(_, calls) = &mut answer {
            self.calls_since_frontier.splice(0..0, calls.drain(..));
        }
        self.content.prepend(answer.into_content());
    }

    /// Usage so far. A step that has not ended, or was dropped, counts with the
    /// slices it has had.
    fn usage_now(&self) -> CellUsage {
        let Totals { peak_memory, calls, output_bytes } = self.outbox.totals();
        CellUsage {
            fuel: self.fuel + self.slices * SLICE_FUEL,
            peak_memory_bytes: peak_memory as u64,
            running_time: self.busy.total(),
            calls: calls as u64,
            output_bytes: output_bytes as u64,
        }
    }
}
