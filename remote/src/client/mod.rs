//! The backend whose cells run in another process, reached over a connection.
//!
//! [`HostProcess`] (`address`) is where the host is, and keeps one connection to it;
//! [`ProcessBackend`] is a session there (`session`). `cell` is the task that owns a cell,
//! `connection` what is needed of a connection, `framed` and `grpc` the two kinds, `child` a
//! host that is started here.

mod address;
mod cell;
mod child;
mod connection;
#[cfg(feature = "nats")]
mod fleet;
mod framed;
mod grpc;
mod security;
mod session;

pub use address::{HostAddress, HostProcess};
pub use child::HostCommand;
#[cfg(feature = "nats")]
pub use fleet::{NatsBackend, NatsFleet};
pub use security::ClientTls;

use crate::protocol::{Base64, SeamResume, SeamWake};
use async_trait::async_trait;
use cell::Start;
use cellblock::cells::{Answer, CellStatus, Until};
use cellblock::support::{lock, yield_timeout};
use cellblock::{
    CellId, CellInfo, CellLimits, CodeModeBackend, CodeModeError, CodeModeTurnHost,
    CodeModeTurnWorker, ExecuteRequest, ExecuteToPendingOutcome, ParkError, Parked, PendingCalls,
    ResumeRequest, RuntimeResponse, SessionLimits, StoredValues, WaitOutcome, WaitRequest,
    WaitToPendingOutcome, WakeRequest,
};
use connection::ConnectError;
use session::{Host, Session};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// Limits of a session on a host process. All others are the host's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessLimits {
    /// As [`SessionLimits::max_yield_time_ms`](cellblock::SessionLimits::max_yield_time_ms).
    pub max_yield_time_ms: Option<u64>,
    /// Bytes of memory for JavaScript; `None` for what the host allows. Hosts other
    /// than this project's may take it and not keep it.
    pub max_heap_size_bytes: Option<u64>,
    /// Limits of the session's cells, each where it is narrower than the host's; `None` for
    /// what the host allows. Only hosts of this project take them.
    pub cell: Option<CellLimits>,
    /// As [`CellLimits::cancel_grace`](cellblock::CellLimits::cancel_grace): kept on this side.
    pub cancel_grace: Duration,
    /// As [`SessionLimits::cells`], kept on this side, where a cell of a host that does not
    /// say that it has ended counts until its result was fetched. The host's own limits come
    /// on top. `None` for those alone.
    pub cells: Option<usize>,
    /// As [`SessionLimits::unread_results`]: kept on this side.
    pub unread_results: usize,
    /// As [`SessionLimits::unread_bytes`]: kept on this side.
    pub unread_bytes: usize,
}

impl Default for ProcessLimits {
    fn default() -> Self {
        let SessionLimits { unread_results, unread_bytes, cell, .. } = SessionLimits::default();
        Self {
            max_yield_time_ms: None,
            max_heap_size_bytes: None,
            cell: None,
            cancel_grace: cell.cancel_grace,
            cells: None,
            unread_results,
            unread_bytes,
        }
    }
}

/// Runs cells in a host process: one session there.
///
/// A host of this project does all that the seam offers: the [`StoredValues`] are the
/// caller's, of which only changes travel, cells can be frozen, and responses have reports.
/// With another host what cells store stays there and is lost with it: the values that
/// [`execute`](CodeModeBackend::execute) is given must be empty. Reports are empty then, and
/// cells cannot be frozen.
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
    ids: Mutex<Ids>,
}

/// The last id of the newest generation.
#[derive(Default)]
struct Ids {
    generation: u64,
    last: u64,
}

impl ProcessBackend {
    /// A session on a host, with the host's limits.
    pub fn new(host: &HostProcess) -> Self {
        Self::with_limits(host, ProcessLimits::default())
    }

    /// A session on a host, with limits of its own. A host that takes none refuses
    /// its programs.
    pub fn with_limits(host: &HostProcess, limits: ProcessLimits) -> Self {
        Self::on(Host::Process(host.clone()), limits)
    }

    /// A session wherever cells run.
    fn on(host: Host, limits: ProcessLimits) -> Self {
        Self { session: Arc::new(Session::new(host, limits)), ids: Mutex::default() }
    }

    /// How long a caller waits.
    fn until(&self, asked_ms: Option<u64>) -> Until {
        Until::Yield(yield_timeout(asked_ms, self.session.limits.max_yield_time_ms))
    }

    /// A cell with this id was taken up: later ones have later ids.
    #[cfg(feature = "nats")]
    fn note_id(&self, id: &CellId) {
        let mut ids = lock(&self.ids);
        if let (1, Some(number)) = parse(id) {
            ids.generation = ids.generation.max(1);
            ids.last = ids.last.max(number);
        }
    }

    /// Whether this session has handed out an id, in the newest generation.
    fn was_allocated(&self, id: &CellId) -> bool {
        let ids = lock(&self.ids);
        let (generation, number) = parse(id);
        generation == ids.generation && number.is_some_and(|id| (1..=ids.last).contains(&id))
    }

    /// A cell that is missing because its host is gone is an error, not an outcome.
    fn check_stale(&self, id: &CellId, is_missing: bool) -> Result<(), CodeModeError> {
        #[cfg(feature = "nats")]
        if is_missing && let Some(error) = self.session.lost_cell(id) {
            return Err(error);
        }
        let is_unknown = is_missing && !self.session.registry.is_remembered(id);
        if is_unknown && parse(id).0 < self.session.host.generation() {
            return Err(CodeModeError::StaleGeneration(id.clone()));
        }
        Ok(())
    }

