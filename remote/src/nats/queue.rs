//! Messages that wait for the task of their link, bounded in number and in bytes.

use super::{MESSAGE_COST, WINDOW};
use async_nats::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Messages that may wait: those that carry bytes are at most two thirds of it, by the window,
/// when they are sent again while the first still come.
const MESSAGES: usize = 3 * WINDOW / MESSAGE_COST;

/// Bytes that may wait.
const BYTES: usize = 3 * WINDOW;

/// Where messages for a link go in. Clones are handles to the same queue.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    messages: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
}

/// Where they come out.
#[derive(Debug)]
pub(crate) struct Queue {
    messages: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
}

/// The other side has sent more than it may, or the link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overrun;

/// A new queue.
pub(crate) fn queue() -> (Feed, Queue) {
    let (sender, messages) = mpsc::channel(MESSAGES);
    let bytes = Arc::<AtomicUsize>::default();
    (Feed { messages: sender, bytes: Arc::clone(&bytes) }, Queue { messages, bytes })
}

impl Feed {
    /// Adds a message. After an error the feed is to be dropped, which ends the link.
    pub(crate) fn push(&self, message: Message) -> Result<(), Overrun> {
        let length = message.length;
        if self.bytes.fetch_add(length, Ordering::Relaxed) + length > BYTES {
            return Err(Overrun);
        }
        self.messages.try_send(message).map_err(|_| Overrun)
    }
}

impl Queue {
    /// The next message; `None` when the feed was dropped.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let message = self.messages.recv().await?;
        self.bytes.fetch_sub(message.length, Ordering::Relaxed);
        Some(message)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tokio_util::bytes::Bytes;

    /// A message that carries this.
    pub(crate) fn message(payload: impl Into<Bytes>) -> Message {
        let payload = payload.into();
        let length = payload.len();
        Message {
            subject: "s".into(),
            reply: None,
            payload,
            headers: None,
            status: None,
            description: None,
            length,
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes() {
        let (feed, mut queue) = queue();
        let half = || message(vec![0; BYTES / 2]);
        assert_eq!((feed.push(half()), feed.push(half())), (Ok(()), Ok(())));
        queue.next().await.unwrap();
        assert_eq!((feed.push(half()), feed.push(message("x"))), (Ok(()), Err(Overrun)));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_number() {
        let (feed, _queue) = queue();
        for _ in 0..MESSAGES {
            assert_eq!(feed.push(message("")), Ok(()));
        }
        assert_eq!(feed.push(message("")), Err(Overrun));
    }
}
