//! The host that the measured cells call.

use async_trait::async_trait;
use cellblock::{
    CodeModeBackend, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, CodeModeTurnWorker,
    Engine, ExecuteRequest, RuntimeResponse, SessionLimits, ToolDefinition, ToolName, ToolResult,
    WasmBackend,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A session that serves `echo`, `nap` (1 ms), `big` (100 KB of JSON), `hang`, and `peek`, which
/// is `echo` and says that it answers at once.
pub struct Bench {
    /// The session.
    pub service: CodeModeService,
    tools: Arc<[ToolDefinition]>,
    _worker: CodeModeTurnWorker,
}

struct Host {
    big: ToolResult,
}

impl Bench {
    /// A session with `tools` tools and these limits.
    pub fn new(tools: usize, limits: SessionLimits) -> anyhow::Result<Self> {
        Ok(Self::on(Arc::new(WasmBackend::with_limits(&Engine::shared()?, limits)), tools))
    }

    /// A session on a backend with `tools` tools.
    pub fn on(backend: Arc<dyn CodeModeBackend>, tools: usize) -> Self {
        let service = CodeModeService::new(backend);
        let row = |id| json!({ "id": id, "name": format!("user number {id}"), "tags": ["a", "b"] });
        let big = Value::Array((0..1800).map(row).collect());
        let worker = service.start_turn_worker(Arc::new(Host {
            big: ToolResult::from_json(big.to_string()).unwrap_or(Value::Null.into()),
        }));
        let named = ["echo", "nap", "big", "hang", "peek"].map(str::to_owned).into_iter();
        let filler = (0..).map(|number| format!("tool_number_{number}"));
        let tools = named
            .chain(filler)
            .take(tools)
            .map(|name| ToolDefinition::function(name, "A description of some length. ".repeat(10)))
            .collect();
        Self { service, tools, _worker: worker }
    }

    /// A request with the session's tools.
    pub fn request(&self, source: &str) -> ExecuteRequest {
        ExecuteRequest {
            enabled_tools: Arc::clone(&self.tools),
            yield_time_ms: Some(600_000),
            ..ExecuteRequest::new(source)
        }
    }

    /// Runs a program to its first response.
    pub async fn run(&self, source: &str) -> anyhow::Result<RuntimeResponse> {
        Ok(self.service.execute(self.request(source)).await?)
    }
}

#[async_trait]
impl CodeModeTurnHost for Host {
    fn answers_at_once(&self, tool: &ToolName) -> bool {
        tool.name == "peek"
    }

    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        match call.tool_name.name.as_str() {
            "nap" => tokio::time::sleep(Duration::from_millis(1)).await,
            "big" => return Ok(self.big.clone()),
            "hang" => cancellation.cancelled().await,
            _ => {}
        }
        Ok(call.input.map_or_else(|| Value::Null.into(), ToolResult::from))
    }
}
