//! Answers that are on their way to a client, and go back when it does not take them.

use super::super::session::CellRequest;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use cellblock::RuntimeResponse;
use cellblock::support::lock;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio_util::bytes::Bytes;

/// A response of a cell that is being sent. Dropped before it was sent, it goes back to
/// its cell. It travels from the handler to the response's body as an extension.
#[derive(Clone)]
pub(super) struct Delivery(Arc<Mutex<Option<Unsent>>>);

struct Unsent {
    request: CellRequest,
    /// `None` when there is nothing to give back.
    response: Option<RuntimeResponse>,
}

impl Delivery {
    pub(super) fn new(request: CellRequest, response: Option<RuntimeResponse>) -> Self {
        Self(Arc::new(Mutex::new(Some(Unsent { request, response }))))
    }

    /// Ties a delivery to the body of its response; a layer around the service.
    pub(super) async fn follow(mut response: Response) -> Response {
        match response.extensions_mut().remove::<Self>() {
            Some(delivery) => response.map(|body| Body::new(Delivered { body, delivery })),
            None => response,
        }
    }

    fn sent(&self) {
        if let Some(mut sent) = lock(&self.0).take() {
            sent.response = None;
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some(response) = self.response.take() {
            self.request.give_back(response);
        }
    }
}

/// A body with a cell's response. Its last frame is asked for once all before it is with
/// the client, or on its way there.
struct Delivered {
    body: Body,
    delivery: Delivery,
}

impl HttpBody for Delivered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers)) {
            self.delivery.sent();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
