//! The backend whose cells run in another process, reached over a connection.
//!
//! [`HostProcess`] (`host`) knows how the host is reached, and keeps one connection to
//! it; [`ProcessBackend`] is a session there. `cells` is what the cells ask of this
//! side, `link` what is needed of a connection, `framed` and `grpc` the two kinds,
//! `child` a host that is started here.

mod address;
mod cell;
mod child;
mod connection;
mod framed;

mod grpc;

pub use address::{HostAddress, HostProcess};
pub use child::HostCommand;

use crate::protocol::ExecutionLimits;
use cell::{Asked, Cell, Observed, Observer, Remote, lock};
use cellblock::CellLimits;
use cellblock::StoredValues;
use cellblock::support::TurnWorkers;
use cellblock::support::yield_timeout;
use cellblock::{
    BoxFuture, CellId, CellInfo, CellReport, CodeModeBackend, CodeModeError, CodeModeTurnHost,
    CodeModeTurnWorker, ExecuteRequest, ExecuteToPendingOutcome, RuntimeResponse, WaitOutcome,
    WaitRequest, WaitToPendingOutcome,
};
use connection::{Answer, CANCELLED, Failure, Link, WaitId};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
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
    session: Arc<Session>,
    cells: Mutex<Cells>,
    closed: AtomicBool,
}

/// What the session is, wherever it runs.
struct Session {
    host: HostProcess,
    limits: ProcessLimits,
    turns: Arc<TurnWorkers>,
    newest: Mutex<Newest>,
}

/// The session's cells, oldest first, and the last id of the newest generation.
#[derive(Default)]
struct Cells {
    live: HashMap<CellId, (u64, Place)>,
    admitted: u64,
    generation: u64,
    last_id: u64,
    /// The newest generation that cells of lost ones were looked for in.
    swept: u64,
}

/// A cell, and where it runs, once that is known.
#[derive(Clone)]
struct Place {
    cell: Arc<Cell>,
    connected: Arc<OnceLock<Connected>>,
}

/// The session in the newest generation.
#[derive(Clone, Default)]
struct Newest {
    generation: u64,
    connected: Arc<OnceCell<Connected>>,
}

/// A session that is open.
#[derive(Clone)]
struct Connected {
    link: Arc<dyn Link>,
    remote: Arc<Remote>,
}

impl Session {
    /// The session on the newest connection, opened when there is none.
    async fn connected(&self) -> Result<Connected, Failure> {
        let (generation, link) = self.host.link().await?;
        let slot = {
            let mut newest = lock(&self.newest);
            if newest.generation != generation {
                *newest = Newest { generation, connected: Arc::default() };
            }
            Arc::clone(&newest.connected)
        };
        let open = || async {
            let ProcessLimits { max_yield_time_ms, max_heap_size_bytes, cancel_grace } =
                self.limits;
            let remote = Arc::new(Remote::new(Arc::clone(&self.turns), cancel_grace));
            let limits = ExecutionLimits { max_yield_time_ms, max_heap_size_bytes };
            link.open(Arc::clone(&remote), limits).await?;
            Ok(Connected { link: Arc::clone(&link), remote })
        };
        slot.get_or_try_init(open).await.cloned()
    }

