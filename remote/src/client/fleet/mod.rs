//! The backend whose cells run on the workers of a fleet, reached over NATS.
//!
//! Each cell has a link of its own to the worker that took it, with a framed connection over
//! it: all that this side does for a cell is what it does for one of a host process.

mod connection;
mod reopen;
mod values;

use super::connection::{ConnectError, ConnectionError, Failure, HostConnection, Program};
use super::framed::FramedConnection;
use super::session::{Connected, Host, RemoteSession};
use super::{ProcessBackend, ProcessLimits};
use crate::nats::{
    DEFAULT_CLASS, HEARTBEAT, Link, NatsAddress, NatsError, Opening, is_token, queue, random_id,
};
use crate::protocol::{ExecutionLimits, SeamKeep};
use async_nats::Subject;
use async_trait::async_trait;
use cellblock::support::lock;
use cellblock::{
    CellId, CellInfo, CodeModeBackend, CodeModeError, CodeModeTurnHost, CodeModeTurnWorker,
    ExecuteRequest, ExecuteToPendingOutcome, Parked, RuntimeResponse, StoredValues, WaitOutcome,
    WaitRequest, WaitToPendingOutcome, WakeRequest,
};
use connection::{CellConnection, FleetConnection};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::OnceCell;
use values::SessionValues;

/// Says which trace the work that is going on is part of, in the form of the header
/// `traceparent` of W3C Trace Context.
type Trace = dyn Fn() -> Option<String> + Send + Sync;

/// A fleet: its NATS system, and the class of workers that run this client's cells.
///
/// The first cell connects; a connection that is lost is opened again. Clones are handles to
/// the same connection, which sessions share.
#[derive(Clone)]
pub struct NatsFleet(Arc<Fleet>);

struct Fleet {
    address: NatsAddress,
    class: String,
    heartbeat: Duration,
    trace: Option<Arc<Trace>>,
    connection: OnceCell<FleetConnection>,
}

impl NatsFleet {
    /// The workers of the class [`DEFAULT_CLASS`]. Connects to nothing yet.
    pub fn new(address: NatsAddress) -> Self {
        Self(Arc::new(Fleet {
            address,
            class: DEFAULT_CLASS.to_owned(),
            heartbeat: HEARTBEAT,
            trace: None,
            connection: OnceCell::new(),
        }))
    }

    /// The workers of another class: a name that they were given, or the first eight digits of
    /// their guest's SHA-256.
    ///
    /// # Errors
    /// [`NatsError::Name`].
    pub fn with_class(self, class: impl Into<String>) -> Result<Self, NatsError> {
        let class = class.into();
        if !is_token(&class) {
            return Err(NatsError::Name(class));
        }
        Ok(self.with(|fleet| fleet.class = class))
    }

    /// Another interval than [`HEARTBEAT`]; workers are to have the same.
    #[must_use]
    pub fn with_heartbeat(self, heartbeat: Duration) -> Self {
        self.with(|fleet| fleet.heartbeat = heartbeat)
    }

    /// Asks for the trace that each cell is part of, and tells workers.
    #[must_use]
    pub fn with_trace(self, trace: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.with(|fleet| fleet.trace = Some(Arc::new(trace)))
    }

    fn with(self, change: impl FnOnce(&mut Fleet)) -> Self {
        let Fleet { address, class, heartbeat, trace, .. } = &*self.0;
        let mut fleet = Fleet {
            address: address.clone(),
            class: class.clone(),
            heartbeat: *heartbeat,
            trace: trace.clone(),
            connection: OnceCell::new(),
        };
        change(&mut fleet);
        Self(Arc::new(fleet))
    }

    async fn connection(&self) -> Result<&FleetConnection, NatsError> {
        self.0.connection.get_or_try_init(|| FleetConnection::open(&self.0.address)).await
    }

