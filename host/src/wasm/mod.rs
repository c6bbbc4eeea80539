//! The in-process backend: each cell in a WebAssembly sandbox of its own.
//!
//! From the outside in: [`WasmBackend`] is the seam; `registry` knows the cells,
//! `cell` is the task that owns one, `callbacks` what it has running on the
//! host's side, `sandbox` the guest's steps, `imports` all that a guest can
//! reach, `engine` and `cache` the machinery.

mod account;
mod answer;
mod bindings;
mod cache;
mod callbacks;
mod cell;
mod engine;
mod error_text;
mod imports;
mod registry;
mod sandbox;
mod session;

pub use engine::{Engine, EngineConfig, EngineError};

use crate::backend::{
    BoxFuture, CellId, CellInfo, CellReport, CodeModeBackend, CodeModeError, CodeModeTurnHost,
    CodeModeTurnWorker, ExecuteRequest, ExecuteToPendingOutcome, RuntimeResponse, WaitOutcome,
    WaitRequest, WaitToPendingOutcome,
};
use crate::clock::{Clock, Random, SystemClock, SystemRandom};
use crate::limits::{CellLimits, SessionLimits, yield_timeout};
use crate::stored::StoredValues;
use crate::tools::ToolDefinition;
use account::Account;
use answer::{Answer, Command, Content, Reply, Until};
use cell::Start;
use imports::Outbox;
use registry::{Found, Shared};
use session::{LiveEntry, Session, ToolSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for a cell's task; it takes them before all else.
const COMMANDS: usize = 8;

/// Bytes that a tool's name, or a request's `tool_call_id`, may have.
const MAX_NAME_BYTES: usize = 1_024;

/// Tools of one request: the guest numbers them in fifteen bits.
const MAX_TOOLS: usize = i16::MAX as usize;

/// Runs cells in this process.
///
/// It must be used within a tokio runtime with its timer enabled. Dropping it
/// ends its cells without waiting for them.
pub struct WasmBackend {
    session: Arc<Session>,
    last_id: AtomicU64,
}

impl WasmBackend {
    /// A session on the process's shared engine with default limits.
    ///
    /// # Errors
    /// As for [`Engine::shared`].
    pub fn new() -> Result<Self, EngineError> {
        Ok(Self::with_limits(&Engine::shared()?, SessionLimits::default()))
    }

    /// A session on an engine with limits of its own.
    pub fn with_limits(engine: &Engine, limits: SessionLimits) -> Self {
        Self::deterministic(
            engine,
            limits,
            Arc::new(SystemClock),
            Arc::new(SystemRandom::default()),
        )
    }

    /// A session whose programs see the clock and the random seeds given here.
    /// With a fixed clock, fixed seeds and the same results from tools in the
    /// same order, a program gives the same output for the same fuel, always.
    pub fn deterministic(
        engine: &Engine,
        limits: SessionLimits,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let session = Arc::new(Session::new(engine.clone(), limits, clock, random));
        Self { session, last_id: AtomicU64::new(0) }
    }

    /// Admits a cell and waits for its first answer.
    async fn start(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
        until: Until,
    ) -> Result<Answer, CodeModeError> {
        let limits = &self.session.limits;
        check(&request, &limits.cell)?;
        let account = Account::new(limits.cell.held_bytes());
        let ToolSet { names: tool_names, bytes: tools } =
            self.session.tool_set(&request.enabled_tools);
        let charges = account.charge(request.source.len()).zip(account.charge(tools));
        let Some((source_charge, tools_charge)) = charges else {
            return Err(CodeModeError::InvalidRequest(format!(
                "the source has {} bytes and the tools have {tools}, and the host may hold {} \
                 bytes for the cell",
                request.source.len(),
                account.limit()
            )));
        };
        let (commands_in, commands) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared::new(Arc::new(Outbox::new(account))));
        self.session.registry.admit(&cell_id, Arc::clone(&shared), commands_in, limits)?;
        let (reply, answer) = oneshot::channel();
        self.session.tasks.spawn(cell::run(Start {
            entry: LiveEntry::new(Arc::clone(&self.session), cell_id.clone()),
            id: cell_id.clone(),
            request,
            stored_values,
            session: Arc::clone(&self.session),
            shared: Arc::clone(&shared),
            commands,
            first: (until, reply),
            tool_names,
            source_charge,
            tools_charge,
        }));
        match self.pending_answer(cell_id.clone(), shared, answer).receive().await {
            Some(answer) => answer,
            // The task died, and left the reason in the registry.
            None => match self.session.registry.find(&cell_id, || true) {
                Found::Answer(answer) => Ok(answer),
                Found::Live(..) | Found::Missing(_) => Err(CodeModeError::EndedUnexpectedly),
            },
        }
    }

    /// Sends a command to a living cell, or takes the answer that waits for it. The
    /// cell that is missing answers too, with the reason.
    async fn ask(
        &self,
        cell_id: &CellId,
        command: impl Fn(Reply) -> Command,
    ) -> Result<Asked, CodeModeError> {
        loop {
            let (commands, shared) =
                match self.session.registry.find(cell_id, || self.was_allocated(cell_id)) {
                    Found::Missing(why) => {
                        return Ok(Asked::Missing(RuntimeResponse::missing(cell_id.clone(), why)));
                    }
                    Found::Answer(answer) => return Ok(Asked::Answer(answer)),
                    Found::Live(commands, shared) => (commands, shared),
                };
            let (reply, answer) = oneshot::channel();
            let pending = self.pending_answer(cell_id.clone(), shared, answer);
            // A cell that ended meanwhile has left its result in the registry, whether it
            // ended by itself or its task died.
            if commands.send(command(reply)).await.is_ok()
                && let Some(answer) = pending.receive().await
            {
                return answer.map(Asked::Answer);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Whether this session has handed out the id.
    fn was_allocated(&self, cell_id: &CellId) -> bool {
        let last = self.last_id.load(Ordering::Relaxed);
        cell_id.as_ref().parse::<u64>().is_ok_and(|id| (1..=last).contains(&id))
    }

    fn pending_answer(
        &self,
        cell_id: CellId,
        shared: Arc<Shared>,
        answer: oneshot::Receiver<Result<Answer, CodeModeError>>,
    ) -> PendingAnswer {
        PendingAnswer { cell_id, session: Arc::clone(&self.session), shared, answer }
    }
}

/// What became of a question for a cell.
enum Asked {
    Answer(Answer),
    Missing(RuntimeResponse),
}

/// An answer on its way. Dropped before it was received, it gives the answer
/// back, so that the next caller receives it.
struct PendingAnswer {
    cell_id: CellId,
    session: Arc<Session>,
    shared: Arc<Shared>,
    answer: oneshot::Receiver<Result<Answer, CodeModeError>>,
}

impl PendingAnswer {
    /// The answer; `None` when the cell ended without one.
    async fn receive(mut self) -> Option<Result<Answer, CodeModeError>> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(answer)) = self.answer.try_recv() {
            let Session { registry, limits, .. } = &*self.session;
            registry.give_back(&self.cell_id, answer, &self.shared, limits);
        }
    }
}

/// Output of an earlier answer that is to be part of the next. Dropped with it still
/// inside, it gives the output back.
struct Earlier<'a> {
    session: &'a Session,
    cell_id: CellId,
    content: Content,
}

