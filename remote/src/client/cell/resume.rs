//! A cell whose host has ended goes on in the next one, if the host had kept it.

use super::super::connection::{ConnectionError, Failure, Program};
use super::super::session::Connected;
use super::{OnItsWay, RemoteCell, Stage, executing};
use crate::protocol::{SeamResume, SeamWake};
use cellblock::cells::LiveEntry;
use cellblock::support::lock;
use cellblock::{ExecuteRequest, Keeping, ToolResult};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the next host may take to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long to wait before the second attempt to reach it; twice as long before each that
/// follows, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest time between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Ends of calls that are remembered while a cell's program runs, and their bytes.
const NEWEST: usize = 64;
const NEWEST_BYTES: usize = 256 * 1024;

/// What this side knows of a cell that its host may have kept.
#[derive(Default)]
pub(super) struct InStore {
    /// The name under which the host has kept it, once it has.
    name: Option<String>,
    /// Pieces of output that have come from the cell.
    pub(super) received: u64,
    /// Ends of calls that the kept cell may not have.
    sent: SentEnds,
    /// Why the host before was lost, while the next one is asked to go on with the cell.
    lost: Option<Failure>,
    /// The attempts to reach the next one.
    attempts: Option<Attempts>,
}

/// Attempts to reach the next host.
struct Attempts {
    /// When to give up.
    until: Instant,
    /// The pause before the newest attempt; `None` before the first.
    pause: Option<Duration>,
}

impl Attempts {
    /// The pause before the next attempt; `None` when there is no more time for one.
    fn next(&mut self) -> Option<Duration> {
        let pause = match self.pause {
            None => Duration::ZERO,
            Some(Duration::ZERO) => FIRST_PAUSE,
            Some(pause) => (pause * 2).min(LONGEST_PAUSE),
        };
        self.pause = Some(pause);
        (Instant::now() + pause <= self.until).then_some(pause)
    }
}

/// Ends of calls that were sent to a host which may have kept the cell as it was before: the next
/// host needs them again.
#[derive(Clone, Default)]
pub(super) struct SentEnds(Arc<Mutex<Ends>>);

/// While the cell is kept, all that were sent: as many as a program waits for, and as large as
/// its results may be. While its program runs, the newest up to [`NEWEST`] and [`NEWEST_BYTES`]:
/// the cell may be kept while they are on their way.
#[derive(Default)]
struct Ends {
    is_kept: bool,
    /// The oldest first.
    sent: VecDeque<SentEnd>,
    /// The bytes of all of them.
    bytes: usize,
}

/// The end of one call.
struct SentEnd {
    /// The call's id.
    id: String,
    end: Result<ToolResult, String>,
    bytes: usize,
}

impl Ends {
    fn push(&mut self, end: SentEnd) {
        self.bytes += end.bytes;
        self.sent.push_back(end);
        self.trim();
    }

    /// Drops what is too old to be on its way.
    fn trim(&mut self) {
        let is_over = |ends: &Self| ends.sent.len() > NEWEST || ends.bytes > NEWEST_BYTES;
        // The newest stays, whatever its size.
        while !self.is_kept && self.sent.len() > 1 && is_over(self) {
            if let Some(oldest) = self.sent.pop_front() {
                self.bytes -= oldest.bytes;
            }
        }
    }

    fn take(&mut self, id: &str) -> Option<Result<ToolResult, String>> {
        let place = self.sent.iter().position(|each| each.id == id)?;
        let SentEnd { end, bytes, .. } = self.sent.remove(place)?;
        self.bytes -= bytes;
        Some(end)
    }
}

impl SentEnds {
    /// The end of a call is to be sent.
    pub(super) fn note(
        &self,
        id: String,
        end: Result<ToolResult, String>,
    ) -> Result<ToolResult, String> {
        // Shared text: a copy costs little.
        let shared = |result: ToolResult| {
            result.into_shared().map_err(|error| format!("tool result is {error}"))
        };
        let (end, bytes) = match end.and_then(shared) {
            Ok((result, bytes)) => (Ok(result), bytes),
            Err(error) => (Err(error.clone()), error.len()),
        };
        lock(&self.0).push(SentEnd { id, end: end.clone(), bytes });
        end
    }

    /// The end of a call that was sent to the host before.
    pub(super) fn take(&self, id: &str) -> Option<Result<ToolResult, String>> {
        lock(&self.0).take(id)
    }
}

impl InStore {
    /// A cell that starts as one that was kept.
    pub(super) fn resuming(kept: &SeamResume) -> Self {
        Self { name: Some(kept.name.clone()), received: kept.received, ..Self::default() }
    }

    /// Where ends of calls are noted.
    pub(super) fn sent(&self) -> SentEnds {
        self.sent.clone()
    }

    /// The next host has gone on with the cell.
    pub(super) fn resumed(&mut self) {
        (self.lost, self.attempts) = (None, None);
    }

    /// Why the host before was lost, if the next one has not gone on with the cell.
    pub(super) fn take_lost(&mut self) -> Option<Failure> {
        self.lost.take()
    }

