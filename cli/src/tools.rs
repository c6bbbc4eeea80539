//! `cellblock tools`: what a model sees of a set of tools.

use crate::Exit;
use crate::terminal;
use anyhow::{Context, Result, anyhow};
use cellblock::model::{
    ExecOptions, ExecToolSpec, InputForm, ToolCatalog, ToolNamespaceDescription, WaitToolSpec,
    declaration_file, mcp_namespace, mcp_tool,
};
use cellblock::{ToolDefinition, ToolKind, ToolName};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Arguments of `cellblock tools`.
#[derive(Args)]
pub struct Arguments {
    /// The tools: a tools file as for `run`, or the listings of MCP servers; `-` is standard
    /// input. See docs/cli.md.
    #[arg(long, value_name = "FILE")]
    tools: PathBuf,
    /// How to print them.
    #[arg(long, value_enum, default_value_t = Format::Md)]
    format: Format,
    /// Tokens of declarations above which whole namespaces are deferred, the longest first.
    #[arg(long, value_name = "TOKENS")]
    defer_over: Option<usize>,
}

/// How tools are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A TypeScript declaration file of everything that a program finds.
    Ts,
    /// The description of `exec`.
    Md,
    /// What a program finds in `ALL_TOOLS`, and the tools that are left out.
    Json,
    /// `exec` as a custom tool, and `wait`, for `OpenAI`'s Responses.
    Openai,
    /// `exec` as a function tool, and `wait`, for `OpenAI`'s Responses.
    OpenaiFunction,
    /// `exec` and `wait` for Anthropic's Messages.
    Anthropic,
    /// `exec` and `wait` as a server of the Model Context Protocol lists them.
    Mcp,
}

/// Prints the tools.
pub fn main(arguments: &Arguments) -> Exit {
    match print(arguments) {
        Ok(()) => Exit::Completed,
        Err(error) => {
            crate::complain(&format!("{error:#}"));
            Exit::Usage
        }
    }
}

fn print(arguments: &Arguments) -> Result<()> {
    let file = if arguments.tools == Path::new("-") {
        let text = std::io::read_to_string(std::io::stdin());
        ToolsFile::parse(&text.context("cannot read standard input")?, "standard input")?
    } else {
        ToolsFile::read(&arguments.tools)?
    };
    let mut catalog = file.catalog();
    if let Some(tokens) = arguments.defer_over {
        catalog = catalog.defer_over(tokens);
    }
    for skipped in catalog.skipped() {
        crate::complain(&skipped.to_string());
    }
    let mut text = render(&catalog, arguments.format)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    terminal::print(&text)
}

fn render(catalog: &ToolCatalog, format: Format) -> Result<String> {
    let exec = ExecToolSpec::new(catalog, &ExecOptions::default());
    let wait = WaitToolSpec::default();
    let value = match format {
        Format::Ts => return Ok(declaration_file(catalog)),
        Format::Md => return Ok(exec.description(InputForm::Source).to_owned()),
        Format::Json => json(catalog),
        Format::Openai => json!([exec.openai_custom(), wait.openai()]),
        Format::OpenaiFunction => json!([exec.openai_function(), wait.openai()]),
        Format::Anthropic => json!([exec.anthropic(), wait.anthropic()]),
        Format::Mcp => json!({ "tools": [exec.mcp(), wait.mcp()] }),
    };
    Ok(serde_json::to_string_pretty(&value)?)
}

fn json(catalog: &ToolCatalog) -> Value {
    let enabled = catalog.enabled_tools();
    let tools: Vec<_> = catalog
        .tools()
        .iter()
        .zip(enabled.iter())
        .map(|(tool, enabled)| {
            json!({
                "name": tool.global_name,
                "description": enabled.description,
                "deferred": tool.deferred,
            })
        })
        .collect();
    let skipped: Vec<_> = catalog
        .skipped()
        .iter()
        .map(|skipped| json!({ "name": skipped.name, "reason": skipped.to_string() }))
        .collect();
    json!({ "tools": tools, "skipped": skipped })
}

/// The part of a file that says what tools there are. How they are run is of no interest
/// here, so what is not known is passed over.
#[derive(Debug, Deserialize)]
pub struct ToolsFile {
    /// Tools as for `cellblock run`.
    #[serde(default)]
    tools: Vec<Tool>,
    /// What namespaces are for.
    #[serde(default)]
    namespaces: Vec<ToolNamespaceDescription>,
    /// Listings of MCP servers.
    #[serde(default)]
    servers: Vec<Server>,
}

/// A tool as the file of `cellblock run` has it.
#[derive(Debug, Deserialize)]
struct Tool {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    kind: ToolKind,
    #[serde(default)]
    input_schema: Option<Value>,
    #[serde(default)]
    output_schema: Option<Value>,
}

/// What an MCP server answers to `tools/list`, and how it introduces itself.
#[derive(Debug, Deserialize)]
struct Server {
    name: String,
    #[serde(default)]
    description: String,
    tools: Vec<Value>,
}

impl ToolsFile {
    /// Reads a tools file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the tools file {}", path.display()))?;
        Self::parse(&text, &format!("the tools file {}", path.display()))
    }

    /// Reads the text of a tools file; `place` says in errors where it is from.
    fn parse(text: &str, place: &str) -> Result<Self> {
        let json = &mut serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(json).map_err(|error| {
            let (key, why) = (error.path().to_string(), error.inner());
            anyhow!("{place}, at {key}: {why}")
        })
    }

    /// The tools of the file, those of servers too.
    pub fn catalog(self) -> ToolCatalog {
        let described = self.servers.iter().map(|server| ToolNamespaceDescription {
            name: mcp_namespace(&server.name),
            description: server.description.clone(),
        });
        let namespaces: Vec<_> = self.namespaces.iter().cloned().chain(described).collect();
        let servers = self.servers.iter().flat_map(|server| {
            server.tools.iter().filter_map(|listed| mcp_tool(&server.name, listed))
        });
        let tools = self.tools.into_iter().map(Tool::definition);
        ToolCatalog::new(tools.chain(servers)).with_namespaces(namespaces)
    }
}

impl Tool {
    fn definition(self) -> ToolDefinition {
        let tool_name = ToolName { name: self.name, namespace: self.namespace };
        ToolDefinition {
            name: cellblock::model::code_mode_name(&tool_name),
            tool_name,
            description: self.description,
            kind: self.kind,
            input_schema: self.input_schema,
            output_schema: self.output_schema,
        }
    }
}
