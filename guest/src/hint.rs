//! Hints: what the author of a program should change, where its end shows one of the
//! common mistakes. They stand beside the error text, which reads as V8's.

use crate::bindings::cellblock::code_mode::types::Outcome;
use crate::engine::Unawaited;
use crate::state;

/// Names of other hosts, and what to use here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("console", "There is no `console`. Print with `text(value)`."),
    ("print", "There is no `print`. Print with `text(value)`."),
    (
        "require",
        "There is no `require` and there are no modules. Call a tool with `await tools.NAME(input)`.",
    ),
    ("module", "There is no `module`. A program prints with `text(value)`; nothing is exported."),
    ("exports", "There is no `exports`. A program prints with `text(value)`; nothing is exported."),
    ("fetch", "There is no network. Call a tool that fetches, with `await tools.NAME(input)`."),
    (
        "XMLHttpRequest",
        "There is no network. Call a tool that fetches, with `await tools.NAME(input)`.",
    ),
    (
        "process",
        "There is no `process`: no environment, arguments or files. End a program with `exit()`.",
    ),
    (
        "Buffer",
        "There is no `Buffer`. Use `Uint8Array`, and `Uint8Array.fromBase64` or `toBase64`.",
    ),
    ("atob", "There is no `atob`. Use `Uint8Array.fromBase64(text)`."),
    ("btoa", "There is no `btoa`. Use `bytes.toBase64()` of a `Uint8Array`."),
    (
        "setInterval",
        "There is no `setInterval`. Use `setTimeout(callback, ms)` again in the callback, and await something.",
    ),
    ("setImmediate", "There is no `setImmediate`. Use `setTimeout(callback, 0)`."),
    ("queueMicrotask", "There is no `queueMicrotask`. Use `Promise.resolve().then(callback)`."),
    ("structuredClone", "There is no `structuredClone`. Use `JSON.parse(JSON.stringify(value))`."),
    ("URL", "There is no `URL`. Take the text apart with a regular expression."),
    ("URLSearchParams", "There is no `URLSearchParams`. Use `encodeURIComponent`."),
    (
        "TextEncoder",
        "There is no `TextEncoder`. Use `unescape(encodeURIComponent(text))` for bytes of UTF-8.",
    ),
    ("TextDecoder", "There is no `TextDecoder`. Use `decodeURIComponent(escape(text))` for UTF-8."),
    ("crypto", "There is no `crypto`. `Math.random()` gives numbers that are no secrets."),
    ("window", "This is no browser: there is no `window`. Globals are on `globalThis`."),
    ("document", "This is no browser: there is no `document`."),
    ("global", "There is no `global`. Use `globalThis`."),
    ("fs", "There are no files. Call a tool with `await tools.NAME(input)`."),
    ("Deno", "This is not Deno. Call a tool with `await tools.NAME(input)`."),
    ("Bun", "This is not Bun. Call a tool with `await tools.NAME(input)`."),
];

/// Beginnings of text that only TypeScript has.
const TYPESCRIPT: &[&str] =
    &["interface ", "type ", "enum ", "declare ", "namespace ", "abstract class ", "import type "];

/// What a parser of JavaScript says about types.
const TYPE_ERRORS: &[&str] = &[
    "Missing initializer in const declaration",
    "Unexpected token ':'",
    "Unexpected token '!'",
    "Unexpected token '<'",
    "Unexpected token '{'",
    "Unexpected token 'class'",
    "Unexpected identifier",
    "Unexpected strict mode reserved word",
    "Unexpected reserved word",
    "unsupported keyword: enum",
];

/// The hint for a program that ended so, if there is one.
pub(crate) fn of(outcome: &Outcome, pending: &Unawaited) -> Option<String> {
    match outcome {
        Outcome::Failed(text) => state::with(|state| failed(&state.source, text, state)),
        Outcome::Completed => state::with(|state| completed(state, pending)),
        Outcome::Limited(_) => None,
    }
}

