//! The description of `exec`, section by section.

use super::catalog::{CatalogTool, ToolCatalog};
use super::declaration::{MCP_TYPES, sample};
use super::exec_spec::{Declarations, Dialect, ExecOptions, ImageDetails, ProgramValues};
use super::names::code_mode_name;
use crate::limits::CellLimits;
use std::fmt::Write;
use std::time::Duration;

/// Bytes that the names of deferred tools may have; the rest is counted.
const DEFERRED_NAMES_BYTES: usize = 12_000;

/// Characters of a namespace's description that stand beside the names of its deferred tools.
const DEFERRED_DESCRIPTION_CHARS: usize = 120;

/// How a model sends a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputForm {
    /// As the tool's whole input: text.
    Source,
    /// As the argument `code` of a JSON object.
    Arguments,
}

/// The whole description.
pub(super) fn exec(catalog: &ToolCatalog, options: &ExecOptions, form: InputForm) -> String {
    let mut sections = vec![how_it_runs(options, form), globals(options), beyond(&options.limits)];
    let tools = catalog.tools();
    if catalog.has_scripts() {
        sections.push(scripts(form));
    }
    if tools.iter().any(|tool| tool.deferred) {
        sections.push(deferred(catalog));
    }
    if options.declarations == Declarations::InExec {
        if catalog.has_mcp_results() {
            sections.push(format!("Shared MCP Types:\n```ts\n{MCP_TYPES}```"));
        }
        let mut namespace = None;
        for tool in tools.iter().filter(|tool| !tool.deferred) {
            let described = catalog.namespace(&tool.definition.tool_name);
            if described != namespace {
                namespace = described;
                sections.extend(described.map(|namespace| {
                    format!("## {}\n{}", namespace.name, namespace.description.trim())
                }));
            }
            sections.push(declared(tool));
        }
    }
    sections.join("\n\n")
}

fn how_it_runs(options: &ExecOptions, form: InputForm) -> String {
    let ExecOptions { default_yield_time_ms, default_max_output_tokens, .. } = options;
    let input = match form {
        InputForm::Source => {
            "- The input is raw JavaScript source: no JSON around it, no quotes, no Markdown fence."
        }
        InputForm::Arguments => {
            "- `code` is raw JavaScript source: no quotes of its own, no Markdown fence."
        }
    };
    let pragma = match form {
        InputForm::Source => {
            "- Options may stand in a first line of their own, such as `// @exec: \
             {\"yield_time_ms\": 10000, \"max_output_tokens\": 1000}`. "
        }
        InputForm::Arguments => "- ",
    };
    let statements = match options.dialect {
        Dialect::Codex => "`return` and `import` do not",
        Dialect::Mcp => {
            "`import` does not; the value of the last statement, or of a `return` at the top, is \
             the result"
        }
    };
    let tools = nested_tools(options.dialect);
    let value = match options.program_values {
        ProgramValues::Hidden => "",
        ProgramValues::Offered => {
            "- With `\"result\": true` among the options, the program has a value: what a `return` \
             at its top level returns, or else its last expression. It is shown as JSON after \
             the output, or kept under a key that the output names when it is too long to show.\n"
        }
    };
    format!(
        "Runs a JavaScript program that orchestrates tool calls: call tools, combine what they \
         return, and print only what matters.\n\
         - Each program runs in a sandbox of its own, as an async ES module: `await` works at the \
         top level, {statements}. Nothing of it is left for the next program but what it \
         stored.\n\
         - {tools} Make independent calls together, with `Promise.all`.\n\
         {input} There is no Node, no file system, no network and no `console`.\n\
         {pragma}`yield_time_ms` is when to answer if the program still runs; it goes on, and \
         `wait` fetches the rest. Defaults to {default_yield_time_ms} ms. `max_output_tokens` is \
         how much of the output to show; the middle of a longer one is cut out. Defaults to \
         {default_max_output_tokens}.\n{value}\
         - The program ends when its module has been evaluated to its end. Promises that nobody \
         awaited by then are silently dropped, with the calls they wait for."
    )
}

