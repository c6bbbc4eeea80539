//! Who may look, and who may answer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock::{CellEvent, ContentItem};
use cellblock_inspect::{About, InspectError, Inspector, Token};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const TOKEN: &str = "0123456789abcdef_TOKEN";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

struct Served {
    address: SocketAddr,
    inspector: Inspector,
    url: String,
}

async fn serve() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let inspector = Inspector::new();
    let (router, url) = inspector.router(address, &Token::given(TOKEN).unwrap()).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Served { address, inspector, url }
}

impl Served {
    /// The status line and headers, and the body, of a response. `{host}` in a header is this
    /// server.
    async fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, String) {
        let host = self.address.to_string();
        let mut request = format!("{method} {path} HTTP/1.0\r\n");
        for header in headers {
            request.push_str(&header.replace("{host}", &host));
            request.push_str("\r\n");
        }
        let request = format!("{request}Content-Length: {}\r\n\r\n{body}", body.len());
        let address = self.address;
        let response = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            response
        });
        let response = response.await.unwrap();
        (response.split(' ').nth(1).unwrap().parse().unwrap(), response)
    }
}

const HOST: &str = "Host: {host}";
const OWN: &str = "Origin: http://{host}";
const BEARER: &str = "Authorization: Bearer 0123456789abcdef_TOKEN";
const JSON: &str = "Content-Type: application/json";

