//! The globals of a program as a TypeScript declaration file, for editors and compilers.

use super::catalog::ToolCatalog;
use super::declaration::{MCP_TYPES, member};
use super::scripts::PREFIX;
use super::typescript::Reader;
use serde_json::Value;

/// Everything a program finds besides the language, and the tools of this catalog,
/// deferred ones too.
///
/// `tsc --strict` accepts it, so programs can be checked against it before they run.
///
/// ```
/// use cellblock::{ToolDefinition, model::{ToolCatalog, declaration_file}};
///
/// let catalog = ToolCatalog::new([ToolDefinition::function("ping", "Answers. */ Really.")]);
/// let file = declaration_file(&catalog);
/// assert!(file.contains("/** Answers. *\\/ Really. */\n  ping(args: unknown): Promise<unknown>;"));
/// ```
pub fn declaration_file(catalog: &ToolCatalog) -> String {
    let mut file = format!("{MCP_TYPES}\n{}", include_str!("globals.ts"));
    file.push_str("\n/** The tools; a call that fails rejects with a string. */\n");
    file.push_str("declare const tools: {\n");
    for tool in catalog.tools() {
        file.push_str(&comment(&tool.definition.description));
        for line in member(&tool.definition, Reader::Compiler).lines() {
            file.push_str("  ");
            file.push_str(line);
            file.push('\n');
        }
    }
    file.push_str("};\n");
    let scripts: Vec<_> = catalog
        .tools()
        .iter()
        .filter_map(|tool| tool.global_name.strip_prefix(PREFIX))
        .map(|name| {
            // Behind its prefix, a name may be one that only quotes make a member's.
            let (script, tool) = (Value::from(name), Value::from(format!("{PREFIX}{name}")));
            format!("  {script}: (typeof tools)[{tool}];\n")
        })
        .collect();
    if !scripts.is_empty() {
        file.push_str("\n/** The saved scripts. */\ndeclare const scripts: {\n");
        file.push_str(&scripts.concat());
        file.push_str("};\n");
    }
    file
}

/// A comment above a member.
fn comment(description: &str) -> String {
    let description = description.replace("*/", "*\\/");
    let lines: Vec<_> = description.trim().lines().map(str::trim_end).collect();
    match lines.as_slice() {
        [] => String::new(),
        [line] => format!("  /** {line} */\n"),
        lines => format!("  /**\n   * {}\n   */\n", lines.join("\n   * ")),
    }
}
