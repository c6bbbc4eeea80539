//! A session on a bench: a service, and a host whose tools the test controls.

use crate::backends::Backends;
use async_trait::async_trait;
use cellblock::{
    CellId, CodeModeError, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost,
    CodeModeTurnWorker, ContentItem, ExecuteRequest, Parked, RuntimeResponse, SessionLimits,
    ToolDefinition, ToolInput, ToolName, ToolResult, WaitOutcome, WaitRequest, WakeRequest,
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Names of the tools that every program on the bench may call.
///
/// `echo` returns its input; `nap` sleeps for `ms` and returns its input; `gate`
/// returns when the test opens the gate; `hang` returns when it is cancelled,
/// `linger` a while after that, and `stone` never; `block` blocks its thread; `panic` panics.
const TOOLS: [&str; 10] =
    ["echo", "nap", "gate", "hang", "linger", "stone", "block", "panic", "fail", "huge"];

/// How long `linger` takes to return after it was cancelled.
const LINGER: Duration = Duration::from_millis(500);

/// How long what can happen in another process may take to.
const ELSEWHERE: Duration = Duration::from_millis(150);

/// A session and its host.
pub struct Bench {
    /// The session.
    pub service: CodeModeService,
    /// The host that serves it.
    pub host: Arc<Host>,
    worker: Option<CodeModeTurnWorker>,
    backends: Backends,
}

impl Bench {
    /// A session with default limits and a running turn worker.
    pub fn new(backends: Backends) -> Self {
        Self::with_limits(backends, SessionLimits::default())
    }

    /// A session with limits of its own.
    pub fn with_limits(backends: Backends, limits: SessionLimits) -> Self {
        let service = CodeModeService::new(backends.session(limits));
        let host = Arc::new(Host::default());
        let worker = Some(service.start_turn_worker(Arc::clone(&host) as _));
        Self { service, host, worker, backends }
    }

    /// Ends the turn's worker.
    pub fn end_turn(&mut self) {
        self.worker = None;
    }

    /// Starts a turn with the same host.
    pub fn start_turn(&mut self) {
        self.worker = Some(self.service.start_turn_worker(Arc::clone(&self.host) as _));
    }

    /// A request for a program that may call the bench's tools.
    pub fn request(source: &str) -> ExecuteRequest {
        ExecuteRequest {
            tool_call_id: "call-1".to_owned(),
            enabled_tools: TOOLS.map(|name| ToolDefinition::function(name, name)).into(),
            source: source.to_owned(),
            ..ExecuteRequest::default()
        }
    }

    /// Runs a program to its first response.
    pub async fn execute(&self, source: &str) -> RuntimeResponse {
        self.service.execute(Self::request(source)).await.expect("the cell is admitted")
    }

    /// Runs a program to its first response, which comes at once when it is not the end.
    pub async fn start(&self, source: &str) -> RuntimeResponse {
        let request = ExecuteRequest { yield_time_ms: Some(1), ..Self::request(source) };
        self.service.execute(request).await.expect("the cell is admitted")
    }

    /// Runs a program that must end without an error, and returns its texts.
    pub async fn texts(&self, source: &str) -> Vec<String> {
        let response = self.execute(source).await;
        assert_eq!(error_of(&response), None, "{source}");
        texts_of(&response)
    }

    /// Waits for a cell with the default yield time.
    pub async fn wait(&self, cell: &str) -> WaitOutcome {
        self.wait_for(cell, 10_000).await.expect("nobody else waits")
    }

    /// Waits for a cell.
    ///
    /// # Errors
    /// The refusal.
    pub async fn wait_for(
        &self,
        cell: &str,
        yield_time_ms: u64,
    ) -> Result<WaitOutcome, CodeModeError> {
        self.service.wait(WaitRequest { cell_id: cell.into(), yield_time_ms }).await
    }

    /// Parks a cell.
    pub async fn park(&self, cell: &str) -> Parked {
        self.service.park(cell.into()).await.unwrap_or_else(|error| panic!("{cell}: {error}"))
    }

    /// Wakes a parked cell with the calls that its caller has, up to its next response.
    pub async fn wake(&self, parked: Parked) -> RuntimeResponse {
        let request = WakeRequest { calls: parked.calls, ..WakeRequest::new(parked.cell) };
        self.service.wake(request).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a program and goes away before its first response is taken: the cell
    /// answers, and no caller receives it.
    pub async fn abandon(&self, source: &str) {
        let mut execution = Box::pin(self.service.execute(Self::request(source)));
        // Polled once, so that the cell is admitted; then the answer is on its way.
        assert!(timeout(Duration::ZERO, &mut execution).await.is_err());
        self.settle().await;
    }

    /// Lets every task that can run do so. In another process that takes a while.
    pub async fn settle(&self) {
        if !self.backends.share_the_clock() {
            tokio::time::sleep(ELSEWHERE).await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

/// A host that records what reaches it.
#[derive(Debug, Default)]
pub struct Host {
    /// Opens for calls of `gate`.
    pub gate: Notify,
    /// Says of all tools that they answer at once; without it, of some that do and some that
    /// do not.
    pub at_once: AtomicBool,
    log: Mutex<Vec<String>>,
    calls: Mutex<Vec<CodeModeNestedToolCall>>,
}

impl Host {
    /// What happened, in order: `call echo`, `returned echo`, `notify c text`, `closed 1`.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calls that arrived.
    pub fn calls(&self) -> Vec<CodeModeNestedToolCall> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a line to the log.
    pub fn note(&self, line: impl Into<String>) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }
}

/// Notes when a call's future is gone, however it went.
struct Returned<'a>(&'a Host, String);

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        self.0.note(std::mem::take(&mut self.1));
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
        self.note(format!("call {name}"));
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call.clone());
        let _returned = Returned(self, format!("returned {name}"));
        let input = call.input.map_or(Value::Null, ToolInput::into_value);
        match name.as_str() {
            "nap" => {
                let ms = input["ms"].as_u64().unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            "gate" => self.gate.notified().await,
            "hang" => cancellation.cancelled().await,
            "linger" => {
                cancellation.cancelled().await;
                tokio::time::sleep(LINGER).await;
            }
            "stone" => std::future::pending().await,
            "block" => std::thread::sleep(Duration::from_secs(2)),
            "panic" => panic!("a tool of the test panics"),
            "fail" => return Err(format!("failed: {input}")),
            "huge" => return Ok(json!("x".repeat(64 << 20)).into()),
            _ => {}
        }
        Ok(input.into())
    }

    fn answers_at_once(&self, tool: &ToolName) -> bool {
        self.at_once.load(Ordering::Relaxed)
            || matches!(tool.name.as_str(), "fail" | "panic" | "gate")
    }

    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.note(format!("resume {} {}", call.tool_name.name, call.runtime_tool_call_id));
        self.invoke_tool(call, cancellation).await
    }

    async fn notify(
        &self,
        call_id: String,
        _cell_id: CellId,
        text: String,
        cancellation: CancellationToken,
    ) -> Result<(), String> {
        self.note(format!("notify {call_id} {text}"));
        let _returned = Returned(self, format!("notified {text}"));
        match text.as_str() {
            "panic" => panic!("a notification of the test panics"),
            "slow" => tokio::time::sleep(LINGER).await,
            "hang" => cancellation.cancelled().await,
            _ => {}
        }
        Ok(())
    }

    fn cell_closed(&self, cell_id: &CellId) {
        self.note(format!("closed {cell_id}"));
    }
}

