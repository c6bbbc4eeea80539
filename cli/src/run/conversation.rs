//! The conversation with one script: waiting for it, and noticing that it waits for what
//! comes later, or never.

use super::host::Host;
use super::printer::Printer;
use super::report::Report;
use super::signals::Signals;
use super::{Ended, POLL_MS, Start};
use crate::Exit;
use anyhow::Result;
use cellblock::type_check::{TypeChecker, TypeReport};
use cellblock::{
    CellId, CellReport, CellState, CodeModeError, CodeModeService, ParkError, ParkedCall,
    RuntimeResponse, WaitRequest, WakeRequest, WasmBackend,
};
use std::time::Duration;

/// How often the run looks what the script waits for.
const LOOK: Duration = Duration::from_millis(10);

/// The conversation with one script.
pub struct Conversation<'a> {
    pub service: &'a CodeModeService,
    pub backend: &'a WasmBackend,
    pub host: &'a Host,
    /// Checks the types of a script first.
    pub checker: Option<&'a TypeChecker>,
    pub printer: &'a Printer,
}

/// What the script does.
enum News {
    /// It has ended.
    Ended(RuntimeResponse),
    /// It waits for nothing but calls of deferred tools.
    Deferred,
    /// It waits for what cannot come, at this place.
    Stuck(Option<String>),
    Signal(Exit),
}

impl Conversation<'_> {
    /// Runs the script to its end, printing as it goes, or parks it. A signal ends it.
    pub async fn run(
        &self,
        start: Start,
        parks: bool,
        report: &mut Report,
        signals: &mut Signals,
    ) -> Result<Ended> {
        let mut cell_id = self.service.allocate_cell_id()?;
        let types = tokio::select! {
            types = self.types(&start) => types,
            signal = signals.received() => {
                let response = self.service.terminate(cell_id).await?.into();
                return Ok(Ended::Response(response, Some(signal)));
            }
        };
        if let Some(refusal) = types.refusal() {
            let (content_items, report) = (Vec::new(), CellReport::default());
            let error_text = Some(refusal);
            let refused = RuntimeResponse::Result { cell_id, content_items, error_text, report };
            return Ok(Ended::Response(refused, None));
        }
        let mut start = Some(start);
        loop {
            let news = tokio::select! {
                response = self.responses(&cell_id, &mut start, report) => News::Ended(response?),
                place = self.service.until_stuck(&cell_id, LOOK) => News::Stuck(place),
                () = self.deferred(), if parks => News::Deferred,
                signal = signals.received() => News::Signal(signal),
            };
            match news {
                News::Ended(mut response) => {
                    types.annotate(&mut response);
                    return Ok(Ended::Response(response, None));
                }
                News::Stuck(place) => {
                    let response: RuntimeResponse = self.service.terminate(cell_id).await?.into();
                    return Ok(Ended::Response(response.unsettled(place), None));
                }
                News::Signal(signal) => {
                    let response = self.service.terminate(cell_id).await?.into();
                    return Ok(Ended::Response(response, Some(signal)));
                }
                News::Deferred => {}
            }
            // What it has said so far is printed here, and not by the one that wakes it.
            let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: 0 };
            match self.service.wait(wait).await?.into() {
                RuntimeResponse::Yielded { content_items, .. } => report.content(content_items),
                ended => return Ok(Ended::Response(ended, None)),
            }
            let parked = match self.service.park(cell_id.clone()).await {
                // It went on meanwhile, and its result is there.
                Err(CodeModeError::Park(ParkError::Ended(_))) => continue,
                parked => parked?,
            };
            let info = self.backend.parked_info(&parked.cell)?;
            let is_deferred = |call: &ParkedCall| self.host.is_deferred(&call.tool_name.name);
            // A timer that is due fires, however soon the script was parked.
            let is_due = parked.wakes_in.is_some_and(|left| left.is_zero());
            if !is_due && info.calls.iter().all(is_deferred) {
                return Ok(Ended::Parked(parked.cell, info));
            }
            // It has made another call in the last moment: that one is waited for.
            let request = WakeRequest {
                calls: parked.calls,
                yield_time_ms: Some(POLL_MS),
                ..WakeRequest::new(parked.cell)
            };
            cell_id = self.service.allocate_cell_id()?;
            start = Some(Start::Parked(request));
        }
    }

    /// What the compiler says of the script's types, where they are checked.
    async fn types(&self, start: &Start) -> TypeReport {
        let (Some(checker), Start::Script(request)) = (self.checker, start) else {
            return TypeReport::default();
        };
        checker.check(&request.source, request.language).await.unwrap_or_else(|error| {
            self.printer.error(format!("cellblock: types were not checked: {error}"));
            TypeReport::default()
        })
    }

    /// Prints responses up to the last one.
    async fn responses(
        &self,
        cell_id: &CellId,
        start: &mut Option<Start>,
        report: &mut Report,
    ) -> Result<RuntimeResponse> {
        let mut next = start.take();
        loop {
            let id = cell_id.clone();
            let response = match next.take() {
                Some(Start::Script(request)) => self.service.execute_as(id, request).await?,
                Some(Start::Parked(request)) => self.service.wake_as(id, request).await?,
                None => {
                    let wait = WaitRequest { cell_id: id, yield_time_ms: POLL_MS };
                    self.service.wait(wait).await?.into()
                }
            };
            match response {
                RuntimeResponse::Yielded { content_items, .. } => report.content(content_items),
                ended => return Ok(ended),
            }
        }
    }

    /// Returns when the script waits for calls of deferred tools alone.
    async fn deferred(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let deferred = self.host.deferred();
            let waits = |cell: &cellblock::CellInfo| {
                cell.state == CellState::Waiting && cell.calls_in_flight == deferred
            };
            if deferred > 0 && self.service.cells().iter().any(waits) {
                return;
            }
        }
    }
}
