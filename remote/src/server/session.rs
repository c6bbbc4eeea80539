//! A session that a client has opened, whatever protocol it speaks.
//!
//! It is a service over a backend, and an account of its cells. A cell counts against the
//! host's limit, and the session's, until its end was sent; then its client is sent that
//! it is closed, after everything else of it.

mod keeping;
#[cfg(feature = "nats")]
mod leaving;
mod request;

pub(super) use keeping::Keeper;
#[cfg(feature = "nats")]
pub(super) use keeping::{Held, KeepError};
pub(super) use request::{CellRequest, Program, Wait, begun};

use super::metrics::{self, ActiveCell};
use super::{AskedLimits, Permits, Server};
use crate::protocol::{MAX_STORED_BYTES, MAX_TOOL_BYTES, Refusal, StoredDelta};
use cellblock::support::lock;
use cellblock::{
    CellId, CodeModeError, CodeModeService, CodeModeTurnHost, CodeModeTurnWorker, ExecuteRequest,
    Keeping, RuntimeResponse, StoredValues, ToolDefinition,
};
use keeping::StorePlace;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
    /// Cancelled when the session is to close.
    closing: CancellationToken,
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
            closing: CancellationToken::new(),
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
        self.closing.cancel();
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

impl CellValues {
    fn new(before: HashMap<String, Arc<str>>) -> Self {
        Self { values: StoredValues::from_json(before.clone()), before }
    }
}
