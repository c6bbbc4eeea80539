//! This server's own tools: what clients list and call.

use crate::answer::{Answer, Output};
use crate::arguments::{DescribeCall, Detail, ExecCall, SearchCall, WaitCall, read};
use crate::catalog::{Catalog, cut, millis};
use crate::gateway::{Caller, Gateway};
use cellblock::model::WaitToolSpec;
use serde_json::{Value, json};

/// Tools that a search returns unless it says how many.
const SEARCH_LIMIT: usize = 10;
/// Tools that a search may return, and that may be described at one time.
const MAX_LISTED: usize = 100;
/// Characters of the first line about a tool.
const BRIEF_CHARS: usize = 200;
/// Similar names that are offered for one that does not exist.
const SIMILAR: usize = 5;

/// The instructions that clients may give their model.
pub(crate) const INSTRUCTIONS: &str = "Use `exec` to run one JavaScript program that calls many \
    tools and prints only what matters. The resource skill://cellblock says how to write them.";

/// The resource that says how to write programs.
pub(crate) const SKILL_URI: &str = "skill://cellblock";
/// What it says.
pub(crate) const SKILL: &str = include_str!("skill.md");

/// The tools, in the form of the protocol and always in the same order. Clients that follow
/// tasks have no use for `wait`.
pub(crate) fn list(gateway: &Gateway, catalog: &Catalog, tasks: bool) -> Vec<Value> {
    let hints = catalog.hints;
    let mut schema = catalog.exec_schema();
    schema["properties"]["session"] = json!({
        "type": "string",
        "description": "The session whose stored values to share, as an earlier call gave it.",
    });
    schema["properties"]["language"] = json!({
        "type": "string", "enum": ["auto", "javascript", "typescript"], "description": "The program's language.",
    });
    let exec = json!({
        "name": "exec",
        "title": "Run a program",
        "description": catalog.exec_description(),
        "inputSchema": schema,
        "annotations": {
            "title": "Run a program",
            "readOnlyHint": hints.read_only,
            "destructiveHint": hints.destructive,
            "idempotentHint": false,
            "openWorldHint": true,
        },
    });
    let wait = WaitToolSpec {
        default_yield_time_ms: millis(gateway.0.options.waits.default),
        ..WaitToolSpec::default()
    };
    let mut wait = wait.mcp();
    wait["annotations"] = json!({ "readOnlyHint": true, "openWorldHint": false });
    let mut listed = vec![exec];
    if !tasks {
        listed.push(wait);
    }
    if catalog.is_searched() {
        listed.push(json!({
            "name": "search_tools",
            "title": "Search for tools",
            "description": "Finds tools that programs can call, by words of their names and \
                descriptions. `detail` is how much to show of each: `names`, `brief` or `full`.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "query": { "type": "string", "description": "Words; none for all tools." },
                    "limit": { "type": "integer", "minimum": 1, "maximum": MAX_LISTED },
                    "detail": { "type": "string", "enum": ["names", "brief", "full"] },
                },
                "required": ["query"],
            },
            "annotations": { "readOnlyHint": true, "openWorldHint": false },
        }));
        listed.push(json!({
            "name": "describe_tools",
            "title": "Describe tools",
            "description": "Returns the declarations of tools that programs can call, by name.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "names": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                },
                "required": ["names"],
            },
            "annotations": { "readOnlyHint": true, "openWorldHint": false },
        }));
    }
    listed
}

/// Calls a tool. `None` when there is no such tool.
pub(crate) async fn call(
    gateway: &Gateway,
    name: &str,
    arguments: &Value,
    caller: &Caller,
) -> Option<Answer> {
    let refused = |error: String| Answer::Done(Output::error(error));
    Some(match name {
        "exec" => match ExecCall::read(arguments) {
            Ok(call) => gateway.exec(call, caller).await,
            Err(error) => refused(error),
        },
        "wait" => match WaitCall::read(arguments) {
            Ok(call) => gateway.wait(call, caller).await,
            Err(error) => refused(error),
        },
        "search_tools" => match read::<SearchCall>(arguments) {
            Ok(call) => Answer::Done(search(&*gateway.ready_catalog().await, &call)),
            Err(error) => refused(error),
        },
        "describe_tools" => match read::<DescribeCall>(arguments) {
            Ok(call) => Answer::Done(describe(&*gateway.ready_catalog().await, &call)),
            Err(error) => refused(error),
        },
        _ => return None,
    })
}

fn search(catalog: &Catalog, call: &SearchCall) -> Output {
    let limit = call.limit.unwrap_or(SEARCH_LIMIT).clamp(1, MAX_LISTED);
    let found = catalog.search(&call.query, limit);
    if found.is_empty() {
        let text =
            format!("No tool fits. There are {}; search with other words.", catalog.tools().len());
        return Output::new(&text, json!({ "tools": [] }));
    }
    let (mut lines, mut tools) = (Vec::new(), Vec::new());
    for (tool, declared) in found {
        let name = &tool.global_name;
        let brief = tool.definition.description.trim().lines().next().unwrap_or_default();
        let brief = cut(brief, BRIEF_CHARS);
        let (line, member) = match call.detail {
            Detail::Names => (name.clone(), json!({ "name": name })),
            Detail::Brief => {
                (format!("{name}: {brief}"), json!({ "name": name, "description": brief }))
            }
            Detail::Full => (
                format!("### {name}\n{declared}"),
                json!({ "name": name, "description": declared }),
            ),
        };
        lines.push(line);
        tools.push(member);
    }
    Output::new(&lines.join("\n"), json!({ "tools": tools }))
}

fn describe(catalog: &Catalog, call: &DescribeCall) -> Output {
    let (mut texts, mut tools, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for name in call.names.iter().take(MAX_LISTED) {
        if let Some(declared) = catalog.declaration(name) {
            texts.push(format!("### {name}\n{declared}"));
            tools.push(json!({ "name": name, "description": declared }));
        } else {
            let similar = catalog.search(&name.replace(['_', '.'], " "), SIMILAR);
            let similar: Vec<_> =
                similar.iter().map(|(tool, _)| tool.global_name.as_str()).collect();
            let offered = if similar.is_empty() {
                String::new()
            } else {
                format!(" Similar are: {}.", similar.join(", "))
            };
            texts.push(format!("There is no tool {}.{offered}", cut(name, BRIEF_CHARS)));
            unknown.push(name);
        }
    }
    let is_error = tools.is_empty();
    let output = Output::new(&texts.join("\n\n"), json!({ "tools": tools, "unknown": unknown }));
    Output { is_error, ..output }
}
