//! Two turns of an agent, and a cell that spans them.
//!
//! In the first turn a model's program starts a long job and yields; the turn
//! ends. Between the turns the cell lives on, and what it calls waits. In the
//! second turn the model waits for the same cell, and a second program reads the
//! value that the first one stored.

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use cellblock::{
    CellId, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, ContentItem, ExecuteRequest,
    RuntimeResponse, ToolDefinition, ToolResult, WaitRequest, WasmBackend,
};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What one turn offers the cells.
struct Turn {
    number: u32,
}

#[async_trait]
impl CodeModeTurnHost for Turn {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        // A real host looks the tool up, asks for approval, and runs it.
        let work = tokio::time::sleep(Duration::from_millis(50));
        tokio::select! {
            () = work => Ok(json!({ "tool": call.tool_name.name, "served_in_turn": self.number }).into()),
            () = cancellation.cancelled() => Err("cancelled".to_owned()),
        }
    }

    async fn notify(
        &self,
        _call_id: String,
        cell_id: CellId,
        text: String,
        _cancellation: CancellationToken,
    ) -> Result<(), String> {
        say(&format!("turn {}: cell {cell_id} notifies: {text}", self.number))
            .map_err(|error| error.to_string())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // One service for each conversation. The backend is chosen here, and only here.
    let service = CodeModeService::new(Arc::new(WasmBackend::new()?));
    let tools: Arc<[ToolDefinition]> =
        [ToolDefinition::function("build", "Builds."), ToolDefinition::function("test", "Tests.")]
            .into();

    // The first turn.
    let worker = service.start_turn_worker(Arc::new(Turn { number: 1 }));
    let source = "
        const built = await tools.build({ target: 'all' });
        text(`built in turn ${built.served_in_turn}`);
        yield_control();
        await new Promise((resolve) => setTimeout(resolve, 200));
        const tested = await tools.test({});
        notify('tests are done');
        text(`tested in turn ${tested.served_in_turn}`);
        store('report', { built, tested });";
    let request = ExecuteRequest {
        tool_call_id: "call-1".to_owned(),
        enabled_tools: Arc::clone(&tools),
        ..ExecuteRequest::new(source)
    };
    let RuntimeResponse::Yielded { cell_id, content_items, .. } = service.execute(request).await?
    else {
        bail!("the first program ended in the first turn");
    };
    print("turn 1", &content_items)?;
    drop(worker);

    // Between the turns: the timer fires, and the call of `test` waits for a turn.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let waiting = service.cells();
    let cell = waiting.first().context("the cell lives on")?;
    say(&format!(
        "between turns: cell {} has {} calls in flight",
        cell.cell_id, cell.calls_in_flight
    ))?;

    // The second turn.
    let _worker = service.start_turn_worker(Arc::new(Turn { number: 2 }));
    let wait = WaitRequest { cell_id, yield_time_ms: 10_000 };
    let response = RuntimeResponse::from(service.wait(wait).await?);
    print("turn 2", response.content_items())?;
    let request = ExecuteRequest::new("text(load('report').built)");
    print("turn 2", service.execute(request).await?.content_items())?;
    service.shutdown().await;
    Ok(())
}

fn print(turn: &str, items: &[ContentItem]) -> Result<()> {
    for item in items {
        if let ContentItem::InputText { text } = item {
            say(&format!("{turn}: {text}"))?;
        }
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}
