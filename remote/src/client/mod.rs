//! The backend whose cells run in another process, reached over a connection.
//!
//! [`HostProcess`] (`address`) is where the host is, and keeps one connection to it;
//! [`ProcessBackend`] is a session there (`session`). `cell` is what the cells ask of this
//! side, `observation` what their callers wait for, `connection` what is needed of a
//! connection, `framed` and `grpc` the two kinds, `child` a host that is started here.

mod address;
mod cell;
mod child;
mod connection;
mod framed;
mod grpc;
mod observation;
mod session;

pub use address::{HostAddress, HostProcess};
pub use child::HostCommand;

use crate::protocol::Refusal;
use cell::{Asked, Observed, Observer, RemoteCell};
use cellblock::support::{TurnWorkers, lock, yield_timeout};
use cellblock::{
    BoxFuture, CellId, CellInfo, CellLimits, CodeModeBackend, CodeModeError, CodeModeTurnHost,
    CodeModeTurnWorker, ExecuteRequest, ExecuteToPendingOutcome, RuntimeResponse, StoredValues,
    WaitOutcome, WaitRequest, WaitToPendingOutcome,
};
use connection::{ConnectError, ConnectionError, Failure};
use observation::{Observation, ended, live, nothing_yet, observe, sent_first, terminated};
use session::{Connected, PlacedCell, Session};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long an answer may take to travel, beyond the time it was asked to take.
const TRANSPORT: Duration = Duration::from_mins(1);

/// Limits of a session on a host process. All others are the host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessLimits {
    /// As [`SessionLimits::max_yield_time_ms`](cellblock::SessionLimits::max_yield_time_ms).
    pub max_yield_time_ms: Option<u64>,
    /// Bytes of memory for JavaScript; `None` for what the host allows. Hosts other
    /// than this project's may take it and not keep it.
    pub max_heap_size_bytes: Option<u64>,
    /// As [`CellLimits::cancel_grace`](cellblock::CellLimits::cancel_grace): kept on this side.
    pub cancel_grace: Duration,
}

impl Default for ProcessLimits {
    fn default() -> Self {
        let cancel_grace = CellLimits::default().cancel_grace;
        Self { max_yield_time_ms: None, max_heap_size_bytes: None, cancel_grace }
    }
}

/// Runs cells in a host process: one session there.
///
/// What cells store stays there too, and is lost with the
/// host: the [`StoredValues`] that [`execute`](CodeModeBackend::execute) is given must
/// be empty. Reports are empty, for the protocols carry none. Cells cannot be frozen.
///
/// It must be used within a tokio runtime with its timer and its input and output
/// enabled. Dropping it ends its cells without waiting for them.
///
/// ```no_run
/// use cellblock::*;
/// use cellblock_remote::protocol::Protocol;
/// use cellblock_remote::*;
/// use std::sync::Arc;
///
/// # async fn example() -> Result<(), CodeModeError> {
/// let command = HostCommand::new("/usr/local/bin/cellblock").args(["host", "--listen", "stdio"]);
/// let host = HostProcess::new(HostAddress::child(Protocol::Framed, command));
/// let service = CodeModeService::new(Arc::new(ProcessBackend::new(&host)));
/// service.execute(ExecuteRequest::new("text('from another process')")).await?;
/// # Ok(())
/// # }
/// ```
pub struct ProcessBackend {
    session: Arc<Session>,
    cells: Mutex<Cells>,
    closed: AtomicBool,
}

/// The session's cells, oldest first, and the last id of the newest generation.
#[derive(Default)]
struct Cells {
    live: HashMap<CellId, (u64, PlacedCell)>,
    admitted: u64,
    generation: u64,
    last_id: u64,
    /// The newest generation that cells of lost ones were looked for in.
    swept: u64,
}

impl ProcessBackend {
    /// A session on a host, with the host's limits.
    pub fn new(host: &HostProcess) -> Self {
        Self::with_limits(host, ProcessLimits::default())
    }

