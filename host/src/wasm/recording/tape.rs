//! What passes between a guest and its host, written down while the cell runs, and played while
//! it is run again.
//!
//! The guest's store and the cell's task both have a part in it, so it lies behind a lock, which
//! is held for a few instructions.

use super::super::bindings::cellblock::code_mode::types;
use super::super::engine::{guest_limit, limit_kind};
use super::super::imports::{GuestOutput, Refusal};
use super::super::sandbox::{Finished, Step as SandboxStep};
use super::Recordings;
use super::lines::{self, Answer, Head, Program, Reached, Run, Step, VERSION};
use super::sent::{Sent, hex};
use crate::backend::{CellId, ExecuteRequest, RuntimeResponse};
use crate::cells::Charge;
use crate::limits::CellLimits;
use crate::support::lock;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Mutex;

/// What is counted for a time that was read, until it is written.
const TIME_BYTES: usize = 8;

/// Room for a last line that says that the recording is full.
const END_BYTES: usize = 64;

/// How a recorded cell ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in super::super) enum End {
    /// The program completed.
    Completed,
    /// It failed with this text, which is the contract's `error_text`.
    Failed(String),
    /// It was terminated.
    Terminated,
    /// It left the session as bytes.
    Parked,
    /// The recording was full.
    Full,
}

impl End {
    /// How a cell ended whose last response this is.
    pub(in super::super) fn of(response: &RuntimeResponse) -> Self {
        match response {
            RuntimeResponse::Result { error_text: None, .. } => Self::Completed,
            RuntimeResponse::Result { error_text: Some(text), .. } => Self::Failed(text.clone()),
            RuntimeResponse::Terminated { .. } | RuntimeResponse::Yielded { .. } => {
                Self::Terminated
            }
        }
    }
}

/// A cell's tape.
#[derive(Debug, Default)]
pub(in super::super) enum Tape {
    /// Nothing is recorded.
    #[default]
    Off,
    /// What passes is written down.
    Recording(Box<Mutex<Recorder>>),
    /// What is asked for is what was written down.
    Playing(Box<Mutex<Player>>),
}

/// Writes a recording.
#[derive(Debug)]
pub(in super::super) struct Recorder {
    /// The first line, until it is written.
    head: Option<Head>,
    /// Lines that are complete.
    bytes: Vec<u8>,
    /// Where the recording goes, and the most that it may have.
    recordings: Recordings,
    /// What the author wrote.
    source: String,
    /// The step that runs.
    step: Option<Open>,
    /// The time that was read last.
    last: u64,
    /// Steps that were written.
    steps: u64,
    /// The recording is full: nothing more is written.
    full: bool,
}

/// A step that has not ended.
#[derive(Debug)]
struct Open {
    run: Run,
    fuel_left: u64,
    times: Vec<u64>,
    answers: Vec<Answer>,
    sent: Sent,
    slices: u64,
    /// Bytes that the line will have, about.
    bytes: usize,
}

/// Plays the steps of a recording, one after another.
#[derive(Debug, Default)]
pub(in super::super) struct Player {
    times: VecDeque<u64>,
    answers: VecDeque<Answer>,
    sent: Sent,
    last: u64,
    /// The guest has asked for something else than what was written down.
    strayed: bool,
}

impl Tape {
    /// Records a cell that is about to be started.
    pub(in super::super) fn recording(
        recordings: &Recordings,
        cell: &CellId,
        request: &ExecuteRequest,
        limits: &CellLimits,
        guest: &[u8; 32],
    ) -> Self {
        let head = Head {
            cellblock_recording: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            guest: hex(guest),
            cell: cell.to_string(),
            source: request.source.clone(),
            language: request.language,
            limits: limits.with_held_bytes(),
            // Known when the cell begins.
            epoch: 0,
        };
        let recorder = Recorder {
            head: Some(head),
            bytes: Vec::new(),
            recordings: recordings.clone(),
            source: request.source.clone(),
            step: None,
            last: 0,
            steps: 0,
            full: false,
        };
        Self::Recording(Box::new(Mutex::new(recorder)))
    }

    pub(super) fn playing() -> Self {
        Self::Playing(Box::default())
    }

    /// A step begins, with so much fuel left to the cell. The epoch is the wall clock less the
    /// guest's monotonic one, in nanoseconds.
    pub(in super::super) fn begin(
        &self,
        epoch: impl FnOnce() -> i64,
        fuel_left: u64,
        run: impl FnOnce(&str) -> Run,
    ) {
        let Self::Recording(recorder) = self else { return };
        let mut recorder = lock(recorder);
        recorder.write_head(epoch);
        if recorder.full {
            return;
        }
        let run = run(&recorder.source);
        let bytes = run.byte_len();
        let (times, answers) = (Vec::new(), Vec::new());
        let (sent, slices) = (Sent::default(), 0);
        recorder.step = Some(Open { run, fuel_left, times, answers, sent, slices, bytes });
        recorder.check();
    }

    /// The guest has had a slice of fuel, and its step has not ended.
    pub(in super::super) fn slice(&self) {
        if let Self::Recording(recorder) = self
            && let Some(step) = &mut lock(recorder).step
        {
            step.slices += 1;
        }
    }

