//! One cell: the task that owns a sandbox, and decides who hears what when.
//!
//! The task turns one loop. What it looks at first wins: shutdown, then callers,
//! then deadlines, then the guest, then what happened outside. So neither
//! a program that spins nor one that floods its output can keep a caller waiting.
//!
//! A cell ends in three stages: it runs; it drains, when the program has ended
//! and notifications are still being delivered; it closes, when its calls have
//! been asked to return. Termination goes straight to the last.

use super::bindings::cellblock::code_mode::types;
use super::callbacks::{CallEnd, Callbacks, Next};
use super::engine::limit_kind;
use super::imports::{Imports, Said, Surroundings, Totals};
use super::registry::Shared;
use super::sandbox::{Finished, SLICE_FUEL, Sandbox, Step, Timer};
use super::session::Session;
use crate::backend::{
    CallReport, CellId, CellReport, CellState, CellUsage, CodeModeError, CodeModeNestedToolCall,
    ContentItem, ExecuteRequest, LimitKind, RuntimeResponse,
};
use crate::stored::StoredValues;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a cell's observer hears.
#[derive(Debug)]
pub(super) enum Answer {
    /// The cell still runs.
    Yielded(RuntimeResponse),
    /// The program waits, frozen: output, and calls since the last frontier.
    Pending(Vec<ContentItem>, Vec<String>),
    /// The cell has ended.
    Ended(RuntimeResponse),
    /// The observer was not admitted.
    Refused(CodeModeError),
}

/// What an observer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Output worth telling, or the time.
    Yield(Duration),
    /// The program waits for something outside.
    Frontier,
}

/// A request to a living cell.
#[derive(Debug)]
pub(super) enum Command {
    Observe(Until, oneshot::Sender<Answer>),
    Terminate(oneshot::Sender<Answer>),
}

struct Observer {
    reply: oneshot::Sender<Answer>,
    /// When to answer that the cell still runs; `None` waits for the frontier.
    deadline: Option<Instant>,
}

/// Where a cell is on its way to its end.
enum Stage {
    Running,
    /// The program has ended; notifications are still being delivered.
    Draining(End),
    /// Calls have been asked to return; until the instant they may.
    Closing(End, Instant),
}

enum End {
    Program(Finished),
    Terminated,
}

/// A sandbox at work: gives itself back with the step it reached.
type Working = Pin<Box<dyn Future<Output = (Option<Sandbox>, Step)> + Send>>;

/// What a new cell is made from.
pub(super) struct Start {
    pub(super) id: CellId,
    pub(super) request: ExecuteRequest,
    pub(super) stored_values: StoredValues,
    pub(super) session: Arc<Session>,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) first: (Until, oneshot::Sender<Answer>),
}

/// The task's state.
struct Cell {
    id: CellId,
    request: ExecuteRequest,
    stored_values: StoredValues,
    session: Arc<Session>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    shutdown: CancellationToken,
    observer: Option<Observer>,
    terminator: Option<oneshot::Sender<Answer>>,
    /// Output that nobody has heard yet.
    content: Vec<ContentItem>,
    callbacks: Callbacks,
    sandbox: Option<Sandbox>,
    working: Option<Working>,
    events: Vec<types::Event>,
    timer: Option<(u64, Instant)>,
    /// The program waits at a frontier that was answered; it stays until observed.
    frozen: bool,
    calls_since_frontier: Vec<String>,
    /// Fuel of the steps that have ended.
    fuel: u64,
    running_time: Duration,
    /// Slices of the step that runs.
    slices: u64,
    /// The limit at which the guest was asked to end, and the running time by
    /// which it must have.
    asked_to_end: Option<(types::Limit, Duration)>,
    ends_at: Instant,
    /// Calls that outstayed their grace were dropped.
    aborted: bool,
}

/// Why the loop woke up.
enum Woken {
    Shutdown,
    Command(Command),
    YieldTime,
    Slice(Option<(Option<Sandbox>, Step)>),
    Callback(Next),
    Timer(u64),
    TotalTime,
    GraceOver,
}

