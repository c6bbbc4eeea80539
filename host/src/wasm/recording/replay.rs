//! A recorded cell that is run again: nothing comes from outside but what was written down.

use super::super::bindings::cellblock::code_mode::types;
use super::super::engine::{Engine, GUEST};
use super::super::guest_clock::GuestClock;
use super::super::imports::{GuestOutput, Imports, Outbox, Spent};
use super::super::park::ParkedEvent;
use super::super::sandbox::{Finished, Sandbox, Step as SandboxStep};
use super::Recording;
use super::lines::{End as EndLine, Head, Reached, Run, Step, VERSION};
use super::sent::hex;
use super::tape::{Player, Tape};
use crate::backend::{ContentItem, Language};
use crate::cells::{Account, Charge};
use crate::clock::SystemClock;
use crate::limits::{CellLimits, OverLimit};
use crate::support::lock;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Bytes of output, and of inputs of calls that have not ended, that a replay may hold.
const MAX_HELD_BYTES: usize = 256 << 20;

/// How many times its time limit a replay may take, and how much longer: the machine that
/// recorded may have been faster.
const PATIENCE: (u32, Duration) = (2, Duration::from_secs(1));

/// Why a recording cannot be run again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A line is not one of a recording.
    #[error("line {line} of the recording is not valid: {why}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// It is of another version of the format.
    #[error(
        "the recording has version {found} of the format, and this build reads version {VERSION}"
    )]
    Version {
        /// The version that it has.
        found: u32,
    },
    /// It was made by a build of Cellblock with another sandbox.
    #[error("the recording needs the sandbox of another build of Cellblock, of version {version}")]
    OtherGuest {
        /// The version that recorded it.
        version: String,
    },
    /// The cell had a limit that is above what the replay may use.
    #[error("the recorded cell may use more than the replay: {0}")]
    OverLimits(OverLimit),
    /// There is no event of that number.
    #[error("the recording has {events} events, so there is none of number {asked}")]
    NoEvent {
        /// Events that there are.
        events: u64,
        /// The number that was asked for.
        asked: u64,
    },
    /// It took longer than it may.
    #[error("the replay was stopped after {} ms, which is as long as it may take", limit.as_millis())]
    OutOfTime {
        /// Twice its time limit, and a second.
        limit: Duration,
    },
    /// No sandbox could be made; the text is the engine's.
    #[error("no sandbox for the replay: {0}")]
    Sandbox(String),
}

/// Where a replay went another way than the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The line of the recording, from 1.
    pub line: usize,
    /// What is different.
    pub what: String,
}

/// Something that happened to the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedEvent {
    /// A nested call returned: its `runtime_tool_call_id`, and the JSON of its result.
    Succeeded(String, String),
    /// A nested call failed: its `runtime_tool_call_id`, and the text.
    Failed(String, String),
    /// A timer fired: what `setTimeout` returned.
    Timer(u64),
}

/// A nested call that the program waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingCall {
    /// `tool-1`, `tool-2`, ... in the order of the cell's calls.
    pub runtime_tool_call_id: String,
    /// The tool's name in the program.
    pub tool: String,
    /// The JSON of its input; `None` when the program gave none.
    pub input: Option<String>,
}

/// What a replay reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// The output.
    pub content_items: Vec<ContentItem>,
    /// The notifications.
    pub notifications: Vec<String>,
    /// Events that were delivered.
    pub events: u64,
    /// Fuel that the cell had used by then.
    pub fuel: u64,
    /// How the cell ended, in words: now as when it was recorded. `None` where the replay stopped
    /// before, and where the recording has no end: then it is not complete.
    pub end: Option<String>,
    /// Its `error_text`, of a cell that failed.
    pub error_text: Option<String>,
    /// The nested calls that the program waits for, where it stopped.
    pub waiting: Vec<WaitingCall>,
    /// What `setTimeout` returned for the timer that is due next, where it stopped.
    pub timer: Option<u64>,
    /// The event that came next, where it stopped.
    pub next: Option<RecordedEvent>,
    /// Where it went another way. Nothing after it was run.
    pub divergence: Option<Divergence>,
}