    /// A step has ended, and took so much fuel.
    pub(in super::super) fn reached(&self, step: &SandboxStep, fuel: u64) {
        match self {
            Self::Off => {}
            Self::Recording(recorder) => {
                let mut recorder = lock(recorder);
                if let Some(open) = &mut recorder.step {
                    open.sent.reached(step);
                }
                recorder.close(Reached::of(step), fuel);
            }
            Self::Playing(player) => lock(player).sent.reached(step),
        }
    }

    /// The guest has said where it waits.
    pub(in super::super) fn awaiting(&self, place: Option<String>) {
        if let Self::Recording(recorder) = self {
            lock(recorder).close(Reached::Place(place), 0);
        }
    }

    /// The cell has ended: the recording is complete.
    pub(in super::super) fn end(&self, cell: &CellId, end: End) {
        let Self::Recording(recorder) = self else { return };
        let mut recorder = lock(recorder);
        // Of a cell that has run nothing.
        recorder.write_head(|| 0);
        if let Some(slices) = recorder.step.as_ref().map(|step| step.slices) {
            recorder.close(Reached::Stopped { slices }, 0);
        }
        recorder.write_end(end);
        let bytes = std::mem::take(&mut recorder.bytes);
        // Nothing is written to it from here on.
        recorder.full = true;
        let recordings = recorder.recordings.clone();
        drop(recorder);
        recordings.keep(cell, bytes);
    }

    /// The guest's monotonic clock.
    pub(in super::super) fn time(&self, now: impl FnOnce() -> u64) -> u64 {
        match self {
            Self::Off => now(),
            Self::Recording(recorder) => {
                let now = now();
                lock(recorder).time(now);
                now
            }
            Self::Playing(player) => lock(player).time(),
        }
    }

    /// An answer to a guest that asks whether to end.
    pub(in super::super) fn asked(&self, limit: Option<types::Limit>) -> Option<types::Limit> {
        match self {
            Self::Off => limit,
            Self::Recording(recorder) => {
                lock(recorder).note(|step| {
                    let at = step.sent.polled();
                    if let Some(limit) = limit {
                        step.answer(Answer::Asked { at, limit: limit_kind(limit) });
                    }
                });
                limit
            }
            Self::Playing(player) => lock(player).asked(),
        }
    }

    /// Whether a call or an output is admitted, and what it is charged.
    pub(in super::super) fn admit(
        &self,
        admitted: Result<Charge, Refusal>,
    ) -> Result<Charge, Refusal> {
        match self {
            Self::Off => admitted,
            Self::Recording(recorder) => {
                lock(recorder).note(|step| {
                    let at = step.sent.requested();
                    if let Err(Refusal { limit, overdrawn }) = admitted {
                        step.answer(Answer::Refused { at, limit: limit_kind(limit), overdrawn });
                    }
                });
                admitted
            }
            Self::Playing(player) => lock(player).admit(admitted),
        }
    }

    /// A stored value that the program loads.
    pub(in super::super) fn loaded(
        &self,
        value: impl FnOnce() -> Option<String>,
    ) -> Option<String> {
        let answer = || Answer::Loaded(value());
        match self.answer(answer) {
            Some(Answer::Loaded(value)) => value,
            _ => None,
        }
    }

    /// The tools' descriptions.
    pub(in super::super) fn descriptions(
        &self,
        descriptions: impl FnOnce() -> Vec<String>,
    ) -> Vec<String> {
        match self.answer(|| Answer::Descriptions(descriptions())) {
            Some(Answer::Descriptions(descriptions)) => descriptions,
            _ => Vec::new(),
        }
    }

    /// An answer that is the same for the guest whenever it is asked for.
    fn answer(&self, answer: impl FnOnce() -> Answer) -> Option<Answer> {
        match self {
            Self::Off => Some(answer()),
            Self::Recording(recorder) => {
                let answer = answer();
                lock(recorder).note(|step| step.answer(answer.clone()));
                Some(answer)
            }
            Self::Playing(player) => lock(player).answer(),
        }
    }

    /// The guest sends something.
    pub(in super::super) fn sent(&self, output: &GuestOutput) {
        match self {
            Self::Off => {}
            Self::Recording(recorder) => {
                if let Some(step) = &mut lock(recorder).step {
                    step.sent.output(output);
                }
            }
            Self::Playing(player) => lock(player).sent.output(output),
        }
    }
}

impl Recorder {
    /// Writes the first line, if it is not written yet.
    fn write_head(&mut self, epoch: impl FnOnce() -> i64) {
        if let Some(head) = self.head.take() {
            self.write(&Head { epoch: epoch(), ..head });
        }
    }

    /// Notes something in the step that runs, if it fits.
    fn note(&mut self, note: impl FnOnce(&mut Open)) {
        if let Some(step) = &mut self.step {
            note(step);
            self.check();
        }
    }

    fn write(&mut self, line: &impl Serialize) {
        if self.full {
            return;
        }
        // Texts, numbers and lists of them are always written.
        self.bytes.extend(serde_json::to_vec(line).unwrap_or_default());
        self.bytes.push(b'\n');
        self.check();
    }

