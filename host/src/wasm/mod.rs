//! The in-process backend: each cell in a WebAssembly sandbox of its own.
//!
//! From the outside in: [`WasmBackend`] is the seam; `cell` is the task that owns a cell,
//! `sandbox` the guest's steps, `imports` all that a guest can reach, `engine` and `cache`
//! the machinery, `slots` the places for sandboxes, `park` what becomes of a cell that is
//! parked, `typescript` what reads TypeScript. What every backend does in the same way is in
//! [`crate::cells`].

mod bindings;
mod cache;
mod cell;
mod engine;
mod error_text;
mod guest_clock;
mod imports;
mod park;
mod pools;
pub mod recording;
mod sandbox;
mod session;
mod slots;
mod typescript;

pub use engine::{Engine, EngineConfig, EngineError};
pub use park::{ParkKey, Parking};

use crate::backend::{
    CellId, CellInfo, CellStore, CodeModeBackend, CodeModeError, CodeModeTurnHost,
    CodeModeTurnWorker, ExecuteRequest, ExecuteToPendingOutcome, KeptName, ParkError, Parked,
    ParkedCell, ParkedInfo, ResumeRequest, RuntimeResponse, WaitOutcome, WaitRequest,
    WaitToPendingOutcome, WakeRequest,
};
use crate::cells::{Account, Answer, CellStatus, Until};
use crate::clock::{Clock, Random, SystemClock, SystemRandom};
use crate::limits::{CellLimits, SessionLimits, yield_timeout};
use crate::stored::StoredValues;
use crate::tools::ToolDefinition;
use async_trait::async_trait;
use cell::{Arrival, Charges, Origin, Start};
use engine::GUEST;
use guest_clock::GuestClock;
use imports::{Outbox, Spent};
use park::Opened;
use recording::{Recordings, Tape};
use session::{Session, ToolSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes that a tool's name, or a request's `tool_call_id`, may have.
const MAX_NAME_BYTES: usize = 1_024;

/// Tools of one request: the guest numbers them in fifteen bits.
const MAX_TOOLS: usize = i16::MAX as usize;

/// A cell that an earlier process has kept, and that was found. It may be found again unless it
/// goes on.
struct Kept {
    store: Arc<dyn CellStore>,
    name: KeptName,
    /// Pieces of output that its caller has received.
    received: u64,
    goes_on: bool,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.goes_on {
            self.store.release(self.name);
        }
    }
}

/// Runs cells in this process.
///
/// It must be used within a tokio runtime with its timer enabled. Dropping it
/// ends its cells without waiting for them.
pub struct WasmBackend {
    session: Arc<Session>,
    last_id: AtomicU64,
}

impl WasmBackend {
    /// A session on the process's shared engine with default limits.
    ///
    /// # Errors
    /// As for [`Engine::shared`].
    pub fn new() -> Result<Self, EngineError> {
        Ok(Self::with_limits(&Engine::shared()?, SessionLimits::default()))
    }

    /// A session on an engine with limits of its own.
    pub fn with_limits(engine: &Engine, limits: SessionLimits) -> Self {
        Self::deterministic(
            engine,
            limits,
            Arc::new(SystemClock),
            Arc::new(SystemRandom::default()),
        )
    }

    /// A session whose programs see the clock and the random seeds given here.
    /// With a fixed clock, fixed seeds and the same results from tools in the
    /// same order, a program gives the same output for the same fuel, always.
    pub fn deterministic(
        engine: &Engine,
        limits: SessionLimits,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let session = Arc::new(Session::new(engine.clone(), limits, clock, random));
        Self { session, last_id: AtomicU64::new(0) }
    }

    /// Sets how cells are parked and woken from here on. Without it they are known again in
    /// this process, may be forked, and are not encrypted.
    pub fn set_parking(&self, parking: Parking) {
        self.session.set_parking(parking);
    }

    /// Sets whether cells that are started from here on are recorded. Cells that were parked
    /// are not: their recordings end where they were.
    pub fn set_recordings(&self, recordings: Option<Recordings>) {
        self.session.set_recordings(recordings);
    }

