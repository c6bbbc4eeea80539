//! Runs test programs in the sandbox, in native QuickJS and in Node, and prints
//! what passes where.
//!
//! The programs are the engine's own, which ship inside the rquickjs-sys package,
//! and ours over the language, in tests/conformance. A program that needs what no
//! cell has (files, workers, other modules) is skipped, with the reason.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use anyhow::{Context, Result, bail};
use cellblock::{CodeModeService, ContentItem, ExecuteRequest, RuntimeResponse, WasmBackend};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// What no cell has; a program that names it is skipped.
const ABSENT: [(&str, &str); 12] = [
    ("qjs:std", "needs the module qjs:std"),
    ("qjs:os", "needs the module qjs:os"),
    ("qjs:bjson", "needs the module qjs:bjson"),
    ("bjson", "needs bjson"),
    ("Worker", "needs workers"),
    ("Atomics", "needs Atomics, which the contract removes"),
    ("SharedArrayBuffer", "needs SharedArrayBuffer, which the contract removes"),
    ("DOMException", "needs DOMException, which the contract does not list"),
    ("queueMicrotask", "needs queueMicrotask, which the contract removes"),
    ("performance.", "needs performance, which the contract removes"),
    ("import(", "imports other modules"),
    ("btoa", "needs btoa, which the contract removes"),
];

/// A test program: its name, and its text as a module that calls `report(case, error)`.
struct Program {
    name: String,
    source: String,
}

/// Cases of a program by name: `None` passed, else the error.
type Cases = BTreeMap<String, Option<String>>;

/// A program to read, or the reason to skip it.
type Read = std::result::Result<Program, (String, String)>;

/// Runs a program in one engine.
type Engine<'a> = dyn Fn(&str) -> Result<Cases> + 'a;

fn main() -> Result<()> {
    let service = tokio::runtime::Runtime::new()?;
    let sandbox = |source: &str| service.block_on(in_sandbox(source));
    let engines: [(&str, &Engine<'_>); 3] =
        [("cellblock", &sandbox), ("native QuickJS", &in_native), ("Node", &in_node)];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let suites = [
        ("the engine's own tests", engine_tests(&root)?),
        ("the language", read_folder(&root.join("tests/conformance"), "")?),
    ];
    for (suite, programs) in &suites {
        report(suite, programs, &engines)?;
    }
    Ok(())
}

fn report(suite: &str, programs: &[Read], engines: &[(&str, &Engine<'_>)]) -> Result<()> {
    let mut passed = vec![0; engines.len()];
    let mut total = 0;
    let mut failures = Vec::new();
    for program in programs.iter().flatten() {
        let all: Vec<Cases> =
            engines.iter().map(|(_, run)| run(&program.source)).collect::<Result<_>>()?;
        let cases: Vec<_> = all.iter().flat_map(BTreeMap::keys).collect();
        let cases: std::collections::BTreeSet<_> = cases.into_iter().collect();
        for case in cases {
            total += 1;
            for (at, results) in all.iter().enumerate() {
                match results.get(case) {
                    Some(None) => passed[at] += 1,
                    missing_or_error => {
                        let error = missing_or_error.cloned().flatten();
                        let error = error.unwrap_or_else(|| "did not get there".to_owned());
                        let line = error.lines().next().unwrap_or_default().to_owned();
                        failures.push((engines[at].0, program.name.clone(), case.clone(), line));
                    }
                }
            }
        }
    }
    println!("\n## {suite}\n\n| engine | passed | of |\n|---|---|---|");
    for ((engine, _), passed) in engines.iter().zip(&passed) {
        println!("| {engine} | {passed} | {total} |");
    }
    println!("\nFailures:\n");
    for (engine, program, case, error) in &failures {
        println!("- {engine}: {program} {case}: {error}");
    }
    let skipped: Vec<_> = programs.iter().filter_map(|read| read.as_ref().err()).collect();
    if !skipped.is_empty() {
        println!("\nSkipped:\n");
        for (name, reason) in skipped {
            println!("- {name}: {reason}");
        }
    }
    Ok(())
}

/// The tests in the rquickjs-sys package that this program was built with.
fn engine_tests(root: &Path) -> Result<Vec<Read>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let package = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "rquickjs-sys"))
        .and_then(|package| package["manifest_path"].as_str())
        .context("rquickjs-sys is not among the packages")?;
    let folder = Path::new(package).with_file_name("quickjs").join("tests");
    let assert = std::fs::read_to_string(folder.join("assert.js"))?.replace("export ", "");
    read_folder(&folder, &assert)
}

fn read_folder(folder: &Path, assert: &str) -> Result<Vec<Read>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "js"));
    paths.sort();
    let helper = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "assert.js" || name.starts_with("fixture_") || name == "microbench.js"
    };
    paths.iter().filter(|path| !helper(path)).map(|path| read(path, assert)).collect()
}

