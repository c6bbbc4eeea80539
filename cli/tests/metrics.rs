//! Figures for Prometheus.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use support::{PATIENCE, PROGRAM, get};

fn body(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn what_cells_did_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("host");
    let mut child = Command::new(PROGRAM)
        .args(["host", "--metrics", "127.0.0.1:0", "--limit", "calls=1", "--listen"])
        .arg(format!("unix://{}", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.clear();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let (_, address) = line.trim().split_once("http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap();
    let mut client = support::Client {
        stream: std::os::unix::net::UnixStream::connect(&socket).unwrap(),
        last_id: 0,
    };
    client.hello();
    client.request(&serde_json::json!({ "method": "session/open", "sessionId": "s" }));
    for source in ["text(1)", "throw 1", "for (;;) tools.stone()", "text(2)"] {
        client.execute(source, 60_000);
    }
    let text = body(address, "/metrics");
    for expected in [
        "cellblock_cells_started_total 4",
        "cellblock_cells_ended_total{cause=\"completed\"} 2",
        "cellblock_cells_ended_total{cause=\"failed\"} 1",
        "cellblock_cells_ended_total{cause=\"limit: nested calls\"} 1",
        "cellblock_calls_total 1",
        "cellblock_connections 1",
        "cellblock_cell_seconds_count 4",
        "cellblock_first_response_seconds_bucket{le=\"+Inf\"} 4",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(address, path, ""), "HTTP/1.1 200 OK");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn figures_are_not_for_other_machines() {
    let refused = Command::new(PROGRAM)
        .args(["host", "--metrics", "0.0.0.0:0"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && why.contains("use 127.0.0.1"), "{why}");
}
