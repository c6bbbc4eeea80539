//! Arguments of nested calls, checked against the tools' input schemas before the host is
//! called.
//!
//! A tool's own complaint comes late and seldom says what to write instead. A rejection
//! from here names the member that is missing, unknown or of the wrong type, and the
//! nearest name there is.

use crate::backend::{CellId, CodeModeNestedToolCall, CodeModeTurnHost, ToolInput, ToolResult};
use crate::tools::{ToolDefinition, ToolName};
use async_trait::async_trait;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// Bytes of arguments that are checked; longer ones are passed on.
const INPUT_BYTES: usize = 64 << 10;
/// Levels of arguments that are checked; deeper ones are passed on.
const INPUT_DEPTH: usize = 64;
/// Values of a schema that is used; a larger one checks nothing.
const SCHEMA_VALUES: usize = 20_000;
/// Levels of a schema that is used, references followed.
const SCHEMA_DEPTH: usize = 64;
/// Mistakes that a rejection names.
const NAMED: usize = 3;
/// Characters of a mistake's text.
const TEXT_CHARS: usize = 300;
/// How alike two names must be for one to be suggested, from 0 to 1.
const ALIKE: f64 = 0.6;

/// Checks the arguments of nested calls. Opt in by serving a turn through
/// [`serve`](Self::serve). A shared handle, as every clone has the same schemas.
///
/// A schema that refers to itself, or to something outside, or that is not a schema, checks
/// nothing, and so does the lack of one. What is checked is a help for the program's author:
/// tools must still not trust what they get.
///
/// ```
/// use cellblock::{ToolDefinition, ToolName, model::ArgumentChecks};
/// use serde_json::json;
///
/// let tool = ToolDefinition {
///     input_schema: Some(json!({
///         "type": "object",
///         "properties": { "commit": { "type": "string" }, "depth": { "type": "integer" } },
///         "required": ["commit"],
///         "additionalProperties": false,
///     })),
///     ..ToolDefinition::function("show", "A commit.")
/// };
/// let checks = ArgumentChecks::new([tool]);
/// let check = |input| checks.check(&ToolName::plain("show"), Some(&input));
/// assert_eq!(check(json!({ "commit": "a1", "depth": 2 }).into()), Ok(()));
/// assert_eq!(
///     check(json!({ "comit": "a1", "depth": "2" }).into()).unwrap_err().to_string(),
///     "the arguments of `show` do not fit its input schema, and it was not called: \
///      `comit` is not known, did you mean `commit`?; `commit` is missing; \
///      `depth` must be integer, and is \"2\""
/// );
/// ```
#[derive(Clone)]
pub struct ArgumentChecks(Arc<HashMap<ToolName, Checked>>);

/// The schema of a tool.
struct Checked {
    /// The name that programs call.
    name: String,
    schema: Value,
    /// Made when the tool is first called; `None` checks nothing.
    validator: OnceLock<Option<Validator>>,
}

/// Arguments that do not fit a tool's input schema. The text is for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the arguments of `{tool}` do not fit its input schema, and it was not called: {}",
    mistakes.join("; ")
)]
pub struct ToolArgumentsError {
    /// The tool's name, as programs call it.
    pub tool: String,
    /// What is wrong, of the first mistakes.
    pub mistakes: Vec<String>,
}

impl ArgumentChecks {
    /// Checks the calls of these tools.
    pub fn new(tools: impl IntoIterator<Item = ToolDefinition>) -> Self {
        let checked = |tool: ToolDefinition| {
            let validator = OnceLock::new();
            Some((
                tool.tool_name,
                Checked { name: tool.name, schema: tool.input_schema?, validator },
            ))
        };
        Self(Arc::new(tools.into_iter().filter_map(checked).collect()))
    }

    /// Checks the arguments of one call; a call without any is one of `{}`.
    ///
    /// # Errors
    /// The mistakes in them.
    pub fn check(
        &self,
        tool: &ToolName,
        input: Option<&ToolInput>,
    ) -> Result<(), ToolArgumentsError> {
        let Some(checked) = self.0.get(tool) else { return Ok(()) };
        if input.is_some_and(|it| it.byte_len() > INPUT_BYTES || !it.is_shallow(INPUT_DEPTH)) {
            return Ok(());
        }
        let Some(validator) = checked.validator.get_or_init(|| validator(&checked.schema)) else {
            return Ok(());
        };
        let input = input.map_or_else(|| Value::Object(Map::new()), ToolInput::to_value);
        if validator.is_valid(&input) {
            return Ok(());
        }
        let mut mistakes: Vec<_> = validator
            .iter_errors(&input)
            .take(NAMED * 4)
            .flat_map(|it| mistakes(&it, &checked.schema))
            .collect();
        mistakes.sort();
        mistakes.truncate(NAMED);
        Err(ToolArgumentsError { tool: checked.name.clone(), mistakes })
    }

