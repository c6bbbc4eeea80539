//! Where clients come from.

use super::session::{Host, SHUTDOWN_GRACE};
use super::{framed, grpc};
use crate::protocol::frame;
use anyhow::{Context, Result};
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{SinkExt, StreamExt, future};
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{BytesCodec, FramedRead, FramedWrite};

/// Clients that may be connected at one time.
const CONNECTIONS: usize = 256;

/// A place that clients come from, as a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// One client on the standard streams.
    Stdio,
    /// One client on the standard streams, by gRPC.
    GrpcStdio,
    /// A Unix socket.
    Unix(PathBuf),
    /// A Unix socket, by gRPC.
    GrpcUnix(PathBuf),
    /// A TCP port, by gRPC.
    Grpc(SocketAddr),
    /// A TCP port, by WebSocket.
    WebSocket(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let address = |address: &str| {
            address.parse().map_err(|_| format!("`{address}` is not IP:PORT, such as 127.0.0.1:0"))
        };
        let path = |path: &str| {
            let path = Path::new(path);
            if path.is_absolute() {
                Ok(path.to_owned())
            } else {
                Err(format!("`{}` is not an absolute path", path.display()))
            }
        };
        match url.split_once("://") {
            None if url == "stdio" => Ok(Self::Stdio),
            Some(("stdio", "")) => Ok(Self::Stdio),
            Some(("grpc+stdio", "")) => Ok(Self::GrpcStdio),
            Some(("unix", rest)) => path(rest).map(Self::Unix),
            Some(("grpc+unix", rest)) => path(rest).map(Self::GrpcUnix),
            Some(("grpc", rest)) => address(rest).map(Self::Grpc),
            Some(("ws", rest)) => address(rest).map(Self::WebSocket),
            _ => Err("it must be stdio, grpc+stdio://, unix://PATH, grpc+unix://PATH, \
                      grpc://IP:PORT or ws://IP:PORT"
                .to_owned()),
        }
    }
}

/// Serves clients: the one on the standard streams, or all that connect.
pub async fn serve(listen: Listen, host: Arc<Host>) -> Result<()> {
    match listen {
        Listen::Stdio => {
            let (input, output) = standard_streams()?;
            serve_framed(host, input, output).await
        }
        Listen::GrpcStdio => {
            let (input, output) = standard_streams()?;
            grpc::serve(host, tokio::io::join(input, output)).await
        }
        Listen::Unix(path) => {
            each_unix(&path, |socket| {
                let (input, output) = socket.into_split();
                serve_framed(Arc::clone(&host), input, output)
            })
            .await
        }
        Listen::GrpcUnix(path) => {
            each_unix(&path, |socket| grpc::serve(Arc::clone(&host), socket)).await
        }
        Listen::Grpc(address) => {
            let listener = bind(address, "http").await?;
            let places = Arc::new(Semaphore::new(CONNECTIONS));
            loop {
                let (place, accepted) = accept(&places, listener.accept()).await?;
                let Some((socket, _)) = accepted else { continue };
                set_up(&socket);
                let host = Arc::clone(&host);
                tokio::spawn(client(place, grpc::serve(host, socket)));
            }
        }
        Listen::WebSocket(address) => {
            let listener = bind(address, "ws").await?;
            let listener = axum::serve::ListenerExt::tap_io(listener, |socket| {
                set_up(socket);
            });
            let sockets = Sockets { host, places: Arc::new(Semaphore::new(CONNECTIONS)) };
            let router = axum::Router::new()
                .route("/", get(websocket))
                .route("/readyz", get(|| async { StatusCode::OK }))
                .layer(axum::middleware::from_fn(refuse_browsers))
                .with_state(sockets);
            axum::serve(listener, router).await.context("the listener failed")
        }
    }
}

async fn serve_framed<I, O>(host: Arc<Host>, input: I, output: O) -> Result<()>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Send + Unpin + 'static,
{
    let frames = FramedRead::new(input, frame::decoder())
        .map(|frame| frame.map(BytesMut::freeze).context("cannot read from the client"));
    framed::serve(host, frames, FramedWrite::new(output, BytesCodec::new())).await
}

/// Prepares a connection: answers do not wait for acknowledgements, and a client whose
/// machine is gone is found out in two minutes.
fn set_up(socket: &TcpStream) {
    use rustix::net::sockopt;
    let prepared = || -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, Duration::from_mins(1))?;
        sockopt::set_tcp_keepintvl(socket, Duration::from_secs(20))?;
        Ok(sockopt::set_tcp_keepcnt(socket, 3)?)
    };
    if let Err(error) = prepared() {
        // It serves all the same.
        tracing::warn!("a connection could not be set up: {error}");
    }
}

/// Listens on a TCP port, and says on standard output which it is.
async fn bind(address: SocketAddr, scheme: &str) -> Result<TcpListener> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    say(&format!("{scheme}://{}", listener.local_addr()?))?;
    Ok(listener)
}

fn say(url: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{url}").context("cannot write to standard output")?;
    Ok(output.flush()?)
}

/// A connection, once there is a place for it; `None` when it failed before it began.
async fn accept<T>(
    places: &Arc<Semaphore>,
    accepting: impl Future<Output = std::io::Result<T>>,
) -> Result<(OwnedSemaphorePermit, Option<T>)> {
    let place = Arc::clone(places).acquire_owned().await?;
    match accepting.await {
        Ok(accepted) => Ok((place, Some(accepted))),
        Err(error) => {
            // Such as too many open files: others may end meanwhile.
            tracing::warn!("a connection was lost: {error}");
            tokio::time::sleep(SHUTDOWN_GRACE / 50).await;
            Ok((place, None))
        }
    }
}

