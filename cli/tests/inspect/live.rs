//! `cellblock mcp --inspect`.

use crate::browser::{Browser, Page};
use crate::hostile::assert_strict;
use crate::legible::assert_legible;
use crate::raw::{Client, command, texts};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

/// A server whose tool `erase` needs approval and writes into a file; `wait` is slow.
struct Served {
    client: Client,
    url: String,
    dir: tempfile::TempDir,
}

impl Served {
    /// A server and its client, whose person can be asked where `capabilities` say so.
    fn start(arguments: &[&str], token: Option<&str>, capabilities: &Value) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/misbehave.py");
        let server = |mode: &str| json!({ "command": "python3", "args": [script, mode, "erased"] });
        let servers = json!({ "s": server("works"), "slow": server("hangs") });
        Self::start_with(&servers, arguments, token, capabilities)
    }

    /// The same with these servers.
    fn start_with(
        servers: &Value,
        arguments: &[&str],
        token: Option<&str>,
        capabilities: &Value,
    ) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        if std::process::Command::new("python3").arg("--version").output().is_err() {
            println!("NOTICE: there is no python3, so the page of programs was not tested");
            return None;
        }
        let config = json!({ "mcpServers": servers });
        std::fs::write(dir.path().join(".mcp.json"), config.to_string()).expect("a file");
        let arguments = [&["--inspect", "127.0.0.1:0"], arguments].concat();
        let mut command = command(dir.path(), &arguments);
        if let Some(token) = token {
            command.env("CELLBLOCK_INSPECT_TOKEN", token);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        errors.read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("cellblock: programs are shown at ").expect(&line);
        let url = url.to_owned();
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::stderr()));
        let mut client = Client::attach(child);
        client.shake_hands(capabilities);
        Some(Self { client, url, dir })
    }

    fn erased(&self) -> String {
        erased(self.dir.path())
    }
}

fn erased(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("erased")).unwrap_or_default()
}

const ERASE: &str =
    "// Asks first.\ntext('before');\nawait tools.s.erase({ what: 'a' });\ntext('after')";

/// Clicks a button of the question that the page shows.
fn answer(page: &mut Page, kind: &str) {
    page.until("document.querySelector('.question button.approve:enabled') !== null");
    page.click(&format!("document.querySelector('.question button.{kind}')"));
}

