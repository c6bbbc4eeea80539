//! Sessions: programs that share stored values. Each has a handle that cannot be guessed.

use crate::catalog::Catalog;
use crate::flow::{Flow, Values};
use crate::host::{Audience, Cell, SessionHost, TurnHost};
use crate::options::Options;
use crate::state::{Kept, StateFolder};
use cellblock::model::{CellActivity, CellWaiter};
use cellblock::support::lock;
use cellblock::{
    CellId, CellState, CodeModeError, CodeModeService, CodeModeTurnWorker, StoredValues,
};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Sessions that are held at one time; unused ones make room for others.
const MAX_SESSIONS: usize = 1_000;
/// Bytes of stored values that unused sessions are held with.
const MAX_STORED_BYTES: usize = 512 << 20;
/// Sessions that make room at a time, so that it is not looked for at every call.
const ROOM: usize = 50;
/// Cells of a session from which on it is looked for those whose end nobody has asked for.
const FORGOTTEN: usize = 256;
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
    flow: Arc<Flow>,
    values: StoredValues,
    _worker: CodeModeTurnWorker,
    /// When it was last used.
    used: Mutex<Instant>,
    /// Bytes of its values when a program of it ended last.
    stored_bytes: AtomicUsize,
    /// Where it is kept, and what is there. Only threads that may block hold this lock.
    kept: Option<(StateFolder, Mutex<Values>)>,
}

impl Session {
    fn new(
        id: String,
        kept: Kept,
        state: Option<&StateFolder>,
        options: &Options,
    ) -> Result<Self, CodeModeError> {
        let backend = (options.backend)()?;
        let values = StoredValues::from_json(kept.values);
        let service = CodeModeService::with_stored_values(backend, values.clone());
        let activity = CellActivity::default();
        let flow = Arc::new(Flow::new(values.clone(), kept.tainted));
        let host = Arc::new(SessionHost::new(activity.clone(), Arc::clone(&flow)));
        let turn_host = TurnHost(Arc::clone(&host));
        let worker = service.start_turn_worker(activity.watch(Arc::new(turn_host)));
        Ok(Self {
            id,
            owner: kept.owner,
            waiter: CellWaiter::new(service.clone(), options.waits.clone(), activity.clone()),
            service,
            activity,
            host,
            flow,
            _worker: worker,
            used: Mutex::new(Instant::now()),
            stored_bytes: AtomicUsize::new(values.byte_len()),
            kept: state.map(|state| (state.clone(), Mutex::new(values.to_json()))),
            values,
        })
    }

    /// Keeps a cell that is about to start. Its host serves it from here on.
    pub(crate) fn begin(
        &self,
        id: &CellId,
        catalog: &Arc<Catalog>,
        code: &str,
        audience: Audience,
    ) -> Arc<Cell> {
        let cell = Arc::new(Cell::new(Arc::clone(catalog), code, audience));
        if self.host.len() >= FORGOTTEN {
            let known = self.service.cells();
            self.host.retain(|id| known.iter().any(|info| info.cell_id == *id));
        }
        self.host.insert(id.clone(), Arc::clone(&cell));
        cell
    }

    /// What a cell waits for at this host; `None` when that is nothing.
    pub(crate) fn waits_for(&self, id: &CellId) -> Option<String> {
        self.activity.describe(id)
    }

    /// Forgets a cell that has ended, and keeps what it stored.
    pub(crate) async fn ended(self: &Arc<Self>, id: &CellId) {
        self.flow.ended(id);
        self.host.remove(id);
        self.stored_bytes.store(self.values.byte_len(), Ordering::Relaxed);
        self.save().await;
    }

    /// Writes the values, if any was stored since the last time. What is written is what is
    /// there when it is written, so that writes need no order.
    pub(crate) async fn save(self: &Arc<Self>) {
        let Some((_, saved)) = &self.kept else { return };
        let is_saved = saved.try_lock().is_ok_and(|saved| self.is_saved(&saved));
        if is_saved {
            return;
        }
        let this = Arc::clone(self);
        let save = move || {
            let Some((state, saved)) = &this.kept else { return };
            let mut saved = lock(saved);
            if this.is_saved(&saved) {
                return;
            }
            let values = this.values.to_json();
            // After the values were taken: they are not without the mark of who stored them.
            let tainted = this.flow.is_stored();
            let kept = Kept { owner: this.owner.clone(), tainted, values: values.clone() };
            match state.write(&this.id, &kept) {
                Ok(()) => *saved = values,
                Err(error) => tracing::error!("a session could not be kept: {error}"),
            }
        };
        // It fails only when the process ends.
        let _ = tokio::task::spawn_blocking(save).await;
    }

    fn is_saved(&self, saved: &Values) -> bool {
        self.values.written_since(saved).is_empty()
    }