impl<'a> Earlier<'a> {
    fn new(session: &'a Session, cell_id: CellId) -> Self {
        Self { session, cell_id, content: Content::default() }
    }

    fn take(&mut self) -> Content {
        std::mem::take(&mut self.content)
    }
}

impl Drop for Earlier<'_> {
    fn drop(&mut self) {
        if !self.content.items.is_empty() {
            let content = self.take();
            self.session.registry.give_back_content(&self.cell_id, content);
        }
    }
}

impl std::fmt::Debug for WasmBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasmBackend").field("cells", &self.cells()).finish_non_exhaustive()
    }
}

impl Drop for WasmBackend {
    fn drop(&mut self) {
        self.session.end();
    }
}

impl CodeModeBackend for WasmBackend {
    fn availability(&self) -> Result<(), CodeModeError> {
        Ok(())
    }

    fn allocate_cell_id(&self) -> Result<CellId, CodeModeError> {
        let next = |last: u64| last.checked_add(1);
        let last = self
            .last_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .map_err(|_| CodeModeError::CellIdsExhausted)?;
        Ok(CellId::new((last + 1).to_string()))
    }

    fn execute(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> BoxFuture<'_, Result<RuntimeResponse, CodeModeError>> {
        Box::pin(async move {
            let until = Until::Yield(yield_timeout(
                request.yield_time_ms,
                self.session.limits.max_yield_time_ms,
            ));
            let answer = self.start(cell_id.clone(), request, stored_values, until).await?;
            Ok(response(cell_id, answer))
        })
    }

