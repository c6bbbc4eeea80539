//! One call that waits for a cell: asks whoever has to be asked, and shows what there is.

use crate::answer::{Answer, Output, Shown, output};
use crate::catalog::millis;
use crate::gateway::{Answers, Asking, Caller, Gateway};
use crate::host::Cell;
use crate::session::Session;
use cellblock::model::Waited;
use cellblock::{CellId, CodeModeError, ContentItem, RuntimeResponse, WaitOutcome};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked whether a program waits for what cannot come.
const STUCK_POLL: Duration = Duration::from_millis(100);
/// How long questions are gathered that calls of the same moment put.
const GATHER: Duration = Duration::from_millis(30);

/// One call that waits for a cell.
pub(crate) struct Visit<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) id: &'a CellId,
    pub(crate) cell: &'a Arc<Cell>,
    pub(crate) caller: &'a Caller,
    pub(crate) started: Instant,
    /// When to answer if the cell still runs.
    pub(crate) deadline: Instant,
    pub(crate) max_tokens: usize,
}

impl Visit<'_> {
    /// Answers, once everybody has been asked who has to be.
    pub(crate) async fn answer(&self, mut waited: Waited) -> Answer {
        while is_running(&waited) && self.cell.approvals.has_unasked() {
            match &self.caller.asking {
                Asking::Nobody => break,
                Asking::During(ask) => {
                    self.cell.carry(RuntimeResponse::from(waited.outcome).into_content());
                    tokio::time::sleep(GATHER).await;
                    let questions = self.cell.approvals.ask();
                    let asked = Instant::now();
                    let answers = tokio::select! {
                        answers = ask(questions.clone()) => answers,
                        // Somebody has answered elsewhere.
                        () = self.cell.approvals.settled(&questions) => Answers::new(),
                    };
                    for question in &questions {
                        let approved = answers.get(&question.name).copied().unwrap_or(false);
                        self.cell.approvals.answer(&question.name, approved);
                    }
                    // The time that the person took is not that of the program.
                    let deadline = self.deadline + asked.elapsed();
                    waited = match self.go_on(deadline).await {
                        Ok(waited) => waited,
                        Err(error) => return Answer::Done(Output::error(error.to_string())),
                    };
                }
                Asking::ByAnswer => {
                    self.cell.carry(RuntimeResponse::from(waited.outcome).into_content());
                    tokio::time::sleep(GATHER).await;
                    let questions = self.cell.approvals.ask();
                    let names = questions.iter().map(|question| question.name.clone()).collect();
                    let state = self.gateway.0.resumes.put(
                        &self.session.id,
                        self.id,
                        names,
                        self.max_tokens,
                        &self.caller.principal,
                    );
                    return match state {
                        Ok(state) => Answer::InputRequired { questions, state },
                        Err(error) => Answer::Done(Output::error(error.to_string())),
                    };
                }
            }
        }
        if self.caller.tasks && is_running(&waited) {
            // The output is delivered in full at the end.
            self.cell.carry(RuntimeResponse::from(waited.outcome).into_content());
            let name = format!("{}.{}", self.session.id, self.id);
            return self.gateway.0.tasks.begin(name, self);
        }
        Answer::Done(self.output(waited).await)
    }

    /// Waits on after questions were answered. The waiter answers at once while it still
    /// sees a question that it has not named, which is no news by then.
    pub(crate) async fn go_on(&self, deadline: Instant) -> Result<Waited, CodeModeError> {
        let left = || Some(millis(deadline.duration_since(Instant::now())));
        let wait = || self.unless_stuck(self.session.waiter.wait(self.id.clone(), left()));
        let waited = wait().await?;
        let is_news = match &waited.outcome {
            WaitOutcome::LiveCell(RuntimeResponse::Yielded { content_items, .. }) => {
                !content_items.is_empty()
            }
            _ => true,
        };
        if is_news || self.cell.approvals.has_unasked() || Instant::now() >= deadline {
            return Ok(waited);
        }
        wait().await
    }

    /// What the client gets of a response.
    pub(crate) async fn output(&self, mut waited: Waited) -> Output {
        let running = is_running(&waited);
        if let WaitOutcome::LiveCell(response) = &mut waited.outcome {
            let notified = self.cell.notifications().into_iter();
            let notified = notified
                .map(|text| ContentItem::InputText { text: format!("[notification] {text}") });
            let mut earlier = self.cell.carried();
            earlier.extend(notified);
            response.prepend(earlier);
        }
        let implicit = self.gateway.is_implicit(self.session);
        let cell =
            if implicit { self.id.to_string() } else { format!("{}.{}", self.session.id, self.id) };
        let mut notes = Vec::new();
        if failed(&waited) {
            notes.extend(self.cell.unknown.clone());
            notes.extend_from_slice(&self.cell.catalog.notes);
        }
        let shown = Shown {
            session: &self.session.id,
            cell: &cell,
            name_session: !implicit,
            wall_time: self.started.elapsed(),
            max_tokens: self.max_tokens,
            prelude: self.cell.catalog.prelude.len(),
            notes: &notes,
        };
        let output = output(waited, &shown);
        if !running {
            self.session.ended(self.id).await;
            self.gateway.0.sessions.bound_values();
        }
        output
    }

    /// Ends a program that waits for what cannot come.
    pub(crate) async fn unless_stuck(
        &self,
        work: impl Future<Output = Result<Waited, CodeModeError>>,
    ) -> Result<Waited, CodeModeError> {
        tokio::select! {
            waited = work => waited,
            place = self.session.service.until_stuck(self.id, STUCK_POLL) => {
                let outcome = self.session.waiter.terminate(self.id.clone()).await?;
                let response = RuntimeResponse::from(outcome).unsettled(place);
                self.cell.record_end(&response);
                Ok(Waited { outcome: WaitOutcome::LiveCell(response), activity: None })
            }
        }
    }
}

pub(crate) fn is_running(waited: &Waited) -> bool {
    matches!(waited.outcome, WaitOutcome::LiveCell(RuntimeResponse::Yielded { .. }))
}

fn failed(waited: &Waited) -> bool {
    matches!(
        waited.outcome,
        WaitOutcome::LiveCell(RuntimeResponse::Result { error_text: Some(_), .. })
    )
}
