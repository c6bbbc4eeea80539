//! Where clients come from.

use super::access::Guard;
use super::admission::{Admission, Arrival};
use super::error::ServeError;
use super::metrics::OpenConnection;
use super::standard_streams::standard_streams;
use super::{Server, framed, grpc};
use crate::protocol::{Protocol, frame};
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{SinkExt, StreamExt, future};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::bytes::Bytes;
use tokio_util::task::TaskTracker;

/// How long nothing is accepted after a connection could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Result<T> = std::result::Result<T, ServeError>;

/// A place that clients come from, and the protocol they speak there.
///
/// ```
/// use cellblock_remote::server::Listen;
///
/// assert_eq!("grpc+unix:///run/x".parse::<Listen>().unwrap().to_string(), "grpc+unix:///run/x");
/// assert!("http://127.0.0.1:80".parse::<Listen>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    transport: Transport,
    protocol: Protocol,
}

/// What carries bytes to and from clients.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Transport {
    /// The standard streams, for one client.
    Stdio,
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port. Frames come as WebSocket messages there.
    Tcp { address: SocketAddr, tls: bool },
}

/// Why an address was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseListenError {
    /// It has another scheme.
    #[error(
        "it must be stdio, grpc+stdio://, unix://PATH, grpc+unix://PATH, grpc://IP:PORT, \
         grpcs://IP:PORT, ws://IP:PORT or wss://IP:PORT"
    )]
    Scheme,
    /// What follows the scheme is not an address.
    #[error("`{0}` is not IP:PORT, such as 127.0.0.1:0")]
    Address(String),
    /// What follows the scheme is not an absolute path.
    #[error("`{0}` is not an absolute path")]
    RelativePath(PathBuf),
}

impl Listen {
    /// Whether machines other than this one may reach it.
    pub fn is_reachable_from_elsewhere(&self) -> bool {
        matches!(self.transport, Transport::Tcp { address, .. } if !address.ip().is_loopback())
    }

    /// Whether connections there are encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.transport, Transport::Tcp { tls: true, .. })
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.transport, self.protocol) {
            (Transport::Stdio, Protocol::Framed) => f.write_str("stdio"),
            (Transport::Stdio, Protocol::Grpc) => f.write_str("grpc+stdio://"),
            (Transport::Unix(path), Protocol::Framed) => write!(f, "unix://{}", path.display()),
            (Transport::Unix(path), Protocol::Grpc) => write!(f, "grpc+unix://{}", path.display()),
            (Transport::Tcp { address, tls }, protocol) => {
                let scheme = match protocol {
                    Protocol::Framed => "ws",
                    Protocol::Grpc => "grpc",
                };
                write!(f, "{scheme}{}://{address}", if *tls { "s" } else { "" })
            }
        }
    }
}

impl FromStr for Listen {
    type Err = ParseListenError;

    fn from_str(url: &str) -> std::result::Result<Self, ParseListenError> {
        let tcp = |address: &str, tls| match address.parse() {
            Ok(address) => Ok(Transport::Tcp { address, tls }),
            Err(_) => Err(ParseListenError::Address(address.to_owned())),
        };
        let unix = |path: &str| {
            let path = PathBuf::from(path);
            if path.is_absolute() {
                Ok(Transport::Unix(path))
            } else {
                Err(ParseListenError::RelativePath(path))
            }
        };
        let (transport, protocol) = match url.split_once("://") {
            None if url == "stdio" => (Transport::Stdio, Protocol::Framed),
            Some(("stdio", "")) => (Transport::Stdio, Protocol::Framed),
            Some(("grpc+stdio", "")) => (Transport::Stdio, Protocol::Grpc),
            Some(("unix", path)) => (unix(path)?, Protocol::Framed),
            Some(("grpc+unix", path)) => (unix(path)?, Protocol::Grpc),
            Some(("grpc", address)) => (tcp(address, false)?, Protocol::Grpc),
            Some(("grpcs", address)) => (tcp(address, true)?, Protocol::Grpc),
            Some(("ws", address)) => (tcp(address, false)?, Protocol::Framed),
            Some(("wss", address)) => (tcp(address, true)?, Protocol::Framed),
            _ => return Err(ParseListenError::Scheme),
        };
        Ok(Self { transport, protocol })
    }
}

