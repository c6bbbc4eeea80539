//! Classes: modifiers, members without a body, and parameter properties.

use crate::erase::Eraser;
use oxc_ast::ast::{
    Class, ClassBody, ClassElement, Decorator, Expression, FormalParameter, Function,
    MethodDefinitionKind, PropertyDefinition, PropertyDefinitionType, PropertyKey, Statement,
};
use oxc_ast_visit::{Visit, walk};
use oxc_span::GetSpan;

/// Why decorators are refused.
pub(crate) const NO_DECORATORS: &str = "decorators are not supported; call the function instead";

/// Modifiers that mean nothing at run time.
const MODIFIERS: [&str; 6] = ["public", "private", "protected", "readonly", "override", "abstract"];

/// The length of a word as spans count.
pub(crate) fn length(word: &str) -> u32 {
    u32::try_from(word.len()).unwrap_or(u32::MAX)
}

impl Eraser<'_> {
    pub(crate) fn refuse_decorators(&mut self, decorators: &[Decorator<'_>]) {
        if let Some(first) = decorators.first() {
            self.refuse(first.span.start, NO_DECORATORS);
        }
    }

    pub(crate) fn erase_class(&mut self, it: &Class<'_>) {
        self.refuse_decorators(&it.decorators);
        let mut head = it.id.as_ref().map_or(it.span.start, |id| id.span.end);
        if it.r#abstract
            && let Some((at, word)) = self.words(it.span.start, it.body.span.start).first()
        {
            self.edits.blank(*at, at + length(word));
        }
        if let Some(types) = &it.type_parameters {
            self.blank_span(types.span);
            head = types.span.end;
        }
        if let Some(heritage) = &it.heritage {
            self.visit_expression(&heritage.expression);
            head = heritage.expression.span().end;
            if let Some(types) = &heritage.type_arguments {
                self.blank_span(types.span);
                head = types.span.end;
            }
        }
        if let Some(last) = it.implements.last() {
            let words = self.words(head, last.span.start);
            if let Some((at, _)) = words.iter().find(|(_, word)| *word == "implements") {
                self.edits.blank(*at, last.span.end);
            }
        }
        let fields = parameter_properties(&it.body);
        if !fields.is_empty() {
            self.edits.insert(it.body.span.start + 1, format!("{};", fields.join(";")));
        }
        self.ending(0, |own| {
            for element in &it.body.body {
                own.erase_element(element, it.heritage.is_some());
            }
        });
    }

    fn erase_element(&mut self, it: &ClassElement<'_>, is_derived: bool) {
        if let ClassElement::MethodDefinition(method) = it
            && method.kind == MethodDefinitionKind::Constructor
            && let Some(body) = &method.value.body
        {
            let names = properties_of(&method.value);
            if !names.is_empty() {
                let called = body.statements.iter().find(|each| is_super_call(each));
                let at = match called.filter(|_| is_derived) {
                    Some(call) => call.span().end,
                    None => body.span.start + 1,
                };
                let set: Vec<_> = names.iter().map(|name| format!("this.{name}={name};")).collect();
                let set = set.concat();
                // The call may end without a semicolon.
                self.edits.insert(at, if called.is_some() { format!(";{set}") } else { set });
            }
        }
        self.erase_class_element(it);
    }

    pub(crate) fn erase_class_element(&mut self, it: &ClassElement<'_>) {
        match it {
            ClassElement::StaticBlock(block) => walk::walk_static_block(self, block),
            ClassElement::TSIndexSignature(signature) => self.blank_whole(signature.span),
            ClassElement::AccessorProperty(accessor) => {
                self.refuse(
                    accessor.span.start,
                    "`accessor` fields are not supported; write a field, or `get` and `set`",
                );
            }
            ClassElement::MethodDefinition(method) => {
                self.refuse_decorators(&method.decorators);
                if method.value.body.is_none() {
                    return self.blank_whole(method.span);
                }
                self.erase_modifiers(method.span.start, method.key.span().start);
                self.erase_key(&method.key, method.computed);
                self.blank_annotation(
                    method.key.span().end,
                    method.optional,
                    method.value.params.span.start,
                    None,
                );
                self.visit_function(&method.value, oxc_syntax::scope::ScopeFlags::Function);
            }
            ClassElement::PropertyDefinition(field) => {
                self.refuse_decorators(&field.decorators);
                let is_abstract =
                    field.r#type == PropertyDefinitionType::TSAbstractPropertyDefinition;
                if field.declare || is_abstract {
                    return self.blank_whole(field.span);
                }
                self.erase_modifiers(field.span.start, field.key.span().start);
                self.erase_key(&field.key, field.computed);
                self.erase_field_type(field);
                if let Some(value) = &field.value {
                    self.ending(field.span.end, |own| own.visit_expression(value));
                }
            }
        }
    }

    fn erase_field_type(&mut self, field: &PropertyDefinition<'_>) {
        let key_end = field.key.span().end;
        let annotation = field.type_annotation.as_deref();
        let limit = field.value.as_ref().map_or(field.span.end, |value| value.span().start);
        if field.value.is_some() {
            return self.blank_annotation(
                key_end,
                field.optional || field.definite,
                limit,
                annotation,
            );
        }
        let limit = annotation.map_or(limit, |annotation| annotation.span.start);
        let mark =
            if field.optional || field.definite { self.find(key_end, limit, b"?!") } else { None };
        let end = annotation.map(|annotation| annotation.span.end).or(mark.map(|at| at + 1));
        if let (Some(start), Some(end)) = (mark.or(annotation.map(|it| it.span.start)), end) {
            // A field called `get` would make an accessor of the next member.
            self.edits.replace(start, end, ";");
        }
    }

    fn erase_key(&mut self, key: &PropertyKey<'_>, computed: bool) {
        if computed && let Some(key) = key.as_expression() {
            self.ending(0, |own| own.visit_expression(key));
        }
    }

    fn erase_modifiers(&mut self, start: u32, end: u32) {
        for (at, word) in self.words(start, end) {
            if MODIFIERS.contains(&word) {
                // Where the member begins with it, the one before may have ended there.
                let text = if at == start { ";" } else { "" };
                self.edits.replace(at, at + length(word), text);
            }
        }
    }
}

/// Names of the parameters of a constructor that are properties.
fn properties_of(function: &Function<'_>) -> Vec<String> {
    let is_property =
        |it: &&FormalParameter<'_>| it.accessibility.is_some() || it.readonly || it.r#override;
    function
        .params
        .items
        .iter()
        .filter(is_property)
        .filter_map(|it| it.pattern.get_identifier_name())
        .map(|name| name.to_string())
        .collect()
}

/// Names of the parameters of a class's constructor that are properties.
fn parameter_properties(body: &ClassBody<'_>) -> Vec<String> {
    let constructor = body.body.iter().find_map(|element| match element {
        ClassElement::MethodDefinition(method)
            if method.kind == MethodDefinitionKind::Constructor && method.value.body.is_some() =>
        {
            Some(&method.value)
        }
        _ => None,
    });
    constructor.map(|function| properties_of(function)).unwrap_or_default()
}

fn is_super_call(statement: &Statement<'_>) -> bool {
    let Statement::ExpressionStatement(it) = statement else { return false };
    matches!(&it.expression, Expression::CallExpression(call) if matches!(call.callee, Expression::Super(_)))
}