/// A recording that was read, and can be run again.
#[derive(Debug)]
pub struct Replay {
    head: Head,
    steps: Vec<Step>,
    /// The last line, and its number; `None` where it is missing.
    end: Option<(usize, EndLine)>,
}

impl Replay {
    /// Reads a recording. Nothing of it is trusted: it is run in a sandbox, within its limits.
    ///
    /// # Errors
    /// [`ReplayError::Line`] and [`ReplayError::Version`].
    pub fn new(recording: &Recording) -> Result<Self, ReplayError> {
        let mut lines = recording
            .as_bytes()
            .split(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
            .map(|(at, line)| (at + 1, line))
            .peekable();
        let (at, first) = lines.next().unwrap_or((1, b""));
        let version: Version = parsed(at, first)?;
        if version.cellblock_recording != VERSION {
            return Err(ReplayError::Version { found: version.cellblock_recording });
        }
        let head: Head = parsed(at, first)?;
        if let Err(error) = head.limits.check() {
            return Err(ReplayError::Line { line: at, why: error.to_string() });
        }
        let (mut steps, mut end) = (Vec::new(), None);
        while let Some((at, line)) = lines.next() {
            if lines.peek().is_none() && line.starts_with(b"{\"end\"") {
                end = Some((at, parsed(at, line)?));
                break;
            }
            let step: Step = parsed(at, line)?;
            let is_start = matches!(step.run, Run::Execute(_));
            if steps.is_empty() && !is_start {
                let why = "the first step must start a program".to_owned();
                return Err(ReplayError::Line { line: at, why });
            }
            steps.push(step);
        }
        Ok(Self { head, steps, end })
    }

    /// What the author of the program wrote.
    pub fn source(&self) -> &str {
        &self.head.source
    }

    /// The limits that the cell had.
    pub fn limits(&self) -> &CellLimits {
        &self.head.limits
    }

    /// The events that came to the cell, in order.
    pub fn events(&self) -> impl Iterator<Item = RecordedEvent> + '_ {
        self.steps.iter().flat_map(|step| events(&step.run)).map(RecordedEvent::from)
    }

    /// Runs the cell again, to its end or until the event of number `until`, from 1, would be
    /// delivered: then what the program waits for is part of the answer. Events that came at one
    /// time are delivered at one time, so the replay stops before the first of them.
    ///
    /// # Errors
    /// [`ReplayError`]; a cell that goes another way is not one, see [`Replayed::divergence`].
    pub async fn run(
        self,
        engine: &Engine,
        most: &CellLimits,
        until: Option<u64>,
    ) -> Result<Replayed, ReplayError> {
        let Self { head, steps, end } = self;
        if head.guest != hex(&GUEST.hash) {
            return Err(ReplayError::OtherGuest { version: head.version });
        }
        if let Some(limit) = head.limits.first_above(&most.with_held_bytes()) {
            return Err(ReplayError::OverLimits(limit));
        }
        let all: usize = steps.iter().map(|step| events(&step.run).len()).sum();
        if let Some(asked) = until.filter(|until| !(1..=all as u64).contains(until)) {
            return Err(ReplayError::NoEvent { events: all as u64, asked });
        }
        let (times, more) = PATIENCE;
        let limit = most.running_time.min(most.total_time);
        let limit = limit.saturating_mul(times).saturating_add(more);
        let work = async {
            let mut run = Running::new(engine, head).await?;
            for (number, step) in steps.into_iter().enumerate() {
                let coming = events(&step.run);
                if until.is_some_and(|until| run.reached.events + coming.len() as u64 >= until) {
                    run.reached.next = coming.first().map(RecordedEvent::from);
                    return Ok(run.stopped());
                }
                // Lines are numbered from 1, and the first is the head.
                if let Err(what) = run.step(step).await {
                    return Ok(run.diverged(number + 2, what));
                }
                // The time is looked at between any two steps.
                tokio::task::yield_now().await;
            }
            let Some((line, end)) = end else { return Ok(run.stopped()) };
            Ok(match run.end(engine, &end).await {
                Ok(()) => run.ended(&end.end),
                Err(what) => run.diverged(line, what),
            })
        };
        within(limit, work).await.unwrap_or(Err(ReplayError::OutOfTime { limit }))
    }
}

/// The beginning of the first line, whatever the version.
#[derive(serde::Deserialize)]
struct Version {
    cellblock_recording: u32,
}

