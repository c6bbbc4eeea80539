//! One side of a link: the task that carries bytes between a pipe in this process and NATS.
//!
//! Messages that carry bytes are numbered, and kept until the other side has taken them: what is
//! lost when a server of NATS dies is sent again, and what comes twice is dropped. So each side
//! receives all bytes in order, or the link ends and its cell is lost; it is never wrong. Each
//! side says regularly that it is alive, and how much it has sent and taken. What the other side
//! has not taken is bounded by a window, so a receiver that is slow slows its sender, and nothing
//! piles up in between.

mod incoming;
mod outgoing;
mod received;
mod sent;

pub(crate) use incoming::dismiss;

use super::{CHUNK, MESSAGE_COST, NatsConnection, Queue, is_token};
use async_nats::{Client, Subject};
use received::Received;
use sent::Sent;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::sync::CancellationToken;

/// Bytes that a message of NATS may have beside those of a link.
const ENVELOPE: usize = 4 << 10;

/// Times that a client asks again when a worker was busy.
const RETRIES: u32 = 3;

/// The longest that a client waits before it asks again, times the number of the attempt.
const PAUSE_MS: u64 = 25;

/// How long a worker may be nowhere: when its server of NATS has died it needs a moment to reach
/// another.
const NOWHERE: Duration = Duration::from_secs(10);

/// How long a side waits before it says again what nobody has received, or asks again for what it
/// has not received.
const REPEAT: Duration = Duration::from_secs(1);

/// Messages are sent again at most once in this time, however often the other side asks.
const SEND_AGAIN: Duration = Duration::from_millis(500);

/// A beat follows messages with bytes after this part of the heartbeat, so that a loss is noticed
/// soon while there is something to lose.
const SOON: u32 = 5;

/// How long what has come may take to be read after the link has ended.
const FINISH: Duration = Duration::from_secs(5);

/// What a client sends in its first message: hello, open and execute.
const FIRST_FRAMES: usize = 3;

/// How a link has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// This side has closed it.
    Left,
    /// The other side has closed it, and says why.
    Closed(String),
    /// No worker has taken the cell; the text says why.
    NoWorker(String),
    /// It is broken; the text says how.
    Lost(String),
}

/// How a client opens a link.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// The class of workers.
    pub(crate) class: String,
    /// Where the worker's messages come.
    pub(crate) inbox: Subject,
    /// The worker that has answered is told at once that it was chosen: it waits for that.
    pub(crate) tells: bool,
}

/// One side of a link.
pub(crate) struct Link {
    client: Client,
    /// Changes when the connection was opened again.
    opened: watch::Receiver<u64>,
    queue: Queue,
    from_here: ReadHalf<DuplexStream>,
    to_here: WriteHalf<DuplexStream>,
    /// How a client opens the link; `None` on a worker.
    opening: Option<Opening>,
    /// The worker's name of the link, `WORKER.LINK`; `None` until a client knows it.
    name: Option<String>,
    /// Where this side's messages go: `None` until a client knows the worker, and while a worker
    /// has no way to its client.
    to: Option<Subject>,
    trace: Option<String>,
    heartbeat: Duration,
    /// How long the other side may be silent.
    silence: Duration,
    /// Bytes in a message.
    chunk: usize,
    sent: Sent,
    received: Received,
    /// Cancelled when this side has closed the link.
    closed: CancellationToken,
    /// A client has closed its side before it knew the worker: the worker is to be told.
    leaving: bool,
    /// What was read from the pipe and not sent.
    outgoing: BytesMut,
    /// A client's first message, until a worker has taken it.
    first: Option<First>,
    /// What was on its way may be lost: the next beat asks for it.
    may_have_lost: bool,
    /// When this side has last asked for what is missing, and when it has last sent again.
    asked_at: Option<Instant>,
    sent_again_at: Option<Instant>,
    /// When the worker counts as gone, if nobody was there to receive the last beat.
    gone_at: Option<Instant>,
    beat_at: Instant,
    silent_at: Instant,
}

/// A client's first message.
struct First {
    bytes: Bytes,
    /// How often a worker was busy.
    refusals: u32,
    /// When it is sent again if no worker has answered.
    again_at: Instant,
}

/// What a message counts against the window.
fn cost(bytes: usize) -> usize {
    bytes + MESSAGE_COST
}

impl Link {
    /// A link, and the pipe to it. It carries nothing until it is run.
    fn new(
        connection: &NatsConnection,
        queue: Queue,
        heartbeat: Duration,
        silence: Duration,
    ) -> (Self, DuplexStream) {
        let (here, pipe) = duplex(CHUNK);
        let (from_here, to_here) = split(here);
        let NatsConnection { client, opened } = connection.clone();
        let chunk = CHUNK.min(client.max_payload().saturating_sub(ENVELOPE)).max(ENVELOPE);
        let mut link = Self {
            client,
            opened,
            queue,
            from_here,
            to_here,
            opening: None,
            name: None,
            to: None,
            trace: None,
            heartbeat,
            silence,
            chunk,
            sent: Sent::default(),
            received: Received::default(),
            closed: CancellationToken::new(),
            leaving: false,
            outgoing: BytesMut::new(),
            first: None,
            may_have_lost: false,
            asked_at: None,
            sent_again_at: None,
            gone_at: None,
            beat_at: Instant::now() + heartbeat,
            silent_at: Instant::now() + silence,
        };
        link.opened.mark_unchanged();
        (link, pipe)
    }

