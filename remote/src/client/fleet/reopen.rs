//! A session that is opened again: the cells that its fleet keeps.

use super::NatsBackend;
use crate::client::cell::{self, Start};
use crate::nats::Subjects;
use crate::nats::listing::{KeptCell, Listing, Question};
use crate::protocol::SeamKeep;
use cellblock::cells::CellStatus;
use cellblock::{CellId, CodeModeError, ExecuteRequest, StoredValues};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a worker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How often workers are asked, and how long to wait in between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Cells that are taken up; the others stay where they are.
const CELLS: usize = 100_000;

impl NatsBackend {
    /// Takes up the cells of the session that the fleet keeps, and returns their ids: they are
    /// the ones that [`wait`](cellblock::CodeModeBackend::wait) and
    /// [`terminate`](cellblock::CodeModeBackend::terminate) had in the client that has started
    /// them. Each goes on when somebody asks for it, and merges what it stores into
    /// `stored_values`. Its nested calls that have not ended were that client's:
    /// [`resume_call`](cellblock::CodeModeTurnHost::resume_call) is asked for them.
    ///
    /// To be called before the first cell is started, and once the other client is known to be
    /// gone: a cell that it still waits for is taken from it, and is stale there.
    ///
    /// # Errors
    /// [`CodeModeError::Unsupported`] without [`with_session`](Self::with_session), and
    /// [`CodeModeError::Unavailable`] when no worker answers that keeps cells.
    pub async fn reopen(&self, stored_values: StoredValues) -> Result<Vec<CellId>, CodeModeError> {
        let Some(session) = self.handle.get() else {
            return Err(CodeModeError::Unsupported(
                "sessions without a name that are opened again",
            ));
        };
        self.refresh(&stored_values).await?;
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let Listing { cells, has_more } = self.listing(session, after.take()).await?;
            after = cells.last().map(|last| last.cell.clone());
            for kept in cells {
                if ids.len() < CELLS {
                    ids.extend(self.take_up(session, kept, &stored_values));
                }
            }
            if !has_more || after.is_none() || ids.len() >= CELLS {
                return Ok(ids);
            }
        }
    }

    /// Asks the workers for cells.
    async fn listing(
        &self,
        session: &str,
        after: Option<String>,
    ) -> Result<Listing, CodeModeError> {
        let unavailable = |error: String| CodeModeError::Unavailable(error);
        let connection = self.fleet.connection().await.map_err(|e| unavailable(e.to_string()))?;
        let question = Question { session: session.to_owned(), after };
        let question = serde_json::to_vec(&question).map_err(|e| unavailable(e.to_string()))?;
        let mut tried = 0;
        loop {
            let subject = Subjects::list(&self.fleet.0.class);
            let asking = connection.nats.client.request(subject, question.clone().into());
            let error = match timeout(ANSWER, asking).await {
                Ok(Ok(answer)) => {
                    let read = serde_json::from_slice(&answer.payload);
                    return read.map_err(|error| {
                        unavailable(format!("a worker's list of cells cannot be read: {error}"))
                    });
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
            };
            tried += 1;
            if tried >= ATTEMPTS {
                let why = format!("no worker says which cells the fleet keeps: {error}");
                return Err(unavailable(why));
            }
            sleep(PAUSE).await;
        }
    }

    /// Takes a cell up, unless there is one with its id here.
    fn take_up(&self, session: &str, kept: KeptCell, stored: &StoredValues) -> Option<CellId> {
        let KeptCell { cell, id, class } = kept;
        let shared = Arc::clone(&self.cells.session);
        let status = Arc::new(CellStatus::default());
        let (entry, commands) = match shared.registry.admit(&id, &status) {
            Ok(admitted) => admitted,
            Err(error) => {
                tracing::warn!("a cell that is kept was not taken up: {error}");
                return None;
            }
        };
        self.cells.note_id(&id);
        let keep = SeamKeep {
            cell,
            session: Some(session.to_owned()),
            id: id.clone(),
            client: self.client.clone(),
        };
        shared.tasks.spawn(cell::run(Start {
            entry,
            id: id.clone(),
            request: ExecuteRequest::default(),
            stored: stored.clone(),
            session: Arc::clone(&shared),
            status,
            commands,
            first: None,
            wake: None,
            kept: Some((keep, class)),
        }));
        Some(id)
    }
}