    /// A host that is not called with arguments that do not fit.
    pub fn serve(&self, host: Arc<dyn CodeModeTurnHost>) -> Arc<dyn CodeModeTurnHost> {
        Arc::new(CheckingHost { host, checks: self.clone() })
    }
}

impl std::fmt::Debug for ArgumentChecks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArgumentChecks").field("tools", &self.0.len()).finish()
    }
}

/// The validator of a schema that can be used.
fn validator(schema: &Value) -> Option<Validator> {
    let mut left = SCHEMA_VALUES;
    if !is_finite(schema, schema, SCHEMA_DEPTH, &mut left) {
        return None;
    }
    jsonschema::options()
        // Patterns come from tools and texts from programs: in linear time only.
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .ok()
}

/// Whether a schema, its references followed, ends. Only then does checking end, too.
fn is_finite(root: &Value, part: &Value, depth: usize, left: &mut usize) -> bool {
    if depth == 0 || *left == 0 {
        return false;
    }
    *left -= 1;
    match part {
        Value::Array(parts) => parts.iter().all(|part| is_finite(root, part, depth - 1, left)),
        Value::Object(members) => members.iter().all(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(to)) => {
                let target = to.strip_prefix('#').and_then(|path| root.pointer(path));
                target.is_some_and(|target| is_finite(root, target, depth - 1, left))
            }
            ("$dynamicRef" | "$recursiveRef" | "$id" | "id" | "$anchor", Value::String(_)) => false,
            (_, value) => is_finite(root, value, depth - 1, left),
        }),
        _ => true,
    }
}

/// What is wrong, in words that say what to write instead.
fn mistakes(error: &ValidationError<'_>, schema: &Value) -> Vec<String> {
    let at = error.instance_path().as_str();
    let place = at.trim_start_matches('/').replace('/', ".");
    let within = |name: &str| {
        if place.is_empty() { format!("`{name}`") } else { format!("`{place}.{name}`") }
    };
    let subject = if place.is_empty() { "the argument".to_owned() } else { format!("`{place}`") };
    let mistakes = match error.kind() {
        ValidationErrorKind::Required { property } => {
            vec![format!("{} is missing", within(property.as_str().unwrap_or_default()))]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = known_names(error, schema);
            let unknown = |name: &String| match nearest(name, &known) {
                Some(near) => {
                    format!("{} is not known, did you mean `{near}`?", within(name))
                }
                None if known.is_empty() => format!("{} is not known", within(name)),
                None => format!("{} is not known, of {}", within(name), listed(&known)),
            };
            unexpected.iter().map(unknown).collect()
        }
        ValidationErrorKind::Type { .. } => {
            let types = error.schema_path().as_str();
            let types = schema.pointer(types).map(names_of).unwrap_or_default();
            vec![format!("{subject} must be {types}, and is {}", error.instance())]
        }
        ValidationErrorKind::Enum { options } => {
            vec![format!("{subject} must be one of {options}, and is {}", error.instance())]
        }
        _ if place.is_empty() => vec![error.to_string()],
        _ => vec![format!("{subject}: {error}")],
    };
    mistakes.into_iter().map(|text| text.chars().take(TEXT_CHARS).collect()).collect()
}

/// The types that a schema names.
fn names_of(types: &Value) -> String {
    match types {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        _ => String::new(),
    }
}

/// Names of members beside the keyword that an error is about.
fn known_names(error: &ValidationError<'_>, schema: &Value) -> Vec<String> {
    let path = error.schema_path().as_str();
    let owner = path.rsplit_once('/').map_or("", |(owner, _)| owner);
    let properties = schema.pointer(owner).and_then(|owner| owner.get("properties"));
    let names = properties.and_then(Value::as_object);
    names.map(|names| names.keys().cloned().collect()).unwrap_or_default()
}

fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let alike = |other: &str| {
        strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase())
    };
    let near = known.iter().take(256).map(|other| (alike(other), other));
    near.filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

