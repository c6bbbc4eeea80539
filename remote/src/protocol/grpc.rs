//! The messages of gRPC, `codex.code_mode.v1`, and what they are here.
//!
//! Everything but the conversions is generated from `code_mode.proto`.

#![allow(
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    missing_docs,
    reason = "most of this is generated"
)]

use super::{TimedResponse, TimedWaitOutcome};
use cellblock as seam;
use serde::de::Error as _;
use serde_json::Value;
use tokio_util::bytes::Bytes;

include!("generated.rs");

/// A message that lacks something, or carries something that is not known here.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// A schema of a tool.
    #[error("a schema of the tool `{tool}` is not valid JSON: {error}")]
    Schema {
        /// The tool.
        tool: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// The input of a nested call.
    #[error("the input of a nested call is {0}")]
    Input(seam::JsonError),
    /// A nested call names no tool.
    #[error("a nested call without a tool")]
    Tool,
    /// A content item is of an unknown kind.
    #[error("a content item of an unknown kind")]
    ContentItem,
    /// An outcome has no state.
    #[error("an outcome without a state")]
    State,
    /// An answer or a completion has no outcome.
    #[error("outcome is missing")]
    Outcome,
    /// What a client of this project adds to a message.
    #[error("an addition that is not valid: {0}")]
    Addition(serde_json::Error),
}

impl From<&seam::ToolName> for ToolName {
    fn from(name: &seam::ToolName) -> Self {
        Self { name: name.name.clone(), namespace: name.namespace.clone() }
    }
}

impl From<ToolName> for seam::ToolName {
    fn from(name: ToolName) -> Self {
        Self { name: name.name, namespace: name.namespace }
    }
}

impl From<seam::ToolKind> for ToolKind {
    fn from(kind: seam::ToolKind) -> Self {
        match kind {
            seam::ToolKind::Function => Self::Function,
            seam::ToolKind::Freeform => Self::Freeform,
        }
    }
}

impl From<ToolKind> for seam::ToolKind {
    fn from(kind: ToolKind) -> Self {
        match kind {
            ToolKind::Freeform => Self::Freeform,
            ToolKind::Function | ToolKind::Unspecified => Self::Function,
        }
    }
}

impl From<&seam::ToolDefinition> for ToolDefinition {
    fn from(tool: &seam::ToolDefinition) -> Self {
        let json =
            |schema: &Option<Value>| schema.as_ref().map(|schema| Bytes::from(schema.to_string()));
        Self {
            name: tool.name.clone(),
            tool_name: Some((&tool.tool_name).into()),
            description: tool.description.clone(),
            kind: ToolKind::from(tool.kind).into(),
            input_schema_json: json(&tool.input_schema),
            output_schema_json: json(&tool.output_schema),
        }
    }
}

impl TryFrom<ToolDefinition> for seam::ToolDefinition {
    type Error = Malformed;

    /// Fails if a schema is not valid JSON. `tool_name` defaults to `name`.
    fn try_from(tool: ToolDefinition) -> Result<Self, Malformed> {
        let json = |schema: Option<Bytes>| {
            schema
                .map(|schema| serde_json::from_slice(&schema))
                .transpose()
                .map_err(|error| Malformed::Schema { tool: tool.name.clone(), error })
        };
        Ok(Self {
            input_schema: json(tool.input_schema_json)?,
            output_schema: json(tool.output_schema_json)?,
            tool_name: tool.tool_name.map_or_else(|| seam::ToolName::plain(&tool.name), Into::into),
            kind: ToolKind::try_from(tool.kind).unwrap_or(ToolKind::Unspecified).into(),
            description: tool.description,
            name: tool.name,
        })
    }
}

impl From<seam::ImageDetail> for ImageDetail {
    fn from(detail: seam::ImageDetail) -> Self {
        match detail {
            seam::ImageDetail::Auto => Self::Auto,
            seam::ImageDetail::Low => Self::Low,
            seam::ImageDetail::High => Self::High,
            seam::ImageDetail::Original => Self::Original,
        }
    }
}

impl From<seam::ContentItem> for ContentItem {
    fn from(item: seam::ContentItem) -> Self {
        use content_item::Item;
        let item = match item {
            seam::ContentItem::InputText { text } => Item::Text(TextContent { text }),
            seam::ContentItem::InputImage { image_url, detail } => Item::Image(ImageContent {
                image_url,
                detail: detail.map(|detail| ImageDetail::from(detail).into()),
            }),
            seam::ContentItem::InputAudio { audio_url } => Item::Audio(AudioContent { audio_url }),
        };
        Self { item: Some(item) }
    }
}

impl TryFrom<ContentItem> for seam::ContentItem {
    type Error = Malformed;

