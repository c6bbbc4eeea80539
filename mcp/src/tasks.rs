//! Cells as tasks, for clients that follow those: such a client gets the whole output at the
//! end, and spends no turn of its model on waiting.

use crate::answer::{Answer, Output};
use crate::approval::Question;
use crate::gateway::{Answers, Asking, Caller, Gateway};
use crate::host::Cell;
use crate::session::{Principal, Session};
use crate::visit::{Visit, is_running};
use cellblock::support::lock;
use cellblock::{CellId, CodeModeError, RuntimeResponse};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a client may wait before it asks again.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// How long what became of a task is kept.
pub(crate) const KEPT: Duration = Duration::from_hours(1);
/// Ended tasks that are kept.
const MAX_ENDED: usize = 1_000;
/// Bytes of output that are kept of ended tasks.
const MAX_ENDED_BYTES: usize = 128 << 20;
/// How long a task lets somebody else wait for its cell.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// The tasks of a gateway.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<HashMap<String, Entry>>);

struct Entry {
    principal: Principal,
    created: SystemTime,
    stage: Stage,
    /// Is sent to whenever the task stands otherwise than before.
    changes: watch::Sender<()>,
}

enum Stage {
    Live(Live),
    Ended { end: End, at: Instant, bytes: usize },
}

/// A cell that goes on as a task.
#[derive(Clone)]
struct Live {
    session: Arc<Session>,
    id: CellId,
    cell: Arc<Cell>,
    max_tokens: usize,
    /// The client has cancelled it.
    cancelled: CancellationToken,
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

impl TaskState {
    /// Whether nothing will change any more.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Cancelled)
    }
}