/// Serves one client of many: what happens to it is logged and goes no further.
async fn client(_place: OwnedSemaphorePermit, serving: impl Future<Output = Result<()>>) {
    if let Err(error) = serving.await {
        tracing::warn!("a client was given up: {error:#}");
    }
}

/// Serves every client of a Unix socket that only this user can connect to.
async fn each_unix<F>(path: &Path, serve: impl Fn(UnixStream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let context = || format!("cannot listen on {}", path.display());
    // What an earlier host left behind refuses connections; nothing else is removed.
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && UnixStream::connect(path).await.is_err()
    {
        std::fs::remove_file(path).with_context(context)?;
    }
    let mask = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = listener.with_context(context)?;
    say(&format!("unix://{}", path.display()))?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (place, accepted) = accept(&places, listener.accept()).await?;
        if let Some((socket, _)) = accepted {
            tokio::spawn(client(place, serve(socket)));
        }
    }
}

#[derive(Clone)]
struct Sockets {
    host: Arc<Host>,
    places: Arc<Semaphore>,
}

/// A page in a browser could reach a port of this machine; it says where it is from.
async fn refuse_browsers(
    headers: HeaderMap,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    if headers.contains_key(header::ORIGIN) {
        return StatusCode::FORBIDDEN.into_response();
    }
    next.run(request).await
}

async fn websocket(State(sockets): State<Sockets>, upgrade: WebSocketUpgrade) -> Response {
    let Ok(place) = Arc::clone(&sockets.places).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let longest = frame::MAX_BYTES + 4;
    upgrade
        .max_message_size(longest)
        .max_frame_size(longest)
        .on_upgrade(move |socket| client(place, serve_websocket(sockets.host, socket)))
}

/// Frames as binary messages: one each way, length included.
async fn serve_websocket(host: Arc<Host>, socket: WebSocket) -> Result<()> {
    let (sink, messages) = socket.split();
    let frames = messages.filter_map(|message| {
        future::ready(match message {
            Ok(Message::Binary(frame)) => Some(frame::unwrap(&frame).map_err(Into::into)),
            Ok(Message::Text(_)) => Some(Err(anyhow::anyhow!("a text message is no frame"))),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => None,
            Err(error) => Some(Err(error.into())),
        })
    });
    let sink =
        sink.with(|frame: Bytes| future::ready(Ok::<_, axum::Error>(Message::Binary(frame))));
    framed::serve(host, frames, sink).await
}

type Input = Box<dyn AsyncRead + Send + Unpin>;
type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The standard streams, read and written without threads where they are pipes or
/// sockets, as a client's child has them.
fn standard_streams() -> Result<(Input, Output)> {
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let input: Input = match kind(&input.as_fd().try_clone_to_owned()?)? {
        Kind::Pipe(fd) => Box::new(pipe::Receiver::from_owned_fd(fd)?),
        Kind::Socket(fd) => Box::new(socket(fd)?),
        Kind::Other => Box::new(tokio::io::stdin()),
    };
    let output: Output = match kind(&output.as_fd().try_clone_to_owned()?)? {
        Kind::Pipe(fd) => Box::new(pipe::Sender::from_owned_fd(fd)?),
        Kind::Socket(fd) => Box::new(socket(fd)?),
        Kind::Other => Box::new(tokio::io::stdout()),
    };
    Ok((input, output))
}

enum Kind {
    Pipe(OwnedFd),
    Socket(OwnedFd),
    Other,
}

fn kind(fd: &OwnedFd) -> Result<Kind> {
    let file = std::fs::File::from(fd.try_clone()?);
    let kind = file.metadata()?.file_type();
    let fd = OwnedFd::from(file);
    Ok(if kind.is_fifo() {
        Kind::Pipe(fd)
    } else if kind.is_socket() {
        Kind::Socket(fd)
    } else {
        Kind::Other
    })
}

fn socket(fd: OwnedFd) -> Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(fd);
    socket.set_nonblocking(true)?;
    Ok(UnixStream::from_std(socket)?)
}

#[cfg(test)]
mod tests {
    use super::Listen;

    #[test]
    fn urls_name_transports() {
        let parse = |url: &str| url.parse::<Listen>();
        assert_eq!(parse("stdio"), Ok(Listen::Stdio));
        assert_eq!(parse("stdio://"), Ok(Listen::Stdio));
        assert_eq!(parse("grpc+stdio://"), Ok(Listen::GrpcStdio));
        assert_eq!(parse("unix:///run/x"), Ok(Listen::Unix("/run/x".into())));
        assert_eq!(parse("grpc+unix:///run/x"), Ok(Listen::GrpcUnix("/run/x".into())));
        let address = "127.0.0.1:0".parse().unwrap();
        assert_eq!(parse("grpc://127.0.0.1:0"), Ok(Listen::Grpc(address)));
        assert_eq!(parse("ws://127.0.0.1:0"), Ok(Listen::WebSocket(address)));
        for url in
            ["", "grpc+stdio", "stdio://x", "unix://x", "ws://localhost:1", "http://1.2.3.4:5"]
        {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
