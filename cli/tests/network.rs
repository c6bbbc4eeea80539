//! Hosts that other machines could reach: TLS, client certificates and tokens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cellblock::{CodeModeError, CodeModeService, ContentItem, ExecuteRequest};
use cellblock_remote::{ClientTls, HostAddress, HostProcess, ProcessBackend};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{PATIENCE, PROGRAM, Served};
use tempfile::TempDir;

const TOKEN: &str = "0123456789abcdef0123";
const OTHER_TOKEN: &str = "another-token-of-another-tenant";

/// Certificates of an authority, of a host and of a client, and tokens.
struct Files {
    dir: TempDir,
    authority: String,
    client: (String, String),
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = signed("host.test");
        std::fs::write(dir.path().join("host.pem"), certificate).unwrap();
        std::fs::write(dir.path().join("host.key"), key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        let files = Self { dir, authority: issuer.pem(), client: signed("client.test") };
        files.write_tokens(&format!("# tenants\nacme {TOKEN}\nother {OTHER_TOKEN}\n"));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_tokens(&self, lines: &str) {
        std::fs::write(self.path("tokens"), lines).unwrap();
    }

    /// A host with some of: `tls`, `ca`, `tokens`.
    fn serve(&self, url: &str, with: &[&str]) -> Served {
        let mut arguments = Vec::new();
        for each in with {
            arguments.extend(match *each {
                "tls" => vec!["--tls-cert", "host.pem", "--tls-key", "host.key"],
                "ca" => vec!["--client-ca", "ca.pem"],
                _ => vec!["--token-file", "tokens"],
            });
        }
        let arguments: Vec<String> = arguments
            .into_iter()
            .map(|argument| match argument.strip_prefix("--") {
                Some(_) => argument.to_owned(),
                None => self.path(argument).display().to_string(),
            })
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Served::start_at(url, &arguments)
    }

    fn tls(&self) -> ClientTls {
        ClientTls {
            server_name: "host.test".to_owned(),
            authorities: self.authority.clone().into_bytes(),
            identity: None,
        }
    }

    fn identified(&self) -> ClientTls {
        let (certificate, key) = self.client.clone();
        ClientTls { identity: Some((certificate.into_bytes(), key.into_bytes())), ..self.tls() }
    }
}

fn address(served: &Served) -> HostAddress {
    HostAddress::grpc(served.address().parse().unwrap())
}

async fn run(address: HostAddress) -> Result<String, CodeModeError> {
    let service = CodeModeService::new(Arc::new(ProcessBackend::new(&HostProcess::new(address))));
    let ran = service.execute(ExecuteRequest::new("text(6 * 7)")).await;
    service.shutdown().await;
    match ran?.content_items() {
        [ContentItem::InputText { text }] => Ok(text.clone()),
        other => panic!("not one text: {other:?}"),
    }
}

#[tokio::test]
async fn tls_and_a_token_let_a_client_in_and_nothing_less_does() {
    let files = Files::new();
    let served = files.serve("grpcs://127.0.0.1:0", &["tls", "tokens"]);
    assert!(served.url.starts_with("grpcs://"), "{}", served.url);
    let safe = address(&served).with_tls(files.tls());
    assert_eq!(run(safe.clone().with_token(TOKEN)).await.unwrap(), "42");
    for refused in
        [safe.clone(), safe.clone().with_token("0123456789abcdef0124"), safe.with_token("")]
    {
        let why = run(refused).await.unwrap_err().to_string();
        assert!(why.contains("a valid bearer token is needed"), "{why}");
    }
    // Without TLS, for another name, and from an authority that is not known.
    let plain = address(&served).with_token(TOKEN);
    let named = ClientTls { server_name: "other.test".to_owned(), ..files.tls() };
    let stranger = Files::new().tls();
    for refused in [plain.clone(), plain.clone().with_tls(named), plain.with_tls(stranger)] {
        let error = run(refused).await.unwrap_err();
        assert!(
            matches!(error, CodeModeError::Unavailable(_) | CodeModeError::Host(_)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_host_may_ask_for_a_certificate() {
    let files = Files::new();
    let served = files.serve("grpcs://127.0.0.1:0", &["tls", "ca"]);
    let place = address(&served);
    assert_eq!(run(place.clone().with_tls(files.identified())).await.unwrap(), "42");
    run(place.clone().with_tls(files.tls())).await.unwrap_err();
    let stranger = Files::new().identified();
    let forged = ClientTls { identity: stranger.identity, ..files.tls() };
    run(place.with_tls(forged)).await.unwrap_err();
}

/// The same over a `WebSocket`.
#[tokio::test]
async fn framed_json_travels_over_websockets_of_every_kind() {
    let files = Files::new();
    let place = |served: &Served| HostAddress::websocket(served.address().parse().unwrap());
    let served = files.serve("ws://127.0.0.1:0", &[]);
    assert_eq!(run(place(&served)).await.unwrap(), "42");
    let served = files.serve("ws://127.0.0.1:0", &["tokens"]);
    assert_eq!(run(place(&served).with_token(TOKEN)).await.unwrap(), "42");
    for refused in [place(&served), place(&served).with_token("wrong-token-of-some-length")] {
        let error = run(refused).await.unwrap_err().to_string();
        assert!(error.contains("WebSocket: HTTP error: 401"), "{error}");
    }
    let served = files.serve("wss://127.0.0.1:0", &["tls", "ca", "tokens"]);
    let known = place(&served).with_tls(files.identified());
    assert_eq!(run(known.clone().with_token(OTHER_TOKEN)).await.unwrap(), "42");
    run(known).await.unwrap_err();
    run(place(&served).with_tls(files.tls()).with_token(TOKEN)).await.unwrap_err();
    // What is no host of this protocol is an error that says so.
    let served = files.serve("grpc://127.0.0.1:0", &[]);
    let error = run(place(&served)).await.unwrap_err().to_string();
    assert!(error.contains("WebSocket"), "{error}");
}

/// A message may be as long as a frame, and comes whole.
#[tokio::test]
async fn long_messages_travel_over_a_websocket() {
    let files = Files::new();
    let served = files.serve("ws://127.0.0.1:0", &[]);
    let host = HostProcess::new(HostAddress::websocket(served.address().parse().unwrap()));
    let service = CodeModeService::new(Arc::new(ProcessBackend::new(&host)));
    let mut running = tokio::task::JoinSet::new();
    for number in 0..20_usize {
        let service = service.clone();
        running.spawn(async move {
            let length = 1 + number * 100_000;
            let source = format!("text('{}'); text('y'.repeat({length}))", "x".repeat(length));
            let response = service.execute(ExecuteRequest::new(source)).await.unwrap();
            let lengths: Vec<_> =
                response.content_items().iter().map(ContentItem::byte_len).collect();
            assert!(lengths.iter().all(|&all| all >= length), "{lengths:?}");
        });
    }
    while let Some(ran) = running.join_next().await {
        ran.unwrap();
    }
    service.shutdown().await;
}

#[tokio::test]
async fn tokens_are_read_again_when_the_host_is_hung_up_on() {
    let files = Files::new();
    let served = files.serve("grpc://127.0.0.1:0", &["tokens"]);
    let place = address(&served);
    assert_eq!(run(place.clone().with_token(TOKEN)).await.unwrap(), "42");
    let hang_up = || {
        let pid = i32::try_from(served.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
    };
    // What is not valid changes nothing.
    files.write_tokens("nonsense");
    hang_up();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(run(place.clone().with_token(TOKEN)).await.unwrap(), "42");
    files.write_tokens(&format!("other {OTHER_TOKEN}"));
    hang_up();
    let began = Instant::now();
    while run(place.clone().with_token(TOKEN)).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "the old token is still valid");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(run(place.with_token(OTHER_TOKEN)).await.unwrap(), "42");
}

#[test]
fn websockets_need_the_token_too() {
    let files = Files::new();
    let served = files.serve("ws://127.0.0.1:0", &["tokens"]);
    let status = |header: &str| {
        let mut stream = TcpStream::connect(served.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             {header}\r\n"
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(status(""), "HTTP/1.1 401 Unauthorized");
    assert_eq!(
        status("Authorization: Bearer wrong-token-of-some-length\r\n"),
        "HTTP/1.1 401 Unauthorized"
    );
    assert_eq!(
        status(&format!("Authorization: Bearer {TOKEN}\r\n")),
        "HTTP/1.1 101 Switching Protocols"
    );
}

#[test]
fn an_address_for_other_machines_needs_tls_and_a_way_to_know_clients() {
    let files = Files::new();
    let refused = |arguments: &[&str], why: &str| {
        let output = Command::new(PROGRAM)
            .args(["host", "--listen"])
            .args(arguments)
            .current_dir(files.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(why), "{error}");
    };
    let tls = ["--tls-cert", "host.pem", "--tls-key", "host.key"];
    refused(&["grpcs://127.0.0.1:0"], "needs --tls-cert and --tls-key");
    refused(&["grpc://0.0.0.0:0", "--token-file", "tokens"], "can be reached from other machines");
    refused(&[&["grpcs://0.0.0.0:0"][..], &tls].concat(), "can be reached from other machines");
    refused(
        &["grpcs://0.0.0.0:0", "--tls-cert", "host.key", "--tls-key", "host.key"],
        "the certificate cannot be read",
    );
    std::fs::write(files.path("short"), "acme short").unwrap();
    refused(&["grpc://127.0.0.1:0", "--token-file", "short"], "line 1 of the tokens");
    refused(&["grpc://127.0.0.1:0", "--token-file", "none"], "cannot read none");
    let served = files.serve("grpcs://0.0.0.0:0", &["tls", "tokens"]);
    assert!(served.url.starts_with("grpcs://0.0.0.0:"), "{}", served.url);
}

#[test]
fn listening_for_other_machines_is_refused_unless_it_is_allowed() {
    for address in ["ws://0.0.0.0:0", "grpc://[::]:0"] {
        let refused = Command::new(PROGRAM)
            .args(["host", "--listen", address])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let why = String::from_utf8(refused.stderr).unwrap();
        assert!(why.contains("can be reached from other machines"), "{why}");
        assert!(why.contains("--insecure") && refused.stdout.is_empty(), "{why}");
    }
    let allowed = Served::start_at("ws://0.0.0.0:0", &["--insecure"]);
    assert!(allowed.url.starts_with("ws://0.0.0.0:"), "{}", allowed.url);
}
