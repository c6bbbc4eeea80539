//! Programs that a host keeps by name, so that a model need not send them again.
//!
//! A saved script is a tool of the namespace `scripts`: a program calls
//! `scripts.NAME(input)`, which is `tools.scripts__NAME(input)`. Each call runs in a cell
//! of its own, on a backend whose limits are those of scripts. The script finds its input
//! with `load('input')`, and its result is what it stores as `result`, or else the text
//! that it prints. It can call the host's tools, but no other script; to the host, its
//! calls are those of the cell that called the script.

use super::names::code_mode_name;
use crate::backend::{
    CellId, CodeModeBackend, CodeModeNestedToolCall, CodeModeTurnHost, CodeModeTurnWorker,
    ContentItem, ExecuteRequest, RuntimeResponse, ToolInput, ToolResult, WaitRequest,
};
use crate::stored::StoredValues;
use crate::support::lock;
use crate::tools::{ToolDefinition, ToolKind, ToolName, normalize_identifier};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// Namespace of saved scripts.
pub(super) const NAMESPACE: &str = "scripts";

/// How the names of tools begin that programs find in the global `scripts`, too.
pub(super) const PREFIX: &str = "scripts__";

/// How long a script runs before its output so far is fetched, in milliseconds.
const FETCH_MS: u64 = 5_000;

/// A program that a host keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedScript {
    /// Its name; programs call `scripts.NAME`.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its input.
    pub input_schema: Option<Value>,
    /// JSON Schema of its result.
    #[serde(default)]
    pub output_schema: Option<Value>,
    /// The program, in JavaScript or TypeScript.
    pub source: String,
}

impl SavedScript {
    fn definition(&self) -> ToolDefinition {
        let tool_name = ToolName::namespaced(NAMESPACE, self.name.clone());
        ToolDefinition {
            name: code_mode_name(&tool_name),
            tool_name,
            description: self.description.clone(),
            kind: ToolKind::Function,
            input_schema: self.input_schema.clone(),
            output_schema: self.output_schema.clone(),
        }
    }
}

/// A program that calls a saved script and prints its result: what `exec` runs when it is
/// given the name of a script and an input in place of a source.
///
/// ```
/// use cellblock::model::call_script;
///
/// assert_eq!(
///     call_script("daily-report", &serde_json::json!({ "day": 5 })),
///     r#"text(await tools.scripts__daily_report(JSON.parse("{\"day\":5}")))"#
/// );
/// ```
pub fn call_script(name: &str, input: &Value) -> String {
    let tool = code_mode_name(&ToolName::namespaced(NAMESPACE, name));
    // As an object literal, a member `__proto__` would be something else.
    let input = Value::from(input.to_string());
    format!("text(await tools.{}(JSON.parse({input})))", normalize_identifier(&tool))
}

/// The saved scripts of a session.
///
/// ```
/// use cellblock::{*, model::*};
/// use std::sync::Arc;
///
/// # struct Tools;
/// # #[async_trait::async_trait]
/// # impl CodeModeTurnHost for Tools {
/// #     async fn invoke_tool(
/// #         &self,
/// #         _call: CodeModeNestedToolCall,
/// #         _cancellation: tokio_util::sync::CancellationToken,
/// #     ) -> Result<ToolResult, String> {
/// #         Ok(serde_json::Value::Null.into())
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let double = SavedScript {
///     name: "double".to_owned(),
///     description: "Doubles a number.".to_owned(),
///     source: "store('result', load('input') * 2)".to_owned(),
///     ..SavedScript::default()
/// };
/// // The limits of scripts are those of their backend.
/// let scripts = ScriptLibrary::new([double], Arc::new(WasmBackend::new()?), [].into());
///
/// let service = CodeModeService::new(Arc::new(WasmBackend::new()?));
/// let _turn = service.start_turn_worker(scripts.serve(Arc::new(Tools)));
/// let catalog = ToolCatalog::new(scripts.definitions());
/// let request = ExecuteRequest {
///     enabled_tools: catalog.enabled_tools(),
///     ..ExecuteRequest::new("text(await scripts.double(21))")
/// };
/// let response = service.execute(request).await?;
/// assert_eq!(response.content_items(), [ContentItem::InputText { text: "42".to_owned() }]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ScriptLibrary(Arc<Library>);

struct Library {
    scripts: HashMap<String, SavedScript>,
    backend: Arc<dyn CodeModeBackend>,
    /// Tools that scripts may call.
    tools: Arc<[ToolDefinition]>,
    runs: Runs,
    _worker: CodeModeTurnWorker,
}

/// The scripts that run, by their cells.
type Runs = Arc<Mutex<HashMap<CellId, Caller>>>;

/// On whose behalf a script runs.
#[derive(Clone)]
struct Caller {
    host: Arc<dyn CodeModeTurnHost>,
    cell_id: CellId,
    /// The call of the script.
    call_id: String,
}

impl ScriptLibrary {
    /// Scripts that run on `backend`, whose limits are theirs, and may call `tools`. Of
    /// scripts of one name, the last is kept.
    pub fn new(
        scripts: impl IntoIterator<Item = SavedScript>,
        backend: Arc<dyn CodeModeBackend>,
        tools: Arc<[ToolDefinition]>,
    ) -> Self {
        let runs = Runs::default();
        let worker = backend.start_turn_worker(Arc::new(ScriptCalls(Arc::clone(&runs))));
        let scripts = scripts.into_iter().map(|script| (script.name.clone(), script)).collect();
        Self(Arc::new(Library { scripts, backend, tools, runs, _worker: worker }))
    }

    /// The scripts as tools, by name.
    pub fn definitions(&self) -> Vec<ToolDefinition> {
        let mut definitions: Vec<_> =
            self.0.scripts.values().map(SavedScript::definition).collect();
        definitions.sort_by(|one, other| one.name.cmp(&other.name));
        definitions
    }

    /// A host that runs scripts, and serves everything else through `host`.
    pub fn serve(&self, host: Arc<dyn CodeModeTurnHost>) -> Arc<dyn CodeModeTurnHost> {
        Arc::new(ScriptHost { host, library: Arc::clone(&self.0) })
    }
}

impl Library {
    async fn run(
        &self,
        script: &SavedScript,
        input: Option<ToolInput>,
        caller: Caller,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let failed = |error: String| format!("script {} failed: {error}", script.name);
        let cell_id = self.backend.allocate_cell_id().map_err(|error| failed(error.to_string()))?;
        let stored = StoredValues::new();
        stored.replace(
            input.map(|input| ("input".to_owned(), input.into_value())).into_iter().collect(),
        );
        let request = ExecuteRequest {
            tool_call_id: caller.call_id.clone(),
            enabled_tools: Arc::clone(&self.tools),
            source: script.source.clone(),
            yield_time_ms: Some(FETCH_MS),
            ..ExecuteRequest::default()
        };
        lock(&self.runs).insert(cell_id.clone(), caller);
        let mut run = Run { library: self, cell_id: Some(cell_id.clone()) };
        let ended = async {
            let mut texts = Vec::new();
            let mut response =
                self.backend.execute(cell_id.clone(), request, stored.clone()).await?;
            loop {
                texts.extend(response.content_items().iter().filter_map(|item| match item {
                    ContentItem::InputText { text } => Some(text.clone()),
                    _ => None,
                }));
                let RuntimeResponse::Yielded { .. } = response else { break };
                let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: FETCH_MS };
                response = self.backend.wait(wait).await?.into();
            }
            Ok((texts, response))
        };
        let ended = tokio::select! {
            ended = ended => ended,
            () = cancellation.cancelled() => return Err(failed("it was cancelled".to_owned())),
        };
        let (texts, response) =
            ended.map_err(|error: crate::backend::CodeModeError| failed(error.to_string()))?;
        run.ended();
        match response {
            RuntimeResponse::Result { error_text: Some(error), .. } => Err(failed(error)),
            RuntimeResponse::Result { .. } => {
                let printed = (!texts.is_empty()).then(|| Value::from(texts.join("\n")));
                Ok(stored.to_map().remove("result").or(printed).unwrap_or_default().into())
            }
            _ => Err(failed("it was terminated".to_owned())),
        }
    }
}

