//! The gateway: one server in front of many. It knows nothing of how the protocol is
//! written, which is the business of `protocol`.

use crate::answer::{Answer, Output};
use crate::approval::Question;
use crate::arguments::{ExecCall, WaitCall};
use crate::catalog::{Catalog, millis};
use crate::config::{Config, tool_identifier};
use crate::host::{Audience, Cell};
use crate::options::Options;
use crate::policy::Rule;
use crate::resume::Resumes;
use crate::session::{Principal, Session, Sessions};
use crate::state::StateFolder;
use crate::tasks::Tasks;
use crate::upstream::{ProgressSink, Upstreams};
use crate::visit::Visit;
use cellblock::model::{SavedScript, Waited};
use cellblock::support::lock;
use cellblock::{BoxFuture, CellId, ExecuteRequest};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long `exec` waits before the program goes on as a task.
const TASK_GRACE: Duration = Duration::from_secs(10);

/// One server in front of many: programs that clients send call the tools of all of them.
///
/// Cloning is cheap and gives another handle to the same gateway.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) upstreams: Upstreams,
    pub(crate) rules: Vec<Rule>,
    scripts: Vec<SavedScript>,
    pub(crate) options: Options,
    pub(crate) sessions: Sessions,
    pub(crate) resumes: Resumes,
    pub(crate) tasks: Tasks,
    /// The catalog, and the count of changes after which it was made.
    catalog: Mutex<Option<(u64, Arc<Catalog>)>>,
    /// The session of calls that name none, on standard streams.
    implicit: OnceCell<Arc<Session>>,
}

/// Who calls a tool of this server, and how they can be reached meanwhile.
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// Calls that name no session share one.
    pub(crate) implicit_session: bool,
    pub(crate) asking: Asking,
    /// The client follows tasks.
    pub(crate) tasks: bool,
    pub(crate) progress: Option<ProgressSink>,
    pub(crate) cancelled: CancellationToken,
}

/// How a person can be asked.
pub(crate) enum Asking {
    /// Not at all.
    Nobody,
    /// During the call. The answers are by the names of the questions.
    During(Box<dyn Fn(Vec<Question>) -> BoxFuture<'static, Answers> + Send + Sync>),
    /// The call is answered with the questions, and sent again with the answers.
    ByAnswer,
}

/// Answers by the names of their questions: true approves. What is missing is refused.
pub(crate) type Answers = BTreeMap<String, bool>;

impl Gateway {
    /// A gateway to the servers of a configuration. Nothing is started yet.
    ///
    /// # Errors
    /// When the folder of [`Options::state`] cannot be made.
    pub fn new(config: &Config, options: Options) -> std::io::Result<Self> {
        let state = options.state.as_deref().map(StateFolder::open).transpose()?;
        Ok(Self(Arc::new(Inner {
            upstreams: Upstreams::new(config),
            rules: config.policy.clone(),
            scripts: config.scripts.clone(),
            sessions: Sessions::new(state),
            resumes: Resumes::default(),
            tasks: Tasks::default(),
            catalog: Mutex::default(),
            implicit: OnceCell::new(),
            options,
        })))
    }

    /// Ends all cells and servers, and keeps what was stored.
    pub async fn close(&self) {
        self.0.sessions.close().await;
        self.0.upstreams.close().await;
    }

    /// The tools as they are now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        let changes = *self.0.upstreams.changes().borrow();
        let mut made = lock(&self.0.catalog);
        match &*made {
            Some((at, catalog)) if *at == changes => Arc::clone(catalog),
            _ => {
                let Inner { upstreams, rules, scripts, options, .. } = &*self.0;
                let catalog = Arc::new(Catalog::now(upstreams, rules, scripts, options));
                *made = Some((changes, Arc::clone(&catalog)));
                catalog
            }
        }
    }

    /// The tools once all servers have started, or have had the time for it.
    pub(crate) async fn ready_catalog(&self) -> Arc<Catalog> {
        self.0.upstreams.ready(self.0.options.start_wait, |_| true).await;
        self.catalog()
    }

