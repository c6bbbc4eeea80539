//! The turn's host: runs the tools of the tools file, and shows what is in flight.

use super::command_tool;
use super::guard::Guard;
use super::printer::Printer;
use super::tools_file::{Tool, ToolsFile};
use async_trait::async_trait;
use cellblock::support::{CALL_CANCELLED, lock};
use cellblock::{
    CellId, CodeModeNestedToolCall, CodeModeTurnHost, ToolResult, normalize_identifier,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Serves the nested calls of one script.
pub struct Host {
    tools: HashMap<String, Tool>,
    printer: Printer,
    guard: Guard,
    /// A permit for each command that may run now.
    commands: Semaphore,
    /// The permit to read an output that is not small.
    large_outputs: Semaphore,
    /// Calls in flight by the name that the program uses.
    in_flight: Mutex<BTreeMap<String, usize>>,
    notifications: Mutex<Vec<String>>,
    /// Whether calls of deferred tools wait until their script is parked.
    parks: bool,
    /// Such calls that wait.
    deferred: AtomicUsize,
}

/// A call of a deferred tool, while it waits.
struct Deferred<'a>(&'a AtomicUsize);

impl<'a> Deferred<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Deferred<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Host {
    /// A host that runs at most `commands` commands at one time. Where the script can be
    /// parked, calls of deferred tools wait for that.
    pub fn new(tools: &ToolsFile, commands: usize, parks: bool, printer: Printer) -> Self {
        Self {
            tools: tools.by_name(),
            printer,
            guard: Guard::new(),
            commands: Semaphore::new(commands.min(Semaphore::MAX_PERMITS)),
            large_outputs: Semaphore::new(1),
            in_flight: Mutex::default(),
            notifications: Mutex::default(),
            parks,
            deferred: AtomicUsize::new(0),
        }
    }

    /// Ends what the tools left behind.
    pub fn finish(&self) {
        self.guard.finish();
    }

    /// Calls of deferred tools that wait.
    pub fn deferred(&self) -> usize {
        self.deferred.load(Ordering::Relaxed)
    }

    /// Whether calls of a tool are answered later.
    pub fn is_deferred(&self, tool: &str) -> bool {
        self.tools.get(tool).is_some_and(|tool| tool.deferred)
    }

    /// What the script sent with `notify`.
    pub fn notifications(&self) -> Vec<String> {
        lock(&self.notifications).clone()
    }

    /// Counts a call in (`1`) or out (`-1`) and shows the sum.
    fn count(&self, tool: &str, change: isize) {
        let mut in_flight = lock(&self.in_flight);
        let calls = in_flight.entry(normalize_identifier(tool)).or_default();
        *calls = calls.saturating_add_signed(change);
        in_flight.retain(|_, calls| *calls > 0);
        let shown: Vec<_> =
            in_flight.iter().map(|(tool, calls)| format!("{tool} × {calls}")).collect();
        self.printer.status(shown.join(", "));
    }

    async fn run(
        &self,
        tool: &Tool,
        call: CodeModeNestedToolCall,
        cancellation: &CancellationToken,
    ) -> Result<ToolResult, String> {
        let turn = tokio::select! {
            turn = self.commands.acquire() => turn,
            () = cancellation.cancelled() => return Err(CALL_CANCELLED.to_owned()),
        };
        // The semaphore is never closed.
        let _turn = turn.map_err(|error| error.to_string())?;
        command_tool::run(tool, call.input, &self.guard, &self.large_outputs, cancellation).await
    }
}

#[async_trait]
impl CodeModeTurnHost for Host {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let name = call.tool_name.name.clone();
        let tool = self.tools.get(&name).ok_or_else(|| format!("there is no tool {name:?}"))?;
        if tool.deferred && self.parks {
            let _waiting = Deferred::new(&self.deferred);
            cancellation.cancelled().await;
            return Err(CALL_CANCELLED.to_owned());
        }
        if tool.command.is_empty() {
            return Err(format!(
                "{name}: its calls are answered later, by cellblock wake; use --park FILE"
            ));
        }
        self.count(&name, 1);
        let result = self.run(tool, call, &cancellation).await;
        self.count(&name, -1);
        result
    }

    /// A call of a deferred tool has never run: it waits on, or is run now.
    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.invoke_tool(call, cancellation).await
    }

    async fn notify(
        &self,
        _call_id: String,
        _cell_id: CellId,
        text: String,
        _cancellation: CancellationToken,
    ) -> Result<(), String> {
        self.printer.error(format!("notify: {text}"));
        lock(&self.notifications).push(text);
        Ok(())
    }
}