    /// A session on a host, with limits of its own. A host that takes none refuses
    /// its programs.
    pub fn with_limits(host: &HostProcess, limits: ProcessLimits) -> Self {
        let (host, turns) = (host.clone(), Arc::new(TurnWorkers::new()));
        let session = Arc::new(Session::new(host, limits, turns));
        Self { session, cells: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// When a cell that is asked answers at the latest. A century is as good as never.
    fn yield_time(&self, asked_ms: Option<u64>) -> Duration {
        let max = self.session.limits.max_yield_time_ms;
        yield_timeout(asked_ms, max).min(Duration::from_hours(100 * 365 * 24))
    }

    fn find(&self, id: &CellId) -> Option<PlacedCell> {
        self.sweep();
        lock(&self.cells).live.get(id).map(|(_, place)| place.clone())
    }

    /// Takes cells of lost generations off the list, unless something of them was not
    /// fetched yet.
    fn sweep(&self) {
        let generation = self.session.host.generation();
        let mut cells = lock(&self.cells);
        if cells.swept < generation {
            cells.swept = generation;
            cells.live.retain(|_, (_, place)| {
                let lost = place.connected.get().is_some_and(|connected| {
                    connected.connection.lifeline().closed().is_cancelled()
                });
                !lost || !matches!(*place.cell.observer(), Observer::None)
            });
        }
    }

    /// What is said of a cell that is not on the list.
    fn missing(&self, id: &CellId) -> Result<RuntimeResponse, CodeModeError> {
        let (generation, number) = parse(id);
        if generation < self.session.host.generation() {
            return Err(CodeModeError::StaleGeneration(id.clone()));
        }
        let cells = lock(&self.cells);
        let was_allocated = generation == cells.generation
            && number.is_some_and(|number| (1..=cells.last_id).contains(&number));
        let why =
            if was_allocated { ": it already finished and its result was delivered" } else { "" };
        Ok(RuntimeResponse::missing(id.clone(), why))
    }

    /// Takes a cell off the list: it has ended, and its end is being delivered.
    fn forget(&self, id: &CellId) {
        lock(&self.cells).live.remove(id);
    }

    /// Hears what a cell answers. With its last answer it leaves the list.
    async fn on_response(
        &self,
        place: &PlacedCell,
        observed: Observed,
    ) -> Result<WaitOutcome, CodeModeError> {
        let cell = &place.cell;
        match observed {
            Ok(mut response) => {
                if observation::is_last(&response) {
                    self.forget(&cell.id);
                }
                rename(&mut response, &cell.id);
                Ok(WaitOutcome::LiveCell(response))
            }
            Err(Failure::Missing) => {
                if let Some(connected) = place.connected.get() {
                    connected.remote.forgotten(cell);
                }
                self.forget(&cell.id);
                self.missing(&cell.id).map(WaitOutcome::MissingCell)
            }
            Err(Failure::Cancelled) => Err(CodeModeError::Host(Refusal::Cancelled.to_string())),
            Err(Failure::Refused(error)) => Err(cell.named_here(error)),
            Err(Failure::Lost(reason)) => {
                ended(place).await;
                self.forget(&cell.id);
                Err(CodeModeError::Host(reason.to_string()))
            }
            Err(Failure::Unavailable(reason)) => {
                self.forget(&cell.id);
                Err(CodeModeError::Unavailable(reason.to_string()))
            }
        }
    }

    /// Hears what an execution comes to: refused, it has no cell.
    async fn on_first_response(
        &self,
        place: &PlacedCell,
        observed: Observed,
    ) -> Result<WaitOutcome, CodeModeError> {
        let outcome = self.on_response(place, observed).await;
        if outcome.is_err() {
            self.forget(&place.cell.id);
        }
        outcome
    }
}

impl CodeModeBackend for ProcessBackend {
    fn availability(&self) -> Result<(), CodeModeError> {
        let unavailable = |reason: ConnectError| CodeModeError::Unavailable(reason.to_string());
        self.session.host.availability().map_err(unavailable)
    }

    fn allocate_cell_id(&self) -> Result<CellId, CodeModeError> {
        let generation = self.session.host.generation();
        let mut cells = lock(&self.cells);
        if cells.generation < generation {
            (cells.generation, cells.last_id) = (generation, 0);
        }
        cells.last_id = cells.last_id.checked_add(1).ok_or(CodeModeError::CellIdsExhausted)?;
        let (generation, id) = (cells.generation, cells.last_id);
        Ok(CellId::new(if generation == 1 {
            id.to_string()
        } else {
            format!("g{generation}:{id}")
        }))
    }

    fn execute(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> BoxFuture<'_, Result<RuntimeResponse, CodeModeError>> {
        Box::pin(async move {
            if self.closed.load(Ordering::Relaxed) {
                return Err(CodeModeError::ShuttingDown);
            }
            if !stored_values.is_empty() {
                return Err(CodeModeError::Unsupported("stored values from outside its session"));
            }
            self.sweep();
            let deadline = Instant::now() + self.yield_time(request.yield_time_ms);
            let cell = Arc::new(RemoteCell::new(cell_id.clone()));
            *cell.observer() = Observer::Watching;
            let place = PlacedCell { cell: Arc::clone(&cell), connected: Arc::default() };
            {
                let mut cells = lock(&self.cells);
                if cells.live.contains_key(&cell_id) {
                    return Err(CodeModeError::CellExists(cell_id));
                }
                cells.admitted += 1;
                let number = cells.admitted;
                cells.live.insert(cell_id, (number, place.clone()));
            }
            let (session, slot) = (Arc::clone(&self.session), Arc::clone(&place.connected));
            // A task of its own: a caller that goes away does not take the cell along.
            let answer = async move {
                let connected = session.connected().await?;
                let Connected { connection, remote } = slot.get_or_init(|| connected);
                connection.execute(Arc::clone(remote), cell, request).await
            };
            let answer = tokio::spawn(answer);
            let observed = observe(&place, answer, Asked::Execute, None, deadline).await;
            // An execute that was admitted is never cancelled.
            let observed = observed.unwrap_or(Err(Failure::Cancelled));
            self.on_first_response(&place, observed).await.map(Into::into)
        })
    }

    fn wait(&self, request: WaitRequest) -> BoxFuture<'_, Result<WaitOutcome, CodeModeError>> {
        Box::pin(async move {
            let WaitRequest { cell_id, yield_time_ms } = request;
            loop {
                let Some(place) = self.find(&cell_id) else {
                    return self.missing(&cell_id).map(WaitOutcome::MissingCell);
                };
                let left = {
                    let mut observer = place.cell.observer();
                    if matches!(*observer, Observer::Watching) {
                        return Err(CodeModeError::AlreadyObserved(cell_id));
                    }
                    std::mem::replace(&mut *observer, Observer::Watching)
                };
                let own = self.yield_time(Some(yield_time_ms));
                let deadline = Instant::now() + own;
                if let Observer::Left(waiting, asked) = left {
                    // What an earlier caller asked for comes first. Nobody can hurry it.
                    let observation = observe(&place, waiting, asked, None, deadline);
                    match timeout_at(deadline, observation).await {
                        Err(_) => return Ok(WaitOutcome::LiveCell(nothing_yet(&place.cell))),
                        Ok(Some(observed)) if asked == Asked::Execute => {
                            return self.on_first_response(&place, observed).await;
                        }
                        Ok(Some(observed)) => return self.on_response(&place, observed).await,
                        Ok(None) => continue,
                    }
                }
                return self.wait_anew(&place, yield_time_ms, deadline).await;
            }
        })
    }

    fn terminate(&self, cell_id: CellId) -> BoxFuture<'_, Result<WaitOutcome, CodeModeError>> {
        Box::pin(async move {
            let Some(place) = self.find(&cell_id) else {
                return self.missing(&cell_id).map(WaitOutcome::MissingCell);
            };
            if !place.cell.claim_termination() {
                return Err(CodeModeError::AlreadyTerminating(cell_id));
            }
            let terminated = self.end(&place).await;
            if !matches!(terminated, Ok(WaitOutcome::LiveCell(_))) {
                place.cell.unclaim_termination();
            }
            terminated
        })
    }

