//! A request for a cell of a session: to run its program, to wait for it, to park or to end it.

use super::super::metrics;
use super::{CELL_PARKED, Change, Session};
use crate::protocol::frame::MAX_BYTES;
use crate::protocol::{
    Base64, Refusal, SeamKeep, SeamParked, SeamResponse, SeamResume, SeamWake, TimedResponse,
    TimedWaitOutcome,
};
use cellblock::support::lock;
use cellblock::{
    CellId, CellReport, CodeModeError, ExecuteRequest, ExecuteToPendingOutcome, ParkError,
    ParkedCell, PendingCalls, ResumeRequest, RuntimeResponse, WaitOutcome, WaitRequest,
    WaitToPendingOutcome, WakeRequest,
};
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A program that a client sends.
pub(in super::super) struct Program {
    pub(in super::super) request: ExecuteRequest,
    /// Whether it is to be frozen where it waits.
    pub(in super::super) until_frontier: bool,
    /// The parked cell that it is, if it is one.
    pub(in super::super) wake: Option<SeamWake>,
    /// Where it may be kept while it waits.
    pub(in super::super) keep: Option<SeamKeep>,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Wait {
    /// A response, for at most this many milliseconds.
    Yield(u64),
    /// The program is frozen, or has ended.
    Frontier,
    /// The cell is parked.
    Park,
    /// The cell is parked, and the host keeps it.
    Keep,
}

/// A request for a cell, from its arrival to its answer. The cell is not closed before it
/// is dropped, which is to be done once the answer was queued.
pub(in super::super) struct CellRequest {
    pub(super) session: Arc<Session>,
    pub(super) cell_id: CellId,
    arrived: Instant,
    _tracked: TaskTrackerToken,
}

/// A future that has begun: what it does before it waits for something is done. A program that
/// has begun is known to the backend, so that whatever comes for its cell next finds it.
pub(in super::super) fn begun<T>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send + 'static
where
    T: Send + 'static,
{
    let mut future = Box::pin(future);
    let at_once = (&mut future).now_or_never();
    async move {
        match at_once {
            Some(outcome) => outcome,
            None => future.await,
        }
    }
}

impl Session {
    /// A request for a cell has arrived.
    pub(in super::super) fn request(self: &Arc<Self>, cell_id: CellId) -> CellRequest {
        if let Some(entry) = lock(&self.cells).get_mut(&cell_id) {
            entry.requests += 1;
            entry.touched = Instant::now();
        }
        let (session, tracked) = (Arc::clone(self), self.requests.token());
        CellRequest { session, cell_id, arrived: Instant::now(), _tracked: tracked }
    }
}

impl CellRequest {
    /// The cell.
    pub(in super::super) fn cell_id(&self) -> &CellId {
        &self.cell_id
    }

    /// Runs the admitted program to its first response.
    pub(in super::super) async fn execute(
        &self,
        program: Program,
    ) -> Result<TimedResponse, Refusal> {
        let Program { request, until_frontier, wake, keep } = program;
        let is_named = keep.is_some();
        self.note_keep(keep);
        let (id, service) = (self.cell_id.clone(), &self.session.service);
        let values = lock(&self.session.cells)
            .get(&self.cell_id)
            .and_then(|entry| entry.values.as_ref().map(|own| own.values.clone()));
        let executed = match values {
            None if wake.is_some() => return Err(Refusal::SeamNotGranted),
            Some(values) if let Some(SeamWake { kept: Some(kept), .. }) = wake => {
                let request = resume_request(&request, &kept).inspect_err(|_| self.taken(true))?;
                let resumed = service.backend().resume(id, request, values).await;
                resumed.map(|response| (response, None)).map_err(Refusal::from)
            }
            Some(values) if let Some(wake) = wake => {
                self.wake(request, wake, values, is_named).await.map(|response| (response, None))
            }
            None => Ok(service.execute_as(id, request).await.map(|response| (response, None))?),
            Some(values) if until_frontier => {
                let executing = service.backend().execute_to_pending(id, request, values);
                executing.await.map(frontier).map_err(Refusal::from)
            }
            Some(values) => {
                let executing = service.backend().execute(id, request, values);
                executing.await.map(|response| (response, None)).map_err(Refusal::from)
            }
        };
        let (response, pending) = executed.inspect_err(|_| self.taken(true))?;
        metrics::first_response(self.arrived.elapsed());
        let buffered = self.note(&response);
        let addition = self.addition(&response, pending);
        let timed = TimedResponse::new(response, self.arrived.elapsed(), buffered);
        Ok(match addition {
            Some(addition) => timed.with_seam(addition),
            None => timed,
        })
    }

