//! What a client gets of a cell: content blocks, and the same as one object.

use crate::approval::Question;
use crate::catalog::millis;
use cellblock::model::{Notes, OutputOptions, Waited, show, truncate_items};
use cellblock::{
    CallEnd, CellId, CellReport, ContentItem, ProgramValue, RuntimeResponse, WaitOutcome,
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The answer to a call of one of this server's tools.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is answered.
    Done(Output),
    /// A person has to be asked, and the call sent again with the answers.
    InputRequired {
        /// The questions.
        questions: Vec<Question>,
        /// What the call is sent again with.
        state: String,
    },
    /// The program goes on as a task.
    Task {
        /// The task's id.
        name: String,
        /// When it was made.
        created: SystemTime,
    },
}

/// A result of a tool.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Content blocks.
    pub(crate) content: Value,
    /// The same as an object.
    pub(crate) structured: Option<Value>,
    /// It says what went wrong.
    pub(crate) is_error: bool,
}

impl Output {
    /// A text that says what went wrong.
    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self {
            content: json!([{ "type": "text", "text": text.into() }]),
            structured: None,
            is_error: true,
        }
    }

    /// Whether there is more than text in it.
    pub(crate) fn has_media(&self) -> bool {
        self.content
            .as_array()
            .is_some_and(|blocks| blocks.iter().any(|block| block["type"] != "text"))
    }

    /// Bytes of it as JSON.
    pub(crate) fn byte_len(&self) -> usize {
        let structured = self.structured.as_ref().map_or(0, |value| value.to_string().len());
        self.content.to_string().len() + structured
    }

    /// A text and an object.
    pub(crate) fn new(text: &str, structured: Value) -> Self {
        Self {
            content: json!([{ "type": "text", "text": text }]),
            structured: Some(structured),
            is_error: false,
        }
    }
}

/// What is known about an answer beside the response.
pub(crate) struct Shown<'a> {
    /// The session's handle.
    pub(crate) session: &'a str,
    /// The cell as the client knows it.
    pub(crate) cell: &'a str,
    /// The model has to pass the handle on to share stored values.
    pub(crate) name_session: bool,
    /// How long the call took.
    pub(crate) wall_time: Duration,
    /// Tokens of output.
    pub(crate) max_tokens: usize,
    /// Bytes in front of the program on its first line.
    pub(crate) prelude: usize,
    /// Lines for the model.
    pub(crate) notes: &'a [String],
}

/// Shows a response.
pub(crate) fn output(waited: Waited, shown: &Shown<'_>) -> Output {
    let Waited { outcome, activity } = waited;
    let missing = matches!(outcome, WaitOutcome::MissingCell(_));
    let mut response = RuntimeResponse::from(outcome);
    correct(&mut response, shown);
    let (status, error) = match &response {
        RuntimeResponse::Yielded { .. } => ("running", None),
        RuntimeResponse::Terminated { .. } => ("terminated", None),
        RuntimeResponse::Result { error_text: None, .. } => ("completed", None),
        RuntimeResponse::Result { error_text, .. } => {
            (if missing { "missing" } else { "failed" }, error_text.clone())
        }
    };
    let mut structured = json!({
        "status": status,
        "session": shown.session,
        "output": text_of(response.content_items(), shown.max_tokens),
        "calls": calls(response.report()),
        "usage": usage(response.report(), shown.wall_time),
    });
    if status == "running" {
        structured["cell_id"] = shown.cell.into();
        structured["waiting_for"] = activity.clone().into();
    }
    match &response.report().value {
        Some(ProgramValue::Json(text)) => {
            // What nests too deeply for a value stays text.
            structured["result"] =
                serde_json::from_str(text).unwrap_or_else(|_| text.clone().into());
        }
        Some(ProgramValue::Stored { key, bytes }) => {
            structured["result_stored"] = json!({ "key": key, "bytes": bytes });
        }
        Some(ProgramValue::Refused(_)) | None => {}
    }
    if let Some(error) = error {
        structured["error"] = error.into();
    }
    if let Some(hint) = &response.report().hint {
        structured["hint"] = hint.clone().into();
    }
    let options = OutputOptions {
        max_output_tokens: shown.max_tokens,
        original_images: false,
        notes: Notes::Helpful,
    };
    let mut made = show(response, shown.wall_time, activity.as_deref(), &options).to_mcp();
    let is_error = made["isError"] == true;
    let mut content = made["content"].take();
    if let Some(blocks) = content.as_array_mut() {
        let session = shown.name_session.then(|| {
            format!("Session {}: pass it as `session` to share stored values.", shown.session)
        });
        let notes = shown.notes.iter().cloned().chain(session);
        blocks.extend(notes.map(|text| json!({ "type": "text", "text": text })));
    }
    Output { content, structured: Some(structured), is_error }
}

/// Puts in what the client knows the cell by, and sets places right.
fn correct(response: &mut RuntimeResponse, shown: &Shown<'_>) {
    let place = |text: &mut String| {
        *text = crate::prelude::without_prelude(text, shown.prelude);
    };
    match response {
        RuntimeResponse::Yielded { cell_id, .. } => *cell_id = CellId::from(shown.cell),
        RuntimeResponse::Result { error_text, .. } => {
            if let Some(text) = error_text {
                place(text);
            }
        }
        RuntimeResponse::Terminated { .. } => {}
    }
    if let Some(hint) = &mut response.report_mut().hint {
        place(hint);
    }
}

/// The texts of an output, cut as they are shown.
fn text_of(items: &[ContentItem], tokens: usize) -> String {
    let texts = items.iter().filter(|item| matches!(item, ContentItem::InputText { .. }));
    let cut = truncate_items(texts.cloned().collect(), tokens);
    let texts: Vec<_> = cut
        .iter()
        .filter_map(|item| match item {
            ContentItem::InputText { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts.join("\n")
}

fn calls(report: &CellReport) -> Value {
    let call = |call: &cellblock::CallReport| {
        let status = match call.end {
            CallEnd::Succeeded => "succeeded",
            CallEnd::Failed => "failed",
            CallEnd::Cancelled => "cancelled",
        };
        json!({ "tool": call.tool, "status": status })
    };
    report.calls.iter().map(call).collect()
}

fn usage(report: &CellReport, wall_time: Duration) -> Value {
    let usage = &report.usage;
    json!({
        "wall_ms": millis(wall_time),
        "running_ms": millis(usage.running_time),
        "fuel": usage.fuel,
        "peak_memory_bytes": usage.peak_memory_bytes,
        "calls": usage.calls,
        "output_bytes": usage.output_bytes,
    })
}