    fn wait(&self, request: WaitRequest) -> BoxFuture<'_, Result<WaitOutcome, CodeModeError>> {
        Box::pin(async move {
            let max = self.session.limits.max_yield_time_ms;
            let until = Until::Yield(yield_timeout(Some(request.yield_time_ms), max));
            let observe = |reply| Command::Observe(until, reply);
            Ok(match self.ask(&request.cell_id, observe).await? {
                Asked::Answer(answer) => WaitOutcome::LiveCell(response(request.cell_id, answer)),
                Asked::Missing(missing) => WaitOutcome::MissingCell(missing),
            })
        })
    }

    fn terminate(&self, cell_id: CellId) -> BoxFuture<'_, Result<WaitOutcome, CodeModeError>> {
        Box::pin(async move {
            // What was yielded and never arrived is part of the last answer.
            let mut earlier = Earlier::new(&self.session, cell_id.clone());
            loop {
                match self.ask(&cell_id, Command::Terminate).await? {
                    Asked::Answer(Answer::Ended(mut response, _)) => {
                        response.prepend(earlier.take().items);
                        return Ok(WaitOutcome::LiveCell(response));
                    }
                    Asked::Answer(answer) => earlier.content.append(answer.into_content()),
                    Asked::Missing(missing) => return Ok(WaitOutcome::MissingCell(missing)),
                }
            }
        })
    }

    fn execute_to_pending(
        &self,
        cell_id: CellId,
        request: ExecuteRequest,
        stored_values: StoredValues,
    ) -> BoxFuture<'_, Result<ExecuteToPendingOutcome, CodeModeError>> {
        Box::pin(async move {
            let answer =
                self.start(cell_id.clone(), request, stored_values, Until::Frontier).await?;
            Ok(frontier(cell_id, answer))
        })
    }

    fn wait_to_pending(
        &self,
        cell_id: CellId,
    ) -> BoxFuture<'_, Result<WaitToPendingOutcome, CodeModeError>> {
        Box::pin(async move {
            let mut earlier = Earlier::new(&self.session, cell_id.clone());
            let observe = |reply| Command::Observe(Until::Frontier, reply);
            loop {
                match self.ask(&cell_id, observe).await? {
                    Asked::Answer(yielded @ Answer::Yielded(..)) => {
                        earlier.content.append(yielded.into_content());
                    }
                    Asked::Answer(Answer::Ended(mut response, _)) => {
                        response.prepend(earlier.take().items);
                        let ended = ExecuteToPendingOutcome::Completed(response);
                        return Ok(WaitToPendingOutcome::LiveCell(ended));
                    }
                    Asked::Answer(Answer::Pending(content, calls)) => {
                        let mut all = earlier.take();
                        all.append(content);
                        let pending = frontier(cell_id, Answer::Pending(all, calls));
                        return Ok(WaitToPendingOutcome::LiveCell(pending));
                    }
                    Asked::Missing(missing) => {
                        return Ok(WaitToPendingOutcome::MissingCell(missing));
                    }
                }
            }
        })
    }

    fn cells(&self) -> Vec<CellInfo> {
        self.session.registry.list()
    }

    fn start_turn_worker(&self, host: Arc<dyn CodeModeTurnHost>) -> CodeModeTurnWorker {
        self.session.turns.start(host)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.session.end();
            self.session.tasks.close();
            self.session.tasks.wait().await;
        })
    }
}

/// An answer as a response; a frontier that nobody asked for is a yield.
fn response(cell_id: CellId, answer: Answer) -> RuntimeResponse {
    match answer {
        Answer::Yielded(response, _) | Answer::Ended(response, _) => response,
        Answer::Pending(content, _) => RuntimeResponse::Yielded {
            cell_id,
            content_items: content.items,
            report: CellReport::default(),
        },
    }
}

fn frontier(cell_id: CellId, answer: Answer) -> ExecuteToPendingOutcome {
    match answer {
        Answer::Pending(content, calls) => ExecuteToPendingOutcome::Pending {
            cell_id,
            content_items: content.items,
            pending_tool_call_ids: calls.iter().map(|id| format!("tool-{id}")).collect(),
        },
        other => ExecuteToPendingOutcome::Completed(response(cell_id, other)),
    }
}

/// Refuses a request that is over a limit.
fn check(request: &ExecuteRequest, limits: &CellLimits) -> Result<(), CodeModeError> {
    let invalid = |why| Err(CodeModeError::InvalidRequest(why));
    limits.check().map_err(CodeModeError::InvalidRequest)?;
    let (size, limit) = (request.source.len(), limits.source_bytes);
    if size > limit {
        return invalid(format!("the source is {size} bytes long, and the limit is {limit}"));
    }
    let tools = request.enabled_tools.len();
    if tools > MAX_TOOLS {
        return invalid(format!("{tools} tools are enabled, and the limit is {MAX_TOOLS}"));
    }
    if request.tool_call_id.len() > MAX_NAME_BYTES {
        return invalid(format!("the tool_call_id is longer than {MAX_NAME_BYTES} bytes"));
    }
    let too_long = |tool: &&ToolDefinition| {
        let name = &tool.tool_name;
        let namespace = name.namespace.as_ref().map_or(0, String::len);
        tool.name.len().max(name.name.len()).max(namespace) > MAX_NAME_BYTES
    };
    if let Some(tool) = request.enabled_tools.iter().find(too_long) {
        let start: String = tool.name.chars().take(32).collect();
        return invalid(format!(
            "the name of the tool {start:?}... is longer than {MAX_NAME_BYTES} bytes"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cell_id_allocation_fails_before_wrapping`
    #[test]
    fn ids_run_out_instead_of_starting_again() {
        let backend = WasmBackend::new().unwrap();
        backend.last_id.store(u64::MAX - 1, Ordering::Relaxed);
        assert_eq!(backend.allocate_cell_id(), Ok(u64::MAX.to_string().as_str().into()));
        for _ in 0..2 {
            assert_eq!(backend.allocate_cell_id(), Err(CodeModeError::CellIdsExhausted));
        }
    }
}
