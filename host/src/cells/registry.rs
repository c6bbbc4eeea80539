//! The cells of a session: those that live, and results that wait to be fetched.
//!
//! The one lock of a backend's cells is here, held for a look-up or a move. Delivering
//! a result and taking the cell off the list happen under it, so that a caller
//! finds the cell, or its result, or neither; never a gap.

use super::account::Charge;
use super::answer::{Answer, Command, Content, Reply};
use super::span::{self, End};
use super::status::CellStatus;
use crate::backend::{
    CellId, CellInfo, CellReport, CodeModeError, ContentItem, ParkError, RuntimeResponse,
};
use crate::limits::SessionLimits;
use crate::recent::RecentSet;
use crate::support::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc;
use tracing::Span;

/// Commands that may wait for a cell's task; it takes them before all else.
const COMMANDS: usize = 8;

/// Results dropped unread whose ids are remembered, for the notice.
const EVICTED_REMEMBERED: usize = 1_024;

/// Parked cells whose ids are remembered, for the notice.
const PARKED_REMEMBERED: usize = 1_024;

#[derive(Debug)]
struct Entry {
    /// Order of admission, for lists.
    number: u64,
    status: Arc<CellStatus>,
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
    /// Cells that were parked, for the notice.
    parked: RecentSet<CellId>,
    /// The session is shutting down.
    closed: bool,
}

/// A cell's last response.
#[derive(Debug)]
pub struct Conclusion {
    /// The response.
    pub response: RuntimeResponse,
    /// What the cell is charged for it.
    pub charge: Charge,
}

/// The cells of one session. Clones are handles to the same cells.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cells: Mutex<Cells>,
    /// Cells that may live at one time.
    live: usize,
    /// Results that may wait to be fetched.
    unread: usize,
    /// Bytes of output that they may hold together.
    unread_bytes: usize,
    /// The session, for traces.
    span: Span,
}