impl Server {
    /// Serves clients: the one on the standard streams until it has gone, or all that
    /// connect. Where it listens is announced on standard output, as a URL.
    ///
    /// # Errors
    /// It cannot listen there, or the one client broke the protocol. What happens to one
    /// client of many is logged.
    pub async fn serve(self: &Arc<Self>, listen: &Listen) -> Result<()> {
        let place = || listen.to_string();
        match &listen.transport {
            Transport::Stdio => {
                let (input, output) = standard_streams().map_err(ServeError::StandardStreams)?;
                let (server, arrival) = (Arc::clone(self), Arrival::alone());
                match listen.protocol {
                    Protocol::Framed => framed::serve_stream(server, arrival, input, output).await,
                    Protocol::Grpc => {
                        grpc::serve(server, arrival, tokio::io::join(input, output), None).await
                    }
                }
            }
            Transport::Unix(path) => {
                let listener = bind_unix(path)
                    .await
                    .map_err(|error| ServeError::Listen { place: place(), error })?;
                announce(listen)?;
                let accept = async || Ok(listener.accept().await?.0);
                each(&self.connections, accept, |socket, arrival| {
                    self.serve_unix(listen.protocol, socket, arrival)
                })
                .await
            }
            Transport::Tcp { address, tls } => {
                if *tls && self.access.tls().is_none() {
                    return Err(ServeError::NoCertificate);
                }
                let listening = async {
                    let listener = TcpListener::bind(address).await?;
                    let address = listener.local_addr()?;
                    Ok((listener, address))
                };
                let (listener, address) = listening
                    .await
                    .map_err(|error| ServeError::Listen { place: place(), error })?;
                announce(&Listen { transport: Transport::Tcp { address, tls: *tls }, ..*listen })?;
                let accept = async || Ok(listener.accept().await?.0);
                each(&self.connections, accept, |socket, arrival| {
                    self.serve_tcp(listen.protocol, *tls, socket, arrival)
                })
                .await
            }
        }
    }

    fn serve_unix(
        self: &Arc<Self>,
        protocol: Protocol,
        socket: UnixStream,
        arrival: Arc<Arrival>,
    ) -> impl Future<Output = Result<()>> + use<> {
        let server = Arc::clone(self);
        async move {
            match protocol {
                Protocol::Framed => {
                    let (input, output) = socket.into_split();
                    framed::serve_stream(server, arrival, input, output).await
                }
                Protocol::Grpc => grpc::serve(server, arrival, socket, None).await,
            }
        }
    }

    fn serve_tcp(
        self: &Arc<Self>,
        protocol: Protocol,
        tls: bool,
        socket: TcpStream,
        arrival: Arc<Arrival>,
    ) -> impl Future<Output = Result<()>> + use<> {
        let server = Arc::clone(self);
        async move {
            configure_socket(&socket);
            // A connection has a bounded time to open something, its handshake included.
            match server.access.tls().filter(|_| tls) {
                Some(acceptor) => {
                    let socket = acceptor.accept(socket).await.map_err(ServeError::Tls)?;
                    server.serve_stream(protocol, socket, arrival).await
                }
                None => server.serve_stream(protocol, socket, arrival).await,
            }
        }
    }

    async fn serve_stream(
        self: Arc<Self>,
        protocol: Protocol,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        arrival: Arc<Arrival>,
    ) -> Result<()> {
        let guard = self.access.guard();
        match protocol {
            Protocol::Framed => serve_http(self, arrival, stream, guard).await,
            Protocol::Grpc => grpc::serve(self, arrival, stream, Some(guard)).await,
        }
    }
}

