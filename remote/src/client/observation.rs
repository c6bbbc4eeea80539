//! Callers that observe a cell, and the responses that they leave behind.

use super::TRANSPORT;
use super::cell::{Asked, Observed, Observer, RemoteCell};
use super::connection::{Answer, ConnectionError, Failure, WaitId};
use super::session::{Connected, PlacedCell};
use cellblock::{CellReport, RuntimeResponse, WaitOutcome};
use std::task::Poll;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// Observes a cell for as long as it takes; `None` when the wait was cancelled. What
/// still runs on this side of a cell that has ended may take until `deadline`; then
/// the cell yields once more, and its end is left with it.
pub(super) async fn observe(
    place: &PlacedCell,
    waiting: JoinHandle<Observed>,
    asked: Asked,
    wait: Option<WaitId>,
    deadline: Instant,
) -> Option<Observed> {
    let mut observation = Observation::new(place, waiting, asked, wait);
    match observation.receive().await {
        Err(Failure::Cancelled) => None,
        Ok(response) if is_last(&response) => {
            let busy = place.cell.is_busy();
            observation.hold(close(place.clone(), response));
            if !busy {
                return Some(observation.receive().await);
            }
            let closed = timeout_at(deadline, observation.receive()).await;
            Some(closed.unwrap_or_else(|_| Ok(nothing_yet(&place.cell))))
        }
        observed => Some(observed),
    }
}

/// Returns when nothing of a cell runs on this side any more. One that was never
/// admitted never did.
pub(super) async fn ended(place: &PlacedCell) {
    if let (Some(connected), Some(_)) = (place.connected.get(), place.cell.host_id())
        && timeout(TRANSPORT, place.cell.closed.cancelled()).await.is_err()
    {
        connected.connection.fail(ConnectionError::NotClosed);
    }
}

/// Whether a cell has ended with this response.
pub(super) fn is_last(response: &RuntimeResponse) -> bool {
    !matches!(response, RuntimeResponse::Yielded { .. })
}

/// A cell's last response, once nothing of it runs on this side any more.
pub(super) async fn close(place: PlacedCell, response: RuntimeResponse) -> Observed {
    ended(&place).await;
    Ok(response)
}

/// A caller that looks at a cell. Dropped before it heard anything, it leaves what it
/// waited for with the cell, so that the next caller receives it.
pub(super) struct Observation {
    place: PlacedCell,
    waiting: Option<JoinHandle<Observed>>,
    asked: Asked,
    wait: Option<WaitId>,
    /// Whether the caller is the cell's observer; a terminator is beside it.
    observes: bool,
}

impl Observation {
    pub(super) fn new(
        place: &PlacedCell,
        waiting: JoinHandle<Observed>,
        asked: Asked,
        wait: Option<WaitId>,
    ) -> Self {
        Self { place: place.clone(), waiting: Some(waiting), asked, wait, observes: true }
    }

    /// A termination, whose answer any observer receives too.
    pub(super) fn terminating(place: &PlacedCell, waiting: JoinHandle<Observed>) -> Self {
        let observes = false;
        Self {
            place: place.clone(),
            waiting: Some(waiting),
            asked: Asked::Wait,
            wait: None,
            observes,
        }
    }

    /// Goes on with something else to wait for.
    fn hold(&mut self, next: impl Future<Output = Observed> + Send + 'static) {
        self.waiting = Some(tokio::spawn(next));
        (self.asked, self.wait) = (Asked::Wait, None);
    }

    pub(super) async fn receive(&mut self) -> Observed {
        let Some(waiting) = self.waiting.as_mut() else { return Err(lost()) };
        let observed = waiting.await.unwrap_or_else(|_| Err(lost()));
        self.waiting = None;
        observed
    }
}

pub(super) fn lost() -> Failure {
    Failure::Lost(ConnectionError::Bug)
}

impl Drop for Observation {
    fn drop(&mut self) {
        let mut observer = self.place.cell.observer();
        if self.observes || matches!(*observer, Observer::None) {
            *observer = match self.waiting.take() {
                Some(waiting) => Observer::Left(waiting, self.asked),
                None => Observer::None,
            };
        }
        drop(observer);
        if let (Some(wait), Some(connected)) = (self.wait.take(), self.place.connected.get())
            && matches!(*self.place.cell.observer(), Observer::Left(..))
        {
            connected.connection.cancel_wait(&connected.remote, wait);
        }
    }
}

/// Sends a request, and only then does something else that the host may notice.
pub(super) async fn sent_first<T>(
    mut answer: Answer<T>,
    then: impl FnOnce(),
) -> Result<T, Failure> {
    let sent = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
    then();
    match sent {
        Poll::Ready(answered) => answered,
        Poll::Pending => answer.await,
    }
}

/// What a termination comes to. What was on its way to a caller that has gone is part
/// of it.
pub(super) async fn terminated(
    place: PlacedCell,
    connected: Connected,
    answer: Answer<WaitOutcome>,
) -> Observed {
    let cell = &place.cell;
    let mut earlier = Vec::new();
    let come = {
        let mut observer = cell.observer();
        match &*observer {
            Observer::Left(waiting, _) if waiting.is_finished() => {
                Some(std::mem::take(&mut *observer))
            }
            _ => None,
        }
    };
    if let Some(Observer::Left(waiting, _)) = come {
        match waiting.await.unwrap_or_else(|_| Err(lost())) {
            Ok(RuntimeResponse::Yielded { content_items, .. }) => earlier = content_items,
            Err(Failure::Cancelled) => {}
            Ok(last) => return close(place, last).await,
            Err(failure) => return Err(failure),
        }
    }
    let answer = sent_first(answer, || cell.abandon());
    let Ok(answer) = timeout(TRANSPORT, answer).await else {
        let reason = ConnectionError::TimedOut("terminate");
        connected.connection.fail(reason.clone());
        return Err(Failure::Lost(reason));
    };
    let mut response = match answer? {
        WaitOutcome::LiveCell(response) => response,
        WaitOutcome::MissingCell(_) => {
            // It ended meanwhile: the caller that observed it has, or will have, its result.
            let left = {
                let mut observer = cell.observer();
                match &*observer {
                    Observer::Left(..) => std::mem::take(&mut *observer),
                    _ => Observer::None,
                }
            };
            let Observer::Left(waiting, _) = left else {
                return Err(Failure::Missing);
            };
            waiting.await.unwrap_or_else(|_| Err(lost()))?
        }
    };
    response.prepend(earlier);
    close(place, response).await
}

/// The response of a cell that the host knows.
pub(super) fn live(outcome: WaitOutcome) -> Observed {
    match outcome {
        WaitOutcome::LiveCell(response) => Ok(response),
        WaitOutcome::MissingCell(_) => Err(Failure::Missing),
    }
}

/// A yield without output: the cell has not said anything since.
pub(super) fn nothing_yet(cell: &RemoteCell) -> RuntimeResponse {
    RuntimeResponse::Yielded {
        cell_id: cell.id.clone(),
        content_items: Vec::new(),
        report: CellReport::default(),
    }
}
