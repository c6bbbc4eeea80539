//! The backend whose cells run in another process, reached over a connection.
//!
//! [`HostProcess`] (`host`) knows how the host is reached, and keeps one connection to
//! it; [`ProcessBackend`] is a session there. `cells` is what the cells ask of this
//! side, `link` what is needed of a connection, `framed` and `grpc` the two kinds,
//! `child` a host that is started here.

mod cells;
mod child;
mod framed;
mod host;
mod link;

#[cfg(feature = "grpc")]
mod grpc;

pub use child::HostCommand;
pub use host::{HostAddress, HostProcess};

use crate::backend::{
    BoxFuture, CellId, CellInfo, CellReport, CodeModeBackend, CodeModeError, CodeModeTurnHost,
    CodeModeTurnWorker, ExecuteRequest, ExecuteToPendingOutcome, RuntimeResponse, WaitOutcome,
    WaitRequest, WaitToPendingOutcome,
};
use crate::limits::yield_timeout;
use crate::protocol::ExecutionLimits;
use crate::stored::StoredValues;
use crate::turns::Turns;
use cells::{Asked, Cell, Observed, Observer, Remote, lock};
use link::{CANCELLED, Failure, Link, WaitId};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long an answer may take to travel, beyond the time it was asked to take.
const TRANSPORT: Duration = Duration::from_mins(1);

/// Runs cells in a host process.
///
/// It is one session there. What cells store stays there too, and is lost with the
/// host: the [`StoredValues`] that [`execute`](CodeModeBackend::execute) is given must
/// be empty. Reports are empty, for the protocols carry none. Cells cannot be frozen.
///
/// It must be used within a tokio runtime with its timer and its input and output
/// enabled. Dropping it ends its cells without waiting for them.
///
/// ```no_run
/// use cellblock::*;
/// use std::sync::Arc;
///
/// # async fn example() -> Result<(), CodeModeError> {
/// let command = HostCommand::new("/usr/local/bin/cellblock").args(["host", "--listen", "stdio"]);
/// let host = HostProcess::new(HostAddress::Child(command));
/// let service = CodeModeService::new(Arc::new(ProcessBackend::new(&host)));
/// service.execute(ExecuteRequest::new("text('from another process')")).await?;
/// # Ok(())
/// # }
/// ```
pub struct ProcessBackend {
    host: HostProcess,
    limits: ExecutionLimits,
    turns: Arc<Turns>,
    cells: Mutex<Cells>,
    session: Mutex<Session>,
    closed: AtomicBool,
}

/// The session's cells, oldest first, and the last id of the newest generation.
#[derive(Default)]
struct Cells {
    live: HashMap<CellId, (u64, Place)>,
    admitted: u64,
    generation: u64,
    last_id: u64,
}

/// A cell, and the session that it runs in.
#[derive(Clone)]
struct Place {
    cell: Arc<Cell>,
    connected: Arc<OnceCell<Connected>>,
}

/// The session in the newest generation.
#[derive(Clone, Default)]
struct Session {
    generation: u64,
    connected: Arc<OnceCell<Connected>>,
}

/// A session that is open.
#[derive(Clone)]
struct Connected {
    link: Arc<dyn Link>,
    remote: Arc<Remote>,
}

impl ProcessBackend {
    /// A session on a host, with the host's limits.
    pub fn new(host: &HostProcess) -> Self {
        Self::with_limits(host, ExecutionLimits::default())
    }

