//! What the description of `exec` says of the language is so.

use async_trait::async_trait;
use cellblock::model::{
    ExecOptions, ExecToolSpec, InputForm, ProgramValues, SavedScript, ScriptLibrary, ToolCatalog,
    parse_exec_source,
};
use cellblock::{
    CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, Engine, ExecuteRequest,
    ProgramValue, RuntimeResponse, SessionLimits, ToolResult, WasmBackend,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_language_is_what_the_description_says() {
    let engine = Engine::shared().expect("an engine");
    let backend = WasmBackend::with_limits(&engine, SessionLimits::default());
    let service = CodeModeService::new(Arc::new(backend));
    let runs = async |source: &str| {
        let response = service.execute(ExecuteRequest::new(source)).await.expect("a cell");
        matches!(response, RuntimeResponse::Result { error_text: None, .. })
    };
    let catalog = ToolCatalog::default();
    let exec = ExecToolSpec::new(&catalog, &ExecOptions::default());
    let description = exec.description(InputForm::Source);
    let lacks = |what: &str| description.contains(&format!("without {what}"));
    let intl = "with the numbers and plurals of `Intl`";
    let program = "new Intl.NumberFormat().format(1); new Intl.PluralRules().select(1)";
    assert_eq!(runs(program).await, description.contains(intl));
    assert_eq!(runs("const n: number = 1").await, !lacks("the types of TypeScript"));
    for (source, holds) in [
        ("await Promise.resolve()", true),
        ("return 1", false),
        ("scripts.daily({})", false),
        ("import 'x'", false),
        ("console.log(1)", false),
        ("const { a, ...rest } = { a: 1 }; [1].at(-1); new Set([1]).union(new Set())", true),
    ] {
        assert_eq!(runs(source).await, holds, "{source}");
    }
}

/// What the description says of values and of scripts is what programs can do, and is said
/// only where they can.
#[tokio::test]
async fn values_and_scripts_are_described_where_they_are() {
    let script = SavedScript {
        name: "double".to_owned(),
        description: "Doubles a number.".to_owned(),
        source: "store('result', load('input') * 2)".to_owned(),
        ..SavedScript::default()
    };
    let engine = Engine::shared().expect("an engine");
    let backend = || Arc::new(WasmBackend::with_limits(&engine, SessionLimits::default()));
    let scripts = ScriptLibrary::new([script], backend(), [].into());
    let with = ToolCatalog::new(scripts.definitions());
    let described = |catalog: &ToolCatalog, program_values| {
        let options = ExecOptions { program_values, ..ExecOptions::default() };
        let exec = ExecToolSpec::new(catalog, &options);
        (exec.description(InputForm::Source).to_owned(), exec.input_schema())
    };
    let (text, schema) = described(&with, ProgramValues::Offered);
    assert!(text.contains("`await scripts.NAME(input)`") && text.contains("`\"result\": true`"));
    assert_eq!(schema["properties"]["result"]["type"], "boolean");
    let (text, schema) = described(&ToolCatalog::default(), ProgramValues::Hidden);
    assert!(!text.contains("scripts") && !text.contains("result\": true"), "{text}");
    assert!(schema["properties"]["result"].is_null());

    let service = CodeModeService::new(backend());
    let _turn = service.start_turn_worker(scripts.serve(Arc::new(NoTools)));
    let program = parse_exec_source("// @exec: {\"result\": true}\nawait scripts.double(21)");
    let program = program.expect("a program");
    let request = ExecuteRequest {
        enabled_tools: with.enabled_tools(),
        wants_value: program.result,
        ..ExecuteRequest::new(program.code)
    };
    let response = service.execute(request).await.expect("a cell");
    assert_eq!(response.report().value, Some(ProgramValue::Json("42".to_owned())));
}

/// A host without tools of its own.
struct NoTools;

#[async_trait]
impl CodeModeTurnHost for NoTools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        Err(format!("there is no tool {}", call.tool_name))
    }
}
