//! What happened to one cell.

use crate::shown::Summary;
use crate::state::{AnswerQuestion, State};
use cellblock::support::lock;
use cellblock::{CellEvent, CellLimits, CellMonitor, MonitorHandle, RuntimeResponse};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// What a recording is of.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What people know the cell by.
    pub title: String,
    /// The program, as its author wrote it.
    pub source: String,
    /// The limits of the cell.
    pub limits: CellLimits,
}

/// What happened to one cell, while it happens and afterwards. Bounded in bytes and in
/// number, whatever the program does; a clone is a handle to the same recording.
///
/// ```
/// use cellblock::ExecuteRequest;
/// use cellblock_inspect::{About, Recording};
///
/// let source = "text('hello')".to_owned();
/// let recording = Recording::new(About { source: source.clone(), ..About::default() });
/// let request = ExecuteRequest { monitor: recording.monitor(), ..ExecuteRequest::new(source) };
/// // Run it with a `cellblock::CodeModeService`; then:
/// assert!(recording.page().starts_with("<!doctype html>"));
/// ```
#[derive(Clone, Debug)]
pub struct Recording(Arc<Mutex<State>>);

impl Recording {
    /// Starts a recording.
    pub fn new(about: About) -> Self {
        Self::announced(about, None)
    }

    /// Starts a recording whose changes are sent on.
    pub(crate) fn announced(about: About, changes: Option<watch::Sender<u64>>) -> Self {
        Self(Arc::new(Mutex::new(State::new(about, changes))))
    }

    /// What goes into the request of the cell.
    pub fn monitor(&self) -> MonitorHandle {
        MonitorHandle::new(self.recorder())
    }

    /// What receives the events of the cell. Once it and its clones are dropped the cell has
    /// ended, with a last response or without one.
    pub fn recorder(&self) -> Arc<dyn CellMonitor> {
        Arc::new(Recorder(self.clone()))
    }

    /// Records the end, or corrects it: for those who know more of it than the backend.
    pub fn end(&self, response: &RuntimeResponse) {
        self.change(|state, at| state.end_with(response, at));
    }

    /// The cell was not started.
    pub fn refuse(&self, why: &str) {
        self.change(|state, at| state.lose(at, Some(why)));
    }

    /// A person is asked to approve a call of the cell, until what is returned is dropped.
    /// `answer` is called with an answer that is given on the page; it returns whether that
    /// was awaited.
    pub fn ask(
        &self,
        question: &str,
        answer: impl Fn(bool) -> bool + Send + Sync + 'static,
    ) -> Asked {
        let mut number = 0;
        let answer: Arc<AnswerQuestion> = Arc::new(answer);
        self.change(|state, at| number = state.ask(question, answer, at));
        Asked { recording: self.clone(), number, approved: None }
    }

    /// Answers a question. False when it does not wait, or no longer.
    pub(crate) fn answer(&self, question: u64, approved: bool) -> bool {
        let answer = lock(&self.0).answer_of(question);
        // Outside the lock: whoever asked goes on at once.
        answer.is_some_and(|answer| answer(approved))
    }

    /// What changed after a version of it, as JSON; everything after version 0.
    pub(crate) fn since(&self, version: u64) -> String {
        let state = lock(&self.0);
        serde_json::to_string(&state.shown(version)).unwrap_or_default()
    }

    /// A page that shows it, as one file that needs no other: HTML.
    pub fn page(&self) -> String {
        crate::page::saved(&self.since(0))
    }

    /// Whether the cell has ended.
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.0).has_ended()
    }

    pub(crate) fn summary(&self) -> Summary {
        lock(&self.0).summary()
    }

    fn event(&self, event: CellEvent<'_>) {
        self.change(|state, at| state.event(event, at));
    }

    /// Changes the state at this time.
    fn change(&self, change: impl FnOnce(&mut State, u64)) {
        lock(&self.0).change(change);
    }
}

/// A question that waits for its answer. Dropping it takes it back.
#[must_use = "dropping it takes the question back"]
#[derive(Debug)]
pub struct Asked {
    recording: Recording,
    number: u64,
    approved: Option<bool>,
}

impl Asked {
    /// It was answered, on the page or elsewhere.
    pub fn answered(mut self, approved: bool) {
        self.approved = Some(approved);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let (number, approved) = (self.number, self.approved);
        self.recording.change(|state, at| state.asked(number, approved, at));
    }
}

/// The monitor of the cell. Dropped without an end, the cell was lost.
struct Recorder(Recording);

impl CellMonitor for Recorder {
    fn event(&self, event: CellEvent<'_>) {
        self.0.event(event);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.0.has_ended() {
            self.0.change(|state, at| state.lose(at, None));
        }
    }
}
