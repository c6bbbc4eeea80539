//! Prints to standard output and standard error without making the run wait.
//!
//! One task prints what is queued, in order over both streams, so that a terminal or a
//! file that takes both shows them as they came. Each write happens on a thread of its
//! own: a reader that does not read holds up neither a signal nor a time limit. The
//! queue has no bound of its own, because all that goes into it is the output of one
//! cell, which its limits bound (`output_bytes`), and what the command says about it.

use crate::terminal::escape_controls;
use rustix::io::Errno;
use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// How often the status line turns.
const TICK: Duration = Duration::from_millis(100);
/// What it turns through.
const SPINNER: [char; 4] = ['|', '/', '-', '\\'];
/// Goes to the start of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[K";
/// Texts that are joined into one write.
const BATCH: usize = 256;
/// Bytes of one system call. A reader that takes as many shows that it reads.
const WRITE_BYTES: usize = 4 << 10;
/// How long a stream that nobody reads may block when nobody waits for it any longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Until a write is tried again on a stream that another process made non-blocking.
const RETRY: Duration = Duration::from_millis(5);

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Output,
    Error,
}

enum Item {
    Text(Target, String),
    End,
}

/// Where the parts of the command leave what is to be printed. It never waits.
#[derive(Clone)]
pub struct Printer {
    queue: mpsc::UnboundedSender<Item>,
    status: watch::Sender<String>,
}

impl Printer {
    /// Prints a line to standard output.
    pub fn output(&self, line: String) {
        self.queue(Target::Output, line);
    }

    /// Prints a line to standard error.
    pub fn error(&self, line: String) {
        self.queue(Target::Error, line);
    }

    /// Replaces the status line, which is shown on a terminal while nothing is printed.
    /// The text is printed as it is.
    pub fn status(&self, text: String) {
        self.status.send_replace(text);
    }

    fn queue(&self, target: Target, mut line: String) {
        line.push('\n');
        // The task ends after `End`; what comes later has nobody to read it.
        let _ = self.queue.send(Item::Text(target, line));
    }
}

/// The task that prints, for the one who waits for its end.
pub struct Printing {
    printer: Printer,
    task: JoinHandle<Printed>,
    shared: Arc<Shared>,
}

/// What the task and the one who waits for it share.
#[derive(Default)]
struct Shared {
    /// System calls that wrote something.
    writes: AtomicU64,
    /// Asks the task to give up the stream that it waits for.
    give_up: Notify,
}

/// What became of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// Everything was written, or the reader closed the stream as it had enough.
    Complete,
    /// It could not be written, or its reader did not read.
    Incomplete,
}

/// How a run prints.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Control characters reach a terminal as they are.
    pub raw: bool,
    /// A status line is shown where standard error is a terminal.
    pub status: bool,
}

/// Starts to print.
pub fn start(style: Style) -> (Printer, Printing) {
    let (queue, items) = mpsc::unbounded_channel();
    let (status, status_text) = watch::channel(String::new());
    let printer = Printer { queue, status };
    let shared = Arc::new(Shared::default());
    let stream = |target, is_terminal| Stream {
        target,
        escapes: is_terminal && !style.raw,
        state: State::Open,
        shared: Arc::clone(&shared),
    };
    let error_is_terminal = io::stderr().is_terminal();
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let streams = Streams {
        output: stream(Target::Output, io::stdout().is_terminal()),
        error: stream(Target::Error, error_is_terminal),
        status: status_text,
        has_status: style.status && error_is_terminal && !is_dumb,
        line_is_drawn: false,
        turns: 0,
    };
    let task = tokio::spawn(streams.print(items));
    (printer.clone(), Printing { printer, task, shared })
}

impl Printing {
    /// Prints what is queued and ends. From the moment that `impatient` returns, a
    /// reader that reads nothing for a second is no longer waited for.
    pub async fn finish(mut self, impatient: impl Future<Output = ()>) -> Printed {
        let _ = self.printer.queue.send(Item::End);
        tokio::select! {
            printed = &mut self.task => return printed.unwrap_or(Printed::Incomplete),
            () = impatient => {}
        }
        loop {
            let writes = self.shared.writes.load(Ordering::Relaxed);
            tokio::select! {
                printed = &mut self.task => return printed.unwrap_or(Printed::Incomplete),
                () = tokio::time::sleep(PATIENCE) => {
                    if writes == self.shared.writes.load(Ordering::Relaxed) {
                        self.shared.give_up.notify_waiters();
                    }
                }
            }
        }
    }
}

