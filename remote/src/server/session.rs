//! A session that a client has opened, whatever protocol it speaks.
//!
//! It is a service over a backend, and an account of its cells. A cell counts against the
//! host's limit, and the session's, until its end was sent; then its client is sent that
//! it is closed, after everything else of it.

mod keeping;
#[cfg(feature = "nats")]
mod leaving;

pub(super) use keeping::Keeper;
#[cfg(feature = "nats")]
pub(super) use keeping::{Held, KeepError};

use super::metrics::{self, ActiveCell};
use super::{AskedLimits, Permits, Server};
use crate::protocol::frame::MAX_BYTES;
use crate::protocol::{
    Base64, MAX_STORED_BYTES, MAX_TOOL_BYTES, Refusal, SeamKeep, SeamKept, SeamParked,
    SeamResponse, SeamWake, StoredDelta, TimedResponse, TimedWaitOutcome,
};
use cellblock::support::lock;
use cellblock::{
    CellId, CellReport, CodeModeError, CodeModeService, CodeModeTurnHost, CodeModeTurnWorker,
    ExecuteRequest, ExecuteToPendingOutcome, Keeping, ParkError, ParkedCell, PendingCalls,
    ResumeRequest, RuntimeResponse, StoredValues, ToolDefinition, WaitOutcome, WaitRequest,
    WaitToPendingOutcome, WakeRequest,
};
use keeping::StorePlace;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long sessions may take to end when their connection has.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// An open session.
pub(super) struct Session {
    service: CodeModeService,
    /// What the cells of all sessions share.
    server: Arc<Server>,
    /// One for each cell that this session may have.
    permits: Arc<Semaphore>,
    cells: Mutex<HashMap<CellId, Entry>>,
    /// Requests for cells: the session closes after they were answered.
    requests: TaskTracker,
    /// Receives what becomes of each cell; `None` once the session is closed.
    changes: Mutex<Option<mpsc::UnboundedSender<Change>>>,
    /// The stored values as the client has sent them, where they are the client's; `None`
    /// where they live with the session.
    stored: Option<Mutex<ClientValues>>,
    /// Cancelled when nobody takes the session's notifications any more.
    abandoned: CancellationToken,
}

/// The stored values of a client.
#[derive(Default)]
struct ClientValues {
    values: HashMap<String, Arc<str>>,
    /// A change was refused, so that the values are not the client's any more.
    refused: bool,
}

/// What a client is sent about a cell, whether or not it asks.
#[derive(Debug)]
pub(super) enum Change {
    /// It was kept where it outlives this process, or is not kept any more.
    Kept(CellId, Keeping),
    /// It has ended.
    Ended(CellId),
    /// It has ended, and everything of it was sent.
    Closed(CellId),
    /// It has not ended: its client is asked to have it kept.
    #[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "only a fleet keeps cells"))]
    Leave(CellId),
}

/// A program that a client sends.
pub(super) struct Program {
    pub(super) request: ExecuteRequest,
    /// Whether it is to be frozen where it waits.
    pub(super) until_frontier: bool,
    /// The parked cell that it is, if it is one.
    pub(super) wake: Option<SeamWake>,
    /// Where it may be kept while it waits.
    pub(super) keep: Option<SeamKeep>,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// A response, for at most this many milliseconds.
    Yield(u64),
    /// The program is frozen, or has ended.
    Frontier,
    /// The cell is parked.
    Park,
    /// The cell is parked, and the host keeps it.
    Keep,
}

/// What a nested call fails with on this side when its cell was parked: its end comes to the
/// client, and is not the cell's any more.
pub(super) const CELL_PARKED: &str = "the cell was parked";

/// A cell's stored values, and what they were when it started.
struct CellValues {
    values: StoredValues,
    before: HashMap<String, Arc<str>>,
}

/// What is known of a cell.
struct Entry {
    /// Requests for it that were not answered yet.
    requests: usize,
    /// Its last response was taken to be sent.
    last_taken: bool,
    /// When it ended.
    ended: Option<Instant>,
    /// A response that was not sent after all: the next request takes it.
    unsent: Option<RuntimeResponse>,
    /// The nested calls that the newest response of a frozen cell names.
    pending: Option<Vec<String>>,
    /// Where the stored values are the client's.
    values: Option<CellValues>,
    active: ActiveCell,
    /// Where the cell may be kept while it waits.
    keeping: Option<StorePlace>,
    /// When a request, a nested call or a notification of the cell began or ended last.
    touched: Instant,
    /// Cancelled when the cell was parked.
    parked: CancellationToken,
    /// The cell outlives this process.
    kept: Option<KeptPlace>,
    _permits: Permits,
}

