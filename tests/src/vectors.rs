//! The recorded vectors: programs, and what the real host answered.

use async_trait::async_trait;
use cellblock::{
    CellId, CodeModeBackend, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost,
    ExecuteRequest, Language, RegionalSettings, RuntimeResponse, ToolDefinition, ToolInput,
    ToolResult, WaitOutcome, WaitRequest,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Yield time of a vector that names none, as when they were recorded.
const YIELD_MS: u64 = 5_000;

/// The file of recorded vectors.
#[derive(Debug, Deserialize)]
pub struct File {
    /// The vectors.
    pub vectors: Vec<Vector>,
}

/// One or more programs, run one after the other in one session.
#[derive(Clone, Debug, Deserialize)]
pub struct Vector {
    /// Name of the vector.
    pub name: String,
    /// The program, or several.
    pub source: Value,
    /// `yield_time_ms` of execute.
    #[serde(rename = "yield")]
    pub yield_ms: Option<u64>,
    /// A yielded cell is terminated instead of waited on.
    #[serde(default)]
    pub terminate: bool,
    /// What was answered, in order.
    pub steps: Vec<Value>,
    /// Notifications that arrived.
    pub notifications: Vec<String>,
}

impl Vector {
    fn sources(&self) -> Vec<&str> {
        match &self.source {
            Value::Array(sources) => sources.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        }
    }

    /// Runs the vector and returns its steps and notifications.
    ///
    /// # Errors
    /// A request that the backend refused.
    pub async fn run(
        &self,
        backend: Arc<dyn CodeModeBackend>,
    ) -> Result<(Vec<Value>, Vec<String>), String> {
        let service = CodeModeService::new(backend);
        let host = Arc::new(Tools::default());
        let _worker = service.start_turn_worker(Arc::clone(&host) as _);
        let mut steps = Vec::new();
        for source in self.sources() {
            let request = ExecuteRequest {
                tool_call_id: "call".to_owned(),
                enabled_tools: definitions().into(),
                source: source.to_owned(),
                yield_time_ms: Some(self.yield_ms.unwrap_or(YIELD_MS)),
                max_output_tokens: None,
                wants_value: false,
                regional: RegionalSettings::default(),
                language: Language::Js,
                ..ExecuteRequest::default()
            };
            let mut response = service.execute(request).await.map_err(|e| e.to_string())?;
            steps.push(json!({ "execute": { "value": response } }));
            while let RuntimeResponse::Yielded { cell_id, .. } = response {
                let (kind, outcome) = if self.terminate {
                    ("terminate", service.terminate(cell_id).await)
                } else {
                    let wait = WaitRequest { cell_id, yield_time_ms: YIELD_MS };
                    ("wait", service.wait(wait).await)
                };
                let outcome: WaitOutcome = outcome.map_err(|e| e.to_string())?;
                steps.push(json!({
                    kind: { "value": { "type": "wait/completed", "outcome": outcome } }
                }));
                response = outcome.into();
            }
        }
        let notifications =
            host.notifications.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((steps, notifications))
    }
}

/// The tools that the vectors were recorded with.
fn definitions() -> Vec<ToolDefinition> {
    ["echo", "fail", "slow", "num", "str", "arr", "nul", "my-tool.x", "2fast"]
        .map(|name| ToolDefinition::function(name, name))
        .into()
}

#[derive(Default)]
struct Tools {
    notifications: Mutex<Vec<String>>,
}

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let input = call.input.map_or(Value::Null, ToolInput::into_value);
        match call.tool_name.name.as_str() {
            "echo" => Ok(input.into()),
            "fail" => Err(format!("tool failed: {input}")),
            "slow" => {
                tokio::time::sleep(Duration::from_millis(30)).await;
                Ok(input.into())
            }
            "num" => Ok(json!(42).into()),
            "str" => Ok(json!("plain text").into()),
            "arr" => Ok(json!([1, "two", null, { "k": true }]).into()),
            "nul" => Ok(Value::Null.into()),
            other => Ok(json!({ "tool": other, "input": input }).into()),
        }
    }

    async fn notify(
        &self,
        _call_id: String,
        _cell_id: CellId,
        text: String,
        _cancellation: CancellationToken,
    ) -> Result<(), String> {
        self.notifications.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        Ok(())
    }
}
