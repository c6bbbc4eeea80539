//! What one side of a link has sent: within the window, and kept until the other side has
//! taken it.

use super::cost;
use crate::nats::{MESSAGE_COST, WINDOW};
use std::collections::VecDeque;
use tokio_util::bytes::Bytes;

/// The messages with bytes that were sent, numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Number of the newest.
    newest: u64,
    /// Cost of all of them, and how much of it the other side has taken.
    cost: u64,
    taken: u64,
    /// Those that the other side has not taken in whole, oldest first, each with the cost of all
    /// up to it. The window bounds them.
    kept: VecDeque<(u64, Bytes)>,
}

impl Sent {
    /// Number of the newest.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Bytes that the next message may have.
    pub(super) fn room(&self) -> usize {
        let on_their_way = self.cost - self.taken;
        let window = (WINDOW as u64).saturating_sub(on_their_way);
        usize::try_from(window).unwrap_or(0).saturating_sub(MESSAGE_COST)
    }

    /// Keeps a message that is about to be sent, and returns its number.
    pub(super) fn push(&mut self, bytes: Bytes) -> u64 {
        self.newest += 1;
        self.cost += cost(bytes.len()) as u64;
        self.kept.push_back((self.cost, bytes));
        self.newest
    }

    /// The other side has taken so much in all.
    pub(super) fn taken(&mut self, taken: u64) {
        // More than was sent is not true, and would only let its sender lose what it has asked for.
        self.taken = self.taken.max(taken.min(self.cost));
        while self.kept.front().is_some_and(|(up_to, _)| *up_to <= self.taken) {
            self.kept.pop_front();
        }
    }

    /// The messages after one, as far as they are kept. Who has not received what is not kept
    /// any more said that it had.
    pub(super) fn after(&self, number: u64) -> Vec<(u64, Bytes)> {
        let before = self.newest - self.kept.len() as u64;
        let known = number.saturating_sub(before);
        let skipped = usize::try_from(known).unwrap_or(usize::MAX);
        let kept = (before + 1..).zip(&self.kept).skip(skipped);
        kept.map(|(number, (_, bytes))| (number, bytes.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Bytes {
        vec![0; length].into()
    }

    #[test]
    fn what_was_taken_is_not_kept() {
        let mut sent = Sent::default();
        for number in 1..=3 {
            assert_eq!(sent.push(message(100)), number);
        }
        let numbers = |sent: &Sent, after| -> Vec<u64> {
            sent.after(after).into_iter().map(|(number, _)| number).collect()
        };
        assert_eq!(numbers(&sent, 0), [1, 2, 3]);
        assert_eq!(numbers(&sent, 2), [3]);
        // A message that was taken in part is kept.
        sent.taken(cost(100) as u64 + 1);
        assert_eq!(numbers(&sent, 0), [2, 3]);
        assert_eq!(numbers(&sent, 3), [0; 0]);
        // What is not true does no harm.
        sent.taken(0);
        assert_eq!(numbers(&sent, u64::MAX), [0; 0]);
        sent.taken(u64::MAX);
        assert_eq!(numbers(&sent, 0), [0; 0]);
        assert_eq!(sent.room(), WINDOW - MESSAGE_COST);
    }

    #[test]
    fn what_is_kept_is_within_the_window() {
        let mut sent = Sent::default();
        let mut bytes = 0;
        while sent.room() > 0 {
            let length = sent.room().min(100_000);
            sent.push(message(length));
            bytes += cost(length);
        }
        assert!(bytes <= WINDOW && bytes > WINDOW - MESSAGE_COST, "{bytes}");
        sent.taken(cost(100_000) as u64);
        assert!(sent.room() >= 100_000);
    }
}
