//! Connections before they have opened anything.
//!
//! Whoever reaches a port can connect and say nothing. So a connection costs one of the
//! host's places only once it has said hello or opened a session. Until then it may send
//! little, has a limited time, and makes room for newer ones when there are too many.

use cellblock::support::lock;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Clients of a listener that may have opened something at one time.
const CONNECTIONS: usize = 256;

/// Connections of a listener that may have opened nothing yet; above it the oldest ends.
const WAITING: usize = 128;

/// How long a connection may take to open something.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Bytes that a connection may send before it has opened something.
const HANDSHAKE_BYTES: usize = 64 << 10;

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

/// Connections that have opened nothing yet.
#[derive(Debug, Default)]
struct Waiting {
    last_number: u64,
    /// Their numbers, and what ends them, oldest first.
    connections: VecDeque<(u64, CancellationToken)>,
}

/// One connection; it keeps its place until the last handle is dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    admission: Arc<Admission>,
    number: u64,
    /// Cancelled when the connection must make room.
    evicted: CancellationToken,
    /// When it must have opened something; `None` for the only client there will be.
    deadline: Option<Instant>,
    place: OnceCell<OwnedSemaphorePermit>,
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// It took too long to say hello or to open a session.
    #[error("no connection/hello or session within {} s", HANDSHAKE.as_secs())]
    Late,
    /// It had opened nothing when too many others came.
    #[error("it had not opened anything when too many others came")]
    Evicted,
    /// As many clients are connected as may be.
    #[error("as many clients are connected as may be")]
    Full,
}

impl Admission {
    /// The connections of a new listener.
    pub(super) fn new() -> Arc<Self> {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        Arc::new(Self { places, waiting: Mutex::default() })
    }

    /// A connection was accepted.
    pub(super) fn arrive(self: &Arc<Self>) -> Arc<Arrival> {
        let evicted = CancellationToken::new();
        let mut waiting = lock(&self.waiting);
        if waiting.connections.len() >= WAITING {
            waiting.evict();
        }
        waiting.last_number += 1;
        let number = waiting.last_number;
        waiting.connections.push_back((number, evicted.clone()));
        let deadline = Some(Instant::now() + HANDSHAKE);
        let admission = Arc::clone(self);
        Arc::new(Arrival { admission, number, evicted, deadline, place: OnceCell::new() })
    }

    /// No connection can be accepted: the oldest that has opened nothing makes room.
    pub(super) fn make_room(&self) {
        lock(&self.waiting).evict();
    }
}

impl Waiting {
    fn evict(&mut self) {
        if let Some((_, oldest)) = self.connections.pop_front() {
            oldest.cancel();
        }
    }
}

impl Arrival {
    /// The only client of a host, on its standard streams: nobody else waits for its place.
    pub(super) fn alone() -> Arc<Self> {
        Arc::new(Self {
            admission: Admission::new(),
            number: 0,
            evicted: CancellationToken::new(),
            deadline: None,
            place: OnceCell::new(),
        })
    }

    /// The connection has said hello or opens a session: it takes a place, or waits for one.
    pub(super) async fn admit(&self) -> Result<(), NotAdmitted> {
        let place = || async {
            let place = Arc::clone(&self.admission.places).acquire_owned();
            let place = match self.deadline {
                Some(deadline) => {
                    timeout_at(deadline, place).await.map_err(|_| NotAdmitted::Full)?
                }
                None => place.await,
            };
            lock(&self.admission.waiting).connections.retain(|(each, _)| *each != self.number);
            place.map_err(|_| NotAdmitted::Full)
        };
        self.place.get_or_try_init(place).await.map(drop)
    }

    /// Whether there is a place for the connection now.
    pub(super) fn can_be_admitted(&self) -> bool {
        self.admission.places.available_permits() > 0
    }

    /// Whether the connection has a place.
    pub(super) fn is_admitted(&self) -> bool {
        self.place.initialized()
    }

    /// Returns when the connection has not opened anything and must end.
    pub(super) async fn not_admitted(&self) -> NotAdmitted {
        let late = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            () = self.evicted.cancelled() => NotAdmitted::Evicted,
            () = late => NotAdmitted::Late,
        };
        if self.is_admitted() {
            std::future::pending::<()>().await;
        }
        why
    }

    /// Bounds what may be read from the connection until it is admitted.
    pub(super) fn meter<S>(self: &Arc<Self>, stream: S) -> Metered<S> {
        Metered { stream, arrival: Arc::clone(self), read: 0 }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        lock(&self.admission.waiting).connections.retain(|(each, _)| *each != self.number);
    }
}

/// A stream of which little can be read until its connection is admitted.
pub(super) struct Metered<S> {
    stream: S,
    arrival: Arc<Arrival>,
    /// Bytes that were read before the connection was admitted.
    read: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.arrival.is_admitted() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let left = HANDSHAKE_BYTES - self.read;
        if left == 0 {
            return Poll::Ready(Err(io::Error::other(format!(
                "it sent more than {HANDSHAKE_BYTES} bytes before it opened anything"
            ))));
        }
        let mut bytes = [0; 4_096];
        let most = left.min(bytes.len()).min(buffer.remaining());
        let mut part = ReadBuf::new(&mut bytes[..most]);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        buffer.put_slice(part.filled());
        self.read += part.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
