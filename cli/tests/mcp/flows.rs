//! Ways round the flow rule: each ends at a question.

use crate::over_http::Served;
use crate::raw::{Client, texts};
use crate::{configure, installed, wrong};
use serde_json::{Value, json};

/// Whether a result says that a sink was refused for what the program has read.
fn is_refused(result: &Value) -> bool {
    texts(result).contains("has read text of an untrusted source")
}

/// A folder with a server whose tool `read` is untrusted and whose tool `call` is a sink. All
/// calls are allowed otherwise.
fn folder() -> Option<tempfile::TempDir> {
    if !installed::has_python() {
        return None;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut server = wrong("works", &[]);
    server["cellblock"] = json!({ "untrusted": ["read", "fail"], "sink": ["call"] });
    let config = json!({ "mcpServers": { "s": server },
        "cellblock": { "policy": [{ "action": "allow" }] } });
    configure(dir.path(), &config);
    Some(dir)
}

const SINK: &str = "await tools.s.call({}); text('sunk')";

#[test]
fn in_one_program() {
    let Some(dir) = folder() else { return };
    let mut client = Client::start(dir.path(), &[], &json!({}));
    for (code, refused) in [
        ("await tools.s.read({});", true),
        // By its other name, by a saved function, and out of a list.
        ("await tools.s__read({});", true),
        ("const [f] = [tools.s.read]; await f({});", true),
        ("await Promise.all(['structured', 'read'].map((name) => tools.s[name]({})));", true),
        // An error is a text of the server's, too.
        ("await tools.s.fail({}).catch(() => {});", true),
        // What was sent before anything was read carries nothing of it.
        ("const sent = tools.s.call({}); await tools.s.read({}); await sent; text('sunk');", true),
        ("await tools.s.structured({});", false),
    ] {
        let result = client.exec(&format!("{code} {SINK}"));
        assert_eq!(is_refused(&result), refused, "{code}: {result}");
    }
    // The first call of the sixth program was made.
    let both = client.exec(
        "const [sent] = await Promise.all([tools.s.call({}), tools.s.read({})]); text(sent.content[0].text)",
    );
    assert_eq!(both["structuredContent"]["output"], "works", "{both}");
}

#[test]
fn through_stored_values() {
    for (reader, refused) in [
        ("store('said', 1)", true),
        ("", false),
        ("store('said', 1); throw new Error('a failed program keeps what it stored')", true),
        ("store('said', 1); exit()", true),
    ] {
        let Some(dir) = folder() else { return };
        let mut client = Client::start(dir.path(), &["--state", "kept"], &json!({}));
        let read = client.exec(&format!("await tools.s.read({{}}); {reader}"));
        let result = client.exec(SINK);
        assert_eq!(is_refused(&result), refused, "{reader}: {result}");
        // Over restarts, too.
        let session = read["structuredContent"]["session"].clone();
        assert!(client.close().success());
        let mut client = Client::start(dir.path(), &["--state", "kept"], &json!({}));
        assert!(!is_refused(&client.exec(SINK)), "another session");
        if refused {
            let result = client.call("exec", json!({ "code": SINK, "session": session }));
            assert!(is_refused(&result), "{reader}: {result}");
        }
    }
}

#[test]
fn through_programs_that_run_at_the_same_time() {
    let Some(dir) = folder() else { return };
    let config = std::fs::read_to_string(dir.path().join(".mcp.json")).expect("a file");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    let files = ["one", "two"].map(|name| dir.path().join(name));
    for file in &files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        config["mcpServers"][name] = wrong("until", &[&file.display().to_string()]);
    }
    configure(dir.path(), &config);
    let mut client = Client::start(dir.path(), &[], &json!({}));
    let begin = |client: &mut Client, code: &str| {
        let running = client.call("exec", json!({ "code": code, "yield_time_ms": 50 }));
        running["structuredContent"]["cell_id"].as_str().expect("it runs").to_owned()
    };
    let read = "await tools.s.read({}); store('said', 1); await tools.one.call({})";
    begin(&mut client, read);
    let sink = begin(&mut client, &format!("await tools.two.call({{}}); {SINK}"));
    // The reader ends, and nobody fetches its end.
    std::fs::write(&files[0], "").expect("a file");
    let stored = (0..1_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        client.printed("text(load('said') ?? 'nothing')") == "1"
    });
    assert!(stored, "the reader ends");
    let result = client.exec(SINK);
    assert!(is_refused(&result), "{result}");
    std::fs::write(&files[1], "").expect("a file");
    let result = client.call("wait", json!({ "cell_id": sink }));
    assert!(is_refused(&result), "{result}");
}

#[test]
fn through_another_session() {
    let Some(dir) = folder() else { return };
    let served = Served::start_in(dir, &[]);
    let code = "await tools.s.read({}); store('said', 1)";
    let read = served.exec(&[], json!({ "code": code }));
    let session = &read["structuredContent"]["session"];
    let same = served.exec(&[], json!({ "code": SINK, "session": session }));
    // This client can be asked.
    assert!(same.to_string().contains("has read text of an untrusted source"), "{same}");
    let other =
        served.exec(&[], json!({ "code": format!("text(load('said') ?? 'nothing'); {SINK}") }));
    assert_eq!(other["structuredContent"]["output"], "nothing\nsunk", "{other}");
}