/// Runs a cell to its end.
pub(super) async fn run(start: Start) {
    let Start { id, request, stored_values, session, shared, commands, first } = start;
    let limits = &session.limits.cell;
    let callbacks = Callbacks::new(
        id.clone(),
        request.tool_call_id.clone(),
        limits.result_bytes,
        Arc::clone(&shared.outbox),
        session.turns.watch(),
    );
    let mut cell = Cell {
        shutdown: session.shutdown.clone(),
        ends_at: Instant::now() + limits.total_time,
        id,
        request,
        stored_values,
        session,
        shared,
        commands,
        observer: None,
        terminator: None,
        content: Vec::new(),
        callbacks,
        sandbox: None,
        working: None,
        events: Vec::new(),
        timer: None,
        frozen: false,
        calls_since_frontier: Vec::new(),
        fuel: 0,
        running_time: Duration::ZERO,
        slices: 0,
        asked_to_end: None,
        aborted: false,
    };
    cell.observe(first.0, first.1);
    cell.start();
    let end = cell.turn_until_closed().await;
    cell.close(end);
}

impl Cell {
    /// Begins the first step: instantiate, and run the program.
    fn start(&mut self) {
        let limits = &self.session.limits.cell;
        let imports = Imports::new(Surroundings {
            outbox: Arc::clone(&self.shared.outbox),
            limits: Arc::clone(&self.session.cell_limits),
            tools: Arc::clone(&self.request.enabled_tools),
            stored: self.stored_values.snapshot(),
            clock: Arc::clone(&self.session.clock),
        });
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let request = types::ExecuteRequest {
            source: std::mem::take(&mut self.request.source),
            tools: self.session.tool_names(&self.request.enabled_tools),
            random_seed: self.session.random.seed(),
            limits: types::GuestLimits {
                memory_bytes: limits.memory_bytes as u64,
                stack_bytes: count(limits.stack_bytes),
                timers: count(limits.timers),
                stored_bytes: limits.stored_bytes as u64,
                stored_keys: count(limits.stored_keys),
            },
        };
        let engine = self.session.engine.clone();
        self.working = Some(Box::pin(async move {
            match Sandbox::new(&engine, imports).await {
                Ok(mut sandbox) => {
                    let step = sandbox.execute(request).await;
                    (Some(sandbox), step)
                }
                Err(error) => {
                    tracing::error!("no sandbox for a new cell: {error:#}");
                    let error_text = format!("failed to initialize code mode runtime: {error:#}");
                    let stored = Vec::new();
                    (None, Step::Finished(Finished::Failed { error_text, stored, hint: None }))
                }
            }
        }));
    }

    /// Turns the loop until nothing of the cell runs any more.
    async fn turn_until_closed(&mut self) -> End {
        let mut stage = Stage::Running;
        loop {
            self.take_output();
            if matches!(stage, Stage::Running) {
                self.resume();
                self.tell_state();
            }
            stage = match stage {
                Stage::Draining(end) if !self.callbacks.is_notifying() => self.begin_closing(end),
                other => other,
            };
            match stage {
                Stage::Closing(end, _) if self.callbacks.is_idle() => return end,
                _ => {}
            }
            stage = match self.woken(&stage).await {
                Woken::Shutdown => self.begin_terminating(stage),
                Woken::Command(Command::Observe(until, reply)) => {
                    self.observe(until, reply);
                    stage
                }
                Woken::Command(Command::Terminate(reply)) => self.terminate(stage, reply),
                Woken::YieldTime => {
                    self.answer_yield();
                    stage
                }
                Woken::Slice(None) => {
                    self.slices += 1;
                    self.watch_running_time(stage)
                }
                Woken::Slice(Some((sandbox, step))) => self.step_reached(sandbox, step),
                Woken::Callback(Next::Ended(end)) => {
                    self.call_ended(end);
                    stage
                }
                Woken::Timer(id) => {
                    self.timer = None;
                    self.events.push(types::Event::TimerFired(id));
                    stage
                }
                Woken::Callback(Next::WorkerChanged) => {
                    self.callbacks.dispatch_waiting();
                    stage
                }
                Woken::TotalTime => self.total_time_over(stage),
                Woken::GraceOver => match self.grace_over(stage) {
                    Ok(end) => return end,
                    Err(stage) => stage,
                },
            };
        }
    }