    /// Whether the next host is asked to go on with the cell.
    pub(super) fn is_resuming(&self) -> bool {
        self.lost.is_some()
    }
}

impl RemoteCell {
    /// The host has kept the cell, or lets its program run on.
    pub(super) fn kept(&mut self, name: Option<String>) {
        {
            let mut ends = lock(&self.in_store.sent.0);
            ends.is_kept = name.is_some();
            ends.trim();
        }
        let keeping = match name {
            None => Some(Keeping::Removed),
            Some(name) => {
                let keeping = name.parse().ok().map(Keeping::Kept);
                self.in_store.name = Some(name);
                keeping
            }
        };
        if let Some(keeping) = keeping {
            self.callbacks.cell_kept(keeping);
        }
    }

    /// Whether the cell may go on when its host is lost.
    pub(super) fn can_resume(&self) -> bool {
        self.in_store.name.is_some()
            && self.stage == Stage::Running
            && self.outcome.is_none()
            && self.terminator.is_none()
            && self.termination.is_none()
            && !self.is_leaving()
            && !self.session.shutdown.is_cancelled()
    }

    /// The connection is gone: the next host is asked to go on with the cell. False where none
    /// can.
    pub(super) async fn resume(&mut self, entry: &LiveEntry) -> bool {
        if !self.can_resume() {
            return false;
        }
        let failure = |each: &Connected| each.connection.lifeline().failure();
        let lost = self.connected.get().map(failure);
        self.in_store.lost = Some(lost.unwrap_or(Failure::Lost(ConnectionError::Dropped)));
        self.keep_calls().await;
        self.renew(entry);
        self.in_store.attempts = Some(Attempts { until: Instant::now() + PATIENCE, pause: None });
        self.go_on();
        true
    }

    /// The calls are counted again when the next host asks for their ends.
    pub(super) fn forget_calls(&self) {
        for _ in 0..self.status.calls_in_flight() {
            self.status.call_ended();
        }
    }

    /// Asks the next host to go on with the cell. False when there is no more time for that, or
    /// the cell is to end.
    pub(super) fn go_on(&mut self) -> bool {
        if self.terminator.is_some() || self.session.shutdown.is_cancelled() {
            return false;
        }
        let InStore { name: Some(name), received, attempts: Some(attempts), .. } =
            &mut self.in_store
        else {
            return false;
        };
        let Some(pause) = attempts.next() else { return false };
        let kept = Some(SeamResume { name: name.clone(), received: *received });
        let wake = SeamWake { kept, ..SeamWake::default() };
        let program = Program {
            request: ExecuteRequest { yield_time_ms: Some(0), ..ExecuteRequest::default() },
            stored: self.stored.clone(),
            until_frontier: false,
            wake: Some(wake),
            keep: None,
            class: None,
        };
        self.connected = Arc::default();
        let executing = executing(&self.session, &self.connected, self.handle.clone(), program);
        let session = Arc::clone(&self.session);
        let answer = Box::pin(async move {
            sleep(pause).await;
            let _turn = session.resuming().await;
            executing.await
        });
        self.answer = Some(OnItsWay { answer, wait: None, cancelled: false });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_remembered_within_bounds_unless_the_cell_is_kept() {
        let sent = SentEnds::default();
        let note = |number: usize, bytes: usize| {
            let _ = sent.note(format!("tool-{number}"), Err("e".repeat(bytes)));
        };
        (0..NEWEST * 2).for_each(|number| note(number, 1));
        assert_eq!(sent.take("tool-0"), None);
        assert_eq!(lock(&sent.0).sent.len(), NEWEST);
        (0..4).for_each(|number| note(number, NEWEST_BYTES / 2));
        assert_eq!(lock(&sent.0).bytes, NEWEST_BYTES);
        // The newest alone, however large.
        note(7, NEWEST_BYTES * 2);
        assert_eq!(lock(&sent.0).sent.len(), 1);
        lock(&sent.0).is_kept = true;
        (10..14).for_each(|number| note(number, NEWEST_BYTES));
        assert_eq!(lock(&sent.0).sent.len(), 5);
        assert_eq!(sent.take("tool-7"), Some(Err("e".repeat(NEWEST_BYTES * 2))));
        assert_eq!(lock(&sent.0).bytes, NEWEST_BYTES * 4);
    }

    #[test]
    fn a_result_is_sent_as_the_text_that_is_remembered() {
        let sent = SentEnds::default();
        let value = serde_json::json!({ "a": [1, "b"] });
        let end = sent.note("tool-1".to_owned(), Ok(value.clone().into())).unwrap();
        assert_eq!(end.into_value(), value);
        assert_eq!(sent.take("tool-1").unwrap().unwrap().into_value(), value);
        let mut deep = serde_json::Value::Null;
        for _ in 0..10_000 {
            deep = [deep].into_iter().collect();
        }
        let error = sent.note("tool-2".to_owned(), Ok(deep.into())).unwrap_err();
        assert!(error.starts_with("tool result is"), "{error}");
    }
}
