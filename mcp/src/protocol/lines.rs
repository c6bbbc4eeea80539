//! What a server prints, a message on each line, with a bound on each message.
//!
//! A line that is too long is not kept. The request that it answers, or that one of a line
//! that cannot be read, is answered with an error in its place, if it can be seen which one it
//! is. Other requests go on.

use super::surrogates::replace_lone_surrogates;
use cellblock::support::{is_shallow_text, lock};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that one message of a server may have.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Levels to which a message may nest: more cannot be read.
const DEPTH: usize = 120;
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
}

/// Reads lines of at most `limit` bytes.
pub(crate) struct BoundedLines<R> {
    source: R,
    limit: usize,
    printed: Arc<Mutex<Printed>>,
    /// What was read and not yet passed on.
    ready: VecDeque<u8>,
    chunk: Box<[u8]>,
    /// The line that is being read; of one that is too long, its start and its end so far.
    line: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes of that line.
    length: usize,
}

impl<R: AsyncRead + Unpin> BoundedLines<R> {
    pub(crate) fn new(source: R, limit: usize, printed: Arc<Mutex<Printed>>) -> Self {
        Self {
            source,
            limit,
            printed,
            ready: VecDeque::new(),
            chunk: vec![0; CHUNK_BYTES].into(),
            line: Vec::new(),
            tail: VecDeque::new(),
            length: 0,
        }
    }

    /// Takes a piece of what the server printed. False when there is no going on.
    fn take(&mut self, piece: &[u8]) -> bool {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.length += part.len();
            if self.length <= self.limit {
                self.line.extend(part);
            } else {
                let room = END_BYTES.saturating_sub(self.line.len());
                self.line.extend(&part[..part.len().min(room)]);
                self.line.truncate(END_BYTES);
                self.tail.extend(&part[part.len().saturating_sub(END_BYTES)..]);
                let excess = self.tail.len().saturating_sub(END_BYTES);
                self.tail.drain(..excess);
            }
            if part.ends_with(b"\n") && !self.end_line() {
                return false;
            }
        }
        true
    }

    /// Passes a line on, or what it is replaced by. False when that is unknown.
    fn end_line(&mut self) -> bool {
        let mut line = std::mem::take(&mut self.line);
        let tail: Vec<u8> = self.tail.drain(..).collect();
        let is_long = std::mem::take(&mut self.length) > self.limit;
        if is_long {
            let Some(id) = first_id(&line).or_else(|| last_id(&tail)) else {
                lock(&self.printed).too_long = true;
                return false;
            };
            self.refuse(id, &format!("the answer has more than {} bytes", self.limit));
            return true;
        }
        replace_lone_surrogates(&mut line);
        match unreadable(&line) {
            None => self.ready.extend(line),
            Some(Unreadable { why, id }) => {
                let start = &line[..line.len().min(END_BYTES)];
                let end = &line[line.len().saturating_sub(END_BYTES)..];
                if let Some(id) = id.or_else(|| first_id(start)).or_else(|| last_id(end)) {
                    self.refuse(id, &format!("the answer cannot be read: {why}"));
                }
                let mut printed = lock(&self.printed);
                if printed.garbage.is_none() {
                    let shown = line.trim_ascii();
                    let shown = &shown[..shown.len().min(SHOWN_BYTES)];
                    printed.garbage = Some(String::from_utf8_lossy(shown).into_owned());
                }
            }
        }
        true
    }

    /// Answers a request with an error.
    fn refuse(&mut self, id: u64, message: &str) {
        let error = serde_json::json!({
            "jsonrpc": "2.0", "id": id, "error": { "code": -32603, "message": message },
        });
        self.ready.extend(error.to_string().as_bytes());
        self.ready.push_back(b'\n');
    }
}

/// A line that cannot be read as a message.
struct Unreadable {
    why: String,
    /// The request that it answers, where it could be read that far.
    id: Option<u64>,
}

/// What is wrong with a line; `None` when it is a message, or is empty.
fn unreadable(line: &[u8]) -> Option<Unreadable> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return None;
    }
    let mut id = None;
    let why = match std::str::from_utf8(line) {
        Err(error) => error.to_string(),
        Ok(text) if !is_shallow_text(text, DEPTH) => {
            format!("it nests deeper than {DEPTH} levels")
        }
        Ok(text) => match serde_json::from_str::<Whole>(text) {
            Err(error) => error.to_string(),
            Ok(_) if !text.starts_with(['{', '[']) => "it is not an object".to_owned(),
            Ok(_) => {
                id = Some(wrong_response(text)?);
                "it is not a response of JSON-RPC 2.0".to_owned()
            }
        },
    };
    Some(Unreadable { why, id })
}