    /// A session on a link of its own, for one cell.
    async fn connected(
        &self,
        limits: &ProcessLimits,
        values: Option<Arc<SessionValues>>,
        program: &Program,
    ) -> Result<Connected, Failure> {
        let unavailable =
            |error: NatsError| Failure::Unavailable(ConnectError::Fleet(error.to_string()));
        let connection = self.connection().await.map_err(unavailable)?;
        let (token, (feed, queue)) = (random_id(), queue());
        let inbox: Subject = format!("{}.{token}", connection.inbox).into();
        let class = program.class.as_ref().unwrap_or(&self.0.class).clone();
        let tells = program.wake.is_some() && program.keep.is_some();
        let opening = Opening { class, inbox, tells };
        let (link, pipe) = Link::open(&connection.nats, queue, opening, self.0.heartbeat);
        let (input, output) = tokio::io::split(pipe);
        let framed = FramedConnection::pipelined(input, output).map_err(Failure::Unavailable)?;
        let trace = self.0.trace.as_ref().and_then(|trace| trace());
        let mut link = link.with_trace(trace).closed_with(framed.lifeline().closed().clone());
        lock(&connection.links).insert(token.clone(), feed);
        let name = program.keep.as_ref().map_or(&token, |keep| &keep.cell);
        let cell = Arc::new(CellConnection::new(framed, values, name));
        let (links, ending) = (Arc::clone(&connection.links), Arc::downgrade(&cell));
        tokio::spawn(async move {
            let end = link.run().await;
            lock(&links).remove(&token);
            let reason = ConnectionError::from(end);
            if let Some(cell) = ending.upgrade() {
                cell.ends_for(reason.clone());
            }
            // What the worker had sent before is received before.
            link.finish().await;
            if let Some(cell) = ending.upgrade() {
                cell.fail(reason);
            }
        });
        let remote = Arc::new(RemoteSession::default());
        let ProcessLimits { max_yield_time_ms, max_heap_size_bytes, .. } = *limits;
        let execution = ExecutionLimits { max_yield_time_ms, max_heap_size_bytes };
        cell.begin(&remote, execution, limits.cell.clone())?;
        Ok(Connected { connection: cell, remote })
    }
}

impl fmt::Debug for NatsFleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsFleet")
            .field("url", &self.0.address.shown())
            .field("class", &self.0.class)
            .finish_non_exhaustive()
    }
}

/// Runs cells on a fleet: each on the worker that takes it.
///
/// The stored values are the caller's, cells can be frozen and responses have reports, as in
/// process. A cell whose worker is lost ends with [`CodeModeError::Stale`], which names the
/// calls that it had made; it is not run again. A fleet without a free worker refuses a cell
/// with [`CodeModeError::Unavailable`], at once.
///
/// It must be used within a tokio runtime with its timer and its input and output enabled.
/// Dropping it ends its cells without waiting for them.
///
/// ```no_run
/// use cellblock::*;
/// use cellblock_remote::*;
/// use std::sync::Arc;
///
/// # async fn example() -> Result<(), CodeModeError> {
/// let fleet = NatsFleet::new(NatsAddress::new("nats://127.0.0.1:4222"));
/// let service = CodeModeService::new(Arc::new(NatsBackend::new(&fleet)));
/// service.execute(ExecuteRequest::new("text('from another machine')")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NatsBackend {
    cells: ProcessBackend,
    fleet: NatsFleet,
    /// The name of the session, where NATS keeps its stored values.
    session: Option<String>,
    values: Arc<OnceCell<Arc<SessionValues>>>,
    /// What workers know the session by.
    handle: Arc<OnceLock<String>>,
    /// This client, by a random name.
    client: String,
}

impl NatsBackend {
    /// A session on a fleet, with the limits that its workers have for this tenant.
    pub fn new(fleet: &NatsFleet) -> Self {
        Self::with_limits(fleet, ProcessLimits::default())
    }

    /// A session on a fleet, with limits of its own.
    pub fn with_limits(fleet: &NatsFleet, limits: ProcessLimits) -> Self {
        let values = Arc::default();
        let (handle, client) = (Arc::default(), random_id());
        let place = Place {
            fleet: fleet.clone(),
            values: Arc::clone(&values),
            handle: Arc::clone(&handle),
            client: client.clone(),
        };
        let cells = ProcessBackend::on(Host::Fleet(place), limits);
        Self { cells, fleet: fleet.clone(), session: None, values, handle, client }
    }

