//! What one side of a link sends to the other.

use super::{FIRST_FRAMES, First, Link, LinkEnd, Opening, REPEAT, SOON};
use crate::nats::{Subjects, header};
use async_nats::client::PublishError;
use async_nats::{HeaderMap, HeaderValue};
use tokio::time::{Instant, timeout_at};
use tokio_util::bytes::Bytes;

impl Link {
    /// Sends what was read from the pipe; a client's first message once it is complete.
    pub(super) async fn send_outgoing(&mut self) -> Result<(), LinkEnd> {
        let opens = self.name.is_none();
        if opens && self.outgoing.len() < self.chunk && !has_frames(&self.outgoing, FIRST_FRAMES) {
            return Ok(());
        }
        let bytes = self.outgoing.split().freeze();
        let number = self.sent.push(bytes.clone());
        if opens {
            let now = Instant::now();
            self.first = Some(First { bytes, refusals: 0, again_at: now });
            self.silent_at = now + self.silence;
            return self.ask().await;
        }
        self.beat_soon();
        self.send(number, bytes).await
    }

    /// Asks the class for a worker. Two may take the cell when an answer is lost: the client goes
    /// on with the first that it receives an answer of, and only what goes through a client has
    /// an effect.
    pub(super) async fn ask(&mut self) -> Result<(), LinkEnd> {
        let (Some(opening), Some(first)) = (&self.opening, &mut self.first) else { return Ok(()) };
        first.again_at = Instant::now() + self.heartbeat;
        let (subject, inbox) = (Subjects::start(&opening.class), opening.inbox.clone());
        let bytes = first.bytes.clone();
        let mut headers = self.headers();
        headers.insert(header::SEQUENCE, HeaderValue::from(1_u64));
        let asked = self.client.publish_with_reply_and_headers(subject, inbox, headers, bytes);
        published(self.silent_at, asked).await.map_err(|why| LinkEnd::NoWorker(why.to_string()))
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let (None, Some(name)) = (&self.opening, &self.name) {
            headers.insert(header::LINK, name.as_str());
        }
        if let Some(trace) = &self.trace {
            headers.insert(header::TRACE, trace.as_str());
        }
        headers
    }

    /// Sends a message with bytes, perhaps once more.
    pub(super) async fn send(&mut self, number: u64, bytes: Bytes) -> Result<(), LinkEnd> {
        let mut headers = self.headers();
        headers.insert(header::SEQUENCE, HeaderValue::from(number));
        self.publish(headers, bytes, false).await
    }

    /// Sends a message to the other side. A client that `expects` an answer is told when
    /// nobody is there, and the worker is given a new way to answer: paths back end some time
    /// after they were made.
    async fn publish(
        &mut self,
        headers: HeaderMap,
        bytes: Bytes,
        expects: bool,
    ) -> Result<(), LinkEnd> {
        let Some(to) = self.to.clone() else { return Ok(()) };
        let sent = match &self.opening {
            Some(Opening { inbox, .. }) if expects => {
                let inbox = inbox.clone();
                let sent = self.client.publish_with_reply_and_headers(to, inbox, headers, bytes);
                published(self.silent_at, sent).await
            }
            _ => {
                let sent = self.client.publish_with_headers(to, headers, bytes);
                published(self.silent_at, sent).await
            }
        };
        sent.map_err(|why| LinkEnd::Lost(why.to_string()))
    }

    /// Says that this side is alive and how far it is, and asks for what it has not received.
    pub(super) async fn beat(&mut self) -> Result<(), LinkEnd> {
        let now = Instant::now();
        self.beat_at = now + self.heartbeat;
        if self.to.is_none() {
            return Ok(());
        }
        let mut headers = self.headers();
        headers.insert(header::SENT, HeaderValue::from(self.sent.newest()));
        headers.insert(header::TAKEN, HeaderValue::from(self.received.tell()));
        if std::mem::take(&mut self.may_have_lost) || self.received.is_missing() {
            headers.insert(header::AGAIN, HeaderValue::from(self.received.newest()));
            self.asked_at = Some(now);
            self.beat_at = self.beat_at.min(now + REPEAT);
        }
        self.publish(headers, Bytes::new(), true).await
    }

    pub(super) fn beat_soon(&mut self) {
        self.beat_at = self.beat_at.min(Instant::now() + self.heartbeat / SOON);
    }

    pub(super) async fn say_goodbye(&mut self, end: &LinkEnd) {
        let mut headers = self.headers();
        // A header is one line.
        let why = match end {
            LinkEnd::Lost(why) => why.replace(|each: char| each.is_control(), " "),
            _ => String::new(),
        };
        headers.insert(header::END, why);
        // If it does not arrive, silence says it later.
        let _ = self.publish(headers, Bytes::new(), false).await;
    }
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
enum NotSent {
    #[error("{0}")]
    Refused(PublishError),
    #[error("there is no connection to NATS")]
    NotConnected,
}

/// Waits until a message has left, but no longer than until this side takes the other for gone:
/// without a connection what fits into a queue waits there.
async fn published(
    until: Instant,
    sending: impl Future<Output = Result<(), PublishError>>,
) -> Result<(), NotSent> {
    match timeout_at(until, sending).await {
        Ok(sent) => sent.map_err(NotSent::Refused),
        Err(_) => Err(NotSent::NotConnected),
    }
}

/// Whether bytes begin with so many whole frames.
fn has_frames(bytes: &[u8], frames: usize) -> bool {
    let mut rest = bytes;
    (0..frames).all(|_| {
        let length = rest.first_chunk().map(|length| u32::from_le_bytes(*length) as usize);
        let frame = length.and_then(|length| rest.get(4..)?.get(length..));
        frame.inspect(|after| rest = after).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_counted() {
        let frames = b"\x01\0\0\0a\x02\0\0\0bc";
        assert!(has_frames(frames, 2));
        assert!(!has_frames(&frames[..frames.len() - 1], 2));
        assert!(has_frames(&frames[..frames.len() - 1], 1));
        assert!(!has_frames(frames, 3));
        assert!(!has_frames(b"\xff\xff\xff\xff", 1));
    }
}
