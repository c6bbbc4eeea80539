//! `cellblock tools`: what a model sees of real sets of tools, as snapshots, and what a
//! TypeScript compiler says of it.
//!
//! `INSTA_UPDATE=always cargo test --release --test tools` takes the snapshots again.

#![allow(clippy::unwrap_used, reason = "panicking is how a test fails")]

mod support;

use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::typescript;
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    cellblock_tests::repository(&format!("tests/fixtures/tools/{name}.json"))
}

fn run(tools: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cellblock"))
        .args(["tools", "--tools"])
        .arg(tools)
        .args(arguments)
        .output()
        .unwrap()
}

fn print(tools: &Path, arguments: &[&str]) -> String {
    let output = run(tools, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// 300 tools of ten services, as an organisation may have.
fn many_tools(folder: &TempDir) -> PathBuf {
    let services = [
        ("tracker", ["issue", "comment", "label", "milestone", "sprint"]),
        ("forge", ["repository", "branch", "pull_request", "release", "webhook"]),
        ("chat", ["channel", "message", "thread", "reaction", "member"]),
        ("docs", ["page", "space", "attachment", "template", "revision"]),
        ("crm", ["contact", "company", "deal", "activity", "pipeline"]),
        ("billing", ["invoice", "payment", "refund", "plan", "subscription"]),
        ("cloud", ["instance", "volume", "network", "bucket", "snapshot"]),
        ("monitor", ["alert", "dashboard", "metric", "incident", "silence"]),
        ("calendar", ["event", "room", "invitation", "schedule", "reminder"]),
        ("mail", ["mail", "folder", "filter", "draft", "signature"]),
    ];
    let verbs = ["create", "get", "list", "update", "delete", "search"];
    let tool = |resource: &str, verb: &str| {
        json!({
            "name": format!("{verb}_{resource}"),
            "description": format!("Does what `{verb}` says to a {resource}, or to several."),
            "inputSchema": {
                "type": "object",
                "properties": {
                    "id": { "type": "string", "description": format!("Which {resource}.") },
                    "fields": { "type": "object" },
                    "limit": { "type": "integer" },
                },
            },
        })
    };
    let server = |(name, resources): &(&str, [&str; 5])| {
        let tools: Vec<_> = resources
            .iter()
            .flat_map(|resource| verbs.iter().map(move |verb| tool(resource, verb)))
            .collect();
        json!({ "name": name, "description": format!("The {name} of the company."), "tools": tools })
    };
    let servers: Vec<_> = services.iter().map(server).collect();
    let path = folder.path().join("many.json");
    std::fs::write(&path, json!({ "servers": servers }).to_string()).unwrap();
    path
}

#[test]
fn descriptions_read_well() {
    insta::assert_snapshot!("shell-and-files", print(&fixture("shell-and-files"), &[]));
    insta::assert_snapshot!("mcp-servers", print(&fixture("mcp-servers"), &[]));
}

/// The benchmarks' `tokens` counts the tokens of this snapshot.
#[test]
fn three_hundred_deferred_tools_are_named() {
    let folder = TempDir::new().unwrap();
    let many = many_tools(&folder);
    assert_eq!(print(&many, &[]).matches("\n### ").count(), 300);
    let deferred = print(&many, &["--defer-over", "2000"]);
    for name in ["create_issue", "search_signature"] {
        assert!(deferred.contains(name), "{name} is not named");
    }
    insta::assert_snapshot!("deferred", deferred);
}

#[test]
fn declarations_are_a_file() {
    let file = print(&fixture("shell-and-files"), &["--format", "ts"]);
    insta::assert_snapshot!("declaration-file", file);
}

/// The shapes of the interfaces; the descriptions are in the other snapshots.
#[test]
fn each_interface_gets_its_shape() {
    let shape = |format: &str| {
        let text = print(&fixture("shell-and-files"), &["--format", format]);
        let mut tools: Value = serde_json::from_str(&text).unwrap();
        let list = if format == "mcp" { &mut tools["tools"] } else { &mut tools };
        for tool in list.as_array_mut().unwrap() {
            assert!(tool["description"].as_str().unwrap().len() > 300);
            tool["description"] = "...".into();
        }
        format!("{format}\n{}\n\n", serde_json::to_string_pretty(&tools).unwrap())
    };
    let shapes = ["openai", "openai-function", "anthropic", "mcp"].map(shape);
    insta::assert_snapshot!("interfaces", shapes.concat());
}

#[test]
fn tools_of_one_name_are_reported() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tools.json");
    let tools = json!({ "tools": [
        { "name": "a-b", "description": "first" },
        { "name": "a.b", "description": "second" },
        { "name": "exec", "description": "not nested" },
    ] });
    std::fs::write(&path, tools.to_string()).unwrap();
    let output = run(&path, &["--format", "json"]);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["tools"].as_array().unwrap().len(), 1);
    assert_eq!(printed["skipped"][0]["name"], "a.b");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "cellblock: `a.b` is left out: programs call `a-b` by the same name\n\
         cellblock: `exec` is left out: no program calls `exec` or `wait`\n"
    );
}

