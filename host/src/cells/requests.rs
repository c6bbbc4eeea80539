//! Requests of callers for a cell, and the answers that they go away from.

use super::answer::{Answer, Command, Content, Offer, Reply, Until};
use super::registry::{Found, Registry};
use super::status::CellStatus;
use crate::backend::{
    CellId, CellReport, CodeModeError, ExecuteToPendingOutcome, Parked, RuntimeResponse,
    WaitOutcome, WaitToPendingOutcome,
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The outcome of a request for a cell.
#[derive(Debug)]
pub enum Asked {
    /// The cell has answered.
    Answer(Answer),
    /// There is no such cell, or no longer.
    Missing(RuntimeResponse),
}

impl Registry {
    /// The first answer of a cell that was just admitted, from the other end of the reply
    /// that its task has.
    ///
    /// # Errors
    /// Those that the task replies, and [`CodeModeError::EndedUnexpectedly`] when it died.
    pub async fn first_answer(
        &self,
        cell_id: CellId,
        status: Arc<CellStatus>,
        answer: oneshot::Receiver<Result<Answer, CodeModeError>>,
    ) -> Result<Answer, CodeModeError> {
        let pending = self.pending_answer(cell_id.clone(), status, answer);
        match pending.receive().await {
            Some(answer) => answer,
            // The task died, and left the reason in the registry.
            None => match self.find(&cell_id, || true) {
                Found::Answer(answer) => Ok(answer),
                Found::Live(..) | Found::Missing(_) => Err(CodeModeError::EndedUnexpectedly),
            },
        }
    }

    /// Sends a command to a living cell, or takes the answer that waits for its caller.
    /// `was_allocated` says whether an id that is not in the registry was ever handed out.
    ///
    /// # Errors
    /// Those that the cell's task replies.
    pub async fn ask(
        &self,
        cell_id: &CellId,
        was_allocated: impl Fn() -> bool,
        command: impl Fn(Reply) -> Command,
    ) -> Result<Asked, CodeModeError> {
        loop {
            let (commands, status) = match self.find(cell_id, &was_allocated) {
                Found::Missing(why) => {
                    return Ok(Asked::Missing(RuntimeResponse::missing(cell_id.clone(), why)));
                }
                Found::Answer(answer) => return Ok(Asked::Answer(answer)),
                Found::Live(commands, status) => (commands, status),
            };
            let (reply, answer) = oneshot::channel();
            let pending = self.pending_answer(cell_id.clone(), status, answer);
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

    /// Waits for a cell's next answer.
    ///
    /// # Errors
    /// As for [`Registry::ask`].
    pub async fn wait(
        &self,
        cell_id: CellId,
        until: Until,
        was_allocated: impl Fn() -> bool,
    ) -> Result<WaitOutcome, CodeModeError> {
        let observe = |reply| Command::Observe(until, reply);
        Ok(match self.ask(&cell_id, was_allocated, observe).await? {
            Asked::Answer(answer) => WaitOutcome::LiveCell(answer.into_response(cell_id)),
            Asked::Missing(missing) => WaitOutcome::MissingCell(missing),
        })
    }

    /// Terminates a cell. What was yielded before and never received is part of the answer.
    ///
    /// # Errors
    /// As for [`Registry::ask`].
    pub async fn terminate(
        &self,
        cell_id: CellId,
        was_allocated: impl Fn() -> bool,
    ) -> Result<WaitOutcome, CodeModeError> {
        let mut earlier = self.earlier(&cell_id);
        loop {
            match self.ask(&cell_id, &was_allocated, Command::Terminate).await? {
                Asked::Answer(Answer::Ended(mut response, _)) => {
                    response.prepend(earlier.take().items);
                    return Ok(WaitOutcome::LiveCell(response));
                }
                Asked::Answer(answer) => earlier.append(answer.into_content()),
                Asked::Missing(missing) => return Ok(WaitOutcome::MissingCell(missing)),
            }
        }
    }

    /// Parks a cell once its program waits. Its answers that no caller received go with it.
    ///
    /// # Errors
    /// [`ParkError::Missing`](crate::ParkError::Missing), [`ParkError::Ended`](crate::ParkError::Ended), and those that the cell's task replies.
    pub async fn park(
        &self,
        cell_id: CellId,
        was_allocated: impl Fn() -> bool,
    ) -> Result<Parked, CodeModeError> {
        loop {
            let commands = self.living(&cell_id, &was_allocated)?;
            let (reply, offer) = oneshot::channel();
            // A cell that ended meanwhile, or has waited too long for its offer to be
            // accepted, is looked for again.
            if commands.send(Command::Park(reply)).await.is_ok()
                && let Ok(offer) = offer.await
            {
                let Offer { parked, accept } = offer?;
                if accept.send(()).is_ok() {
                    self.forget_parked(&cell_id);
                    return Ok(parked);
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a cell is frozen or has ended. What was yielded before and never received
    /// is part of the answer.
    ///
    /// # Errors
    /// As for [`Registry::ask`].
    pub async fn wait_to_pending(
        &self,
        cell_id: CellId,
        was_allocated: impl Fn() -> bool,
    ) -> Result<WaitToPendingOutcome, CodeModeError> {
        let mut earlier = self.earlier(&cell_id);
        let observe = |reply| Command::Observe(Until::Frontier, reply);
        loop {
            match self.ask(&cell_id, &was_allocated, observe).await? {
                Asked::Answer(yielded @ Answer::Yielded(..)) => {
                    earlier.append(yielded.into_content());
                }
                Asked::Answer(Answer::Ended(mut response, _)) => {
                    response.prepend(earlier.take().items);
                    let ended = ExecuteToPendingOutcome::Completed(response);
                    return Ok(WaitToPendingOutcome::LiveCell(ended));
                }
                Asked::Answer(Answer::Pending(content, calls)) => {
                    let mut all = earlier.take();
                    all.append(content);
                    let pending = Answer::Pending(all, calls).into_frontier(cell_id);
                    return Ok(WaitToPendingOutcome::LiveCell(pending));
                }
                Asked::Missing(missing) => {
                    return Ok(WaitToPendingOutcome::MissingCell(missing));
                }
            }
        }
    }

    /// No earlier output yet.
    fn earlier(&self, cell_id: &CellId) -> Earlier<'_> {
        Earlier { registry: self, cell_id: cell_id.clone(), content: Content::default() }
    }

    fn pending_answer(
        &self,
        cell_id: CellId,
        status: Arc<CellStatus>,
        answer: oneshot::Receiver<Result<Answer, CodeModeError>>,
    ) -> PendingAnswer {
        PendingAnswer { registry: self.clone(), cell_id, status, answer }
    }
}

impl Answer {
    /// The answer to a caller that waits for the frontier.
    pub fn into_frontier(self, cell_id: CellId) -> ExecuteToPendingOutcome {
        match self {
            Self::Pending(content, calls) => ExecuteToPendingOutcome::Pending {
                cell_id,
                content_items: content.items,
                pending_tool_call_ids: calls.iter().map(|id| format!("tool-{id}")).collect(),
            },
            other => ExecuteToPendingOutcome::Completed(other.into_response(cell_id)),
        }
    }

    /// The answer as a response; a frontier that no caller waits for is a yield.
    pub fn into_response(self, cell_id: CellId) -> RuntimeResponse {
        match self {
            Self::Yielded(response, _) | Self::Ended(response, _) => response,
            Self::Pending(content, _) => RuntimeResponse::Yielded {
                cell_id,
                content_items: content.items,
                report: CellReport::default(),
            },
        }
    }
}

/// An answer on its way. Dropped before it was received, it gives the answer
/// back, so that the next caller receives it.
struct PendingAnswer {
    registry: Registry,
    cell_id: CellId,
    status: Arc<CellStatus>,
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
            self.registry.give_back(&self.cell_id, answer, &self.status);
        }
    }
}

/// Output of earlier answers that is to be part of the next. Dropped with it still
/// inside, it gives the output back.
struct Earlier<'a> {
    registry: &'a Registry,
    cell_id: CellId,
    content: Content,
}

impl Earlier<'_> {
    /// Adds the output of one more answer.
    fn append(&mut self, later: Content) {
        self.content.append(later);
    }

    /// The output, for the answer that it is part of.
    fn take(&mut self) -> Content {
        std::mem::take(&mut self.content)
    }
}

impl Drop for Earlier<'_> {
    fn drop(&mut self) {
        if !self.content.items.is_empty() {
            let content = self.take();
            self.registry.give_back_content(&self.cell_id, content);
        }
    }
}
