//! What one side of a link has received: each message once and in order, within the window.

use super::cost;
use crate::nats::WINDOW;
use std::collections::VecDeque;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::bytes::{Buf, Bytes};

/// The messages with bytes that were received.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Number of the newest before which none is missing.
    newest: u64,
    /// Number of the newest that the other side has sent, as far as this side knows.
    sent_there: u64,
    /// What was not yet written to the pipe.
    waiting: VecDeque<Bytes>,
    /// What of the window that takes.
    waiting_cost: usize,
    /// Cost of what was written to the pipe, and how much of it the other side was told.
    taken: u64,
    told: u64,
    /// Nobody reads the pipe any more.
    unread: bool,
}

/// The other side has sent more than the window has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun;

impl Received {
    /// Number of the newest before which none is missing.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// A message has come. Returns whether it is the next: one that has come before is dropped,
    /// and so is one that comes after another that is missing, for both are sent again.
    pub(super) fn message(&mut self, number: u64, bytes: Bytes) -> Result<bool, Overrun> {
        self.knows_of(number);
        if self.newest.checked_add(1) != Some(number) {
            return Ok(false);
        }
        self.newest = number;
        if !self.unread {
            self.waiting_cost += cost(bytes.len());
            if self.waiting_cost > WINDOW {
                return Err(Overrun);
            }
            self.waiting.push_back(bytes);
        }
        Ok(true)
    }

    /// The other side says that it has sent the message with this number.
    pub(super) fn knows_of(&mut self, number: u64) {
        self.sent_there = self.sent_there.max(number);
    }

    /// Whether a message was sent that has not come.
    pub(super) fn is_missing(&self) -> bool {
        self.sent_there > self.newest
    }

    /// Whether something waits to be written to the pipe.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes some of what waits to the pipe; false when nobody reads it any more. Loses nothing
    /// when it is cancelled.
    pub(super) async fn write(&mut self, pipe: &mut (impl AsyncWrite + Unpin)) -> bool {
        let Some(front) = self.waiting.front_mut() else { return true };
        let Ok(written) = pipe.write(front).await else { return false };
        if written == 0 && !front.is_empty() {
            return false;
        }
        front.advance(written);
        let mut taken = written;
        if front.is_empty() {
            self.waiting.pop_front();
            taken = cost(written);
        }
        self.waiting_cost = self.waiting_cost.saturating_sub(taken);
        self.taken += taken as u64;
        true
    }

    /// Nobody reads the pipe any more: what comes from now on is dropped.
    pub(super) fn stop(&mut self) {
        self.unread = true;
        self.waiting.clear();
        self.waiting_cost = 0;
    }

    /// Whether so much was taken since the other side was told that it should be told.
    pub(super) fn is_worth_telling(&self) -> bool {
        self.taken - self.told >= (WINDOW / 4) as u64
    }

    /// What was taken, which the other side is told now.
    pub(super) fn tell(&mut self) -> u64 {
        self.told = self.taken;
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::sent::Sent;
    use super::*;

    /// A generator of numbers that a seed determines (`SplitMix64`).
    struct Random(u64);

    impl Random {
        fn below(&mut self, most: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % most
        }
    }

    /// Two sides over a path that loses, repeats and delays messages.
    #[tokio::test]
    async fn all_is_received_once_and_in_order_whatever_is_lost() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let (mut sent, mut received) = (Sent::default(), Received::default());
            let (mut written, mut read) = (Vec::new(), Vec::new());
            let mut path: VecDeque<(u64, Bytes)> = VecDeque::new();
            while written.len() < 3_000_000 || read.len() < written.len() {
                let length = usize::try_from(random.below(300_000)).unwrap().min(sent.room());
                if written.len() < 3_000_000 && length > 0 {
                    let bytes = vec![u8::try_from(written.len() % 251).unwrap(); length];
                    written.extend_from_slice(&bytes);
                    let bytes = Bytes::from(bytes);
                    path.push_back((sent.push(bytes.clone()), bytes));
                }
                match random.below(8) {
                    // A server dies, and all that was on its way with it.
                    0 => path.clear(),
                    1 => path.extend(path.front().cloned()),
                    2 => {
                        // A beat each way, and what is missing once more.
                        received.knows_of(sent.newest());
                        sent.taken(received.tell());
                        if received.is_missing() {
                            path.extend(sent.after(received.newest()));
                        }
                    }
                    _ => {}
                }
                for _ in 0..random.below(4) {
                    let Some((number, bytes)) = path.pop_front() else { break };
                    received.message(number, bytes).unwrap();
                }
                while received.waits() && random.below(4) > 0 {
                    assert!(received.write(&mut read).await);
                }
            }
            assert!(written == read, "seed {seed}");
        }
    }

    #[test]
    fn what_is_missing_is_known() {
        let mut received = Received::default();
        let bytes = || Bytes::from_static(b"x");
        assert_eq!(received.message(1, bytes()), Ok(true));
        assert_eq!(received.message(1, bytes()), Ok(false));
        assert!(!received.is_missing());
        assert_eq!(received.message(3, bytes()), Ok(false));
        assert!(received.is_missing());
        assert_eq!(received.message(2, bytes()), Ok(true));
        assert!(received.is_missing());
        assert_eq!(received.message(3, bytes()), Ok(true));
        assert!(!received.is_missing());
        // Numbers that nobody sends do no harm.
        for number in [0, u64::MAX] {
            assert_eq!(received.message(number, bytes()), Ok(false));
        }
    }

    #[test]
    fn more_than_a_window_is_an_error() {
        let mut received = Received::default();
        let half = || Bytes::from(vec![0; WINDOW / 2]);
        assert_eq!(received.message(1, half()), Ok(true));
        assert_eq!(received.message(2, half()), Err(Overrun));
        let mut received = Received::default();
        received.stop();
        for number in 1..10 {
            assert_eq!(received.message(number, half()), Ok(true));
        }
    }

    #[tokio::test]
    async fn an_empty_message_is_taken_like_another() {
        let (mut received, mut read) = (Received::default(), Vec::new());
        assert_eq!(received.message(1, Bytes::new()), Ok(true));
        assert!(received.write(&mut read).await && !received.waits());
        assert_eq!(received.tell(), cost(0) as u64);
    }
}
