//! The cells of a session: those that live, and results that wait to be fetched.
//!
//! The one lock of the backend is here, held for a look-up or a move. Delivering
//! a result and taking the cell off the list happen under it, so that whoever
//! asks finds the cell, or its result, or neither; never a gap.

use super::cell::{Answer, Command};
use super::imports::Outbox;
use crate::backend::{
    CellId, CellInfo, CellReport, CellState, CodeModeError, ContentItem, RuntimeResponse,
};
use crate::limits::SessionLimits;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Results dropped unread whose ids are remembered, for the notice.
const EVICTED_REMEMBERED: usize = 1_024;

/// What a cell's task and everybody else know of it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) started: Instant,
    pub(super) outbox: Arc<Outbox>,
    state: AtomicU8,
}

impl Shared {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self { started: Instant::now(), outbox, state: AtomicU8::new(CellState::Running as u8) }
    }

    pub(super) fn set_state(&self, state: CellState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    fn state(&self) -> CellState {
        match self.state.load(Ordering::Relaxed) {
            state if state == CellState::Running as u8 => CellState::Running,
            state if state == CellState::Waiting as u8 => CellState::Waiting,
            _ => CellState::Ending,
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// Order of admission, for lists.
    number: u64,
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

#[derive(Debug, Default)]
struct Cells {
    entries: HashMap<CellId, Entry>,
    /// Cells that ended unread, oldest first. May name cells that were read since.
    unread: VecDeque<CellId>,
    live: usize,
    admitted: u64,
    /// Ids that were admitted under a number the session handed out.
    evicted: VecDeque<CellId>,
    evicted_ids: HashSet<CellId>,
    closed: bool,
}

/// The cells of one session.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Cells>);

/// Where a request for a cell goes.
pub(super) enum Found {
    Live(mpsc::Sender<Command>, Arc<Shared>),
    Answer(Answer),
    /// There is no such cell; the text says more.
    Missing(&'static str),
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Cells> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            return Found::Missing(if cells.evicted_ids.contains(id) {
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

    /// The cell has ended. `commit` runs in the same moment; the result goes to
    /// whoever waits, or stays for whoever asks next.
    pub(super) fn end(
        &self,
        id: &CellId,
        response: RuntimeResponse,
        observer: Option<oneshot::Sender<Answer>>,
        commit: impl FnOnce(),
        limits: &SessionLimits,
    ) {
        let mut cells = self.lock();
        commit();
        cells.live = cells.live.saturating_sub(1);
        let Some(entry) = cells.entries.get_mut(id) else { return };
        entry.stage = Stage::Ended;
        // What never arrived comes before the result, so an observer gets that first.
        entry.undelivered.push_back(Answer::Ended(response));
        if let Some(observer) = observer
            && let Some(answer) = entry.undelivered.pop_front()
            && let Err(answer) = observer.send(answer)
        {
            entry.undelivered.push_front(answer);
        }
        if entry.undelivered.is_empty() {
            cells.entries.remove(id);
        } else {
            cells.keep_unread(id.clone(), limits.unread_results);
        }
    }

    /// Takes back an answer whose receiver went away before it looked.
    pub(super) fn give_back(&self, id: &CellId, answer: Answer, shared: &Arc<Shared>, keep: usize) {
        let mut cells = self.lock();
        if let Some(entry) = cells.entries.get_mut(id) {
            entry.undelivered.push_front(answer);
        } else if matches!(answer, Answer::Ended(_)) {
            cells.admitted += 1;
            let entry = Entry {
                number: cells.admitted,
                shared: Arc::clone(shared),
                undelivered: VecDeque::from([answer]),
                stage: Stage::Ended,
            };
            cells.entries.insert(id.clone(), entry);
            cells.keep_unread(id.clone(), keep);
        }
    }

    /// Takes back output whose caller went away before its answer was complete.
    pub(super) fn give_back_content(&self, id: &CellId, content_items: Vec<ContentItem>) {
        let mut cells = self.lock();
        if let Some(entry) = cells.entries.get_mut(id) {
            let report = CellReport::default();
            let cell_id = id.clone();
            let yielded = RuntimeResponse::Yielded { cell_id, content_items, report };
            entry.undelivered.push_front(Answer::Yielded(yielded));
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
            })
            .collect()
    }

    /// Admits no cell from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }
}

impl Cells {
    fn keep_unread(&mut self, id: CellId, keep: usize) {
        let ended = |cells: &Self, id: &CellId| {
            cells.entries.get(id).is_some_and(|entry| matches!(entry.stage, Stage::Ended))
        };
        self.unread.push_back(id);
        while self.unread.len() > keep {
            let Some(oldest) = self.unread.pop_front() else { break };
            if !ended(self, &oldest) || self.unread.contains(&oldest) {
                continue;
            }
            self.entries.remove(&oldest);
            tracing::warn!("the result of cell {oldest} was dropped: nobody fetched it");
            if self.evicted.len() >= EVICTED_REMEMBERED
                && let Some(forgotten) = self.evicted.pop_front()
            {
                self.evicted_ids.remove(&forgotten);
            }
            self.evicted_ids.insert(oldest.clone());
            self.evicted.push_back(oldest);
        }
    }
}
