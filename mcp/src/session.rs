//! Sessions: programs that share stored values. Each has a handle that cannot be guessed.

use crate::catalog::Catalog;
use crate::host::{Audience, Cell, SessionHost};
use crate::options::Options;
use crate::state::{Kept, StateFolder};
use cellblock::model::{CellActivity, CellWaiter};
use cellblock::support::lock;
use cellblock::{CellId, CodeModeError, CodeModeService, CodeModeTurnWorker, StoredValues};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Sessions that are held at one time; unused ones make room for others.
const MAX_SESSIONS: usize = 1_000;
/// How long a session without a cell is held after its last use.
const IDLE: Duration = Duration::from_hours(1);

/// Who calls: `None` on standard streams and where nobody has to show who they are.
pub(crate) type Principal = Option<Arc<str>>;

/// One session.
pub(crate) struct Session {
    /// Its handle.
    pub(crate) id: String,
    /// Whose it is.
    owner: Principal,
    pub(crate) service: CodeModeService,
    pub(crate) waiter: CellWaiter,
    activity: CellActivity,
    pub(crate) host: Arc<SessionHost>,
    values: StoredValues,
    _worker: CodeModeTurnWorker,
    kept: Mutex<KeptState>,
}

struct KeptState {
    used: Instant,
    /// Values were stored by a program that had read untrusted text.
    tainted: bool,
    /// Such programs, with the values as they were when each started.
    reading: Vec<(CellId, Values)>,
    /// What is on disk.
    saved: Values,
}

type Values = HashMap<String, Arc<str>>;

impl Session {
    fn new(id: String, kept: Kept, options: &Options) -> Result<Self, CodeModeError> {
        let backend = (options.backend)()?;
        let values = StoredValues::from_json(kept.values);
        let service = CodeModeService::with_stored_values(backend, values.clone());
        let activity = CellActivity::default();
        let host = Arc::new(SessionHost::new(activity.clone()));
        let worker = service.start_turn_worker(activity.watch(Arc::clone(&host) as _));
        Ok(Self {
            id,
            owner: kept.owner,
            waiter: CellWaiter::new(service.clone(), options.waits.clone(), activity.clone()),
            service,
            activity,
            host,
            _worker: worker,
            kept: Mutex::new(KeptState {
                used: Instant::now(),
                tainted: kept.tainted,
                reading: Vec::new(),
                saved: values.to_json(),
            }),
            values,
        })
    }

    /// Keeps a cell that is about to start, and says whether it starts with values of a
    /// program that has read untrusted text. Its host serves it from here on.
    pub(crate) fn begin(
        &self,
        id: &CellId,
        catalog: &Arc<Catalog>,
        audience: Audience,
    ) -> Arc<Cell> {
        let tainted = self.is_tainted();
        let cell = Arc::new(Cell::new(Arc::clone(catalog), tainted, audience));
        self.host.insert(id.clone(), Arc::clone(&cell));
        lock(&self.kept).reading.push((id.clone(), self.values.to_json()));
        cell
    }

    /// What a cell waits for at this host; `None` when that is nothing.
    pub(crate) fn waits_for(&self, id: &CellId) -> Option<String> {
        self.activity.describe(id)
    }

    /// Forgets a cell that has ended, and keeps what it stored.
    pub(crate) fn ended(&self, id: &CellId, state: Option<&StateFolder>) {
        self.settle(&mut lock(&self.kept), id);
        self.save(state);
    }

    /// Whether the stored values are, or may become at any moment, those of a program that
    /// has read untrusted text.
    fn is_tainted(&self) -> bool {
        let alive = self.service.cells();
        let mut kept = lock(&self.kept);
        let ids: Vec<_> = kept.reading.iter().map(|(id, _)| id.clone()).collect();
        let mut live = false;
        for id in ids {
            let cell = self.host.cell(&id);
            // One that has not started yet is not among those that are alive.
            let may_write = cell.as_ref().is_some_and(|cell| !cell.has_started())
                || alive.iter().any(|info| info.cell_id == id);
            if may_write {
                live |= cell.is_some_and(|cell| cell.is_tainted());
            } else {
                // It has ended, and nobody has fetched what became of it.
                self.settle(&mut kept, &id);
            }
        }
        kept.tainted || live
    }

