//! What ends a server, or one client's connection.

use super::admission::NotAdmitted;
use super::outgoing::STALLED;
use crate::protocol::frame::FrameError;
use std::io;

/// Why a server, or the service of one client, has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It cannot listen.
    #[error("cannot listen on {place}: {error}")]
    Listen {
        /// The address or path.
        place: String,
        /// What happened.
        error: io::Error,
    },
    /// The standard streams cannot be used, or the address cannot be announced there.
    #[error("cannot use the standard streams: {0}")]
    StandardStreams(io::Error),
    /// An address asks for encryption, and there is no certificate.
    #[error("an encrypted address needs a certificate and its key")]
    NoCertificate,
    /// The client and the host could not agree on how to encrypt.
    #[error("no encrypted connection: {0}")]
    Tls(io::Error),
    /// Nothing more can be read from the client.
    #[error("cannot read from the client: {0}")]
    Read(io::Error),
    /// Nothing more can be written to the client.
    #[error("cannot write to the client: {0}")]
    Write(Box<dyn std::error::Error + Send + Sync>),
    /// The client's HTTP connection has failed.
    #[error("the client's connection failed: {0}")]
    Http(Box<dyn std::error::Error + Send + Sync>),
    /// The client sent something else than a message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The client sent a WebSocket message that is not binary.
    #[error("a text message is not a frame")]
    TextMessage,
    /// The client began with another message.
    #[error("the first message must be connection/hello")]
    NoHello,
    /// The client sent a second hello.
    #[error("a second connection/hello")]
    SecondHello,
    /// The client used the id of a request again.
    #[error("the request id {0} was used twice")]
    RequestIdUsed(i64),
    /// The client has left too much unread for too long.
    #[error("the client has not read for {} s", STALLED.as_secs())]
    Stalled,
    /// The client was not admitted.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
}
