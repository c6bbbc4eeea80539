//! The time as one guest sees it: the session's clock, which for a woken cell goes on from
//! where the cell was parked.

use super::park::nanos;
use crate::clock::Clock;
use std::sync::Arc;

/// The clock of one cell.
#[derive(Clone, Debug)]
pub(super) struct GuestClock {
    clock: Arc<dyn Clock>,
    /// What the guest's monotonic clock is ahead of the session's, in nanoseconds.
    ahead: i128,
    /// The wall clock less the guest's monotonic one, in nanoseconds.
    epoch: i128,
}

impl GuestClock {
    /// The clock of a new cell.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let epoch = clock.wall().saturating_sub(clock.monotonic());
        Self { epoch: signed(nanos(epoch)), clock, ahead: 0 }
    }

    /// The clock of a cell that was parked at this time of its own: its monotonic clock goes on
    /// from there. The wall clock is the present, and never before it was.
    pub(super) fn woken(clock: Arc<dyn Clock>, monotonic: u64, wall: u64) -> Self {
        let ahead = signed(monotonic) - signed(nanos(clock.monotonic()));
        let wall = nanos(clock.wall()).max(wall);
        Self { clock, ahead, epoch: signed(wall) - signed(monotonic) }
    }

    /// The clock of a cell that is run again, which is told its monotonic time.
    pub(super) fn replayed(clock: Arc<dyn Clock>, epoch: i64) -> Self {
        Self { clock, ahead: 0, epoch: i128::from(epoch) }
    }

    /// The wall clock less the guest's monotonic one, in nanoseconds.
    pub(super) fn epoch(&self) -> i64 {
        let most = i128::from(i64::MAX);
        i64::try_from(self.epoch.clamp(-most, most)).unwrap_or_default()
    }

    /// Nanoseconds on the guest's monotonic clock.
    pub(super) fn monotonic(&self) -> u64 {
        unsigned(self.now())
    }

    /// Nanoseconds since the Unix epoch.
    pub(super) fn wall(&self) -> u64 {
        self.wall_at(self.monotonic())
    }

    /// The same at a time on the monotonic clock.
    pub(super) fn wall_at(&self, monotonic: u64) -> u64 {
        unsigned(signed(monotonic) + self.epoch)
    }

    fn now(&self) -> i128 {
        signed(nanos(self.clock.monotonic())) + self.ahead
    }
}

fn signed(nanos: u64) -> i128 {
    i128::from(nanos)
}

fn unsigned(nanos: i128) -> u64 {
    u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Wall and monotonic time, in nanoseconds.
    #[derive(Debug, Default)]
    struct Set(Mutex<(u64, u64)>);

    impl Clock for Set {
        fn wall(&self) -> Duration {
            Duration::from_nanos(self.0.lock().unwrap().0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_nanos(self.0.lock().unwrap().1)
        }
    }

    #[test]
    fn a_woken_clock_goes_on_whatever_the_machines_clock_says() {
        let set = Arc::new(Set::default());
        let at = |wall, monotonic| *set.0.lock().unwrap() = (wall, monotonic);
        at(1_000, 50);
        let first = GuestClock::new(Arc::clone(&set) as _);
        assert_eq!((first.wall(), first.monotonic()), (1_000, 50));
        // Another machine, started just now, an hour later.
        at(9_000, 7);
        let woken = GuestClock::woken(Arc::clone(&set) as _, 60, 1_010);
        assert_eq!((woken.wall(), woken.monotonic()), (9_000, 60));
        at(0, 10);
        assert_eq!((woken.wall(), woken.monotonic()), (9_003, 63));
        // Its wall clock is behind the one where the cell was parked.
        let woken = GuestClock::woken(Arc::clone(&set) as _, 60, 1_010);
        assert_eq!((woken.wall(), woken.monotonic()), (1_010, 60));
        let last = GuestClock::woken(Arc::clone(&set) as _, u64::MAX, u64::MAX);
        at(u64::MAX, u64::MAX);
        assert_eq!((last.wall(), last.monotonic()), (u64::MAX, u64::MAX));
    }
}
