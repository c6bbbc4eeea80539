//! What a session offers its cells: the tools of the servers, each call authorised by itself.

use crate::approval::{Approvals, question};
use crate::catalog::{Catalog, Target, cut};
use crate::flow::Flow;
use crate::policy::Action;
use crate::prelude::{failure, without_prelude};
use crate::upstream::{CallError, Progress, ProgressSink};
use async_trait::async_trait;
use cellblock::model::CellActivity;
use cellblock::support::{CALL_CANCELLED, lock};
use cellblock::{
    CellId, CodeModeNestedToolCall, CodeModeTurnHost, ContentItem, ToolInput, ToolResult,
};
use cellblock_inspect::Recording;
use serde_json::{Map, Value};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use tokio_util::sync::CancellationToken;

/// Levels to which the arguments of a call nest.
const ARGUMENT_DEPTH: usize = 100;
/// Characters of a message of progress that are passed on.
const PROGRESS_CHARS: usize = 1_000;
/// Bytes of notifications that are kept until the next answer, the last ones.
const NOTIFICATION_BYTES: usize = 64 << 10;

/// Serves the cells of one session.
pub(crate) struct SessionHost {
    cells: Mutex<HashMap<CellId, Arc<Cell>>>,
    activity: CellActivity,
    flow: Arc<Flow>,
}

/// The same as the contract has it.
#[derive(Clone)]
pub(crate) struct TurnHost(pub(crate) Arc<SessionHost>);

/// What is kept of a cell beside its backend.
pub(crate) struct Cell {
    pub(crate) catalog: Arc<Catalog>,
    /// What the program asks for that is not there, for the model if it fails.
    pub(crate) unknown: Option<String>,
    pub(crate) approvals: Approvals,
    /// What people look at, where anybody may.
    recording: OnceLock<Recording>,
    audience: Mutex<Audience>,
    /// Output that was fetched and is part of the next answer.
    carried: Mutex<Vec<ContentItem>>,
    /// What the program sent with `notify` since the last answer.
    notifications: Mutex<Notifications>,
}

/// Notifications that wait for the next answer.
#[derive(Default)]
struct Notifications {
    texts: VecDeque<String>,
    bytes: usize,
    /// Some did not fit.
    dropped: bool,
}

/// Who waits for a cell at the moment.
#[derive(Clone, Default)]
pub(crate) struct Audience {
    /// Receives the progress of its calls.
    pub(crate) progress: Option<ProgressSink>,
    /// A person can be asked to approve calls.
    pub(crate) can_ask: bool,
}

impl Cell {
    pub(crate) fn new(catalog: Arc<Catalog>, code: &str, audience: Audience) -> Self {
        Self {
            unknown: catalog.unknown_names(code),
            catalog,
            approvals: Approvals::default(),
            recording: OnceLock::new(),
            audience: Mutex::new(audience),
            carried: Mutex::default(),
            notifications: Mutex::default(),
        }
    }

    /// Shows people what the cell does; before it starts.
    pub(crate) fn set_recording(&self, recording: Recording) {
        // It is set once.
        let _ = self.recording.set(recording);
    }

    /// What people look at.
    pub(crate) fn recording(&self) -> Option<&Recording> {
        self.recording.get()
    }

    /// Somebody else waits for the cell from here on.
    pub(crate) fn set_audience(&self, audience: Audience) {
        *lock(&self.audience) = audience;
    }

