//! Namespaces, as functions that fill an object.

use crate::erase::Eraser;
use crate::names::Container;
use oxc_ast::ast::{
    BindingPattern, Declaration, ExportDeclaration, Statement, TSNamespaceDeclaration,
    TSNamespaceDeclarationBody, VariableDeclaration,
};
use oxc_ast_visit::Visit;
use oxc_span::GetSpan;
use std::collections::BTreeSet;

/// Whether a namespace has anything but types.
pub(crate) fn has_values(it: &TSNamespaceDeclaration<'_>) -> bool {
    match &it.body {
        TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => has_values(inner),
        TSNamespaceDeclarationBody::TSModuleBlock(block) => {
            block.body.iter().any(|statement| !crate::modules::is_types(statement))
        }
    }
}

impl Eraser<'_> {
    /// Writes a namespace; `owner` is the namespace that exports it.
    pub(crate) fn write_namespace(&mut self, it: &TSNamespaceDeclaration<'_>, owner: Option<&str>) {
        self.write_part(it, owner, it.span.start, String::new(), "");
    }

    fn write_part(
        &mut self,
        it: &TSNamespaceDeclaration<'_>,
        owner: Option<&str>,
        start: u32,
        before: String,
        after: &str,
    ) {
        let name = it.id.name.as_str();
        let scope = it.scope_id.get();
        let param =
            if self.names.declares(scope, name) { format!("{name}_1") } else { name.to_owned() };
        let (head, tail) = self.container_texts(name, &param, owner);
        let (head, tail) = (before + &head, tail + after);
        let mut container = Container {
            param: param.clone(),
            path: self.path_here(name),
            scope,
            members: BTreeSet::new(),
        };
        match &it.body {
            TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => {
                self.containers.push(container);
                self.declared.push(BTreeSet::new());
                self.write_part(inner, Some(&param), start, head, &tail);
                self.declared.pop();
            }
            TSNamespaceDeclarationBody::TSModuleBlock(block) => {
                container.members = block.body.iter().flat_map(exported_variables).collect();
                self.edits.replace(start, block.span.start + 1, head);
                self.containers.push(container);
                self.ending(0, |own| own.visit_statements(&block.body));
                self.edits.replace(block.span.end - 1, block.span.end, tail);
            }
        }
        self.containers.pop();
    }

    /// Writes what a namespace exports: variables become members of its object.
    pub(crate) fn write_member(&mut self, it: &ExportDeclaration<'_>, owner: &str) {
        let declaration = &it.declaration;
        let start = declaration.span().start;
        let member = |name: &str| format!(";{owner}.{name}={name};");
        match declaration {
            Declaration::VariableDeclaration(variables) => {
                self.write_variables(variables, it, owner);
            }
            Declaration::FunctionDeclaration(function) => {
                self.edits.blank(it.span.start, start);
                self.visit_declaration(declaration);
                if let Some(id) = &function.id {
                    self.edits.insert(it.span.end, member(&id.name));
                }
            }
            Declaration::ClassDeclaration(class) => {
                self.edits.blank(it.span.start, start);
                self.visit_declaration(declaration);
                if let Some(id) = &class.id {
                    self.edits.insert(it.span.end, member(&id.name));
                }
            }
            Declaration::TSEnumDeclaration(inner) => {
                self.edits.blank(it.span.start, start);
                self.write_enum(inner, Some(owner));
            }
            Declaration::TSNamespaceDeclaration(inner) => {
                self.edits.blank(it.span.start, start);
                self.write_namespace(inner, Some(owner));
            }
            Declaration::TSImportEqualsDeclaration(inner) => {
                self.edits.blank(it.span.start, start);
                self.write_alias(inner, Some(owner));
            }
            _ => self.blank_whole(it.span),
        }
    }

    fn write_variables<'a>(
        &mut self,
        variables: &VariableDeclaration<'a>,
        it: &ExportDeclaration<'a>,
        owner: &str,
    ) {
        let Some(first) = variables.declarations.first() else { return };
        // What is written begins with a parenthesis or a name.
        self.edits.replace(it.span.start, first.span.start, ";(");
        for each in &variables.declarations {
            let annotation = each.type_annotation.as_deref();
            if let Some(init) = &each.init {
                self.write_pattern(&each.id, owner);
                self.blank_annotation(each.id.span().end, each.definite, each.span.end, annotation);
                self.visit_expression(init);
            } else {
                self.edits.replace(each.span.start, each.span.end, "0");
            }
        }
        let last = variables.declarations.last().map_or(it.span.end, |last| last.span.end);
        self.edits.replace(last, it.span.end, ");");
    }

    /// Makes members of an object of the names in a pattern.
    fn write_pattern(&mut self, pattern: &BindingPattern<'_>, owner: &str) {
        match pattern {
            BindingPattern::BindingIdentifier(id) => {
                self.edits.insert(id.span.start, format!("{owner}."));
            }
            BindingPattern::AssignmentPattern(it) => {
                self.write_pattern(&it.left, owner);
                self.visit_expression(&it.right);
            }
            BindingPattern::ArrayPattern(it) => {
                for each in it.elements.iter().flatten() {
                    self.write_pattern(each, owner);
                }
                if let Some(rest) = &it.rest {
                    self.write_pattern(&rest.argument, owner);
                }
            }
            BindingPattern::ObjectPattern(it) => {
                for each in &it.properties {
                    if each.shorthand {
                        let name = self.slice(each.key.span().start, each.key.span().end);
                        self.edits.insert(each.span.start, format!("{name}:"));
                    } else if each.computed
                        && let Some(key) = each.key.as_expression()
                    {
                        self.visit_expression(key);
                    }
                    self.write_pattern(&each.value, owner);
                }
                if let Some(rest) = &it.rest {
                    self.write_pattern(&rest.argument, owner);
                }
            }
        }
    }
}

/// Names of the variables that a statement of a namespace exports.
fn exported_variables(statement: &Statement<'_>) -> Vec<String> {
    let Statement::ExportDeclaration(export) = statement else { return Vec::new() };
    let Declaration::VariableDeclaration(variables) = &export.declaration else {
        return Vec::new();
    };
    variables
        .declarations
        .iter()
        .flat_map(|each| each.id.get_binding_identifiers())
        .map(|each| each.name.to_string())
        .collect()
}