    /// The session that is open, if one is.
    fn open(&self) -> Option<Connected> {
        lock(&self.newest).connected.get().cloned()
    }
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
        let session = Arc::new(Session { host, limits, turns, newest: Mutex::default() });
        Self { session, cells: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// When a cell that is asked answers at the latest. A century is as good as never.
    fn yield_time(&self, asked_ms: Option<u64>) -> Duration {
        let max = self.session.limits.max_yield_time_ms;
        yield_timeout(asked_ms, max).min(Duration::from_hours(100 * 365 * 24))
    }

    fn find(&self, id: &CellId) -> Option<Place> {
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
                let lost = place
                    .connected
                    .get()
                    .is_some_and(|connected| connected.link.gone().is_cancelled());
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
        let was = generation == cells.generation
            && number.is_some_and(|number| (1..=cells.last_id).contains(&number));
        let why = if was { ": it already finished and its result was delivered" } else { "" };
        Ok(RuntimeResponse::missing(id.clone(), why))
    }

    /// Takes a cell off the list: it has ended, and its end is being delivered.
    fn forget(&self, id: &CellId) {
        lock(&self.cells).live.remove(id);
    }

    /// Hears what a cell answers. With its last answer it leaves the list.
    async fn heard(&self, place: &Place, observed: Observed) -> Result<WaitOutcome, CodeModeError> {
        let cell = &place.cell;
        match observed {
            Ok(mut response) => {
                if is_last(&response) {
                    self.forget(&cell.id);
                }
                rename(&mut response, &cell.id);
                Ok(WaitOutcome::LiveCell(response))
            }
            Err(Failure::Refused(text)) if text == MISSING => {
                if let Some(connected) = place.connected.get() {
                    connected.remote.forgotten(cell);
                }
                self.forget(&cell.id);
                self.missing(&cell.id).map(WaitOutcome::MissingCell)
            }
            Err(Failure::Refused(text)) => Err(Self::refused(cell, &text)),
            Err(Failure::Gone(reason)) => {
                ended(place).await;
                self.forget(&cell.id);
                Err(CodeModeError::Host(reason))
            }
            Err(Failure::Unavailable(reason)) => {
                self.forget(&cell.id);
                Err(CodeModeError::Unavailable(reason))
            }
        }
    }

    /// Hears what an execution comes to: refused, it has no cell.
    async fn heard_first(
        &self,
        place: &Place,
        observed: Observed,
    ) -> Result<WaitOutcome, CodeModeError> {
        let heard = self.heard(place, observed).await;
        if heard.is_err() {
            self.forget(&place.cell.id);
        }
        heard
    }

    /// A refusal of the host's, in this side's words.
    fn refused(cell: &Cell, text: &str) -> CodeModeError {
        let Some(host_id) = cell.host_id() else { return error_of(text) };
        for error in [CodeModeError::AlreadyObserved, CodeModeError::AlreadyTerminating] {
            if error(host_id.clone()).to_string() == text {
                return error(cell.id.clone());
            }
        }
        error_of(text)
    }

    /// Observes a cell for as long as it takes; `None` when the wait was cancelled. What
    /// still runs on this side of a cell that has ended may take until `deadline`; then
    /// the cell yields once more, and its end is left with it.
    async fn observe(
        place: &Place,
        waiting: JoinHandle<Observed>,
        asked: Asked,
        wait: Option<WaitId>,
        deadline: Instant,
    ) -> Option<Observed> {
        let mut observation = Observation::new(place, waiting, asked, wait);
        match observation.receive().await {
            Err(Failure::Refused(text)) if text == CANCELLED => None,
            Ok(response) if is_last(&response) => {
                let busy = place.cell.is_busy();
                observation.hold(close(place.clone(), response));
                if !busy {
                    return Some(observation.receive().await);
                }
                let closed = timeout_at(deadline, observation.receive()).await;
                Some(closed.unwrap_or_else(|_| Ok(nothing_yet(&place.cell))))
            }
            observed => Some(observed),
        }
    }
}

/// Returns when nothing of a cell runs on this side any more. One that was never
/// admitted never did.
async fn ended(place: &Place) {
    if let (Some(connected), Some(_)) = (place.connected.get(), place.cell.host_id())
        && timeout(TRANSPORT, place.cell.closed.cancelled()).await.is_err()
    {
        connected.link.fail("code-mode host did not close a cell that has ended");
    }
}

/// Whether a cell has ended with this response.
fn is_last(response: &RuntimeResponse) -> bool {
    !matches!(response, RuntimeResponse::Yielded { .. })
}

/// A cell's last response, once nothing of it runs on this side any more.
async fn close(place: Place, response: RuntimeResponse) -> Observed {
    ended(&place).await;
    Ok(response)
}

/// A caller that looks at a cell. Dropped before it heard anything, it leaves what it
/// waited for with the cell, so that whoever asks next hears it.
struct Observation {
    place: Place,
    waiting: Option<JoinHandle<Observed>>,
    asked: Asked,
    wait: Option<WaitId>,
    /// Whether the caller is the cell's observer; a terminator is beside it.
    observes: bool,
}

impl Observation {
    fn new(
        place: &Place,
        waiting: JoinHandle<Observed>,
        asked: Asked,
        wait: Option<WaitId>,
    ) -> Self {
        Self { place: place.clone(), waiting: Some(waiting), asked, wait, observes: true }
    }