    /// A client's side: it looks for a worker as soon as a program was written to the pipe.
    pub(crate) fn open(
        connection: &NatsConnection,
        queue: Queue,
        opening: Opening,
        heartbeat: Duration,
    ) -> (Self, DuplexStream) {
        // Two beats that did not come, and a little.
        let (mut link, pipe) = Self::new(connection, queue, heartbeat, heartbeat * 5 / 2);
        link.opening = Some(opening);
        (link, pipe)
    }

    /// A worker's side: the client's first message is in the queue, and `to` is its reply
    /// subject. `silence` is how long the client may be silent.
    pub(crate) fn accept(
        connection: &NatsConnection,
        queue: Queue,
        to: Subject,
        name: String,
        heartbeat: Duration,
        silence: Duration,
    ) -> (Self, DuplexStream) {
        let (mut link, pipe) = Self::new(connection, queue, heartbeat, silence);
        (link.to, link.name) = (Some(to), Some(name));
        (link, pipe)
    }

    /// Sends the trace with every message.
    #[must_use]
    pub(crate) fn with_trace(mut self, trace: Option<String>) -> Self {
        self.trace = trace.filter(|trace| is_token(trace));
        self
    }

    /// Closes the link when the token is cancelled.
    #[must_use]
    pub(crate) fn closed_with(mut self, closed: CancellationToken) -> Self {
        self.closed = closed;
        self
    }

    /// Carries bytes until either side has closed the link, or it is broken. The pipe stays
    /// open until the link is dropped.
    pub(crate) async fn run(&mut self) -> LinkEnd {
        match self.carry().await {
            Ok(never) => match never {},
            Err(end) => {
                if matches!(end, LinkEnd::Left | LinkEnd::Lost(_)) {
                    self.say_goodbye(&end).await;
                }
                end
            }
        }
    }

    /// After the end: what had come is still read, and then the pipe ends. Returns when its
    /// reader has gone.
    pub(crate) async fn finish(mut self) {
        let reading = async {
            while self.received.waits() {
                if !self.received.write(&mut self.to_here).await {
                    return;
                }
            }
            if self.to_here.shutdown().await.is_err() {
                return;
            }
            // What is still written goes nowhere.
            let mut nowhere = BytesMut::new();
            while read(&mut self.from_here, &mut nowhere, CHUNK).await {
                nowhere.clear();
            }
        };
        // A reader that does not read loses the rest.
        let _ = timeout(FINISH, reading).await;
    }

    async fn carry(&mut self) -> Result<std::convert::Infallible, LinkEnd> {
        loop {
            let room = self.room();
            let closed = self.closed.clone();
            let again_at = self.first.as_ref().map(|first| first.again_at);
            tokio::select! {
                biased;
                message = self.queue.next() => match message {
                    Some(message) => self.receive(message).await?,
                    None => return Err(overrun()),
                },
                is_read = self.received.write(&mut self.to_here), if self.received.waits() => {
                    if !is_read {
                        // What is still written to the pipe is sent all the same.
                        self.received.stop();
                    } else if self.received.is_worth_telling() {
                        self.beat().await?;
                    }
                }
                read = read(&mut self.from_here, &mut self.outgoing, room), if room > 0 => {
                    if read {
                        self.send_outgoing().await?;
                    } else {
                        return Err(LinkEnd::Left);
                    }
                }
                () = closed.cancelled(), if !self.leaving => {
                    // The worker that takes the cell is told as soon as it is known.
                    self.leaving = self.first.is_some();
                    if !self.leaving {
                        return Err(LinkEnd::Left);
                    }
                }
                () = opened_again(&mut self.opened) => self.recover().await?,
                () = at(again_at) => self.ask().await?,
                () = sleep_until(self.beat_at) => self.beat().await?,
                () = sleep_until(self.silent_at) => return Err(self.silent()),
            }
        }
    }

    /// Bytes that may be read from the pipe now.
    fn room(&self) -> usize {
        let chunk = self.chunk - self.outgoing.len();
        if self.name.is_some() {
            chunk.min(self.sent.room())
        } else if self.first.is_some() {
            0
        } else {
            chunk
        }
    }

    /// The connection was opened again: what was on its way may be lost, and so is a worker's way
    /// to its client, until the client's next beat gives it another.
    async fn recover(&mut self) -> Result<(), LinkEnd> {
        self.may_have_lost = true;
        if self.opening.is_none() {
            self.to = None;
        } else if self.first.is_some() {
            self.ask().await?;
        } else {
            self.beat_at = Instant::now();
        }
        Ok(())
    }

    fn silent(&self) -> LinkEnd {
        let seconds = self.silence.as_secs_f64();
        if self.received.is_missing() {
            return LinkEnd::Lost("messages were lost on the way".to_owned());
        }
        match (&self.opening, &self.name) {
            (Some(_), None) => LinkEnd::NoWorker(format!("no worker answered within {seconds} s")),
            _ => LinkEnd::Lost(format!("nothing was received for {seconds} s")),
        }
    }
}

fn overrun() -> LinkEnd {
    LinkEnd::Lost("it was sent more than it may be".to_owned())
}

/// Returns when the connection was opened again.
async fn opened_again(opened: &mut watch::Receiver<u64>) {
    if opened.changed().await.is_err() {
        // It is closed for good, which the queue or the silence says.
        std::future::pending::<()>().await;
    }
}

/// Returns at a time, if there is one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Reads at most so many bytes; false at the end.
async fn read(pipe: &mut ReadHalf<DuplexStream>, bytes: &mut BytesMut, most: usize) -> bool {
    matches!(pipe.take(most as u64).read_buf(bytes).await, Ok(read) if read > 0)
}