/// How nested tools are called.
fn nested_tools(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Codex => {
            "Nested tools are methods of the global `tools`; what cannot stand in an identifier is \
             `_` in their names, as in `await tools.exec_command(...)` or `await \
             tools.mcp__ologs__get_profile(...)`. A method takes one string or object, as its \
             declaration says, and returns a promise of an object or a string; when the call \
             fails, it rejects with a string."
        }
        Dialect::Mcp => {
            "Nested tools are those of MCP servers: `await tools.files.read(...)`, or the same as \
             `await tools.files__read(...)`; what cannot stand in an identifier is `_` in their \
             names. A method takes one object, as its declaration says, and returns a promise of \
             the tool's structured content, or of its whole `CallToolResult` where it has none. A \
             call that fails or is refused, or whose tool reports an error, rejects with an \
             `Error`: `message` says why, and `result` is what the tool returned. \
             `tools.search(words)` returns the entries of `ALL_TOOLS` that fit."
        }
    }
}

fn globals(options: &ExecOptions) -> String {
    let image = match options.image_detail {
        ImageDetails::Offered => {
            "- `image(imageUrlOrItem: string | { image_url: string; detail?: Detail } | \
             ImageContent, detail?: Detail)`: prints an image, given as a base64 `data:` URL, an \
             object with one, or an MCP image block. `Detail` is `\"auto\" | \"low\" | \"high\" | \
             \"original\"`; `\"high\"` unless given."
        }
        ImageDetails::Hidden => {
            "- `image(imageUrlOrItem: string | { image_url: string } | ImageContent)`: prints an \
             image, given as a base64 `data:` URL, an object with one, or an MCP image block."
        }
    };
    format!(
        "Globals:\n\
         - `text(value: unknown)`: prints a text item; a value that is not a string as JSON.\n\
         {image}\n\
         - `audio(audioUrlOrItem: string | {{ audio_url: string }} | AudioContent)`: prints audio, \
         given like an image.\n\
         - `generatedImage(result: {{ image_url: string; output_hint?: string }})`: prints an image \
         that a tool has generated, and the hint that came with it.\n\
         - `store(key: string, value: unknown)`, `load(key: string)`: keep a JSON value for later \
         programs, and fetch a copy of it; `undefined` when there is none.\n\
         - `notify(value: unknown)`: sends a text at once, while the program goes on; it is not \
         part of the output.\n\
         - `yield_control()`: lets the caller have the output so far at once, while the program \
         goes on.\n\
         - `exit()`: ends the program at once, as a success; nothing can catch it.\n\
         - `setTimeout(callback: () => void, delayMs?: number)`, `clearTimeout(id?: number)`: \
         timers. Pending timers do not keep the program alive: await a promise that the callback \
         resolves.\n\
         - `ALL_TOOLS: Array<{{ name: string; description: string }}>`: every nested tool; \
         `description` holds its declaration."
    )
}

/// What is said beyond the contract.
fn beyond(limits: &CellLimits) -> String {
    let CellLimits {
        running_time,
        total_time,
        memory_bytes,
        output_bytes,
        calls,
        calls_in_flight,
        stored_bytes,
        ..
    } = limits;
    let mib = |bytes: &usize| format!("{} MiB", bytes >> 20);
    format!(
        "The language is that of ES2025, with the numbers, plurals and dates of `Intl`, or \
         TypeScript, whose types are not checked. A failed program's report holds the error with its \
         stack, by line and column of the program, and the nested calls that it made, with \
         how each ended; what it printed before is kept, and what it stored too.\n\
         Limits: {} of computing and {} in all (waiting is not computing), {} of memory, {} of \
         output, {calls} calls, {calls_in_flight} of them at a time, {} stored. A program that \
         reaches a limit ends there, nothing it stored is kept, and its report names the limit \
         and the line.",
        time(*running_time),
        time(*total_time),
        mib(memory_bytes),
        mib(output_bytes),
        mib(stored_bytes),
    )
}

