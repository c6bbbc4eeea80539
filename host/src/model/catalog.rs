//! The tools that a host offers to programs, sorted and declared.

use super::declaration::{is_mcp_result, sample};
use super::observed::ObservedResults;
use super::scripts::NAMESPACE;
use super::tokens::approximate_tokens;
use crate::tools::{ToolDefinition, ToolName, normalize_identifier};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Names that are never those of nested tools: the two tools that a model calls itself.
const RESERVED: [&str; 2] = ["exec", "wait"];

/// What a model reads about the tools of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolNamespaceDescription {
    /// The namespace.
    pub name: String,
    /// What its tools are for.
    pub description: String,
}

/// The tools of a session: the one place from which the tool specifications of a model
/// and the tools of an [`ExecuteRequest`](crate::ExecuteRequest) are made.
///
/// ```
/// use cellblock::{ToolDefinition, model::ToolCatalog};
///
/// let catalog = ToolCatalog::new([
///     ToolDefinition::function("read_file", "Reads a file."),
///     ToolDefinition::function("read-file", "Reads a file, too."),
/// ]);
/// assert_eq!(catalog.tools().len(), 1);
/// assert_eq!(
///     catalog.skipped()[0].to_string(),
///     "`read-file` is left out: programs call `read_file` by the same name"
/// );
/// let enabled = catalog.enabled_tools();
/// assert!(enabled[0].description.contains("declare const tools: { read_file("));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ToolCatalog {
    tools: Vec<CatalogTool>,
    skipped: Vec<SkippedTool>,
    namespaces: HashMap<String, ToolNamespaceDescription>,
}

/// A tool of a catalog.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogTool {
    /// The tool, as the host gave it.
    pub definition: ToolDefinition,
    /// Its name as a property of `tools`.
    pub global_name: String,
    /// It can be called and is in `ALL_TOOLS`, but the description of `exec` does not
    /// declare it.
    pub deferred: bool,
}

/// A tool that programs cannot call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedTool {
    /// The tool.
    pub tool_name: ToolName,
    /// Its name in code mode.
    pub name: String,
    /// Why it is left out.
    pub reason: SkipReason,
}

/// Why a tool is left out of a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// An earlier tool, of this name in code mode, has the same name for programs.
    NameTaken(String),
    /// `exec` and `wait` are not nested tools.
    Reserved,
}

impl fmt::Display for SkippedTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is left out: ", self.name)?;
        match &self.reason {
            SkipReason::NameTaken(first) => write!(f, "programs call `{first}` by the same name"),
            SkipReason::Reserved => f.write_str("no program calls `exec` or `wait`"),
        }
    }
}

impl ToolCatalog {
    /// A catalog of these tools. Of several tools that programs would call by the same
    /// name, the first is in the catalog and the others are [`skipped`](Self::skipped).
    pub fn new(tools: impl IntoIterator<Item = ToolDefinition>) -> Self {
        let mut catalog = Self::default();
        let mut taken: HashMap<String, String> = HashMap::new();
        for definition in tools {
            let global_name = normalize_identifier(&definition.name);
            let reason = if RESERVED.contains(&global_name.as_str()) {
                Some(SkipReason::Reserved)
            } else {
                taken.get(&global_name).cloned().map(SkipReason::NameTaken)
            };
            if let Some(reason) = reason {
                let ToolDefinition { tool_name, name, .. } = definition;
                catalog.skipped.push(SkippedTool { tool_name, name, reason });
                continue;
            }
            taken.insert(global_name.clone(), definition.name.clone());
            catalog.tools.push(CatalogTool { definition, global_name, deferred: false });
        }
        catalog.sort();
        catalog
    }

    /// Describes namespaces: a description stands above the tools of its namespace.
    pub fn with_namespaces(
        mut self,
        namespaces: impl IntoIterator<Item = ToolNamespaceDescription>,
    ) -> Self {
        self.namespaces.extend(namespaces.into_iter().map(|each| (each.name.clone(), each)));
        self.sort();
        self
    }

    /// Defers every tool for which `deferred` returns true.
    pub fn defer(mut self, mut deferred: impl FnMut(&ToolDefinition) -> bool) -> Self {
        for tool in &mut self.tools {
            tool.deferred |= deferred(&tool.definition);
        }
        self
    }

    /// Defers whole namespaces, those with the longest declarations first and the default
    /// one last, until the declarations that are left have at most `tokens` tokens, by
    /// [`approximate_tokens`].
    pub fn defer_over(self, tokens: usize) -> Self {
        let mut sizes: BTreeMap<Option<String>, usize> = BTreeMap::new();
        for tool in self.tools.iter().filter(|tool| !tool.deferred) {
            let namespace = tool.definition.tool_name.own_namespace().map(str::to_owned);
            *sizes.entry(namespace).or_default() += approximate_tokens(&sample(&tool.definition));
        }
        let mut left: usize = sizes.values().sum();
        let mut largest: Vec<_> = sizes.into_iter().collect();
        largest.sort_by_key(|(namespace, size)| (namespace.is_none(), std::cmp::Reverse(*size)));
        let mut deferred = HashSet::new();
        for (namespace, size) in largest {
            if left <= tokens {
                break;
            }
            left -= size;
            deferred.insert(namespace);
        }
        self.defer(|tool| deferred.contains(&tool.tool_name.own_namespace().map(str::to_owned)))
    }

    /// Declares the results of tools without a schema of their own as they were seen, and
    /// says so in the declaration.
    pub fn with_observed(mut self, observed: &ObservedResults) -> Self {
        for CatalogTool { definition, .. } in &mut self.tools {
            if definition.output_schema.is_none() {
                definition.output_schema = observed.schema(&definition.tool_name);
            }
        }
        self
    }

