//! One connection of framed JSON, version 1.
//!
//! One task reads and admits (`requests`), one writes (`outbox`), and each request for a
//! cell is a task of its own. What breaks the protocol ends the connection, and its
//! sessions with it; other connections go on.

mod hello;
mod outbox;
mod requests;
mod turn_host;

use super::Server;
use super::admission::Arrival;
use super::error::ServeError;
use super::outgoing::Budget;
use super::session::{Change, SHUTDOWN_GRACE, Session};
use crate::in_flight::InFlight;
use crate::protocol::{DelegateValue, HostMessage, MAX_DELEGATE_CALLS, Refusal, frame};
use cellblock::CodeModeTurnWorker;
use cellblock::support::{RecentSet, lock};
use futures_util::{Sink, Stream, StreamExt};
use hello::{Granted, hello};
use outbox::Outbox;
use requests::Requests;
use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{BytesCodec, FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Result<T> = std::result::Result<T, ServeError>;

/// Requests of one connection that may be in flight.
const REQUESTS: usize = 256;

/// Nested calls and notifications that the client was sent and has not answered.
type Delegates = InFlight<i64, oneshot::Sender<std::result::Result<DelegateValue, String>>>;

/// A connection whose client has said hello.
struct Connection {
    server: Arc<Server>,
    outbox: Outbox,
    /// What the client may send, and takes.
    granted: Granted,
    sessions: Mutex<Sessions>,
    /// Requests of the client, and what cancels them.
    requests: InFlight<i64, CancellationToken>,
    delegates: Delegates,
    /// Id of the last nested call or notification.
    last_delegate: AtomicI64,
    tasks: TaskTracker,
}

/// The client's sessions.
struct Sessions {
    open: HashMap<String, OpenSession>,
    /// Ids that were used: a session is opened once.
    used: RecentSet<String>,
}

/// A session, and what serves its programs.
struct OpenSession {
    session: Arc<Session>,
    _worker: CodeModeTurnWorker,
    /// Sends the client each cell that is closed.
    changes: JoinHandle<()>,
}

/// Serves a client on a stream of bytes until it has gone.
pub(super) async fn serve_stream<I, O>(
    server: Arc<Server>,
    arrival: Arc<Arrival>,
    input: I,
    output: O,
) -> Result<()>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Send + Unpin + 'static,
{
    let frames = FramedRead::new(arrival.meter(input), frame::decoder())
        .map(|frame| frame.map(BytesMut::freeze).map_err(ServeError::Read));
    serve(server, &arrival, frames, FramedWrite::new(output, BytesCodec::new())).await
}

/// Serves a client until it has gone.
pub(super) async fn serve<I, O>(
    server: Arc<Server>,
    arrival: &Arrival,
    mut frames: I,
    sink: O,
) -> Result<()>
where
    I: Stream<Item = Result<Bytes>> + Unpin,
    O: Sink<Bytes> + Send + Unpin + 'static,
    O::Error: std::error::Error + Send + Sync + 'static,
{
    let budget = Budget::new();
    let (outbox, queue) = budget.channel();
    let outbox = Outbox(outbox);
    let delegates = Delegates::new(MAX_DELEGATE_CALLS);
    let mut writer = tokio::spawn({
        let (gone, writing) = (budget.gone.clone(), outbox::write(queue, sink, delegates.clone()));
        async move {
            let _gone = gone.clone().drop_guard();
            tokio::select! {
                biased;
                written = writing => written,
                () = gone.cancelled() => Err(ServeError::Stalled),
            }
        }
    });
    let served = match hello(&mut frames, &outbox, arrival).await {
        Ok(Some(granted)) => {
            let connection = Arc::new(Connection::new(server, outbox.clone(), granted, delegates));
            let read = tokio::select! {
                biased;
                () = budget.gone.cancelled() => Ok(()),
                () = connection.server.stopping.cancelled() => Ok(()),
                read = Requests::new(&connection).read(&mut frames) => read,
            };
            connection.end().await;
            read
        }
        other => other.map(drop),
    };
    drop(outbox);
    // A writer that does not end was waiting for a client that does not read.
    match timeout(SHUTDOWN_GRACE, &mut writer).await {
        Ok(Ok(written)) => served.and(written),
        Ok(Err(_)) => served,
        Err(_) => {
            writer.abort();
            served
        }
    }
}

impl Connection {
    fn new(server: Arc<Server>, outbox: Outbox, granted: Granted, delegates: Delegates) -> Self {
        let used = RecentSet::new(super::REMEMBERED_IDS);
        Self {
            server,
            outbox,
            granted,
            sessions: Mutex::new(Sessions { open: HashMap::new(), used }),
            requests: InFlight::new(REQUESTS),
            delegates,
            last_delegate: AtomicI64::new(0),
            tasks: TaskTracker::new(),
        }
    }

    fn session(&self, session_id: &str) -> std::result::Result<Arc<Session>, Refusal> {
        Refusal::check_identifier("code-mode session ID", session_id)?;
        let sessions = lock(&self.sessions);
        let open = sessions.open.get(session_id);
        open.map(|open| Arc::clone(&open.session))
            .ok_or_else(|| Refusal::UnknownSession(session_id.to_owned()))
    }

    /// Ends what the client has left behind.
    async fn end(&self) {
        // Nested calls that wait for the client are cancelled with the cells.
        drop(self.delegates.close());
        for cancelled in self.requests.close() {
            cancelled.cancel();
        }
        let sessions = std::mem::take(&mut lock(&self.sessions).open);
        let closing = async {
            for open in sessions.into_values() {
                open.close().await;
            }
            self.tasks.close();
            self.tasks.wait().await;
        };
        if timeout(SHUTDOWN_GRACE, closing).await.is_err() {
            tracing::warn!("sessions did not end within {} s", SHUTDOWN_GRACE.as_secs());
        }
    }
}

impl OpenSession {
    /// Ends the session's cells, and returns when the client was sent all of them.
    async fn close(self) {
        self.session.close().await;
        // The task ends with the session's cells, and does not panic.
        let _ = self.changes.await;
    }
}

/// Sends the client what becomes of each cell.
async fn send_changes(
    outbox: Outbox,
    session_id: String,
    mut changes: tokio::sync::mpsc::UnboundedReceiver<Change>,
    granted: Granted,
) {
    while let Some(change) = changes.recv().await {
        let session_id = session_id.clone();
        match change {
            Change::Ended(cell_id) if granted.seam => {
                outbox.send(HostMessage::CellEnded { session_id, cell_id }).await;
            }
            Change::Kept(cell_id, keeping) if granted.seam => {
                let name = keeping.name().map(|name| name.to_string());
                outbox.send(HostMessage::CellKept { session_id, cell_id, name }).await;
            }
            Change::Ended(_) | Change::Kept(..) => {}
            Change::Leave(cell_id) => {
                outbox.send(HostMessage::CellLeave { session_id, cell_id }).await;
            }
            Change::Closed(cell_id) => {
                outbox.send(HostMessage::CellClosed { session_id, cell_id }).await;
            }
        }
    }
}
