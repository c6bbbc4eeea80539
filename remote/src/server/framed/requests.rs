//! What a framed client asks for: each request is admitted in the order of arrival, and
//! what takes time is a task of its own.

use super::super::error::ServeError;
use super::super::session::{CellRequest, Program, Session, Wait, begun};
use super::super::{AskedLimits, REMEMBERED_IDS, SESSIONS};
use super::turn_host::ClientTurnHost;
use super::{Connection, OpenSession, Result, send_changes};
use crate::in_flight::{InFlightGuard, NotInserted};
use crate::protocol::{
    ClientMessage, ExecutionLimits, HostMessage, OperationRequest, OperationValue, Outcome,
    Refusal, SeamOpen, StoredDelta, TimedWaitOutcome, frame,
};
use cellblock::support::{RecentSet, lock};
use cellblock::{CellId, CodeModeError, Language, WaitRequest};
use futures_util::{Stream, StreamExt};
use std::sync::Arc;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

type Refusable<T> = std::result::Result<T, Refusal>;

/// A request that is carried out: in flight until it is dropped.
type Running = InFlightGuard<i64, CancellationToken>;

/// The client's messages.
pub(super) struct Requests<'a> {
    connection: &'a Arc<Connection>,
    /// Ids of requests: one that comes twice breaks the protocol.
    used: RecentSet<i64>,
}

impl<'a> Requests<'a> {
    pub(super) fn new(connection: &'a Arc<Connection>) -> Self {
        Self { connection, used: RecentSet::new(REMEMBERED_IDS) }
    }

    /// Reads until the client ends its side, or breaks the protocol.
    pub(super) async fn read<I>(mut self, frames: &mut I) -> Result<()>
    where
        I: Stream<Item = Result<Bytes>> + Unpin,
    {
        while let Some(payload) = frames.next().await {
            match frame::decode(&payload?)? {
                ClientMessage::Hello { .. } => return Err(ServeError::SecondHello),
                ClientMessage::Request { id, request } => self.request(id, *request).await?,
                ClientMessage::Cancel { id } => {
                    // One that was answered meanwhile is not there any more.
                    if let Some(cancelled) = self.connection.requests.get(&id) {
                        cancelled.cancel();
                    }
                }
                ClientMessage::DelegateResponse { id, result } => {
                    // A late answer to what was cancelled is expected, and of no use.
                    if let Some(reply) = self.connection.delegates.complete(&id) {
                        let _ = reply.send(result.into());
                    }
                }
            }
        }
        Ok(())
    }

    async fn request(&mut self, id: i64, mut request: OperationRequest) -> Result<()> {
        if !self.used.insert(id) {
            return Err(ServeError::RequestIdUsed(id));
        }
        let stored = self.connection.take_over_stored(&mut request);
        let (requests, cancelled) = (&self.connection.requests, CancellationToken::new());
        let running = match request {
            // What ends cells is always taken.
            OperationRequest::Terminate { .. } | OperationRequest::Shutdown { .. } => {
                requests.insert_beyond(id, cancelled.clone())
            }
            _ => requests.insert(id, cancelled.clone()),
        };
        let connection = self.connection;
        match running {
            Ok(running) => match stored {
                Ok(()) => connection.carry_out(running, request, cancelled).await,
                Err(refusal) => connection.answer(id, Err(refusal)).await,
            },
            Err(NotInserted::Full) => connection.answer(id, Err(Refusal::TooManyRequests)).await,
            Err(NotInserted::Duplicate) => return Err(ServeError::RequestIdUsed(id)),
            // The connection ends.
            Err(NotInserted::Closed) => {}
        }
        Ok(())
    }
}

impl Connection {
    async fn carry_out(
        self: &Arc<Self>,
        running: Running,
        request: OperationRequest,
        cancelled: CancellationToken,
    ) {
        let id = *running.key();
        let refused = match request {
            OperationRequest::Open { session_id, cell_execution_limits, seam } => {
                let opened =
                    self.open(&session_id, cell_execution_limits.unwrap_or_default(), seam);
                drop(running);
                self.answer(id, opened.map(|()| OperationValue::SessionReady { session_id })).await;
                Ok(())
            }
            OperationRequest::Execute { session_id, mut request, seam } => {
                // The contract's own programs are JavaScript.
                request.language = seam.as_ref().map_or(Language::Js, |seam| seam.language);
                let seam = seam.unwrap_or_default();
                let until_frontier = seam.until_frontier;
                request.wants_value = seam.wants_value;
                match seam.regional.0 {
                    Ok(regional) => {
                        request.regional = regional;
                        let program =
                            Program { request, until_frontier, wake: seam.wake, keep: seam.keep };
                        self.execute(running, &session_id, program).await
                    }
                    Err(why) => Err(CodeModeError::InvalidRequest(why).into()),
                }
            }
            OperationRequest::Wait { session_id, request, until_frontier, park, keep } => {
                let WaitRequest { cell_id, yield_time_ms } = request;
                let wait = match (park, keep, until_frontier) {
                    (true, true, _) => Wait::Keep,
                    (true, false, _) => Wait::Park,
                    (false, _, true) => Wait::Frontier,
                    (false, _, false) => Wait::Yield(yield_time_ms),
                };
                self.wait(running, &session_id, cell_id, wait, cancelled)
            }
            OperationRequest::Terminate { session_id, cell_id } => {
                self.terminate(running, &session_id, cell_id)
            }
            OperationRequest::Shutdown { session_id } => self.shutdown(running, session_id),
        };
        if let Err(refusal) = refused {
            self.answer(id, Err(refusal)).await;
        }
    }

