//! The tool `exec` as model interfaces take it.

use super::catalog::ToolCatalog;
use super::description::{self, InputForm};
use super::output::DEFAULT_MAX_OUTPUT_TOKENS;
use crate::limits::{CellLimits, DEFAULT_YIELD_TIME_MS};
use serde_json::{Value, json};

/// Name of the tool that runs programs.
pub const EXEC_TOOL_NAME: &str = "exec";

/// What the free-form input of `exec` may be, as a Lark grammar: a line of options and a
/// program, or a program alone.
pub const EXEC_GRAMMAR: &str = r"
start: with_pragma | without_pragma
with_pragma: PRAGMA_LINE NEWLINE SOURCE
without_pragma: SOURCE

PRAGMA_LINE: /[ \t]*\/\/ @exec:[^\r\n]*/
NEWLINE: /\r?\n/
SOURCE: /[\s\S]+/
";

/// What a host offers besides tools; the description of `exec` states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOptions {
    /// When `exec` answers if the program still runs and does not say when, in milliseconds.
    pub default_yield_time_ms: u64,
    /// Tokens of output when the program does not say how many.
    pub default_max_output_tokens: usize,
    /// The limits of each cell.
    pub limits: CellLimits,
    /// Where the model reads the declarations of nested tools.
    pub declarations: Declarations,
    /// Whether the model is told that images have a detail.
    pub image_detail: ImageDetails,
    /// Whether the model is told that a program can have a value. A host that offers it passes
    /// [`ParsedExecSource::result`](super::ParsedExecSource::result) on as
    /// [`ExecuteRequest::wants_value`](crate::ExecuteRequest::wants_value).
    pub program_values: ProgramValues,
    /// How programs call nested tools.
    pub dialect: Dialect,
}

/// How programs call nested tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// As in Codex: a call that fails rejects with a string.
    #[default]
    Codex,
    /// As an MCP server that runs programs over other servers has it: tools are grouped by
    /// their servers too, results are unwrapped, a call that fails rejects with an `Error`,
    /// and the value of the program is its result. The host sees to all of that; this says
    /// it to the model.
    Mcp,
}

/// Where a model reads the declarations of nested tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Declarations {
    /// In the description of `exec`: the model has no other tools but `exec` and `wait`.
    #[default]
    InExec,
    /// With each tool, as the model can call it directly too; see [`declare`](super::declare).
    WithEachTool,
}

/// Whether a model is told that images have a detail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageDetails {
    /// It can choose one.
    #[default]
    Offered,
    /// It reads nothing of it.
    Hidden,
}

/// Whether a model is told that a program can have a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgramValues {
    /// It can ask for one.
    #[default]
    Offered,
    /// It reads nothing of it.
    Hidden,
}

impl Default for ExecOptions {
    fn default() -> Self {
        Self {
            default_yield_time_ms: DEFAULT_YIELD_TIME_MS,
            default_max_output_tokens: DEFAULT_MAX_OUTPUT_TOKENS,
            limits: CellLimits::default(),
            declarations: Declarations::default(),
            image_detail: ImageDetails::default(),
            program_values: ProgramValues::default(),
            dialect: Dialect::default(),
        }
    }
}

/// The tool `exec`: what it is called, what it says of itself, and how it takes a program.
///
/// ```
/// use cellblock::{ToolDefinition, model::*};
///
/// let catalog = ToolCatalog::new([ToolDefinition::function("ping", "Answers.")]);
/// let exec = ExecToolSpec::new(&catalog, &ExecOptions::default());
/// assert_eq!(exec.openai_custom()["format"]["syntax"], "lark");
/// assert_eq!(exec.anthropic()["input_schema"]["required"][0], "code");
/// assert!(exec.description(InputForm::Source).contains("ping(args: unknown)"));
/// ```
#[derive(Clone, Debug)]
pub struct ExecToolSpec {
    source: String,
    arguments: String,
    options: ExecOptions,
    scripts: bool,
}

impl ExecToolSpec {
    /// The tool for these nested tools.
    pub fn new(catalog: &ToolCatalog, options: &ExecOptions) -> Self {
        Self {
            source: description::exec(catalog, options, InputForm::Source),
            arguments: description::exec(catalog, options, InputForm::Arguments),
            options: options.clone(),
            scripts: catalog.has_scripts(),
        }
    }

    /// What the model reads about the tool.
    pub fn description(&self, form: InputForm) -> &str {
        match form {
            InputForm::Source => &self.source,
            InputForm::Arguments => &self.arguments,
        }
    }

    /// The schema of the arguments, where the tool takes JSON; see
    /// [`ExecArguments`](super::ExecArguments).
    pub fn input_schema(&self) -> Value {
        let ExecOptions { default_yield_time_ms, default_max_output_tokens, .. } = self.options;
        let mut schema = json!({
            "type": "object",
            "properties": {
                "code": { "type": "string", "description": "The program: JavaScript source." },
                "yield_time_ms": {
                    "type": "integer",
                    "minimum": 0,
                    "description": format!(
                        "Milliseconds after which to answer if the program still runs. Defaults \
                         to {default_yield_time_ms}."
                    ),
                },
                "max_output_tokens": {
                    "type": "integer",
                    "minimum": 0,
                    "description": format!(
                        "Tokens of output to answer with. Defaults to {default_max_output_tokens}."
                    ),
                },
            },
            "required": ["code"],
            "additionalProperties": false,
        });
        if self.options.program_values == ProgramValues::Offered {
            schema["properties"]["result"] = json!({
                "type": "boolean",
                "description": "Whether the program has a value, which is shown after its output.",
            });
        }
        if self.scripts {
            schema["properties"]["script"] = json!({
                "type": "string",
                "description": "The name of a saved script, to be run instead of `code`.",
            });
            schema["properties"]["input"] = json!({ "description": "The script's input." });
            schema["required"] = json!([]);
        }
        schema
    }

    /// A custom tool of `OpenAI`'s Responses: its input is the program itself.
    pub fn openai_custom(&self) -> Value {
        json!({
            "type": "custom",
            "name": EXEC_TOOL_NAME,
            "description": self.source,
            "format": { "type": "grammar", "syntax": "lark", "definition": EXEC_GRAMMAR },
        })
    }

    /// A function tool of `OpenAI`'s Responses, for models without custom tools.
    pub fn openai_function(&self) -> Value {
        json!({
            "type": "function",
            "name": EXEC_TOOL_NAME,
            "description": self.arguments,
            "strict": false,
            "parameters": self.input_schema(),
        })
    }

    /// A tool of Anthropic's Messages.
    pub fn anthropic(&self) -> Value {
        json!({
            "name": EXEC_TOOL_NAME,
            "description": self.arguments,
            "input_schema": self.input_schema(),
        })
    }

    /// A tool of the Model Context Protocol.
    pub fn mcp(&self) -> Value {
        json!({
            "name": EXEC_TOOL_NAME,
            "title": "Run a program",
            "description": self.arguments,
            "inputSchema": self.input_schema(),
        })
    }
}
