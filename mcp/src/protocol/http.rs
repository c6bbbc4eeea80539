//! This server over streamable HTTP. Requests stand alone: what a client has to keep is in
//! the handles of its sessions, which work only for who has made them.

use super::server::{Authenticated, Handler};
use crate::gateway::Gateway;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Where the protocol is served.
pub const PATH: &str = "/mcp";
/// Bytes that a request may have.
const MAX_REQUEST_BYTES: usize = 8 << 20;
/// Connections that may be open at one time; others wait.
const MAX_CONNECTIONS: usize = 1_000;
/// How long a client may take to agree on encryption.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Says whose a bearer token is; `None` when it is nobody's.
pub type Authenticate = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Who may use a gateway over HTTP.
#[derive(Clone, Default)]
pub struct HttpAccess {
    /// Encrypts connections.
    pub tls: Option<TlsAcceptor>,
    /// Asks every request for a bearer token.
    pub authenticate: Option<Authenticate>,
    /// Names by which clients may address this server, with or without a port, beside those
    /// of this machine itself (`localhost` and its addresses).
    pub hosts: Vec<String>,
    /// Origins of web pages that may use it, such as `https://example.com:443`; none may
    /// when there are none.
    pub origins: Vec<String>,
}

/// Serves clients over HTTP, at [`PATH`]. Returns only when that is not possible.
///
/// # Errors
/// When connections cannot be accepted any more.
pub async fn serve_http(
    gateway: &Gateway,
    listener: TcpListener,
    access: HttpAccess,
) -> io::Result<()> {
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    // Whatever a web page finds out of this address, its name is not one of these.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_max_request_body_bytes(MAX_REQUEST_BYTES)
        .with_allowed_hosts(own.into_iter().chain(access.hosts))
        .with_allowed_origins(access.origins)
        .enforce_origin_validation()
        .with_cancellation_token(CancellationToken::new());
    let listed = Arc::default();
    let handler = Handler { gateway: gateway.clone(), implicit_session: false, listed };
    let service = StreamableHttpService::new(
        move || Ok(handler.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let router = Router::new()
        .nest_service(PATH, service)
        .layer(from_fn_with_state(access.authenticate, authenticated))
        .route("/healthz", get(|| async { StatusCode::OK }));
    axum::serve(Connections::start(listener, access.tls)?, router).await
}

/// Refuses a request without a token, and keeps whose it is.
async fn authenticated(
    State(authenticate): State<Option<Authenticate>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(authenticate) = authenticate {
        let value = request.headers().get(header::AUTHORIZATION);
        let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let Some(name) = token.and_then(|token| authenticate(token)) else {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            return (StatusCode::UNAUTHORIZED, challenge).into_response();
        };
        request.extensions_mut().insert(Authenticated(name.into()));
    }
    next.run(request).await
}

/// Connections that are ready to be served: those that have agreed on encryption, where
/// there is any.
struct Connections {
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
    address: SocketAddr,
}

impl Connections {
    fn start(listener: TcpListener, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(16);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        tokio::spawn(async move {
            // The semaphore is never closed.
            while let Ok(place) = Arc::clone(&places).acquire_owned().await {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = sender.closed() => return,
                };
                let Ok((stream, peer)) = accepted else {
                    // Such as: no descriptor is left at the moment.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let (tls, sender) = (tls.clone(), sender.clone());
                tokio::spawn(async move {
                    let stream = match tls {
                        None => Stream::Plain(stream),
                        Some(tls) => {
                            match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                                Ok(Ok(stream)) => Stream::Encrypted(Box::new(stream)),
                                Ok(Err(_)) | Err(_) => return,
                            }
                        }
                    };
                    let _ = sender.send((Connection { stream, _place: place }, peer)).await;
                });
            }
        });
        Ok(Self { ready, address })
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection, and its place among those that may be open.
struct Connection {
    stream: Stream,
    _place: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Encrypted(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
