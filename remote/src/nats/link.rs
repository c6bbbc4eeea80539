//! One side of a link: the task that carries bytes between a pipe in this process and NATS.
//!
//! Messages that carry bytes are numbered, so that one that was lost is noticed: the link ends
//! then, and its cell is lost rather than wrong. Each side says regularly that it is alive and
//! how much it has sent and taken. What the other side has not taken is bounded by a window,
//! so a receiver that is slow slows its sender, and nothing piles up in between.

use super::{CHUNK, MESSAGE_COST, Queue, Subjects, WINDOW, header, is_token};
use async_nats::{Client, HeaderMap, HeaderValue, Message, StatusCode, Subject};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::bytes::{Buf, Bytes, BytesMut};
use tokio_util::sync::CancellationToken;

/// Bytes that a message of NATS may have beside those of a link.
const ENVELOPE: usize = 4 << 10;

/// Times that a client asks again when a worker was busy.
const RETRIES: u32 = 3;

/// The longest that a client waits before it asks again, times the number of the attempt.
const PAUSE_MS: u64 = 25;

/// Beats in a row that nobody may be there to receive: a worker whose server has failed needs
/// a moment to reach another.
const UNHEARD: u32 = 4;

/// How long a client waits before it beats again when nobody was there to receive it.
const UNHEARD_PAUSE: Duration = Duration::from_secs(1);

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
}

/// One side of a link.
pub(crate) struct Link {
    client: Client,
    queue: Queue,
    from_here: ReadHalf<DuplexStream>,
    to_here: WriteHalf<DuplexStream>,
    /// How a client opens the link.
    opening: Option<Opening>,
    /// Where this side's messages go; `None` until a client knows it.
    to: Option<Subject>,
    /// The worker's name of the link, `WORKER.LINK`, until its first message was sent.
    name: Option<String>,
    trace: Option<String>,
    heartbeat: Duration,
    /// How long the other side may be silent.
    silence: Duration,
    /// Bytes in a message.
    chunk: usize,
    /// Number of the newest message with bytes that was sent, and that was received.
    sent: u64,
    received: u64,
    /// Cost of the messages sent, and how much of it the other side has taken.
    sent_cost: u64,
    taken_there: u64,
    /// Cost of the messages that were taken here, and how much of it the other side was told.
    taken_here: u64,
    taken_told: u64,
    /// Whether what is received is still read from the pipe.
    listens: bool,
    /// Cancelled when this side has closed the link.
    closed: CancellationToken,
    /// A client has closed its side before it knew the worker: the worker is to be told.
    leaving: bool,
    /// What was read from the pipe and not sent.
    outgoing: BytesMut,
    /// What was received and not written to the pipe: at most a window.
    incoming: VecDeque<Bytes>,
    /// What of the window `incoming` takes.
    incoming_cost: usize,
    /// The first message of a client, until a worker has taken it, and how often it was sent.
    first: Option<(Bytes, u32)>,
    /// Beats in a row that nobody was there to receive.
    unheard: u32,
    beat_at: Instant,
    silent_at: Instant,
}

/// What a message counts against the window.
fn cost(bytes: usize) -> usize {
    bytes + MESSAGE_COST
}

impl Link {
    /// A link, and the pipe to it. It carries nothing until it is run.
    fn new(
        client: Client,
        queue: Queue,
        heartbeat: Duration,
        silence: Duration,
    ) -> (Self, DuplexStream) {
        let (here, pipe) = duplex(CHUNK);
        let (from_here, to_here) = split(here);
        let chunk = CHUNK.min(client.max_payload().saturating_sub(ENVELOPE)).max(ENVELOPE);
        let link = Self {
            client,
            queue,
            from_here,
            to_here,
            opening: None,
            to: None,
            name: None,
            trace: None,
            heartbeat,
            silence,
            chunk,
            sent: 0,
            received: 0,
            sent_cost: 0,
            taken_there: 0,
            taken_here: 0,
            taken_told: 0,
            listens: true,
            closed: CancellationToken::new(),
            leaving: false,
            outgoing: BytesMut::new(),
            incoming: VecDeque::new(),
            incoming_cost: 0,
            first: None,
            unheard: 0,
            beat_at: Instant::now() + heartbeat,
            silent_at: Instant::now() + silence,
        };
        (link, pipe)
    }

