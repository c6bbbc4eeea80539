//! The tools file: what a script may call, and how each call is run.

use anyhow::{Context, Result, anyhow, bail};
use cellblock::{ToolDefinition, ToolName, normalize_identifier};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// Bytes of a tools file.
const MAX_BYTES: usize = 64 << 20;
/// How long a tool may take when its entry does not say.
const DEFAULT_TIMEOUT_MS: u64 = 30_000;

/// The tools of a script.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolsFile {
    tools: Vec<Tool>,
}

/// A tool: how a program sees it, and the command behind it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Name; characters that an identifier cannot have are replaced.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of the input.
    pub input_schema: Value,
    /// JSON Schema of the result.
    #[serde(default)]
    pub output_schema: Option<Value>,
    /// Program and arguments. An argument `{key}` is replaced by that member of
    /// the input; a list gives an argument for each element. No shell is involved. A tool
    /// that is deferred needs none.
    #[serde(default)]
    pub command: Vec<String>,
    /// Whether its calls are answered later: a script that waits for nothing else is parked,
    /// where `--park` says so. The command is not run then.
    #[serde(default)]
    pub deferred: bool,
    /// What standard output is.
    #[serde(default)]
    pub output: Output,
    /// Milliseconds until the command is ended and the call fails.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
}

/// What a command's standard output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// JSON where it parses as JSON, text where it does not.
    #[default]
    Auto,
    /// JSON, or the call fails.
    Json,
    /// Text.
    Text,
}

fn default_timeout_ms() -> u64 {
    DEFAULT_TIMEOUT_MS
}

impl Tool {
    /// Time until the command is ended.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

impl ToolsFile {
    /// Reads and checks a tools file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = super::input::file(path, MAX_BYTES)
            .with_context(|| format!("cannot read the tools file {}", path.display()))?;
        let mut json = serde_json::Deserializer::from_str(&text);
        let file: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let key = error.path().to_string();
            let key = if key == "." { String::new() } else { format!(", at {key}") };
            anyhow!("the tools file {}{key}: {}", path.display(), error.into_inner())
        })?;
        json.end().with_context(|| format!("the tools file {}", path.display()))?;
        file.check().with_context(|| format!("the tools file {}", path.display()))?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        let mut seen = HashMap::new();
        for (at, tool) in self.tools.iter().enumerate() {
            if tool.command.is_empty() && !tool.deferred {
                bail!("tools[{at}].command is empty; it needs at least a program");
            }
            if let Some(first) = seen.insert(normalize_identifier(&tool.name), at) {
                bail!(
                    "tools[{at}].name {:?} is the same as tools[{first}].name {:?} to a program; \
                     rename one",
                    tool.name,
                    self.tools[first].name
                );
            }
        }
        Ok(())
    }

    /// The tools as the library takes them.
    pub fn definitions(&self) -> Vec<ToolDefinition> {
        self.tools
            .iter()
            .map(|tool| ToolDefinition {
                name: tool.name.clone(),
                tool_name: ToolName::plain(tool.name.clone()),
                description: tool.description.clone(),
                input_schema: Some(tool.input_schema.clone()),
                output_schema: tool.output_schema.clone(),
                ..ToolDefinition::default()
            })
            .collect()
    }

    /// The tools by name.
    pub fn by_name(&self) -> HashMap<String, Tool> {
        self.tools.iter().map(|tool| (tool.name.clone(), tool.clone())).collect()
    }
}
