//! The arguments of `exec` where it takes JSON instead of a program's text.

use super::pragma::{ExecSourceError, ParsedExecSource, parse_exec_source};
use super::scripts::call_script;
use super::wait_spec::ArgumentsError;
use serde::Deserialize;
use serde_json::Value;

/// The arguments of `exec` as JSON. Fields that it does not know are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ExecArguments {
    /// The program; it may begin with a line of options, which the other arguments overrule.
    #[serde(alias = "source")]
    pub code: Option<String>,
    /// A saved script to run instead, see [`ScriptLibrary`](super::ScriptLibrary).
    pub script: Option<String>,
    /// The script's input.
    #[serde(default)]
    pub input: Value,
    /// When to answer if the program still runs, in milliseconds.
    pub yield_time_ms: Option<u64>,
    /// Tokens that the output may have.
    pub max_output_tokens: Option<usize>,
    /// Whether the program's value is wanted; the program's options may say so as well.
    #[serde(default)]
    pub result: bool,
}

/// What is wrong with the arguments of `exec`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecArgumentsError {
    /// They are not JSON, or not those of `exec`.
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
    /// Neither a program nor a script is there, or both are.
    #[error("exec takes either `code` or `script`")]
    EitherOr,
    /// The program is empty, or its options are wrong.
    #[error(transparent)]
    Source(#[from] ExecSourceError),
}

impl ExecArguments {
    /// Reads the arguments of a call and the program in them.
    ///
    /// ```
    /// use cellblock::model::ExecArguments;
    ///
    /// let parsed = ExecArguments::parse(r#"{"code": "text(1)", "yield_time_ms": 5}"#).unwrap();
    /// assert_eq!((parsed.code.as_str(), parsed.yield_time_ms), ("text(1)", Some(5)));
    /// let parsed = ExecArguments::parse(r#"{"script": "report", "input": [1]}"#).unwrap();
    /// assert_eq!(parsed.code, "text(await tools.scripts__report(JSON.parse(\"[1]\")))");
    /// ```
    ///
    /// # Errors
    /// [`ExecArgumentsError`], whose text is meant for the model.
    pub fn parse(arguments: &str) -> Result<ParsedExecSource, ExecArgumentsError> {
        let arguments: Self =
            serde_json::from_str(arguments).map_err(|error| ArgumentsError(error.to_string()))?;
        let code = match (arguments.code, arguments.script) {
            (Some(code), None) => code,
            (None, Some(script)) => call_script(&script, &arguments.input),
            _ => return Err(ExecArgumentsError::EitherOr),
        };
        let parsed = parse_exec_source(&code)?;
        Ok(ParsedExecSource {
            yield_time_ms: arguments.yield_time_ms.or(parsed.yield_time_ms),
            max_output_tokens: arguments.max_output_tokens.or(parsed.max_output_tokens),
            result: arguments.result || parsed.result,
            code: parsed.code,
        })
    }
}