    /// Writes the step that has ended.
    fn close(&mut self, reached: Reached, fuel: u64) {
        let Some(open) = self.step.take() else { return };
        let Open { run, fuel_left, times, answers, sent, .. } = open;
        let sent = sent.finish();
        self.write(&Step { run, fuel_left, times, answers, fuel, sent, reached });
        self.steps += u64::from(!self.full);
    }

    /// Writes the last line. There is always room for one that says that the recording is full.
    fn write_end(&mut self, end: End) {
        let steps = self.steps;
        // Texts and numbers are always written.
        let line = |end| serde_json::to_vec(&lines::End { end, steps }).unwrap_or_default();
        let mut text = line(if self.full { End::Full } else { end });
        let len = self.bytes.len().saturating_add(text.len()).saturating_add(1);
        if len > self.recordings.most_bytes() {
            text = line(End::Full);
        }
        self.bytes.extend(text);
        self.bytes.push(b'\n');
    }

    /// Gives the step up that makes the recording too large.
    fn check(&mut self) {
        let open = self.step.as_ref().map_or(0, |step| step.bytes);
        let most = self.recordings.most_bytes().saturating_sub(END_BYTES);
        if self.bytes.len().saturating_add(open) > most {
            self.full = true;
            self.step = None;
            // The line that did not fit, and its end.
            let most = most.min(self.bytes.len());
            let whole = self.bytes[..most].iter().rposition(|byte| *byte == b'\n');
            self.bytes.truncate(whole.map_or(0, |at| at + 1));
        }
    }

    fn time(&mut self, now: u64) {
        let passed = now.saturating_sub(self.last);
        self.last = now;
        self.note(|step| {
            step.times.push(passed);
            step.bytes += TIME_BYTES;
        });
    }
}

impl Open {
    fn answer(&mut self, answer: Answer) {
        self.bytes += answer.byte_len();
        self.answers.push(answer);
    }
}

impl Player {
    /// Loads what was written down of a step.
    pub(super) fn load(&mut self, times: Vec<u64>, answers: Vec<Answer>) {
        (self.times, self.answers) = (times.into(), answers.into());
        self.sent = Sent::default();
    }

    /// SHA-256 of what the guest has sent; `None` when it has asked for something else
    /// than what was written down.
    pub(super) fn unload(&mut self) -> Option<String> {
        let is_same = !self.strayed && self.times.is_empty() && self.answers.is_empty();
        let sent = std::mem::take(&mut self.sent);
        is_same.then(|| sent.finish())
    }

    fn time(&mut self) -> u64 {
        match self.times.pop_front() {
            Some(passed) => self.last = self.last.saturating_add(passed),
            None => self.strayed = true,
        }
        self.last
    }

    fn asked(&mut self) -> Option<types::Limit> {
        let now = self.sent.polled();
        let due = |answer: &Answer| matches!(answer, Answer::Asked { at, .. } if *at == now);
        match self.answers.pop_front_if(|answer| due(answer)) {
            Some(Answer::Asked { limit, .. }) => guest_limit(limit),
            _ => None,
        }
    }

    /// Whether a call or an output is admitted: where it was, and is within the limits now. Only
    /// the number of calls in flight may be another, for a call counts as ended sooner where it
    /// really runs.
    fn admit(&mut self, admitted: Result<Charge, Refusal>) -> Result<Charge, Refusal> {
        if let Some(refused) = self.refused() {
            return Err(refused);
        }
        match admitted {
            Err(refusal) if refusal.limit == types::Limit::CallsInFlight => Ok(Charge::default()),
            Err(refusal) => {
                self.strayed = true;
                Err(refusal)
            }
            charge => charge,
        }
    }

    fn refused(&mut self) -> Option<Refusal> {
        let now = self.sent.requested();
        let due = |answer: &Answer| matches!(answer, Answer::Refused { at, .. } if *at == now);
        match self.answers.pop_front_if(|answer| due(answer)) {
            Some(Answer::Refused { limit, overdrawn, .. }) => {
                guest_limit(limit).map(|limit| Refusal { limit, overdrawn })
            }
            _ => None,
        }
    }

    fn answer(&mut self) -> Option<Answer> {
        let is_given =
            |answer: &Answer| matches!(answer, Answer::Loaded(_) | Answer::Descriptions(_));
        let answer = self.answers.pop_front_if(|answer| is_given(answer));
        self.strayed |= answer.is_none();
        answer
    }
}

impl Reached {
    /// Where a step of a sandbox ended.
    pub(super) fn of(step: &SandboxStep) -> Self {
        match step {
            SandboxStep::Pending(timer) => Self::Waits(timer.map(|timer| (timer.id, timer.due))),
            SandboxStep::Finished(Finished::Unparsed { .. }) => Self::Unparsed,
            SandboxStep::Finished(_) => Self::Ended,
        }
    }
}

impl Run {
    /// The start of a program.
    pub(in super::super) fn execute(request: &types::ExecuteRequest, source: &str) -> Self {
        Self::Execute(Program::of(request, source))
    }
}
