//! The tools of all servers at one moment: what programs can call, what the model reads of
//! it, and which tool of which server a call is for.

use crate::config::{Pattern, alias, tool_identifier};
use crate::options::{Disclosure, Options};
use crate::policy::{Action, Annotations, Rule, decide};
use crate::prelude::prelude;
use crate::upstream::{ListedTool, Upstream, Upstreams};
use crate::visible::visible_name;
use cellblock::model::{
    CatalogTool, Dialect, ExecOptions, ExecToolSpec, InputForm, ProgramValues, SavedScript,
    ScriptLibrary, ToolCatalog, ToolNamespaceDescription, mcp_result_schema,
};
use cellblock::{ToolDefinition, ToolKind, ToolName};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

/// Tokens of declarations above which tools are left to be searched for: five hundredths of
/// the 200,000 that models commonly have.
pub(crate) const AUTO_TOKENS: usize = 10_000;
/// Bytes that the tools of all servers may have together.
const MAX_BYTES: usize = 8 << 20;
/// Namespace of saved scripts, which no server has.
const SCRIPTS: &str = "scripts";
/// Characters of a server's instructions that the model reads.
const INSTRUCTION_CHARS: usize = 1_000;
/// Characters of what is wrong with a server that the model reads.
const PROBLEM_CHARS: usize = 600;

/// The tools of all servers at one moment.
pub(crate) struct Catalog {
    tools: ToolCatalog,
    by_name: HashMap<ToolName, Target>,
    /// The saved scripts, which call the other tools; `None` when there are none.
    scripts: Option<ScriptLibrary>,
    /// The tools of a program.
    pub(crate) enabled: Arc<[ToolDefinition]>,
    /// What stands in front of a program.
    pub(crate) prelude: Arc<str>,
    exec: ExecToolSpec,
    /// What the model reads of servers that are not there.
    pub(crate) notes: Vec<String>,
    /// The servers, by their names in programs.
    servers: Vec<String>,
    /// A number that is another when tools are listed differently.
    pub(crate) digest: OnceLock<u64>,
    /// What clients read of `exec` as a whole.
    pub(crate) hints: Hints,
}

/// Which tool of which server a name stands for.
pub(crate) struct Target {
    pub(crate) server: Arc<Upstream>,
    /// The tool's name at its server.
    pub(crate) tool: String,
    /// What is done about calls of it.
    pub(crate) action: Action,
    /// Its results may hold text of strangers.
    pub(crate) untrusted: bool,
    /// It can carry data away, or do harm with it.
    pub(crate) sink: bool,
}

/// The worst that a program can do without anybody being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) read_only: bool,
    pub(crate) destructive: bool,
}

impl Catalog {
    /// What is known of the servers now.
    pub(crate) fn now(
        upstreams: &Upstreams,
        rules: &[Rule],
        scripts: &[SavedScript],
        options: &Options,
    ) -> Self {
        let mut definitions = Vec::new();
        let mut by_name = HashMap::new();
        let mut namespaces = Vec::new();
        let mut notes = Vec::new();
        let mut hints = Hints { read_only: true, destructive: false };
        let mut bytes = 0;
        for server in &upstreams.servers {
            let known = server.known();
            let config = &server.config;
            if known.starting && known.tools.is_empty() {
                notes.push(format!(
                    "The server {} is still starting; its tools are not there yet.",
                    config.name
                ));
            }
            if let Some(problem) = known.problem {
                notes.push(format!("{}.", cut(&capitalised(&problem), PROBLEM_CHARS)));
            }
            if let Some(text) = known.instructions {
                namespaces.push(ToolNamespaceDescription {
                    name: namespace(&config.alias),
                    description: cut(&text, INSTRUCTION_CHARS),
                });
            }
            for listed in known.tools.iter() {
                let definition = definition(&config.alias, listed);
                bytes += definition.byte_len();
                if bytes > MAX_BYTES {
                    notes.push(format!(
                        "Tools of {} are left out: the tools of all servers together may have \
                         {MAX_BYTES} bytes.",
                        config.name
                    ));
                    break;
                }
                let target = Target::new(server, listed, rules);
                let claims: Annotations = listed.annotations;
                if target.action == Action::Allow {
                    hints.read_only &= claims.read_only == Some(true);
                    hints.destructive |= claims.says_destructive();
                } else if target.action == Action::Ask {
                    hints.read_only &= claims.read_only == Some(true);
                }
                by_name.entry(definition.tool_name.clone()).or_insert(target);
                definitions.push(definition);
            }
        }
        let aliases: Vec<_> =
            upstreams.servers.iter().map(|server| server.config.alias.clone()).collect();
        let prelude = prelude(&aliases);
        let scripts = library(scripts, &prelude, &definitions, options);
        definitions.extend(scripts.iter().flat_map(ScriptLibrary::definitions));
        let mut tools = ToolCatalog::new(definitions).with_namespaces(namespaces);
        tools = match options.disclosure {
            Disclosure::Catalog => tools,
            Disclosure::Search => tools.defer(|_| true),
            Disclosure::Auto => tools.defer_over(AUTO_TOKENS),
        };
        for skipped in tools.skipped() {
            tracing::warn!("{skipped}");
        }
        let exec_options = ExecOptions {
            default_yield_time_ms: millis(options.waits.first),
            limits: options.limits.clone(),
            dialect: Dialect::Mcp,
            // Every program has its value.
            program_values: ProgramValues::Hidden,
            ..ExecOptions::default()
        };
        Self {
            enabled: tools.enabled_tools(),
            exec: ExecToolSpec::new(&tools, &exec_options),
            prelude: prelude.into(),
            tools,
            by_name,
            scripts,
            servers: aliases,
            digest: OnceLock::new(),
            notes,
            hints,
        }
    }

