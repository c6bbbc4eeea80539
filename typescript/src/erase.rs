//! Blanks types.

use crate::Problem;
use crate::edits::Edits;
use crate::names::{Container, Names};
use crate::{classes, modules};
use oxc_ast::ast::{
    ArrowFunctionBody, ArrowFunctionExpression, AssignmentTargetPropertyIdentifier, CallExpression,
    CatchParameter, Class, ClassElement, Decorator, ExportDeclaration, ExportFromDeclaration,
    ExportNamedDeclaration, Expression, ForStatementInit, FormalParameter, Function,
    IdentifierReference, ImportDeclaration, ObjectProperty, Statement, TSAsExpression,
    TSEnumDeclaration, TSExportAssignment, TSImportEqualsDeclaration, TSInstantiationExpression,
    TSNamespaceDeclaration, TSNonNullExpression, TSSatisfiesExpression, TSTypeAnnotation,
    TSTypeAssertion, TSTypeParameterDeclaration, TSTypeParameterInstantiation, VariableDeclarator,
};
use oxc_ast_visit::{Visit, walk};
use oxc_span::{GetSpan, Span};
use oxc_syntax::scope::ScopeFlags;
use std::collections::BTreeSet;

/// Walks a program and notes what is to change.
pub(crate) struct Eraser<'s> {
    pub(crate) source: &'s str,
    pub(crate) edits: Edits,
    pub(crate) names: Names,
    /// The enums and namespaces around, outermost first.
    pub(crate) containers: Vec<Container>,
    /// Of each list of statements around, names that need no declaration any more.
    pub(crate) declared: Vec<BTreeSet<String>>,
    /// Where the statement or field around ends; what is blanked up to there may have
    /// been all that separated it from the next.
    statement_end: u32,
    problem: Option<Problem>,
}

impl<'s> Eraser<'s> {
    pub(crate) fn new(source: &'s str, names: Names) -> Self {
        Self {
            source,
            edits: Edits::default(),
            names,
            containers: Vec::new(),
            declared: Vec::new(),
            statement_end: 0,
            problem: None,
        }
    }

    pub(crate) fn done(self) -> (Edits, Option<Problem>) {
        (self.edits, self.problem)
    }

    /// Notes the first thing that has no JavaScript.
    pub(crate) fn refuse(&mut self, at: u32, message: &str) {
        self.problem.get_or_insert_with(|| Problem { message: message.to_owned(), at });
    }

    pub(crate) fn slice(&self, start: u32, end: u32) -> &'s str {
        self.source.get(start as usize..end as usize).unwrap_or_default()
    }

    fn has_line_end(&self, start: u32, end: u32) -> bool {
        self.slice(start, end).contains(['\n', '\r', '\u{2028}', '\u{2029}'])
    }

    /// Blanks a whole statement or member. A semicolon takes its place: what was there
    /// may have been all that separated its neighbours.
    pub(crate) fn blank_whole(&mut self, span: Span) {
        self.edits.replace(span.start, span.end, ";");
    }

    /// Blanks a type at the end of an expression, and keeps the statement's end.
    fn blank_tail(&mut self, start: u32, end: u32) {
        self.edits.replace(start, end, if end == self.statement_end { ";" } else { "" });
    }

    pub(crate) fn blank_span(&mut self, span: Span) {
        self.edits.blank(span.start, span.end);
    }

    /// Where one of some characters is between two places, comments aside.
    pub(crate) fn find(&self, start: u32, end: u32, wanted: &[u8]) -> Option<u32> {
        Tokens { source: self.source, at: start, end }
            .find(|(_, text)| text.len() == 1 && wanted.contains(&text.as_bytes()[0]))
            .map(|(at, _)| at)
    }

    /// The words between two places, comments aside.
    pub(crate) fn words(&self, start: u32, end: u32) -> Vec<(u32, &'s str)> {
        Tokens { source: self.source, at: start, end }
            .filter(|(_, text)| text.starts_with(|c: char| c.is_ascii_alphabetic()))
            .collect()
    }

    /// Blanks the mark of something optional or definite, and its type.
    pub(crate) fn blank_annotation(
        &mut self,
        after: u32,
        marked: bool,
        end: u32,
        annotation: Option<&TSTypeAnnotation<'_>>,
    ) {
        let limit = annotation.map_or(end, |annotation| annotation.span.start);
        let mark = if marked { self.find(after, limit, b"?!") } else { None };
        match (mark, annotation) {
            (Some(mark), Some(annotation)) => self.edits.blank(mark, annotation.span.end),
            (Some(mark), None) => self.edits.blank(mark, mark + 1),
            (None, Some(annotation)) => self.blank_span(annotation.span),
            (None, None) => {}
        }
    }

    /// Visits with another end of the statement.
    pub(crate) fn ending(&mut self, end: u32, visit: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.statement_end, end);
        visit(self);
        self.statement_end = outer;
    }

    /// What a name in the program must be preceded by.
    pub(crate) fn prefix(&self, reference: &IdentifierReference<'_>) -> Option<String> {
        if self.containers.is_empty() {
            return None;
        }
        let param = self.names.member_of(reference, &self.containers)?;
        Some(format!("{param}."))
    }

    fn visit_cast(&mut self, inner: &Expression<'_>, end: u32) {
        self.visit_expression(inner);
        self.blank_tail(inner.span().end, end);
    }
}

