//! Nested calls of a parked cell: they stay with the caller until the cell is woken.

use crate::backend::ToolResult;
use crate::support::CALL_CANCELLED;
use crate::tools::ToolName;
use futures_util::future::Shared;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The end of a nested call: what its promise is settled with.
pub(super) type CallResult = Result<ToolResult, String>;

/// Nested calls that have not ended, of a cell that was parked. Those that run go on until
/// this is dropped, which cancels them.
///
/// ```
/// use cellblock::PendingCalls;
///
/// // The ends of calls that some other process has taken up.
/// let mut calls = PendingCalls::default();
/// calls.insert("tool-1", Ok(serde_json::json!("approved").into()));
/// calls.insert("tool-2", Err("nobody answered".to_owned()));
/// assert_eq!(calls.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["tool-1", "tool-2"]);
/// ```
#[derive(Default)]
pub struct PendingCalls {
    /// By `runtime_tool_call_id`, in the order of the calls.
    calls: BTreeMap<Key, Pending>,
    /// The tasks of calls that run on: they are dropped with this.
    running: Vec<Arc<Running>>,
}

/// `tool-1`, `tool-2`, ... `tool-10` in this order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key(usize, Arc<str>);

impl Key {
    fn new(id: impl Into<Arc<str>>) -> Self {
        let id = id.into();
        Self(id.len(), id)
    }
}

struct Pending {
    tool: Option<ToolName>,
    end: PendingEnd,
}

/// Where the end of a call comes from.
#[derive(Clone)]
pub(super) enum PendingEnd {
    /// It is known.
    Known(CallResult),
    /// The turn's host is asked for it.
    Resumed,
    /// A task of the parked cell's sends it.
    Running(Shared<oneshot::Receiver<CallResult>>, Arc<Running>),
}

/// The tasks of calls that run on.
pub(super) struct Running {
    /// Cancelled before the tasks are dropped.
    cancellation: CancellationToken,
    /// Dropped, they end where they await. Empty until the cell is parked for good.
    tasks: OnceLock<Box<dyn Send + Sync>>,
}

impl Running {
    pub(super) fn new(cancellation: CancellationToken) -> Arc<Self> {
        Arc::new(Self { cancellation, tasks: OnceLock::new() })
    }

    /// The tasks are the caller's from here on.
    pub(super) fn hand_over(&self, tasks: Box<dyn Send + Sync>) {
        // Once: a cell is parked once.
        let _ = self.tasks.set(tasks);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.tasks.get().is_some() {
            self.cancellation.cancel();
        }
    }
}

impl PendingCalls {
    /// Calls that run on, by their ids.
    pub(super) fn running(
        running: &Arc<Running>,
        calls: impl IntoIterator<Item = (Arc<str>, ToolName, PendingEnd)>,
    ) -> Self {
        let calls = calls
            .into_iter()
            .map(|(id, tool, end)| (Key::new(id), Pending { tool: Some(tool), end }));
        Self { calls: calls.collect(), running: vec![Arc::clone(running)] }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The calls in the order in which they were made: their `runtime_tool_call_id`, and their
    /// tool where it is known.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&ToolName>)> {
        self.calls.iter().map(|(Key(_, id), call)| (&**id, call.tool.as_ref()))
    }

    /// Inserts the end of a call, in place of the call if it runs.
    pub fn insert(
        &mut self,
        runtime_tool_call_id: impl Into<Arc<str>>,
        end: Result<ToolResult, String>,
    ) {
        let pending = Pending { tool: None, end: PendingEnd::Known(end) };
        self.calls.insert(Key::new(runtime_tool_call_id), pending);
    }

    /// Inserts a call whose end the turn's host has, or will have.
    pub fn expect(&mut self, runtime_tool_call_id: impl Into<Arc<str>>) {
        let pending = Pending { tool: None, end: PendingEnd::Resumed };
        self.calls.insert(Key::new(runtime_tool_call_id), pending);
    }