    /// Sets where cells that are admitted from here on are kept while they sleep, so that they
    /// outlive the process; see [`CodeModeBackend::resume`]. They are sealed as parked cells are, so a
    /// later process needs the same key: see [`WasmBackend::set_parking`]. A cell that is frozen
    /// is not kept, nor is one whose notifications are being delivered when it falls asleep.
    pub fn set_store(&self, store: Option<Arc<dyn CellStore>>) {
        self.session.set_store(store);
    }

    /// What a parked cell waits for, and since when.
    ///
    /// # Errors
    /// [`CodeModeError::Park`], as for [`wake`](CodeModeBackend::wake).
    pub fn parked_info(&self, cell: &ParkedCell) -> Result<ParkedInfo, CodeModeError> {
        let (session, parking) = (&self.session, self.session.parking());
        let Opened { head, .. } =
            parking.open(cell, session.engine.dictionary(), &session.limits)?;
        let due = |(_, due): (u64, u64)| Duration::from_nanos(due.saturating_sub(head.monotonic));
        let elapsed = session.clock.wall().saturating_sub(Duration::from_nanos(head.wall));
        Ok(ParkedInfo {
            calls: head.parked_calls()?,
            timer_in: head.timer.map(due),
            ends_in: Duration::from_nanos(head.time_left),
            elapsed: elapsed.min(head.limits.total_time),
        })
    }

    /// Admits a cell and waits for its first answer.
    async fn start(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
        until: Until,
    ) -> Result<Answer, CodeModeError> {
        let limits = &self.session.limits;
        check(&request, &limits.cell)?;
        let account = Account::new(limits.cell.held_bytes());
        let ToolSet { names: tool_names, bytes: tools } =
            self.session.tool_set(&request.enabled_tools);
        let charges = account.charge(request.source.len()).zip(account.charge(tools));
        let Some((source_charge, tools_charge)) = charges else {
            return Err(CodeModeError::InvalidRequest(format!(
                "the source has {} bytes and the tools have {tools}, and the host may hold {} \
                 bytes for the cell",
                request.source.len(),
                account.limit()
            )));
        };
        let status = Arc::new(CellStatus::default());
        let (entry, commands) = self.session.registry.admit(&cell_id, &status)?;
        let (reply, answer) = oneshot::channel();
        let tape = self.session.recordings().map_or(Tape::Off, |recordings| {
            Tape::recording(&recordings, &cell_id, &request, &limits.cell, &GUEST.hash)
        });
        let outbox = Outbox::new(account, Arc::clone(&status), Spent::default()).with_tape(tape);
        let start = Start {
            entry,
            id: cell_id.clone(),
            request,
            seen: stored_values.snapshot(),
            stored_values,
            session: Arc::clone(&self.session),
            outbox: Arc::new(outbox),
            commands,
            first: (until, reply),
            tools_charge,
            limits: Arc::clone(&self.session.cell_limits),
            clock: None,
            value_key: cell::value_key(&cell_id),
            allowed: None,
        };
        self.session
            .tasks
            .spawn(cell::run(Box::new(start), Origin::Program { tool_names, source_charge }));
        self.session.registry.first_answer(cell_id, status, answer).await
    }

