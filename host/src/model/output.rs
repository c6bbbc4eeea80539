//! What a model reads about a response of a cell: a line that says how the cell stands,
//! its output within a budget, and why it failed.

use super::tokens::{BYTES_PER_TOKEN, approximate_tokens, truncate_middle};
use crate::backend::{
    CallEnd, CallReport, ContentItem, ImageDetail, ProgramValue, RuntimeResponse,
};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Tokens of output that a model gets unless it, or its host, says otherwise.
pub const DEFAULT_MAX_OUTPUT_TOKENS: usize = 10_000;

/// Nested calls that the output of a failed cell lists; earlier ones are counted.
const LISTED_CALLS: usize = 20;

/// Characters of audio, as base64, that count as one token: about a tenth of a second of
/// speech at 64 kbit/s, which is what models that listen are charged for one.
const AUDIO_BYTES_PER_TOKEN: usize = 1_024;

/// How a response is shown to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputOptions {
    /// Tokens that the output may have, without its header: what the program's pragma or
    /// the arguments of `wait` ask for.
    pub max_output_tokens: usize,
    /// Whether the model can look at images of detail `original`; else they are shown
    /// with detail `high`.
    pub original_images: bool,
    /// What is said beyond the contract.
    pub notes: Notes,
}

/// What is said beyond the contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notes {
    /// Nothing: exactly what Codex shows.
    None,
    /// A remedy where an error or an empty output has a known one, and, when the cell
    /// failed, its nested calls and how they ended.
    #[default]
    Helpful,
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self {
            max_output_tokens: DEFAULT_MAX_OUTPUT_TOKENS,
            original_images: false,
            notes: Notes::default(),
        }
    }
}

/// The output of `exec` or `wait`, ready for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolOutput {
    /// False when the cell failed or is not known.
    pub success: bool,
    /// The header, then the content.
    pub items: Vec<ContentItem>,
}

/// Shows a response.
///
/// `wall_time` is the time that this call of `exec` or `wait` took. `activity` says what a
/// cell that still runs waits for, see [`CellActivity`](super::CellActivity).
///
/// ```
/// use cellblock::{CellReport, RuntimeResponse, model::*};
/// use std::time::Duration;
///
/// let response = RuntimeResponse::Result {
///     cell_id: "1".into(),
///     content_items: vec![],
///     error_text: Some("no such file".to_owned()),
///     report: CellReport::default(),
/// };
/// let output = show(response, Duration::from_millis(1_240), None, &OutputOptions::default());
/// assert!(!output.success);
/// assert_eq!(
///     output.to_openai(),
///     serde_json::json!([
///         { "type": "input_text", "text": "Script failed\nWall time 1.2 seconds\nOutput:\n" },
///         { "type": "input_text", "text": "Script error:\nno such file" },
///     ])
/// );
/// ```
pub fn show(
    response: RuntimeResponse,
    wall_time: Duration,
    activity: Option<&str>,
    options: &OutputOptions,
) -> ToolOutput {
    let (status, error) = match &response {
        RuntimeResponse::Yielded { cell_id, .. } => {
            (format!("Script running with cell ID {cell_id}"), None)
        }
        RuntimeResponse::Terminated { .. } => ("Script terminated".to_owned(), None),
        RuntimeResponse::Result { error_text: None, .. } => ("Script completed".to_owned(), None),
        RuntimeResponse::Result { error_text: Some(error), .. } => {
            ("Script failed".to_owned(), Some(error.clone()))
        }
    };
    let completed = matches!(response, RuntimeResponse::Result { error_text: None, .. });
    let report = response.report().clone();
    let mut items = response.into_content();
    let text = |text: String| ContentItem::InputText { text };
    let value = report.value.clone().filter(|_| completed);
    let silent = completed && items.is_empty() && value.is_none();
    let mut notes = Vec::new();
    match value {
        Some(ProgramValue::Json(json)) => items.push(text(format!("Result:\n{json}"))),
        Some(ProgramValue::Stored { key, bytes }) => notes.push(format!(
            "The result is {bytes} bytes of JSON, more than the output may have. It is stored: \
             a later program gets it with load({key:?})."
        )),
        Some(ProgramValue::Refused(why)) => {
            notes.push(format!("The program has a result that cannot be shown: {why}."));
        }
        None => {}
    }
    if let Some(error) = &error {
        items.push(text(format!("Script error:\n{error}")));
    }
    if options.notes == Notes::Helpful {
        // The text of a limit lists the calls itself.
        if error.is_some() && report.limit.is_none() && !report.calls.is_empty() {
            notes.push(calls(&report.calls));
        }
        match report.hint {
            Some(hint) => notes.push(format!("Hint: {hint}")),
            None if silent => notes.push(SILENT.to_owned()),
            None => {}
        }
        notes.extend(activity.map(|activity| {
            format!("The program is {activity}. Do other work, or call wait again.")
        }));
    }
    let mut shown = vec![text(format!(
        "{status}\nWall time {:.1} seconds\nOutput:\n",
        wall_time.as_secs_f64()
    ))];
    shown.extend(truncate_items(items, options.max_output_tokens));
    for item in &mut shown {
        if let ContentItem::InputImage { detail, .. } = item {
            let usable =
                detail.filter(|detail| options.original_images || *detail != ImageDetail::Original);
            *detail = Some(usable.unwrap_or(ImageDetail::High));
        }
    }
    shown.extend(notes.into_iter().map(text));
    ToolOutput { success: error.is_none(), items: shown }
}

