//! What stands in front of every program: it makes of the flat `tools` of the contract what
//! programs find here.
//!
//! Tools are called as `tools.server__tool` and as `tools.server.tool`; a call that fails
//! rejects with an `Error` whose `result` is what the tool returned; `tools.search` finds
//! tools by words. The prelude stands on the first line, so that the lines of the program
//! keep their numbers; columns of the first line are set right in errors.

use serde_json::{Value, json};
use std::borrow::Cow;

const SOURCE: &str = include_str!("prelude.js");

/// How places in a program are written.
const FIRST_LINE: &str = "exec_main.mjs:1:";

/// The prelude for the tools of these servers, by their names in programs.
pub(crate) fn prelude(aliases: &[String]) -> String {
    // No alias has two underscores in a row, so a tool's name begins with one of them alone.
    let aliases: Vec<_> = aliases.iter().map(String::as_str).chain(["scripts"]).collect();
    let source: String = SOURCE.trim_end().split('\n').collect();
    format!("{source}({});", json!(aliases))
}

/// Why a call failed, as the prelude takes it apart.
pub(crate) fn failure(message: &str, result: Option<Value>) -> String {
    let mut failure = json!({ "message": message });
    if let Some(result) = result {
        failure["result"] = result;
    }
    failure.to_string()
}

/// What a failure says, without what only the prelude needs.
pub(crate) fn message_of(failure: &str) -> Cow<'_, str> {
    match serde_json::from_str::<Value>(failure) {
        Ok(Value::Object(mut told)) => match told.remove("message") {
            Some(Value::String(message)) => message.into(),
            _ => failure.into(),
        },
        _ => failure.into(),
    }
}

/// Sets the columns of the first line right: `prelude` bytes stand in front of it.
pub(crate) fn without_prelude(text: &str, prelude: usize) -> String {
    let mut rest = text;
    let mut right = String::with_capacity(text.len());
    while let Some(at) = rest.find(FIRST_LINE) {
        let (before, after) = rest.split_at(at + FIRST_LINE.len());
        right.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        match after[..digits].parse::<usize>() {
            Ok(column) if column > prelude => right.push_str(&(column - prelude).to_string()),
            _ => right.push_str(&after[..digits]),
        }
        rest = &after[digits..];
    }
    right.push_str(rest);
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shown_by_its_message() {
        assert_eq!(message_of(&failure("no \"x\"", Some(json!({ "a": 1 })))), "no \"x\"");
        for plain in ["no such thing", "{}", "{\"message\":1}", "5"] {
            assert_eq!(message_of(plain), plain);
        }
    }

    #[test]
    fn columns_of_the_first_line_are_those_of_the_program() {
        let text = "Error: x\n    at f (exec_main.mjs:1:1010)\n    at exec_main.mjs:2:1010\n    at exec_main.mjs:1:7";
        assert_eq!(
            without_prelude(text, 1_000),
            "Error: x\n    at f (exec_main.mjs:1:10)\n    at exec_main.mjs:2:1010\n    at exec_main.mjs:1:7"
        );
        let prelude = prelude(&["a".to_owned()]);
        assert!(
            !prelude.contains('\n') && prelude.ends_with("([\"a\",\"scripts\"]);"),
            "{prelude}"
        );
    }
}