/// Counts a cell among those that outlive this process, until it is dropped.
struct KeptPlace(Arc<Server>);

impl KeptPlace {
    fn new(server: &Arc<Server>) -> Self {
        server.kept.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(server))
    }
}

impl Drop for KeptPlace {
    fn drop(&mut self) {
        self.0.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request for a cell, from its arrival to its answer. The cell is not closed before it
/// is dropped, which is to be done once the answer was queued.
pub(super) struct CellRequest {
    session: Arc<Session>,
    cell_id: CellId,
    arrived: Instant,
    _tracked: TaskTrackerToken,
}

impl Session {
    /// Opens a session with the host's limits, or narrower ones. `seam` says whether the
    /// client owns the stored values and takes reports. The receiver is sent each cell that
    /// has ended or is closed, and ends when the session is closed.
    pub(super) fn open(
        server: &Arc<Server>,
        asked: AskedLimits,
        seam: bool,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<Change>), Refusal> {
        let backend = (server.open)(asked).map_err(|error| match error {
            CodeModeError::InvalidRequest(why) => Refusal::InvalidLimits(why),
            other => other.into(),
        })?;
        let (sender, closed) = mpsc::unbounded_channel();
        let session = Arc::new(Self {
            service: CodeModeService::new(backend),
            server: Arc::clone(server),
            permits: Arc::new(Semaphore::new(server.limits.cells_per_session)),
            cells: Mutex::default(),
            requests: TaskTracker::new(),
            changes: Mutex::new(Some(sender)),
            stored: seam.then(Mutex::default),
            abandoned: CancellationToken::new(),
        });
        server.note_session(&session);
        Ok((session, closed))
    }

    /// Whether the client takes all of the seam.
    pub(super) fn has_seam(&self) -> bool {
        self.stored.is_some()
    }

    /// Serves the session's nested calls and notifications.
    pub(super) fn serve(&self, client: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.service.start_turn_worker(client)
    }

    /// Takes over a change of the client's stored values.
    pub(super) fn take_over_stored(&self, delta: StoredDelta) -> Result<(), Refusal> {
        let Some(stored) = &self.stored else { return Err(Refusal::SeamNotGranted) };
        let mut stored = lock(stored);
        if stored.refused {
            return Err(Refusal::StoredValuesRefused);
        }
        // From here on a program would see other values than its client has.
        stored.refused = true;
        let valid = |json: &str| serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok();
        if let Some((key, _)) = delta.set.iter().find(|(_, json)| !valid(json)) {
            return Err(Refusal::InvalidStoredValue(key.chars().take(64).collect()));
        }
        delta.apply(&mut stored.values);
        let bytes: usize = stored.values.iter().map(|(key, json)| key.len() + json.len()).sum();
        if bytes > MAX_STORED_BYTES {
            stored.values.clear();
            return Err(Refusal::LongStoredValues);
        }
        stored.refused = false;
        Ok(())
    }

    /// Admits a program: its cell has an id, and counts from here on.
    pub(super) fn admit(
        self: &Arc<Self>,
        request: &ExecuteRequest,
    ) -> Result<CellRequest, Refusal> {
        self.try_admit(request).inspect_err(|_| metrics::refused())
    }

    fn try_admit(self: &Arc<Self>, request: &ExecuteRequest) -> Result<CellRequest, Refusal> {
        if self.stored.as_ref().is_some_and(|stored| lock(stored).refused) {
            return Err(Refusal::StoredValuesRefused);
        }
        if self.server.draining.load(Ordering::Relaxed) {
            return Err(CodeModeError::ShuttingDown.into());
        }
        let tools = request.enabled_tools.iter().map(ToolDefinition::byte_len).sum::<usize>();
        if tools + request.tool_call_id.len() > MAX_TOOL_BYTES {
            return Err(Refusal::LongTools(tools));
        }
        let permit = |permits: &Arc<Semaphore>| Arc::clone(permits).try_acquire_owned();
        let of_session = permit(&self.permits)
            .map_err(|_| Refusal::TooManySessionCells(self.server.limits.cells_per_session));
        // The host's limit first: where both are met, it is the one that others feel.
        let of_host = permit(&self.server.cells).map_err(|_| Refusal::TooManyCells)?;
        let cell_id = self.service.allocate_cell_id()?;
        let entry = Entry {
            requests: 0,
            last_taken: false,
            ended: None,
            unsent: None,
            pending: None,
            values: self.stored.as_ref().map(|stored| CellValues::new(lock(stored).values.clone())),
            active: ActiveCell::admitted(),
            keeping: None,
            touched: Instant::now(),
            parked: CancellationToken::new(),
            kept: None,
            _permits: (of_host, of_session?),
        };
        lock(&self.cells).insert(cell_id.clone(), entry);
        Ok(self.request(cell_id))
    }

    /// A request for a cell has arrived.
    pub(super) fn request(self: &Arc<Self>, cell_id: CellId) -> CellRequest {
        if let Some(entry) = lock(&self.cells).get_mut(&cell_id) {
            entry.requests += 1;
            entry.touched = Instant::now();
        }
        let (session, tracked) = (Arc::clone(self), self.requests.token());
        CellRequest { session, cell_id, arrived: Instant::now(), _tracked: tracked }
    }

    /// Is cancelled when the cell was parked.
    pub(super) fn parked(&self, cell_id: &CellId) -> CancellationToken {
        lock(&self.cells).get(cell_id).map(|entry| entry.parked.clone()).unwrap_or_default()
    }

    /// The cell has ended, whether or not anybody waits for it.
    pub(super) fn ended(&self, cell_id: &CellId) {
        if let Some(entry) = lock(&self.cells).get_mut(cell_id) {
            entry.ended = Some(Instant::now());
        }
        self.changed(Change::Ended(cell_id.clone()));
    }

    /// What has become of the cell in its store.
    pub(super) fn kept(&self, cell_id: &CellId, keeping: Keeping) {
        if let Some(entry) = lock(&self.cells).get_mut(cell_id) {
            entry.kept = keeping.name().map(|_| KeptPlace::new(&self.server));
        }
        self.changed(Change::Kept(cell_id.clone(), keeping));
    }

    fn changed(&self, change: Change) {
        if let Some(changes) = &*lock(&self.changes) {
            // A connection that has ended does not listen any more.
            let _ = changes.send(change);
        }
    }

    /// Ends every cell, and returns when what was asked of them was answered. Cells that
    /// nobody asked for are closed with the session.
    pub(super) async fn close(&self) {
        self.service.shutdown().await;
        self.requests.close();
        if timeout(SHUTDOWN_GRACE, self.requests.wait()).await.is_err() {
            tracing::warn!("a session was closed before all its answers were sent");
        }
        let left: Vec<_> = lock(&self.cells).drain().collect();
        let mut left: Vec<_> = left
            .into_iter()
            .map(|(cell_id, entry)| {
                self.give_up(entry.keeping);
                cell_id
            })
            .collect();
        left.sort_by_key(|id| id.as_ref().parse::<u64>().unwrap_or_default());
        for cell_id in left {
            self.changed(Change::Closed(cell_id));
        }
        lock(&self.changes).take();
    }
}

impl CellRequest {
    /// The cell.
    pub(super) fn cell_id(&self) -> &CellId {
        &self.cell_id
    }

    /// Runs the admitted program to its first response.
    pub(super) async fn execute(&self, program: Program) -> Result<TimedResponse, Refusal> {
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
    pub(super) async fn wait(
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
    async fn leave(
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
    fn left(&self, parked: SeamParked) -> TimedWaitOutcome {
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
    pub(super) async fn terminate(&self) -> Result<TimedWaitOutcome, Refusal> {
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
    pub(super) fn give_back(&self, response: RuntimeResponse) {
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

    fn taken(&self, last: bool) {
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

impl CellValues {
    fn new(before: HashMap<String, Arc<str>>) -> Self {
        Self { values: StoredValues::from_json(before.clone()), before }
    }
}

/// What a client sends to wake a parked cell.
fn wake_request(request: ExecuteRequest, wake: SeamWake, cell: ParkedCell) -> WakeRequest {
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
fn resume_request(request: &ExecuteRequest, kept: &SeamKept) -> Result<ResumeRequest, Refusal> {
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