    /// A session on a host, with limits of its own. A host that takes none refuses
    /// its programs.
    pub fn with_limits(host: &HostProcess, limits: ExecutionLimits) -> Self {
        Self {
            host: host.clone(),
            limits,
            turns: Arc::new(Turns::new()),
            cells: Mutex::default(),
            session: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// The session on the newest connection, opened when there is none.
    async fn connected(&self) -> Result<Arc<OnceCell<Connected>>, CodeModeError> {
        let (generation, link) = self.host.link().await?;
        let slot = {
            let mut session = lock(&self.session);
            if session.generation != generation {
                *session = Session { generation, connected: Arc::default() };
            }
            Arc::clone(&session.connected)
        };
        let open = || async {
            let remote = Arc::new(Remote::new(Arc::clone(&self.turns)));
            link.open(Arc::clone(&remote), self.limits).await.map_err(failed)?;
            Ok(Connected { link: Arc::clone(&link), remote })
        };
        slot.get_or_try_init(open).await?;
        Ok(slot)
    }

    fn find(&self, id: &CellId) -> Option<Place> {
        lock(&self.cells).live.get(id).map(|(_, place)| place.clone())
    }

    /// What is said of a cell that is not on the list.
    fn missing(&self, id: &CellId) -> Result<RuntimeResponse, CodeModeError> {
        let (generation, number) = parse(id);
        let newest = self.host.generation();
        if generation < newest && lock(&self.session).generation != 0 {
            return Err(CodeModeError::StaleGeneration(id.clone()));
        }
        let cells = lock(&self.cells);
        let was = generation == cells.generation
            && number.is_some_and(|number| (1..=cells.last_id).contains(&number));
        let why = if was { ": it already finished and its result was delivered" } else { "" };
        Ok(RuntimeResponse::missing(id.clone(), why))
    }

    /// Takes a cell off the list: it has ended, and its end is being delivered.
    fn forget(&self, id: &CellId) {
        lock(&self.cells).live.remove(id);
    }

    /// Hears what a cell answers, and sees to its end when that was the last.
    async fn heard(&self, place: &Place, observed: Observed) -> Result<WaitOutcome, CodeModeError> {
        let cell = &place.cell;
        match observed {
            Ok(mut response) => {
                if !matches!(response, RuntimeResponse::Yielded { .. }) {
                    ended(place).await;
                    self.forget(&cell.id);
                }
                rename(&mut response, &cell.id);
                Ok(WaitOutcome::LiveCell(response))
            }
            Err(Failure::Refused(text)) => Err(self.refused(cell, &text)),
            Err(Failure::Gone(reason)) => {
                ended(place).await;
                self.forget(&cell.id);
                Err(CodeModeError::Host(reason))
            }
        }
    }

    /// A refusal of the host's, in this side's words.
    fn refused(&self, cell: &Cell, text: &str) -> CodeModeError {
        let Some(host_id) = cell.host_id() else {
            self.forget(&cell.id);
            return error_of(text);
        };
        for error in [CodeModeError::AlreadyObserved, CodeModeError::AlreadyTerminating] {
            if error(host_id.clone()).to_string() == text {
                return error(cell.id.clone());
            }
        }
        error_of(text)
    }

    /// Observes a cell for as long as it takes; `None` when the wait was cancelled.
    async fn observe(
        &self,
        place: &Place,
        waiting: JoinHandle<Observed>,
        asked: Asked,
        wait: Option<WaitId>,
    ) -> Option<Observed> {
        let mut observation =
            Observation { place: place.clone(), waiting: Some(waiting), asked, wait };
        let observed = observation.receive().await;
        match observed {
            Err(Failure::Refused(text)) if text == CANCELLED => None,
            observed => Some(observed),
        }
    }
}

/// Returns when nothing of a cell runs on this side any more.
async fn ended(place: &Place) {
    if let Some(connected) = place.connected.get()
        && timeout(TRANSPORT, place.cell.closed.cancelled()).await.is_err()
    {
        connected.link.fail("code-mode host did not close a cell that has ended");
    }
}

/// A caller that looks at a cell. Dropped before it heard anything, it leaves what it
/// waited for with the cell, so that whoever asks next hears it.
struct Observation {
    place: Place,
    waiting: Option<JoinHandle<Observed>>,
    asked: Asked,
    wait: Option<WaitId>,
}

impl Observation {
    async fn receive(&mut self) -> Observed {
        let Some(waiting) = self.waiting.as_mut() else { return Err(lost()) };
        let observed = waiting.await.unwrap_or_else(|_| Err(lost()));
        self.waiting = None;
        observed
    }
}

fn lost() -> Failure {
    Failure::Gone(CodeModeError::EndedUnexpectedly.to_string())
}

impl Drop for Observation {
    fn drop(&mut self) {
        let mut observer = self.place.cell.observer();
        *observer = match self.waiting.take() {
            Some(waiting) => Observer::Left(waiting, self.asked),
            None => Observer::None,
        };
        drop(observer);
        if let (Some(wait), Some(connected)) = (self.wait.take(), self.place.connected.get())
            && matches!(*self.place.cell.observer(), Observer::Left(..))
        {
            connected.link.cancel_wait(&connected.remote, wait);
        }
    }
}

impl CodeModeBackend for ProcessBackend {
    fn availability(&self) -> Result<(), CodeModeError> {
        self.host.availability().map_err(CodeModeError::Unavailable)
    }

    fn allocate_cell_id(&self) -> Result<CellId, CodeModeError> {
        let generation = self.host.generation();
        let mut cells = lock(&self.cells);
        if cells.generation < generation {
            (cells.generation, cells.last_id) = (generation, 0);
        }
        cells.last_id = cells.last_id.checked_add(1).ok_or(CodeModeError::CellIdsExhausted)?;
        let (generation, id) = (cells.generation, cells.last_id);
        Ok(CellId::new(if generation == 1 { id.to_string() } else { format!("g{generation}:{id}") }))
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
            let connected = self.connected().await?;
            let Some(Connected { link, remote }) = connected.get() else {
                return Err(CodeModeError::EndedUnexpectedly);
            };
            let cell = Arc::new(Cell::new(cell_id.clone()));
            *cell.observer() = Observer::Watching;
            let place = Place { cell: Arc::clone(&cell), connected: Arc::clone(&connected) };
            {
                let mut cells = lock(&self.cells);
                if cells.live.contains_key(&cell_id) {
                    return Err(CodeModeError::CellExists(cell_id));
                }
                cells.admitted += 1;
                let number = cells.admitted;
                cells.live.insert(cell_id.clone(), (number, place.clone()));
            }
            let answer = link.execute(Arc::clone(remote), cell, request);
            let observed = self.observe(&place, tokio::spawn(answer), Asked::Execute, None).await;
            // An execute that was admitted is never cancelled.
            let observed = observed.unwrap_or_else(|| Err(Failure::Refused(CANCELLED.to_owned())));
            self.heard(&place, observed).await.map(Into::into)
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
                let own = yield_timeout(Some(yield_time_ms), self.limits.max_yield_time_ms);
                if let Observer::Left(waiting, asked) = left {
                    // What an earlier caller asked for comes first. Nobody can hurry it.
                    let observation = self.observe(&place, waiting, asked, None);
                    match timeout(own, observation).await {
                        Err(_) => return Ok(WaitOutcome::LiveCell(nothing_yet(&place.cell))),
                        Ok(Some(observed)) => return self.heard(&place, observed).await,
                        Ok(None) => continue,
                    }
                }
                return self.wait_anew(&place, yield_time_ms, own).await;
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
        let cells = lock(&self.cells);
        let mut list: Vec<_> = cells.live.values().collect();
        list.sort_by_key(|(number, _)| *number);
        list.into_iter().map(|(_, place)| place.cell.info()).collect()
    }

    fn start_turn_worker(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.turns.start(host)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closed.store(true, Ordering::Relaxed);
            let connected = lock(&self.session).connected.get().cloned();
            if let Some(Connected { link, remote }) = connected {
                if timeout(TRANSPORT, link.close(&remote)).await.is_err() {
                    link.fail("code-mode host timed out waiting for shutdown response");
                }
                remote.lost();
            }
            let places: Vec<_> =
                lock(&self.cells).live.values().map(|(_, place)| place.clone()).collect();
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
        place: &Place,
        yield_time_ms: u64,
        own: Duration,
    ) -> Result<WaitOutcome, CodeModeError> {
        let cell = &place.cell;
        let (Some(connected), Some(host_id)) = (place.connected.get(), cell.host_id()) else {
            *cell.observer() = Observer::None;
            return Ok(WaitOutcome::LiveCell(nothing_yet(cell)));
        };
        let waiting = connected.link.wait(&connected.remote, host_id.clone(), yield_time_ms);
        let answer = async move {
            match waiting.answer.await? {
                WaitOutcome::LiveCell(response) => Ok(response),
                WaitOutcome::MissingCell(_) => Err(Failure::Refused(MISSING.to_owned())),
            }
        };
        let observation =
            self.observe(place, tokio::spawn(answer), Asked::Wait, Some(waiting.id));
        match timeout(own.saturating_add(TRANSPORT), observation).await {
            Err(_) => {
                let error = CodeModeError::TimedOut("wait");
                connected.link.fail(&error.to_string());
                ended(place).await;
                self.forget(&cell.id);
                Err(error)
            }
            Ok(Some(Err(Failure::Refused(text)))) if text == MISSING => {
                connected.remote.close(host_id.as_ref());
                self.forget(&cell.id);
                self.missing(&cell.id).map(WaitOutcome::MissingCell)
            }
            Ok(Some(observed)) => self.heard(place, observed).await,
            Ok(None) => Err(CodeModeError::Host(CANCELLED.to_owned())),
        }
    }

    /// Ends a cell. What was on its way to a caller that has gone is part of the answer.
    async fn end(&self, place: &Place) -> Result<WaitOutcome, CodeModeError> {
        let cell = &place.cell;
        let (Some(connected), Some(host_id)) = (place.connected.get(), cell.host_id()) else {
            return Err(CodeModeError::Unsupported("termination of a cell that is not yet admitted"));
        };
        let mut earlier = Vec::new();
        let come = {
            let mut observer = cell.observer();
            match &*observer {
                Observer::Left(waiting, _) if waiting.is_finished() => {
                    Some(std::mem::take(&mut *observer))
                }
                _ => None,
            }
        };
        if let Some(Observer::Left(waiting, _)) = come {
            match waiting.await.unwrap_or_else(|_| Err(lost())) {
                Ok(RuntimeResponse::Yielded { content_items, .. }) => earlier = content_items,
                Err(Failure::Refused(text)) if text == CANCELLED => {}
                end => return self.heard(place, end).await,
            }
        }
        let answer = connected.link.terminate(&connected.remote, host_id.clone());
        let Ok(answer) = timeout(TRANSPORT, answer).await else {
            let error = CodeModeError::TimedOut("terminate");
            connected.link.fail(&error.to_string());
            return Err(error);
        };
        let observed = match answer {
            Ok(WaitOutcome::MissingCell(_)) => {
                // It ended meanwhile: whoever looked at it has, or will have, its result.
                let left = std::mem::take(&mut *cell.observer());
                match left {
                    Observer::Left(waiting, _) => waiting.await.unwrap_or_else(|_| Err(lost())),
                    watching => {
                        *cell.observer() = watching;
                        return self.missing(&cell.id).map(WaitOutcome::MissingCell);
                    }
                }
            }
            Ok(WaitOutcome::LiveCell(response)) => Ok(response),
            Err(failure) => Err(failure),
        };
        let mut heard = self.heard(place, observed).await?;
        if let WaitOutcome::LiveCell(response) = &mut heard {
            response.prepend(earlier);
        }
        Ok(heard)
    }
}

impl Drop for ProcessBackend {
    fn drop(&mut self) {
        let connected = lock(&self.session).connected.get().cloned();
        if let (Some(Connected { link, remote }), Ok(runtime)) =
            (connected, tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                // A host that does not answer keeps the cells, and the connection's end ends them.
                let _ = timeout(TRANSPORT, link.close(&remote)).await;
                remote.lost();
            });
        }
    }
}

impl fmt::Debug for ProcessBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBackend")
            .field("host", &self.host)
            .field("cells", &self.cells())
            .finish_non_exhaustive()
    }
}

/// Stands for the host's word that a cell is missing, which is told in this side's.
const MISSING: &str = "exec cell not found";

/// A yield without output: the cell has not said anything since.
fn nothing_yet(cell: &Cell) -> RuntimeResponse {
    RuntimeResponse::Yielded {
        cell_id: cell.id.clone(),
        content_items: Vec::new(),
        report: CellReport::default(),
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

/// What went wrong before there was a cell.
fn failed(failure: Failure) -> CodeModeError {
    match failure {
        Failure::Refused(text) => error_of(&text),
        Failure::Gone(reason) => CodeModeError::Host(reason),
    }
}

/// A refusal as the error it was on the host.
fn error_of(text: &str) -> CodeModeError {
    if text == CodeModeError::ShuttingDown.to_string() {
        return CodeModeError::ShuttingDown;
    }
    match text.strip_prefix("invalid code-mode execute request: ") {
        Some(why) => CodeModeError::InvalidRequest(why.to_owned()),
        None => CodeModeError::Host(text.to_owned()),
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