    /// Waits until every call has ended, and returns their ends in the order of the calls.
    pub async fn ends(mut self) -> Vec<(String, Result<ToolResult, String>)> {
        let mut ends = Vec::new();
        while let Some((Key(_, id), call)) = self.calls.pop_first() {
            ends.push((id.to_string(), call.end.receive(&CancellationToken::new()).await));
        }
        ends
    }

    /// Asks the calls that run to end.
    pub fn cancel(&self) {
        for running in &self.running {
            running.cancellation.cancel();
        }
        // Those of earlier lives of the cell.
        for call in self.calls.values() {
            if let PendingEnd::Running(_, running) = &call.end {
                running.cancellation.cancel();
            }
        }
    }

    /// Adds the calls of `other`, in place of those with the same ids.
    pub fn append(&mut self, mut other: Self) {
        self.calls.append(&mut other.calls);
        self.running.append(&mut other.running);
    }

    /// Returns once the end of a call is known; never where none will be. Dropped, it loses
    /// nothing.
    pub async fn any_ended(&mut self) {
        std::future::poll_fn(|context| {
            let mut is_known = false;
            for Pending { end, .. } in self.calls.values_mut() {
                if let PendingEnd::Running(running, _) = end
                    && let Poll::Ready(received) = Pin::new(running).poll(context)
                {
                    *end = PendingEnd::Known(received.unwrap_or_else(|_| cancelled()));
                }
                is_known |= matches!(end, PendingEnd::Known(_));
            }
            if is_known { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Takes a call out.
    pub(super) fn take(&mut self, id: &str) -> Option<PendingEnd> {
        let end = self.calls.remove(&Key::new(id))?.end;
        (!matches!(end, PendingEnd::Resumed)).then_some(end)
    }
}

impl PendingEnd {
    /// The same, if a task is to send it.
    pub(super) fn running(&self) -> Option<Self> {
        matches!(self, Self::Running(..)).then(|| self.clone())
    }

    /// The end. The call is asked to end when `cancellation` is.
    pub(super) async fn receive(self, cancellation: &CancellationToken) -> CallResult {
        let (mut end, running) = match self {
            Self::Known(end) => return end,
            Self::Resumed => return cancelled(),
            Self::Running(end, running) => (end, running),
        };
        let received = tokio::select! {
            biased;
            received = &mut end => received,
            () = cancellation.cancelled() => {
                running.cancellation.cancel();
                end.await
            }
        };
        received.unwrap_or_else(|_| cancelled())
    }
}

/// The end of a call whose task was dropped.
fn cancelled() -> CallResult {
    Err(CALL_CANCELLED.to_owned())
}

impl fmt::Debug for PendingCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// A call that runs, and what ends it.
    fn running(id: &str) -> (PendingCalls, oneshot::Sender<CallResult>) {
        let (sender, end) = oneshot::channel();
        let running = Running::new(CancellationToken::new());
        let end = PendingEnd::Running(end.shared(), Arc::clone(&running));
        (PendingCalls::running(&running, [(id.into(), ToolName::plain("t"), end)]), sender)
    }

    #[tokio::test]
    async fn the_end_of_any_call_is_noticed_and_not_lost() {
        let (mut calls, first) = running("tool-1");
        let (more, second) = running("tool-10");
        calls.append(more);
        calls.expect("tool-2");
        assert!(calls.any_ended().now_or_never().is_none());
        second.send(Ok(serde_json::json!(10).into())).unwrap();
        calls.any_ended().await;
        // It is known from then on.
        assert!(calls.any_ended().now_or_never().is_some());
        drop(first);
        let ends = calls.ends().await;
        let ids: Vec<_> = ends.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["tool-1", "tool-2", "tool-10"]);
        assert_eq!(ends[0].1, cancelled());
        assert_eq!(ends[2].1, Ok(serde_json::json!(10).into()));
    }

    #[test]
    fn calls_of_every_life_of_a_cell_are_cancelled() {
        let (mut calls, _first) = running("tool-1");
        let (more, _second) = running("tool-2");
        calls.append(more);
        calls.cancel();
        assert!(calls.running.iter().all(|running| running.cancellation.is_cancelled()));
    }
}
