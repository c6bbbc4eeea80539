//! What a model sends to `exec`: a program, and options in front of it.

use serde::Deserialize;
use serde_json::Value;

/// How the first line of a program begins when it holds options.
pub const CODE_MODE_PRAGMA_PREFIX: &str = "// @exec:";

/// The largest integer that JavaScript's numbers hold exactly, and the largest that an
/// option may be.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

const SUPPORTED: &str = "`yield_time_ms` and `max_output_tokens`";

/// A program and its options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedExecSource {
    /// The program, without the line of its options.
    pub code: String,
    /// When to answer if the program still runs, in milliseconds.
    pub yield_time_ms: Option<u64>,
    /// Tokens that the output may have, see [`approximate_tokens`](super::approximate_tokens).
    pub max_output_tokens: Option<usize>,
    /// Whether the program's value is wanted, see
    /// [`ExecuteRequest::wants_value`](crate::ExecuteRequest::wants_value).
    pub result: bool,
}

/// What is wrong with the input of `exec`. The texts are for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecSourceError {
    /// There is no program.
    #[error(
        "exec expects raw JavaScript source text (non-empty). Provide JS only, optionally with \
         first-line `// @exec: {{\"yield_time_ms\": 10000, \"max_output_tokens\": 1000}}`."
    )]
    Empty,
    /// The input is not text.
    #[error("exec expects raw JavaScript source text")]
    NotText,
    /// There are options and no program.
    #[error("exec pragma must be followed by JavaScript source on subsequent lines")]
    NoSource,
    /// The options are missing, or JSON that is not an object.
    #[error("exec pragma must be a JSON object with supported fields {SUPPORTED}")]
    NotAnObject,
    /// The options are not JSON.
    #[error("exec pragma must be valid JSON with supported fields {SUPPORTED}: {0}")]
    NotJson(String),
    /// An option that does not exist.
    #[error("exec pragma only supports {SUPPORTED}; got `{0}`")]
    UnknownField(String),
    /// An option of the wrong type.
    #[error("exec pragma fields {SUPPORTED} must be non-negative safe integers: {0}")]
    WrongType(String),
    /// An option over [`MAX_SAFE_INTEGER`].
    #[error("exec pragma field `{0}` must be a non-negative safe integer")]
    NotSafe(&'static str),
}

#[derive(Deserialize)]
struct Options {
    yield_time_ms: Option<u64>,
    max_output_tokens: Option<u64>,
    #[serde(default)]
    result: bool,
}

/// Takes the input of `exec` apart. The program is taken as it is: fences and quotes
/// around it are part of it.
///
/// ```
/// use cellblock::model::parse_exec_source;
///
/// let parsed = parse_exec_source("// @exec: {\"yield_time_ms\": 500}\ntext(1)").unwrap();
/// assert_eq!((parsed.code.as_str(), parsed.yield_time_ms), ("text(1)", Some(500)));
///
/// let parsed = parse_exec_source("// @exec: {\"result\": true}\nreturn 1 + 1").unwrap();
/// assert!(parsed.result);
///
/// let error = parse_exec_source("// @exec: {\"timeout\": 5}\ntext(1)").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "exec pragma only supports `yield_time_ms` and `max_output_tokens`; got `timeout`"
/// );
/// ```
///
/// # Errors
/// An [`ExecSourceError`] whose text is meant for the model.
pub fn parse_exec_source(input: &str) -> Result<ParsedExecSource, ExecSourceError> {
    if input.trim().is_empty() {
        return Err(ExecSourceError::Empty);
    }
    let (first, rest) = input.split_once('\n').unwrap_or((input, ""));
    let Some(directive) = first.trim_start().strip_prefix(CODE_MODE_PRAGMA_PREFIX) else {
        return Ok(ParsedExecSource { code: input.to_owned(), ..ParsedExecSource::default() });
    };
    if rest.trim().is_empty() {
        return Err(ExecSourceError::NoSource);
    }
    let directive = directive.trim();
    if directive.is_empty() {
        return Err(ExecSourceError::NotAnObject);
    }
    let value: Value = serde_json::from_str(directive)
        .map_err(|error| ExecSourceError::NotJson(error.to_string()))?;
    let Value::Object(fields) = &value else { return Err(ExecSourceError::NotAnObject) };
    let known = ["yield_time_ms", "max_output_tokens", "result"];
    if let Some(unknown) = fields.keys().find(|field| !known.contains(&field.as_str())) {
        return Err(ExecSourceError::UnknownField(unknown.clone()));
    }
    let options: Options = serde_json::from_value(value)
        .map_err(|error| ExecSourceError::WrongType(error.to_string()))?;
    Ok(ParsedExecSource {
        code: rest.to_owned(),
        yield_time_ms: safe("yield_time_ms", options.yield_time_ms)?,
        max_output_tokens: safe("max_output_tokens", options.max_output_tokens)?
            .map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX)),
        result: options.result,
    })
}