    /// Notes what a cell that has ended leaves behind.
    fn settle(&self, kept: &mut KeptState, id: &CellId) {
        let reads = self.host.cell(id).is_some_and(|cell| cell.is_tainted());
        if let Some(at) = kept.reading.iter().position(|(reading, _)| reading == id) {
            let (_, before) = kept.reading.swap_remove(at);
            kept.tainted |= reads && !self.values.written_since(&before).is_empty();
        }
        self.host.remove(id);
    }

    /// Writes the values, if any was stored since the last time.
    pub(crate) fn save(&self, state: Option<&StateFolder>) {
        let Some(state) = state else { return };
        let mut kept = lock(&self.kept);
        if self.values.written_since(&kept.saved).is_empty() {
            return;
        }
        let values = self.values.to_json();
        let what =
            Kept { owner: self.owner.clone(), tainted: kept.tainted, values: values.clone() };
        match state.write(&self.id, &what) {
            Ok(()) => kept.saved = values,
            Err(error) => tracing::error!("a session could not be kept: {error}"),
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let used = lock(&self.kept).used;
        now.duration_since(used) > IDLE && self.service.cells().is_empty()
    }
}

/// All sessions.
pub(crate) struct Sessions {
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    state: Option<StateFolder>,
}

/// Why there is no session. The texts are for the model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("there is no session {0:?} here: leave `session` out, and a new one is made")]
    Unknown(String),
    #[error("{MAX_SESSIONS} sessions are in use: wait for their programs to end")]
    TooMany,
    #[error(transparent)]
    Backend(#[from] CodeModeError),
    #[error("no random number can be had for a session")]
    NoRandom,
}

impl Sessions {
    pub(crate) fn new(state: Option<StateFolder>) -> Self {
        Self { sessions: Mutex::default(), state }
    }

    pub(crate) fn state(&self) -> Option<&StateFolder> {
        self.state.as_ref()
    }

    /// A new session.
    pub(crate) fn make(
        &self,
        owner: Principal,
        options: &Options,
    ) -> Result<Arc<Session>, SessionError> {
        let kept = Kept { owner, ..Kept::default() };
        self.insert(handle()?, kept, options)
    }

    /// The session of a handle, unless it is somebody else's.
    pub(crate) fn get(
        &self,
        id: &str,
        principal: &Principal,
        options: &Options,
    ) -> Result<Arc<Session>, SessionError> {
        let unknown = || SessionError::Unknown(id.to_owned());
        let found = lock(&self.sessions).get(id).cloned();
        let session = if let Some(session) = found {
            session
        } else {
            let kept = self.state.as_ref().and_then(|state| state.read(id));
            let kept = kept.filter(|kept| kept.owner == *principal).ok_or_else(unknown)?;
            self.insert(id.to_owned(), kept, options)?
        };
        if session.owner != *principal {
            return Err(unknown());
        }
        lock(&session.kept).used = Instant::now();
        Ok(session)
    }

    fn insert(
        &self,
        id: String,
        kept: Kept,
        options: &Options,
    ) -> Result<Arc<Session>, SessionError> {
        let session = Arc::new(Session::new(id.clone(), kept, options)?);
        let mut sessions = lock(&self.sessions);
        if let Some(session) = sessions.get(&id) {
            return Ok(Arc::clone(session));
        }
        if sessions.len() >= MAX_SESSIONS {
            let now = Instant::now();
            sessions.retain(|_, session| !session.is_idle(now));
        }
        if sessions.len() >= MAX_SESSIONS {
            // Of those that run nothing, the one that was not used for the longest time.
            let unused = sessions
                .values()
                .filter(|session| session.service.cells().is_empty())
                .min_by_key(|session| lock(&session.kept).used)
                .map(|session| session.id.clone());
            sessions.remove(&unused.ok_or(SessionError::TooMany)?);
        }
        sessions.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// Ends all cells, and keeps what is stored.
    pub(crate) async fn close(&self) {
        let sessions: Vec<_> = lock(&self.sessions).drain().map(|(_, session)| session).collect();
        for session in sessions {
            session.service.shutdown().await;
            session.is_tainted();
            session.save(self.state.as_ref());
        }
    }
}

/// 128 random bits, in hexadecimal.
pub(crate) fn handle() -> Result<String, SessionError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|_| SessionError::NoRandom)?;
    Ok(hex::encode(bits))
}