/// Serves every connection that is accepted, each in a task of its own.
async fn each<S, F>(
    connections: &TaskTracker,
    accept: impl AsyncFn() -> io::Result<S>,
    serve: impl Fn(S, Arc<Arrival>) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let admission = Admission::new();
    loop {
        match accept().await {
            Ok(socket) => {
                let arrival = admission.arrive();
                connections.spawn(until_refused(serve(socket, Arc::clone(&arrival)), arrival));
            }
            Err(error) => {
                // Such as too many open files.
                tracing::warn!("a connection was not accepted: {error}");
                admission.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one client of many, unless it opens nothing: what happens to it is logged and
/// goes no further.
async fn until_refused(serving: impl Future<Output = Result<()>>, arrival: Arc<Arrival>) {
    let _open = OpenConnection::new();
    let served = tokio::select! {
        served = serving => served,
        why = arrival.not_admitted() => Err(why.into()),
    };
    if let Err(error) = served {
        tracing::warn!("a client's connection was ended: {error}");
    }
}

/// Configures a connection: answers do not wait for acknowledgements, and a client whose
/// machine is gone is found out in two minutes.
fn configure_socket(socket: &TcpStream) {
    use rustix::net::sockopt;
    let configured = || -> io::Result<()> {
        socket.set_nodelay(true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, Duration::from_mins(1))?;
        sockopt::set_tcp_keepintvl(socket, Duration::from_secs(20))?;
        Ok(sockopt::set_tcp_keepcnt(socket, 3)?)
    };
    if let Err(error) = configured() {
        // It serves all the same.
        tracing::warn!("a connection could not be configured: {error}");
    }
}

/// Writes on standard output where clients may connect.
fn announce(listen: &Listen) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{listen}").and_then(|()| output.flush()).map_err(ServeError::StandardStreams)
}

/// Listens on a Unix socket that only this user can connect to.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // What an earlier host left behind refuses connections; nothing else is removed.
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && UnixStream::connect(path).await.is_err()
    {
        std::fs::remove_file(path)?;
    }
    let mask = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    listener
}

/// Refuses a page in a browser, which could reach a port of this machine: it says where
/// it is from.
pub(super) async fn refuse_browsers(
    headers: HeaderMap,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    if headers.contains_key(header::ORIGIN) {
        return StatusCode::FORBIDDEN.into_response();
    }
    next.run(request).await
}

/// An HTTP connection that becomes a WebSocket, or asks whether the host is there.
async fn serve_http(
    server: Arc<Server>,
    arrival: Arc<Arrival>,
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    guard: Guard,
) -> Result<()> {
    let stream = TokioIo::new(arrival.meter(socket));
    let router = axum::Router::new()
        .route("/", get(websocket))
        .layer(from_fn(move |request, next| guard.clone().ask(request, next)))
        .route("/readyz", get(|| async { StatusCode::OK }))
        .layer(from_fn(refuse_browsers))
        .with_state((server, arrival));
    auto::Builder::new(TokioExecutor::new())
        .http1_only()
        .serve_connection_with_upgrades(stream, TowerToHyperService::new(router))
        .await
        .map_err(ServeError::Http)
}

async fn websocket(
    State((server, arrival)): State<(Arc<Server>, Arc<Arrival>)>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !arrival.can_be_admitted() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let longest = frame::MAX_BYTES + frame::HEADER;
    upgrade.max_message_size(longest).max_frame_size(longest).on_upgrade(move |socket| async move {
        until_refused(serve_websocket(server, &arrival, socket), Arc::clone(&arrival)).await;
    })
}

/// Frames as binary messages: one each way, length included.
async fn serve_websocket(server: Arc<Server>, arrival: &Arrival, socket: WebSocket) -> Result<()> {
    let (sink, messages) = socket.split();
    let frames = messages.filter_map(|message| {
        future::ready(match message {
            Ok(Message::Binary(frame)) => Some(frame::unwrap(&frame).map_err(Into::into)),
            Ok(Message::Text(_)) => Some(Err(ServeError::TextMessage)),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => None,
            Err(error) => Some(Err(ServeError::Read(io::Error::other(error)))),
        })
    });
    let sink =
        sink.with(|frame: Bytes| future::ready(Ok::<_, axum::Error>(Message::Binary(frame))));
    framed::serve(server, arrival, frames, sink).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_transport_and_a_protocol() {
        for url in [
            "stdio",
            "grpc+stdio://",
            "unix:///run/x",
            "grpc+unix:///run/x",
            "grpc://127.0.0.1:0",
            "ws://[::1]:0",
            "grpcs://127.0.0.1:0",
            "wss://[::1]:0",
        ] {
            let listen: Listen = url.parse().unwrap();
            assert_eq!(listen.to_string(), url);
            assert!(!listen.is_reachable_from_elsewhere(), "{url}");
        }
        assert_eq!("stdio://".parse::<Listen>(), "stdio".parse());
        assert!("ws://0.0.0.0:1".parse::<Listen>().unwrap().is_reachable_from_elsewhere());
        for url in
            ["", "grpc+stdio", "stdio://x", "unix://x", "ws://localhost:1", "http://1.2.3.4:5"]
        {
            assert!(url.parse::<Listen>().is_err(), "{url}");
        }
    }
}