    /// Waits for the next thing to do. The order of the branches is the priority.
    async fn woken(&mut self, stage: &Stage) -> Woken {
        let running = matches!(stage, Stage::Running);
        let yield_at = self.observer.as_ref().and_then(|observer| observer.deadline);
        let grace_ends = match stage {
            Stage::Closing(_, at) => Some(*at),
            _ => None,
        };
        let alive = running || matches!(stage, Stage::Draining(_));
        let ends_at = Some(self.ends_at).filter(|_| alive && self.asked_to_end.is_none());
        let timer = self.timer.filter(|_| running && self.working.is_none());
        tokio::select! {
            biased;
            () = self.shutdown.cancelled(), if alive => Woken::Shutdown,
            Some(command) = self.commands.recv() => Woken::Command(command),
            () = at(yield_at), if yield_at.is_some() => Woken::YieldTime,
            () = at(grace_ends), if grace_ends.is_some() => Woken::GraceOver,
            () = at(ends_at), if ends_at.is_some() => Woken::TotalTime,
            done = slice(&mut self.working, &mut self.running_time), if self.working.is_some() => Woken::Slice(done),
            next = self.callbacks.next(), if self.callbacks.has_next() => Woken::Callback(next),
            () = at(timer.map(|(_, at)| at)), if timer.is_some() => {
                Woken::Timer(timer.map_or(0, |(id, _)| id))
            }
        }
    }

    /// Takes what the guest said since the last turn.
    fn take_output(&mut self) {
        for said in self.shared.outbox.take() {
            match said {
                Said::Item(item) => self.content.push(item),
                Said::Notification(text) => self.callbacks.notify(text),
                Said::Yield => {
                    // An observer of the frontier is not interested.
                    if self.observer.as_ref().is_some_and(|observer| observer.deadline.is_some()) {
                        self.answer_yield();
                    }
                }
                Said::Call { id, tool, input } => self.call(id, tool, input.as_deref()),
            }
        }
    }

    fn call(&mut self, id: u64, tool: usize, input: Option<&str>) {
        let runtime_tool_call_id = format!("tool-{id}");
        self.calls_since_frontier.push(runtime_tool_call_id.clone());
        let refuse = |cell: &mut Self, why: String| {
            cell.shared.outbox.call_ended();
            cell.events.push(types::Event::CallFailed(types::CallEnd { id, text: why }));
        };
        let input = match input.map(serde_json::from_str).transpose() {
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
            runtime_tool_call_id,
            tool_name: tool.tool_name.clone(),
            tool_kind: tool.kind,
            input,
        };
        self.callbacks.call(id, call);
    }

    fn call_ended(&mut self, end: Option<CallEnd>) {
        // Whatever else has ended by now goes into the same batch.
        let ends = end.into_iter().chain(std::iter::from_fn(|| self.callbacks.try_next()));
        self.events.extend(ends.map(|(id, result)| match result {
            Ok(text) => types::Event::CallSucceeded(types::CallEnd { id, text }),
            Err(text) => types::Event::CallFailed(types::CallEnd { id, text }),
        }));
    }

    /// Delivers events to a guest at rest, or answers that it waits.
    fn resume(&mut self) {
        if self.working.is_some() || self.frozen {
            return;
        }
        if self.events.is_empty() {
            if self.observer.as_ref().is_some_and(|observer| observer.deadline.is_none()) {
                self.answer_frontier();
            }
            return;
        }
        let Some(mut sandbox) = self.sandbox.take() else { return };
        let events = std::mem::take(&mut self.events);
        self.timer = None;
        self.working = Some(Box::pin(async move {
            let step = sandbox.wait(events).await;
            (Some(sandbox), step)
        }));
    }

    fn tell_state(&self) {
        let running = self.working.is_some();
        self.shared.set_state(if running { CellState::Running } else { CellState::Waiting });
    }

    fn step_reached(&mut self, sandbox: Option<Sandbox>, step: Step) -> Stage {
        self.working = None;
        if let Some(sandbox) = &sandbox {
            self.slices = 0;
            self.fuel = sandbox.fuel_used();
        }
        match step {
            Step::Pending(timer) => {
                self.sandbox = sandbox;
                self.timer = timer.map(|timer| self.arm(timer));
                Stage::Running
            }
            Step::Finished(finished) => {
                // The sandbox is gone from here on; only what it said is left.
                drop(sandbox);
                self.take_output();
                self.finish(finished)
            }
        }
    }

    fn arm(&self, timer: Timer) -> (u64, Instant) {
        let now = self.session.clock.monotonic();
        (timer.id, Instant::now() + timer.due.saturating_sub(now))
    }

    fn finish(&mut self, finished: Finished) -> Stage {
        self.timer = None;
        self.shared.set_state(CellState::Ending);
        self.callbacks.drop_undeliverable();
        Stage::Draining(End::Program(finished))
    }

