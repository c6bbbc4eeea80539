//! Waits that cost a model no turns.
//!
//! Every answer that a cell still runs is a turn of the model, with all of its context.
//! Left alone, models ask every few seconds. A [`WaitPolicy`] lets a host wait for longer
//! than the model asked as long as there is nothing to say, and answer as soon as there is.
//!
//! The backend is asked in short slices, so that this works over every backend.

use super::activity::CellActivity;
use crate::backend::{
    CellId, CellReport, CodeModeError, ContentItem, ExecuteRequest, RuntimeResponse, WaitOutcome,
    WaitRequest,
};
use crate::service::CodeModeService;
use crate::support::lock;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// How long a host waits for a cell before it answers that it still runs.
///
/// ```
/// use cellblock::model::WaitPolicy;
/// use std::time::Duration;
///
/// let policy = WaitPolicy::default();
/// assert_eq!(policy.wait_time(None), Duration::from_secs(240));
/// assert_eq!(policy.wait_time(Some(1_000)), Duration::from_secs(90));
/// assert_eq!(policy.wait_time(Some(u64::MAX)), Duration::from_secs(600));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitPolicy {
    /// How long `exec` waits when the program does not say. What a program asks for is kept:
    /// it may want to be left alone soon.
    pub first: Duration,
    /// How long `wait` waits when the model does not say: less than the five minutes for
    /// which providers keep a prompt in their cache.
    pub default: Duration,
    /// The least that `wait` waits while there is nothing new, whatever the model asks for.
    pub floor: Duration,
    /// The most that `wait` waits, whatever the model asks for.
    pub longest: Duration,
    /// When `wait` answers about new output.
    pub new_output: NewOutput,
    /// How often a backend is asked; and how long no more output must come for a moment to
    /// be quiet.
    pub quiet: Duration,
}

/// When `wait` answers about new output of a cell that still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewOutput {
    /// After a quiet moment.
    Soon,
    /// When the time that the model asked for is over.
    InTime,
}

impl Default for WaitPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(30),
            default: Duration::from_mins(4),
            floor: Duration::from_secs(90),
            longest: Duration::from_mins(10),
            new_output: NewOutput::Soon,
            quiet: Duration::from_secs(1),
        }
    }
}

impl WaitPolicy {
    /// How long `wait` waits for a cell that has nothing new to say, when the model asks for
    /// this many milliseconds.
    pub fn wait_time(&self, asked_ms: Option<u64>) -> Duration {
        self.asked(asked_ms).max(self.floor).min(self.longest)
    }

    fn asked(&self, asked_ms: Option<u64>) -> Duration {
        asked_ms.map_or(self.default, Duration::from_millis).min(self.longest)
    }
}

/// An answer about a cell, and what the cell waits for if it still runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waited {
    /// The answer.
    pub outcome: WaitOutcome,
    /// For [`show`](super::show), such as `waiting for tools.ci__run, 41 s; nothing new`.
    pub activity: Option<String>,
}

/// Waits for the cells of a session by a policy. Output that it has fetched and not
/// delivered, because its caller went away, is kept for the next wait; so each wait and
/// termination of a session is to go through one waiter.
#[derive(Debug)]
pub struct CellWaiter {
    service: CodeModeService,
    policy: WaitPolicy,
    activity: CellActivity,
    cells: Mutex<HashMap<CellId, Watch>>,
}

/// What the waiter knows of a cell.
#[derive(Debug, Default)]
struct Watch {
    /// Somebody waits for it.
    waited_for: bool,
    /// Output that was fetched and not delivered.
    undelivered: Vec<ContentItem>,
}

impl CellWaiter {
    /// A waiter for the cells of a service. `activity` says what they wait for.
    pub fn new(service: CodeModeService, policy: WaitPolicy, activity: CellActivity) -> Self {
        Self { service, policy, activity, cells: Mutex::default() }
    }