    /// The tool that a name stands for.
    pub(crate) fn target(&self, name: &ToolName) -> Option<&Target> {
        self.by_name.get(name)
    }

    /// The scripts, if a name is that of one.
    pub(crate) fn script(&self, name: &ToolName) -> Option<&ScriptLibrary> {
        let is_script = name.namespace.as_deref() == Some(SCRIPTS);
        self.scripts.as_ref().filter(|_| is_script)
    }

    /// The names of the saved scripts.
    pub(crate) fn script_names(&self) -> Vec<String> {
        let definitions = self.scripts.iter().flat_map(ScriptLibrary::definitions);
        definitions.map(|definition| definition.tool_name.name).collect()
    }

    /// What a program asks `tools` for by a name that is neither that of a server nor that of
    /// a tool, for the model; `None` when there is no such name.
    pub(crate) fn unknown_names(&self, code: &str) -> Option<String> {
        let is_part = |c: char| c == '_' || c == '$' || c.is_ascii_alphanumeric();
        let is_known = |name: &str| {
            matches!(name, "" | "search" | SCRIPTS)
                || self.servers.iter().any(|server| server == name)
                || self.tools().iter().any(|tool| tool.global_name == name)
        };
        let mut unknown = Vec::new();
        for (at, word) in code.match_indices("tools.") {
            let is_whole = !code[..at].ends_with(|c| is_part(c) || c == '.');
            let rest = &code[at + word.len()..];
            let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
            if is_whole && !is_known(name) && !unknown.contains(&name) {
                unknown.push(name);
            }
        }
        let first = unknown.first()?;
        let servers =
            if self.servers.is_empty() { "none".to_owned() } else { self.servers.join(", ") };
        Some(format!(
            "There is no server or tool `tools.{}`. The servers are: {servers}.",
            cut(first, 100)
        ))
    }

    /// The tools that programs can call.
    pub(crate) fn tools(&self) -> &[CatalogTool] {
        self.tools.tools()
    }