impl<'a> Visit<'a> for Eraser<'_> {
    // What is left of types once their places were found is never looked at.
    fn visit_ts_type_annotation(&mut self, it: &TSTypeAnnotation<'a>) {
        self.blank_span(it.span);
    }

    fn visit_ts_type_parameter_declaration(&mut self, it: &TSTypeParameterDeclaration<'a>) {
        self.blank_span(it.span);
    }

    fn visit_ts_type_parameter_instantiation(&mut self, it: &TSTypeParameterInstantiation<'a>) {
        self.blank_tail(it.span.start, it.span.end);
    }

    fn visit_ts_as_expression(&mut self, it: &TSAsExpression<'a>) {
        self.visit_cast(&it.expression, it.span.end);
    }

    fn visit_ts_satisfies_expression(&mut self, it: &TSSatisfiesExpression<'a>) {
        self.visit_cast(&it.expression, it.span.end);
    }

    fn visit_ts_non_null_expression(&mut self, it: &TSNonNullExpression<'a>) {
        self.visit_cast(&it.expression, it.span.end);
    }

    fn visit_ts_instantiation_expression(&mut self, it: &TSInstantiationExpression<'a>) {
        self.visit_cast(&it.expression, it.span.end);
    }

    fn visit_ts_type_assertion(&mut self, it: &TSTypeAssertion<'a>) {
        let (start, inner) = (it.span.start, it.expression.span());
        let first = self.slice(inner.start, inner.end);
        // Without the type, these would begin a statement, or another line.
        let begins = ["{", "function", "class", "let", "async"];
        if self.has_line_end(start, inner.start)
            || begins.iter().any(|word| first.starts_with(word))
        {
            self.edits.replace(start, inner.start, "(");
            self.visit_expression(&it.expression);
            self.edits.insert(inner.end, ")");
        } else {
            self.edits.blank(start, inner.start);
            self.visit_expression(&it.expression);
        }
    }

    fn visit_statement(&mut self, it: &Statement<'a>) {
        if self.blank_if_types(it) {
            return;
        }
        self.ending(it.span().end, |own| walk::walk_statement(own, it));
    }

    fn visit_statements(&mut self, it: &oxc_allocator::ArenaVec<'a, Statement<'a>>) {
        self.declared.push(modules::declared(it));
        walk::walk_statements(self, it);
        self.declared.pop();
    }

    fn visit_for_statement_init(&mut self, it: &ForStatementInit<'a>) {
        self.ending(0, |own| walk::walk_for_statement_init(own, it));
    }

    fn visit_variable_declarator(&mut self, it: &VariableDeclarator<'a>) {
        self.visit_binding_pattern(&it.id);
        let annotation = it.type_annotation.as_deref();
        self.blank_annotation(it.id.span().end, it.definite, it.span.end, annotation);
        if let Some(init) = &it.init {
            self.visit_expression(init);
        }
    }

    fn visit_function(&mut self, it: &Function<'a>, flags: ScopeFlags) {
        let Some(body) = &it.body else { return self.blank_whole(it.span) };
        if let Some(types) = &it.type_parameters {
            self.blank_span(types.span);
        }
        if let Some(this) = &it.this_param {
            let next = it.params.items.first().map(|next| next.span.start);
            let rest = it.params.rest.as_ref().map(|next| next.span.start);
            let limit = next.or(rest).unwrap_or(it.params.span.end);
            let comma = self.find(this.span.end, limit, b",");
            self.edits.blank(this.span.start, comma.map_or(this.span.end, |at| at + 1));
        }
        self.visit_formal_parameters(&it.params);
        if let Some(result) = &it.return_type {
            self.blank_span(result.span);
        }
        let _ = flags;
        self.ending(0, |own| own.visit_function_body(body));
    }

    fn visit_arrow_function_expression(&mut self, it: &ArrowFunctionExpression<'a>) {
        let (params, edits) = (it.params.span, &mut self.edits);
        if let Some(types) = &it.type_parameters {
            let Span { start, end, .. } = types.span;
            if self.source[start as usize..params.start as usize].contains(['\n', '\r']) {
                // The list must begin on the line of what is before it.
                edits.replace(start, end, "(");
                edits.blank(params.start, params.start + 1);
            } else {
                edits.blank(start, end);
            }
        }
        self.visit_formal_parameters(&it.params);
        if let Some(result) = &it.return_type {
            if self.has_line_end(params.end, result.span.end) {
                // The list must end on the line of the arrow.
                let last = self.slice(result.span.start, result.span.end).chars().next_back();
                let last =
                    result.span.end - last.map_or(1, |c| u32::try_from(c.len_utf8()).unwrap_or(1));
                self.edits.blank(params.end - 1, params.end);
                self.edits.blank(result.span.start, last);
                self.edits.replace(last, result.span.end, ")");
            } else {
                self.blank_span(result.span);
            }
        }
        match &it.body {
            ArrowFunctionBody::FunctionBody(body) => {
                self.ending(0, |own| own.visit_function_body(body));
            }
            body => walk::walk_arrow_function_body(self, body),
        }
    }

    fn visit_formal_parameter(&mut self, it: &FormalParameter<'a>) {
        self.refuse_decorators(&it.decorators);
        for (at, word) in self.words(it.span.start, it.pattern.span().start) {
            self.edits.blank(at, at + classes::length(word));
        }
        self.visit_binding_pattern(&it.pattern);
        let after = it.pattern.span().end;
        let limit = it.initializer.as_ref().map_or(it.span.end, |value| value.span().start);
        self.blank_annotation(after, it.optional, limit, it.type_annotation.as_deref());
        if let Some(value) = &it.initializer {
            self.visit_expression(value);
        }
    }

    fn visit_catch_parameter(&mut self, it: &CatchParameter<'a>) {
        self.visit_binding_pattern(&it.pattern);
        if let Some(annotation) = &it.type_annotation {
            self.blank_span(annotation.span);
        }
    }

    fn visit_class(&mut self, it: &Class<'a>) {
        self.erase_class(it);
    }

    fn visit_class_element(&mut self, it: &ClassElement<'a>) {
        self.erase_class_element(it);
    }

    fn visit_ts_enum_declaration(&mut self, it: &TSEnumDeclaration<'a>) {
        self.write_enum(it, None);
    }

    fn visit_ts_namespace_declaration(&mut self, it: &TSNamespaceDeclaration<'a>) {
        self.write_namespace(it, None);
    }

    fn visit_ts_import_equals_declaration(&mut self, it: &TSImportEqualsDeclaration<'a>) {
        self.write_alias(it, None);
    }

    fn visit_import_declaration(&mut self, it: &ImportDeclaration<'a>) {
        self.erase_import(it);
    }

    fn visit_export_declaration(&mut self, it: &ExportDeclaration<'a>) {
        self.write_export(it);
    }

    fn visit_export_named_declaration(&mut self, it: &ExportNamedDeclaration<'a>) {
        self.erase_export_specifiers(&it.specifiers, it.span);
    }

    fn visit_export_from_declaration(&mut self, it: &ExportFromDeclaration<'a>) {
        self.erase_export_specifiers(&it.specifiers, it.span);
    }

    fn visit_ts_export_assignment(&mut self, it: &TSExportAssignment<'a>) {
        self.refuse(it.span.start, "`export =` is not supported; nothing is exported");
    }

    fn visit_decorator(&mut self, it: &Decorator<'a>) {
        self.refuse(it.span.start, classes::NO_DECORATORS);
    }

    fn visit_identifier_reference(&mut self, it: &IdentifierReference<'a>) {
        if let Some(prefix) = self.prefix(it) {
            self.edits.insert(it.span.start, prefix);
        }
    }

    fn visit_object_property(&mut self, it: &ObjectProperty<'a>) {
        if it.shorthand
            && let Expression::Identifier(name) = &it.value
        {
            if let Some(prefix) = self.prefix(name) {
                self.edits.insert(it.span.start, format!("{}:{prefix}", name.name));
            }
            return;
        }
        walk::walk_object_property(self, it);
    }

    fn visit_assignment_target_property_identifier(
        &mut self,
        it: &AssignmentTargetPropertyIdentifier<'a>,
    ) {
        if let Some(prefix) = self.prefix(&it.binding) {
            self.edits.insert(it.span.start, format!("{}:{prefix}", it.binding.name));
        }
        if let Some(init) = &it.init {
            self.visit_expression(init);
        }
    }

    fn visit_call_expression(&mut self, it: &CallExpression<'a>) {
        // A member that is called by its name alone has no `this`.
        if let Expression::Identifier(name) = &it.callee
            && let Some(prefix) = self.prefix(name)
        {
            self.edits.insert(name.span.start, format!("(0,{prefix}"));
            self.edits.insert(name.span.end, ")");
        } else {
            self.visit_expression(&it.callee);
        }
        if let Some(types) = &it.type_arguments {
            self.blank_span(types.span);
        }
        self.visit_arguments(&it.arguments);
    }
}

/// Punctuation and words of a piece of a program that has no strings.
struct Tokens<'s> {
    source: &'s str,
    at: u32,
    end: u32,
}

impl<'s> Iterator for Tokens<'s> {
    type Item = (u32, &'s str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.source.get(self.at as usize..self.end as usize)?;
            let first = rest.chars().next()?;
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            let length = if rest.starts_with("//") {
                rest.find(['\n', '\r', '\u{2028}', '\u{2029}']).unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |at| at + 2)
            } else if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let at = self.at;
            self.at += u32::try_from(length).ok()?;
            if !first.is_whitespace() && !rest.starts_with("//") && !rest.starts_with("/*") {
                return Some((at, &rest[..length]));
            }
        }
    }
}