/// A script that runs. Dropping it before its end ends its cell.
struct Run<'a> {
    library: &'a Library,
    cell_id: Option<CellId>,
}

impl Run<'_> {
    fn ended(&mut self) {
        if let Some(cell_id) = self.cell_id.take() {
            lock(&self.library.runs).remove(&cell_id);
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let Some(cell_id) = self.cell_id.take() else { return };
        lock(&self.library.runs).remove(&cell_id);
        let backend = Arc::clone(&self.library.backend);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // It may have ended by itself meanwhile.
                let _ = backend.terminate(cell_id).await;
            });
        }
    }
}

/// The host of programs that may call scripts.
struct ScriptHost {
    host: Arc<dyn CodeModeTurnHost>,
    library: Arc<Library>,
}

#[async_trait]
impl CodeModeTurnHost for ScriptHost {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let ToolName { name, namespace } = &call.tool_name;
        let script = match namespace.as_deref() {
            Some(NAMESPACE) => self.library.scripts.get(name),
            _ => None,
        };
        let Some(script) = script else { return self.host.invoke_tool(call, cancellation).await };
        let caller = Caller {
            host: Arc::clone(&self.host),
            cell_id: call.cell_id,
            call_id: call.runtime_tool_call_id,
        };
        self.library.run(script, call.input, caller, cancellation).await
    }

    fn answers_at_once(&self, tool: &ToolName) -> bool {
        tool.namespace.as_deref() != Some(NAMESPACE) && self.host.answers_at_once(tool)
    }

    /// A script that was called ended with the session that it ran in.
    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        if call.tool_name.namespace.as_deref() == Some(NAMESPACE) {
            return Err("the script ended when its caller was parked".to_owned());
        }
        self.host.resume_call(call, cancellation).await
    }

    async fn notify(
        &self,
        call_id: String,
        cell_id: CellId,
        text: String,
        cancellation: CancellationToken,
    ) -> Result<(), String> {
        self.host.notify(call_id, cell_id, text, cancellation).await
    }

    fn cell_closed(&self, cell_id: &CellId) {
        self.host.cell_closed(cell_id);
    }
}

/// The host of scripts: what they ask for is asked for on behalf of their callers.
struct ScriptCalls(Runs);

impl ScriptCalls {
    fn caller(&self, cell_id: &CellId) -> Result<Caller, String> {
        lock(&self.0).get(cell_id).cloned().ok_or_else(|| "the script has ended".to_owned())
    }
}

#[async_trait]
impl CodeModeTurnHost for ScriptCalls {
    async fn invoke_tool(
        &self,
        mut call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let caller = self.caller(&call.cell_id)?;
        call.cell_id = caller.cell_id;
        call.runtime_tool_call_id = format!("{}/{}", caller.call_id, call.runtime_tool_call_id);
        caller.host.invoke_tool(call, cancellation).await
    }

    async fn notify(
        &self,
        call_id: String,
        cell_id: CellId,
        text: String,
        cancellation: CancellationToken,
    ) -> Result<(), String> {
        let caller = self.caller(&cell_id)?;
        caller.host.notify(call_id, caller.cell_id, text, cancellation).await
    }
}
