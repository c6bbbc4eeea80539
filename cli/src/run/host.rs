//! The turn's host: runs the tools of the tools file, and shows what is in flight.

use super::command_tool;
use super::tools_file::{Tool, ToolsFile};
use async_trait::async_trait;
use cellblock::{CellId, CodeModeNestedToolCall, CodeModeTurnHost, ToolResult};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the status line turns.
const TICK: Duration = Duration::from_millis(100);

/// Serves the nested calls of one script.
pub struct Host {
    tools: HashMap<String, Tool>,
    status: Option<ProgressBar>,
    /// Calls in flight by tool.
    in_flight: Mutex<BTreeMap<String, usize>>,
    notifications: Mutex<Vec<String>>,
}

impl Host {
    /// A host for the tools, with a status line or without.
    pub fn new(tools: &ToolsFile, with_status: bool) -> Self {
        let status = with_status.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            tools: tools.by_name(),
            status,
            in_flight: Mutex::default(),
            notifications: Mutex::default(),
        }
    }

    /// Prints while the status line is out of the way.
    pub fn above_status<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.status {
            Some(status) => status.suspend(print),
            None => print(),
        }
    }

    /// Takes the status line away.
    pub fn finish(&self) {
        if let Some(status) = &self.status {
            status.finish_and_clear();
        }
    }

    /// What the script sent with `notify`.
    pub fn notifications(&self) -> Vec<String> {
        self.notifications.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a call in (`1`) or out (`-1`) and shows the sum.
    fn count(&self, tool: &str, change: isize) {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = in_flight.entry(tool.to_owned()).or_default();
        *calls = calls.saturating_add_signed(change);
        in_flight.retain(|_, calls| *calls > 0);
        if let Some(status) = &self.status {
            let shown: Vec<_> =
                in_flight.iter().map(|(tool, calls)| format!("{tool} × {calls}")).collect();
            status.set_message(shown.join(", "));
        }
    }
}

#[async_trait]
impl CodeModeTurnHost for Host {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let name = &call.tool_name.name;
        let tool = self.tools.get(name).ok_or_else(|| format!("there is no tool {name:?}"))?;
        self.count(name, 1);
        let result = command_tool::run(tool, call.input, &cancellation).await;
        self.count(name, -1);
        result
    }

    async fn notify(
        &self,
        _call_id: String,
        _cell_id: CellId,
        text: String,
        _cancellation: CancellationToken,
    ) -> Result<(), String> {
        self.above_status(|| super::report::notice(&text));
        self.notifications.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        Ok(())
    }
}
