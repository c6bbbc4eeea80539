//! What the description of `exec` says of the language is so.

use cellblock::model::{ExecOptions, ExecToolSpec, InputForm, ToolCatalog};
use cellblock::{
    CodeModeService, Engine, ExecuteRequest, RuntimeResponse, SessionLimits, WasmBackend,
};
use std::sync::Arc;

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
    let intl = "with the numbers, plurals and dates of `Intl`";
    let program = "new Intl.NumberFormat().format(1); new Intl.PluralRules().select(1)";
    assert_eq!(runs(program).await, description.contains(intl));
    assert_eq!(runs("const n: number = 1").await, !lacks("the types of TypeScript"));
    for (source, holds) in [
        ("await Promise.resolve()", true),
        ("return 1", false),
        ("import 'x'", false),
        ("console.log(1)", false),
        ("const { a, ...rest } = { a: 1 }; [1].at(-1); new Set([1]).union(new Set())", true),
    ] {
        assert_eq!(runs(source).await, holds, "{source}");
    }
}