/// A time in the largest unit that it is a whole number of.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        _ if time.subsec_nanos() != 0 => format!("{} ms", time.as_millis()),
        0 => "0 s".to_owned(),
        _ if seconds.is_multiple_of(3_600) => format!("{} h", seconds / 3_600),
        _ => format!("{seconds} s"),
    }
}

/// What saved scripts are.
fn scripts(form: InputForm) -> String {
    let instead = match form {
        InputForm::Source => "",
        InputForm::Arguments => {
            " To run one alone, pass `script`, its name, and `input` instead of `code`."
        }
    };
    format!(
        "Saved scripts are programs that need not be sent again: `await scripts.NAME(input)` \
         calls the tool `tools.scripts__NAME`. Each call runs in a sandbox of its own.{instead}"
    )
}

/// How to find the tools that are not declared, and their names.
fn deferred(catalog: &ToolCatalog) -> String {
    let mut text =
        "Some nested tools are deferred: they are not declared here, but are on `tools` \
                    and in `ALL_TOOLS` like the others. Find them by name and description, and \
                    read a declaration before a first call: `text(ALL_TOOLS.filter(({ name, \
                    description }) => /issue/i.test(name + description)))`. Deferred are:"
            .to_owned();
    let mut prefix = None;
    let mut left = DEFERRED_NAMES_BYTES;
    let mut unlisted = 0_usize;
    for tool in catalog.tools().iter().filter(|tool| tool.deferred) {
        let (of, name) = split_name(tool);
        if unlisted > 0 || name.len() + 2 > left {
            unlisted += 1;
            continue;
        }
        left -= name.len() + 2;
        if prefix == Some(of) {
            text.push_str(", ");
        } else {
            prefix = Some(of);
            text.push_str("\n- ");
            if !of.is_empty() {
                let about = catalog.namespace(&tool.definition.tool_name);
                let about = about.map_or_else(String::new, |about| first_line(&about.description));
                left = left.saturating_sub(of.len() + about.len());
                // Writing to a string cannot fail.
                let _ = write!(text, "`tools.{of}*`{about}: ");
            }
        }
        text.push_str(name);
    }
    if unlisted > 0 {
        let _ = write!(text, "\n- and {unlisted} more, in `ALL_TOOLS`");
    }
    text
}

/// What stands before every tool of its namespace, and the rest of a tool's name.
fn split_name(tool: &CatalogTool) -> (&str, &str) {
    let definition = &tool.definition;
    if definition.tool_name.own_namespace().is_none()
        || code_mode_name(&definition.tool_name) != definition.name
    {
        return ("", &tool.global_name);
    }
    // A character of a name is one of its identifier, which is ASCII.
    let own = definition.tool_name.name.chars().count();
    tool.global_name.split_at(tool.global_name.len().saturating_sub(own))
}

/// The first line of a namespace's description, in parentheses.
fn first_line(description: &str) -> String {
    let line = description.trim().lines().next().unwrap_or_default().trim_end();
    match line.char_indices().nth(DEFERRED_DESCRIPTION_CHARS) {
        _ if line.is_empty() => String::new(),
        Some((end, _)) => format!(" ({}…)", &line[..end]),
        None => format!(" ({line})"),
    }
}

/// A tool's heading and declaration.
fn declared(tool: &CatalogTool) -> String {
    let CatalogTool { definition, global_name, .. } = tool;
    let raw = &definition.name;
    let heading = if raw == global_name {
        format!("### `{global_name}`")
    } else {
        format!("### `{global_name}` (`{raw}`)")
    };
    format!("{heading}\n{}", sample(definition))
}