#[tokio::test(flavor = "multi_thread")]
async fn to_look_needs_the_token_and_this_host() {
    let served = serve().await;
    assert_eq!(served.url, format!("http://{}/?token={TOKEN}", served.address));
    served.inspector.record(About::default()).unwrap();
    let with_token = |path: &str| format!("{path}?token={TOKEN}");
    let local = format!("Host: localhost:{}", served.address.port());
    let port = format!("Host: 127.0.0.1:{}", u32::from(served.address.port()) + 1);
    for path in ["/", "/changes", "/cells/1"] {
        let good = with_token(path);
        let (status, response) = served.send("GET", &good, &[HOST], "").await;
        assert_eq!(status, 200, "{response}");
        let lower = response.to_lowercase();
        for header in [
            "\r\ncache-control: no-store\r\n",
            "\r\nreferrer-policy: no-referrer\r\n",
            "\r\nx-content-type-options: nosniff\r\n",
            "\r\nx-frame-options: deny\r\n",
            "frame-ancestors 'none'",
            "default-src 'none'; script-src 'sha256-",
        ] {
            assert!(lower.contains(header), "{header}: {response}");
        }
        assert!(!lower.contains("access-control"), "{response}");
        assert_eq!(served.send("GET", path, &[HOST, BEARER], "").await.0, 200);
        assert_eq!(served.send("GET", &good, &[&local], "").await.0, 200);
        assert_eq!(served.send("GET", &good, &[HOST, OWN], "").await.0, 200);

        let wrong = format!("{path}?token={TOKEN}x");
        let refused: [(&str, &[&str]); 9] = [
            (path, &[HOST]),
            (&wrong, &[HOST]),
            (&good, &[HOST, "Authorization: Bearer 0123456789abcdef_WRONG"]),
            (path, &[HOST, "Authorization: Bearer "]),
            (&good, &["Host: example.com"]),
            (&good, &["Host: 127.0.0.1"]),
            (&good, &[&port]),
            (&good, &[HOST, "Origin: http://example.com"]),
            (&good, &[HOST, "Origin: null"]),
        ];
        for (path, headers) in refused {
            let (status, response) = served.send("GET", path, headers, "").await;
            assert_eq!(status, 403, "{path} {headers:?}: {response}");
            assert!(!response.contains("<html") && !response.contains("cells"), "{response}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_answer_needs_the_token_in_a_header_and_this_page() {
    let served = serve().await;
    let recording = served.inspector.record(About::default()).unwrap();
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answers);
    let asked = recording.ask("may it?", move |approved| {
        counted.fetch_add(if approved { 1 } else { 100 }, Ordering::SeqCst) == 0
    });
    let body = r#"{"cell":1,"question":1,"approved":true}"#;
    let by_url = format!("/answers?token={TOKEN}");
    let refused: [(&str, &[&str], u16); 12] = [
        ("/answers", &[HOST, OWN, JSON], 403),
        (&by_url, &[HOST, OWN, JSON], 403),
        ("/answers", &[HOST, BEARER, JSON], 403),
        ("/answers", &[HOST, BEARER, JSON, "Origin: http://example.com"], 403),
        ("/answers", &[HOST, BEARER, JSON, "Origin: null"], 403),
        ("/answers", &[HOST, BEARER, JSON, "Origin: https://{host}"], 403),
        ("/answers", &[HOST, BEARER, JSON, "Origin: http://localhost:1"], 403),
        ("/answers", &[HOST, BEARER, JSON, OWN, "Origin: http://example.com"], 403),
        ("/answers", &[HOST, BEARER, JSON, OWN, "Sec-Fetch-Site: cross-site"], 403),
        ("/answers", &[HOST, BEARER, JSON, OWN, "Sec-Fetch-Site: same-site"], 403),
        ("/answers", &["Host: example.com", BEARER, JSON, "Origin: http://example.com"], 403),
        ("/answers", &[HOST, BEARER, OWN, "Content-Type: text/plain"], 415),
    ];
    for (path, headers, expected) in refused {
        let (status, response) = served.send("POST", path, headers, body).await;
        assert_eq!(status, expected, "{path} {headers:?}: {response}");
    }
    let good = [HOST, BEARER, JSON, OWN];
    assert_eq!(served.send("GET", "/answers", &good, body).await.0, 405);
    assert_eq!(answers.load(Ordering::SeqCst), 0, "nothing was answered");

    let send = async |body: &str| served.send("POST", "/answers", &good, body).await.0;
    assert_eq!(send(r#"{"cell":1,"question":2,"approved":true}"#).await, 409);
    assert_eq!(send(r#"{"cell":2,"question":1,"approved":true}"#).await, 409);
    assert_eq!(send(r#"{"cell":1,"question":1}"#).await, 422);
    assert_eq!(answers.load(Ordering::SeqCst), 0);
    assert_eq!(send(body).await, 204);
    assert_eq!(answers.load(Ordering::SeqCst), 1);
    asked.answered(true);
    assert_eq!(send(body).await, 409, "it was answered");
    assert_eq!(answers.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_waited_for() {
    let served = serve().await;
    let changes = async |seen: u64, since: u64| {
        let path = format!("/changes?seen={seen}&cell=1&since={since}");
        let (_, response) = served.send("GET", &path, &[HOST, BEARER], "").await;
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()
    };
    let before = changes(0, 0).await;
    assert_eq!(before["cells"], serde_json::json!([]));
    let seen = before["version"].as_u64().unwrap();
    let inspector = served.inspector.clone();
    let (after, recording) = tokio::join!(changes(seen, 0), async move {
        inspector.record(About { title: "a cell".to_owned(), ..About::default() }).unwrap()
    });
    assert_eq!(after["cells"][0]["title"], "a cell");
    assert_eq!(after["recording"]["title"], "a cell");
    // It has ended, so a saved file says so.
    recording.refuse("no room");
    let (_, file) = served.send("GET", "/cells/1", &[HOST, BEARER], "").await;
    assert!(file.to_lowercase().contains("content-disposition: attachment"), "{file}");
    assert!(file.contains("no room"), "{file}");
    assert_eq!(served.send("GET", "/cells/2", &[HOST, BEARER], "").await.0, 404);
}

/// A client that sends a request and reads nothing but the beginning of the response.
async fn stalled(served: &Served, path: &str) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(served.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{BEARER}\r\n\r\n", served.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'H');
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_are_few_and_everybody_else_is_served_after_them() {
    let served = serve().await;
    let recording = served.inspector.record(About::default()).unwrap();
    let monitor = recording.recorder();
    // More than a connection's buffers hold: six characters for each in the file.
    for _ in 0..32 {
        let text = "<".repeat(32 << 10);
        monitor.event(CellEvent::Output(&ContentItem::InputText { text }));
    }
    drop(monitor);
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(stalled(&served, "/cells/1").await);
    }
    let next = served.send("GET", "/changes?seen=0&cell=1", &[HOST, BEARER], "");
    tokio::pin!(next);
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut next).await;
    assert!(waited.is_err(), "eight recordings wait to be read, and this is a ninth");
    // What holds no recording is there all the time.
    assert_eq!(served.send("GET", "/", &[HOST, BEARER], "").await.0, 200);
    drop(slow);
    let (status, response) = next.await;
    assert_eq!(status, 200);
    assert!(response.len() > 1 << 20, "{}", response.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_look_at_once() {
    let served = Arc::new(serve().await);
    let seen = served.inspector.clone();
    let viewers: Vec<_> = (0..100)
        .map(|_| {
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                // The first is answered at once, and the second with what is new.
                let (_, first) = served.send("GET", "/changes?cell=1", &[HOST, BEARER], "").await;
                let (_, rest) = first.split_once("\"version\":").unwrap();
                let version = rest.split(',').next().unwrap();
                let path = format!("/changes?seen={version}&cell=1");
                served.send("GET", &path, &[HOST, BEARER], "").await.1
            })
        })
        .collect();
    let recording = seen.record(About { title: "seen".to_owned(), ..About::default() }).unwrap();
    for viewer in viewers {
        while !viewer.is_finished() {
            // Whoever comes late finds the next change.
            let asked = recording.ask("may it?", |_| true);
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(asked);
        }
        assert!(viewer.await.unwrap().contains("\"title\":\"seen\""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_short() {
    let served = serve().await;
    let headers = [HOST, BEARER, JSON, OWN];
    let long = format!("{{\"cell\":1,\"question\":1,\"approved\":true{}}}", " ".repeat(2_000));
    assert_eq!(served.send("POST", "/answers", &headers, &long).await.0, 413);
    for wrong in ["", "null", "{\"cell\":-1,\"question\":1,\"approved\":true}", "{"] {
        let (status, _) = served.send("POST", "/answers", &headers, wrong).await;
        assert!(matches!(status, 400 | 422), "{wrong}: {status}");
    }
}

#[test]
fn only_this_machine_and_only_tokens_that_cannot_be_guessed() {
    let token = Token::random().unwrap();
    let elsewhere: SocketAddr = "0.0.0.0:80".parse().unwrap();
    let refused = Inspector::new().router(elsewhere, &token).unwrap_err();
    assert_eq!(refused, InspectError::NotLoopback(elsewhere));
    let (_, url) = Inspector::new().router("[::1]:80".parse().unwrap(), &token).unwrap();
    let (_, token) = url.split_once("http://[::1]:80/?token=").unwrap();
    assert_eq!(token.len(), 32);
    for weak in ["", "short", "0123456789abcde", "0123456789abcdef&x=1", "0123456789abcdef é"] {
        assert_eq!(Token::given(weak).unwrap_err(), InspectError::WeakToken, "{weak}");
    }
}
