//! Servers behind over HTTP that attack: each answer is that of one call, in bounded time and
//! memory.

use crate::raw::Client;
use crate::{configure, installed, wrong};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server, ended with the test.
struct Attacker(Child);

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server and its URL.
fn attacker() -> (Attacker, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/hostile_http.py");
    let mut child = Command::new("python3")
        .arg(script)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut url = String::new();
    let output = child.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut url).expect("a line");
    (Attacker(child), url.trim().to_owned())
}

#[test]
fn an_answer_over_http_is_that_of_one_call() {
    if !installed::has_python() {
        return;
    }
    let (_attacker, url) = attacker();
    let dir = tempfile::tempdir().expect("a folder");
    let bad = json!({ "url": url, "cellblock": { "callTimeout": "2s" } });
    configure(dir.path(), &json!({ "mcpServers": { "bad": bad, "good": wrong("works", &[]) } }));
    let mut client = Client::start(dir.path(), &[], &json!({}));
    for (kind, said) in [
        ("huge", "bytes"),
        ("huge-event", "bytes"),
        ("endless-line", "bytes"),
        ("endless-events", "did not answer within 2s"),
        ("silent", "did not answer within 2s"),
        ("half", "bad.plain"),
        ("garbage", "bad.plain"),
        ("halves", "\u{fffd}"),
        ("halves-event", "\u{fffd}"),
        ("html", "text/html"),
        ("failed", "500"),
        ("unauthorized", "bad.plain"),
        ("redirect", "307"),
        ("accepted", "bad.plain"),
        ("other-id", "bad.plain"),
        ("no-event", "bad.plain"),
        ("number", "bad.plain"),
    ] {
        let printed = client.printed(&format!(
            "let said;
             try {{ said = JSON.stringify(await tools.bad.plain({{ kind: '{kind}' }})) }}
             catch (error) {{ said = error.message }}
             text(said.slice(0, 2_000));
             text((await tools.good.call({{}})).content[0].text)"
        ));
        println!("{kind}: {printed}");
        assert!(printed.contains(said), "{kind}: {printed}");
        assert!(printed.ends_with("\nworks"), "{kind}: {printed}");
        let again = client.printed("text((await tools.bad.plain({})).content[0].text)");
        assert_eq!(again, "plain", "{kind}");
    }
    let peak = client.peak_mib();
    assert!(peak < 400, "{peak} MiB for answers of 100 MB");
}