#[test]
fn a_bad_file_is_bad_usage_and_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tools.json");
    for (text, why) in [
        (r#"{"tools": [{"description": "no name"}]}"#, "at tools[0]: missing field `name`"),
        ("{", "EOF while parsing"),
    ] {
        std::fs::write(&path, text).unwrap();
        let output = run(&path, &[]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(error.contains(why) && error.contains("tools.json"), "{error}");
    }
}

#[test]
fn the_tools_may_come_from_standard_input() {
    let print = |text: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cellblock"))
            .args(["tools", "--tools", "-", "--format", "ts"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let printed = print(r#"{"tools": [{"name": "show", "description": ""}]}"#);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("  show(args: unknown)"));
    let wrong = print("{");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("standard input, at ?: EOF"));
}

/// The `ts` blocks of a description, each as a file of its own beside the shared types.
fn blocks(description: &str) -> Vec<String> {
    let mut blocks: Vec<_> = description
        .split("```ts\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0.to_owned())
        .collect();
    let is_shared = blocks.first().is_some_and(|block| block.starts_with("type Role"));
    let shared = if is_shared { blocks.remove(0) } else { String::new() };
    blocks.into_iter().map(|block| format!("{shared}{block}export {{}};\n")).collect()
}

/// Schemas that are hard to get right for a compiler.
fn awkward(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("awkward.json");
    let tool = |name: &str, schema: Value| {
        json!({ "name": name, "description": "*/ }; \u{2028} //",
        "input_schema": schema, "output_schema": schema })
    };
    let tools = [
        tool("delete", json!({ "const": { "a": [1, -2.5, null, true, "\n\"\u{2028}"] } })),
        tool("constructor", json!({ "enum": [1e300, 12_345_678_901_234_567_890_u64, -1, {}] })),
        tool("__proto__", json!({ "type": ["array", "object", "null", "file"] })),
        tool("0 ä\u{1f980}", json!({ "allOf": [{ "enum": [1, 2] }, { "type": "number" }, true] })),
        tool(
            "mixed",
            json!({
                "properties": { "a-b": { "type": "string" }, "constructor": false, "": true, "é": {} },
                "additionalProperties": { "type": "number" },
            }),
        ),
        tool(
            "list",
            json!({ "properties": { "next": {
            "$ref": "#", "type": "object", "description": "after\u{2028}};\r this",
        } } }),
        ),
        tool("scripts__0 report", json!({ "properties": { "day": { "type": "integer" } } })),
        tool("tuple", json!({ "prefixItems": [{ "$ref": "#/prefixItems/0" }, false] })),
    ];
    std::fs::write(&path, json!({ "tools": tools }).to_string()).unwrap();
    path
}

#[test]
fn a_typescript_compiler_accepts_every_declaration() {
    let folder = TempDir::new().unwrap();
    let Some(tsc) = typescript(folder.path()) else { return };
    let compile = |files: &[PathBuf]| {
        let mut tsc = Command::new(&tsc);
        tsc.args(["--strict", "--noEmit", "--target", "es2022", "--module", "es2022"]);
        let output = tsc.args(files).current_dir(folder.path()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };

    // The compiler is one that refuses.
    let program = "text(tools.shell_read({ session: 'one' }).output);\nexport {};\n";
    let shell = write("shell.ts", &print(&fixture("shell-and-files"), &["--format", "ts"]));
    let (accepted, said) = compile(&[shell.clone(), write("wrong.ts", program)]);
    assert!(
        !accepted && said.contains("Type 'string' is not assignable to type 'number'"),
        "{said}"
    );
    let program = "const { output } = await tools.shell_read({ session: 1 });\n\
                   text(output.trim());\nimage('data:,', 'low');\nstore('a', load('b'));\n\
                   await new Promise<void>((resolve) => setTimeout(resolve, 5));\nexport {};\n";
    let (accepted, said) = compile(&[shell, write("right.ts", program)]);
    assert!(accepted, "{said}");

    let sets =
        [fixture("shell-and-files"), fixture("mcp-servers"), many_tools(&folder), awkward(&folder)];
    for set in sets {
        let name = set.file_stem().unwrap().to_str().unwrap();
        let file = write(&format!("{name}.ts"), &print(&set, &["--format", "ts"]));
        let (accepted, said) = compile(&[file]);
        assert!(accepted, "{name}: {said}");
        if name == "mcp-servers" {
            let blocks = blocks(&print(&set, &[]));
            assert!(blocks.len() > 30);
            let files: Vec<_> = blocks
                .iter()
                .enumerate()
                .map(|(at, block)| write(&format!("block-{at}.ts"), block))
                .collect();
            let (accepted, said) = compile(&files);
            assert!(accepted, "{said}");
        }
    }
}
