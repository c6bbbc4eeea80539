//! Names of tools in code mode.

use crate::tools::ToolName;

/// The name of a tool in code mode: its namespace and its own name in one, not yet
/// an identifier. Two underscores separate them, unless one of the two has brought
/// an underscore already.
///
/// ```
/// use cellblock::{ToolName, model::code_mode_name};
///
/// assert_eq!(code_mode_name(&ToolName::plain("exec_command")), "exec_command");
/// assert_eq!(code_mode_name(&ToolName::namespaced("files", "read")), "files__read");
/// assert_eq!(code_mode_name(&ToolName::namespaced("mcp__files__", "read")), "mcp__files__read");
/// assert_eq!(code_mode_name(&ToolName::namespaced("functions", "read")), "read");
/// ```
pub fn code_mode_name(tool: &ToolName) -> String {
    let Some(namespace) = tool.own_namespace() else { return tool.name.clone() };
    let separator = if namespace.ends_with('_') || tool.name.starts_with('_') { "" } else { "__" };
    format!("{namespace}{separator}{}", tool.name)
}

/// Whether a name can stand after a dot, or as a member of a type, as it is. Reserved
/// words can.
pub(super) fn is_identifier(name: &str) -> bool {
    !name.is_empty() && crate::tools::normalize_identifier(name) == name
}
