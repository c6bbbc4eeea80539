//! Enums, as objects.

use crate::erase::Eraser;
use crate::names::{Container, member_name, path_in};
use oxc_ast::ast::{Expression, TSEnumDeclaration};
use oxc_ast_visit::Visit;
use oxc_span::GetSpan;
use oxc_syntax::operator::{BinaryOperator, UnaryOperator};
use std::collections::BTreeSet;
use std::fmt::Write;

/// What a member is known to be.
enum Known {
    Number(f64),
    Text,
    Other,
}

impl Eraser<'_> {
    /// How the object of an enum or a namespace is declared and passed: the text before
    /// its body, and the argument after it.
    pub(crate) fn container_texts(
        &mut self,
        name: &str,
        param: &str,
        owner: Option<&str>,
    ) -> (String, String) {
        let is_top = self.declared.len() == 1;
        let is_new = self.declared.last_mut().is_none_or(|names| names.insert(name.to_owned()));
        let declaration = match (is_new, is_top) {
            (false, _) => ";".to_owned(),
            (true, true) => format!("var {name};"),
            (true, false) => format!("let {name};"),
        };
        let argument = match owner {
            Some(owner) => format!("{name}={owner}.{name}||({owner}.{name}={{}})"),
            None => format!("{name}||({name}={{}})"),
        };
        (format!("{declaration}(function({param}){{"), format!("}})({argument});"))
    }

    /// The path of a container here.
    pub(crate) fn path_here(&self, name: &str) -> String {
        path_in(self.containers.last().map_or("", |outer| &outer.path), name)
    }

    /// Writes an enum; `owner` is the namespace that exports it.
    pub(crate) fn write_enum(&mut self, it: &TSEnumDeclaration<'_>, owner: Option<&str>) {
        let name = it.id.name.as_str();
        let (head, tail) = self.container_texts(name, name, owner);
        let body = &it.body;
        self.edits.replace(it.span.start, body.span.start + 1, head);
        let members: Vec<_> = body.members.iter().map(|member| member_name(&member.id)).collect();
        self.containers.push(Container {
            param: name.to_owned(),
            path: self.path_here(name),
            scope: body.scope_id.get(),
            members: members.iter().cloned().collect(),
        });
        let mut texts = BTreeSet::new();
        let mut before: Option<(String, Known)> = None;
        for (index, (member, key)) in body.members.iter().zip(&members).enumerate() {
            let quoted = quote(key);
            let known = if let Some(value) = &member.initializer {
                let known = known(value, &texts);
                let start = if let Known::Text = known {
                    format!("{name}[{quoted}]=")
                } else {
                    format!("{name}[{name}[{quoted}]=")
                };
                self.edits.replace(member.span.start, value.span().start, start);
                self.ending(0, |own| own.visit_expression(value));
                let end =
                    if let Known::Text = known { ";".to_owned() } else { format!("]={quoted};") };
                self.edits.insert(value.span().end, end);
                known
            } else {
                let (value, known) = match &before {
                    None => ("0".to_owned(), Known::Number(0.0)),
                    Some((_, Known::Number(value))) => {
                        ((value + 1.0).to_string(), Known::Number(value + 1.0))
                    }
                    Some((key, Known::Other)) => {
                        (format!("{name}[{}]+1", quote(key)), Known::Other)
                    }
                    Some((_, Known::Text)) => {
                        self.refuse(member.span.start, "Enum member must have initializer.");
                        return;
                    }
                };
                let text = format!("{name}[{name}[{quoted}]={value}]={quoted};");
                self.edits.replace(member.span.start, member.span.end, text);
                known
            };
            let next = body.members.get(index + 1).map_or(body.span.end, |next| next.span.start);
            if let Some(comma) = self.find(member.span.end, next, b",") {
                self.edits.blank(comma, comma + 1);
            }
            if let Known::Text = known {
                texts.insert(key.clone());
            }
            before = Some((key.clone(), known));
        }
        self.containers.pop();
        self.edits.replace(body.span.end - 1, it.span.end, tail);
    }
}

/// What the value of a member is known to be; `texts` are earlier members that are texts.
fn known(value: &Expression<'_>, texts: &BTreeSet<String>) -> Known {
    match value {
        Expression::NumericLiteral(number) => Known::Number(number.value),
        Expression::StringLiteral(_) | Expression::TemplateLiteral(_) => Known::Text,
        Expression::UnaryExpression(it) if it.operator == UnaryOperator::UnaryNegation => {
            match known(&it.argument, texts) {
                Known::Number(value) => Known::Number(-value),
                _ => Known::Other,
            }
        }
        Expression::BinaryExpression(it) if it.operator == BinaryOperator::Addition => {
            match (known(&it.left, texts), known(&it.right, texts)) {
                (Known::Text, _) | (_, Known::Text) => Known::Text,
                (Known::Number(one), Known::Number(other)) => Known::Number(one + other),
                _ => Known::Other,
            }
        }
        Expression::ParenthesizedExpression(it) => known(&it.expression, texts),
        Expression::TSAsExpression(it) => known(&it.expression, texts),
        Expression::TSSatisfiesExpression(it) => known(&it.expression, texts),
        Expression::Identifier(name) if texts.contains(name.name.as_str()) => Known::Text,
        Expression::StaticMemberExpression(it) if texts.contains(it.property.name.as_str()) => {
            Known::Text
        }
        _ => Known::Other,
    }
}

/// A text as a literal.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        if char.is_control() || matches!(char, '"' | '\\' | '\u{2028}' | '\u{2029}') {
            // Writing to a string cannot fail.
            let _ = write!(quoted, "\\u{:04x}", u32::from(char));
        } else {
            quoted.push(char);
        }
    }
    quoted.push('"');
    quoted
}
