//! The cells of a session: those that live, and results that wait to be fetched.
//!
//! The one lock of the backend is here, held for a look-up or a move. Delivering
//! a result and taking the cell off the list happen under it, so that a caller
//! finds the cell, or its result, or neither; never a gap.

use super::account::Charge;
use super::answer::{Answer, Command, Content, Reply};
use super::imports::Outbox;
use crate::backend::{
    CellId, CellInfo, CellReport, CellState, CodeModeError, ContentItem, RuntimeResponse,
};
use crate::limits::SessionLimits;
use crate::recent::RecentSet;
use crate::support::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Results dropped unread whose ids are remembered, for the notice.
const EVICTED_REMEMBERED: usize = 1_024;

/// What a cell's task and everybody else know of it.
#[derive(Debug)]
pub(super) struct Shared {
    /// When the cell was admitted.
    pub(super) started: Instant,
    /// What the guest has sent, and its totals.
    pub(super) outbox: Arc<Outbox>,
    /// A [`CellState`], written by the cell's task.
    state: AtomicU8,
    /// Where a program waits that nothing can wake: a stuck cell stays so.
    stuck_at: OnceLock<Option<String>>,
}

impl Shared {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        let state = AtomicU8::new(CellState::Running as u8);
        Self { started: Instant::now(), outbox, state, stuck_at: OnceLock::new() }
    }

    pub(super) fn set_state(&self, state: CellState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The program waits for something that cannot come.
    pub(super) fn note_stuck_at(&self, place: Option<String>) {
        // The first place stays: it cannot have moved.
        let _ = self.stuck_at.set(place);
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck_at.get().is_some()
    }

    fn state(&self) -> CellState {
        match self.state.load(Ordering::Relaxed) {
            state if state == CellState::Running as u8 => CellState::Running,
            state if state == CellState::Waiting as u8 => CellState::Waiting,
            state if state == CellState::Stuck as u8 => CellState::Stuck,
            _ => CellState::Ending,
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// Order of admission, for lists.
    number: u64,
    /// What the cell's task and everybody else know of it.
    shared: Arc<Shared>,
    /// Answers that were given but never arrived, oldest first.
    undelivered: VecDeque<Answer>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Live(mpsc::Sender<Command>),
    /// Ended; the result is the last of `undelivered`.
    Ended,
}

#[derive(Debug)]
struct Cells {
    entries: HashMap<CellId, Entry>,
    /// Cells that ended unread, oldest first. May name cells that were read since.
    unread: VecDeque<CellId>,
    live: usize,
    admitted: u64,
    /// Cells whose results were dropped unread, for the notice.
    evicted: RecentSet<CellId>,
    /// The session is shutting down.
    closed: bool,
}

/// What a cell comes to.
pub(super) struct Conclusion {
    pub(super) response: RuntimeResponse,
    /// What the cell is charged for the response.
    pub(super) charge: Charge,
}

/// The cells of one session.
#[derive(Debug)]
pub(super) struct Registry(Mutex<Cells>);

/// Where a request for a cell goes.
pub(super) enum Found {
    Live(mpsc::Sender<Command>, Arc<Shared>),
    Answer(Answer),
    /// There is no such cell; the text says more.
    Missing(&'static str),
}

impl Registry {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Cells {
            entries: HashMap::new(),
            unread: VecDeque::new(),
            live: 0,
            admitted: 0,
            evicted: RecentSet::new(EVICTED_REMEMBERED),
            closed: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Cells> {
        // Nothing that can panic runs under the lock.
        lock(&self.0)
    }

    /// Admits a new cell.
    pub(super) fn admit(
        &self,
        id: &CellId,
        shared: Arc<Shared>,
        commands: mpsc::Sender<Command>,
        limits: &SessionLimits,
    ) -> Result<(), CodeModeError> {
        let mut cells = self.lock();
        if cells.closed {
            return Err(CodeModeError::ShuttingDown);
        }
        if cells.entries.contains_key(id) {
            return Err(CodeModeError::CellExists(id.clone()));
        }
        if cells.live >= limits.cells {
            return Err(CodeModeError::TooManyCells { limit: limits.cells });
        }
        cells.live += 1;
        cells.admitted += 1;
        let number = cells.admitted;
        let stage = Stage::Live(commands);
        let entry = Entry { number, shared, undelivered: VecDeque::new(), stage };
        cells.entries.insert(id.clone(), entry);
        Ok(())
    }

    /// Finds a cell; an answer that waits for it is taken.
    ///
    /// `ended` says whether an id that is not on the list was ever handed out.
    pub(super) fn find(&self, id: &CellId, ended: impl FnOnce() -> bool) -> Found {
        let mut cells = self.lock();
        let Some(entry) = cells.entries.get_mut(id) else {
            return Found::Missing(if cells.evicted.contains(id) {
                ": it finished, and its result was dropped because too many were never fetched"
            } else if ended() {
                ": it already finished and its result was delivered"
            } else {
                ""
            });
        };
        match (entry.undelivered.pop_front(), &entry.stage) {
            (Some(answer), stage) => {
                if entry.undelivered.is_empty() && matches!(stage, Stage::Ended) {
                    cells.entries.remove(id);
                }
                Found::Answer(answer)
            }
            (None, Stage::Live(commands)) => {
                Found::Live(commands.clone(), Arc::clone(&entry.shared))
            }
            // Cannot happen: an ended cell leaves the list with its last answer.
            (None, Stage::Ended) => Found::Missing(""),
        }
    }

    /// The cell has ended. `conclude` runs in the same moment; what it returns goes to the
    /// first of `replies`, and the others receive a copy. Without any it stays for the next
    /// observer.
    pub(super) fn end(
        &self,
        id: &CellId,
        replies: Vec<Reply>,
        conclude: impl FnOnce() -> Conclusion,
        limits: &SessionLimits,
    ) {
        let mut cells = self.lock();
        let Conclusion { response, charge } = conclude();
        cells.live = cells.live.saturating_sub(1);
        let Some(entry) = cells.entries.get_mut(id) else { return };
        entry.stage = Stage::Ended;
        let mut replies = replies.into_iter();
        let observer = replies.next();
        for other in replies {
            // One that has gone away has no need of its copy.
            let _ = other.send(Ok(Answer::Ended(response.clone(), Charge::default())));
        }
        // What never arrived comes before the result, so an observer gets that first.
        entry.undelivered.push_back(Answer::Ended(response, charge));
        if let Some(observer) = observer
            && let Some(answer) = entry.undelivered.pop_front()
            && let Err(Ok(answer)) = observer.send(Ok(answer))
        {
            entry.undelivered.push_front(answer);
        }
        if entry.undelivered.is_empty() {
            cells.entries.remove(id);
        } else {
            cells.keep_unread(id.clone(), limits);
        }
    }

    /// Takes back an answer whose receiver went away before it looked.
    pub(super) fn give_back(
        &self,
        id: &CellId,
        answer: Answer,
        shared: &Arc<Shared>,
        limits: &SessionLimits,
    ) {
        let mut cells = self.lock();
        if let Some(entry) = cells.entries.get_mut(id) {
            entry.undelivered.push_front(answer);
        } else if matches!(answer, Answer::Ended(..)) {
            cells.admitted += 1;
            let entry = Entry {
                number: cells.admitted,
                shared: Arc::clone(shared),
                undelivered: VecDeque::from([answer]),
                stage: Stage::Ended,
            };
            cells.entries.insert(id.clone(), entry);
            cells.keep_unread(id.clone(), limits);
        }
    }

    /// Takes back output whose caller went away before its answer was complete.
    pub(super) fn give_back_content(&self, id: &CellId, content: Content) {
        let mut cells = self.lock();
        if let Some(entry) = cells.entries.get_mut(id) {
            let report = CellReport::default();
            let (cell_id, content_items) = (id.clone(), content.items);
            let yielded = RuntimeResponse::Yielded { cell_id, content_items, report };
            entry.undelivered.push_front(Answer::Yielded(yielded, content.charge));
        }
    }

    /// Every cell that lives or is unread, in the order of their start.
    pub(super) fn list(&self) -> Vec<CellInfo> {
        let cells = self.lock();
        let mut list: Vec<_> = cells.entries.iter().collect();
        list.sort_by_key(|(_, entry)| entry.number);
        list.into_iter()
            .map(|(id, entry)| CellInfo {
                cell_id: id.clone(),
                state: match entry.stage {
                    Stage::Live(_) => entry.shared.state(),
                    Stage::Ended => CellState::Finished,
                },
                age: entry.shared.started.elapsed(),
                calls_in_flight: entry.shared.outbox.calls_in_flight(),
                stuck_at: entry.shared.stuck_at.get().cloned().flatten(),
            })
            .collect()
    }

    /// Admits no cell from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }
}

impl Entry {
    /// Bytes of output that wait to be fetched.
    fn bytes(&self) -> usize {
        self.undelivered.iter().flat_map(Answer::items).map(ContentItem::byte_len).sum()
    }
}

impl Cells {
    /// Notes that a cell ended unread, and drops the oldest results above the limits.
    fn keep_unread(&mut self, id: CellId, limits: &SessionLimits) {
        let Self { entries, unread, evicted, .. } = self;
        let ended =
            |id: &CellId| entries.get(id).is_some_and(|entry| matches!(entry.stage, Stage::Ended));
        unread.retain(|each| *each != id && ended(each));
        unread.push_back(id);
        let sizes: Vec<_> =
            unread.iter().map(|id| entries.get(id).map_or(0, Entry::bytes)).collect();
        let mut bytes: usize = sizes.iter().sum();
        for size in sizes {
            let few = unread.len() <= limits.unread_results;
            if few && (bytes <= limits.unread_bytes || unread.len() == 1) {
                break;
            }
            let Some(oldest) = unread.pop_front() else { break };
            bytes -= size;
            entries.remove(&oldest);
            tracing::warn!("the result of cell {oldest} was dropped: nobody fetched it");
            evicted.insert(oldest);
        }
    }
}
