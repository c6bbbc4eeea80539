//! What a framed client is sent.

use super::super::error::ServeError;
use super::super::outgoing::{Receiver, Sender};
use super::{Delegates, Result};
use crate::protocol::frame::{self, FrameError};
use crate::protocol::{DelegateRequest, HostMessage, Outcome, Refusal, TimedResponse};
use cellblock::ToolInput;
use futures_util::{Sink, SinkExt};
use tokio_util::bytes::Bytes;

/// Bytes that a message may have around what it carries.
const ENVELOPE: usize = 1_024;

/// Messages that wait to be written to a client.
#[derive(Clone)]
pub(super) struct Outbox(pub(super) Sender<HostMessage>);

impl Outbox {
    /// Queues a message once there is room for it. One to a client that has gone is lost.
    pub(super) async fn send(&self, message: HostMessage) {
        let bytes = carried_bytes(&message) + ENVELOPE;
        let _ = self.0.send(message, bytes).await;
    }
}

/// Writes what is queued, until nothing can come any more. One message at a time is made
/// into bytes.
pub(super) async fn write<O>(
    mut queue: Receiver<HostMessage>,
    mut sink: O,
    delegates: Delegates,
) -> Result<()>
where
    O: Sink<Bytes> + Unpin,
    O::Error: std::error::Error + Send + Sync + 'static,
{
    let failed = |error: O::Error| ServeError::Write(error.into());
    while let Some((message, mut bytes)) = queue.recv().await {
        let mut next = Some(message);
        while let Some(message) = next {
            if let Some(frame) = encode(message, &delegates) {
                sink.feed(frame).await.map_err(failed)?;
            }
            next = queue.try_recv().ok().map(|(message, more)| {
                // What was written counts until all of it is flushed.
                bytes.merge(more);
                message
            });
        }
        sink.flush().await.map_err(failed)?;
    }
    sink.close().await.map_err(failed)
}

/// A message as a frame. One that is too long fails alone: a response is replaced by an
/// error, and what was asked of the client has failed.
fn encode(message: HostMessage, delegates: &Delegates) -> Option<Bytes> {
    let error = match frame::encode(&message) {
        Ok(frame) => return Some(frame),
        Err(error) => error,
    };
    let too_large = |error: FrameError| Refusal::TooLarge(error).to_string();
    let instead = match message {
        HostMessage::Response { id, .. } => {
            HostMessage::Response { id, result: Outcome::Error { message: too_large(error) } }
        }
        HostMessage::InitialResponse { id, .. } => HostMessage::InitialResponse {
            id,
            result: Outcome::Error { message: too_large(error) },
        },
        HostMessage::DelegateRequest { id, .. } => {
            if let Some(reply) = delegates.complete(&id) {
                let _ = reply.send(Err(error.to_string()));
            }
            return None;
        }
        other => {
            tracing::error!("a message was not sent: {error}: {other:?}");
            return None;
        }
    };
    frame::encode(&instead).ok()
}

/// Bytes of what a message carries from a cell; all else of it is small.
fn carried_bytes(message: &HostMessage) -> usize {
    match message {
        HostMessage::Response { result: Outcome::Ok { value }, .. } => value.carried_bytes(),
        HostMessage::InitialResponse { result: Outcome::Ok { value }, .. } => {
            TimedResponse::carried_bytes(value)
        }
        HostMessage::Response { result: Outcome::Error { message }, .. }
        | HostMessage::InitialResponse { result: Outcome::Error { message }, .. } => message.len(),
        HostMessage::DelegateRequest { request, .. } => match request {
            DelegateRequest::InvokeTool { invocation, .. } => {
                invocation.input.as_ref().map_or(0, ToolInput::byte_len)
            }
            DelegateRequest::Notify { text, .. } => text.len(),
        },
        _ => 0,
    }
}