/// The texts of a response.
pub fn texts_of(response: &RuntimeResponse) -> Vec<String> {
    items_texts(response.content_items())
}

/// The texts of output.
pub fn items_texts(items: &[ContentItem]) -> Vec<String> {
    let text = |item: &ContentItem| match item {
        ContentItem::InputText { text } => text.clone(),
        other => panic!("not a text: {other:?}"),
    };
    items.iter().map(text).collect()
}

/// The error of a result.
pub fn error_of(response: &RuntimeResponse) -> Option<&str> {
    match response {
        RuntimeResponse::Result { error_text, .. } => error_text.as_deref(),
        other => panic!("not a result: {other:?}"),
    }
}

/// The response of a cell that lives or lived.
pub fn live(outcome: WaitOutcome) -> RuntimeResponse {
    match outcome {
        WaitOutcome::LiveCell(response) => response,
        WaitOutcome::MissingCell(response) => panic!("missing: {response:?}"),
    }
}

/// Asserts that a response is a yield with these texts.
pub fn assert_yielded(response: &RuntimeResponse, texts: &[&str]) {
    assert!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
    assert_eq!(texts_of(response), texts);
}

/// Asserts that a response is a success with these texts.
pub fn assert_completed(response: &RuntimeResponse, texts: &[&str]) {
    assert_eq!(error_of(response), None, "{response:?}");
    assert_eq!(texts_of(response), texts);
}

/// Asserts that a response is a termination with these texts.
pub fn assert_terminated(response: &RuntimeResponse, texts: &[&str]) {
    assert!(matches!(response, RuntimeResponse::Terminated { .. }), "{response:?}");
    assert_eq!(texts_of(response), texts);
}
