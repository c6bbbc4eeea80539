//! How a tool is declared to a model: its description, and its type in TypeScript.

use super::observed::OBSERVED;
use super::typescript::{Reader, typescript_type};
use crate::tools::{ToolDefinition, ToolKind, normalize_identifier};
use serde_json::{Value, json};

/// The types that the results of MCP tools are made of, after the schema of the Model
/// Context Protocol. Declared once, however many tools use them.
pub const MCP_TYPES: &str = include_str!("mcp_types.ts");

/// A definition whose description declares the tool in TypeScript: what `ALL_TOOLS`
/// holds, and what a tool that is also offered directly is described by.
///
/// ```
/// use cellblock::{ToolDefinition, model::declare};
///
/// let tool = declare(&ToolDefinition::function("git-status", "The state of the work tree."));
/// assert_eq!(
///     tool.description,
///     "The state of the work tree.\n\nexec tool declaration:\n```ts\n\
///      declare const tools: { git_status(args: unknown): Promise<unknown>; };\n```"
/// );
/// ```
pub fn declare(tool: &ToolDefinition) -> ToolDefinition {
    ToolDefinition { description: sample(tool), ..tool.clone() }
}

/// The schema of what an MCP tool returns in code mode: a whole `CallToolResult`, whose
/// `structuredContent` is what the tool's `outputSchema` says. Its declaration uses
/// [`MCP_TYPES`].
///
/// ```
/// use cellblock::model::mcp_result_schema;
///
/// let schema = mcp_result_schema(None);
/// assert_eq!(schema["properties"]["isError"]["type"], "boolean");
/// ```
pub fn mcp_result_schema(output_schema: Option<Value>) -> Value {
    let mut schema = json!({
        "type": "object",
        "properties": {
            "_meta": { "type": "object" },
            "content": { "type": "array", "items": { "type": "object" } },
            "isError": { "type": "boolean" },
        },
        "required": ["content"],
    });
    if let Some(structured) = output_schema {
        schema["properties"]["structuredContent"] = structured;
    }
    schema
}

/// The description with the declaration below it.
pub(super) fn sample(tool: &ToolDefinition) -> String {
    let member = member(tool, Reader::Model);
    let observed = tool.output_schema.as_ref().and_then(|schema| schema[OBSERVED].as_u64());
    let observed = observed.map_or_else(String::new, |results| {
        format!("// The result type was observed in {results} results; it is not promised.\n")
    });
    let declaration = format!(
        "exec tool declaration:\n```ts\n{observed}declare const tools: {{ {member} }};\n```"
    );
    match tool.description.trim() {
        "" => declaration,
        _ => format!("{}\n\n{declaration}", tool.description),
    }
}

/// The member of `tools` that calls the tool.
pub(super) fn member(tool: &ToolDefinition, reader: Reader) -> String {
    let parameter = match tool.kind {
        ToolKind::Function => format!("args: {}", schema_type(tool.input_schema.as_ref(), reader)),
        ToolKind::Freeform => "input: string".to_owned(),
    };
    member_with(tool, &parameter, reader)
}

/// The member of `tools` that calls the tool, with a parameter of this text.
pub(super) fn member_with(tool: &ToolDefinition, parameter: &str, reader: Reader) -> String {
    let name = normalize_identifier(&tool.name);
    let result = match &tool.output_schema {
        Some(output) if is_mcp_result(output) => mcp_result(output, reader),
        output => schema_type(output.as_ref(), reader),
    };
    format!("{name}({parameter}): Promise<{result}>;")
}

/// The type of a schema; `unknown` when there is none.
pub(super) fn schema_type(schema: Option<&Value>, reader: Reader) -> String {
    schema.map_or_else(|| "unknown".to_owned(), |schema| typescript_type(schema, reader))
}

/// Whether a result schema is that of an MCP `CallToolResult`.
pub(super) fn is_mcp_result(schema: &Value) -> bool {
    let is = |name: &str, of: &str| schema["properties"][name]["type"] == of;
    is("content", "array")
        && schema["properties"]["content"]["items"]["type"] == "object"
        && is("isError", "boolean")
        && is("_meta", "object")
}

fn mcp_result(schema: &Value, reader: Reader) -> String {
    let structured = schema["properties"].get("structuredContent");
    match structured.map(|schema| typescript_type(schema, reader)).as_deref() {
        None | Some("unknown") => "CallToolResult".to_owned(),
        Some(structured) => format!("CallToolResult<{structured}>"),
    }
}
