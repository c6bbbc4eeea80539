//! Framed JSON over a WebSocket: each frame, length included, is one binary message.

use super::super::connection::ConnectError;
use super::super::security::Bearer;
use super::FramedConnection;
use crate::protocol::frame;
use futures_util::{SinkExt, StreamExt, future};
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

impl FramedConnection {
    /// Speaks over a WebSocket on a stream of bytes, which may be encrypted. `authority` is
    /// the host and port that the request names.
    pub(in super::super) async fn over_websocket(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        authority: impl fmt::Display,
        bearer: Bearer,
        patience: Duration,
    ) -> Result<Self, ConnectError> {
        let failed = |why: &dyn fmt::Display| ConnectError::Handshake(format!("WebSocket: {why}"));
        // The scheme says nothing here: the stream is encrypted already, if it is to be.
        let mut request =
            format!("ws://{authority}/").into_client_request().map_err(|error| failed(&error))?;
        if let Some(token) = bearer.header() {
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        let longest = Some(frame::MAX_BYTES + frame::HEADER);
        let config = WebSocketConfig::default().max_message_size(longest).max_frame_size(longest);
        let opening = client_async_with_config(request, stream, Some(config));
        let opened = timeout(patience, opening).await.map_err(|_| failed(&"no answer"))?;
        let (socket, _) = opened.map_err(|error| failed(&error))?;
        let (sink, messages) = socket.split();
        let frames = messages.filter_map(|message| {
            future::ready(match message {
                Ok(Message::Binary(message)) => {
                    Some(frame::unwrap(&message).map_err(io::Error::other))
                }
                Ok(Message::Text(_)) => Some(Err(io::Error::other("a text message came"))),
                // The library answers pings by itself.
                Ok(_) | Err(Error::ConnectionClosed) => None,
                Err(error) => Some(Err(io::Error::other(error))),
            })
        });
        let sink = sink.sink_map_err(io::Error::other);
        let sink = sink.with(|frame| future::ready(io::Result::Ok(Message::Binary(frame))));
        Self::start(frames, sink, patience).await
    }
}