    /// Opens a parked cell, admits it and waits for its first answer.
    async fn start_parked(
        &self,
        cell_id: CellId,
        request: WakeRequest,
        mut kept: Option<Kept>,
        stored_values: StoredValues,
    ) -> Result<Answer, CodeModeError> {
        let WakeRequest { cell, calls, enabled_tools, tool_call_id, .. } = request;
        let WakeRequest { yield_time_ms, is_fork, elapsed, .. } = request;
        let (session, parking) = (Arc::clone(&self.session), self.session.parking());
        let Opened { name, mut head, image } = session.open_parked(&parking, cell).await?;
        head.advance(elapsed);
        if let Some((unknown, _)) = calls.iter().find(|(id, _)| !head.is_pending(id)) {
            return Err(ParkError::UnknownCall(unknown.to_owned()).into());
        }
        if let Some(kept) = &kept {
            head.note_received(kept.received);
        }
        let tool_call_id = tool_call_id.unwrap_or_else(|| std::mem::take(&mut head.tool_call_id));
        let request = ExecuteRequest {
            tool_call_id,
            enabled_tools: std::mem::take(&mut head.tools).into(),
            ..ExecuteRequest::default()
        };
        check(&request, &head.limits)?;
        let account = Account::new(head.limits.held_bytes());
        let tools: usize = request.enabled_tools.iter().map(ToolDefinition::byte_len).sum();
        let charges = account.charge(tools).zip(Charges::of(&head, &account));
        let (tools_charge, charges) = charges.ok_or_else(|| {
            let most = account.limit();
            park::above("host_bytes", &format!("more than {most}"), most)
        })?;
        let status = Arc::new(CellStatus::default());
        let (entry, commands) = session.registry.admit(&cell_id, &status)?;
        let is_fork = match parking.note_woken(name, is_fork) {
            Ok(is_fork) => is_fork,
            Err(error) => {
                entry.fail(Vec::new(), None);
                return Err(error.into());
            }
        };
        let (reply, answer) = oneshot::channel();
        let until = Until::Yield(yield_timeout(yield_time_ms, session.limits.max_yield_time_ms));
        let start = Start {
            entry,
            id: cell_id.clone(),
            request,
            seen: Arc::new(std::mem::take(&mut head.stored).into_iter().collect()),
            stored_values,
            outbox: Arc::new(Outbox::new(account, Arc::clone(&status), head.spent)),
            commands,
            first: (until, reply),
            tools_charge,
            limits: Arc::new(head.limits.clone()),
            clock: Some(GuestClock::woken(Arc::clone(&session.clock), head.monotonic, head.wall)),
            value_key: std::mem::take(&mut head.value_key),
            allowed: cell::allowed(enabled_tools.as_deref()),
            session: Arc::clone(&session),
        };
        let seed = is_fork.then(|| session.random.seed());
        let arrival = Arrival {
            head,
            image,
            calls,
            seed,
            charges,
            kept: kept.as_ref().map(|kept| kept.name),
        };
        if let Some(kept) = &mut kept {
            kept.goes_on = true;
        }
        session.tasks.spawn(cell::run(Box::new(start), Origin::Parked(Box::new(arrival))));
        session.registry.first_answer(cell_id, status, answer).await
    }

    /// Whether this session has handed out the id.
    fn was_allocated(&self, cell_id: &CellId) -> bool {
        let last = self.last_id.load(Ordering::Relaxed);
        cell_id.as_ref().parse::<u64>().is_ok_and(|id| (1..=last).contains(&id))
    }
}

impl std::fmt::Debug for WasmBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasmBackend").field("cells", &self.cells()).finish_non_exhaustive()
    }
}

impl Drop for WasmBackend {
    fn drop(&mut self) {
        self.session.end();
    }
}

#[async_trait]
impl CodeModeBackend for WasmBackend {
    fn availability(&self) -> Result<(), CodeModeError> {
        Ok(())
    }

    fn allocate_cell_id(&self) -> Result<CellId, CodeModeError> {
        let next = |last: u64| last.checked_add(1);
        let last = self
            .last_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .map_err(|_| CodeModeError::CellIdsExhausted)?;
        Ok(CellId::new((last + 1).to_string()))
    }

    async fn execute(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        let until = Until::Yield(yield_timeout(
            request.yield_time_ms,
            self.session.limits.max_yield_time_ms,
        ));
        let answer = self.start(cell_id.clone(), request, stored_values, until).await?;
        Ok(answer.into_response(cell_id))
    }

    async fn wait(&self, request: WaitRequest) -> Result<WaitOutcome, CodeModeError> {
        let max = self.session.limits.max_yield_time_ms;
        let until = Until::Yield(yield_timeout(Some(request.yield_time_ms), max));
        let WaitRequest { cell_id, .. } = request;
        let was_allocated = || self.was_allocated(&cell_id);
        self.session.registry.wait(cell_id.clone(), until, was_allocated).await
    }