    /// Sends progress to nobody once what is returned is dropped.
    pub(crate) fn until_answered(&self) -> Followed<'_> {
        Followed(self)
    }

    /// Keeps output for the next answer.
    pub(crate) fn carry(&self, items: Vec<ContentItem>) {
        lock(&self.carried).extend(items);
    }

    /// The output that was kept.
    pub(crate) fn carried(&self) -> Vec<ContentItem> {
        std::mem::take(&mut lock(&self.carried))
    }

    /// What was notified since the last answer.
    pub(crate) fn notifications(&self) -> Vec<String> {
        let Notifications { texts, dropped, .. } = std::mem::take(&mut *lock(&self.notifications));
        let dropped = dropped.then(|| "(earlier ones were dropped)".to_owned());
        dropped.into_iter().chain(texts).collect()
    }

    fn notified(&self, text: String) {
        let mut kept = lock(&self.notifications);
        kept.bytes += text.len();
        kept.texts.push_back(text);
        while kept.bytes > NOTIFICATION_BYTES
            && let Some(oldest) = kept.texts.pop_front()
        {
            kept.bytes -= oldest.len();
            kept.dropped = true;
        }
    }

    fn audience(&self) -> Audience {
        lock(&self.audience).clone()
    }

    fn report(&self, progress: Progress) {
        if let Some(sink) = self.audience().progress {
            sink(progress);
        }
    }
}

/// Somebody follows a cell's progress, until this is dropped.
pub(crate) struct Followed<'a>(&'a Cell);

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        lock(&self.0.audience).progress = None;
    }
}

impl SessionHost {
    pub(crate) fn new(activity: CellActivity, flow: Arc<Flow>) -> Self {
        Self { cells: Mutex::default(), activity, flow }
    }

    /// Keeps a cell that is about to start.
    pub(crate) fn insert(&self, id: CellId, cell: Arc<Cell>) {
        lock(&self.cells).insert(id, cell);
    }

    /// Forgets cells whose end nobody has asked for, and nobody can any more. `is_known` says
    /// of which something is still there.
    pub(crate) fn retain(&self, is_known: impl Fn(&CellId) -> bool) {
        let mut cells = lock(&self.cells);
        cells.retain(|id, cell| Arc::strong_count(cell) > 1 || is_known(id));
    }

    /// How many cells it keeps.
    pub(crate) fn len(&self) -> usize {
        lock(&self.cells).len()
    }

    /// Forgets a cell.
    pub(crate) fn remove(&self, id: &CellId) {
        lock(&self.cells).remove(id);
    }

    /// A cell.
    pub(crate) fn cell(&self, id: &CellId) -> Option<Arc<Cell>> {
        lock(&self.cells).get(id).cloned()
    }

    /// Asks whoever must be asked. The error is for the program.
    async fn authorise(
        &self,
        id: &CellId,
        cell: &Arc<Cell>,
        target: &Target,
        arguments: Option<&Map<String, Value>>,
        cancellation: &CancellationToken,
    ) -> Result<(), String> {
        let tool = target.shown();
        let flows = target.sink && self.flow.has_read(id);
        let why = match target.action {
            Action::Deny => return Err(format!("the policy of this server refuses {tool}")),
            Action::Allow if !flows => return Ok(()),
            _ if flows => " (the program has read text of an untrusted source)",
            _ => "",
        };
        // Who looks at the page can be asked there.
        if !cell.audience().can_ask && cell.recording().is_none() {
            return Err(format!(
                "{tool} needs the approval of a person{why}, and this client cannot be asked for \
                 it. The call was not made. The user can allow it with a rule in the configuration"
            ));
        }
        let text = question(&tool, arguments, why);
        let Some(answered) = cell.approvals.put(&text) else {
            return Err(format!("{tool} was not called: too many calls wait for approval"));
        };
        let _asked = self.activity.ask_approval(id, tool.clone());
        let shown = cell.recording().map(|recording| {
            let (cell, name) = (Arc::downgrade(cell), answered.name().to_owned());
            recording.ask(&text, move |approved| {
                cell.upgrade().is_some_and(|cell| cell.approvals.answer(&name, approved))
            })
        });
        let answer = tokio::select! {
            answer = answered.answer() => answer,
            () = cancellation.cancelled() => return Err(CALL_CANCELLED.to_owned()),
        };
        if let (Some(shown), Some(approved)) = (shown, answer) {
            shown.answered(approved);
        }
        match answer {
            Some(true) => Ok(()),
            Some(false) => Err(format!("the user refused {tool}; it was not called")),
            None => Err(format!("nobody answered whether {tool} may be called; it was not")),
        }
    }