    /// Fails on a kind of output that is not known here.
    fn try_from(item: ContentItem) -> Result<Self, Malformed> {
        use content_item::Item;
        Ok(match item.item.ok_or(Malformed::ContentItem)? {
            Item::Text(TextContent { text }) => Self::InputText { text },
            Item::Image(ImageContent { image_url, detail }) => {
                let detail = match detail.map(ImageDetail::try_from) {
                    Some(Ok(ImageDetail::Auto)) => Some(seam::ImageDetail::Auto),
                    Some(Ok(ImageDetail::Low)) => Some(seam::ImageDetail::Low),
                    Some(Ok(ImageDetail::High)) => Some(seam::ImageDetail::High),
                    Some(Ok(ImageDetail::Original)) => Some(seam::ImageDetail::Original),
                    Some(Ok(ImageDetail::Unspecified) | Err(_)) | None => None,
                };
                Self::InputImage { image_url, detail }
            }
            Item::Audio(AudioContent { audio_url }) => Self::InputAudio { audio_url },
        })
    }
}

impl From<TimedResponse> for ExecutionOutcome {
    fn from(mut response: TimedResponse) -> Self {
        let addition = response.take_seam();
        let mut outcome = Self::from(seam::RuntimeResponse::from(response));
        // An addition is made of texts and numbers.
        outcome.cellblock_seam_json =
            addition.and_then(|addition| serde_json::to_vec(&addition).ok()).map(Bytes::from);
        outcome
    }
}

impl From<seam::RuntimeResponse> for ExecutionOutcome {
    fn from(response: seam::RuntimeResponse) -> Self {
        use execution_outcome::State;
        let cell_id = response.cell_id().to_string();
        let state = match &response {
            seam::RuntimeResponse::Yielded { .. } => State::Yielded(Yielded {}),
            seam::RuntimeResponse::Terminated { .. } => State::Terminated(Terminated {}),
            seam::RuntimeResponse::Result { error_text, .. } => {
                State::Completed(Completed { error_text: error_text.clone() })
            }
        };
        let content_items = response.into_content().into_iter().map(Into::into).collect();
        Self { cell_id, content_items, state: Some(state), cellblock_seam_json: None }
    }
}

impl TryFrom<ExecutionOutcome> for seam::RuntimeResponse {
    type Error = Malformed;

    /// Fails on an outcome without a state, and on output of an unknown kind.
    fn try_from(outcome: ExecutionOutcome) -> Result<Self, Malformed> {
        use execution_outcome::State;
        let cell_id = seam::CellId::new(outcome.cell_id);
        let content_items =
            outcome.content_items.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let report = seam::CellReport::default();
        Ok(match outcome.state.ok_or(Malformed::State)? {
            State::Yielded(_) => Self::Yielded { cell_id, content_items, report },
            State::Terminated(_) => Self::Terminated { cell_id, content_items, report },
            State::Completed(Completed { error_text }) => {
                Self::Result { cell_id, content_items, error_text, report }
            }
        })
    }
}

impl From<TimedWaitOutcome> for WaitResponse {
    fn from(outcome: TimedWaitOutcome) -> Self {
        use wait_response::Outcome;
        Self {
            outcome: Some(match outcome {
                TimedWaitOutcome::LiveCell(response) => Outcome::LiveCell(response.into()),
                TimedWaitOutcome::MissingCell(response) => Outcome::MissingCell(response.into()),
            }),
        }
    }
}

impl TryFrom<ExecuteRequest> for seam::ExecuteRequest {
    type Error = Malformed;

    /// The program; its ids in this protocol are left out. Fails as its tools do.
    fn try_from(request: ExecuteRequest) -> Result<Self, Malformed> {
        let tools = request.enabled_tools.into_iter().map(TryInto::try_into);
        Ok(Self {
            tool_call_id: request.tool_call_id,
            enabled_tools: tools.collect::<Result<_, _>>()?,
            source: request.source,
            yield_time_ms: request.yield_time_ms,
            max_output_tokens: request
                .max_output_tokens
                .map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX)),
            wants_value: false,
            regional: seam::RegionalSettings::default(),
            language: cellblock::Language::Js,
            monitor: seam::MonitorHandle::default(),
        })
    }
}

impl TryFrom<ToolCall> for seam::CodeModeNestedToolCall {
    type Error = Malformed;

    /// The call; its ids in this protocol are left out. Fails if it names no tool, or its
    /// input is not valid JSON.
    fn try_from(call: ToolCall) -> Result<Self, Malformed> {
        let input = call.input_json.as_deref().map(|json| {
            let text = std::str::from_utf8(json).map_err(serde_json::Error::custom)?;
            seam::ToolInput::from_json(text)
        });
        Ok(Self {
            tool_kind: call.tool_kind().into(),
            cell_id: seam::CellId::new(call.cell_id),
            runtime_tool_call_id: call.runtime_tool_call_id,
            tool_name: call.tool_name.ok_or(Malformed::Tool)?.into(),
            input: input.transpose().map_err(Malformed::Input)?,
        })
    }
}