    /// Starts a cell and waits for its first answer.
    async fn start(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored: StoredValues,
        until: Until,
        wake: Option<(SeamWake, PendingCalls)>,
    ) -> Result<Answer, CodeModeError> {
        let status = Arc::new(CellStatus::default());
        let (entry, commands) = self.session.registry.admit(&cell_id, &status)?;
        let (reply, answer) = oneshot::channel();
        self.session.tasks.spawn(cell::run(Start {
            entry,
            id: cell_id.clone(),
            request,
            stored,
            session: Arc::clone(&self.session),
            status: Arc::clone(&status),
            commands,
            first: Some((until, reply)),
            wake,
            kept: None,
        }));
        self.session.registry.first_answer(cell_id, status, answer).await
    }
}

#[async_trait]
impl CodeModeBackend for ProcessBackend {
    fn availability(&self) -> Result<(), CodeModeError> {
        let unavailable = |reason: ConnectError| CodeModeError::Unavailable(reason.to_string());
        self.session.host.availability().map_err(unavailable)
    }

    fn allocate_cell_id(&self) -> Result<CellId, CodeModeError> {
        let generation = self.session.host.generation();
        let mut ids = lock(&self.ids);
        if ids.generation < generation {
            *ids = Ids { generation, last: 0 };
        }
        ids.last = ids.last.checked_add(1).ok_or(CodeModeError::CellIdsExhausted)?;
        let Ids { generation, last: id } = *ids;
        Ok(CellId::new(if generation == 1 {
            id.to_string()
        } else {
            format!("g{generation}:{id}")
        }))
    }

    async fn execute(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        let until = self.until(request.yield_time_ms);
        let answer = self.start(cell_id.clone(), request, stored_values, until, None).await?;
        Ok(answer.into_response(cell_id))
    }

    async fn wait(&self, request: WaitRequest) -> Result<WaitOutcome, CodeModeError> {
        let WaitRequest { cell_id, yield_time_ms } = request;
        let (until, was_allocated) =
            (self.until(Some(yield_time_ms)), || self.was_allocated(&cell_id));
        let outcome = self.session.registry.wait(cell_id.clone(), until, was_allocated).await?;
        self.check_stale(&cell_id, matches!(outcome, WaitOutcome::MissingCell(_)))?;
        Ok(outcome)
    }

    async fn terminate(&self, cell_id: CellId) -> Result<WaitOutcome, CodeModeError> {
        let was_allocated = || self.was_allocated(&cell_id);
        let outcome = self.session.registry.terminate(cell_id.clone(), was_allocated).await?;
        self.check_stale(&cell_id, matches!(outcome, WaitOutcome::MissingCell(_)))?;
        Ok(outcome)
    }

    async fn execute_to_pending(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<ExecuteToPendingOutcome, CodeModeError> {
        let until = Until::Frontier;
        let answer = self.start(cell_id.clone(), request, stored_values, until, None).await?;
        Ok(answer.into_frontier(cell_id))
    }

    async fn wait_to_pending(
        &self,
        cell_id: CellId,
    ) -> Result<WaitToPendingOutcome, CodeModeError> {
        let was_allocated = || self.was_allocated(&cell_id);
        let outcome = self.session.registry.wait_to_pending(cell_id.clone(), was_allocated).await?;
        self.check_stale(&cell_id, matches!(outcome, WaitToPendingOutcome::MissingCell(_)))?;
        Ok(outcome)
    }

    async fn park(&self, cell_id: CellId) -> Result<Parked, CodeModeError> {
        let was_allocated = || self.was_allocated(&cell_id);
        let parked = self.session.registry.park(cell_id.clone(), was_allocated).await;
        let is_missing = matches!(parked, Err(CodeModeError::Park(ParkError::Missing(..))));
        self.check_stale(&cell_id, is_missing)?;
        parked
    }

    async fn wake(
        &self,
        cell_id: CellId,
        request: WakeRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        let WakeRequest { cell, calls, enabled_tools, tool_call_id, .. } = request;
        let WakeRequest { yield_time_ms, is_fork, elapsed, .. } = request;
        let wake = SeamWake {
            cell: Base64(cell.as_bytes().into()),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            is_fork,
            restricts_tools: enabled_tools.is_some(),
            renames_call: tool_call_id.is_some(),
            pending: calls.iter().map(|(id, _)| id.to_owned()).collect(),
            ..SeamWake::default()
        };
        let request = ExecuteRequest {
            tool_call_id: tool_call_id.unwrap_or_default(),
            enabled_tools: enabled_tools.unwrap_or_default(),
            yield_time_ms,
            ..ExecuteRequest::default()
        };
        let (until, wake) = (self.until(yield_time_ms), Some((wake, calls)));
        let answer = self.start(cell_id.clone(), request, stored_values, until, wake).await?;
        Ok(answer.into_response(cell_id))
    }

    async fn resume(
        &self,
        cell_id: CellId,
        request: ResumeRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        let ResumeRequest { name, received, yield_time_ms } = request;
        let kept = Some(SeamResume { name: name.to_string(), received });
        let wake = SeamWake { kept, ..SeamWake::default() };
        let request = ExecuteRequest { yield_time_ms, ..ExecuteRequest::default() };
        let (until, wake) = (self.until(yield_time_ms), Some((wake, PendingCalls::default())));
        let answer = self.start(cell_id.clone(), request, stored_values, until, wake).await?;
        Ok(answer.into_response(cell_id))
    }

    fn cells(&self) -> Vec<CellInfo> {
        self.session.registry.list()
    }

    fn start_turn_worker(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.session.turns.start(host)
    }

    async fn shutdown(&self) {
        self.session.shut_down().await;
    }
}

impl Drop for ProcessBackend {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let session = Arc::clone(&self.session);
            runtime.spawn(async move { session.shut_down().await });
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
