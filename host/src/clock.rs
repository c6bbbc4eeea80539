//! What time it is for a program, and what its random numbers start from.

use std::fmt::Debug;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The time that programs see, through `Date` and timers.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since the Unix epoch. Read once, when a cell starts; from there the
    /// cell's `Date` goes with [`monotonic`](Self::monotonic).
    fn wall(&self) -> Duration;
    /// Time since some moment in the past; never goes back.
    fn monotonic(&self) -> Duration;
}

/// Where the seed of a cell's `Math.random` comes from.
pub trait Random: Debug + Send + Sync + 'static {
    /// The seed of the next cell.
    fn seed(&self) -> u64;
}

/// The machine's time. It follows tokio's clock, so that paused time in tests
/// is paused for programs too.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// What the monotonic clock counts from.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

impl Clock for SystemClock {
    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        ORIGIN.get_or_init(Instant::now).elapsed()
    }
}

/// Seeds from the standard library's per-process randomness.
#[derive(Debug, Default)]
pub struct SystemRandom(std::hash::RandomState, std::sync::atomic::AtomicU64);

impl Random for SystemRandom {
    fn seed(&self) -> u64 {
        use std::hash::BuildHasher;
        self.0.hash_one(self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}