fn safe(field: &'static str, value: Option<u64>) -> Result<Option<u64>, ExecSourceError> {
    match value {
        Some(value) if value > MAX_SAFE_INTEGER => Err(ExecSourceError::NotSafe(field)),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(input: &str) -> String {
        parse_exec_source(input).expect_err(input).to_string()
    }

    #[test]
    fn every_error_has_its_text() {
        let fields = "`yield_time_ms` and `max_output_tokens`";
        for blank in ["", " \n\t\r\n"] {
            assert_eq!(
                error(blank),
                "exec expects raw JavaScript source text (non-empty). Provide JS only, optionally \
                 with first-line `// @exec: {\"yield_time_ms\": 10000, \"max_output_tokens\": \
                 1000}`."
            );
        }
        let followed = "exec pragma must be followed by JavaScript source on subsequent lines";
        for input in ["// @exec: {}", "// @exec: {}\n  \n", "// @exec:"] {
            assert_eq!(error(input), followed);
        }
        let object = format!("exec pragma must be a JSON object with supported fields {fields}");
        for input in ["// @exec:\ntext(1)", "// @exec: [1]\ntext(1)", "// @exec: 5\r\ntext(1)"] {
            assert_eq!(error(input), object);
        }
        assert_eq!(
            error("// @exec: {yield}\ntext(1)"),
            format!(
                "exec pragma must be valid JSON with supported fields {fields}: key must be a \
                 string at line 1 column 2"
            )
        );
        assert_eq!(
            error("// @exec: {\"max_output_tokens\": 1, \"b\": 1, \"a\": 1}\n1"),
            format!("exec pragma only supports {fields}; got `b`")
        );
        for value in ["-1", "1.5", "\"5\"", "[]", "18446744073709551616"] {
            let text = error(&format!("// @exec: {{\"yield_time_ms\": {value}}}\n1"));
            let start =
                format!("exec pragma fields {fields} must be non-negative safe integers: invalid");
            assert!(text.starts_with(&start), "{text}");
        }
        for field in ["yield_time_ms", "max_output_tokens"] {
            assert_eq!(
                error(&format!("// @exec: {{\"{field}\": 9007199254740992}}\n1")),
                format!("exec pragma field `{field}` must be a non-negative safe integer")
            );
        }
    }

    #[test]
    fn options_are_taken_and_the_code_is_left_as_it_is() {
        for (input, code, yield_time_ms, max_output_tokens) in [
            ("text(1)\n", "text(1)\n", None, None),
            ("//@exec: {}\nx", "//@exec: {}\nx", None, None),
            ("// @EXEC: {}\nx", "// @EXEC: {}\nx", None, None),
            ("\n// @exec: {}\nx", "\n// @exec: {}\nx", None, None),
            ("```js\nx\n```", "```js\nx\n```", None, None),
            ("// @exec: {}\n\r\n x\n", "\r\n x\n", None, None),
            ("\t // @exec:{\"yield_time_ms\":0}\r\nx", "x", Some(0), None),
            (
                "// @exec: {\"yield_time_ms\": null, \"max_output_tokens\": 9007199254740991}\nx",
                "x",
                None,
                Some(9_007_199_254_740_991),
            ),
        ] {
            let parsed = parse_exec_source(input).expect(input);
            let expected = ParsedExecSource {
                code: code.to_owned(),
                yield_time_ms,
                max_output_tokens,
                result: false,
            };
            assert_eq!(parsed, expected, "{input}");
        }
    }
}
