//! The one timer of a cell's task.

use std::pin::Pin;
use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes the task when the first of several things may be due. It is set anew only when
/// something is due sooner than what it was set for, or when it has rung: setting a timer wakes
/// the thread that watches over the timers, and what a cell waits for changes with each step.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Returns at the instant, or sooner: look at the time then. Never without an instant.
    pub(super) async fn ring(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return std::future::pending().await };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.is_elapsed() || at < sleep.deadline() {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().await;
    }
}

/// Ready once the instant is over, whenever it is looked at. An [`Alarm`] sees to it that it is.
pub(super) async fn due(at: Option<Instant>) {
    let is_due = |at: Instant| at <= Instant::now();
    std::future::poll_fn(|_| match at {
        Some(at) if is_due(at) => std::task::Poll::Ready(()),
        _ => std::task::Poll::Pending,
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn it_rings_in_time_whatever_it_was_set_for() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let mut alarm = Alarm::default();
        let never = timeout(Duration::from_secs(9), alarm.ring(None)).await;
        assert!(never.is_err());
        let start = Instant::now();
        let at_of = |ms| Some(start + Duration::from_millis(ms));
        assert!(timeout(Duration::ZERO, alarm.ring(at_of(500))).await.is_err());
        // Sooner than it was set for.
        alarm.ring(at_of(100)).await;
        assert_eq!(start.elapsed().as_millis(), 100);
        assert!(timeout(Duration::ZERO, alarm.ring(at_of(200))).await.is_err());
        // Later: it may ring for what it was set for, and not after.
        while start.elapsed().as_millis() < 300 {
            alarm.ring(at_of(300)).await;
        }
        assert_eq!(start.elapsed().as_millis(), 300);
        // What is over is due at once.
        alarm.ring(at(0)).await;
        due(at(0)).await;
        assert!(timeout(Duration::from_secs(1), due(None)).await.is_err());
    }
}
