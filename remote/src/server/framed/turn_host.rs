//! A framed client as the turn host of its sessions.

use super::super::metrics::RunningCall;
use super::super::session::{CELL_PARKED, Session};
use super::Connection;
use crate::in_flight::NotInserted;
use crate::protocol::{
    CALL_CANCELLED, DelegateRequest, DelegateValue, HostMessage, MAX_VALUE_DEPTH,
    NOTIFICATION_CANCELLED, TOO_MANY_DELEGATES,
};
use async_trait::async_trait;
use cellblock::{CellId, CodeModeNestedToolCall, CodeModeTurnHost, Keeping, ToolResult};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Sends a session's nested calls and notifications to the client.
pub(super) struct ClientTurnHost {
    /// The connection holds the session, and the session this.
    connection: Weak<Connection>,
    session_id: String,
    session: Weak<Session>,
}

impl ClientTurnHost {
    pub(super) fn new(
        connection: &Arc<Connection>,
        session_id: &str,
        session: &Arc<Session>,
    ) -> Self {
        let (connection, session) = (Arc::downgrade(connection), Arc::downgrade(session));
        Self { connection, session_id: session_id.to_owned(), session }
    }

    /// Asks the client for something, until it answers, `cancellation`, or its cell was
    /// parked: the client goes on with it then.
    async fn delegate(
        &self,
        request: DelegateRequest,
        cell_id: &CellId,
        cancellation: CancellationToken,
        cancelled: &str,
    ) -> Result<DelegateValue, String> {
        let session = self.session.upgrade();
        let parked = session.as_ref().map(|session| session.parked(cell_id)).unwrap_or_default();
        let is_notification = matches!(request, DelegateRequest::Notify { .. });
        let abandoned = session.as_ref().filter(|_| is_notification);
        let abandoned = abandoned.map(|session| session.abandoned().clone()).unwrap_or_default();
        let _touched = Touched::new(&self.session, cell_id);
        let cancelled = || cancelled.to_owned();
        let connection = self.connection.upgrade().ok_or_else(cancelled)?;
        let (reply, answer) = oneshot::channel();
        let id = connection.last_delegate.fetch_add(1, Ordering::Relaxed) + 1;
        let _in_flight = connection.delegates.insert(id, reply).map_err(|why| match why {
            NotInserted::Full => TOO_MANY_DELEGATES.to_owned(),
            NotInserted::Closed | NotInserted::Duplicate => cancelled(),
        })?;
        let session_id = self.session_id.clone();
        let mut sent = false;
        let asking = async {
            connection.outbox.send(HostMessage::DelegateRequest { id, session_id, request }).await;
            sent = true;
            answer.await.unwrap_or_else(|_| Err(cancelled()))
        };
        let answered = tokio::select! {
            biased;
            answered = asking => Some(answered),
            () = parked.cancelled() => Some(Err(CELL_PARKED.to_owned())),
            () = abandoned.cancelled() => Some(Err(cancelled())),
            () = cancellation.cancelled() => None,
        };
        if answered.is_none() && sent {
            connection.outbox.send(HostMessage::DelegateCancel { id }).await;
        }
        answered.unwrap_or_else(|| Err(cancelled()))
    }
}

#[async_trait]
impl CodeModeTurnHost for ClientTurnHost {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.call(call, false, cancellation).await
    }

    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.call(call, true, cancellation).await
    }

    async fn notify(
        &self,
        call_id: String,
        cell_id: CellId,
        text: String,
        cancellation: CancellationToken,
    ) -> Result<(), String> {
        let cell = cell_id.clone();
        let request = DelegateRequest::Notify { call_id, cell_id, text };
        let cancelled = NOTIFICATION_CANCELLED;
        self.delegate(request, &cell, cancellation, cancelled).await.map(drop)
    }

    fn cell_closed(&self, cell_id: &CellId) {
        if let Some(session) = self.session.upgrade() {
            session.ended(cell_id);
        }
    }

    fn cell_kept(&self, cell_id: &CellId, keeping: Keeping) {
        if let Some(session) = self.session.upgrade() {
            session.kept(cell_id, keeping);
        }
    }
}

/// Something of a cell begins, and ends when this is dropped.
struct Touched(Weak<Session>, CellId);

impl Touched {
    fn new(session: &Weak<Session>, cell_id: &CellId) -> Self {
        let touched = Self(Weak::clone(session), cell_id.clone());
        touched.touch();
        touched
    }

    fn touch(&self) {
        if let Some(session) = self.0.upgrade() {
            session.touch(&self.1);
        }
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        self.touch();
    }
}

impl ClientTurnHost {
    async fn call(
        &self,
        invocation: CodeModeNestedToolCall,
        resumed: bool,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        if invocation.input.as_ref().is_some_and(|input| !input.is_shallow(MAX_VALUE_DEPTH)) {
            return Err(format!("tool input is nested more than {MAX_VALUE_DEPTH} levels deep"));
        }
        let _running = RunningCall::start();
        let cell_id = invocation.cell_id.clone();
        let request = DelegateRequest::InvokeTool { invocation, resumed };
        let cancelled = CALL_CANCELLED;
        match self.delegate(request, &cell_id, cancellation, cancelled).await? {
            DelegateValue::ToolResult { result } => ToolResult::from_json(Box::<str>::from(result))
                .map_err(|error| format!("tool result is {error}")),
            DelegateValue::NotificationDelivered {} => {
                Err("the client answered a tool call as if it were a notification".to_owned())
            }
        }
    }
}
