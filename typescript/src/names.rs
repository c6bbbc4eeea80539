//! What a name refers to.

use oxc_ast::ast::{
    BindingIdentifier, Declaration, ExportDeclaration, IdentifierReference, Program, Statement,
    TSEnumDeclaration, TSEnumMemberName, TSNamespaceDeclaration, TSNamespaceDeclarationBody,
};
use oxc_ast_visit::{Visit, walk};
use oxc_semantic::{Scoping, SemanticBuilder};
use oxc_syntax::scope::ScopeId;
use std::collections::{BTreeMap, BTreeSet};

/// A text without any of these words has no names that need to be known.
const WORDS: [&str; 5] = ["enum", "namespace", "module", "import", "export"];

/// What the names of a program refer to.
#[derive(Default)]
pub(crate) struct Names {
    scoping: Option<Scoping>,
    /// By the path of an enum or a namespace, all that any declaration of it exports.
    exports: BTreeMap<String, BTreeSet<String>>,
}

/// An enum or a namespace around a name.
pub(crate) struct Container {
    /// The parameter that holds its object.
    pub(crate) param: String,
    /// Its own name and those of the containers around it.
    pub(crate) path: String,
    pub(crate) scope: Option<ScopeId>,
    /// Names of its own that are members of the object and nothing else.
    pub(crate) members: BTreeSet<String>,
}

impl Names {
    pub(crate) fn of(program: &Program<'_>, source: &str) -> Self {
        if !WORDS.iter().any(|word| source.contains(word)) {
            return Self::default();
        }
        let scoping = SemanticBuilder::new().build(program).semantic.into_scoping();
        let mut gather = Gather { path: String::new(), exports: BTreeMap::new() };
        gather.visit_program(program);
        Self { scoping: Some(scoping), exports: gather.exports }
    }

    /// Whether anything but types refers to what an import declares.
    pub(crate) fn is_value_used(&self, binding: &BindingIdentifier<'_>) -> bool {
        let (Some(scoping), Some(symbol)) = (&self.scoping, binding.symbol_id.get()) else {
            return true;
        };
        scoping.get_resolved_references(symbol).any(|reference| {
            let flags = reference.flags();
            flags.is_value() && !flags.is_value_as_type()
        })
    }

    /// Whether a name at the top of the program is that of types alone.
    pub(crate) fn is_type_only(&self, reference: &IdentifierReference<'_>) -> bool {
        let symbol = || {
            let scoping = self.scoping.as_ref()?;
            let id = scoping.get_reference(reference.reference_id.get()?).symbol_id()?;
            Some(scoping.symbol_flags(id))
        };
        symbol().is_some_and(|flags| !flags.can_be_referenced_by_value())
    }

    /// Whether the scope of a container declares a name.
    pub(crate) fn declares(&self, scope: Option<ScopeId>, name: &str) -> bool {
        let (Some(scoping), Some(scope)) = (&self.scoping, scope) else { return false };
        scoping.get_bindings(scope).keys().any(|each| each.as_str() == name)
    }

    /// The parameter of the container of which a name is a member, of those around it,
    /// outermost first.
    pub(crate) fn member_of<'c>(
        &self,
        reference: &IdentifierReference<'_>,
        containers: &'c [Container],
    ) -> Option<&'c str> {
        let scoping = self.scoping.as_ref()?;
        let declared = reference
            .reference_id
            .get()
            .and_then(|id| scoping.get_reference(id).symbol_id())
            .map(|symbol| scoping.symbol_scope_id(symbol));
        let name = reference.name.as_str();
        for container in containers.iter().rev() {
            if let (Some(declared), Some(own)) = (declared, container.scope) {
                if declared == own {
                    let is_member = container.members.contains(name);
                    return is_member.then_some(container.param.as_str());
                }
                if scoping.scope_is_descendant_of(declared, own) {
                    return None;
                }
            }
            if self.exports.get(&container.path).is_some_and(|names| names.contains(name)) {
                return Some(&container.param);
            }
        }
        None
    }
}

/// The name of an enum's member.
pub(crate) fn member_name(name: &TSEnumMemberName<'_>) -> String {
    name.static_name().to_string()
}

/// The path of a container in another.
pub(crate) fn path_in(outer: &str, name: &str) -> String {
    format!("{outer}.{name}")
}

/// Gathers what enums and namespaces export.
struct Gather {
    path: String,
    exports: BTreeMap<String, BTreeSet<String>>,
}

impl Gather {
    fn add(&mut self, names: impl IntoIterator<Item = String>) {
        self.exports.entry(self.path.clone()).or_default().extend(names);
    }

    fn within(&mut self, name: &str, work: impl FnOnce(&mut Self)) {
        let outer = std::mem::take(&mut self.path);
        self.path = path_in(&outer, name);
        work(self);
        self.path = outer;
    }
}

impl<'a> Visit<'a> for Gather {
    fn visit_ts_enum_declaration(&mut self, it: &TSEnumDeclaration<'a>) {
        self.within(&it.id.name, |own| {
            own.add(it.body.members.iter().map(|member| member_name(&member.id)));
        });
    }

    fn visit_ts_namespace_declaration(&mut self, it: &TSNamespaceDeclaration<'a>) {
        self.within(&it.id.name, |own| match &it.body {
            TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => {
                own.add([inner.id.name.to_string()]);
                own.visit_ts_namespace_declaration(inner);
            }
            TSNamespaceDeclarationBody::TSModuleBlock(block) => {
                for statement in &block.body {
                    if let Statement::ExportDeclaration(export) = statement {
                        own.add(exported(export));
                    }
                }
                walk::walk_ts_module_block(own, block);
            }
        });
    }
}

/// Names of values that a declaration in a namespace exports.
fn exported(export: &ExportDeclaration<'_>) -> Vec<String> {
    match &export.declaration {
        Declaration::VariableDeclaration(variables) => variables
            .declarations
            .iter()
            .flat_map(|each| each.id.get_binding_identifiers())
            .map(|each| each.name.to_string())
            .collect(),
        Declaration::FunctionDeclaration(function) => {
            function.id.iter().map(|id| id.name.to_string()).collect()
        }
        Declaration::ClassDeclaration(class) => {
            class.id.iter().map(|id| id.name.to_string()).collect()
        }
        Declaration::TSEnumDeclaration(it) => vec![it.id.name.to_string()],
        Declaration::TSNamespaceDeclaration(it) => vec![it.id.name.to_string()],
        Declaration::TSImportEqualsDeclaration(it) => vec![it.id.name.to_string()],
        _ => Vec::new(),
    }
}
