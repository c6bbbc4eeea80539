//! What a server prints, a message on each line, with a bound on each message.
//!
//! A line that is too long is not kept: the request that it answers, if that can be seen,
//! is answered with an error in its place. Other requests go on.

use cellblock::support::lock;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that one message of a server may have.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Bytes at either end of a line in which the id of a message is looked for.
const END_BYTES: usize = 256;
/// Bytes of a line without a message that are kept to be shown.
const SHOWN_BYTES: usize = 200;
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What else is known of what a server has printed.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    /// The start of the first line that is not a message.
    pub(crate) garbage: Option<String>,
    /// A message was too long, and it could not be seen which request it answers.
    pub(crate) too_long: bool,
    /// The server has closed its output.
    pub(crate) closed: bool,
}

/// Reads lines of at most `limit` bytes.
pub(crate) struct BoundedLines<R> {
    source: R,
    limit: usize,
    printed: Arc<Mutex<Printed>>,
    /// What was read and not yet passed on.
    ready: VecDeque<u8>,
    chunk: Box<[u8]>,
    /// Bytes of the line that is being read.
    length: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
}

impl<R: AsyncRead + Unpin> BoundedLines<R> {
    pub(crate) fn new(source: R, limit: usize, printed: Arc<Mutex<Printed>>) -> Self {
        Self {
            source,
            limit,
            printed,
            ready: VecDeque::new(),
            chunk: vec![0; CHUNK_BYTES].into(),
            length: 0,
            head: Vec::new(),
            tail: VecDeque::new(),
        }
    }

    /// Takes a piece of what the server printed. False when there is no going on.
    fn take(&mut self, mut piece: &[u8]) -> bool {
        while !piece.is_empty() {
            let end = piece.iter().position(|byte| *byte == b'\n');
            let (line, rest) = piece.split_at(end.map_or(piece.len(), |end| end + 1));
            let room = END_BYTES.saturating_sub(self.head.len());
            self.head.extend(&line[..line.len().min(room)]);
            let was_long = self.length > self.limit;
            self.length += line.len();
            if self.length <= self.limit {
                self.ready.extend(line);
            } else {
                if !was_long {
                    // Ends what was passed on of the line; half a message is passed over.
                    self.ready.push_back(b'\n');
                }
                self.tail.extend(&line[line.len().saturating_sub(END_BYTES)..]);
                let excess = self.tail.len().saturating_sub(END_BYTES);
                self.tail.drain(..excess);
            }
            if end.is_some() && !self.end_line() {
                return false;
            }
            piece = rest;
        }
        true
    }

    fn end_line(&mut self) -> bool {
        let known = if self.length > self.limit {
            let tail: Vec<u8> = self.tail.drain(..).collect();
            let id = first_id(&self.head).or_else(|| last_id(&tail));
            match id {
                Some(id) => {
                    let message = format!("the answer has more than {} bytes", self.limit);
                    let error = serde_json::json!({
                        "jsonrpc": "2.0", "id": id, "error": { "code": -32603, "message": message },
                    });
                    self.ready.extend(error.to_string().as_bytes());
                    self.ready.push_back(b'\n');
                }
                None => lock(&self.printed).too_long = true,
            }
            id.is_some()
        } else {
            let line = self.head.trim_ascii();
            if !line.is_empty() && !matches!(line[0], b'{' | b'[') {
                let mut printed = lock(&self.printed);
                if printed.garbage.is_none() {
                    let shown = &line[..line.len().min(SHOWN_BYTES)];
                    printed.garbage = Some(String::from_utf8_lossy(shown).into_owned());
                }
            }
            true
        };
        self.length = 0;
        self.head.clear();
        self.tail.clear();
        known
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BoundedLines<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        while this.ready.is_empty() {
            let mut chunk = std::mem::take(&mut this.chunk);
            let mut read = ReadBuf::new(&mut chunk);
            let polled = Pin::new(&mut this.source).poll_read(cx, &mut read);
            let length = read.filled().len();
            let ended = match polled {
                Poll::Ready(Ok(())) if length > 0 => !this.take(&chunk[..length]),
                Poll::Ready(_) => true,
                Poll::Pending => false,
            };
            this.chunk = chunk;
            if ended {
                lock(&this.printed).closed = true;
                return Poll::Ready(Ok(()));
            }
            ready!(polled)?;
        }
        let (first, second) = this.ready.as_slices();
        let piece = if first.is_empty() { second } else { first };
        let length = piece.len().min(buffer.remaining());
        buffer.put_slice(&piece[..length]);
        this.ready.drain(..length);
        Poll::Ready(Ok(()))
    }
}

/// The id at the start of a message: `{"jsonrpc":"2.0","id":7,`.
fn first_id(head: &[u8]) -> Option<u64> {
    let head = String::from_utf8_lossy(head);
    let head: String = head.chars().filter(|c| !c.is_whitespace()).collect();
    let rest = head.strip_prefix("{\"jsonrpc\":\"2.0\",").unwrap_or(head.strip_prefix('{')?);
    number(rest.strip_prefix("\"id\":")?)
}

/// The id at the end of a message: `"jsonrpc":"2.0","id":7}`.
fn last_id(tail: &[u8]) -> Option<u64> {
    let tail = String::from_utf8_lossy(tail);
    let tail: String = tail.chars().filter(|c| !c.is_whitespace()).collect();
    let tail = tail.strip_suffix('}')?;
    let tail = tail.strip_suffix(",\"jsonrpc\":\"2.0\"").unwrap_or(tail);
    let (_, id) = tail.rsplit_once(",\"id\":")?;
    id.parse().ok()
}

fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn read(source: &[u8], limit: usize) -> (String, Printed) {
        let printed = Arc::new(Mutex::new(Printed::default()));
        let mut lines = BoundedLines::new(source, limit, Arc::clone(&printed));
        let mut text = String::new();
        lines.read_to_string(&mut text).await.expect("text");
        drop(lines);
        (text, Arc::into_inner(printed).expect("alone").into_inner().expect("whole"))
    }

    #[tokio::test]
    async fn a_long_answer_becomes_an_error_of_its_request() {
        let long = "x".repeat(1_000);
        for (line, id) in [
            (format!(r#"{{"jsonrpc":"2.0","id":7,"result":"{long}"}}"#), "7"),
            (format!(r#"{{"result":"{long}","jsonrpc":"2.0","id":8}}"#), "8"),
            (format!(r#"{{"result": "{long}", "id": 9, "jsonrpc": "2.0"}}"#), "9"),
            (format!(r#"{{ "id": 10, "result": "{long}" }}"#), "10"),
        ] {
            let (text, printed) = read(format!("{line}\n{{\"next\":1}}\n").as_bytes(), 300).await;
            assert!(!printed.too_long, "{id}");
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("xxx")).collect();
            assert!(
                lines.iter().any(|line| line.contains(&format!("\"id\":{id}"))
                    && line.contains("more than 300 bytes")),
                "{text}"
            );
            assert_eq!(lines.last(), Some(&"{\"next\":1}"));
        }
        let (_, printed) = read(format!("{{\"a\":\"{long}\"}}\n{{}}\n").as_bytes(), 300).await;
        assert!(printed.too_long);
    }

    #[tokio::test]
    async fn what_is_not_a_message_is_kept_to_be_shown() {
        let (text, printed) = read(b"\n{\"a\":1}\nstarting up\nmore\n", 300).await;
        assert_eq!(text, "\n{\"a\":1}\nstarting up\nmore\n");
        assert_eq!(printed.garbage.as_deref(), Some("starting up"));
        assert!(printed.closed);
    }
}
