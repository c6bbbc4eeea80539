//! What the guest sends: output, notifications and nested calls.

use super::super::imports::GuestOutput;
use super::Cell;
use super::calls::CallEnd;
use crate::backend::{BoxFuture, CellEvent, CodeModeNestedToolCall, ToolInput};
use crate::cells::{Charge, PendingCalls};
use crate::tools::ToolName;
use std::sync::Arc;

impl Cell {
    /// Takes what the guest sent since the last turn.
    pub(super) fn take_output(&mut self) {
        for output in self.outbox.take() {
            match output {
                GuestOutput::Item(item, charge) => {
                    self.monitored.send(CellEvent::Output(&item));
                    self.content.push(item, charge);
                    self.items += 1;
                }
                GuestOutput::Notification(text, charge) => self.notify(text, charge),
                GuestOutput::Yield => {
                    // An observer of the frontier is not interested.
                    if self.observer.as_ref().is_some_and(|observer| observer.deadline.is_some()) {
                        self.answer_yield();
                    }
                }
                GuestOutput::Call { id, tool, input, charge } => self.call(id, tool, input, charge),
            }
        }
    }

    pub(super) fn notify(&mut self, text: String, charge: Charge) {
        self.monitored.send(CellEvent::Notification(&text));
        let (request, token) =
            (self.request.tool_call_id.clone(), self.callbacks.notifications_token().clone());
        let delivered = move |_| -> BoxFuture<'static, ()> {
            drop(charge);
            Box::pin(std::future::ready(()))
        };
        self.callbacks.notify(request, text, token, Box::new(delivered));
    }

    pub(super) fn call(&mut self, id: u64, tool: usize, input: Option<String>, charge: Charge) {
        self.calls_since_frontier.push(id);
        let refuse = |cell: &mut Self, why: String| {
            cell.outbox.status.call_ended();
            cell.events.call_ended(CallEnd::failed(id, &why));
        };
        // The guest is not trusted: what is sent on as JSON must be JSON.
        let input = match input.map(ToolInput::from_json).transpose() {
            Ok(input) => input,
            Err(error) => {
                refuse(self, format!("failed to serialize JavaScript value: {error}"));
                return;
            }
        };
        self.recent_calls
            .made(id, self.request.enabled_tools.get(tool).map(|tool| &tool.tool_name));
        self.nested_call(id, tool, input, charge, None);
    }

    /// Starts a nested call, or goes on with one that was pending when the cell was parked.
    pub(super) fn nested_call(
        &mut self,
        id: u64,
        place: usize,
        input: Option<ToolInput>,
        charge: Charge,
        resumed: Option<&mut PendingCalls>,
    ) {
        let tools = &self.request.enabled_tools;
        let is_allowed =
            |tool: &ToolName| self.allowed.as_ref().is_none_or(|all| all.contains(tool));
        let Some(tool) = tools.get(place).filter(|tool| is_allowed(&tool.tool_name)) else {
            self.outbox.status.call_ended();
            let end = CallEnd::failed(id, "code mode nested tool is unknown");
            self.recent_calls.ended(&end);
            self.events.call_ended(end);
            return;
        };
        self.pending.insert(id, (place, input.clone()));
        let call = CodeModeNestedToolCall {
            cell_id: self.id.clone(),
            runtime_tool_call_id: format!("tool-{id}"),
            tool_name: tool.tool_name.clone(),
            tool_kind: tool.kind,
            input,
        };
        if resumed.is_none() {
            self.monitored.send(CellEvent::CallStarted(&call));
        }
        let (account, limit) = (Arc::clone(&self.outbox.account), self.limits.result_bytes);
        let token = self.callbacks.calls_token().clone();
        let finish = move |result| {
            // The input is gone.
            drop(charge);
            std::future::ready(CallEnd::new(id, result, limit, &account))
        };
        match resumed {
            Some(pending) => self.callbacks.resume(call, pending, token, finish),
            None => self.callbacks.call(call, token, finish),
        }
    }

    pub(super) fn call_ended(&mut self, end: CallEnd) {
        // Whatever else has ended by now goes into the same batch.
        let mut next = Some(end);
        while let Some(end) = next {
            self.outbox.status.call_ended();
            self.pending.remove(&end.id);
            self.recent_calls.ended(&end);
            self.monitored.call_ended(&end);
            self.events.call_ended(end);
            next = self.callbacks.try_next();
        }
    }
}
