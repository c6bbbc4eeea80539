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
    let mut file = globals();
    file.push_str("\n/** The tools; a call that fails rejects with a string. */\n");
    file.push_str("declare const tools: {\n");
    for tool in catalog.tools() {
        file.push_str(&comment(&tool.definition.description));
        push_member(&mut file, &member(&tool.definition, Reader::Compiler));
    }
    file.push_str("};\n");
    push_scripts(&mut file, catalog);
    file
}

/// What the names of the types of tools' arguments begin with in [`compiler_declarations`].
#[cfg(feature = "type-checks")]
pub(crate) const ARGUMENTS_TYPE: &str = "ArgumentsOf_";

/// The declarations as a compiler is to see them: [`declaration_file`] with a name for the
/// arguments of each tool, so that the compiler's complaints name it, and without comments.
#[cfg(feature = "type-checks")]
pub(crate) fn compiler_declarations(catalog: &ToolCatalog) -> String {
    use super::declaration::{member_with, schema_type};
    use crate::tools::ToolKind;

    let mut file = globals();
    let mut arguments = String::new();
    file.push_str("interface Tools {\n");
    for tool in catalog.tools() {
        let definition = &tool.definition;
        let parameter = match definition.kind {
            ToolKind::Function => {
                let name = format!("{ARGUMENTS_TYPE}{}", tool.global_name);
                let schema = schema_type(definition.input_schema.as_ref(), Reader::Compiler);
                arguments.extend(["type ", &name, " = ", &schema, ";\n"]);
                let required = definition.input_schema.as_ref().map(|schema| &schema["required"]);
                let required =
                    required.and_then(Value::as_array).is_some_and(|all| !all.is_empty());
                format!("args{}: {name}", if required { "" } else { "?" })
            }
            ToolKind::Freeform => "input: string".to_owned(),
        };
        push_member(&mut file, &member_with(definition, &parameter, Reader::Compiler));
    }
    file.push_str("}\ndeclare const tools: Tools;\n");
    file.push_str(&arguments);
    push_scripts(&mut file, catalog);
    file
}

/// What every program finds.
fn globals() -> String {
    format!("{MCP_TYPES}\n{}", include_str!("globals.ts"))
}

fn push_member(file: &mut String, member: &str) {
    for line in member.lines() {
        file.push_str("  ");
        file.push_str(line);
        file.push('\n');
    }
}

/// Declares the saved scripts, if there are any.
fn push_scripts(file: &mut String, catalog: &ToolCatalog) {
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
