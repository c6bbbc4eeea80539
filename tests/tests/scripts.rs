//! Saved scripts: in cells of their own, on behalf of those who call them.

use async_trait::async_trait;
use cellblock::model::{
    CellActivity, CellWaiter, ExecOptions, ExecToolSpec, InputForm, SavedScript, ScriptLibrary,
    ToolCatalog, WaitPolicy, call_script,
};
use cellblock::{
    CellId, CellLimits, CodeModeBackend, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost,
    CodeModeTurnWorker, Engine, ExecuteRequest, RuntimeResponse, SessionLimits, ToolDefinition,
    ToolResult, WasmBackend,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Answers with who called, and waits where its input says so.
#[derive(Default)]
struct Tools {
    notifications: Mutex<Vec<String>>,
}

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        if call.tool_name.name == "hang" {
            cancellation.cancelled().await;
            return Err("cancelled".to_owned());
        }
        let CodeModeNestedToolCall { cell_id, runtime_tool_call_id, tool_name, .. } = call;
        Ok(json!(format!("{cell_id} {runtime_tool_call_id} {tool_name}")).into())
    }

    async fn notify(
        &self,
        call_id: String,
        cell_id: CellId,
        text: String,
        _cancellation: CancellationToken,
    ) -> Result<(), String> {
        let notification = format!("{call_id} {cell_id} {text}");
        self.notifications.lock().expect("no panic").push(notification);
        Ok(())
    }
}

struct Session {
    service: CodeModeService,
    scripts: Arc<dyn CodeModeBackend>,
    tools: Arc<Tools>,
    enabled: Arc<[ToolDefinition]>,
    _worker: CodeModeTurnWorker,
}

fn session(scripts: &[(&str, &str)]) -> Session {
    let engine = Engine::shared().expect("an engine");
    let cell = CellLimits { fuel: 500_000_000, ..CellLimits::default() };
    let limits = SessionLimits { cell, ..SessionLimits::default() };
    let backend: Arc<dyn CodeModeBackend> = Arc::new(WasmBackend::with_limits(&engine, limits));
    let own = [ToolDefinition::function("who", "Who calls."), ToolDefinition::function("hang", "")];
    let saved = scripts.iter().map(|(name, source)| SavedScript {
        name: (*name).to_owned(),
        source: (*source).to_owned(),
        ..SavedScript::default()
    });
    let library = ScriptLibrary::new(saved, Arc::clone(&backend), own.clone().into());
    let catalog = ToolCatalog::new(library.definitions().into_iter().chain(own));
    let tools = Arc::new(Tools::default());
    let service =
        CodeModeService::new(Arc::new(WasmBackend::with_limits(&engine, SessionLimits::default())));
    let worker = service.start_turn_worker(library.serve(Arc::clone(&tools) as _));
    Session { service, scripts: backend, tools, enabled: catalog.enabled_tools(), _worker: worker }
}

impl Session {
    async fn run(&self, source: &str) -> (Vec<String>, Option<String>) {
        let request = ExecuteRequest {
            enabled_tools: Arc::clone(&self.enabled),
            tool_call_id: "call".to_owned(),
            ..ExecuteRequest::new(source)
        };
        let response = self.service.execute(request).await.expect("a cell");
        let RuntimeResponse::Result { error_text, content_items, .. } = response else {
            panic!("it did not end: {response:?}");
        };
        let items = json!(content_items);
        let text = |item: &Value| item["text"].as_str().expect("a text").to_owned();
        (items.as_array().expect("items").iter().map(text).collect(), error_text)
    }
}

#[tokio::test]
async fn a_script_has_an_input_and_a_result() {
    let session = session(&[
        ("sum", "store('result', load('input').reduce((a, b) => a + b, 0))"),
        ("print", "text('a'); text({ b: load('input') })"),
        ("nothing", "load('input')"),
    ]);
    let (texts, error) = session
        .run(
            "text(await Promise.all([tools.scripts__sum([1, 2, 3]), tools.scripts__print(),
             tools.scripts__nothing({})]))",
        )
        .await;
    assert_eq!(error, None);
    assert_eq!(texts, [r#"[6,"a\n{}",null]"#]);
    // Nothing that a script stores is left for anybody.
    assert!(session.service.stored_values().is_empty());
    let awkward = json!({ "__proto__": 1, "quote": "\"'`${x}\n\u{2028}" });
    let scripts = [("echo", "store('result', load('input'))")];
    let (texts, error) = self::session(&scripts).run(&call_script("echo", &awkward)).await;
    assert_eq!((texts, error), (vec![awkward.to_string()], None));
}

#[test]
fn a_model_reads_of_scripts_only_where_there_are_some() {
    let script = SavedScript { name: "report".to_owned(), ..SavedScript::default() };
    let engine = Engine::shared().expect("an engine");
    let backend = Arc::new(WasmBackend::with_limits(&engine, SessionLimits::default()));
    let library = ScriptLibrary::new([script], backend, [].into());
    for (tools, there) in [(library.definitions(), true), (Vec::new(), false)] {
        let exec = ExecToolSpec::new(&ToolCatalog::new(tools), &ExecOptions::default());
        let described = exec.description(InputForm::Arguments).contains("Saved scripts");
        let schema = exec.input_schema();
        assert_eq!((described, schema["properties"].get("script").is_some()), (there, there));
        assert_eq!(schema["required"].as_array().map(Vec::len), Some(usize::from(!there)));
    }
}

#[tokio::test]
async fn a_scripts_calls_are_those_of_its_caller() {
    let session = session(&[("ask", "notify('hello'); store('result', await tools.who())")]);
    let (texts, _) = session.run("text(await tools.who()); text(await tools.scripts__ask())").await;
    assert_eq!(texts, ["1 tool-1 who", "1 tool-2/tool-1 who"]);
    assert_eq!(*session.tools.notifications.lock().expect("no panic"), ["tool-2 1 hello"]);
}

#[tokio::test]
async fn a_script_fails_alone_and_by_its_own_limits() {
    let session = session(&[
        ("bad", "throw new Error('no')"),
        ("spin", "for (;;) {}"),
        ("nested", "text(typeof tools.scripts__bad)"),
    ]);
    let (texts, error) = session
        .run(
            "for (const name of ['bad', 'spin', 'nested']) {
               try { text(await tools['scripts__' + name]()) } catch (e) { text(e) }
             }",
        )
        .await;
    assert_eq!(error, None);
    assert!(texts[0].starts_with("script bad failed: Error: no\n    at "), "{}", texts[0]);
    assert!(texts[1].starts_with("script spin failed: cell stopped: its fuel limit of 500000000"));
    assert_eq!(texts[2], "undefined");
}

#[tokio::test(start_paused = true)]
async fn a_script_ends_with_its_caller() {
    let session = session(&[("wait", "await tools.hang()")]);
    let waiter =
        CellWaiter::new(session.service.clone(), WaitPolicy::default(), CellActivity::default());
    let cell_id = session.service.allocate_cell_id().expect("an id");
    let request = ExecuteRequest {
        enabled_tools: Arc::clone(&session.enabled),
        yield_time_ms: Some(60_000),
        ..ExecuteRequest::new("await tools.scripts__wait()")
    };
    let running = waiter.execute(cell_id.clone(), request).await.expect("a cell");
    assert!(running.activity.is_some());
    assert_eq!(session.scripts.cells().len(), 1);
    waiter.terminate(cell_id).await.expect("an end");
    tokio::time::timeout(Duration::from_secs(10), async {
        while !session.scripts.cells().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the script's cell has ended");
}