#[test]
fn programs_are_followed_and_calls_approved_on_the_page() {
    let Some(browser) = Browser::start() else { return };
    let Some(mut served) = Served::start(&[], None, &json!({})) else { return };
    let mut page = browser.open(&served.url, 1280);
    page.until("document.body.innerText.includes('No program has run yet.')");

    // This client cannot ask a person, so the page does.
    let call = served
        .client
        .begin("tools/call", json!({ "name": "exec", "arguments": { "code": ERASE } }));
    page.until("document.querySelector('.question') !== null");
    page.until("document.querySelector('.line.waits') !== null");
    let text = page.text();
    for expected in [
        "May the program of cell 1 make this call?",
        "s.erase {\"what\":\"a\"}",
        "Needs an answer",
        "1 call needs the answer of a person first.",
        "before",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let waits = "document.querySelector('.line.waits .number').textContent";
    assert_eq!(page.evaluate(waits), "3");
    assert!(page.evaluate("document.title").as_str().is_some_and(|title| title.starts_with("(1)")));
    assert_legible(&mut page, "asking");
    assert_eq!(served.erased(), "", "nothing is called before its answer");
    answer(&mut page, "approve");
    page.until("document.querySelector('.state.completed') !== null");
    assert_eq!(served.erased(), "a\n");
    page.until("document.querySelector('.question') === null");
    let answered = served.client.response(call)["result"].take();
    let running = answered["structuredContent"]["status"] == "running";
    let ended =
        if running { served.client.call("wait", json!({ "cell_id": "1" })) } else { answered };
    assert!(texts(&ended).contains("after"), "{ended}");

    // Another is refused, and the page moves on to it.
    let call = served
        .client
        .begin("tools/call", json!({ "name": "exec", "arguments": { "code": ERASE } }));
    answer(&mut page, "refuse");
    page.until("document.querySelector('.state.failed') !== null");
    page.until("document.body.innerText.includes('the user refused s.erase; it was not called')");
    served.client.response(call);
    assert_eq!(served.erased(), "a\n");
    assert_eq!(page.evaluate("document.querySelectorAll('.list button').length"), 2);
    let threw = "document.querySelector('.line.error .number').textContent";
    assert_eq!(page.evaluate(threw), "3");

    // The first is looked at again, and saved.
    page.click("document.querySelectorAll('.list button')[1]");
    page.until("document.querySelector('h1')?.textContent === 'cell 1'");
    assert_legible(&mut page, "ended");
    let saved = page.evaluate("fetch(document.querySelector('.save').href).then((r) => r.text())");
    let path = served.dir.path().join("saved.html");
    std::fs::write(&path, saved.as_str().expect("a page")).expect("a file");
    let mut saved = browser.open(&format!("file://{}", path.display()), 1280);
    let text = saved.text();
    assert!(text.contains("cell 1") && text.contains("Completed"), "{text}");
    assert!(text.contains("Approved after"), "{text}");
    for page in [&mut page, &mut saved] {
        let troubles = page.events(&["Runtime.exceptionThrown", "Log.entryAdded"]);
        assert!(troubles.is_empty(), "{troubles:?}");
    }
}

#[test]
fn a_program_that_waits_says_for_what() {
    let Some(browser) = Browser::start() else { return };
    let Some(mut served) = Served::start(&[], None, &json!({})) else { return };
    let code = "text('one');\nconst many = [1, 2, 3].map((n) => tools.slow.call({ n }));\n\n\
                await Promise.all(many);";
    let arguments = json!({ "code": code, "yield_time_ms": 1 });
    served.client.begin("tools/call", json!({ "name": "exec", "arguments": arguments }));
    let mut page = browser.open(&served.url, 1280);
    page.until("document.querySelector('.line.waits') !== null");
    assert_eq!(page.evaluate("document.querySelector('.line.waits .number').textContent"), "4");
    let label = page.evaluate("document.querySelector('.line.waits .label').textContent");
    let label = label.as_str().expect("a text");
    assert!(label.contains("for slow__call, slow__call and 1 more"), "{label}");
    let text = page.text();
    assert!(text.contains("for 3 calls to return."), "{text}");
    assert!(text.contains("one"), "output is shown before it is fetched: {text}");
    // Time goes on on the page.
    let time = "document.querySelector('.why p').textContent";
    let before = page.evaluate(time);
    page.until(&format!("{time} !== {before}"));
    assert_legible(&mut page, "waiting");

    // A server that has gone is not forgotten quietly.
    drop(served);
    page.until("!document.querySelector('.trouble').hidden");
    assert!(page.text().contains("Not up to date"));
}

#[test]
fn the_first_answer_counts_wherever_it_is_given() {
    let Some(browser) = Browser::start() else { return };
    let token = "a-token_of-the-user";
    let started = Served::start(&[], Some(token), &json!({ "elicitation": {} }));
    let Some(mut served) = started else { return };
    assert!(served.url.ends_with(&format!("/?token={token}")), "{}", served.url);
    // The client's person does not answer before the page does.
    let url = served.url.clone();
    served.client.answer = Box::new(move |method, _| {
        assert_eq!(method, "elicitation/create");
        let mut page = browser.open(&url, 360);
        answer(&mut page, "approve");
        page.until("document.querySelector('.state.completed') !== null");
        json!({ "action": "decline" })
    });
    let ended = served.client.exec(ERASE);
    assert!(texts(&ended).contains("after"), "{ended}");
    assert_eq!(served.erased(), "a\n");
}

/// Texts of a server and of a program that would be markup.
#[test]
fn names_and_texts_of_servers_stay_texts() {
    let Some(browser) = Browser::start() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/hostile.py");
    let servers = json!({ "<b>s</b>": { "command": "python3", "args": [script, "markup"] } });
    let Some(mut served) = Served::start_with(&servers, &[], None, &json!({})) else { return };
    let mut page = browser.open(&served.url, 1280);
    let code = "// </script><img src=x onerror=window.pwned=1>\n\
                const { name } = ALL_TOOLS.find(({ name }) => !name.endsWith('plain'));\n\
                const said = await tools[name]({ '<img src=x onerror=window.pwned=1>': '</script>' });\n\
                text(said); text('\\ud800'); notify(JSON.stringify(said)); throw new Error(JSON.stringify(said));";
    let call =
        served.client.begin("tools/call", json!({ "name": "exec", "arguments": { "code": code } }));
    answer(&mut page, "approve");
    page.until("document.querySelector('.state.failed') !== null");
    served.client.response(call);
    let text = page.text();
    for expected in ["</script><img src=x onerror=window.pwned=1><script>", "⟨U+2028⟩", "\u{fffd}"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let troubles = page.events(&["Runtime.exceptionThrown", "Log.entryAdded"]);
    assert!(troubles.is_empty(), "{troubles:?}");
    assert_eq!(page.evaluate("window.pwned === undefined"), true);
    assert_strict(&mut page);
}

/// A page of another origin, opened by the same browser, which knows the URL and even the token.
#[test]
fn other_pages_can_neither_look_nor_answer() {
    let Some(browser) = Browser::start() else { return };
    let Some(mut served) = Served::start(&[], None, &json!({})) else { return };
    let call = served
        .client
        .begin("tools/call", json!({ "name": "exec", "arguments": { "code": ERASE } }));
    let mut own = browser.open(&served.url, 1280);
    own.until("document.querySelector('.question') !== null");

    let (base, token) = served.url.split_once("?token=").expect("a token");
    let attack = format!(
        r#"<!doctype html><title>x</title><script>
        const body = JSON.stringify({{ cell: 1, question: 1, approved: true }});
        const attempts = [
          ["{base}changes?token={token}"],
          ["{base}changes", {{ headers: {{ Authorization: "Bearer {token}" }} }}],
          ["{base}answers", {{ method: "POST", body, headers: {{ Authorization: "Bearer {token}", "Content-Type": "application/json" }} }}],
          ["{base}answers?token={token}", {{ method: "POST", body, mode: "no-cors", credentials: "include" }}],
        ];
        const outcome = ([url, options]) => fetch(url, options).then(
          (response) => response.text().then((text) => `${{response.type}} ${{text}}`), () => "refused");
        Promise.all(attempts.map(outcome)).then((outcomes) => {{ window.outcomes = outcomes; }});
        </script><iframe src="{base}?token={token}"></iframe>
        <form method="POST" enctype="text/plain" action="{base}answers?token={token}" target="frame"><input name='{{"cell":1,"question":1,"approved":true,"x":"' value='"}}'></form>
        <iframe name="frame"></iframe><script>document.forms[0].submit();</script>"#
    );
    let mut other = browser.open(&serve_page(attack), 1280);
    other.until("window.outcomes !== undefined");
    let outcomes = other.evaluate("window.outcomes");
    assert_eq!(outcomes, json!(["refused", "refused", "refused", "refused"]));
    let framed =
        "[...document.querySelectorAll('iframe')].every((frame) => frame.contentDocument === null)";
    other.until(framed);

    assert_eq!(own.evaluate("document.querySelectorAll('.question').length"), 1, "it waits still");
    assert_eq!(served.erased(), "");
    answer(&mut own, "refuse");
    served.client.response(call);
    assert_eq!(served.erased(), "");
}

/// Serves a page at an origin of its own, and returns its URL.
fn serve_page(page: String) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            // The head of a request ends with an empty line.
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
            let length = page.len();
            let _ = write!(&stream, "{head}Content-Length: {length}\r\n\r\n{page}");
        }
    });
    format!("http://{address}/")
}

#[test]
fn a_page_that_cannot_be_shown_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join(".mcp.json"), "{ \"mcpServers\": {} }").expect("a file");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    for (address, token, expected) in [
        ("0.0.0.0:0", "a-token_of-the-user", "can be reached from other machines"),
        ("127.0.0.1:0", "short", "a token needs at least 16 characters"),
        (&taken, "a-token_of-the-user", "for --inspect: Address already in use"),
    ] {
        let output = command(dir.path(), &["--inspect", address])
            .env("CELLBLOCK_INSPECT_TOKEN", token)
            .output()
            .expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}