/// The number of a message that is neither a request nor a response, if it has one: `rmcp`
/// would drop it, and the request of this number would never be answered.
fn wrong_response(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        jsonrpc: Option<&'a RawValue>,
        id: Option<&'a RawValue>,
        method: Option<&'a RawValue>,
        result: Option<&'a RawValue>,
        error: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "code")]
        _code: i32,
        #[serde(rename = "message")]
        _message: String,
    }
    let message: Message<'_> = serde_json::from_str(text).ok()?;
    let id = number(message.id?.get())?;
    let is_error = |error: &RawValue| serde_json::from_str::<Refusal>(error.get()).is_ok();
    let is_answer = message.result.is_some() || message.error.is_some_and(is_error);
    let is_versioned = message.jsonrpc.is_some_and(|version| version.get() == "\"2.0\"");
    (message.method.is_none() && !(is_versioned && is_answer)).then_some(id)
}

/// Reads every string and number of a value, of which some cannot be had, and keeps nothing.
struct Whole;

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Whole {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
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
            let lines: Vec<_> = text.lines().collect();
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
    async fn it_is_the_same_however_it_comes() {
        let long = "x".repeat(1_000);
        let text = format!(
            "{{\"a\":1}}\ngarbage\n\n{{\"jsonrpc\":\"2.0\",\"id\":7,\"r\":\"{long}\"}}\n{{\"r\":\"{long}\",\
             \"id\":8}}\n{{\"id\":9,\n{{\"b\":2}}\n"
        );
        let (whole, _) = read(text.as_bytes(), 300).await;
        assert_eq!(whole.lines().count(), 6, "{whole}");
        for size in [1, 2, 3, 7, 64, 299, 300, 301] {
            let (mut writer, reader) = tokio::io::duplex(size);
            let source = text.clone();
            tokio::spawn(async move {
                tokio::io::AsyncWriteExt::write_all(&mut writer, source.as_bytes()).await
            });
            let mut lines = BoundedLines::new(reader, 300, Arc::default());
            let mut pieces = String::new();
            lines.read_to_string(&mut pieces).await.expect("text");
            assert_eq!(pieces, whole, "in pieces of {size} bytes");
        }
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_read_becomes_an_error_of_its_request() {
        let deep = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for (line, said) in [
            (format!(r#"{{"jsonrpc":"2.0","id":7,"result":{}}}"#, deep(5_000)), "120 levels"),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"#.to_owned(), "EOF while parsing"),
            (r#"{"result":nonsense,"jsonrpc":"2.0","id":7}"#.to_owned(), "expected"),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"n":1e999}}"#.to_owned(), "out of range"),
            (r#"{"jsonrpc":"1.0","id":7,"result":{}}"#.to_owned(), "not a response"),
            (r#"{"id":7,"result":{}}"#.to_owned(), "not a response"),
            (r#"{"jsonrpc":"2.0","id":7}"#.to_owned(), "not a response"),
            (r#"{"jsonrpc":"2.0","id":7,"error":"no"}"#.to_owned(), "not a response"),
            (r#"{"jsonrpc":"2.0","id":7,"result":null}"#.to_owned(), "not a response"),
        ] {
            let (text, printed) = read(format!("{line}\n{{}}\n").as_bytes(), 100_000).await;
            let lines: Vec<_> = text.lines().collect();
            assert!(lines[0].contains("\"id\":7,") && lines[0].contains(said), "{text}");
            assert_eq!(lines[1..], ["{}"]);
            assert!(printed.garbage.is_some());
        }
        for fits in [
            &format!(r#"{{"jsonrpc":"2.0","id":7,"result":{}}}"#, deep(100)),
            r#"{"jsonrpc":"2.0","id":7,"result":5,"error":null}"#,
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"no"},"result":null}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/x"}"#,
            r#"[{"jsonrpc":"2.0","id":7}]"#,
        ] {
            let fits = format!("{fits}\n");
            assert_eq!(read(fits.as_bytes(), 100_000).await.0, fits);
        }
        let halves = b"{\"id\":1,\"method\":\"\\ud83d\"}\n";
        assert_eq!(read(halves, 300).await.0, "{\"id\":1,\"method\":\"\\ufffd\"}\n");
    }

    #[tokio::test]
    async fn what_is_not_a_message_is_kept_to_be_shown() {
        let (text, printed) = read(b"\n{\"a\":1}\nstarting up\nmore\n", 300).await;
        assert_eq!(text, "\n{\"a\":1}\n");
        assert_eq!(printed.garbage.as_deref(), Some("starting up"));
    }
}