fn listed(names: &[String]) -> String {
    names.iter().take(10).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A host whose calls are checked.
struct CheckingHost {
    host: Arc<dyn CodeModeTurnHost>,
    checks: ArgumentChecks,
}

#[async_trait]
impl CodeModeTurnHost for CheckingHost {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.checks
            .check(&call.tool_name, call.input.as_ref())
            .map_err(|error| error.to_string())?;
        self.host.invoke_tool(call, cancellation).await
    }

    fn answers_at_once(&self, tool: &ToolName) -> bool {
        self.host.answers_at_once(tool)
    }

    /// Its arguments were checked when it was made.
    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        self.host.resume_call(call, cancellation).await
    }

    async fn notify(
        &self,
        call_id: String,
        cell_id: CellId,
        text: String,
        cancellation: CancellationToken,
    ) -> Result<(), String> {
        self.host.notify(call_id, cell_id, text, cancellation).await
    }

    fn cell_closed(&self, cell_id: &CellId) {
        self.host.cell_closed(cell_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, input: Value) -> Result<(), String> {
        let tool = ToolDefinition {
            input_schema: Some(schema),
            ..ToolDefinition::function("tool", "A tool.")
        };
        let checks = ArgumentChecks::new([tool]);
        let input = ToolInput::from(input);
        let checked = checks.check(&ToolName::plain("tool"), Some(&input));
        checked.map_err(|error| error.mistakes.join("; "))
    }

    #[test]
    fn a_rejection_says_what_to_write_instead() {
        let schema = json!({
            "type": "object",
            "properties": {
                "file_path": { "type": "string" },
                "mode": { "enum": ["read", "write"] },
                "range": {
                    "type": "object",
                    "properties": { "start": { "type": ["integer", "null"] } },
                    "required": ["start"],
                    "additionalProperties": false,
                },
                "lines": { "type": "array", "items": { "type": "number", "minimum": 1 } },
            },
            "additionalProperties": false,
        });
        for (input, expected) in [
            (json!({ "filePath": "a" }), "`filePath` is not known, did you mean `file_path`?"),
            (
                json!({ "mode": "append" }),
                "`mode` must be one of [\"read\",\"write\"], and is \"append\"",
            ),
            (json!({ "range": {} }), "`range.start` is missing"),
            (
                json!({ "range": { "start": "1" } }),
                "`range.start` must be integer or null, and is \"1\"",
            ),
            (
                json!({ "range": { "start": 1, "stat": 2 } }),
                "`range.stat` is not known, did you mean `start`?",
            ),
            (json!({ "lines": [1, 0] }), "`lines.1`: 0 is less than the minimum of 1"),
            (json!("a"), "the argument must be object, and is \"a\""),
        ] {
            assert_eq!(check(schema.clone(), input), Err(expected.to_owned()));
        }
    }

    /// What comes from tools and programs, of any shape, hurts nobody.
    #[test]
    fn what_cannot_be_checked_is_passed_on() {
        for schema in [
            json!({ "$ref": "#" }),
            json!({ "properties": { "a": { "$ref": "#" } }, "required": ["b"] }),
            json!({ "$ref": "https://example.com/schema.json" }),
            json!({ "$ref": "file:///etc/passwd" }),
            json!({ "type": "no type" }),
            json!({ "pattern": "(" }),
            json!(5),
        ] {
            assert_eq!(check(schema, json!({})), Ok(()));
        }
        let slow = json!({ "type": "string", "pattern": "^(a+)+$" });
        assert!(check(slow, Value::from("a".repeat(10_000) + "b")).is_err());
        let strict = json!({ "type": "string" });
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert_eq!(check(strict.clone(), deep), Ok(()));
        assert_eq!(check(strict, Value::from(vec![0; INPUT_BYTES])), Ok(()));
    }

    #[test]
    fn a_call_without_arguments_is_one_of_an_empty_object() {
        let tool = ToolDefinition {
            input_schema: Some(json!({ "type": "object", "required": ["a"] })),
            ..ToolDefinition::function("tool", "A tool.")
        };
        let checks = ArgumentChecks::new([tool]);
        let error = checks.check(&ToolName::plain("tool"), None).unwrap_err();
        assert_eq!(error.mistakes, ["`a` is missing"]);
        assert_eq!(checks.check(&ToolName::plain("other"), None), Ok(()));
    }
}