    /// Waits for the cell. Cancelled, it leaves its output to the next request.
    pub(in super::super) async fn wait(
        &self,
        wait: Wait,
        cancelled: &CancellationToken,
    ) -> Result<TimedWaitOutcome, Refusal> {
        match wait {
            Wait::Park => return self.park(cancelled).await,
            Wait::Keep => return self.keep_asked(cancelled).await,
            Wait::Yield(_) | Wait::Frontier => {}
        }
        tokio::select! {
            biased;
            outcome = self.observe(wait) => outcome,
            () = cancelled.cancelled() => Err(Refusal::Cancelled),
        }
    }

    async fn observe(&self, wait: Wait) -> Result<TimedWaitOutcome, Refusal> {
        if let Some(unsent) = self.unsent() {
            let pending = lock(&self.session.cells)
                .get_mut(&self.cell_id)
                .and_then(|entry| entry.pending.take());
            return Ok(self.timed(WaitOutcome::LiveCell(unsent), pending));
        }
        let (cell_id, service) = (self.cell_id.clone(), &self.session.service);
        let (outcome, pending) = match wait {
            Wait::Yield(yield_time_ms) => {
                (service.wait(WaitRequest { cell_id, yield_time_ms }).await?, None)
            }
            // Answered above.
            Wait::Park | Wait::Keep => return Err(Refusal::SeamNotGranted),
            Wait::Frontier if !self.session.has_seam() => return Err(Refusal::SeamNotGranted),
            Wait::Frontier => match service.backend().wait_to_pending(cell_id).await? {
                WaitToPendingOutcome::LiveCell(outcome) => {
                    let (response, pending) = frontier(outcome);
                    (WaitOutcome::LiveCell(response), pending)
                }
                WaitToPendingOutcome::MissingCell(missing) => {
                    (WaitOutcome::MissingCell(missing), None)
                }
            },
        };
        Ok(self.timed(outcome, pending))
    }

    /// Parks the cell.
    async fn park(&self, cancelled: &CancellationToken) -> Result<TimedWaitOutcome, Refusal> {
        let (cell, mut parked) = self.leave(cancelled).await?;
        parked.cell = Base64(cell.as_bytes().into());
        Ok(self.left(parked))
    }

    /// Takes the cell out of the session as bytes, with what its client has to know.
    pub(super) async fn leave(
        &self,
        cancelled: &CancellationToken,
    ) -> Result<(ParkedCell, SeamParked), Refusal> {
        if !self.session.has_seam() {
            return Err(Refusal::SeamNotGranted);
        }
        // Not any more once the cell is bytes: nobody else has them.
        let parked = tokio::select! {
            biased;
            parked = self.session.service.park(self.cell_id.clone()) => parked?,
            () = cancelled.cancelled() => return Err(Refusal::Cancelled),
        };
        // What the client has answered goes back to it. The other calls are the client's: it
        // is not asked for their ends any more, and they go on there.
        self.session.parked(&self.cell_id).cancel();
        let mut ends = BTreeMap::new();
        for (id, end) in parked.calls.ends().await {
            let end = end.and_then(|result| result.into_json(MAX_BYTES).map_err(|e| e.to_string()));
            if end.as_ref().is_err_and(|error| error == CELL_PARKED) {
                continue;
            }
            ends.insert(id, end);
        }
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let wakes_in_ms = parked.wakes_in.map(ms);
        Ok((parked.cell, SeamParked { cell: Base64::default(), kept: None, wakes_in_ms, ends }))
    }

    /// The answer to a client whose cell has left.
    pub(super) fn left(&self, parked: SeamParked) -> TimedWaitOutcome {
        self.taken(true);
        // What was not sent before.
        let content_items = self.unsent().map(RuntimeResponse::into_content).unwrap_or_default();
        let (cell_id, report) = (self.cell_id.clone(), CellReport::default());
        let response = RuntimeResponse::Yielded { cell_id, content_items, report };
        let addition = SeamResponse { parked: Some(parked), ..SeamResponse::default() };
        let timed = TimedResponse::new(response, self.arrived.elapsed(), Duration::ZERO);
        TimedWaitOutcome::LiveCell(timed.with_seam(addition))
    }

    /// Ends the cell.
    pub(in super::super) async fn terminate(&self) -> Result<TimedWaitOutcome, Refusal> {
        let unsent = self.unsent();
        if let Some(last @ (RuntimeResponse::Result { .. } | RuntimeResponse::Terminated { .. })) =
            unsent
        {
            return Ok(self.timed(WaitOutcome::LiveCell(last), None));
        }
        let mut outcome = self.session.service.terminate(self.cell_id.clone()).await?;
        if let (WaitOutcome::LiveCell(response), Some(earlier)) = (&mut outcome, unsent) {
            response.prepend(earlier.into_content());
        }
        Ok(self.timed(outcome, None))
    }

    /// The answer was not sent: the next request for the cell takes it.
    pub(in super::super) fn give_back(&self, response: RuntimeResponse) {
        if let Some(entry) = lock(&self.session.cells).get_mut(&self.cell_id) {
            entry.last_taken = false;
            entry.unsent = Some(response);
        }
    }