    /// A client's side: it looks for a worker as soon as a program was written to the pipe.
    pub(crate) fn open(
        client: Client,
        queue: Queue,
        opening: Opening,
        heartbeat: Duration,
    ) -> (Self, DuplexStream) {
        // Two beats that did not come, and a little.
        let (mut link, pipe) = Self::new(client, queue, heartbeat, heartbeat * 5 / 2);
        link.opening = Some(opening);
        (link, pipe)
    }

    /// A worker's side: the client's first message is in the queue, and `to` is its reply
    /// subject. `silence` is how long the client may be silent.
    pub(crate) fn accept(
        client: Client,
        queue: Queue,
        to: Subject,
        name: String,
        heartbeat: Duration,
        silence: Duration,
    ) -> (Self, DuplexStream) {
        let (mut link, pipe) = Self::new(client, queue, heartbeat, silence);
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
            while !self.incoming.is_empty() {
                if write(&mut self.to_here, &mut self.incoming).await.is_none() {
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
            tokio::select! {
                biased;
                message = self.queue.next() => match message {
                    Some(message) => self.receive(message).await?,
                    None => return Err(LinkEnd::Lost("it was sent more than it may be".to_owned())),
                },
                written = write(&mut self.to_here, &mut self.incoming),
                    if !self.incoming.is_empty() =>
                {
                    match written {
                        Some(taken) => self.taken(taken).await?,
                        None => self.stop_listening(),
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
                    self.leaving = self.to.is_none() && self.first.is_some();
                    if !self.leaving {
                        return Err(LinkEnd::Left);
                    }
                }
                () = sleep_until(self.beat_at) => self.beat().await?,
                () = sleep_until(self.silent_at) => return Err(self.silent()),
            }
        }
    }

    /// Nobody reads the pipe any more; what is still written to it is sent all the same.
    fn stop_listening(&mut self) {
        self.listens = false;
        self.incoming.clear();
        self.incoming_cost = 0;
    }

    /// Bytes that may be read from the pipe now.
    fn room(&self) -> usize {
        let chunk = self.chunk - self.outgoing.len();
        if self.to.is_some() {
            let on_their_way = self.sent_cost - self.taken_there;
            let window = (WINDOW as u64).saturating_sub(on_their_way);
            let window = usize::try_from(window).unwrap_or(0).saturating_sub(MESSAGE_COST);
            chunk.min(window)
        } else if self.first.is_some() {
            0
        } else {
            chunk
        }
    }

    /// Sends what was read from the pipe; a client's first message once it is complete.
    async fn send_outgoing(&mut self) -> Result<(), LinkEnd> {
        let opens = self.to.is_none();
        if opens && self.outgoing.len() < self.chunk && !has_frames(&self.outgoing, FIRST_FRAMES) {
            return Ok(());
        }
        let bytes = self.outgoing.split().freeze();
        self.sent += 1;
        self.sent_cost += cost(bytes.len()) as u64;
        if opens {
            self.first = Some((bytes, 0));
            self.silent_at = Instant::now() + self.silence;
            return self.ask().await;
        }
        let mut headers = self.headers();
        headers.insert(header::SEQUENCE, HeaderValue::from(self.sent));
        if let Some(name) = self.name.take() {
            headers.insert(header::LINK, name);
        }
        self.publish(headers, bytes, false).await
    }

    /// Asks the class for a worker.
    async fn ask(&mut self) -> Result<(), LinkEnd> {
        let (Some(opening), Some((bytes, _))) = (&self.opening, &self.first) else { return Ok(()) };
        let mut headers = self.headers();
        headers.insert(header::SEQUENCE, HeaderValue::from(self.sent));
        let (subject, inbox) = (Subjects::start(&opening.class), opening.inbox.clone());
        let asked =
            self.client.publish_with_reply_and_headers(subject, inbox, headers, bytes.clone());
        asked.await.map_err(|error| LinkEnd::NoWorker(error.to_string()))
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(trace) = &self.trace {
            headers.insert(header::TRACE, trace.as_str());
        }
        headers
    }

    /// Sends a message to the other side. A client that `expects` an answer is told when
    /// nobody is there, and the worker is given a new way to answer: paths back end some time
    /// after they were made.
    async fn publish(
        &mut self,
        headers: HeaderMap,
        bytes: Bytes,
        expects: bool,
    ) -> Result<(), LinkEnd> {
        let Some(to) = self.to.clone() else { return Ok(()) };
        let sent = match &self.opening {
            Some(Opening { inbox, .. }) if expects => {
                let inbox = inbox.clone();
                self.client.publish_with_reply_and_headers(to, inbox, headers, bytes).await
            }
            _ => self.client.publish_with_headers(to, headers, bytes).await,
        };
        self.beat_at = Instant::now() + self.heartbeat;
        sent.map_err(|error| LinkEnd::Lost(error.to_string()))
    }

    /// Says that this side is alive, and how far it is.
    async fn beat(&mut self) -> Result<(), LinkEnd> {
        self.beat_at = Instant::now() + self.heartbeat;
        let mut headers = self.headers();
        headers.insert(header::SENT, HeaderValue::from(self.sent));
        headers.insert(header::TAKEN, HeaderValue::from(self.taken_here));
        self.taken_told = self.taken_here;
        self.publish(headers, Bytes::new(), true).await
    }

    async fn say_goodbye(&mut self, end: &LinkEnd) {
        let mut headers = self.headers();
        // A header is one line.
        let why = match end {
            LinkEnd::Lost(why) => why.replace(|each: char| each.is_control(), " "),
            _ => String::new(),
        };
        headers.insert(header::END, why);
        // If it does not arrive, silence says it later.
        let _ = self.publish(headers, Bytes::new(), false).await;
    }

    fn silent(&self) -> LinkEnd {
        let seconds = self.silence.as_secs_f64();
        match (&self.opening, &self.to) {
            (Some(_), None) => LinkEnd::NoWorker(format!("no worker answered within {seconds} s")),
            _ => LinkEnd::Lost(format!("nothing was received for {seconds} s")),
        }
    }

    async fn receive(&mut self, message: Message) -> Result<(), LinkEnd> {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return self.nobody_there();
        }
        let headers = message.headers.unwrap_or_default();
        let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        if let Some(why) = text(header::BUSY) {
            return self.busy(why).await;
        }
        if let Some(why) = text(header::END) {
            return Err(LinkEnd::Closed(why));
        }
        self.silent_at = Instant::now() + self.silence;
        self.unheard = 0;
        if let (None, Some(reply)) = (&self.opening, message.reply) {
            self.to = Some(reply);
        }
        if let Some(taken) = number(header::TAKEN) {
            self.taken_there = self.taken_there.max(taken.min(self.sent_cost));
        }
        if let Some(sequence) = number(header::SEQUENCE) {
            if self.to.is_none() {
                self.found(text(header::LINK).as_deref())?;
            }
            if sequence != self.received + 1 {
                return Err(lost_messages());
            }
            self.received = sequence;
            if !self.listens {
                return Ok(());
            }
            self.incoming_cost += cost(message.payload.len());
            if self.incoming_cost > WINDOW {
                return Err(LinkEnd::Lost("it was sent more than it may be".to_owned()));
            }
            self.incoming.push_back(message.payload);
        }
        match number(header::SENT) {
            Some(sent) if sent > self.received => Err(lost_messages()),
            _ => Ok(()),
        }
    }

    /// A worker has taken the cell.
    fn found(&mut self, link: Option<&str>) -> Result<(), LinkEnd> {
        let subject = link.and_then(Subjects::of_link);
        let unnamed = || LinkEnd::Lost("the worker did not say who it is".to_owned());
        self.to = Some(subject.ok_or_else(unnamed)?.into());
        self.first = None;
        if self.leaving {
            return Err(LinkEnd::Left);
        }
        self.beat_at = Instant::now() + self.heartbeat;
        Ok(())
    }

    /// A worker cannot take the cell: another may.
    async fn busy(&mut self, why: String) -> Result<(), LinkEnd> {
        let Some((_, asked)) = self.first.as_mut() else { return Ok(()) };
        *asked += 1;
        let asked = *asked;
        if asked > RETRIES {
            let times = RETRIES + 1;
            return Err(LinkEnd::NoWorker(format!("{times} workers were asked: {why}")));
        }
        // Random, so that those that met do not meet again.
        let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
        sleep(Duration::from_millis(PAUSE_MS * u64::from(asked) * random / 255)).await;
        self.ask().await
    }

    /// Nobody was there to receive a message.
    fn nobody_there(&mut self) -> Result<(), LinkEnd> {
        let Some(opening) = &self.opening else { return Ok(()) };
        if self.to.is_none() {
            return Err(LinkEnd::NoWorker(format!(
                "no worker of the class {} is running and has room",
                opening.class
            )));
        }
        self.unheard += 1;
        if self.unheard >= UNHEARD {
            return Err(LinkEnd::Lost("it is gone".to_owned()));
        }
        self.beat_at = self.beat_at.min(Instant::now() + UNHEARD_PAUSE);
        Ok(())
    }

    /// So much of what was received was written to the pipe.
    async fn taken(&mut self, taken: usize) -> Result<(), LinkEnd> {
        self.incoming_cost = self.incoming_cost.saturating_sub(taken);
        self.taken_here += taken as u64;
        if self.taken_here - self.taken_told >= (WINDOW / 4) as u64 {
            self.beat().await?;
        }
        Ok(())
    }
}

fn lost_messages() -> LinkEnd {
    LinkEnd::Lost("messages were lost on the way".to_owned())
}

/// Writes some of the first message, and returns what of its cost that was; `None` when nobody
/// reads any more.
async fn write(
    pipe: &mut WriteHalf<DuplexStream>,
    incoming: &mut VecDeque<Bytes>,
) -> Option<usize> {
    let Some(front) = incoming.front_mut() else { return Some(0) };
    let written = pipe.write(front).await.ok()?;
    front.advance(written);
    if front.is_empty() {
        incoming.pop_front();
        return Some(cost(written));
    }
    (written > 0).then_some(written)
}

/// Reads at most so many bytes; false at the end.
async fn read(pipe: &mut ReadHalf<DuplexStream>, bytes: &mut BytesMut, most: usize) -> bool {
    matches!(pipe.take(most as u64).read_buf(bytes).await, Ok(read) if read > 0)
}

/// Whether bytes begin with so many whole frames.
fn has_frames(bytes: &[u8], frames: usize) -> bool {
    let mut rest = bytes;
    (0..frames).all(|_| {
        let length = rest.first_chunk().map(|length| u32::from_le_bytes(*length) as usize);
        let frame = length.and_then(|length| rest.get(4..)?.get(length..));
        frame.inspect(|after| rest = after).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_counted() {
        let frames = b"\x01\0\0\0a\x02\0\0\0bc";
        assert!(has_frames(frames, 2));
        assert!(!has_frames(&frames[..frames.len() - 1], 2));
        assert!(has_frames(&frames[..frames.len() - 1], 1));
        assert!(!has_frames(frames, 3));
        assert!(!has_frames(b"\xff\xff\xff\xff", 1));
    }
}
