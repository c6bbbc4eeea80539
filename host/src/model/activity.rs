//! What the cells of a session wait for at their host.

use super::names::code_mode_name;
use crate::backend::{CellId, CodeModeNestedToolCall, CodeModeTurnHost, ToolResult};
use crate::support::lock;
use crate::tools::{ToolName, normalize_identifier};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Calls that a description names; others are counted.
const NAMED_CALLS: usize = 3;

/// What the cells of a session wait for: the calls that the host serves, since when, and
/// what somebody is asked to approve. A shared handle, as every clone sees the same.
///
/// ```
/// use cellblock::{*, model::CellActivity};
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
/// let activity = CellActivity::default();
/// // Serve the turn through it: service.start_turn_worker(host)
/// let host: Arc<dyn CodeModeTurnHost> = activity.watch(Arc::new(Tools));
///
/// let cell = CellId::from("1");
/// assert_eq!(activity.describe(&cell), None);
/// let asked = activity.ask_approval(&cell, "deploy to production");
/// assert_eq!(
///     activity.describe(&cell).unwrap(),
///     "waiting for approval: deploy to production"
/// );
/// drop(asked);
/// ```
#[derive(Clone, Debug, Default)]
pub struct CellActivity(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cells: Mutex<Cells>,
    /// Somebody has been asked to approve something.
    asked: Notify,
}

#[derive(Debug, Default)]
struct Cells {
    /// What the cells wait for, in the order in which it began.
    waiting: HashMap<CellId, BTreeMap<u64, Waiting>>,
    /// Number of the last thing to wait for.
    last: u64,
}

#[derive(Debug)]
enum Waiting {
    Call {
        tool: String,
        since: Instant,
    },
    Approval {
        question: String,
        /// An answer to the model has named it.
        named: bool,
    },
}

impl CellActivity {
    /// A host that serves through `host` and lets this handle see its calls.
    pub fn watch(&self, host: Arc<dyn CodeModeTurnHost>) -> Arc<dyn CodeModeTurnHost> {
        Arc::new(Watched { host, activity: self.clone() })
    }

    /// A person is asked to approve what a cell does, until the guard is dropped. A caller that
    /// waits for the cell by a [`WaitPolicy`](super::WaitPolicy) is answered at once.
    pub fn ask_approval(&self, cell_id: &CellId, question: impl Into<String>) -> ApprovalAsked {
        let approval = Waiting::Approval { question: question.into(), named: false };
        let entry = self.begin(cell_id, approval);
        self.0.asked.notify_waiters();
        ApprovalAsked(entry)
    }

    /// What a cell waits for, such as `waiting for tools.ci__run, 41 s`; `None` when that is
    /// nothing at its host.
    pub fn describe(&self, cell_id: &CellId) -> Option<String> {
        let cells = self.lock();
        let waiting = cells.waiting.get(cell_id)?;
        let mut approvals = Vec::new();
        let mut calls = Vec::new();
        for each in waiting.values() {
            match each {
                Waiting::Approval { question, .. } => {
                    approvals.push(format!("approval: {question}"));
                }
                Waiting::Call { tool, since } => {
                    calls.push(format!("tools.{tool}, {} s", since.elapsed().as_secs()));
                }
            }
        }
        let unnamed = calls.len().saturating_sub(NAMED_CALLS);
        calls.truncate(NAMED_CALLS);
        let mut parts: Vec<_> = approvals.into_iter().chain(calls).collect();
        if unnamed > 0 {
            parts.push(format!("{unnamed} more calls"));
        }
        (!parts.is_empty()).then(|| format!("waiting for {}", parts.join("; ")))
    }

    /// Returns when something of the cell's is to be approved that no answer has named yet.
    pub(super) async fn approval_asked(&self, cell_id: &CellId) {
        loop {
            let asked = self.0.asked.notified();
            tokio::pin!(asked);
            // From here on no question is missed.
            asked.as_mut().enable();
            if self.has_unnamed(cell_id) {
                return;
            }
            asked.await;
        }
    }

    fn has_unnamed(&self, cell_id: &CellId) -> bool {
        let cells = self.lock();
        let unnamed = |each: &Waiting| matches!(each, Waiting::Approval { named: false, .. });
        cells.waiting.get(cell_id).is_some_and(|waiting| waiting.values().any(unnamed))
    }

    /// An answer names what is to be approved.
    pub(super) fn approvals_named(&self, cell_id: &CellId) {
        let mut cells = self.lock();
        for each in cells.waiting.get_mut(cell_id).into_iter().flat_map(BTreeMap::values_mut) {
            if let Waiting::Approval { named, .. } = each {
                *named = true;
            }
        }
    }

    fn begin(&self, cell_id: &CellId, waiting: Waiting) -> Entry {
        let mut cells = self.lock();
        cells.last += 1;
        let number = cells.last;
        cells.waiting.entry(cell_id.clone()).or_default().insert(number, waiting);
        Entry { activity: self.clone(), cell_id: cell_id.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Cells> {
        lock(&self.0.cells)
    }
}

/// Somebody is asked to approve something; dropping it says that they have answered.
#[must_use = "dropping it says that the question has been answered"]
#[derive(Debug)]
pub struct ApprovalAsked(#[expect(dead_code, reason = "it is there to be dropped")] Entry);

/// Something that a cell waits for, until it is dropped.
#[derive(Debug)]
struct Entry {
    activity: CellActivity,
    cell_id: CellId,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut cells = self.activity.lock();
        if let Some(waiting) = cells.waiting.get_mut(&self.cell_id) {
            waiting.remove(&self.number);
            if waiting.is_empty() {
                cells.waiting.remove(&self.cell_id);
            }
        }
    }
}

/// A turn's host whose calls are seen.
struct Watched {
    host: Arc<dyn CodeModeTurnHost>,
    activity: CellActivity,
}

impl Watched {
    /// A call begins: until the entry is dropped, its cell waits for it.
    fn begin(&self, call: &CodeModeNestedToolCall) -> Entry {
        let tool = normalize_identifier(&code_mode_name(&call.tool_name));
        self.activity.begin(&call.cell_id, Waiting::Call { tool, since: Instant::now() })
    }
}

#[async_trait]
impl CodeModeTurnHost for Watched {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let _entry = self.begin(&call);
        self.host.invoke_tool(call, cancellation).await
    }

    fn answers_at_once(&self, tool: &ToolName) -> bool {
        self.host.answers_at_once(tool)
    }

    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let _entry = self.begin(&call);
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