    async fn call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: &CancellationToken,
    ) -> Result<ToolResult, String> {
        let plain = |message: &str| failure(message, None);
        let cell = self.cell(&call.cell_id).ok_or_else(|| plain("the cell has ended"))?;
        let target = cell
            .catalog
            .target(&call.tool_name)
            .ok_or_else(|| plain("there is no such tool any more"))?;
        let arguments = call.input.map(arguments).transpose().map_err(|e| plain(&e))?.flatten();
        self.authorise(&call.cell_id, &cell, target, arguments.as_ref(), cancellation)
            .await
            .map_err(|error| plain(&error))?;
        let sink: ProgressSink = {
            let cell = Arc::clone(&cell);
            let tool = target.shown();
            Arc::new(move |mut progress: Progress| {
                let said = progress.message.take().unwrap_or_else(|| match progress.total {
                    Some(total) => format!("{} of {total}", progress.done),
                    None => progress.done.to_string(),
                });
                progress.message = Some(format!("{tool}: {}", cut(&said, PROGRESS_CHARS)));
                cell.report(progress);
            })
        };
        let returned = target.server.call(&target.tool, arguments, cancellation, sink).await;
        if target.untrusted {
            // Before the program can see anything of it.
            self.flow.read(&call.cell_id);
        }
        match returned {
            Ok(returned) if returned.is_error => {
                let said = said(&returned.whole);
                let message = format!("{} reported an error: {said}", target.shown());
                Err(failure(&message, Some(returned.whole)))
            }
            Ok(returned) => Ok(returned.structured.unwrap_or(returned.whole).into()),
            Err(CallError::Cancelled) => Err(CALL_CANCELLED.to_owned()),
            Err(error) => {
                let mut message = format!("{}: {error}", target.shown());
                if let CallError::Refused { bad_arguments: true, .. } = error
                    && let Some(declaration) = cell.catalog.declaration_of(&call.tool_name)
                {
                    message = format!("{message}\n\n{declaration}");
                }
                Err(plain(&message))
            }
        }
    }
}

#[async_trait]
impl CodeModeTurnHost for TurnHost {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let host = &self.0;
        let cell = host.cell(&call.cell_id);
        if let Some(cell) = &cell
            && let Some(scripts) = cell.catalog.script(&call.tool_name)
        {
            // What a script calls comes back here, as calls of the cell that called it.
            let served = scripts.serve(Arc::new(self.clone()));
            let ran = served.invoke_tool(call, cancellation).await;
            let prelude = cell.catalog.prelude.len();
            return ran.map_err(|error| failure(&without_prelude(&error, prelude), None));
        }
        host.call(call, &cancellation).await
    }

    async fn notify(
        &self,
        _call_id: String,
        cell_id: CellId,
        text: String,
        _cancellation: CancellationToken,
    ) -> Result<(), String> {
        if let Some(cell) = self.0.cell(&cell_id) {
            let message = Some(cut(&text, PROGRESS_CHARS));
            cell.report(Progress { done: 0.0, total: None, message });
            // Not every model reads progress, so the next answer has it as well.
            cell.notified(text);
        }
        Ok(())
    }
}

/// The arguments of a call: one object, or none.
fn arguments(input: ToolInput) -> Result<Option<Map<String, Value>>, String> {
    if !input.is_shallow(ARGUMENT_DEPTH) {
        return Err(format!("the arguments nest deeper than {ARGUMENT_DEPTH} levels"));
    }
    match input.into_value() {
        Value::Null => Ok(None),
        Value::Object(members) => Ok(Some(members)),
        _ => Err("a tool takes one object, as its declaration says".to_owned()),
    }
}

/// The text of a result.
fn said(result: &Value) -> String {
    let blocks = result["content"].as_array().into_iter().flatten();
    let texts: Vec<_> = blocks.filter_map(|block| block["text"].as_str()).collect();
    if texts.is_empty() { "it gave no reason".to_owned() } else { texts.join("\n") }
}
