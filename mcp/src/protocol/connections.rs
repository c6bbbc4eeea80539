//! Connections of clients over HTTP: how many there may be, and how long each may take for
//! what it has to do.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections that may be open at one time; others wait.
const MAX_CONNECTIONS: usize = 1_000;
/// How long a client may take to agree on encryption.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take to send the headers of its next request. A connection that
/// is idle for as long is closed.
const HEADERS: Duration = Duration::from_secs(30);
/// How long a client may read nothing of what is sent to it.
const STALL: Duration = Duration::from_mins(1);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections. Dropping what this returns closes them.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
) -> io::Result<()> {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let builder = Arc::new(builder);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut served = JoinSet::new();
    loop {
        while served.try_join_next().is_some() {}
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            // Such as: no descriptor is left at the moment.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (tls, router, builder) = (tls.clone(), router.clone(), Arc::clone(&builder));
        served.spawn(async move {
            let Some(stream) = opened(stream, tls).await else { return };
            let connection = Connection { stream, stalled: None, _place: place };
            let service = TowerToHyperService::new(router);
            let serving = builder.serve_connection(TokioIo::new(connection), service);
            if let Err(error) = serving.await {
                tracing::debug!("a connection has ended: {error}");
            }
        });
    }
}

/// A connection once it has agreed on encryption, where there is any.
async fn opened(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Stream> {
    // Answers are short, and somebody waits for them.
    let _ = stream.set_nodelay(true);
    match tls {
        None => Some(Stream::Plain(stream)),
        Some(tls) => {
            let opened = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await;
            opened.ok()?.ok().map(|stream| Stream::Encrypted(Box::new(stream)))
        }
    }
}

/// A connection, and its place among those that may be open.
struct Connection {
    stream: Stream,
    /// Ends the connection when the client reads nothing for too long.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Lets what is to be written wait for the client, but not for ever.
    fn bounded<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
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
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        this.bounded(written, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        };
        this.bounded(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closed = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        this.bounded(closed, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    async fn connected() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a port");
        // More than the buffers of a connection hold.
        let router = Router::new().route("/", get(|| async { vec![b'x'; 64 << 20] }));
        tokio::spawn(serve(listener, None, router));
        TcpStream::connect(address).await.expect("it listens")
    }

    /// The clock goes on by itself while nothing else happens, so that no time passes here.
    #[tokio::test(start_paused = true)]
    async fn who_sends_no_whole_request_is_disconnected() {
        for begun in ["", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
            let mut stream = connected().await;
            stream.write_all(begun.as_bytes()).await.expect("it reads");
            let started = Instant::now();
            let mut answer = Vec::new();
            // It may be closed without an answer.
            let _ = stream.read_to_end(&mut answer).await;
            assert!(started.elapsed() >= HEADERS, "{:?}", started.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_disconnected() {
        let mut stream = connected().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it reads");
        tokio::time::sleep(STALL * 2).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.is_empty() && answer.len() < 64 << 20, "{}", answer.len());
    }
}