/// Reads a program and makes a module of it.
fn read(path: &Path, assert: &str) -> Result<Read> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path)?;
    for (word, reason) in ABSENT {
        if text.contains(word) {
            return Ok(Err((name, reason.to_owned())));
        }
    }
    let is_import = |line: &&str| line.starts_with("import ");
    let foreign = |line: &str| is_import(&line) && !line.contains("./assert.js");
    if text.lines().any(foreign) || text.contains("\nexport ") {
        return Ok(Err((name, "imports or exports other modules".to_owned())));
    }
    let is_module = text.lines().any(|line| is_import(&line)) || text.contains("await");
    let body: Vec<_> = text.lines().filter(|line| !is_import(line)).map(as_case).collect();
    let body = body.join("\n");
    let program = if is_module {
        body
    } else {
        // A script: sloppy, as the engine's own runner would run it.
        let globals = ["assert", "assertThrows", "assertArrayEquals", "run"];
        let globals: Vec<_> = globals
            .iter()
            .map(|name| format!("try {{ globalThis.{name} = {name} }} catch {{}}\n"))
            .collect();
        let globals = globals.concat();
        format!("{globals}(0, eval)({})", serde_json::to_string(&body)?)
    };
    let source = format!(
        "{assert}
const run = (name, test) => {{
    const failed = (e) => report(name, String(e?.stack ?? e) || 'failed');
    try {{
        const result = test();
        if (typeof result?.then === 'function') return result.then(() => report(name), failed);
        report(name);
    }} catch (e) {{ failed(e) }}
}};
try {{
{program}
report('(file)');
}} catch (e) {{ report('(file)', String(e)) }}
"
    );
    Ok(Ok(Program { name, source }))
}

/// `test_x();` on a line of its own becomes a case of its own.
fn as_case(line: &str) -> String {
    let call = line.strip_suffix("();").filter(|name| name.starts_with("test_"));
    match call.filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
        Some(name) => format!("run('{name}', {name});"),
        None => line.to_owned(),
    }
}

fn parse(lines: &str) -> Result<Cases> {
    let parse =
        |line: &str| -> Result<(String, Option<String>)> { Ok(serde_json::from_str(line)?) };
    lines.lines().filter(|line| line.starts_with('[')).map(parse).collect()
}

/// Prints a case as a line of JSON with whatever the engine prints with.
fn with_report(print: &str, source: &str) -> String {
    format!(
        "const report = (name, error = null) => {print}(JSON.stringify([name, error]));\n{source}"
    )
}

async fn in_sandbox(source: &str) -> Result<Cases> {
    let service = CodeModeService::new(Arc::new(WasmBackend::new()?));
    let request = ExecuteRequest {
        yield_time_ms: Some(120_000),
        ..ExecuteRequest::new(with_report("text", source))
    };
    let response = service.execute(request).await?;
    let error = match &response {
        RuntimeResponse::Result { error_text, .. } => error_text.clone(),
        _ => Some("did not end".to_owned()),
    };
    let text = |item: &ContentItem| match item {
        ContentItem::InputText { text } => text.clone() + "\n",
        _ => String::new(),
    };
    let mut cases = parse(&response.content_items().iter().map(text).collect::<String>())?;
    if let Some(error) = error {
        cases.insert("(file)".to_owned(), Some(error));
    }
    Ok(cases)
}

fn in_native(source: &str) -> Result<Cases> {
    use rquickjs::{Context, Function, Module, Runtime};
    use std::cell::RefCell;
    use std::rc::Rc;
    let runtime = Runtime::new()?;
    runtime.set_max_stack_size(1 << 20);
    let context = Context::full(&runtime)?;
    let lines = Rc::new(RefCell::new(String::new()));
    let failure = context.with(|ctx| -> Result<Option<String>> {
        let printed = Rc::clone(&lines);
        let print = Function::new(ctx.clone(), move |text: String| {
            let mut lines = printed.borrow_mut();
            lines.push_str(&text);
            lines.push('\n');
        })?;
        ctx.globals().set("text", print)?;
        let source = with_report("text", source);
        let Ok(promise) = Module::evaluate(ctx.clone(), "main", source) else {
            return Ok(Some(format!("{:?}", ctx.catch())));
        };
        Ok(promise.finish::<()>().err().map(|error| format!("{error}: {:?}", ctx.catch())))
    })?;
    let mut cases = parse(&lines.borrow())?;
    if let Some(failure) = failure {
        cases.insert("(file)".to_owned(), Some(failure));
    }
    Ok(cases)
}

fn in_node(source: &str) -> Result<Cases> {
    let mut file = tempfile::Builder::new().suffix(".mjs").tempfile()?;
    std::io::Write::write_all(&mut file, with_report("console.log", source).as_bytes())?;
    let output = Command::new("node").arg(file.path()).output();
    let Ok(output) = output else { bail!("node is not installed; this comparison needs it") };
    let mut cases = parse(&String::from_utf8_lossy(&output.stdout))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        let line = error.lines().find(|line| line.contains("Error")).unwrap_or("failed");
        cases.insert("(file)".to_owned(), Some(line.to_owned()));
    }
    Ok(cases)
}
