//! The tool `wait` as model interfaces take it, and its arguments.

use super::output::DEFAULT_MAX_OUTPUT_TOKENS;
use crate::backend::{CellId, WaitRequest};
use crate::limits::DEFAULT_YIELD_TIME_MS;
use serde::Deserialize;
use serde_json::{Value, json};

/// Name of the tool that fetches what a running program has to say.
pub const WAIT_TOOL_NAME: &str = "wait";

/// The tool `wait`.
///
/// ```
/// let wait = cellblock::model::WaitToolSpec::default();
/// assert_eq!(wait.openai()["parameters"]["required"][0], "cell_id");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitToolSpec {
    /// When `wait` answers if nothing else makes it and the model does not say, in
    /// milliseconds.
    pub default_yield_time_ms: u64,
    /// Tokens of output when the model does not say how many.
    pub default_max_output_tokens: usize,
}

impl Default for WaitToolSpec {
    fn default() -> Self {
        Self {
            default_yield_time_ms: DEFAULT_YIELD_TIME_MS,
            default_max_output_tokens: DEFAULT_MAX_OUTPUT_TOKENS,
        }
    }
}

impl WaitToolSpec {
    /// What the model reads about the tool.
    pub fn description(&self) -> String {
        let Self { default_yield_time_ms, default_max_output_tokens } = self;
        format!(
            "Waits on a yielded `exec` cell and returns new output or completion.\n\
             - Use it only after `exec` has answered that a cell is running, with the id it gave.\n\
             - `yield_time_ms`: how long to wait for the cell before answering that it still runs; \
             defaults to {default_yield_time_ms}. It answers as soon as the cell ends, so one long \
             wait is better than many short ones.\n\
             - `max_tokens`: how much output to answer with; defaults to \
             {default_max_output_tokens}.\n\
             - `terminate`: true ends the cell instead of waiting for it.\n\
             - It returns only what is new since the last answer, or the final result.\n\
             - It may yield again; then call it again with the same id, or do other work first.\n\
             - Once a cell has ended, `wait` returns its result and the cell is closed."
        )
    }

    /// The schema of the arguments; see [`WaitArguments`].
    pub fn input_schema(&self) -> Value {
        let member =
            |kind: &str, description: &str| json!({ "type": kind, "description": description });
        json!({
            "type": "object",
            "properties": {
                "cell_id": member("string", "The running cell."),
                "yield_time_ms":
                    member("number", "Milliseconds to wait for more before answering."),
                "max_tokens": member("number", "Tokens of output to answer with."),
                "terminate": member("boolean", "Whether to end the cell."),
            },
            "required": ["cell_id"],
            "additionalProperties": false,
        })
    }

    /// A function tool of `OpenAI`'s Responses.
    pub fn openai(&self) -> Value {
        json!({
            "type": "function",
            "name": WAIT_TOOL_NAME,
            "description": self.description(),
            "strict": false,
            "parameters": self.input_schema(),
        })
    }

    /// A tool of Anthropic's Messages.
    pub fn anthropic(&self) -> Value {
        json!({
            "name": WAIT_TOOL_NAME,
            "description": self.description(),
            "input_schema": self.input_schema(),
        })
    }

    /// A tool of the Model Context Protocol.
    pub fn mcp(&self) -> Value {
        json!({
            "name": WAIT_TOOL_NAME,
            "title": "Wait for a program",
            "description": self.description(),
            "inputSchema": self.input_schema(),
        })
    }
}

/// The arguments of `wait`. Fields that it does not know are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WaitArguments {
    /// The cell.
    pub cell_id: CellId,
    /// How long to wait, in milliseconds; `None` when the model did not say.
    #[serde(default, deserialize_with = "present")]
    pub yield_time_ms: Option<u64>,
    /// Tokens of output; `None` when the model did not say.
    pub max_tokens: Option<usize>,
    /// End the cell instead.
    #[serde(default)]
    pub terminate: bool,
}

/// `failed to parse function arguments: ` and what is wrong with them, for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse function arguments: {0}")]
pub struct ArgumentsError(pub(super) String);

impl WaitArguments {
    /// Reads the arguments of a call.
    ///
    /// ```
    /// use cellblock::model::WaitArguments;
    ///
    /// let arguments = WaitArguments::parse(r#"{"cell_id": "1", "max_tokens": null}"#).unwrap();
    /// assert_eq!(arguments.request(10_000).yield_time_ms, 10_000);
    /// assert_eq!(
    ///     WaitArguments::parse("{}").unwrap_err().to_string(),
    ///     "failed to parse function arguments: missing field `cell_id` at line 1 column 2"
    /// );
    /// ```
    ///
    /// # Errors
    /// [`ArgumentsError`] when they are not JSON, or not those of `wait`.
    pub fn parse(arguments: &str) -> Result<Self, ArgumentsError> {
        serde_json::from_str(arguments).map_err(|error| ArgumentsError(error.to_string()))
    }

    /// The request to the cell, with this time unless the model has asked for another.
    pub fn request(&self, default_yield_time_ms: u64) -> WaitRequest {
        WaitRequest {
            cell_id: self.cell_id.clone(),
            yield_time_ms: self.yield_time_ms.unwrap_or(default_yield_time_ms),
        }
    }
}

/// A number that may be absent but not null.
fn present<'de, D: serde::Deserializer<'de>>(number: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(number).map(Some)
}

#[cfg(test)]
mod tests {
    use super::WaitArguments;

    #[test]
    fn what_models_send_is_read_as_codex_reads_it() {
        let parse = |arguments| WaitArguments::parse(arguments);
        let all = r#"{"cell_id":"7","yield_time_ms":18446744073709551615,"max_tokens":null,"x":1}"#;
        let arguments = parse(all).expect(all);
        assert_eq!(arguments.yield_time_ms, Some(u64::MAX));
        assert_eq!((arguments.max_tokens, arguments.terminate), (None, false));
        for refused in [
            r#"{"cell_id":"7","yield_time_ms":null}"#,
            r#"{"cell_id":"7","terminate":null}"#,
            r#"{"cell_id":7}"#,
            r#"{"yield_time_ms":1}"#,
            "cell 7",
        ] {
            let error = parse(refused).expect_err(refused).to_string();
            assert!(error.starts_with("failed to parse function arguments: "), "{error}");
        }
    }
}