/// Both streams and the status line.
struct Streams {
    output: Stream,
    error: Stream,
    status: watch::Receiver<String>,
    has_status: bool,
    line_is_drawn: bool,
    turns: usize,
}

impl Streams {
    /// Prints until the end.
    async fn print(mut self, mut items: mpsc::UnboundedReceiver<Item>) -> Printed {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                taken = items.recv_many(&mut batch, BATCH) => {
                    let ends = taken == 0 || batch.iter().any(|item| matches!(item, Item::End));
                    self.clear_line().await;
                    self.write(&mut batch).await;
                    if ends {
                        return self.end().await;
                    }
                }
                _ = ticks.tick(), if self.has_status => self.draw_line().await,
            }
        }
    }

    /// Says what became of standard output, also to the reader of standard error.
    async fn end(&mut self) -> Printed {
        let why = match &self.output.state {
            State::Open => return Printed::Complete,
            // As with other commands in a pipeline, this is how a reader says "enough".
            State::Failed(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Printed::Complete;
            }
            State::Failed(error) => error.to_string(),
            State::GivenUp => "its reader does not read".to_owned(),
        };
        self.error.text(&format!("cellblock: standard output is incomplete: {why}\n")).await;
        Printed::Incomplete
    }

    /// Writes texts, those in a row for the same stream together.
    async fn write(&mut self, batch: &mut Vec<Item>) {
        let mut joined: Option<(Target, String)> = None;
        for item in batch.drain(..) {
            let Item::Text(target, text) = item else { continue };
            match &mut joined {
                Some((last, texts)) if *last == target => texts.push_str(&text),
                _ => {
                    if let Some((target, texts)) = joined.replace((target, text)) {
                        self.stream(target).text(&texts).await;
                    }
                }
            }
        }
        if let Some((target, texts)) = joined {
            self.stream(target).text(&texts).await;
        }
    }

    fn stream(&mut self, target: Target) -> &mut Stream {
        match target {
            Target::Output => &mut self.output,
            Target::Error => &mut self.error,
        }
    }

    async fn draw_line(&mut self) {
        let text = self.status.borrow_and_update().clone();
        if text.is_empty() {
            return self.clear_line().await;
        }
        self.turns += 1;
        let spinner = SPINNER[self.turns % SPINNER.len()];
        // Without automatic wrapping, the terminal cuts the line at its width.
        let line = format!("{CLEAR_LINE}\x1b[?7l{spinner} {text}\x1b[?7h");
        self.line_is_drawn = true;
        self.error.bytes(line.into_bytes()).await;
    }

    async fn clear_line(&mut self) {
        if std::mem::take(&mut self.line_is_drawn) {
            self.error.bytes(CLEAR_LINE.into()).await;
        }
    }
}

/// A stream, and whether it can still be written.
struct Stream {
    target: Target,
    /// Whether control characters are shown as escapes.
    escapes: bool,
    state: State,
    shared: Arc<Shared>,
}

enum State {
    Open,
    GivenUp,
    Failed(io::Error),
}

impl Stream {
    async fn text(&mut self, text: &str) {
        let text = if self.escapes { escape_controls(text) } else { Cow::Borrowed(text) };
        self.bytes(text.into_owned().into_bytes()).await;
    }

    /// Writes all bytes on another thread, unless the stream is abandoned meanwhile.
    async fn bytes(&mut self, bytes: Vec<u8>) {
        if !matches!(self.state, State::Open) {
            return;
        }
        let (target, shared) = (self.target, Arc::clone(&self.shared));
        let write = tokio::task::spawn_blocking(move || match target {
            Target::Output => write_all(io::stdout(), &bytes, &shared.writes),
            Target::Error => write_all(io::stderr(), &bytes, &shared.writes),
        });
        self.state = tokio::select! {
            written = write => match written.map_err(io::Error::other).and_then(|written| written) {
                Ok(()) => return,
                Err(error) => State::Failed(error),
            },
            () = self.shared.give_up.notified() => State::GivenUp,
        };
    }
}

/// Writes past the standard library's buffer, whose lock a blocked write would keep.
fn write_all(stream: impl AsFd, mut bytes: &[u8], writes: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() {
        let some = &bytes[..bytes.len().min(WRITE_BYTES)];
        match rustix::io::write(&stream, some) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                writes.fetch_add(1, Ordering::Relaxed);
                bytes = &bytes[written..];
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(RETRY),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
