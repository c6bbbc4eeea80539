//! The places for sandboxes in an engine: as many as cells may run at one time.
//!
//! A cell takes a place before its sandbox is made, and has it until that is dropped. When
//! none is free, cells wait in the order in which they came, and each that comes asks a cell at
//! rest to give its place up.

use crate::backend::LimitKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The places of an engine.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    /// Free places of the first pool, which are given out before those of the second.
    first: Arc<AtomicUsize>,
    /// Cells that wait for a place.
    waiting: AtomicUsize,
    /// Cells at rest, of which each cell that waits asks one to make room.
    at_rest: Notify,
    /// How many cells may wait.
    most_waiting: usize,
    /// How long a cell may wait.
    longest_wait: Duration,
}

/// A place for a sandbox, until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    /// The free places of the first pool, for a place there.
    first: Option<Arc<AtomicUsize>>,
    /// Given back after the place was counted as free: who has it finds the place.
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Whether the place is in the first pool.
    pub(super) fn is_in_first_pool(&self) -> bool {
        self.first.is_some()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(first) = &self.first {
            first.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// A cell that waits for a place.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    pub(super) fn new(
        first_places: u32,
        places: u32,
        most_waiting: usize,
        longest_wait: Duration,
    ) -> Self {
        let number = |places: u32| usize::try_from(places).unwrap_or(usize::MAX);
        Self {
            free: Arc::new(Semaphore::new(number(places).min(Semaphore::MAX_PERMITS))),
            first: Arc::new(AtomicUsize::new(number(first_places))),
            waiting: AtomicUsize::new(0),
            at_rest: Notify::new(),
            most_waiting,
            longest_wait,
        }
    }

    /// A place, if one is free and nobody waits for it.
    pub(super) fn try_take(&self) -> Option<Slot> {
        Some(self.slot(Arc::clone(&self.free).try_acquire_owned().ok()?))
    }

    /// A place for one that may have it: in the first pool, if one is free there.
    fn slot(&self, permit: OwnedSemaphorePermit) -> Slot {
        let taken = self
            .first
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1));
        Slot { first: taken.is_ok().then(|| Arc::clone(&self.first)), _permit: permit }
    }

    /// Waits for a place, after those that came before.
    ///
    /// # Errors
    /// The limit that was met: too many cells wait, or this one has waited too long.
    pub(super) async fn take(&self) -> Result<Slot, LimitKind> {
        if let Some(slot) = self.try_take() {
            return Ok(slot);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.most_waiting {
            return Err(LimitKind::SandboxQueue);
        }
        self.at_rest.notify_one();
        match timeout(self.longest_wait, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(self.slot(permit)),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(LimitKind::SandboxWait),
        }
    }

    /// Whether cells wait for a place.
    pub(super) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits until a cell at rest is asked to make room.
    pub(super) async fn wanted(&self) {
        self.at_rest.notified().await;
    }

    /// The value of a limit that [`Slots::take`] met, and what to do about it; `None` for
    /// other limits.
    pub(super) fn describe(&self, limit: LimitKind) -> Option<(String, String)> {
        let value = match limit {
            LimitKind::SandboxQueue => format!("{} cells", self.most_waiting),
            LimitKind::SandboxWait => format!("{} ms", self.longest_wait.as_millis()),
            _ => return None,
        };
        Some((value, "try again when fewer cells run".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::task::yield_now;

    const LONG: Duration = Duration::from_secs(30);

    async fn settle() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_come_in_the_order_in_which_they_came() {
        let slots = Arc::new(Slots::new(1, 1, 10, LONG));
        let first = slots.try_take().unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..5 {
            let (slots, served) = (Arc::clone(&slots), Arc::clone(&served));
            waiting.push(tokio::spawn(async move {
                let slot = slots.take().await.unwrap();
                served.lock().unwrap().push(number);
                drop(slot);
            }));
            settle().await;
        }
        // One that goes away loses its place to those behind it.
        waiting[2].abort();
        settle().await;
        assert!(slots.are_wanted() && slots.try_take().is_none());
        drop(first);
        // Nobody comes before those who wait.
        assert!(slots.try_take().is_none());
        settle().await;
        assert_eq!(*served.lock().unwrap(), [0, 1, 3, 4]);
        assert!(!slots.are_wanted() && slots.try_take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn places_of_the_first_pool_are_given_out_first() {
        let slots = Slots::new(2, 4, 10, LONG);
        let mut held: Vec<_> = (0..4).map(|_| slots.try_take().unwrap()).collect();
        let in_first = |held: &[Slot]| held.iter().map(Slot::is_in_first_pool).collect::<Vec<_>>();
        assert_eq!(in_first(&held), [true, true, false, false]);
        assert!(slots.try_take().is_none());
        // One of each is free again, and the first pool's is taken first.
        drop((held.remove(0), held.remove(1)));
        held.extend([slots.take().await.unwrap(), slots.take().await.unwrap()]);
        assert_eq!(in_first(&held), [true, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_and_only_so_long() {
        let slots = Arc::new(Slots::new(1, 1, 2, LONG));
        let held = slots.try_take().unwrap();
        let take = || {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move { slots.take().await.map(drop) })
        };
        let waiting = [take(), take()];
        settle().await;
        assert_eq!(slots.take().await.map(drop), Err(LimitKind::SandboxQueue));
        let began = tokio::time::Instant::now();
        for each in waiting {
            assert_eq!(each.await.unwrap(), Err(LimitKind::SandboxWait));
        }
        assert_eq!(began.elapsed().as_secs(), LONG.as_secs());
        assert!(!slots.are_wanted());
        drop(held);
        assert_eq!(slots.take().await.map(drop), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn each_that_waits_asks_one_at_rest_for_its_place() {
        let slots = Arc::new(Slots::new(2, 2, 10, LONG));
        let held = [slots.try_take().unwrap(), slots.try_take().unwrap()];
        let resting = held.map(|slot| {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move {
                slots.wanted().await;
                drop(slot);
            })
        });
        settle().await;
        let taken = slots.take().await.unwrap();
        settle().await;
        assert_eq!(resting.iter().filter(|each| each.is_finished()).count(), 1);
        let _second = slots.take().await.unwrap();
        settle().await;
        assert!(resting.iter().all(tokio::task::JoinHandle::is_finished));
        drop(taken);
    }
}
