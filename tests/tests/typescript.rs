//! Programs in TypeScript: what they print, and where they say that they failed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock::{
    CellLimits, CellReport, CodeModeService, ContentItem, ExecuteRequest, Language, LimitKind,
    RuntimeResponse, SessionLimits, ToolDefinition,
};
use cellblock_tests::backends::Backends;
use cellblock_tests::repository;
use serde::Deserialize;
use wasmtime::component::Component;

/// A program, and how it ends.
#[derive(Deserialize)]
struct Program {
    name: String,
    source: String,
    /// What it prints.
    text: Vec<String>,
    /// Its error, or the beginning of it.
    error: Option<String>,
    /// Given where only the beginning of the error is compared.
    #[serde(default)]
    error_is: Option<String>,
}

fn programs(file: &str) -> Vec<Program> {
    let path = repository(&format!("tests/typescript/{file}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn service(cell: CellLimits) -> CodeModeService {
    CodeModeService::new(Backends::Wasm.session(SessionLimits { cell, ..SessionLimits::default() }))
}

async fn run(source: &str, language: Language) -> (Vec<String>, Option<String>, CellReport) {
    run_within(source, language, CellLimits::default()).await
}

async fn run_within(
    source: &str,
    language: Language,
    cell: CellLimits,
) -> (Vec<String>, Option<String>, CellReport) {
    let request = ExecuteRequest { language, ..ExecuteRequest::new(source) };
    let response = service(cell).execute(request).await.unwrap();
    let RuntimeResponse::Result { content_items, error_text, report, .. } = response else {
        panic!("{source}: {response:?}");
    };
    let text = |item: &ContentItem| match item {
        ContentItem::InputText { text } => text.clone(),
        other => panic!("{other:?}"),
    };
    (content_items.iter().map(text).collect(), error_text, report)
}

/// Runs every program of a file in a language and compares.
async fn compare(file: &str, language: Language) {
    let mut wrong = Vec::new();
    let programs = programs(file);
    assert!(!programs.is_empty());
    for program in programs {
        let (text, error, _) = run(&program.source, language).await;
        let is_same = match (&program.error, &error) {
            (None, None) => true,
            (Some(expected), Some(error)) if program.error_is.is_some() => {
                error.starts_with(expected.as_str())
            }
            (Some(expected), Some(error)) => {
                error == expected || error.starts_with(&format!("{expected}\n"))
            }
            _ => false,
        };
        if text != program.text || !is_same {
            wrong.push(format!("{}: {text:?} {error:?}\n{}", program.name, program.source));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn programs_of_the_contract_run() {
    compare("programs", Language::Auto).await;
    compare("programs", Language::Ts).await;
}

#[tokio::test]
async fn every_kind_of_typescript_runs_and_fails_at_its_own_lines_and_columns() {
    compare("kinds", Language::Ts).await;
    compare("kinds", Language::Auto).await;
}

#[tokio::test]
async fn a_program_that_is_javascript_runs_as_it_is() {
    // Each is valid in both languages, and means something else in TypeScript.
    for (source, expected) in [
        ("const f = 1, a = 2; text(f<a>(3))", "false"),
        ("function f() {} text(f.toString().length)", "15"),
        ("import.meta; const x = 1 /* : number */; text(x)", "1"),
    ] {
        let (text, error, report) = run(source, Language::Auto).await;
        assert_eq!((text, error), (vec![expected.to_owned()], None), "{source}");
        // It cost what it costs where TypeScript is not allowed.
        let (.., alone) = run(source, Language::Js).await;
        assert_eq!(report.usage.fuel, alone.usage.fuel, "{source}");
    }
}

#[tokio::test]
async fn typescript_is_refused_where_only_javascript_is_allowed() {
    let (text, error, report) = run("const x: number = 1; text(x)", Language::Js).await;
    assert_eq!(text, [""; 0]);
    assert!(error.unwrap().starts_with("SyntaxError: "));
    assert!(report.hint.unwrap().contains("looks like TypeScript"));
}

#[tokio::test]
async fn the_error_of_a_program_that_is_neither_is_that_of_the_language_it_is_in() {
    let (_, error, report) = run("const a = 1;\nconst b = ;", Language::Auto).await;
    assert_eq!(error.unwrap(), "SyntaxError: Unexpected token ';'\n    at exec_main.mjs:2:11");
    assert_eq!(report.hint, None);
    let (_, error, report) = run("const a: number = 1;\nconst b = ;", Language::Auto).await;
    assert_eq!(error.unwrap(), "SyntaxError: Unexpected token\n    at exec_main.mjs:2:11");
    assert_eq!(report.hint.unwrap(), "The program was read as TypeScript.");
    // Nothing ran before.
    let (text, error, _) = run("text('ran'); throw new SyntaxError('own')", Language::Auto).await;
    assert_eq!(text, ["ran"]);
    assert!(error.unwrap().starts_with("SyntaxError: own"));
}

#[tokio::test]
async fn a_program_in_typescript_has_its_tools_and_its_value() {
    let request = ExecuteRequest {
        wants_value: true,
        enabled_tools: [ToolDefinition::function("one", "One.")].into(),
        ..ExecuteRequest::new("const n: number = ALL_TOOLS.length; return typeof tools.one + n")
    };
    let response = service(CellLimits::default()).execute(request).await.unwrap();
    let value = format!("{:?}", response.report().value);
    assert!(value.contains("function1"), "{value}");
}

#[tokio::test]
async fn text_that_nests_without_end_ends_in_an_error() {
    let deep = |open: &str, close: &str, n: usize| {
        format!("const x: number = 1; {}1{}", open.repeat(n), close.repeat(n))
    };
    for source in [
        deep("(", ")", 50_000),
        deep("[", "]", 50_000),
        deep("!", "", 100_000),
        deep("`${", "}`", 20_000),
        deep("x ? 1 : ", "", 30_000),
        deep("x ** ", "", 50_000),
        format!("{}{}", "namespace A { ".repeat(15_000), "}".repeat(15_000)),
        format!("type A = {}1", "A extends 1 ? 2 : ".repeat(10_000)),
        format!("type A = {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("let a: {}1", "(() => ".repeat(30_000)),
        format!("x{}", " as T".repeat(50_000)),
        format!("let x: {}", "{a:".repeat(60_000)),
        "a<b<".repeat(50_000),
    ] {
        for language in [Language::Auto, Language::Ts] {
            let cell = CellLimits { fuel: 20_000_000_000, ..CellLimits::default() };
            let (_, error, _) = run_within(&source, language, cell).await;
            // Some is within what both parsers take.
            let Some(error) = error else { continue };
            let expected = ["SyntaxError: ", "RangeError: ", "ReferenceError: ", "cell stopped: "];
            assert!(expected.iter().any(|start| error.starts_with(start)), "{error:.200}");
        }
    }
    let (_, error, _) = run(&deep("(", ")", 50_000), Language::Ts).await;
    let expected = "SyntaxError: the program nests too deeply to be read as TypeScript";
    assert_eq!(error.unwrap(), expected);
}

#[tokio::test]
async fn reading_typescript_counts_to_the_cell_and_is_limited() {
    let source = format!("{}text(n);", "let n: number = 1; { ".repeat(1_000)) + &"}".repeat(1_000);
    let (text, error, report) = run(&source, Language::Auto).await;
    assert_eq!((text, error), (vec!["1".to_owned()], None));
    assert!(report.usage.fuel > 1_000_000, "{}", report.usage.fuel);
    for language in [Language::Auto, Language::Ts] {
        let cell = CellLimits { fuel: 1_000_000, ..CellLimits::default() };
        let (_, error, report) = run_within(&source, language, cell).await;
        assert_eq!(report.limit, Some(LimitKind::Fuel), "{error:?}");
        let cell = CellLimits { typescript_bytes: 1_000, ..CellLimits::default() };
        let (_, error, report) = run_within(&source, language, cell).await;
        assert!(error.unwrap().starts_with("SyntaxError: "));
        assert_eq!(report.limit, None);
    }
    let cell = CellLimits { typescript_bytes: 100, ..CellLimits::default() };
    let (_, error, _) = run_within(&source, Language::Ts, cell).await;
    assert!(error.unwrap().contains("at most 100 are read as TypeScript"));
}

#[test]
fn the_reader_of_typescript_imports_nothing() {
    let mut config = wasmtime::Config::new();
    config.concurrency_support(false);
    let engine = wasmtime::Engine::new(&config).unwrap();
    let path = repository("typescript/prebuilt/cellblock-typescript.wasm");
    let component = Component::from_file(&engine, path).unwrap();
    let component_type = component.component_type();
    let imports: Vec<_> = component_type.imports(&engine).map(|(name, _)| name).collect();
    assert_eq!(imports, [""; 0]);
    let exports: Vec<_> = component_type.exports(&engine).map(|(name, _)| name).collect();
    assert_eq!(exports, ["strip", "initialize"]);
}
