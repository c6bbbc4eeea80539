//! Tools as a program sees them: definitions, names, and how names become
//! JavaScript identifiers.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Identity of a tool on the host's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolName {
    /// The tool.
    pub name: String,
    /// The family it belongs to; `None`, `""` and `"functions"` mean the default one.
    pub namespace: Option<String>,
}

impl ToolName {
    /// A tool of the default namespace.
    pub fn plain(name: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: None }
    }

    /// A tool of a namespace.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: Some(namespace.into()) }
    }

    /// The namespace, unless it is the default one.
    pub fn own_namespace(&self) -> Option<&str> {
        self.namespace.as_deref().filter(|namespace| !matches!(*namespace, "" | "functions"))
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.own_namespace().unwrap_or_default(), self.name)
    }
}

/// How a tool takes its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// A JSON object.
    #[default]
    Function,
    /// A string.
    Freeform,
}

/// A tool that a program may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolDefinition {
    /// Name in code mode, not yet an identifier.
    pub name: String,
    /// Identity that comes back on a nested call.
    pub tool_name: ToolName,
    /// What a model reads about it; programs find it in `ALL_TOOLS`.
    pub description: String,
    /// How it takes its input.
    pub kind: ToolKind,
    /// JSON Schema of the input, for descriptions.
    pub input_schema: Option<Value>,
    /// JSON Schema of the result, for descriptions.
    pub output_schema: Option<Value>,
}

impl ToolDefinition {
    /// A function tool of the default namespace.
    pub fn function(name: impl Into<String>, description: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            tool_name: ToolName::plain(name.clone()),
            name,
            description: description.into(),
            ..Self::default()
        }
    }
}

impl ToolDefinition {
    /// Bytes that the definition takes in memory, about.
    pub fn byte_len(&self) -> usize {
        let schema = |schema: &Option<Value>| schema.as_ref().map_or(0, value_bytes);
        self.name.len()
            + self.tool_name.name.len()
            + self.tool_name.namespace.as_ref().map_or(0, String::len)
            + self.description.len()
            + schema(&self.input_schema)
            + schema(&self.output_schema)
    }
}

/// Bytes that a value takes in memory, about. Does not recurse: it may nest without end.
fn value_bytes(value: &Value) -> usize {
    let mut bytes = 0;
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        bytes += size_of::<Value>();
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(items) => rest.extend(items),
            Value::Object(members) => {
                bytes += members.keys().map(|key| key.len() + size_of::<String>()).sum::<usize>();
                rest.extend(members.values());
            }
            _ => {}
        }
    }
    bytes
}

/// A tool's name as a property of the `tools` object: what is not a letter,
/// digit, `_` or `$` of ASCII becomes `_`, and so does a leading digit.
///
/// ```
/// assert_eq!(cellblock::normalize_identifier("my-tool.x"), "my_tool_x");
/// assert_eq!(cellblock::normalize_identifier("2fast"), "_fast");
/// assert_eq!(cellblock::normalize_identifier(""), "_");
/// ```
pub fn normalize_identifier(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    name.chars()
        .enumerate()
        .map(|(at, c)| {
            let fits =
                c == '_' || c == '$' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit());
            if fits { c } else { '_' }
        })
        .collect()
}