fn parsed<T: DeserializeOwned>(line: usize, text: &[u8]) -> Result<T, ReplayError> {
    serde_json::from_slice(text).map_err(|error| ReplayError::Line { line, why: error.to_string() })
}

/// The events of a step.
fn events(run: &Run) -> &[ParkedEvent] {
    match run {
        Run::Wait(events) => events,
        Run::Execute(_) | Run::Awaiting => &[],
    }
}

/// A cell that is run again.
pub(super) struct Running {
    /// `None` when it has ended.
    pub(super) sandbox: Option<Sandbox>,
    outbox: Arc<Outbox>,
    pub(super) source: String,
    pub(super) language: Language,
    pub(super) limits: Arc<CellLimits>,
    /// Steps that were made.
    pub(super) steps: u64,
    /// How the program ended in the last of them, if it did.
    pub(super) finished: Option<Finished>,
    /// The guest was stopped in the middle of a step.
    pub(super) is_stopped: bool,
    /// Where the last step ended; `None` before the first, and of one that went another way.
    pub(super) last: Option<Reached>,
    /// Names of the tools.
    tools: Vec<String>,
    /// Calls that have not ended, with what is charged for them.
    pub(super) calls: BTreeMap<u64, (WaitingCall, Charge)>,
    pub(super) reached: Replayed,
}

impl Running {
    async fn new(engine: &Engine, head: Head) -> Result<Self, ReplayError> {
        let limits = Arc::new(head.limits);
        let outbox = Outbox::new(Account::new(MAX_HELD_BYTES), Arc::default(), Spent::default());
        let outbox = Arc::new(outbox.with_tape(Tape::playing()));
        let imports = Imports::new(
            Arc::clone(&outbox),
            Arc::clone(&limits),
            [].into(),
            Arc::default(),
            GuestClock::replayed(Arc::new(SystemClock), head.epoch),
        );
        let slot = engine.slots().take().await.map_err(|limit| {
            ReplayError::Sandbox(format!("the {limit} limit of the engine was reached"))
        })?;
        let sandbox = Sandbox::new(engine, imports, slot)
            .await
            .map_err(|error| ReplayError::Sandbox(format!("{error:#}")))?;
        let (tools, calls, reached) = (Vec::new(), BTreeMap::new(), Replayed::default());
        Ok(Self {
            sandbox: Some(sandbox),
            outbox,
            source: head.source,
            language: head.language,
            limits,
            steps: 0,
            finished: None,
            is_stopped: false,
            last: None,
            tools,
            calls,
            reached,
        })
    }

    /// Runs a step; the text says what was different.
    async fn step(&mut self, step: Step) -> Result<(), String> {
        let Step { run, fuel_left, times, answers, fuel, sent, reached } = step;
        let Some(mut sandbox) = self.sandbox.take() else {
            return Err("the program had ended, and was called again".to_owned());
        };
        // To read a program as TypeScript takes fuel outside the steps.
        let is_translated = matches!(&run, Run::Execute(program) if program.is_translated());
        let left = sandbox.fuel_left();
        if fuel_left > left || fuel_left < left && !is_translated {
            return Err(format!("the step had {fuel_left} fuel left, and the cell has {left}"));
        }
        self.player(|player| player.load(times, answers));
        sandbox.set_fuel_left(fuel_left);
        (self.finished, self.last) = (None, None);
        self.steps += 1;
        let slices = match &reached {
            Reached::Stopped { slices } => Some(*slices),
            _ => None,
        };
        let got = match run {
            Run::Execute(program) => {
                self.tools = program.tools().to_vec();
                let request = program.into_request(&self.source, &self.limits);
                let step = sliced(sandbox.execute(&request), slices).await;
                step.map(|step| self.reached(step))
            }
            Run::Wait(events) => {
                self.deliver(&events);
                let events = events.into_iter().map(types::Event::from).collect();
                let step = sliced(sandbox.wait(events), slices).await;
                step.map(|step| self.reached(step))
            }
            Run::Awaiting => sliced(sandbox.awaiting(), slices).await.map(Reached::Place),
        };
        self.take_output();
        self.reached.fuel = self.outbox.fuel_used();
        self.is_stopped = got.is_none();
        let got = got.unwrap_or_else(|| reached.clone());
        let used = match slices {
            // Its store is in the middle of the step.
            Some(_) => 0,
            None => fuel_left.saturating_sub(sandbox.fuel_left()),
        };
        if got != reached {
            return Err(format!("the step {got}, and {reached} when it was recorded"));
        }
        if used != fuel {
            return Err(format!("the step used {used} fuel, and {fuel} when it was recorded"));
        }
        match self.player(Player::unload).flatten() {
            Some(hash) if hash == sent => {}
            Some(_) => return Err("the program sent something else, or ended otherwise".to_owned()),
            None => return Err("the program asked its host for something else".to_owned()),
        }
        if let Reached::Waits(timer) = &got {
            self.reached.timer = timer.map(|(id, _)| id);
        }
        if !matches!(got, Reached::Ended | Reached::Stopped { .. }) {
            self.sandbox = Some(sandbox);
        }
        self.last = Some(got);
        Ok(())
    }