    fn execute_to_pending(
        &self,
        _cell_id: CellId,
        _request: ExecuteRequest,
        _stored_values: StoredValues,
    ) -> BoxFuture<'_, Result<ExecuteToPendingOutcome, CodeModeError>> {
        Box::pin(std::future::ready(Err(CodeModeError::Unsupported("frozen cells"))))
    }

    fn wait_to_pending(
        &self,
        _cell_id: CellId,
    ) -> BoxFuture<'_, Result<WaitToPendingOutcome, CodeModeError>> {
        Box::pin(std::future::ready(Err(CodeModeError::Unsupported("frozen cells"))))
    }

    fn cells(&self) -> Vec<CellInfo> {
        self.sweep();
        let cells = lock(&self.cells);
        let mut list: Vec<_> = cells.live.values().collect();
        list.sort_by_key(|(number, _)| *number);
        list.into_iter().map(|(_, place)| place.cell.info()).collect()
    }

    fn start_turn_worker(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.session.turns.start(host)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closed.store(true, Ordering::Relaxed);
            let places: Vec<_> =
                lock(&self.cells).live.values().map(|(_, place)| place.clone()).collect();
            // Each cell is terminated, so that what it had to say can still be fetched.
            let terminated = places.iter().filter(|place| Self::terminate_unobserved(place));
            for place in terminated.collect::<Vec<_>>() {
                ended(place).await;
            }
            if let Some(Connected { connection, remote }) = self.session.open() {
                let closed = sent_first(connection.close(&remote), || {
                    for place in &places {
                        place.cell.abandon();
                    }
                });
                if timeout(TRANSPORT, closed).await.is_err() {
                    connection.fail(ConnectionError::TimedOut("shutdown"));
                }
                remote.lost();
            }
            for place in places {
                ended(&place).await;
            }
        })
    }
}

