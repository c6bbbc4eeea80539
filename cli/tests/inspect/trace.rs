//! `cellblock run --trace`.

use crate::browser::Browser;
use crate::legible::assert_legible;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = r#"// Three calls at once, then one that fails.
const all = await Promise.all(["a", "b", "c"].map((word) => tools.say({ word })));
text(all.map((word) => word.trim()).join(" "));

async function careful() {
  try {
    await tools.fail({ why: "a test" });
  } catch (error) {
    text(`it failed: ${error.split("\n")[0]}`);
  }
}
await careful();
notify("almost done");
await new Promise((done) => setTimeout(done, 30));
store("all", all);
null.member;
"#;

/// Runs a program with two tools in a folder.
fn run(dir: &Path, program: &str, arguments: &[&str]) -> Output {
    std::fs::write(dir.join("words.js"), program).expect("a file");
    let tool = |name: &str, command: &[&str]| json!({ "name": name, "description": "", "input_schema": {}, "command": command });
    let tools = json!({ "tools": [
        tool("say", &["echo", "{word}"]),
        tool("fail", &["sh", "-c", "echo no such thing >&2; exit 3"]),
    ] });
    std::fs::write(dir.join("tools.json"), tools.to_string()).expect("a file");
    Command::new(env!("CARGO_BIN_EXE_cellblock"))
        .args(["run", "words.js", "--tools", "tools.json"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("it runs")
}

#[test]
fn a_trace_shows_what_a_program_did() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = run(dir.path(), PROGRAM, &["--trace", "trace.html"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let plain = run(dir.path(), PROGRAM, &[]);
    assert_eq!(output.stdout, plain.stdout, "a trace changes nothing");
    assert_eq!(output.stderr, plain.stderr);
    let Some(browser) = Browser::start() else { return };
    let url = format!("file://{}", dir.path().join("trace.html").display());
    let mut page = browser.open(&url, 1280);
    let text = page.text();
    for expected in [
        "Failed",
        "words.js",
        "It made 4 calls of 2 tools, of which 1 failed.",
        "TypeError: Cannot read properties of null (reading 'member')",
        "a b c",
        "it failed: ",
        "almost done",
        "{\"word\":\"b\"}",
        "Fuel",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // The lines at which it waited, and the one that threw.
    let waited = "[...document.querySelectorAll('.line')].filter((line) => \
        line.querySelector('.spent').textContent).map((line) => \
        Number(line.querySelector('.number').textContent))";
    assert_eq!(page.evaluate(waited), json!([2, 12, 14]));
    let threw = "document.querySelector('.line.error .number').textContent";
    assert_eq!(page.evaluate(threw), "16");
    // A call opens, and shows what went in and what came out.
    page.click("document.querySelector('details.failed summary')");
    page.until("document.querySelector('details.failed').open");
    page.until(
        "document.querySelector('details.failed .body').innerText.includes('no such thing')",
    );
    let body = page.evaluate("document.querySelector('details.failed .body').innerText");
    assert!(body.as_str().is_some_and(|body| body.contains("waited at line 12")), "{body}");
    assert_legible(&mut page, "trace");
    let troubles = page.events(&["Runtime.exceptionThrown", "Log.entryAdded"]);
    assert!(troubles.is_empty(), "{troubles:?}");
}

#[test]
fn every_end_is_traced() {
    let dir = tempfile::tempdir().expect("a folder");
    let trace = |program: &str, arguments: &[&str]| {
        let arguments = [&["--trace", "t.html"], arguments].concat();
        let output = run(dir.path(), program, &arguments);
        let page = std::fs::read_to_string(dir.path().join("t.html")).expect("a trace");
        let (_, data) = page.split_once("id=\"recording\">").expect("a recording");
        let (data, _) = data.split_once("</script>").expect("its end");
        let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
        (output.status.code(), data)
    };
    let (code, data) = trace("text(1); 41 + 1", &["--result"]);
    assert_eq!((code, &data["end"]["how"]), (Some(0), &json!("completed")));
    assert_eq!(data["end"]["value"]["text"], "42");
    let (code, data) = trace("while (true) {}", &["--fuel", "100000000"]);
    assert_eq!((code, &data["end"]["how"]), (Some(3), &json!("limit")));
    assert_eq!(data["end"]["limit"], "fuel");
    assert_eq!(data["limits"]["fuel"], 100_000_000);
    let (code, data) = trace("\nawait new Promise(() => {})", &[]);
    assert_eq!((code, &data["end"]["how"]), (Some(1), &json!("failed")));
    assert_eq!(data["end"]["place"]["line"], 2);
    let error = data["end"]["error"]["text"].as_str().expect("a text");
    assert!(error.starts_with("Unsettled top-level await"), "{error}");
    let (code, data) =
        trace("let x: number = await tools.say({ word: 'w' })", &["--language", "ts"]);
    assert_eq!((code, &data["end"]["how"]), (Some(0), &json!("completed")));
    // A machine that is slow to read TypeScript has shown the first output before.
    let entries = data["entries"].as_array().expect("a list");
    let wait = entries.iter().find(|entry| entry["type"] == "wait");
    assert_eq!(wait.expect("a wait")["place"], json!({ "line": 1, "column": 17 }), "{data}");

    // A file that cannot be written is found out before anything runs.
    let output = run(dir.path(), "text('ran')", &["--trace", "no/such/folder/t.html"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write no/such/folder/t.html"));
}
