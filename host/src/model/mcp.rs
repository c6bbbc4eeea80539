//! Tools of MCP servers as nested tools.

use super::declaration::mcp_result_schema;
use super::names::code_mode_name;
use crate::tools::{ToolDefinition, ToolKind, ToolName};
use serde_json::Value;

/// A tool as a server's `tools/list` has it, as a nested tool of the namespace
/// `mcp__SERVER__`. It returns the whole `CallToolResult`. `None` when it has no name.
///
/// ```
/// use cellblock::model::mcp_tool;
/// use serde_json::json;
///
/// let listed = json!({ "name": "read-file", "inputSchema": { "type": "object" } });
/// let tool = mcp_tool("files", &listed).unwrap();
/// assert_eq!(tool.name, "mcp__files__read-file");
/// assert_eq!(cellblock::normalize_identifier(&tool.name), "mcp__files__read_file");
/// ```
pub fn mcp_tool(server: &str, listed: &Value) -> Option<ToolDefinition> {
    let tool_name = ToolName::namespaced(mcp_namespace(server), listed["name"].as_str()?);
    let description = listed["description"].as_str().or_else(|| listed["title"].as_str());
    Some(ToolDefinition {
        name: code_mode_name(&tool_name),
        tool_name,
        description: description.unwrap_or_default().to_owned(),
        kind: ToolKind::Function,
        input_schema: listed.get("inputSchema").cloned(),
        output_schema: Some(mcp_result_schema(listed.get("outputSchema").cloned())),
    })
}

/// The namespace of a server's tools.
///
/// ```
/// assert_eq!(cellblock::model::mcp_namespace("files"), "mcp__files__");
/// ```
pub fn mcp_namespace(server: &str) -> String {
    format!("mcp__{server}__")
}