    fn stop_at(&mut self, limit: LimitKind) -> Stage {
        // Dropping the future ends the guest where it is, and its store with it.
        self.working = None;
        self.sandbox = None;
        self.take_output();
        self.finish(Finished::Limited { limit, stack: String::new() })
    }

    /// Looks at the time after a slice: asks the guest to end, or ends it when
    /// it was asked and did not.
    fn watch_running_time(&mut self, stage: Stage) -> Stage {
        match self.asked_to_end {
            Some((limit, patience)) if self.running_time >= patience => {
                self.stop_at(limit_kind(limit))
            }
            None if self.running_time >= self.session.limits.cell.running_time => {
                self.ask_to_end(types::Limit::RunningTime);
                stage
            }
            _ => stage,
        }
    }

    fn ask_to_end(&mut self, limit: types::Limit) {
        self.shared.outbox.ask_to_end(limit);
        self.asked_to_end = Some((limit, self.running_time + HARD_STOP_GRACE));
    }

    /// The cell has had its time: a guest that runs is asked to end, one that rests is
    /// ended, and notifications that were not delivered by now are given up.
    fn total_time_over(&mut self, stage: Stage) -> Stage {
        match stage {
            Stage::Running if self.working.is_some() => {
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

    /// Calls that did not return when asked are dropped where they await; one that
    /// never awaits is left to itself, and the cell ends without it.
    fn grace_over(&mut self, stage: Stage) -> Result<End, Stage> {
        match stage {
            Stage::Closing(end, _) if self.aborted => Ok(end),
            Stage::Closing(end, _) => {
                self.callbacks.abort();
                self.aborted = true;
                Err(Stage::Closing(end, Instant::now() + ABORT_GRACE))
            }
            other => Err(other),
        }
    }

    fn begin_closing(&mut self, end: End) -> Stage {
        self.callbacks.cancel_calls();
        Stage::Closing(end, Instant::now() + self.session.limits.cell.cancel_grace)
    }

    fn terminate(&mut self, stage: Stage, reply: oneshot::Sender<Answer>) -> Stage {
        if self.terminator.is_some() || matches!(stage, Stage::Closing(End::Terminated, _)) {
            let refusal = CodeModeError::AlreadyTerminating(self.id.clone());
            // A caller that has gone away needs no answer.
            let _ = reply.send(Answer::Refused(refusal));
            return stage;
        }
        self.terminator = Some(reply);
        match stage {
            // The program has ended and nothing of it is cancelled any more: it wins.
            closing @ Stage::Closing(..) => closing,
            running => self.begin_terminating(running),
        }
    }

    fn begin_terminating(&mut self, stage: Stage) -> Stage {
        if matches!(stage, Stage::Closing(..)) {
            return stage;
        }
        self.working = None;
        self.sandbox = None;
        self.timer = None;
        self.take_output();
        self.shared.set_state(CellState::Ending);
        self.callbacks.cancel_all();
        Stage::Closing(End::Terminated, Instant::now() + self.session.limits.cell.cancel_grace)
    }

    fn observe(&mut self, until: Until, reply: oneshot::Sender<Answer>) {
        if self.observer.as_ref().is_some_and(|observer| !observer.reply.is_closed()) {
            let refusal = CodeModeError::AlreadyObserved(self.id.clone());
            let _ = reply.send(Answer::Refused(refusal));
            return;
        }
        let deadline = match until {
            // A time beyond the clock's end is no deadline worth arming: a century.
            Until::Yield(timeout) => {
                Some(Instant::now() + timeout.min(Duration::from_hours(100 * 365 * 24)))
            }
            Until::Frontier => None,
        };
        self.observer = Some(Observer { reply, deadline });
        self.frozen = false;
    }

    fn answer_yield(&mut self) {
        let content = std::mem::take(&mut self.content);
        let response = self.yielded(content);
        self.answer(Answer::Yielded(response));
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
        let Err(answer) = observer.reply.send(answer) else { return };
        match answer {
            Answer::Yielded(RuntimeResponse::Yielded { content_items, .. }) => {
                self.content.splice(0..0, content_items);
            }
            Answer::Pending(content, calls) => {
                self.content.splice(0..0, content);
                self.calls_since_frontier.splice(0..0, calls);
            }
            _ => {}
        }
    }

    fn yielded(&self, content_items: Vec<ContentItem>) -> RuntimeResponse {
        let report = CellReport { usage: self.usage_now(), ..CellReport::default() };
        RuntimeResponse::Yielded { cell_id: self.id.clone(), content_items, report }
    }

    /// Usage so far. A step that has not ended, or was dropped, counts with the
    /// slices it has had.
    fn usage_now(&self) -> CellUsage {
        let Totals { peak_memory, calls, output_bytes } = self.shared.outbox.totals();
        CellUsage {
            fuel: self.fuel + self.slices * SLICE_FUEL,
            peak_memory_bytes: peak_memory as u64,
            running_time: self.running_time,
            calls: calls as u64,
            output_bytes: output_bytes as u64,
        }
    }

    /// Commits, answers and leaves the list, all in one moment.
    fn close(mut self, end: End) {
        let content_items = std::mem::take(&mut self.content);
        let cell_id = self.id.clone();
        let mut report = CellReport {
            usage: self.usage_now(),
            calls: self.callbacks.report(),
            ..CellReport::default()
        };
        let (response, stored) = match end {
            End::Terminated => {
                (RuntimeResponse::Terminated { cell_id, content_items, report }, Vec::new())
            }
            End::Program(finished) => {
                let (error_text, stored) = match finished {
                    Finished::Completed { stored, hint } => {
                        report.hint = hint;
                        (None, stored)
                    }
                    Finished::Failed { error_text, stored, hint } => {
                        report.hint = hint;
                        (Some(error_text), stored)
                    }
                    Finished::Limited { limit, stack } => {
                        report.limit = Some(limit);
                        (Some(self.limit_text(limit, &stack, &report.calls)), Vec::new())
                    }
                    Finished::Broken => {
                        (Some(CodeModeError::EndedUnexpectedly.to_string()), Vec::new())
                    }
                };
                let response =
                    RuntimeResponse::Result { cell_id, content_items, error_text, report };
                (response, stored)
            }
        };
        // The terminator hears what the observer hears.
        let observer = self.observer.take().map(|observer| observer.reply);
        let observer = match self.terminator.take() {
            None => observer,
            Some(terminator) => {
                if let Some(observer) = observer {
                    let _ = observer.send(Answer::Ended(response.clone()));
                }
                Some(terminator)
            }
        };
        let commit = || self.stored_values.merge(stored);
        self.session.registry.end(&self.id, response, observer, commit, &self.session.limits);
        self.callbacks.cell_closed();
    }

    /// Names the limit, the line being run, the remedy, and what was called.
    fn limit_text(&self, limit: LimitKind, stack: &str, calls: &[CallReport]) -> String {
        let (value, remedy) = self.session.limits.cell.describe(limit);
        let mut text = format!("cell stopped: its {limit} limit of {value} was reached; {remedy}");
        if !stack.is_empty() {
            text.push('\n');
            text.push_str(stack);
        }
        if let Some(unlisted) = calls.len().checked_sub(CALLS_IN_TEXT).filter(|n| *n > 0) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\nnested calls: {unlisted} earlier ones, then");
        } else if !calls.is_empty() {
            text.push_str("\nnested calls:");
        }
        for call in calls.iter().skip(calls.len().saturating_sub(CALLS_IN_TEXT)) {
            let CallReport { runtime_tool_call_id, tool, end } = call;
            let _ = write!(text, "\n    {runtime_tool_call_id} {tool} {end}");
        }
        text
    }
}

/// Nested calls that the text of a limit lists.
const CALLS_IN_TEXT: usize = 10;

/// How long calls that were dropped have to notice.
const ABORT_GRACE: Duration = Duration::from_millis(100);

/// Running time that a guest has to end in once it was asked to.
const HARD_STOP_GRACE: Duration = Duration::from_millis(20);

/// Sleeps until the instant; for ever without one.
async fn at(instant: Option<Instant>) {
    match instant {
        // The runtime's timer looks at most once a millisecond; what is due is due.
        Some(instant) if instant <= Instant::now() => {}
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Lets the guest run for one slice: until it ends, `Some`, or lets others run, `None`.
async fn slice(
    working: &mut Option<Working>,
    running_time: &mut Duration,
) -> Option<(Option<Sandbox>, Step)> {
    let mut polled = false;
    std::future::poll_fn(|context| {
        if polled {
            return Poll::Ready(None);
        }
        let Some(work) = working.as_mut() else { return Poll::Pending };
        polled = true;
        let began = std::time::Instant::now();
        let reached = work.as_mut().poll(context);
        *running_time += began.elapsed();
        match reached {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            // The guest has asked to be woken at once; until then others run.
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
