//! Servers behind that are reached over HTTP. The server here is Cellblock itself.

use crate::configure;
use crate::over_http::Served;
use crate::raw::{Client, texts};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

const TOKEN: &str = "0123456789abcdef-one";

/// A client of a gateway to the server at a URL.
fn client(dir: &Path, url: &str, authorization: &str) -> Client {
    let headers = json!({ "Authorization": authorization });
    let server = json!({ "type": "http", "url": url, "headers": headers });
    configure(dir, &json!({ "mcpServers": { "far": server } }));
    Client::start(dir, &[], &json!({}))
}

/// Calls the tool `exec` of the server behind.
const CALL: &str =
    "const { result, output } = await tools.far.exec({ code: `text('far'); 6 * 7` });
    text(`${output} ${result}`)";

#[test]
fn a_server_is_called_over_http_with_its_headers() {
    let served = Served::start(&["--token-file", "tokens"]);
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("http://{}/mcp", served.address);
    let mut near = client(dir.path(), &url, &format!("Bearer ${{TOKEN:-{TOKEN}}}"));
    assert_eq!(near.printed(CALL), "far 42");
    let failed = near.exec("await tools.far.exec({ code: 'throw new Error(`no`)' })");
    assert!(texts(&failed).contains("far.exec reported an error:"), "{failed}");

    let dir = tempfile::tempdir().expect("a folder");
    let mut stranger = client(dir.path(), &url, "Bearer wrong");
    let failed = stranger.exec("await tools.far.exec({})");
    let said = texts(&failed);
    assert!(
        said.contains("The server far could not be started:")
            && said.contains("authorization required"),
        "{said}"
    );

    drop(served);
    let failed = near.exec(CALL);
    assert!(texts(&failed).contains("far.exec: "), "{failed}");
}

/// A certificate for this machine, its key, and that of the authority.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let signed = CertificateParams::new(names).expect("names").signed_by(&key, &issuer);
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).expect("a file");
    write("host.pem", signed.expect("a certificate").pem());
    write("host.key", key.serialize_pem());
    write("ca.pem", issuer.pem());
}

#[test]
fn connections_are_encrypted() {
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path());
    let authority = std::fs::read_to_string(dir.path().join("ca.pem")).expect("a file");
    configure(dir.path(), &json!({ "mcpServers": {} }));
    let tls = ["--tls-cert", "host.pem", "--tls-key", "host.key", "--token-file", "tokens"];
    let served = Served::start_in(dir, &tls);
    // Nothing is answered in the clear.
    let mut plain = TcpStream::connect(&served.address).expect("it listens");
    plain.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/"), "{answer:?}");

    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("ca.pem"), authority).expect("a file");
    let url = format!("https://{}/mcp", served.address);
    let server = json!({ "url": url, "headers": { "Authorization": format!("Bearer {TOKEN}") } });
    configure(dir.path(), &json!({ "mcpServers": { "far": server } }));
    let check = |authorities: Option<&str>| {
        let mut command = Command::new(crate::raw::PROGRAM);
        command.args(["mcp", "check"]).current_dir(dir.path());
        if let Some(file) = authorities {
            command.env("SSL_CERT_FILE", dir.path().join(file));
        }
        let output = command.output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (trusted, said) = check(Some("ca.pem"));
    assert!(trusted && said.contains("far__exec"), "{said}");
    let (trusted, said) = check(None);
    assert!(!trusted && said.contains("cannot be reached"), "{said}");
}

/// A server that answers every request with this.
fn answering(response: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a port");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let mut buffer = [0; 4_096];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(response.as_bytes());
        }
    });
    format!("http://{address}/mcp")
}

#[test]
fn what_answers_otherwise_is_named_with_the_reason() {
    for (response, said) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "404"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>",
            "text/html",
        ),
        (
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://localhost:1/mcp\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "307",
        ),
        ("garbage\r\n\r\n", "cannot be reached"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let url = answering(response);
        let mut client = client(dir.path(), &url, "secret");
        let listed: Value = client.request("tools/list", json!({}));
        let description = listed["tools"][0]["description"].as_str().expect("a text");
        assert!(description.contains("The server far could not be started:"), "{description}");
        assert!(description.contains(said), "{said}: {description}");
        assert!(!description.contains("secret"), "{description}");
    }
}