    /// Whether a program of it runs. One that has ended and was not asked for since is no
    /// reason to hold the session.
    fn runs(&self) -> bool {
        self.service.cells().iter().any(|cell| cell.state != CellState::Finished)
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
    pub(crate) async fn get(
        &self,
        id: &str,
        principal: &Principal,
        options: &Options,
    ) -> Result<Arc<Session>, SessionError> {
        let unknown = || SessionError::Unknown(id.chars().take(100).collect());
        let found = lock(&self.sessions).get(id).cloned();
        let session = if let Some(session) = found {
            session
        } else {
            let state = self.state.clone().ok_or_else(unknown)?;
            let name = id.to_owned();
            let read = tokio::task::spawn_blocking(move || state.read(&name));
            let kept = read.await.ok().flatten();
            let kept = kept.filter(|kept| kept.owner == *principal).ok_or_else(unknown)?;
            self.insert(id.to_owned(), kept, options)?
        };
        if session.owner != *principal {
            return Err(unknown());
        }
        *lock(&session.used) = Instant::now();
        Ok(session)
    }

    fn insert(
        &self,
        id: String,
        kept: Kept,
        options: &Options,
    ) -> Result<Arc<Session>, SessionError> {
        let session = Session::new(id.clone(), kept, self.state.as_ref(), options)?;
        let session = Arc::new(session);
        let mut sessions = lock(&self.sessions);
        if let Some(session) = sessions.get(&id) {
            return Ok(Arc::clone(session));
        }
        if sessions.len() >= MAX_SESSIONS {
            make_room(&mut sessions);
        }
        if sessions.len() >= MAX_SESSIONS {
            return Err(SessionError::TooMany);
        }
        sessions.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// Holds no more stored values than may be held, of sessions that run nothing.
    pub(crate) fn bound_values(&self) {
        let mut sessions = lock(&self.sessions);
        let bytes = |session: &Arc<Session>| session.stored_bytes.load(Ordering::Relaxed);
        let mut held: usize = sessions.values().map(bytes).sum();
        if held <= MAX_STORED_BYTES {
            return;
        }
        for id in least_needed(&sessions) {
            held -= sessions.get(&id).map_or(0, bytes);
            drop_session(&mut sessions, &id);
            if held <= MAX_STORED_BYTES {
                return;
            }
        }
    }

    /// Ends all cells, and keeps what is stored.
    pub(crate) async fn close(&self) {
        let sessions: Vec<_> = lock(&self.sessions).drain().map(|(_, session)| session).collect();
        for session in sessions {
            session.service.shutdown().await;
            session.save().await;
        }
    }
}

/// Removes sessions that nobody has used for long, or else those that are needed least.
fn make_room(sessions: &mut HashMap<String, Arc<Session>>) {
    let now = Instant::now();
    let is_idle = |session: &Session| now.duration_since(*lock(&session.used)) > IDLE;
    let idle: Vec<_> = sessions
        .iter()
        .filter(|(_, session)| is_idle(session) && !session.runs())
        .map(|(id, _)| id.clone())
        .collect();
    let needless = if idle.is_empty() { least_needed(sessions) } else { idle };
    for id in needless.iter().take(ROOM) {
        drop_session(sessions, id);
    }
}

/// Holds a session no longer. Where sessions are kept, it can be used again.
fn drop_session(sessions: &mut HashMap<String, Arc<Session>>, id: &str) {
    if let Some(session) = sessions.remove(id).filter(|session| session.kept.is_some()) {
        // Of a program whose end nobody has fetched, what it stored is not saved yet.
        tokio::spawn(async move { session.save().await });
    }
}

/// The sessions that run nothing: first those of who has the most, so that nobody pushes
/// others out, and of those the ones that were not used for the longest time.
fn least_needed(sessions: &HashMap<String, Arc<Session>>) -> Vec<String> {
    let mut by_owner: HashMap<&Principal, Vec<(Instant, &String)>> = HashMap::new();
    for (id, session) in sessions.iter().filter(|(_, session)| !session.runs()) {
        by_owner.entry(&session.owner).or_default().push((*lock(&session.used), id));
    }
    let mut ranked = Vec::new();
    for mut own in by_owner.into_values() {
        own.sort_unstable_by_key(|(used, _)| Reverse(*used));
        // The newest of each is needed most.
        ranked.extend(own.into_iter().enumerate().map(|(rank, (used, id))| (rank, used, id)));
    }
    ranked.sort_unstable_by_key(|(rank, used, _)| (Reverse(*rank), *used));
    ranked.into_iter().map(|(_, _, id)| id.clone()).collect()
}

/// 128 random bits, in hexadecimal.
pub(crate) fn handle() -> Result<String, SessionError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|_| SessionError::NoRandom)?;
    Ok(hex::encode(bits))
}