/// What a program that printed nothing is answered with.
const SILENT: &str = "The program printed nothing. Only what is passed to text(), image() or \
                      audio() is output, and work that was not awaited has been dropped.";

/// The nested calls of a failed cell, and how they ended.
fn calls(calls: &[CallReport]) -> String {
    let listed = &calls[calls.len().saturating_sub(LISTED_CALLS)..];
    let mut text = match calls.len() - listed.len() {
        0 => "Nested calls:".to_owned(),
        earlier => format!("Nested calls, after {earlier} earlier ones:"),
    };
    for CallReport { runtime_tool_call_id, tool, end } in listed {
        let end = match end {
            CallEnd::Cancelled => "had not ended and was cancelled; it may have taken effect",
            CallEnd::Succeeded => "succeeded",
            CallEnd::Failed => "failed",
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "\n    {runtime_tool_call_id} {tool} {end}");
    }
    text
}

/// Cuts content to a budget of tokens.
///
/// Content that is all text is joined when it is over the budget, and loses its middle
/// under a line that gives its size. Other content has one budget that its items use up in
/// turn: the text that does not fit loses its middle, later texts are left out, and images
/// are always kept. What was left out is counted at the end.
///
/// ```
/// use cellblock::{ContentItem, model::truncate_items};
///
/// let text = |text: &str| ContentItem::InputText { text: text.to_owned() };
/// assert_eq!(truncate_items(vec![text("short"), text("too")], 3), [text("short"), text("too")]);
/// let cut = truncate_items(vec![text("0123456789"), text("0123456789abcdefghijklmnopqrs")], 5);
/// assert_eq!(
///     cut,
///     [text(
///         "Warning: truncated output (original token count: 10)\nTotal output lines: 2\n\n\
///          0123456789…5 tokens truncated…jklmnopqrs"
///     )]
/// );
/// ```
pub fn truncate_items(items: Vec<ContentItem>, tokens: usize) -> Vec<ContentItem> {
    let texts: Option<Vec<&str>> = items
        .iter()
        .map(|item| match item {
            ContentItem::InputText { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let Some(texts) = texts else { return truncate_mixed(items, tokens) };
    let size = texts.iter().map(|text| text.len() + 1).sum::<usize>().saturating_sub(1);
    if size <= tokens.saturating_mul(BYTES_PER_TOKEN) {
        return items;
    }
    let joined = texts.join("\n");
    let text = format!(
        "Warning: truncated output (original token count: {})\nTotal output lines: {}\n\n{}",
        approximate_tokens(&joined),
        joined.lines().count(),
        truncate_middle(&joined, tokens)
    );
    vec![ContentItem::InputText { text }]
}

fn truncate_mixed(items: Vec<ContentItem>, tokens: usize) -> Vec<ContentItem> {
    let mut left = tokens;
    let (mut texts, mut audios) = (0_usize, 0_usize);
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        match item {
            ContentItem::InputImage { .. } => kept.push(item),
            ContentItem::InputText { .. } if left == 0 => texts += 1,
            ContentItem::InputText { text } => {
                let size = approximate_tokens(&text);
                kept.push(ContentItem::InputText { text: truncate_middle(&text, left) });
                left = left.saturating_sub(size);
            }
            ContentItem::InputAudio { ref audio_url } => {
                let size = audio_url.len().div_ceil(AUDIO_BYTES_PER_TOKEN);
                if size > left {
                    audios += 1;
                } else {
                    left -= size;
                    kept.push(item);
                }
            }
        }
    }
    for (count, kind) in [(texts, "text"), (audios, "audio")] {
        if count > 0 {
            let text = format!("[omitted {count} {kind} items ...]");
            kept.push(ContentItem::InputText { text });
        }
    }
    kept
}

impl ToolOutput {
    /// The `output` of a `function_call_output` or `custom_tool_call_output` of `OpenAI`'s
    /// Responses: a string when there is nothing but the header, else a list of items.
    pub fn to_openai(&self) -> Value {
        match self.items.as_slice() {
            [ContentItem::InputText { text }] => json!(text),
            items => json!(items),
        }
    }

    /// The `content` of a `tool_result` block of Anthropic's Messages. Audio, which such
    /// a block cannot hold, is named in a text.
    pub fn to_anthropic(&self) -> Value {
        let block = |item: &ContentItem| match item {
            ContentItem::InputText { text } => json!({ "type": "text", "text": text }),
            ContentItem::InputImage { image_url, .. } => {
                let source = match data_url(image_url) {
                    Some((media_type, data)) => {
                        json!({ "type": "base64", "media_type": media_type, "data": data })
                    }
                    None => json!({ "type": "url", "url": image_url }),
                };
                json!({ "type": "image", "source": source })
            }
            ContentItem::InputAudio { audio_url } => {
                let kind = data_url(audio_url).map_or("unknown", |(media_type, _)| media_type);
                let text = format!("[audio of type {kind}, which cannot be shown here]");
                json!({ "type": "text", "text": text })
            }
        };
        // An empty text block is refused.
        let items = self.items.iter().filter(|item| item.byte_len() > 0);
        items.map(block).collect()
    }

    /// The result of `tools/call` of the Model Context Protocol.
    pub fn to_mcp(&self) -> Value {
        let media = |kind: &str, url: &str| match data_url(url) {
            Some((mime, data)) => json!({ "type": kind, "data": data, "mimeType": mime }),
            None => json!({ "type": "text", "text": format!("[{kind} that is not base64]") }),
        };
        let block = |item: &ContentItem| match item {
            ContentItem::InputText { text } => json!({ "type": "text", "text": text }),
            ContentItem::InputImage { image_url, .. } => media("image", image_url),
            ContentItem::InputAudio { audio_url } => media("audio", audio_url),
        };
        let content: Vec<_> = self.items.iter().map(block).collect();
        json!({ "content": content, "isError": !self.success })
    }
}

/// Media type and base64 of a `data:` URL.
fn data_url(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_at_checked(5)?;
    let (head, data) = rest.split_once(',')?;
    let (parameters, encoding) = head.rsplit_once(';')?;
    if !scheme.eq_ignore_ascii_case("data:") || !encoding.eq_ignore_ascii_case("base64") {
        return None;
    }
    let media_type = parameters.split(';').next().unwrap_or_default();
    Some((if media_type.is_empty() { "text/plain" } else { media_type }, data))
}