fn failed(source: &str, error: &str, state: &state::State) -> Option<String> {
    let first = error.lines().next().unwrap_or_default();
    if source.trim_start().starts_with("```") {
        return Some(
            "The program is wrapped in a Markdown fence. Send it without the lines of backticks."
                .to_owned(),
        );
    }
    if let Some(name) =
        first.strip_prefix("ReferenceError: ").and_then(|rest| rest.strip_suffix(" is not defined"))
    {
        return ELSEWHERE
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, hint)| (*hint).to_owned());
    }
    if first.to_ascii_lowercase().starts_with("unsupported import in exec") {
        return Some(
            "There are no modules to import. Everything is a global; call a tool with `await tools.NAME(input)`."
                .to_owned(),
        );
    }
    if let Some(name) = first
        .strip_prefix("TypeError: tools.")
        .and_then(|rest| rest.strip_suffix(" is not a function"))
    {
        return Some(no_tool(name, &state.tool_names));
    }
    if first.contains("Converting circular structure to JSON") {
        return Some(
            "An object that contains itself has no JSON: it cannot be printed, stored or passed. \
             Pick the fields."
                .to_owned(),
        );
    }
    if first.contains("Do not know how to serialize a BigInt") {
        return Some(
            "JSON has no BigInt. Convert it with `String(value)` or `Number(value)`.".to_owned(),
        );
    }
    let error = first.strip_prefix("SyntaxError: ")?;
    if error == "Illegal return statement" {
        return Some(
            "A program is a module, not a function: `return` does not work at the top. Print with `text(value)`, and end early with `exit()`."
                .to_owned(),
        );
    }
    if error == "Unexpected reserved word" && source.contains("await") {
        return Some(
            "`await` works at the top and in async functions only: write `async` before the function around it."
                .to_owned(),
        );
    }
    is_typescript(source, error).then(|| {
        "This looks like TypeScript. Programs are JavaScript: leave out types, `interface`, `enum` and `as`."
            .to_owned()
    })
}

/// Whether a program that does not parse looks like TypeScript.
fn is_typescript(source: &str, error: &str) -> bool {
    if !TYPE_ERRORS.iter().any(|known| error.starts_with(known)) {
        return false;
    }
    let begins = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line);
        TYPESCRIPT.iter().any(|word| line.starts_with(word))
    };
    let annotated = |line: &str| {
        let mut parts = line.split(':').peekable();
        let mut found = false;
        while let Some(part) = parts.next() {
            let named = part
                .trim_end()
                .ends_with(|c: char| c.is_alphanumeric() || c == ')' || c == '?' || c == '_');
            if named && let Some(next) = parts.peek() {
                let next = next.trim_start();
                let types = [
                    "string", "number", "boolean", "any", "unknown", "void", "Promise<", "Record<",
                    "Array<", "object",
                ];
                found |= types.iter().any(|name| next.starts_with(name));
            }
        }
        found
    };
    source.lines().any(|line| begins(line) || annotated(line))
        || error == "Unexpected identifier 'as'"
        || source.contains(" as const")
        || source.contains("!: ")
}

fn no_tool(name: &str, tools: &[String]) -> String {
    let mut near: Vec<_> = tools
        .iter()
        .map(|tool| (distance(name, tool), tool))
        .filter(|(far, tool)| *far <= (tool.len().max(name.len()) / 2).max(2))
        .collect();
    near.sort();
    let near: Vec<_> = near.iter().take(3).map(|(_, tool)| format!("`tools.{tool}`")).collect();
    if near.is_empty() {
        format!("There is no tool `{name}`. `ALL_TOOLS` lists those there are.")
    } else {
        format!(
            "There is no tool `{name}`. Did you mean {}? `ALL_TOOLS` lists those there are.",
            near.join(" or ")
        )
    }
}

/// Longest name that is compared.
const COMPARED: usize = 64;

/// Edit distance of two names, without regard to case.
fn distance(one: &str, other: &str) -> usize {
    let letters = |name: &str| -> Vec<char> {
        name.chars().take(COMPARED).flat_map(char::to_lowercase).collect()
    };
    let (one, other) = (letters(one), letters(other));
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn completed(state: &state::State, pending: &Unawaited) -> Option<String> {
    if matches!(state.stop, Some(state::Stop::Exit)) {
        // The program wants to end here, whatever is left.
        return None;
    }
    if let Unawaited { count: count @ 1.., place } = pending {
        let promises =
            if *count == 1 { "1 promise was".to_owned() } else { format!("{count} promises were") };
        let made = place.map_or_else(String::new, |(line, column)| match count {
            1 => format!(", made at {line}:{column}"),
            _ => format!(", first made at {line}:{column}"),
        });
        return Some(format!(
            "{promises} pending when the program ended{made}. What is not awaited is dropped: \
             write `await` before it."
        ));
    }
    if state.timers.next().is_some() {
        return Some(
            "Timers were pending when the program ended, and do not keep it alive. Await a \
             promise that the callback resolves."
                .to_owned(),
        );
    }
    if state.said {
        return None;
    }
    if state.source.contains("export default") {
        return Some(
            "Nothing runs what a program exports. Write the body at the top, and print with \
             `text(value)`."
                .to_owned(),
        );
    }
    Some("The program printed nothing: use `text(value)`.".to_owned())
}
