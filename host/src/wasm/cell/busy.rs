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
    /// Time among these that is not the program's.
    excluded: Duration,
}

impl BusyTime {
    /// The first turn begins, of a task that has been at work for so long.
    pub(super) fn start(earlier: Duration) -> Self {
        Self { earlier, since: Some(Instant::now()), excluded: Duration::ZERO }
    }

    /// All the time so far.
    pub(super) fn total(&self) -> Duration {
        (self.earlier + self.turn()).saturating_sub(self.excluded)
    }

    /// So much of the time was not the program's.
    pub(super) fn exclude(&mut self, time: Duration) {
        self.excluded += time;
    }

    fn turn(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The turn ends.
    pub(super) fn suspend(&mut self) {
        self.earlier += self.turn();
        self.since = None;
    }

    /// A turn begins.
    pub(super) fn resume(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Lets others run, if the turn has been long enough.
    pub(super) async fn be_fair(&mut self) {
        if self.turn() >= TURN {
            self.suspend();
            let_others_run().await;
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

/// Lets other tasks run. Unlike tokio's `yield_now`, which keeps the task to itself until its
/// worker has nothing else to do, another worker may take it: what this one runs next may block.
async fn let_others_run() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs a future, and says how long it was at work.
pub(super) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut took = Duration::ZERO;
    std::future::poll_fn(|context| {
        let began = Instant::now();
        let polled = work.as_mut().poll(context);
        took += began.elapsed();
        polled.map(|done| (done, took))
    })
    .await
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
        let before = busy.total();
        let work = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(20) {}
        };
        let ((), took) = timed(work).await;
        assert!((20..30).contains(&took.as_millis()), "{took:?}");
        busy.exclude(before);
        assert!(busy.total() >= took);
        busy.exclude(Duration::from_hours(1));
        assert_eq!(busy.total(), Duration::ZERO);
    }
}