    fn unsent(&self) -> Option<RuntimeResponse> {
        lock(&self.session.cells).get_mut(&self.cell_id).and_then(|entry| entry.unsent.take())
    }

    fn timed(&self, outcome: WaitOutcome, pending: Option<Vec<String>>) -> TimedWaitOutcome {
        let (buffered, addition) = match &outcome {
            WaitOutcome::LiveCell(response) => {
                (self.note(response), self.addition(response, pending))
            }
            WaitOutcome::MissingCell(_) => (Duration::ZERO, None),
        };
        match (TimedWaitOutcome::new(outcome, self.arrived.elapsed(), buffered), addition) {
            (TimedWaitOutcome::LiveCell(response), Some(addition)) => {
                TimedWaitOutcome::LiveCell(response.with_seam(addition))
            }
            (outcome, _) => outcome,
        }
    }

    /// What only clients of this project's take: the report, and with the last response what
    /// the program stored.
    fn addition(
        &self,
        response: &RuntimeResponse,
        pending_tool_call_ids: Option<Vec<String>>,
    ) -> Option<SeamResponse> {
        self.session.stored.as_ref()?;
        if let Some(entry) = lock(&self.session.cells).get_mut(&self.cell_id) {
            entry.pending.clone_from(&pending_tool_call_ids);
        }
        let report = response.report().clone();
        let stored = match response {
            RuntimeResponse::Result { .. } => lock(&self.session.cells)
                .get(&self.cell_id)
                .and_then(|entry| entry.values.as_ref())
                .map(|own| own.values.written_since(&own.before))
                .into_iter()
                .flatten()
                .collect(),
            _ => BTreeMap::new(),
        };
        Some(SeamResponse { report, stored, pending_tool_call_ids, parked: None })
    }

    /// Notes a response that is to be sent; says how long it had waited to be asked for.
    fn note(&self, response: &RuntimeResponse) -> Duration {
        let last = !matches!(response, RuntimeResponse::Yielded { .. });
        self.taken(last);
        let mut cells = lock(&self.session.cells);
        let entry = cells.get_mut(&self.cell_id);
        let ended = entry.and_then(|entry| {
            if last {
                entry.active.ended(response);
            }
            entry.ended
        });
        ended.map_or(Duration::ZERO, |ended| self.arrived.saturating_duration_since(ended))
    }

    pub(super) fn taken(&self, last: bool) {
        if let Some(entry) = lock(&self.session.cells).get_mut(&self.cell_id) {
            entry.last_taken |= last;
        }
    }
}

impl Drop for CellRequest {
    /// Closes the cell, if its last response was sent and nothing else is asked of it.
    fn drop(&mut self) {
        let mut cells = lock(&self.session.cells);
        let Some(entry) = cells.get_mut(&self.cell_id) else { return };
        entry.requests = entry.requests.saturating_sub(1);
        entry.touched = Instant::now();
        if entry.last_taken && entry.requests == 0 {
            let keeping = cells.remove(&self.cell_id).and_then(|entry| entry.keeping);
            drop(cells);
            self.session.give_up(keeping);
            self.session.changed(Change::Closed(self.cell_id.clone()));
        }
    }
}

/// What a client sends to wake a parked cell.
pub(super) fn wake_request(
    request: ExecuteRequest,
    wake: SeamWake,
    cell: ParkedCell,
) -> WakeRequest {
    let SeamWake { is_fork, restricts_tools, renames_call, pending, elapsed_ms, .. } = wake;
    let mut calls = PendingCalls::default();
    for id in pending {
        calls.expect(id);
    }
    WakeRequest {
        enabled_tools: restricts_tools.then_some(request.enabled_tools),
        tool_call_id: renames_call.then_some(request.tool_call_id),
        yield_time_ms: request.yield_time_ms,
        is_fork,
        calls,
        elapsed: Duration::from_millis(elapsed_ms),
        ..WakeRequest::new(cell)
    }
}

/// What a client sends to go on with a kept cell.
fn resume_request(request: &ExecuteRequest, kept: &SeamResume) -> Result<ResumeRequest, Refusal> {
    let name = kept.name.parse().map_err(|_| CodeModeError::from(ParkError::NotKept))?;
    let (received, yield_time_ms) = (kept.received, request.yield_time_ms);
    Ok(ResumeRequest { name, received, yield_time_ms })
}

/// A frozen cell as a yield, and the nested calls that it has made.
fn frontier(outcome: ExecuteToPendingOutcome) -> (RuntimeResponse, Option<Vec<String>>) {
    match outcome {
        ExecuteToPendingOutcome::Pending { cell_id, content_items, pending_tool_call_ids } => {
            let report = CellReport::default();
            let frozen = RuntimeResponse::Yielded { cell_id, content_items, report };
            (frozen, Some(pending_tool_call_ids))
        }
        ExecuteToPendingOutcome::Completed(response) => (response, None),
    }
}