    async fn terminate(&self, cell_id: CellId) -> Result<WaitOutcome, CodeModeError> {
        let was_allocated = || self.was_allocated(&cell_id);
        self.session.registry.terminate(cell_id.clone(), was_allocated).await
    }

    async fn execute_to_pending(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<ExecuteToPendingOutcome, CodeModeError> {
        let answer = self.start(cell_id.clone(), request, stored_values, Until::Frontier).await?;
        Ok(answer.into_frontier(cell_id))
    }

    async fn wait_to_pending(
        &self,
        cell_id: CellId,
    ) -> Result<WaitToPendingOutcome, CodeModeError> {
        let was_allocated = || self.was_allocated(&cell_id);
        self.session.registry.wait_to_pending(cell_id.clone(), was_allocated).await
    }

    async fn park(&self, cell_id: CellId) -> Result<Parked, CodeModeError> {
        let was_allocated = || self.was_allocated(&cell_id);
        self.session.registry.park(cell_id.clone(), was_allocated).await
    }

    async fn wake(
        &self,
        cell_id: CellId,
        request: WakeRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        let answer = self.start_parked(cell_id.clone(), request, None, stored_values).await?;
        Ok(answer.into_response(cell_id))
    }

    async fn resume(
        &self,
        cell_id: CellId,
        request: ResumeRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        let ResumeRequest { name, received, yield_time_ms } = request;
        let store = self.session.store().ok_or(CodeModeError::Unsupported("kept cells"))?;
        let found = store.find(name).await.map_err(|error| CodeModeError::Host(error.to_string()));
        let (cell, elapsed) = found?.ok_or(ParkError::NotKept)?;
        let kept = Kept { store, name, received, goes_on: false };
        let request = WakeRequest { yield_time_ms, elapsed, ..WakeRequest::new(cell) };
        let answer = self.start_parked(cell_id.clone(), request, Some(kept), stored_values).await?;
        Ok(answer.into_response(cell_id))
    }

    fn cells(&self) -> Vec<CellInfo> {
        self.session.registry.list()
    }

    fn start_turn_worker(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.session.turns.start(host)
    }

    async fn shutdown(&self) {
        self.session.end();
        self.session.tasks.close();
        self.session.tasks.wait().await;
    }
}

/// Refuses a request that is over a limit.
fn check(request: &ExecuteRequest, limits: &CellLimits) -> Result<(), CodeModeError> {
    let invalid = |why| Err(CodeModeError::InvalidRequest(why));
    limits.check()?;
    let (size, limit) = (request.source.len(), limits.source_bytes);
    if size > limit {
        return invalid(format!("the source is {size} bytes long, and the limit is {limit}"));
    }
    let tools = request.enabled_tools.len();
    if tools > MAX_TOOLS {
        return invalid(format!("{tools} tools are enabled, and the limit is {MAX_TOOLS}"));
    }
    if request.tool_call_id.len() > MAX_NAME_BYTES {
        return invalid(format!("the tool_call_id is longer than {MAX_NAME_BYTES} bytes"));
    }
    let too_long = |tool: &&ToolDefinition| {
        let name = &tool.tool_name;
        let namespace = name.namespace.as_ref().map_or(0, String::len);
        tool.name.len().max(name.name.len()).max(namespace) > MAX_NAME_BYTES
    };
    if let Some(tool) = request.enabled_tools.iter().find(too_long) {
        let start: String = tool.name.chars().take(32).collect();
        return invalid(format!(
            "the name of the tool {start:?}... is longer than {MAX_NAME_BYTES} bytes"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cell_id_allocation_fails_before_wrapping`
    #[test]
    fn ids_run_out_instead_of_starting_again() {
        let backend = WasmBackend::new().unwrap();
        backend.last_id.store(u64::MAX - 1, Ordering::Relaxed);
        assert_eq!(backend.allocate_cell_id(), Ok(u64::MAX.to_string().as_str().into()));
        for _ in 0..2 {
            assert_eq!(backend.allocate_cell_id(), Err(CodeModeError::CellIdsExhausted));
        }
    }
}