    /// A termination, which any observer hears of, too.
    fn terminating(place: &Place, waiting: JoinHandle<Observed>) -> Self {
        let observes = false;
        Self {
            place: place.clone(),
            waiting: Some(waiting),
            asked: Asked::Wait,
            wait: None,
            observes,
        }
    }

    /// Goes on with something else to wait for.
    fn hold(&mut self, next: impl Future<Output = Observed> + Send + 'static) {
        self.waiting = Some(tokio::spawn(next));
        (self.asked, self.wait) = (Asked::Wait, None);
    }

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
        if self.observes || matches!(*observer, Observer::None) {
            *observer = match self.waiting.take() {
                Some(waiting) => Observer::Left(waiting, self.asked),
                None => Observer::None,
            };
        }
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
        self.session.host.availability().map_err(CodeModeError::Unavailable)
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
            let cell = Arc::new(Cell::new(cell_id.clone()));
            *cell.observer() = Observer::Watching;
            let place = Place { cell: Arc::clone(&cell), connected: Arc::default() };
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
                let Connected { link, remote } = slot.get_or_init(|| connected);
                link.execute(Arc::clone(remote), cell, request).await
            };
            let answer = tokio::spawn(answer);
            let observed = Self::observe(&place, answer, Asked::Execute, None, deadline).await;
            // An execute that was admitted is never cancelled.
            let observed = observed.unwrap_or_else(|| Err(Failure::Refused(CANCELLED.to_owned())));
            self.heard_first(&place, observed).await.map(Into::into)
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
                    let observation = Self::observe(&place, waiting, asked, None, deadline);
                    match timeout_at(deadline, observation).await {
                        Err(_) => return Ok(WaitOutcome::LiveCell(nothing_yet(&place.cell))),
                        Ok(Some(observed)) if asked == Asked::Execute => {
                            return self.heard_first(&place, observed).await;
                        }
                        Ok(Some(observed)) => return self.heard(&place, observed).await,
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
            let terminated = places.iter().filter(|place| Self::terminate_unheard(place));
            for place in terminated.collect::<Vec<_>>() {
                ended(place).await;
            }
            if let Some(Connected { link, remote }) = self.session.open() {
                let closed = sent_first(link.close(&remote), || {
                    for place in &places {
                        place.cell.abandon();
                    }
                });
                if timeout(TRANSPORT, closed).await.is_err() {
                    link.fail("code-mode host timed out waiting for shutdown response");
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
        place: &Place,
        yield_time_ms: u64,
        deadline: Instant,
    ) -> Result<WaitOutcome, CodeModeError> {
        let cell = &place.cell;
        let (Some(connected), Some(host_id)) = (place.connected.get(), cell.host_id()) else {
            *cell.observer() = Observer::None;
            return Ok(WaitOutcome::LiveCell(nothing_yet(cell)));
        };
        let waiting = connected.link.wait(&connected.remote, host_id.clone(), yield_time_ms);
        let answer = tokio::spawn(async move { live(waiting.answer.await?) });
        let observation = Self::observe(place, answer, Asked::Wait, Some(waiting.id), deadline);
        match timeout_at(deadline + TRANSPORT, observation).await {
            Err(_) => {
                let error = CodeModeError::TimedOut("wait");
                connected.link.fail(&error.to_string());
                ended(place).await;
                self.forget(&cell.id);
                Err(error)
            }
            Ok(Some(observed)) => self.heard(place, observed).await,
            Ok(None) => Err(CodeModeError::Host(CANCELLED.to_owned())),
        }
    }

    /// Ends a cell for nobody in particular: whoever asks next hears it. False when
    /// somebody else sees to its end.
    fn terminate_unheard(place: &Place) -> bool {
        let cell = &place.cell;
        let (Some(connected), Some(host_id)) = (place.connected.get(), cell.host_id()) else {
            return false;
        };
        let mut observer = cell.observer();
        if !matches!(*observer, Observer::None) || !cell.claim_termination() {
            return false;
        }
        let answer = connected.link.terminate(&connected.remote, host_id.clone());
        let ended = Arc::clone(cell);
        let answer = async move { live(sent_first(answer, || ended.abandon()).await?) };
        *observer = Observer::Left(tokio::spawn(answer), Asked::Wait);
        true
    }

    /// Ends a cell, in a task of its own: a caller that goes away leaves the answer.
    async fn end(&self, place: &Place) -> Result<WaitOutcome, CodeModeError> {
        let cell = &place.cell;
        let (Some(connected), Some(host_id)) = (place.connected.get(), cell.host_id()) else {
            return Err(CodeModeError::Unsupported(
                "termination of a cell that is not yet admitted",
            ));
        };
        let answer = connected.link.terminate(&connected.remote, host_id.clone());
        let ending = terminated(place.clone(), connected.clone(), answer);
        let mut observation = Observation::terminating(place, tokio::spawn(ending));
        let observed = observation.receive().await;
        drop(observation);
        self.heard(place, observed).await
    }
}

/// Sends a request, and only then does something else that the host may notice.
async fn sent_first<T>(mut answer: Answer<T>, then: impl FnOnce()) -> Result<T, Failure> {
    let sent = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
    then();
    match sent {
        Poll::Ready(answered) => answered,
        Poll::Pending => answer.await,
    }
}

/// What a termination comes to. What was on its way to a caller that has gone is part
/// of it.
async fn terminated(place: Place, connected: Connected, answer: Answer<WaitOutcome>) -> Observed {
    let cell = &place.cell;
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
            Ok(last) => return close(place, last).await,
            Err(failure) => return Err(failure),
        }
    }
    let answer = sent_first(answer, || cell.abandon());
    let Ok(answer) = timeout(TRANSPORT, answer).await else {
        let reason = CodeModeError::TimedOut("terminate").to_string();
        connected.link.fail(&reason);
        return Err(Failure::Gone(reason));
    };
    let mut response = match answer? {
        WaitOutcome::LiveCell(response) => response,
        WaitOutcome::MissingCell(_) => {
            // It ended meanwhile: whoever looked at it has, or will have, its result.
            let left = {
                let mut observer = cell.observer();
                match &*observer {
                    Observer::Left(..) => std::mem::take(&mut *observer),
                    _ => Observer::None,
                }
            };
            let Observer::Left(waiting, _) = left else {
                return Err(Failure::Refused(MISSING.to_owned()));
            };
            waiting.await.unwrap_or_else(|_| Err(lost()))?
        }
    };
    response.prepend(earlier);
    close(place, response).await
}

impl Drop for ProcessBackend {
    fn drop(&mut self) {
        let connected = self.session.open();
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
            .field("host", &self.session.host)
            .field("cells", &self.cells())
            .finish_non_exhaustive()
    }
}

/// Stands for the host's word that a cell is missing, which is told in this side's.
const MISSING: &str = "exec cell not found";

/// The response of a cell that the host knows.
fn live(outcome: WaitOutcome) -> Observed {
    match outcome {
        WaitOutcome::LiveCell(response) => Ok(response),
        WaitOutcome::MissingCell(_) => Err(Failure::Refused(MISSING.to_owned())),
    }
}

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
