//! Messages that wait to be written to a client, bounded in number and in bytes.

use crate::protocol::frame::MAX_BYTES;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Messages of one queue that may wait to be written.
const MESSAGES: usize = 128;

/// Bytes that may wait to be written on one connection: one message of the largest size.
const BYTES: usize = MAX_BYTES;

/// How long a client may leave so much unread that nothing more can wait.
pub(super) const STALLED: Duration = Duration::from_secs(30);

/// The bytes of one connection that may wait to be written.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    /// Cancelled when the client does not read, or has gone: the connection ends.
    pub(super) gone: CancellationToken,
}

/// The queue of messages was closed, or the client does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Where messages are queued.
#[derive(Debug)]
pub(super) struct Sender<T> {
    queue: mpsc::Sender<(T, OwnedSemaphorePermit)>,
    budget: Budget,
}

/// Where queued messages come out, each with what its bytes are counted by.
pub(super) type Receiver<T> = mpsc::Receiver<(T, OwnedSemaphorePermit)>;

/// Room for one message.
pub(super) struct Slot<'a, T> {
    slot: mpsc::Permit<'a, (T, OwnedSemaphorePermit)>,
    bytes: OwnedSemaphorePermit,
}

impl Budget {
    /// The budget of a new connection.
    pub(super) fn new() -> Self {
        Self { bytes: Arc::new(Semaphore::new(BYTES)), gone: CancellationToken::new() }
    }

    /// A queue that is counted here.
    pub(super) fn channel<T>(&self) -> (Sender<T>, Receiver<T>) {
        let (queue, messages) = mpsc::channel(MESSAGES);
        (Sender { queue, budget: self.clone() }, messages)
    }
}

impl<T> Sender<T> {
    /// Waits for room for a message of so many bytes. A client that leaves none for
    /// [`STALLED`] is disconnected.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<Slot<'_, T>, Gone> {
        // One that is longer than all that may wait goes alone.
        let bytes = u32::try_from(bytes.clamp(1, BYTES)).unwrap_or(u32::MAX);
        let reserving = async {
            let bytes = Arc::clone(&self.budget.bytes).acquire_many_owned(bytes).await.ok()?;
            Some(Slot { slot: self.queue.reserve().await.ok()?, bytes })
        };
        tokio::select! {
            biased;
            () = self.budget.gone.cancelled() => Err(Gone),
            reserved = timeout(STALLED, reserving) => {
                if reserved.is_err() {
                    tracing::warn!("a client has not read for {} s", STALLED.as_secs());
                    self.budget.gone.cancel();
                }
                reserved.ok().flatten().ok_or(Gone)
            }
        }
    }

    /// Queues a message of so many bytes once there is room for it.
    pub(super) async fn send(&self, message: T, bytes: usize) -> Result<(), Gone> {
        self.reserve(bytes).await.map(|slot| slot.send(message))
    }

    /// Whether nothing is taken from the queue any more.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), budget: self.budget.clone() }
    }
}

impl<T> Slot<'_, T> {
    /// Queues the message.
    pub(super) fn send(self, message: T) {
        self.slot.send((message, self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_are_bounded_over_all_queues_of_a_connection() {
        let budget = Budget::new();
        let ((one, mut taken), (other, _kept)) = (budget.channel(), budget.channel());
        one.send('a', BYTES - 10).await.unwrap();
        let waiting = other.send('b', 11);
        tokio::pin!(waiting);
        assert!(timeout(STALLED / 2, &mut waiting).await.is_err());
        drop(taken.recv().await);
        assert_eq!(waiting.await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let budget = Budget::new();
        let (sender, _messages) = budget.channel();
        sender.send('a', BYTES * 2).await.unwrap();
        assert_eq!(sender.send('b', 1).await, Err(Gone));
        assert!(budget.gone.is_cancelled());
    }
}