    /// Starts a program under an id that was allocated before, and answers at its end, when
    /// its time is over, when it asks for that, or when somebody is asked to approve
    /// something.
    ///
    /// # Errors
    /// See [`CodeModeBackend::execute`](crate::CodeModeBackend::execute).
    pub async fn execute(
        &self,
        cell_id: CellId,
        mut request: ExecuteRequest,
    ) -> Result<Waited, CodeModeError> {
        let first = u64::try_from(self.policy.first.as_millis()).unwrap_or(u64::MAX);
        request.yield_time_ms.get_or_insert(first);
        let response = tokio::select! {
            response = self.service.execute_as(cell_id.clone(), request) => response?,
            () = self.activity.approval_asked(&cell_id) => yielded(cell_id, Vec::new()),
        };
        Ok(self.answer(WaitOutcome::LiveCell(response)))
    }

    /// Waits for a cell: until it ends, until it has new output as the policy says, until
    /// somebody is asked to approve something, or until the time is over.
    ///
    /// ```
    /// use cellblock::{*, model::*};
    /// use std::sync::Arc;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let backend: Arc<dyn CodeModeBackend> = Arc::new(WasmBackend::new()?);
    /// let service = CodeModeService::new(backend);
    /// let waiter =
    ///     CellWaiter::new(service.clone(), WaitPolicy::default(), CellActivity::default());
    /// let id = service.allocate_cell_id()?;
    /// let source = "yield_control(); await new Promise((r) => setTimeout(r, 50)); text('done')";
    /// let first = waiter.execute(id.clone(), ExecuteRequest::new(source)).await?;
    /// assert!(matches!(first.outcome, WaitOutcome::LiveCell(RuntimeResponse::Yielded { .. })));
    /// // A model that asks for a millisecond gets the result all the same.
    /// let RuntimeResponse::Result { error_text, .. } = waiter.wait(id, Some(1)).await?.outcome.into()
    /// else {
    ///     panic!("it still runs");
    /// };
    /// assert_eq!(error_text, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`CodeModeBackend::wait`](crate::CodeModeBackend::wait).
    pub async fn wait(
        &self,
        cell_id: CellId,
        asked_ms: Option<u64>,
    ) -> Result<Waited, CodeModeError> {
        let mut visit = self.visit(&cell_id)?;
        let (asked, floor) = (self.policy.asked(asked_ms), self.policy.wait_time(asked_ms));
        let started = Instant::now();
        loop {
            let until = if visit.output.is_empty() { floor } else { asked };
            let left = until.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(self.answer(WaitOutcome::LiveCell(visit.yielded())));
            }
            let slice = left.min(self.policy.quiet).max(Duration::from_millis(1));
            let began = Instant::now();
            let yield_time_ms = u64::try_from(slice.as_millis()).unwrap_or(u64::MAX);
            let request = WaitRequest { cell_id: cell_id.clone(), yield_time_ms };
            let outcome = tokio::select! {
                outcome = self.service.wait(request) => outcome?,
                () = self.activity.approval_asked(&cell_id) => {
                    return Ok(self.answer(WaitOutcome::LiveCell(visit.yielded())));
                }
            };
            let content_items = match outcome {
                WaitOutcome::LiveCell(RuntimeResponse::Yielded {
                    content_items, report, ..
                }) => {
                    visit.report = report;
                    content_items
                }
                outcome => return Ok(self.answer(visit.ended(outcome))),
            };
            let fresh = !content_items.is_empty();
            visit.output.extend(content_items);
            let asked_to_answer = began.elapsed() < slice;
            let quiet = !fresh && self.policy.new_output == NewOutput::Soon;
            if !visit.output.is_empty() && (quiet || asked_to_answer) {
                return Ok(self.answer(WaitOutcome::LiveCell(visit.yielded())));
            }
            if asked_to_answer {
                // There is nothing to say, and asking again at once would only keep busy.
                tokio::time::sleep_until(began + slice).await;
            }
        }
    }

    /// Ends a cell, and answers with what it still had to say.
    ///
    /// # Errors
    /// See [`CodeModeBackend::terminate`](crate::CodeModeBackend::terminate).
    pub async fn terminate(&self, cell_id: CellId) -> Result<WaitOutcome, CodeModeError> {
        let outcome = self.service.terminate(cell_id.clone()).await?;
        let mut cells = self.lock();
        // Who waits for the cell delivers what was fetched before.
        let idle = cells.get(&cell_id).is_some_and(|watch| !watch.waited_for);
        let watch = if idle { cells.remove(&cell_id) } else { None };
        Ok(with_earlier(outcome, watch.unwrap_or_default().undelivered))
    }

    /// Adds what the cell waits for.
    fn answer(&self, outcome: WaitOutcome) -> Waited {
        let WaitOutcome::LiveCell(RuntimeResponse::Yielded { cell_id, content_items, .. }) =
            &outcome
        else {
            return Waited { outcome, activity: None };
        };
        self.activity.approvals_named(cell_id);
        let waiting = self
            .activity
            .describe(cell_id)
            .unwrap_or_else(|| "running, with no call under way".to_owned());
        let new = if content_items.is_empty() { "; nothing new" } else { "" };
        let activity = Some(format!("{waiting}{new}"));
        Waited { outcome, activity }
    }

    /// Begins to wait for a cell.
    fn visit(&self, cell_id: &CellId) -> Result<Visit<'_>, CodeModeError> {
        let mut cells = self.lock();
        let watch = cells.entry(cell_id.clone()).or_default();
        if watch.waited_for {
            return Err(CodeModeError::AlreadyObserved(cell_id.clone()));
        }
        watch.waited_for = true;
        let output = std::mem::take(&mut watch.undelivered);
        Ok(Visit { waiter: self, cell_id: cell_id.clone(), output, report: CellReport::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CellId, Watch>> {
        // Nothing can panic while the lock is held, so the map is whole.
        lock(&self.cells)
    }
}

/// Somebody waits for a cell. What was not delivered when they go away is kept.
struct Visit<'a> {
    waiter: &'a CellWaiter,
    cell_id: CellId,
    output: Vec<ContentItem>,
    report: CellReport,
}

