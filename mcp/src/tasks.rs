//! Cells as tasks, for clients that follow those: such a client gets the whole output at the
//! end, and spends no turn of its model on waiting.

use crate::answer::{Answer, Output};
use crate::approval::Question;
use crate::gateway::{Answers, Caller, Gateway};
use crate::host::Cell;
use crate::session::{Principal, Session};
use crate::visit::Visit;
use cellblock::support::lock;
use cellblock::{CellId, CellState, CodeModeError, RuntimeResponse, WaitOutcome, WaitRequest};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long a client may wait before it asks again.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// How long what became of a task is kept.
pub(crate) const KEPT: Duration = Duration::from_hours(1);
/// Tasks that are kept; the one that ended first makes room.
const MAX_TASKS: usize = 1_000;
/// How long a look at a task waits for its end.
const LOOK_MS: u64 = 1;

/// The tasks of a gateway.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<HashMap<String, Entry>>);

struct Entry {
    session: Arc<Session>,
    id: CellId,
    cell: Arc<Cell>,
    principal: Principal,
    max_tokens: usize,
    created: SystemTime,
    ended: Option<(End, Instant)>,
}

#[derive(Clone)]
enum End {
    Completed(Output),
    Cancelled,
}

/// A task as it is now.
pub(crate) struct TaskNow {
    pub(crate) created: SystemTime,
    /// What the cell waits for.
    pub(crate) message: Option<String>,
    pub(crate) state: TaskState,
}

/// How a task stands.
pub(crate) enum TaskState {
    Working,
    /// A person has to be asked.
    InputRequired(Vec<Question>),
    /// The cell has ended, as a success or not.
    Completed(Output),
    Cancelled,
}

impl Tasks {
    /// Keeps a cell that goes on as a task.
    pub(crate) fn begin(&self, name: String, visit: &Visit<'_>) -> Answer {
        let entry = Entry {
            session: Arc::clone(visit.session),
            id: visit.id.clone(),
            cell: Arc::clone(visit.cell),
            principal: visit.caller.principal.clone(),
            max_tokens: visit.max_tokens,
            created: SystemTime::now(),
            ended: None,
        };
        let mut tasks = lock(&self.0);
        let now = Instant::now();
        tasks.retain(|_, task| {
            task.ended.as_ref().is_none_or(|(_, at)| now.duration_since(*at) < KEPT)
        });
        if tasks.len() >= MAX_TASKS {
            let ended = tasks.iter().filter_map(|(name, task)| {
                let (_, at) = task.ended.as_ref()?;
                Some((*at, name.clone()))
            });
            if let Some((_, name)) = ended.min() {
                tasks.remove(&name);
            }
        }
        // A cell that was a task before, and was resumed, stays the same task.
        let created = tasks.entry(name.clone()).or_insert(entry).created;
        Answer::Task { name, created }
    }

    fn find<T>(
        &self,
        name: &str,
        principal: &Principal,
        take: impl FnOnce(&Entry) -> T,
    ) -> Option<T> {
        let tasks = lock(&self.0);
        tasks.get(name).filter(|task| task.principal == *principal).map(take)
    }

    fn end(&self, name: &str, end: End) {
        if let Some(task) = lock(&self.0).get_mut(name) {
            task.ended.get_or_insert((end, Instant::now()));
        }
    }
}

impl Gateway {
    /// A task as it is now; `None` when the caller has no such task.
    pub(crate) async fn task(&self, name: &str, caller: &Caller) -> Option<TaskNow> {
        let tasks = &self.0.tasks;
        let (session, id, cell, max_tokens, created, ended) =
            tasks.find(name, &caller.principal, |task| {
                let ended = task.ended.as_ref().map(|(end, _)| end.clone());
                let (session, cell) = (Arc::clone(&task.session), Arc::clone(&task.cell));
                (session, task.id.clone(), cell, task.max_tokens, task.created, ended)
            })?;
        let now = |state| TaskNow { created, message: session.waits_for(&id), state };
        match ended {
            Some(End::Completed(output)) => return Some(now(TaskState::Completed(output))),
            Some(End::Cancelled) => return Some(now(TaskState::Cancelled)),
            None => {}
        }
        let visit = Visit {
            gateway: self,
            session: &session,
            id: &id,
            cell: &cell,
            caller,
            started: Instant::now(),
            deadline: Instant::now(),
            max_tokens,
        };
        let request = WaitRequest { cell_id: id.clone(), yield_time_ms: LOOK_MS };
        let stuck = session
            .service
            .cells()
            .iter()
            .any(|info| info.cell_id == id && info.state == CellState::Stuck);
        let looked = if stuck {
            visit.unless_stuck(std::future::pending()).await.map(|waited| waited.outcome)
        } else {
            session.service.wait(request).await
        };
        match looked {
            Ok(WaitOutcome::LiveCell(RuntimeResponse::Yielded { content_items, .. })) => {
                cell.carry(content_items);
                let questions = cell.approvals.ask();
                Some(now(if questions.is_empty() {
                    TaskState::Working
                } else {
                    TaskState::InputRequired(questions)
                }))
            }
            // Another look at the same task is under way.
            Err(CodeModeError::AlreadyObserved(_)) => Some(now(TaskState::Working)),
            Ok(outcome) => {
                let waited = cellblock::model::Waited { outcome, activity: None };
                let output = visit.output(waited);
                tasks.end(name, End::Completed(output.clone()));
                Some(now(TaskState::Completed(output)))
            }
            Err(error) => {
                let output = Output::error(error.to_string());
                tasks.end(name, End::Completed(output.clone()));
                Some(now(TaskState::Completed(output)))
            }
        }
    }

    /// Answers questions of a task. False when the caller has no such task.
    pub(crate) fn answer_task(&self, name: &str, answers: &Answers, caller: &Caller) -> bool {
        let cell = self.0.tasks.find(name, &caller.principal, |task| Arc::clone(&task.cell));
        for (question, approved) in answers {
            if let Some(cell) = &cell {
                cell.approvals.answer(question, *approved);
            }
        }
        cell.is_some()
    }

    /// Ends the cell of a task. False when the caller has no such task.
    pub(crate) async fn cancel_task(&self, name: &str, caller: &Caller) -> bool {
        let found = self
            .0
            .tasks
            .find(name, &caller.principal, |task| (Arc::clone(&task.session), task.id.clone()));
        let Some((session, id)) = found else { return false };
        if session.service.terminate(id.clone()).await.is_ok() {
            self.0.tasks.end(name, End::Cancelled);
            session.ended(&id, self.0.sessions.state());
        }
        true
    }
}