    /// The tools for a program: the servers that it names have more time to start, for without
    /// them it fails.
    async fn catalog_for(&self, code: &str) -> Arc<Catalog> {
        let Inner { upstreams, options, .. } = &*self.0;
        tokio::join!(
            upstreams.ready(options.start_wait, |_| true),
            upstreams.ready(options.waits.longest, |server| code.contains(&server.alias)),
        );
        self.catalog()
    }

    /// Counts the changes of the tools.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.upstreams.changes()
    }

    /// Runs a program.
    pub(crate) async fn exec(&self, call: ExecCall, caller: &Caller) -> Answer {
        let started = Instant::now();
        let session = match self.session(call.session.as_deref(), caller).await {
            Ok(session) => session,
            Err(error) => return Answer::Done(Output::error(error)),
        };
        let catalog = tokio::select! {
            catalog = self.catalog_for(&call.code) => catalog,
            () = caller.cancelled.cancelled() => return cancelled(),
        };
        if let Some(script) = &call.script
            && let Some(error) = unknown_script(script, &catalog)
        {
            return Answer::Done(Output::error(error));
        }
        let id = match session.service.allocate_cell_id() {
            Ok(id) => id,
            Err(error) => return Answer::Done(Output::error(error.to_string())),
        };
        let cell = session.begin(&id, &catalog, &call.code, audience(caller));
        let monitor = self.record(&session, &id, &cell, &call.code);
        let _followed = cell.until_answered();
        let first = self.0.options.waits.first;
        let first = if caller.tasks { first.min(TASK_GRACE) } else { first };
        let first = call.yield_time_ms.unwrap_or(millis(first));
        let request = ExecuteRequest {
            tool_call_id: id.to_string(),
            enabled_tools: Arc::clone(&catalog.enabled),
            source: format!("{}{}", catalog.prelude, call.code),
            yield_time_ms: Some(first),
            max_output_tokens: Some(call.max_output_tokens),
            wants_value: true,
            language: call.language,
            monitor,
            ..ExecuteRequest::default()
        };
        let visit = Visit {
            gateway: self,
            session: &session,
            id: &id,
            cell: &cell,
            caller,
            started,
            deadline: started + Duration::from_millis(first),
            max_tokens: call.max_output_tokens,
        };
        let work = async {
            match visit.unless_stuck(session.waiter.execute(id.clone(), request)).await {
                Ok(waited) => visit.answer(waited).await,
                Err(error) => {
                    if let Some(recording) = cell.recording() {
                        recording.refuse(&error.to_string());
                    }
                    session.ended(&id).await;
                    Answer::Done(Output::error(error.to_string()))
                }
            }
        };
        tokio::select! {
            answer = work => answer,
            () = caller.cancelled.cancelled() => {
                // The client does not know the cell, so nobody else can end it.
                let _ = session.waiter.terminate(id.clone()).await;
                session.ended(&id).await;
                cancelled()
            }
        }
    }

    /// Waits for a cell, or ends it.
    pub(crate) async fn wait(&self, call: WaitCall, caller: &Caller) -> Answer {
        let (session, id) = match self.cell(&call.cell_id, call.session.as_deref(), caller).await {
            Ok(found) => found,
            Err(error) => return Answer::Done(Output::error(error)),
        };
        let how = if call.terminate { How::Terminate } else { How::Wait(call.yield_time_ms) };
        self.visit(&session, &id, call.max_tokens, how, caller).await
    }

    /// Goes on with a call whose questions have been answered. The program is not started
    /// again, whatever the call says.
    pub(crate) async fn resume(&self, state: &str, answers: &Answers, caller: &Caller) -> Answer {
        let Some(resume) = self.0.resumes.take(state, &caller.principal) else {
            return Answer::Done(Output::error(
                "these answers are not awaited, or no longer: each request for approval is \
                 answered once, within its time. The program was not started again",
            ));
        };
        let Inner { sessions, options, .. } = &*self.0;
        let session = match sessions.get(&resume.session, &caller.principal, options).await {
            Ok(session) => session,
            Err(error) => return Answer::Done(Output::error(error.to_string())),
        };
        if let Some(cell) = session.host.cell(&resume.cell) {
            for question in &resume.questions {
                let approved = answers.get(question).copied().unwrap_or(false);
                cell.approvals.answer(question, approved);
            }
        }
        let max_tokens = resume.max_tokens;
        self.visit(&session, &resume.cell, max_tokens, How::GoOn, caller).await
    }

    async fn visit(
        &self,
        session: &Arc<Session>,
        id: &CellId,
        max_tokens: usize,
        how: How,
        caller: &Caller,
    ) -> Answer {
        let started = Instant::now();
        // A cell that is not known any more has no output to be shown with a catalog.
        let cell = session
            .host
            .cell(id)
            .unwrap_or_else(|| Arc::new(Cell::new(self.catalog(), "", Audience::default())));
        cell.set_audience(audience(caller));
        let _followed = cell.until_answered();
        let waits = &self.0.options.waits;
        let wait = match how {
            How::Wait(asked) => waits.wait_time(asked),
            How::GoOn if caller.tasks => waits.first.min(TASK_GRACE),
            How::GoOn | How::Terminate => waits.first,
        };
        let visit = Visit {
            gateway: self,
            session,
            id,
            cell: &cell,
            caller,
            started,
            deadline: started + wait,
            max_tokens,
        };
        let work = async {
            let waited = match how {
                How::Terminate => {
                    let outcome = session.waiter.terminate(id.clone()).await;
                    outcome.map(|outcome| Waited { outcome, activity: None })
                }
                How::Wait(asked) => {
                    visit.unless_stuck(session.waiter.wait(id.clone(), asked)).await
                }
                How::GoOn => visit.go_on(visit.deadline).await,
            };
            match waited {
                Ok(waited) => visit.answer(waited).await,
                Err(error) => Answer::Done(Output::error(error.to_string())),
            }
        };
        tokio::select! {
            answer = work => answer,
            () = caller.cancelled.cancelled() => cancelled(),
        }
    }

    /// The session that a call is for.
    async fn session(&self, id: Option<&str>, caller: &Caller) -> Result<Arc<Session>, String> {
        let Inner { sessions, options, .. } = &*self.0;
        let made = || async { sessions.make(caller.principal.clone(), options) };
        let session = match id {
            Some(id) => sessions.get(id, &caller.principal, options).await,
            None if caller.implicit_session => self.0.implicit.get_or_try_init(made).await.cloned(),
            None => made().await,
        };
        session.map_err(|error| error.to_string())
    }

    /// The cell that a client means, which is named with its session where that is not the
    /// implicit one.
    async fn cell(
        &self,
        cell_id: &str,
        session: Option<&str>,
        caller: &Caller,
    ) -> Result<(Arc<Session>, CellId), String> {
        let (session, cell) = match cell_id.split_once('.') {
            Some((session, cell)) => (Some(session), cell),
            None => (session, cell_id),
        };
        if session.is_none() && !caller.implicit_session {
            return Err(format!("exec cell {cell_id} not found: pass the id as `exec` gave it"));
        }
        let session = self.session(session, caller).await?;
        Ok((session, CellId::from(cell)))
    }

    pub(crate) fn is_implicit(&self, session: &Session) -> bool {
        self.0.implicit.get().is_some_and(|implicit| implicit.id == session.id)
    }
}

/// What a client wants of a cell that it knows.
#[derive(Clone, Copy)]
enum How {
    /// News, within so many milliseconds.
    Wait(Option<u64>),
    /// News, after questions were answered.
    GoOn,
    /// Its end.
    Terminate,
}

fn audience(caller: &Caller) -> Audience {
    Audience {
        progress: caller.progress.clone(),
        can_ask: !matches!(caller.asking, Asking::Nobody),
    }
}

/// Why a script cannot be run; `None` when it can.
fn unknown_script(name: &str, catalog: &Catalog) -> Option<String> {
    let names = catalog.script_names();
    if names.iter().any(|known| tool_identifier(known) == tool_identifier(name)) {
        return None;
    }
    Some(if names.is_empty() {
        "there are no saved scripts here: pass `code`".to_owned()
    } else {
        format!("there is no saved script of this name; there are: {}", names.join(", "))
    })
}

fn cancelled() -> Answer {
    Answer::Done(Output::error("the call was cancelled"))
}