    /// Tools that are left out, each with the reason.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = String> {
        self.tools.skipped().iter().map(ToString::to_string)
    }

    /// Whether the model has to look for tools.
    pub(crate) fn is_searched(&self) -> bool {
        self.tools().iter().any(|tool| tool.deferred)
    }

    /// The schema of the arguments of `exec`, without what is only of this server.
    pub(crate) fn exec_schema(&self) -> serde_json::Value {
        self.exec.input_schema()
    }

    /// What the model reads about `exec`.
    pub(crate) fn exec_description(&self) -> String {
        let mut text = self.exec.description(InputForm::Arguments).to_owned();
        for note in &self.notes {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n\n{note}");
        }
        text
    }

    /// The declaration of a tool that is called by this name, as `server__tool` or as
    /// `server.tool`.
    pub(crate) fn declaration(&self, name: &str) -> Option<&str> {
        let at = self.tools().iter().position(|tool| tool.is_called(name))?;
        self.enabled.get(at).map(|definition| definition.description.as_str())
    }

    /// The declaration of a tool.
    pub(crate) fn declaration_of(&self, name: &ToolName) -> Option<&str> {
        let definition = self.enabled.iter().find(|each| each.tool_name == *name)?;
        let text = definition.description.as_str();
        text.find("exec tool declaration:").map(|at| &text[at..])
    }

    /// The tools that fit these words best, with their descriptions, the best ones first.
    pub(crate) fn search(&self, words: &str, limit: usize) -> Vec<(&CatalogTool, &str)> {
        let words = words.to_lowercase();
        let words: Vec<_> =
            words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let mut found: Vec<_> = self
            .tools()
            .iter()
            .zip(self.enabled.iter())
            .map(|(tool, enabled)| {
                let (name, text) =
                    (tool.global_name.to_lowercase(), enabled.description.to_lowercase());
                // As `tools.search` in programs counts.
                let points = words.iter().map(|word| match () {
                    () if name.contains(word) => 3,
                    () if text.contains(word) => 1,
                    () => 0,
                });
                (points.sum::<usize>(), tool, enabled.description.as_str())
            })
            .filter(|(points, ..)| *points > 0 || words.is_empty())
            .collect();
        found.sort_by_key(|(points, ..)| std::cmp::Reverse(*points));
        found.into_iter().take(limit).map(|(_, tool, text)| (tool, text)).collect()
    }
}

impl Target {
    fn new(server: &Arc<Upstream>, listed: &ListedTool, rules: &[Rule]) -> Self {
        let config = &server.config;
        let marked = |patterns: &[Pattern]| {
            patterns.iter().any(|pattern| pattern.matches_tool(&listed.name))
        };
        Self {
            server: Arc::clone(server),
            tool: listed.name.clone(),
            action: decide(rules, &config.name, &listed.name, listed.annotations),
            untrusted: marked(&config.untrusted),
            sink: marked(&config.sinks),
        }
    }

    /// What is done about calls of it, for people.
    pub(crate) fn described(&self) -> String {
        let action = match self.action {
            Action::Allow => "allowed",
            Action::Ask => "needs approval",
            Action::Deny => "refused",
        };
        let untrusted = if self.untrusted { ", untrusted" } else { "" };
        let sink = if self.sink { ", sink" } else { "" };
        format!("{action}{untrusted}{sink}")
    }

    /// The tool as people read it.
    pub(crate) fn shown(&self) -> String {
        format!("{}.{}", visible_name(&self.server.config.name), visible_name(&self.tool))
    }
}

/// The saved scripts, each with what stands in front of every program.
fn library(
    scripts: &[SavedScript],
    prelude: &str,
    tools: &[ToolDefinition],
    options: &Options,
) -> Option<ScriptLibrary> {
    if scripts.is_empty() {
        return None;
    }
    let backend = (options.backend)()
        .inspect_err(|error| tracing::error!("the saved scripts cannot be run: {error}"))
        .ok()?;
    let scripts = scripts.iter().map(|script| SavedScript {
        source: format!("{prelude}{}", script.source),
        ..script.clone()
    });
    let tools = ToolCatalog::new(tools.to_vec()).enabled_tools();
    Some(ScriptLibrary::new(scripts, backend, tools))
}

/// What a model asks for by name.
trait Called {
    fn is_called(&self, name: &str) -> bool;
}

impl Called for CatalogTool {
    fn is_called(&self, name: &str) -> bool {
        let name = name.strip_prefix("tools.").unwrap_or(name);
        self.global_name == name
            || name.split_once('.').is_some_and(|(server, tool)| {
                self.global_name
                    == format!("{}__{}", alias(server).unwrap_or_default(), tool_identifier(tool))
            })
    }
}

/// The namespace of a server's tools.
fn namespace(alias: &str) -> String {
    format!("{alias}__")
}

fn definition(alias: &str, listed: &ListedTool) -> ToolDefinition {
    ToolDefinition {
        // The name in programs: what else a server's name for it holds is not for models.
        name: format!("{}{}", namespace(alias), tool_identifier(&listed.name)),
        tool_name: ToolName::namespaced(namespace(alias), listed.name.clone()),
        description: listed.description.clone(),
        kind: ToolKind::Function,
        input_schema: Some(listed.input_schema.clone()),
        // What programs get is the structured content alone, where there is one.
        output_schema: Some(
            listed.output_schema.clone().unwrap_or_else(|| mcp_result_schema(None)),
        ),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// At most so many characters of a text, without blanks around them.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A time in milliseconds.
pub(crate) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
