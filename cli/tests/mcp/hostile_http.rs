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
    let hasty = json!({ "url": url, "cellblock": { "callTimeout": "1s" } });
    let servers = json!({ "bad": { "url": url }, "hasty": hasty, "good": wrong("works", &[]) });
    configure(dir.path(), &json!({ "mcpServers": servers }));
    let mut client = Client::start(dir.path(), &[], &json!({}));
    let mut wrong = Vec::new();
    for (server, kind, said) in [
        ("bad", "huge", "the maximum size of 16777216 bytes"),
        ("bad", "huge-event", "its answer cannot be had"),
        ("bad", "endless-line", "its answer cannot be had"),
        ("hasty", "endless-events", "did not answer within 1s"),
        ("hasty", "silent", "did not answer within 1s"),
        ("bad", "half", "its answer cannot be had"),
        ("bad", "garbage", "its answer cannot be had"),
        ("bad", "halves", "its answer cannot be had"),
        ("bad", "halves-event", "its answer cannot be had"),
        ("bad", "html", "text/html"),
        ("bad", "failed", "500"),
        ("bad", "unauthorized", "its answer cannot be had"),
        ("bad", "redirect", "307"),
        ("hasty", "accepted", "did not answer within 1s"),
        ("hasty", "other-id", "did not answer within 1s"),
        ("bad", "no-event", "its answer cannot be had"),
        ("bad", "number", "out of range"),
    ] {
        // Whoever is hasty may have to ask more than once on a machine that is busy.
        let printed = client.printed(&format!(
            "let said;
             try {{ said = JSON.stringify(await tools.{server}.plain({{ kind: '{kind}' }})) }}
             catch (error) {{ said = error.message }}
             text(said.slice(0, 2_000));
             text((await tools.good.call({{}})).content[0].text);
             for (let tries = 0; ; tries++) {{
                 try {{ text((await tools.{server}.plain({{}})).content[0].text); break }}
                 catch (error) {{ if (tries >= 20) throw error }}
             }}"
        ));
        assert!(printed.ends_with("\nworks\nplain"), "{kind}: {printed}");
        if !printed.contains(said) {
            wrong.push(format!("{kind}: {printed}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let peak = client.peak_mib();
    assert!(peak < 400, "{peak} MiB for answers of 100 MB");
}