    /// The tools, in the order in which a model reads about them: by the namespace that
    /// is described, then by name.
    pub fn tools(&self) -> &[CatalogTool] {
        &self.tools
    }

    /// The tools that programs cannot call, in the order in which they were given.
    pub fn skipped(&self) -> &[SkippedTool] {
        &self.skipped
    }

    /// What a namespace is described by; `None` when it is not, or with nothing but blanks.
    pub fn namespace(&self, tool: &ToolName) -> Option<&ToolNamespaceDescription> {
        let described = self.namespaces.get(tool.own_namespace()?)?;
        Some(described).filter(|namespace| !namespace.description.trim().is_empty())
    }

    /// The tools of an [`ExecuteRequest`](crate::ExecuteRequest): each with its declaration
    /// in its description, under the description of its namespace, and without schemas,
    /// which nothing needs from there on.
    pub fn enabled_tools(&self) -> Arc<[ToolDefinition]> {
        let enabled = |tool: &CatalogTool| {
            let definition = &tool.definition;
            let declared = sample(definition);
            let description = match self.namespace(&definition.tool_name) {
                Some(namespace) => format!("{}\n\n{declared}", namespace.description.trim()),
                None => declared,
            };
            ToolDefinition {
                name: definition.name.clone(),
                tool_name: definition.tool_name.clone(),
                description,
                kind: definition.kind,
                input_schema: None,
                output_schema: None,
            }
        };
        self.tools.iter().map(enabled).collect()
    }

    /// Whether any declaration uses [`MCP_TYPES`](super::MCP_TYPES).
    pub(super) fn has_mcp_results(&self) -> bool {
        let output = |tool: &CatalogTool| tool.definition.output_schema.as_ref().map(is_mcp_result);
        self.tools.iter().filter_map(output).any(|is| is)
    }

    /// Whether any tool is a saved script.
    pub(super) fn has_scripts(&self) -> bool {
        let of = |tool: &CatalogTool| tool.definition.tool_name.own_namespace() == Some(NAMESPACE);
        self.tools.iter().any(of)
    }

    fn sort(&mut self) {
        let namespaces = &self.namespaces;
        self.tools.sort_by_cached_key(|tool| {
            let ToolDefinition { tool_name, name, .. } = &tool.definition;
            let described = tool_name.own_namespace().filter(|each| namespaces.contains_key(*each));
            (described.map(str::to_owned), tool_name.name.clone(), name.clone())
        });
    }
}

impl ToolDefinition {
    /// A tool of a namespace, by the name that it has in code mode.
    ///
    /// ```
    /// use cellblock::ToolDefinition;
    ///
    /// let tool = ToolDefinition::namespaced("mcp__files__", "read", "Reads a file.");
    /// assert_eq!(tool.name, "mcp__files__read");
    /// ```
    pub fn namespaced(
        namespace: impl Into<String>,
        name: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        let tool_name = ToolName::namespaced(namespace, name);
        Self {
            name: super::code_mode_name(&tool_name),
            tool_name,
            description: description.into(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(catalog: &ToolCatalog) -> Vec<&str> {
        catalog.tools().iter().map(|tool| tool.global_name.as_str()).collect()
    }

    #[test]
    fn the_first_of_a_name_wins_and_exec_is_no_nested_tool() {
        let catalog = ToolCatalog::new([
            ToolDefinition::function("a.b", "first"),
            ToolDefinition::namespaced("a", "_b", "the same characters"),
            ToolDefinition::function("exec", ""),
            ToolDefinition::function("wait", ""),
            ToolDefinition::namespaced("x", "exec", "another tool"),
        ]);
        assert_eq!(names(&catalog), ["a_b", "x__exec"]);
        let reasons: Vec<_> = catalog.skipped().iter().map(|skipped| &skipped.reason).collect();
        let taken = SkipReason::NameTaken("a.b".to_owned());
        assert_eq!(reasons, [&taken, &SkipReason::Reserved, &SkipReason::Reserved]);
    }

    #[test]
    fn described_namespaces_come_after_the_others_and_keep_together() {
        let tools = [
            ToolDefinition::namespaced("mcp__b__", "alpha", ""),
            ToolDefinition::namespaced("mcp__a__", "zeta", ""),
            ToolDefinition::function("middle", ""),
        ];
        let catalog = ToolCatalog::new(tools);
        assert_eq!(names(&catalog), ["mcp__b__alpha", "middle", "mcp__a__zeta"]);
        let described = ["mcp__a__", "mcp__b__"].map(|name| ToolNamespaceDescription {
            name: name.to_owned(),
            description: "words".to_owned(),
        });
        let catalog = catalog.with_namespaces(described);
        assert_eq!(names(&catalog), ["middle", "mcp__a__zeta", "mcp__b__alpha"]);
        assert!(catalog.enabled_tools()[1].description.starts_with("words\n\nexec tool"));
    }

    #[test]
    fn the_longest_namespaces_are_deferred_first() {
        let tool = |namespace: &str, length: usize| {
            ToolDefinition::namespaced(namespace, "tool", "x".repeat(length))
        };
        let tools = [tool("long__", 4_000), tool("short__", 40), tool("functions", 8_000)];
        let catalog = ToolCatalog::new(tools);
        let declared = |tokens: usize| -> Vec<String> {
            let catalog = catalog.clone().defer_over(tokens);
            let declared = catalog.tools().iter().filter(|tool| !tool.deferred);
            declared.map(|tool| tool.global_name.clone()).collect()
        };
        assert_eq!(declared(10_000), ["long__tool", "short__tool", "tool"]);
        assert_eq!(declared(2_900), ["short__tool", "tool"]);
        assert_eq!(declared(2_040), ["tool"]);
        assert!(declared(0).is_empty());
    }
}