    /// Answers a request.
    async fn answer(&self, id: i64, value: Refusable<OperationValue>) {
        let result = Outcome::from(value.map_err(|refusal| refusal.to_string()));
        self.outbox.send(HostMessage::Response { id, result }).await;
    }

    /// Takes over the change of stored values that an execute brings. That comes before all
    /// else: the client counts on it whether or not the program is admitted.
    fn take_over_stored(&self, request: &mut OperationRequest) -> Refusable<()> {
        let (session_id, seam) = match request {
            OperationRequest::Execute { session_id, seam: Some(seam), .. } => (session_id, seam),
            OperationRequest::Open { seam: Some(_), .. }
            | OperationRequest::Wait { until_frontier: true, .. }
            | OperationRequest::Wait { park: true, .. }
                if !self.granted.seam =>
            {
                return Err(Refusal::SeamNotGranted);
            }
            _ => return Ok(()),
        };
        if !self.granted.seam {
            return Err(Refusal::SeamNotGranted);
        }
        let delta: StoredDelta = std::mem::take(&mut seam.stored);
        self.session(session_id)?.take_over_stored(delta)
    }

    fn open(
        self: &Arc<Self>,
        session_id: &str,
        limits: ExecutionLimits,
        seam: Option<SeamOpen>,
    ) -> Refusable<()> {
        Refusal::check_identifier("code-mode session ID", session_id)?;
        if limits != ExecutionLimits::default() && !self.granted.limits {
            return Err(Refusal::LimitsNotGranted);
        }
        let limits =
            AskedLimits { execution: limits, cell: seam.and_then(|seam| seam.cell_limits) };
        let mut sessions = lock(&self.sessions);
        if sessions.open.contains_key(session_id) {
            return Err(Refusal::SessionOpen(session_id.to_owned()));
        }
        if sessions.open.len() >= SESSIONS {
            return Err(Refusal::TooManySessions);
        }
        if sessions.used.contains(session_id) {
            return Err(Refusal::SessionReused(session_id.to_owned()));
        }
        let (session, closed) = Session::open(&self.server, limits, self.granted.seam)?;
        let client = ClientTurnHost::new(self, session_id, &session);
        let worker = session.serve(Arc::new(client));
        let changes =
            send_changes(self.outbox.clone(), session_id.to_owned(), closed, self.granted);
        let changes = tokio::spawn(changes);
        sessions.used.insert(session_id.to_owned());
        sessions
            .open
            .insert(session_id.to_owned(), OpenSession { session, _worker: worker, changes });
        Ok(())
    }

    async fn execute(
        self: &Arc<Self>,
        running: Running,
        session_id: &str,
        program: Program,
    ) -> Refusable<()> {
        let cell = self.session(session_id)?.admit(&program.request)?;
        let cell_id = cell.cell_id().clone();
        self.answer(*running.key(), Ok(OperationValue::ExecutionStarted { cell_id })).await;
        let connection = Arc::clone(self);
        // Before the client's next message is read, which may be to end the cell.
        let executing = begun(async move { (cell.execute(program).await, cell) });
        self.tasks.spawn(async move {
            let (initial, cell) = executing.await;
            let initial = initial.map_err(|refusal| refusal.to_string());
            let id = *running.key();
            drop(running);
            connection
                .outbox
                .send(HostMessage::InitialResponse { id, result: initial.into() })
                .await;
            drop(cell);
        });
        Ok(())
    }

    fn wait(
        self: &Arc<Self>,
        running: Running,
        session_id: &str,
        cell_id: CellId,
        wait: Wait,
        cancelled: CancellationToken,
    ) -> Refusable<()> {
        let cell = Arc::new(self.cell_request(session_id, cell_id)?);
        let waited = Arc::clone(&cell);
        self.answer_later(running, cell, async move { waited.wait(wait, &cancelled).await });
        Ok(())
    }

    fn terminate(
        self: &Arc<Self>,
        running: Running,
        session_id: &str,
        cell_id: CellId,
    ) -> Refusable<()> {
        let cell = Arc::new(self.cell_request(session_id, cell_id)?);
        let ended = Arc::clone(&cell);
        // The cell knows of it before the client's next message is read, which may answer the
        // notification that the cell waits for.
        let ending = begun(async move { ended.terminate().await });
        self.answer_later(running, cell, ending);
        Ok(())
    }

    fn cell_request(&self, session_id: &str, cell_id: CellId) -> Refusable<CellRequest> {
        let session = self.session(session_id)?;
        Refusal::check_identifier("code-mode cell ID", cell_id.as_ref())?;
        Ok(session.request(cell_id))
    }

    /// Answers a request for a cell in a task of its own.
    fn answer_later(
        self: &Arc<Self>,
        running: Running,
        cell: Arc<CellRequest>,
        carrying_out: impl Future<Output = Refusable<TimedWaitOutcome>> + Send + 'static,
    ) {
        let connection = Arc::clone(self);
        self.tasks.spawn(async move {
            let outcome = carrying_out.await;
            let id = *running.key();
            drop(running);
            let value = outcome.map(|outcome| OperationValue::WaitCompleted { outcome });
            connection.answer(id, value).await;
            drop(cell);
        });
    }

    fn shutdown(self: &Arc<Self>, running: Running, session_id: String) -> Refusable<()> {
        let closing = lock(&self.sessions).open.remove(&session_id);
        let Some(open) = closing else {
            return self.session(&session_id).map(drop);
        };
        let connection = Arc::clone(self);
        self.tasks.spawn(async move {
            open.close().await;
            let id = *running.key();
            drop(running);
            connection.answer(id, Ok(OperationValue::SessionClosed { session_id })).await;
        });
        Ok(())
    }
}