impl Visit<'_> {
    fn yielded(&mut self) -> RuntimeResponse {
        let mut response = yielded(self.cell_id.clone(), std::mem::take(&mut self.output));
        if let RuntimeResponse::Yielded { report, .. } = &mut response {
            *report = std::mem::take(&mut self.report);
        }
        response
    }

    fn ended(&mut self, outcome: WaitOutcome) -> WaitOutcome {
        with_earlier(outcome, std::mem::take(&mut self.output))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut cells = self.waiter.lock();
        if self.output.is_empty() {
            cells.remove(&self.cell_id);
            return;
        }
        let undelivered = std::mem::take(&mut self.output);
        cells.insert(self.cell_id.clone(), Watch { waited_for: false, undelivered });
        // What nobody can ask for any more is not kept.
        let alive = self.waiter.service.cells();
        cells.retain(|id, watch| watch.waited_for || alive.iter().any(|info| info.cell_id == *id));
    }
}

fn yielded(cell_id: CellId, content_items: Vec<ContentItem>) -> RuntimeResponse {
    RuntimeResponse::Yielded { cell_id, content_items, report: CellReport::default() }
}

/// Puts output that was fetched before in front of an answer.
fn with_earlier(outcome: WaitOutcome, earlier: Vec<ContentItem>) -> WaitOutcome {
    match outcome {
        WaitOutcome::LiveCell(mut response) => {
            response.prepend(earlier);
            WaitOutcome::LiveCell(response)
        }
        // The cell is not known, so nothing of it was.
        missing @ WaitOutcome::MissingCell(_) => missing,
    }
}