/// Where a request for a cell goes.
#[allow(clippy::large_enum_variant, reason = "one is made for a request and taken apart at once")]
pub(super) enum Found {
    Live(mpsc::Sender<Command>, Arc<CellStatus>),
    Answer(Answer),
    /// There is no such cell; the text says more.
    Missing(&'static str),
}

impl Registry {
    /// A session without cells.
    pub fn new(limits: &SessionLimits) -> Self {
        let cells = Cells {
            entries: HashMap::new(),
            unread: VecDeque::new(),
            live: 0,
            admitted: 0,
            evicted: RecentSet::new(EVICTED_REMEMBERED),
            parked: RecentSet::new(PARKED_REMEMBERED),
            closed: false,
        };
        Self(Arc::new(Shared {
            cells: Mutex::new(cells),
            live: limits.cells,
            unread: limits.unread_results,
            unread_bytes: limits.unread_bytes,
            span: span::session(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Cells> {
        // Nothing that can panic runs under the lock.
        lock(&self.0.cells)
    }

    /// Admits a new cell: its entry, and the commands of its callers. Both belong to the
    /// cell's task.
    ///
    /// # Errors
    /// [`CodeModeError::ShuttingDown`], [`CodeModeError::CellExists`] and
    /// [`CodeModeError::TooManyCells`].
    pub fn admit(
        &self,
        id: &CellId,
        status: &Arc<CellStatus>,
    ) -> Result<(LiveEntry, mpsc::Receiver<Command>), CodeModeError> {
        let mut cells = self.lock();
        if cells.closed {
            return Err(CodeModeError::ShuttingDown);
        }
        if cells.entries.contains_key(id) {
            return Err(CodeModeError::CellExists(id.clone()));
        }
        if cells.live >= self.0.live {
            return Err(CodeModeError::TooManyCells { limit: self.0.live });
        }
        cells.live += 1;
        cells.admitted += 1;
        let number = cells.admitted;
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (status, stage) = (Arc::clone(status), Stage::Live(sender));
        let entry = Entry { number, status, undelivered: VecDeque::new(), stage };
        cells.entries.insert(id.clone(), entry);
        drop(cells);
        let span = span::cell(&self.0.span, id);
        let entry = LiveEntry { registry: self.clone(), id: id.clone(), span, ended: false };
        Ok((entry, commands))
    }

    /// Finds a cell; an answer that waits for it is taken.
    ///
    /// `ended` says whether an id that is not on the list was ever handed out.
    pub(super) fn find(&self, id: &CellId, ended: impl FnOnce() -> bool) -> Found {
        let mut cells = self.lock();
        let Some(entry) = cells.entries.get_mut(id) else {
            return Found::Missing(cells.why_missing(id, ended));
        };
        match (entry.undelivered.pop_front(), &entry.stage) {
            (Some(answer), stage) => {
                if entry.undelivered.is_empty() && matches!(stage, Stage::Ended) {
                    cells.entries.remove(id);
                }
                Found::Answer(answer)
            }
            (None, Stage::Live(commands)) => {
                Found::Live(commands.clone(), Arc::clone(&entry.status))
            }
            // Cannot happen: an ended cell leaves the list with its last answer.
            (None, Stage::Ended) => Found::Missing(""),
        }
    }

    /// The commands of a living cell.
    pub(super) fn living(
        &self,
        id: &CellId,
        ended: impl FnOnce() -> bool,
    ) -> Result<mpsc::Sender<Command>, ParkError> {
        let cells = self.lock();
        match cells.entries.get(id).map(|entry| &entry.stage) {
            Some(Stage::Live(commands)) => Ok(commands.clone()),
            Some(Stage::Ended) => Err(ParkError::Ended(id.clone())),
            None => Err(ParkError::Missing(id.clone(), cells.why_missing(id, ended))),
        }
    }

    /// Whether it is known what became of a cell that is not on the list.
    pub fn is_remembered(&self, id: &CellId) -> bool {
        let cells = self.lock();
        cells.evicted.contains(id) || cells.parked.contains(id)
    }

    /// See [`LiveEntry::unreceived`].
    fn unreceived(&self, id: &CellId) -> Content {
        let mut content = Content::default();
        if let Some(entry) = self.lock().entries.get_mut(id) {
            for answer in entry.undelivered.drain(..) {
                content.append(answer.into_content());
            }
        }
        content
    }

    /// Takes a cell off the list that its caller has accepted as parked.
    pub(super) fn forget_parked(&self, id: &CellId) {
        let mut cells = self.lock();
        cells.live = cells.live.saturating_sub(1);
        cells.entries.remove(id);
        cells.parked.insert(id.clone());
    }

    /// See [`LiveEntry::end`].
    fn end(&self, id: &CellId, replies: Vec<Reply>, conclude: impl FnOnce() -> Conclusion) {
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
            cells.keep_unread(id.clone(), &self.0);
        }
    }

    /// See [`LiveEntry::fail`].
    fn fail(&self, id: &CellId, replies: Vec<Reply>, error: Option<&CodeModeError>) {
        let mut cells = self.lock();
        cells.live = cells.live.saturating_sub(1);
        if let Some(entry) = cells.entries.get_mut(id) {
            entry.stage = Stage::Ended;
            if entry.undelivered.is_empty() {
                cells.entries.remove(id);
            } else {
                cells.keep_unread(id.clone(), &self.0);
            }
        }
        // A reply that is dropped makes its caller ask again, and find that there is no cell.
        for (reply, error) in replies.into_iter().zip(error.into_iter().cycle()) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Takes back an answer whose receiver went away before it looked.
    pub(super) fn give_back(&self, id: &CellId, answer: Answer, status: &Arc<CellStatus>) {
        let mut cells = self.lock();
        if let Some(entry) = cells.entries.get_mut(id) {
            entry.undelivered.push_front(answer);
        } else if matches!(answer, Answer::Ended(..)) {
            cells.admitted += 1;
            let entry = Entry {
                number: cells.admitted,
                status: Arc::clone(status),
                undelivered: VecDeque::from([answer]),
                stage: Stage::Ended,
            };
            cells.entries.insert(id.clone(), entry);
            cells.keep_unread(id.clone(), &self.0);
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
    pub fn list(&self) -> Vec<CellInfo> {
        let cells = self.lock();
        let mut list: Vec<_> = cells.entries.iter().collect();
        list.sort_by_key(|(_, entry)| entry.number);
        list.into_iter()
            .map(|(id, entry)| entry.status.info(id.clone(), matches!(entry.stage, Stage::Ended)))
            .collect()
    }

    /// Admits no cell from now on.
    pub fn close(&self) {
        self.lock().closed = true;
    }
}

/// A living cell's place in the registry, which belongs to the cell's task. Dropped before
/// the cell's end, which is when the task died or its runtime was shut down, it ends the
/// cell for its callers with [`CodeModeError::EndedUnexpectedly`].
#[derive(Debug)]
pub struct LiveEntry {
    registry: Registry,
    id: CellId,
    /// The cell, for traces.
    span: Span,
    ended: bool,
}

impl LiveEntry {
    /// The cell's id.
    pub(super) fn id(&self) -> &CellId {
        &self.id
    }

    /// The cell, for traces.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Ends the cell. `conclude` runs in the same moment; what it returns goes to the
    /// first of `replies`, and the others receive a copy. Without any it stays for the next
    /// caller.
    pub fn end(mut self, replies: Vec<Reply>, conclude: impl FnOnce() -> Conclusion) {
        self.ended = true;
        let mut end = None;
        self.registry.end(&self.id, replies, || {
            let conclusion = conclude();
            end = Some(End::of(&conclusion.response));
            conclusion
        });
        End::record(&self.span, end.as_ref());
    }

    /// Takes back the output of answers that no caller has received.
    pub fn unreceived(&self) -> Content {
        self.registry.unreceived(&self.id)
    }

    /// The cell was parked: the caller that accepted it has taken it off the list.
    pub fn park(mut self) {
        self.ended = true;
        span::parked(&self.span);
    }

    /// Ends the cell without a last response: `replies` receive the error, and without one
    /// their callers find that there is no such cell. What was answered before and not
    /// received stays.
    pub fn fail(mut self, replies: Vec<Reply>, error: Option<&CodeModeError>) {
        self.ended = true;
        End::record(&self.span, None);
        self.registry.fail(&self.id, replies, error);
    }
}

impl Drop for LiveEntry {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        End::record(&self.span, None);
        let response = RuntimeResponse::Result {
            cell_id: self.id.clone(),
            content_items: Vec::new(),
            error_text: Some(CodeModeError::EndedUnexpectedly.to_string()),
            report: CellReport::default(),
        };
        let conclude = || Conclusion { response, charge: Charge::default() };
        self.registry.end(&self.id, Vec::new(), conclude);
    }
}

impl Entry {
    /// Bytes of output that wait to be fetched.
    fn bytes(&self) -> usize {
        self.undelivered.iter().flat_map(Answer::items).map(ContentItem::byte_len).sum()
    }
}

impl Cells {
    /// What the text of a cell that is not on the list goes on with.
    fn why_missing(&self, id: &CellId, ended: impl FnOnce() -> bool) -> &'static str {
        if self.evicted.contains(id) {
            ": it finished, and its result was dropped because too many were never fetched"
        } else if self.parked.contains(id) {
            ": it was parked"
        } else if ended() {
            ": it already finished and its result was delivered"
        } else {
            ""
        }
    }

    /// Notes that a cell ended unread, and drops the oldest results above the limits.
    fn keep_unread(&mut self, id: CellId, limits: &Shared) {
        let Self { entries, unread, evicted, .. } = self;
        let ended =
            |id: &CellId| entries.get(id).is_some_and(|entry| matches!(entry.stage, Stage::Ended));
        unread.retain(|each| *each != id && ended(each));
        unread.push_back(id);
        let sizes: Vec<_> =
            unread.iter().map(|id| entries.get(id).map_or(0, Entry::bytes)).collect();
        let mut bytes: usize = sizes.iter().sum();
        for size in sizes {
            let few = unread.len() <= limits.unread;
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
