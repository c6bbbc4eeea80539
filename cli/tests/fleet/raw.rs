//! A client of NATS that sends what a test wants.

use crate::cluster::{Cluster, PATIENCE};
use cellblock_remote::protocol::frame;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A message that came.
#[derive(Debug)]
pub struct Received {
    /// Where it is to be answered.
    pub reply: Option<String>,
    /// The headers as they came, with the status line.
    pub headers: String,
    pub payload: Vec<u8>,
}

/// A connection as a user.
pub struct Raw {
    stream: BufReader<TcpStream>,
    inbox: String,
}

impl Raw {
    /// Connects as a user, whose password is its name, with an inbox of this name.
    pub fn connect(cluster: &Cluster, user: &str, inbox: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", cluster.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Self { stream: BufReader::new(stream), inbox: inbox.to_owned() };
        raw.line();
        let connect = json!({ "user": user, "pass": user, "verbose": false, "pedantic": false,
            "headers": true, "no_responders": true });
        raw.write(format!("CONNECT {connect}\r\nSUB {inbox} 1\r\n").as_bytes());
        raw.flush();
        raw
    }

    /// Receives what is sent to other subjects, too.
    pub fn subscribe(&mut self, subject: &str) {
        self.write(format!("SUB {subject} 2\r\n").as_bytes());
        self.flush();
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until the server has taken all that was sent. What came in the meantime is lost.
    pub fn flush(&mut self) {
        self.ping();
        while self.next().is_some() {}
    }

    /// Asks the server to say when it has sent all that there was until now.
    pub fn ping(&mut self) {
        self.write(b"PING\r\n");
    }

    /// Sends a message with headers, as lines `name: value`.
    pub fn send(&mut self, subject: &str, headers: &[&str], payload: &[u8]) {
        let mut head = "NATS/1.0\r\n".to_owned();
        for header in headers {
            head.extend([header, "\r\n"]);
        }
        head += "\r\n";
        let (length, all) = (head.len(), head.len() + payload.len());
        let inbox = self.inbox.clone();
        self.write(format!("HPUB {subject} {inbox} {length} {all}\r\n{head}").as_bytes());
        self.write(payload);
        self.write(b"\r\n");
    }

    /// The next message; `None` when the server has answered a flush.
    pub fn next(&mut self) -> Option<Received> {
        loop {
            let line = self.line();
            let tokens: Vec<_> = line.split(' ').collect();
            match tokens[0] {
                "PING" => self.write(b"PONG\r\n"),
                "PONG" => return None,
                "HMSG" | "MSG" => {
                    let number =
                        |back: usize| tokens[tokens.len() - back].parse::<usize>().unwrap();
                    let head = if tokens[0] == "HMSG" { number(2) } else { 0 };
                    let mut bytes = vec![0; number(1) + 2];
                    self.stream.read_exact(&mut bytes).unwrap();
                    bytes.truncate(bytes.len() - 2);
                    let payload = bytes.split_off(head);
                    // The subject, the subscription, the reply if there is one, and the lengths.
                    let lengths = if tokens[0] == "HMSG" { 2 } else { 1 };
                    let reply = (tokens.len() == 4 + lengths).then(|| tokens[3].to_owned());
                    let headers = String::from_utf8(bytes).unwrap();
                    return Some(Received { reply, headers, payload });
                }
                "-ERR" => panic!("{line}"),
                _ => {}
            }
        }
    }
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }
}

/// What a client sends to start a program.
pub fn start(source: &str) -> Vec<u8> {
    start_with(source, &[], None)
}

/// The same, with what the client asks for and what it adds to the program.
pub fn start_with(source: &str, capabilities: &[&str], seam: Option<&Value>) -> Vec<u8> {
    let messages = [
        json!({ "type": "connection/hello", "supportedVersions": [1], "requiredCapabilities": [],
            "optionalCapabilities": capabilities }),
        request(1, &json!({ "method": "session/open", "sessionId": "s" })),
        request(
            2,
            &json!({ "method": "session/execute", "sessionId": "s", "seam": seam, "request": {
            "tool_call_id": "c", "enabled_tools": [], "source": source, "yield_time_ms": 0,
            "max_output_tokens": null } }),
        ),
    ];
    messages.iter().flat_map(|message| frame::encode(message).unwrap()).collect()
}

pub fn request(id: i64, request: &Value) -> Value {
    json!({ "type": "operation/request", "id": id, "request": request })
}