impl Tasks {
    /// Keeps a cell that goes on as a task.
    pub(crate) fn begin(&self, name: String, visit: &Visit<'_>) -> Answer {
        let mut tasks = lock(&self.0);
        // A cell that was a task before, and was resumed, stays the same task.
        if let Some(task) = tasks.get(&name) {
            return Answer::Task { name, created: task.created };
        }
        let live = Live {
            session: Arc::clone(visit.session),
            id: visit.id.clone(),
            cell: Arc::clone(visit.cell),
            max_tokens: visit.max_tokens,
            cancelled: CancellationToken::new(),
        };
        let created = SystemTime::now();
        let principal = visit.caller.principal.clone();
        let stage = Stage::Live(live.clone());
        let entry =
            Entry { principal: principal.clone(), created, stage, changes: watch::Sender::new(()) };
        tasks.insert(name.clone(), entry);
        drop(tasks);
        tokio::spawn(live.follow(visit.gateway.clone(), name.clone(), principal));
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

    fn has(&self, name: &str, principal: &Principal) -> bool {
        self.find(name, principal, |_| ()).is_some()
    }

    fn live(&self, name: &str, principal: &Principal) -> Option<Live> {
        let live = self.find(name, principal, |task| match &task.stage {
            Stage::Live(live) => Some(live.clone()),
            Stage::Ended { .. } => None,
        });
        live.flatten()
    }

    fn changed(&self, name: &str) {
        if let Some(task) = lock(&self.0).get(name) {
            task.changes.send_replace(());
        }
    }

    /// Keeps how a task has ended, and not much else of it.
    fn end(&self, name: &str, end: End) {
        let mut tasks = lock(&self.0);
        let Some(task) = tasks.get_mut(name) else { return };
        let Stage::Live(live) = &task.stage else { return };
        let end = if live.cancelled.is_cancelled() { End::Cancelled } else { end };
        let bytes = match &end {
            End::Completed(output) => output.byte_len(),
            End::Cancelled => 0,
        };
        task.stage = Stage::Ended { end, at: Instant::now(), bytes };
        task.changes.send_replace(());
        make_room(&mut tasks);
    }

    /// Is sent to whenever a task stands otherwise; `None` when the caller has no such task.
    pub(crate) fn follow(&self, name: &str, principal: &Principal) -> Option<watch::Receiver<()>> {
        self.find(name, principal, |task| task.changes.subscribe())
    }

    /// A task as it is now; `None` when the caller has no such task.
    pub(crate) fn now(&self, name: &str, principal: &Principal) -> Option<TaskNow> {
        self.find(name, principal, |task| {
            let (message, state) = match &task.stage {
                Stage::Ended { end: End::Completed(output), .. } => {
                    (None, TaskState::Completed(output.clone()))
                }
                Stage::Ended { end: End::Cancelled, .. } => (None, TaskState::Cancelled),
                Stage::Live(live) => {
                    let questions = live.cell.approvals.ask();
                    let state = if questions.is_empty() {
                        TaskState::Working
                    } else {
                        TaskState::InputRequired(questions)
                    };
                    (live.session.waits_for(&live.id), state)
                }
            };
            TaskNow { created: task.created, message, state }
        })
    }
}

/// Removes ended tasks that are old, and as long as there are too many, the oldest of who
/// has the most bytes and tasks, so that nobody pushes others out.
fn make_room(tasks: &mut HashMap<String, Entry>) {
    let now = Instant::now();
    tasks.retain(|_, task| match &task.stage {
        Stage::Live(_) => true,
        Stage::Ended { at, .. } => now.duration_since(*at) < KEPT,
    });
    loop {
        let mut held: HashMap<Principal, (usize, usize)> = HashMap::new();
        for task in tasks.values() {
            if let Stage::Ended { bytes, .. } = &task.stage {
                let own = held.entry(task.principal.clone()).or_default();
                *own = (own.0 + bytes, own.1 + 1);
            }
        }
        let bytes: usize = held.values().map(|own| own.0).sum();
        let count: usize = held.values().map(|own| own.1).sum();
        if bytes <= MAX_ENDED_BYTES && count <= MAX_ENDED {
            return;
        }
        let by_bytes = bytes > MAX_ENDED_BYTES;
        let most = held.into_iter().max_by_key(|(_, own)| if by_bytes { own.0 } else { own.1 });
        let Some((principal, _)) = most else { return };
        let own = tasks.iter().filter(|(_, task)| task.principal == principal);
        let oldest = own.filter_map(|(name, task)| match &task.stage {
            Stage::Ended { at, .. } => Some((*at, name.clone())),
            Stage::Live(_) => None,
        });
        let Some((_, name)) = oldest.min() else { return };
        tasks.remove(&name);
    }
}

impl Live {
    /// Waits for the cell until it ends, and keeps its output. Nobody else has to ask for it.
    async fn follow(self, gateway: Gateway, name: String, principal: Principal) {
        let caller = Caller {
            principal,
            implicit_session: false,
            asking: Asking::Nobody,
            tasks: true,
            progress: None,
            cancelled: CancellationToken::new(),
        };
        let now = Instant::now();
        let visit = Visit {
            gateway: &gateway,
            session: &self.session,
            id: &self.id,
            cell: &self.cell,
            caller: &caller,
            started: now,
            deadline: now,
            max_tokens: self.max_tokens,
        };
        let tasks = &gateway.0.tasks;
        let output = loop {
            let wait = self.session.waiter.wait(self.id.clone(), None);
            match visit.unless_stuck(wait).await {
                Ok(waited) if is_running(&waited) => {
                    self.cell.carry(RuntimeResponse::from(waited.outcome).into_content());
                    tasks.changed(&name);
                }
                Ok(waited) => break visit.output(waited).await,
                Err(CodeModeError::AlreadyObserved(_)) => tokio::time::sleep(ELSEWHERE).await,
                Err(error) => break Output::error(error.to_string()),
            }
        };
        tasks.end(&name, End::Completed(output));
    }
}

impl Gateway {
    /// Answers questions of a task. False when the caller has no such task.
    pub(crate) fn answer_task(&self, name: &str, answers: &Answers, caller: &Caller) -> bool {
        let tasks = &self.0.tasks;
        if !tasks.has(name, &caller.principal) {
            return false;
        }
        if let Some(live) = tasks.live(name, &caller.principal) {
            for (question, approved) in answers {
                live.cell.approvals.answer(question, *approved);
            }
            tasks.changed(name);
        }
        true
    }

    /// Ends the cell of a task. False when the caller has no such task.
    pub(crate) async fn cancel_task(&self, name: &str, caller: &Caller) -> bool {
        let tasks = &self.0.tasks;
        if !tasks.has(name, &caller.principal) {
            return false;
        }
        if let Some(live) = tasks.live(name, &caller.principal) {
            live.cancelled.cancel();
            // That it has ended by itself is as well.
            let _ = live.session.waiter.terminate(live.id.clone()).await;
            tasks.end(name, End::Cancelled);
            live.session.ended(&live.id).await;
        }
        true
    }
}