    /// Where a step ended.
    fn reached(&mut self, step: SandboxStep) -> Reached {
        let reached = Reached::of(&step);
        if let SandboxStep::Finished(finished) = step {
            self.finished = Some(finished);
        }
        reached
    }

    /// Notes fuel that was used after the last step.
    pub(super) fn note_fuel(&mut self) {
        self.reached.fuel = self.outbox.fuel_used();
    }

    fn player<T>(&self, with: impl FnOnce(&mut Player) -> T) -> Option<T> {
        match &self.outbox.tape {
            Tape::Playing(player) => Some(with(&mut lock(player))),
            _ => None,
        }
    }

    /// Notes events that the program is about to receive.
    fn deliver(&mut self, events: &[ParkedEvent]) {
        self.reached.events += events.len() as u64;
        for event in events {
            if let ParkedEvent::Succeeded(id, _) | ParkedEvent::Failed(id, _) = event {
                self.calls.remove(id);
            }
        }
    }

    fn take_output(&mut self) {
        for output in self.outbox.take() {
            match output {
                GuestOutput::Item(item, _) => self.reached.content_items.push(item),
                GuestOutput::Notification(text, _) => self.reached.notifications.push(text),
                GuestOutput::Yield => {}
                GuestOutput::Call { id, tool, input, charge } => {
                    let tool = self.tools.get(tool).cloned().unwrap_or_default();
                    let runtime_tool_call_id = format!("tool-{id}");
                    let call = WaitingCall { runtime_tool_call_id, tool, input };
                    self.calls.insert(id, (call, charge));
                }
            }
        }
    }

    /// What was reached before the end.
    pub(super) fn stopped(self) -> Replayed {
        let waiting = self.calls.into_values().map(|(call, _)| call).collect();
        Replayed { waiting, ..self.reached }
    }

    /// What was reached before it went another way.
    fn diverged(self, line: usize, what: String) -> Replayed {
        Replayed { divergence: Some(Divergence { line, what }), ..self.stopped() }
    }
}

/// Does work for at most so long: `None` when it has taken longer. A guest that runs is
/// interrupted after each slice of its fuel.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let began = Instant::now();
    std::future::poll_fn(|context| {
        if began.elapsed() > limit {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}

/// Runs a step to its end, or for so many slices of fuel: `None` when it has not ended then.
async fn sliced<T>(step: impl Future<Output = T>, slices: Option<u64>) -> Option<T> {
    let mut step = pin!(step);
    let mut left = slices;
    std::future::poll_fn(|context| {
        if left == Some(0) {
            return Poll::Ready(None);
        }
        match step.as_mut().poll(context) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending => {
                left = left.map(|left| left - 1);
                // Fuel is all that it can have waited for, so it has asked to be woken.
                Poll::Pending
            }
        }
    })
    .await
}

impl From<&ParkedEvent> for RecordedEvent {
    fn from(event: &ParkedEvent) -> Self {
        match event {
            ParkedEvent::Succeeded(id, json) => Self::Succeeded(format!("tool-{id}"), json.clone()),
            ParkedEvent::Failed(id, text) => Self::Failed(format!("tool-{id}"), text.clone()),
            ParkedEvent::Timer(id) => Self::Timer(*id),
        }
    }
}
