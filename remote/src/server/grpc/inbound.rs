//! Requests of a gRPC connection, bounded in bytes while they are received.
//!
//! A gRPC message says its length first. Before it is read further it takes as much of
//! the connection's budget, and gives it back once it was handed to its handler. So many
//! streams at once hold no more than one could, and each goes on when those before it are
//! done: they wait in the order in which they came, and none holds a part of what it needs.

use super::super::admission::Arrival;
use crate::protocol::frame::MAX_BYTES;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio_util::bytes::{Bytes, BytesMut};
use tonic::Status;

/// Bytes of a message's header: a flag, and its length.
const HEADER: usize = 5;

/// Bytes of requests that one connection may have under way: one message of the largest
/// size.
const BYTES: usize = MAX_BYTES + HEADER;

/// Longest message of a connection that has not opened a session.
const FIRST_BYTES: usize = 4 << 10;

/// The budget of one connection.
#[derive(Clone)]
pub(super) struct Inbound {
    arrival: Arc<Arrival>,
    bytes: Arc<Semaphore>,
}

impl Inbound {
    pub(super) fn new(arrival: &Arc<Arrival>) -> Self {
        Self { arrival: Arc::clone(arrival), bytes: Arc::new(Semaphore::new(BYTES)) }
    }

    /// Counts a request's bytes; a layer around the service.
    pub(super) async fn count(self, request: Request, next: Next) -> Response {
        let counted = request.map(|body| {
            Body::new(Counted { body, inbound: self, header: BytesMut::new(), turn: Turn::Header })
        });
        next.run(counted).await
    }
}

/// A request's body, of which no more is read than the budget allows.
struct Counted {
    body: Body,
    inbound: Inbound,
    /// What was read while the length was not yet known.
    header: BytesMut,
    turn: Turn,
}

type Acquiring = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// How far a body is.
enum Turn {
    /// The message's length is not known yet.
    Header,
    /// It waits for its part of the budget.
    Waiting(Acquiring),
    /// It has its part, and gives it back with the body.
    Counted(#[expect(dead_code, reason = "it is kept to be dropped")] OwnedSemaphorePermit),
}

impl Counted {
    /// What a message of this length waits for.
    fn acquire(&self) -> Result<Acquiring, Status> {
        let length = self.header[1..HEADER].iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
        let limit = if self.inbound.arrival.is_admitted() { MAX_BYTES } else { FIRST_BYTES };
        if length > limit {
            return Err(Status::out_of_range(format!(
                "the message is {length} bytes long, and the limit is {limit}"
            )));
        }
        let bytes = u32::try_from(length + HEADER).unwrap_or(u32::MAX);
        Ok(Box::pin(Arc::clone(&self.inbound.bytes).acquire_many_owned(bytes)))
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            match &mut self.turn {
                Turn::Header => {
                    let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
                    let data = match frame.map(|frame| frame.map(Frame::into_data)) {
                        Some(Ok(Ok(data))) => data,
                        Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                        Some(Err(error)) => {
                            return Poll::Ready(Some(Err(Status::from_error(error.into_inner()))));
                        }
                        None => return Poll::Ready(None),
                    };
                    self.header.extend_from_slice(&data);
                    if self.header.len() >= HEADER {
                        match self.acquire() {
                            Ok(acquiring) => self.turn = Turn::Waiting(acquiring),
                            Err(status) => return Poll::Ready(Some(Err(status))),
                        }
                    }
                }
                Turn::Waiting(acquiring) => {
                    let acquired = ready!(acquiring.as_mut().poll(context));
                    let permit = acquired.map_err(|error| Status::internal(error.to_string()))?;
                    self.turn = Turn::Counted(permit);
                    let first = std::mem::take(&mut self.header).freeze();
                    return Poll::Ready(Some(Ok(Frame::data(first))));
                }
                Turn::Counted(_) => {
                    let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
                    return Poll::Ready(frame.map(|frame| {
                        frame.map_err(|error| Status::from_error(error.into_inner()))
                    }));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.header.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