impl ProcessBackend {
    /// A new wait, now that nothing of an earlier one is left.
    async fn wait_anew(
        &self,
        place: &PlacedCell,
        yield_time_ms: u64,
        deadline: Instant,
    ) -> Result<WaitOutcome, CodeModeError> {
        let cell = &place.cell;
        let (Some(connected), Some(host_id)) = (place.connected.get(), cell.host_id()) else {
            *cell.observer() = Observer::None;
            return Ok(WaitOutcome::LiveCell(nothing_yet(cell)));
        };
        let waiting = connected.connection.wait(&connected.remote, host_id.clone(), yield_time_ms);
        let answer = tokio::spawn(async move { live(waiting.answer.await?) });
        let observation = observe(place, answer, Asked::Wait, Some(waiting.id), deadline);
        match timeout_at(deadline + TRANSPORT, observation).await {
            Err(_) => {
                let error = CodeModeError::TimedOut("wait");
                connected.connection.fail(ConnectionError::TimedOut("wait"));
                ended(place).await;
                self.forget(&cell.id);
                Err(error)
            }
            Ok(Some(observed)) => self.on_response(place, observed).await,
            Ok(None) => Err(CodeModeError::Host(Refusal::Cancelled.to_string())),
        }
    }

    /// Terminates a cell for the next observer. False if it is already being terminated.
    fn terminate_unobserved(place: &PlacedCell) -> bool {
        let cell = &place.cell;
        let (Some(connected), Some(host_id)) = (place.connected.get(), cell.host_id()) else {
            return false;
        };
        let mut observer = cell.observer();
        if !matches!(*observer, Observer::None) || !cell.claim_termination() {
            return false;
        }
        let answer = connected.connection.terminate(&connected.remote, host_id.clone());
        let ended = Arc::clone(cell);
        let answer = async move { live(sent_first(answer, || ended.abandon()).await?) };
        *observer = Observer::Left(tokio::spawn(answer), Asked::Wait);
        true
    }

    /// Ends a cell, in a task of its own: a caller that goes away leaves the answer.
    async fn end(&self, place: &PlacedCell) -> Result<WaitOutcome, CodeModeError> {
        let cell = &place.cell;
        let (Some(connected), Some(host_id)) = (place.connected.get(), cell.host_id()) else {
            return Err(CodeModeError::Unsupported(
                "termination of a cell that is not yet admitted",
            ));
        };
        let answer = connected.connection.terminate(&connected.remote, host_id.clone());
        let ending = terminated(place.clone(), connected.clone(), answer);
        let mut observation = Observation::terminating(place, tokio::spawn(ending));
        let observed = observation.receive().await;
        drop(observation);
        self.on_response(place, observed).await
    }
}

impl Drop for ProcessBackend {
    fn drop(&mut self) {
        let connected = self.session.open();
        if let (Some(Connected { connection, remote }), Ok(runtime)) =
            (connected, tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                // A host that does not answer keeps the cells, and the connection's end ends them.
                let _ = timeout(TRANSPORT, connection.close(&remote)).await;
                remote.lost();
            });
        }
    }
}

impl fmt::Debug for ProcessBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBackend")
            .field("host", &self.session.host)
            .field("cells", &self.cells())
            .finish_non_exhaustive()
    }
}

/// Gives a response this side's name of its cell.
fn rename(response: &mut RuntimeResponse, id: &CellId) {
    match response {
        RuntimeResponse::Yielded { cell_id, .. }
        | RuntimeResponse::Terminated { cell_id, .. }
        | RuntimeResponse::Result { cell_id, .. } => *cell_id = id.clone(),
    }
}

/// The generation in which an id was handed out, and its number there.
fn parse(id: &CellId) -> (u64, Option<u64>) {
    let id = id.as_ref();
    let of_generation = id.strip_prefix('g').and_then(|rest| rest.split_once(':'));
    match of_generation.and_then(|(generation, id)| Some((generation.parse().ok()?, id))) {
        Some((generation, id)) => (generation, id.parse().ok()),
        None => (1, id.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_generation() {
        for (id, expected) in [
            ("1", (1, Some(1))),
            ("g2:7", (2, Some(7))),
            ("g2:x", (2, None)),
            ("gx:1", (1, None)),
            ("g1", (1, None)),
        ] {
            assert_eq!(parse(&id.into()), expected, "{id}");
        }
    }
}
