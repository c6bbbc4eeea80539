//! What one side of a link does with the messages of the other.

use super::{First, Link, LinkEnd, NOWHERE, PAUSE_MS, REPEAT, RETRIES, SEND_AGAIN, overrun};
use crate::nats::{Subjects, header};
use async_nats::{Client, HeaderMap, Message, StatusCode};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::bytes::Bytes;

impl Link {
    pub(super) async fn receive(&mut self, message: Message) -> Result<(), LinkEnd> {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return self.nobody_there();
        }
        let headers = message.headers.unwrap_or_default();
        let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        if let Some(why) = text(header::BUSY) {
            return self.busy(why).await;
        }
        if self.opening.is_some() {
            if !self.is_of_the_worker(text(header::LINK)).await? {
                return Ok(());
            }
        } else if let Some(reply) = message.reply {
            if self.to.replace(reply).is_none() {
                // It has a way to its client again.
                self.beat_at = Instant::now();
            }
            // The client may expect beats more often than this worker has them.
            self.beat_soon();
        }
        if let Some(why) = text(header::END) {
            return Err(LinkEnd::Closed(why));
        }
        if let Some(taken) = number(header::TAKEN) {
            self.sent.taken(taken);
        }
        let mut is_next = false;
        if let Some(number) = number(header::SEQUENCE) {
            is_next = self.received.message(number, message.payload).map_err(|_| overrun())?;
            self.beat_soon();
        }
        if let Some(sent) = number(header::SENT) {
            self.received.knows_of(sent);
        }
        if self.received.is_missing() {
            let asked = self.asked_at.map_or_else(Instant::now, |asked_at| asked_at + REPEAT);
            self.beat_at = self.beat_at.min(asked);
        }
        // What stays missing ends the link as silence does.
        if is_next || !self.received.is_missing() {
            self.silent_at = Instant::now() + self.silence;
        }
        self.gone_at = None;
        match number(header::AGAIN) {
            Some(newest) => self.send_again(newest).await,
            None => Ok(()),
        }
    }

    /// Sends what the other side has not received once more.
    async fn send_again(&mut self, newest: u64) -> Result<(), LinkEnd> {
        let now = Instant::now();
        if self.sent_again_at.is_some_and(|at| now < at + SEND_AGAIN) {
            return Ok(());
        }
        self.sent_again_at = Some(now);
        for (number, bytes) in self.sent.after(newest) {
            self.send(number, bytes).await?;
        }
        Ok(())
    }

    /// Whether a message is of the worker that has the cell. The first that answers has it, and
    /// any other is told that it does not.
    async fn is_of_the_worker(&mut self, link: Option<String>) -> Result<bool, LinkEnd> {
        let Some(link) = link else { return Ok(false) };
        if self.name.as_ref() == Some(&link) {
            return Ok(true);
        }
        let Some(subject) = Subjects::of_link(&link) else { return Ok(false) };
        if self.first.take().is_none() {
            dismiss(&self.client, subject).await;
            return Ok(false);
        }
        (self.name, self.to) = (Some(link), Some(subject.into()));
        if self.opening.as_ref().is_some_and(|opening| opening.tells) {
            self.beat_at = Instant::now();
        }
        if self.leaving {
            return Err(LinkEnd::Left);
        }
        Ok(true)
    }

    /// A worker cannot take the cell: another may.
    async fn busy(&mut self, why: String) -> Result<(), LinkEnd> {
        let Some(First { refusals, .. }) = self.first.as_mut() else { return Ok(()) };
        *refusals += 1;
        let refusals = *refusals;
        if refusals > RETRIES {
            return Err(LinkEnd::NoWorker(format!("{refusals} workers were asked: {why}")));
        }
        // Random, so that those that met do not meet again.
        let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
        sleep(Duration::from_millis(PAUSE_MS * u64::from(refusals) * random / 255)).await;
        self.ask().await
    }

    /// Nobody was there to receive a message.
    fn nobody_there(&mut self) -> Result<(), LinkEnd> {
        let Some(opening) = &self.opening else { return Ok(()) };
        if self.name.is_none() {
            return Err(LinkEnd::NoWorker(format!(
                "no worker of the class {} is running and has room",
                opening.class
            )));
        }
        let now = Instant::now();
        if *self.gone_at.get_or_insert(now + NOWHERE) <= now {
            return Err(LinkEnd::Lost("it is gone".to_owned()));
        }
        self.may_have_lost = true;
        self.beat_at = self.beat_at.min(now + REPEAT);
        Ok(())
    }
}

/// Tells a worker that nobody is at the other end of a link.
pub(crate) async fn dismiss(client: &Client, link: String) {
    let mut headers = HeaderMap::new();
    headers.insert(header::END, "");
    // If it does not arrive, the worker notices the silence.
    let _ = client.publish_with_headers(link, headers, Bytes::new()).await;
}
