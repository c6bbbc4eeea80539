//! Statements that are types, imports and exports.

use crate::erase::Eraser;
use crate::namespaces::has_values;
use oxc_ast::ast::{
    Declaration, ExportDeclaration, ExportDefaultDeclarationKind, ExportSpecifier,
    ImportDeclaration, ImportDeclarationSpecifier, ModuleExportName, Statement,
    TSImportEqualsDeclaration, TSModuleReference, TSTypeName,
};
use oxc_ast_visit::walk;
use oxc_span::{GetSpan, Span};
use std::collections::BTreeSet;

/// Whether a statement is of no meaning at run time.
pub(crate) fn is_types(statement: &Statement<'_>) -> bool {
    match statement {
        Statement::ExportDeclaration(it) => is_type_declaration(&it.declaration),
        Statement::ExportNamedDeclaration(it) => it.export_kind.is_type(),
        Statement::ExportFromDeclaration(it) => it.export_kind.is_type(),
        Statement::ExportAllDeclaration(it) => it.export_kind.is_type(),
        Statement::ImportDeclaration(it) => it.import_kind.is_type(),
        Statement::TSNamespaceExportDeclaration(_) => true,
        Statement::ExportDefaultDeclaration(it) => match &it.declaration {
            ExportDefaultDeclarationKind::TSInterfaceDeclaration(_) => true,
            ExportDefaultDeclarationKind::FunctionDeclaration(it) => it.body.is_none(),
            _ => false,
        },
        statement => statement.as_declaration().is_some_and(is_type_declaration),
    }
}

fn is_type_declaration(declaration: &Declaration<'_>) -> bool {
    match declaration {
        Declaration::VariableDeclaration(it) => it.declare,
        Declaration::FunctionDeclaration(it) => it.declare || it.body.is_none(),
        Declaration::ClassDeclaration(it) => it.declare,
        Declaration::TSTypeAliasDeclaration(_)
        | Declaration::TSInterfaceDeclaration(_)
        | Declaration::TSExternalModuleDeclaration(_)
        | Declaration::TSGlobalDeclaration(_) => true,
        // The members of a constant enum are known, declared or not.
        Declaration::TSEnumDeclaration(it) => it.declare && !it.r#const,
        Declaration::TSNamespaceDeclaration(it) => it.declare || !has_values(it),
        Declaration::TSImportEqualsDeclaration(it) => it.import_kind.is_type(),
    }
}

/// Names that a list of statements declares, and with which an enum or a namespace merges.
pub(crate) fn declared(statements: &[Statement<'_>]) -> BTreeSet<String> {
    let id = |statement: &Statement<'_>| {
        let declaration = match statement {
            Statement::ExportDeclaration(it) => Some(&it.declaration),
            statement => statement.as_declaration(),
        };
        match declaration? {
            Declaration::FunctionDeclaration(it) if it.body.is_some() => {
                it.id.as_ref().map(|id| id.name.to_string())
            }
            Declaration::ClassDeclaration(it) if !it.declare => {
                it.id.as_ref().map(|id| id.name.to_string())
            }
            _ => None,
        }
    };
    statements.iter().filter_map(id).collect()
}

impl Eraser<'_> {
    /// Blanks a statement that is of no meaning at run time; whether it was one.
    pub(crate) fn blank_if_types(&mut self, it: &Statement<'_>) -> bool {
        let types = is_types(it)
            || matches!(it, Statement::ExportDefaultDeclaration(export)
                if matches!(&export.declaration, ExportDefaultDeclarationKind::Identifier(name)
                    if self.names.is_type_only(name)));
        if types {
            self.blank_whole(it.span());
        }
        types
    }

    /// An export of a declaration.
    pub(crate) fn write_export(&mut self, it: &ExportDeclaration<'_>) {
        if let Some(owner) = self.containers.last() {
            let owner = owner.param.clone();
            return self.write_member(it, &owner);
        }
        let name = match &it.declaration {
            Declaration::TSEnumDeclaration(it) => Some(&it.id),
            Declaration::TSNamespaceDeclaration(it) => Some(&it.id),
            _ => None,
        };
        let again = name.is_some_and(|id| {
            self.declared.last().is_some_and(|names| names.contains(id.name.as_str()))
        });
        if again {
            self.edits.blank(it.span.start, it.declaration.span().start);
        }
        walk::walk_export_declaration(self, it);
    }

    /// Blanks the imports that only types refer to.
    pub(crate) fn erase_import(&mut self, it: &ImportDeclaration<'_>) {
        let Some(specifiers) = &it.specifiers else { return };
        let stays = |specifier: &ImportDeclarationSpecifier<'_>| match specifier {
            ImportDeclarationSpecifier::ImportSpecifier(it) => {
                !it.import_kind.is_type() && self.names.is_value_used(&it.local)
            }
            ImportDeclarationSpecifier::ImportDefaultSpecifier(it) => {
                self.names.is_value_used(&it.local)
            }
            ImportDeclarationSpecifier::ImportNamespaceSpecifier(it) => {
                self.names.is_value_used(&it.local)
            }
        };
        let stays: Vec<_> = specifiers.iter().map(|it| (it.span(), stays(it))).collect();
        // In a program without modules to import, what is left is only there to be refused.
        if stays.iter().all(|(_, stays)| !stays) && !stays.is_empty() {
            self.blank_whole(it.span);
        } else {
            self.blank_specifiers(&stays, it.source.span.start);
        }
    }

    /// Blanks the exports of types.
    pub(crate) fn erase_export_specifiers(&mut self, it: &[ExportSpecifier<'_>], whole: Span) {
        let stays = |specifier: &ExportSpecifier<'_>| {
            let is_type = match &specifier.local {
                ModuleExportName::IdentifierReference(name) => self.names.is_type_only(name),
                _ => false,
            };
            !specifier.export_kind.is_type() && !is_type
        };
        let stays: Vec<_> = it.iter().map(|it| (it.span, stays(it))).collect();
        if stays.iter().all(|(_, stays)| !stays) && !stays.is_empty() {
            self.blank_whole(whole);
        } else {
            self.blank_specifiers(&stays, whole.end);
        }
    }

    fn blank_specifiers(&mut self, specifiers: &[(Span, bool)], end: u32) {
        for (span, stays) in specifiers {
            if !stays {
                let after = self.find(span.end, end, b",}");
                let comma = after.filter(|at| self.slice(*at, at + 1) == ",");
                self.edits.blank(span.start, comma.map_or(span.end, |at| at + 1));
            }
        }
    }

    /// Writes `import a = b.c`; `owner` is the namespace that exports it.
    pub(crate) fn write_alias(&mut self, it: &TSImportEqualsDeclaration<'_>, owner: Option<&str>) {
        if owner.is_none() && !self.names.is_value_used(&it.id) {
            return self.blank_whole(it.span);
        }
        let id = it.id.span;
        let start = owner.map_or("var ".to_owned(), |owner| format!("{owner}."));
        self.edits.replace(it.span.start, id.start, start);
        let mut reference = &it.module_reference;
        if let TSModuleReference::QualifiedName(name) = reference {
            let mut left = &name.left;
            while let TSTypeName::QualifiedName(inner) = left {
                left = &inner.left;
            }
            if let TSTypeName::IdentifierReference(first) = left
                && let Some(prefix) = self.prefix(first)
            {
                self.edits.insert(first.span.start, prefix);
            }
        } else if let TSModuleReference::IdentifierReference(first) = &mut reference
            && let Some(prefix) = self.prefix(first)
        {
            self.edits.insert(first.span.start, prefix);
        }
    }
}
