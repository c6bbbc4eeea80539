//! The tools that a server lists, in bounded number and size.

use crate::policy::Annotations;
use crate::upstream::ListedTool;
use crate::visible::without_hidden;
use rmcp::model::{JsonObject, PaginatedRequestParams, Tool};
use rmcp::service::Peer;
use rmcp::{RoleClient, ServiceError};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// Tools that a server may list.
const MAX_TOOLS: usize = 2_000;
/// Bytes that the tools of a server may have together.
const MAX_TOOLS_BYTES: usize = 4 << 20;
/// Pages in which a server may list its tools.
const MAX_PAGES: usize = 200;
/// Bytes that a tool's name may have.
const MAX_NAME_BYTES: usize = 256;

/// Why a server's tools are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    #[error("it cannot list its tools: {0}")]
    Refused(#[from] ServiceError),
    #[error("it lists more than {MAX_TOOLS} tools, or more than {MAX_TOOLS_BYTES} bytes of them")]
    TooMuch,
    #[error("its list of tools has more than {MAX_PAGES} pages")]
    TooManyPages,
}

/// The tools that a server lists.
pub(super) async fn list(peer: &Peer<RoleClient>) -> Result<Vec<ListedTool>, ListError> {
    let (mut tools, mut bytes, mut cursor) = (Vec::new(), 0, None);
    for _ in 0..MAX_PAGES {
        let page = Some(PaginatedRequestParams::default().with_cursor(cursor));
        let listed = peer.list_tools(page).await?;
        for tool in listed.tools {
            bytes += serde_json::to_string(&tool).map_or(0, |text| text.len());
            if tools.len() >= MAX_TOOLS || bytes > MAX_TOOLS_BYTES {
                return Err(ListError::TooMuch);
            }
            if tool.name.is_empty() || tool.name.len() > MAX_NAME_BYTES {
                tracing::warn!(
                    "a tool is left out: its name has no byte, or more than {MAX_NAME_BYTES}"
                );
            } else {
                tools.push(listed_tool(tool));
            }
        }
        cursor = listed.next_cursor;
        if cursor.is_none() {
            return Ok(tools);
        }
    }
    Err(ListError::TooManyPages)
}

/// A schema whose descriptions hold nothing that people cannot see.
fn schema(schema: Arc<JsonObject>) -> Value {
    let mut schema = Value::Object(Arc::unwrap_or_clone(schema));
    show_descriptions(&mut schema);
    schema
}

/// Schemas nest no deeper than the parser of JSON allows.
fn show_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "description" || name == "title" => {
                        *text = without_hidden(text);
                    }
                    member => show_descriptions(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(show_descriptions),
        _ => {}
    }
}

fn listed_tool(tool: Tool) -> ListedTool {
    let annotations = tool.annotations.unwrap_or_default();
    let description = tool.description.map(Cow::into_owned);
    ListedTool {
        name: tool.name.into_owned(),
        description: without_hidden(&description.or(tool.title).unwrap_or_default()),
        input_schema: schema(tool.input_schema),
        output_schema: tool.output_schema.map(schema),
        annotations: Annotations {
            read_only: annotations.read_only_hint,
            destructive: annotations.destructive_hint,
            idempotent: annotations.idempotent_hint,
            open_world: annotations.open_world_hint,
        },
    }
}
