//! The configuration, and the commands that look after it.

use crate::raw::{Client, PROGRAM};
use crate::{configure, installed, wrong};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .arg("mcp")
        .args(arguments)
        .current_dir(dir)
        .env("XDG_CONFIG_HOME", dir.join("user"))
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn servers_are_added_listed_and_checked() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let none = run(dir.path(), &["list"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(said(&none).contains("add a server with `cellblock mcp add`"), "{}", said(&none));

    let script = wrong("works", &[]);
    let script = script["args"][0].as_str().expect("a path");
    let added = run(dir.path(), &["add", "--env", "A=b c", "good", "python3", script, "works"]);
    assert!(added.status.success(), "{}", said(&added));
    let added =
        run(dir.path(), &["add", "--user", "web", "https://example.com/mcp", "--header", "X: y"]);
    assert_eq!(added.status.code(), Some(2), "options come before the name: {}", said(&added));
    let added =
        run(dir.path(), &["add", "--user", "--header", "X: y", "web", "https://example.com/mcp"]);
    assert!(added.status.success(), "{}", said(&added));
    let taken = run(dir.path(), &["add", "good", "other"]);
    assert_eq!(taken.status.code(), Some(2));

    let listed = run(dir.path(), &["list"]);
    assert!(said(&listed).contains("good  python3 "), "{}", said(&listed));
    let checked = run(dir.path(), &["check"]);
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(said(&checked).contains("good: 5 tools, protocol 20"), "{}", said(&checked));
    assert!(said(&checked).contains("good__erase  needs approval"), "{}", said(&checked));
    let user = dir.path().join("user/cellblock/mcp.json");
    let user = run(dir.path(), &["list", "--config", &user.display().to_string()]);
    assert!(said(&user).contains("web  https://example.com/mcp"), "{}", said(&user));
}

#[test]
fn a_broken_configuration_says_where() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("broken.json");
    std::fs::write(&path, "{\n  \"mcpServers\": {\n    \"a\": { \"command\": 5 }\n  }\n}")
        .expect("a file");
    let path = path.display().to_string();
    let served = run(dir.path(), &["--config", &path]);
    assert_eq!(served.status.code(), Some(2));
    let expected = format!("{path}:3:23: mcpServers.a.command: invalid type: integer `5`");
    assert!(said(&served).contains(&expected), "{}", said(&served));
}

#[test]
fn many_tools_are_searched_for() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    configure(dir.path(), &json!({ "mcpServers": { "good": wrong("works", &[]) } }));
    let mut client = Client::start(dir.path(), &["--disclosure", "search"], &json!({}));
    let listed = client.request("tools/list", json!({}));
    let names: Vec<_> = listed["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| tool["name"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(names, ["exec", "wait", "search_tools", "describe_tools"]);
    let exec = listed["tools"][0]["description"].as_str().expect("a text");
    assert!(exec.contains("`tools.good__*`") || exec.contains("good__call"), "{exec}");
    assert!(!exec.contains("declare const tools"), "{exec}");

    let found = client.call("search_tools", json!({ "query": "erase things", "detail": "names" }));
    let found = &found["structuredContent"]["tools"];
    assert_eq!(found, &json!([{ "name": "good__erase" }]));
    for name in ["good__structured", "good.structured", "tools.good.structured"] {
        let described = client.call("describe_tools", json!({ "names": [name] }));
        let text = described["content"][0]["text"].as_str().expect("a text");
        assert!(text.contains("Promise<{ n?: number; }>"), "{text}");
    }
    let unknown = client.call("describe_tools", json!({ "names": ["good__structure"] }));
    assert_eq!(unknown["isError"], true);
    let text = unknown["content"][0]["text"].as_str().expect("a text");
    assert!(text.contains("Similar are: good__structured"), "{text}");
    assert_eq!(client.printed("text(tools.search('erase')[0].name)"), "good__erase");
    for (code, said) in [
        (
            "await tools.nope.call({})",
            "There is no server or tool `tools.nope`. The servers are: good.",
        ),
        ("await tools.nope({})", "There is no server or tool `tools.nope`. The servers are: good."),
        ("await tools.good.cal({})", "Did you mean `tools.good__call`"),
    ] {
        let failed = client.exec(code);
        let text = crate::raw::texts(&failed);
        assert!(text.contains(said), "{text}");
    }
}