    /// Keeps the session's stored values in NATS, in the account of this client, under a name
    /// that nobody should be able to guess. Whoever opens a session with the same name has the
    /// same values, on any machine, and more than one may at the same time: each cell sees the
    /// values as they were when it started, and what it writes is merged once, whatever fails,
    /// before its result is delivered. The values that
    /// [`execute`](CodeModeBackend::execute) is given receive what NATS has.
    ///
    /// # Errors
    /// [`NatsError::Name`].
    pub fn with_session(mut self, name: impl Into<String>) -> Result<Self, NatsError> {
        let name = name.into();
        if !is_token(&name) {
            return Err(NatsError::Name(name));
        }
        // The name is the right to the values, so workers receive what cannot be turned back.
        let _ = self.handle.set(format!("{:x}", Sha256::digest(&name)));
        self.session = Some(name);
        Ok(self)
    }

    /// Brings the caller's values up to date, where NATS keeps them.
    async fn refresh(&self, stored_values: &StoredValues) -> Result<(), CodeModeError> {
        let Some(session) = &self.session else { return Ok(()) };
        let unavailable = |error: NatsError| CodeModeError::Unavailable(error.to_string());
        let open = || async {
            let connection = self.fleet.connection().await?;
            SessionValues::open(&connection.nats.client, session).await.map(Arc::new)
        };
        let values = self.values.get_or_try_init(open).await.map_err(unavailable)?;
        let now = values.read().await.map_err(unavailable)?;
        let damaged = |error| CodeModeError::Host(format!("a stored value is {error}"));
        stored_values.extend_json(now).map_err(damaged)
    }
}

/// Where the cells of one session run.
#[derive(Clone)]
pub(super) struct Place {
    fleet: NatsFleet,
    /// The session's values, where NATS keeps them.
    values: Arc<OnceCell<Arc<SessionValues>>>,
    /// What workers know the session by; set where others may open it again.
    handle: Arc<OnceLock<String>>,
    /// This client, by a random name.
    client: String,
}

impl Place {
    /// A session on a link of its own, for one cell.
    pub(super) async fn connected(
        &self,
        limits: &ProcessLimits,
        program: &Program,
    ) -> Result<Connected, Failure> {
        self.fleet.connected(limits, self.values.get().cloned(), program).await
    }

    /// Where a new cell may be kept while it waits.
    pub(super) fn keep(&self, cell_id: &CellId) -> SeamKeep {
        SeamKeep {
            cell: random_id(),
            session: self.handle.get().cloned(),
            id: cell_id.clone(),
            client: self.client.clone(),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fleet.fmt(f)
    }
}

#[async_trait]
impl CodeModeBackend for NatsBackend {
    fn availability(&self) -> Result<(), CodeModeError> {
        self.cells.availability()
    }

    fn allocate_cell_id(&self) -> Result<CellId, CodeModeError> {
        self.cells.allocate_cell_id()
    }

    async fn execute(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        self.refresh(&stored_values).await?;
        self.cells.execute(cell_id, request, stored_values).await
    }

    async fn wait(&self, request: WaitRequest) -> Result<WaitOutcome, CodeModeError> {
        self.cells.wait(request).await
    }

    async fn terminate(&self, cell_id: CellId) -> Result<WaitOutcome, CodeModeError> {
        self.cells.terminate(cell_id).await
    }

    async fn execute_to_pending(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> Result<ExecuteToPendingOutcome, CodeModeError> {
        self.refresh(&stored_values).await?;
        self.cells.execute_to_pending(cell_id, request, stored_values).await
    }

    async fn wait_to_pending(
        &self,
        cell_id: CellId,
    ) -> Result<WaitToPendingOutcome, CodeModeError> {
        self.cells.wait_to_pending(cell_id).await
    }

    async fn park(&self, cell_id: CellId) -> Result<Parked, CodeModeError> {
        self.cells.park(cell_id).await
    }

    async fn wake(
        &self,
        cell_id: CellId,
        request: WakeRequest,
        stored_values: StoredValues,
    ) -> Result<RuntimeResponse, CodeModeError> {
        self.refresh(&stored_values).await?;
        self.cells.wake(cell_id, request, stored_values).await
    }

    fn cells(&self) -> Vec<CellInfo> {
        self.cells.cells()
    }

    fn start_turn_worker(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.cells.start_turn_worker(host)
    }

    async fn shutdown(&self) {
        self.cells.shutdown().await;
    }
}
