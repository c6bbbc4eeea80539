//! How long a cell's task has been at work, and when it must let others run.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long a task may keep its worker. A task that never has to wait would otherwise
/// keep it for good: the timers of a program may all be due, its calls may all end at
/// once. A hundred such cells on two cores then come round in ten milliseconds.
const TURN: Duration = Duration::from_micros(200);

/// The time that a task has been at work, over all its turns.
#[derive(Debug)]
pub(super) struct BusyTime {
    /// Of the turns that have ended.
    earlier: Duration,
    /// When the turn that goes on began; `None` while the task is suspended.
    since: Option<Instant>,
}

impl BusyTime {
    /// The first turn begins, of a task that has been at work for so long.
    pub(super) fn start(earlier: Duration) -> Self {
        Self { earlier, since: Some(Instant::now()) }
    }

    /// All the time so far.
    pub(super) fn total(&self) -> Duration {
        self.earlier + self.turn()
    }

    fn turn(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn suspend(&mut self) {
        self.earlier += self.turn();
        self.since = None;
    }

    fn resume(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Lets others run, if the turn has been long enough.
    pub(super) async fn be_fair(&mut self) {
        if self.turn() >= TURN {
            self.suspend();
            tokio::task::yield_now().await;
            self.resume();
        }
    }

    /// Awaits something; the time in which the task is suspended does not count.
    pub(super) async fn measure<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            self.resume();
            let polled = work.as_mut().poll(context);
            if polled.is_pending() {
                self.suspend();
            }
            polled
        })
        .await
    }
}

/// Sleeps until the instant; for ever without one.
pub(super) async fn at(instant: Option<tokio::time::Instant>) {
    match instant {
        // The runtime's timer looks at most once a millisecond; what is due is due.
        Some(instant) if instant <= tokio::time::Instant::now() => {}
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Polls a future once each time the task runs: ready with `None` when the task runs again
/// and the future is not done.
pub(super) async fn slice<F: Future + Unpin>(mut work: F) -> Option<F::Output> {
    let mut polled = false;
    std::future::poll_fn(|context| {
        if polled {
            return Poll::Ready(None);
        }
        polled = true;
        // A guest that has not ended has asked to be woken at once; until then others run.
        std::pin::Pin::new(&mut work).poll(context).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_suspended_does_not_count() {
        let mut busy = BusyTime::start(Duration::ZERO);
        busy.measure(tokio::time::sleep(Duration::from_millis(50))).await;
        let idle = busy.total();
        assert!(idle < Duration::from_millis(40), "{idle:?}");
        let began = Instant::now();
        busy.measure(async { while began.elapsed() < Duration::from_millis(20) {} }).await;
        assert!(busy.total() >= idle + Duration::from_millis(20));
    }
}
