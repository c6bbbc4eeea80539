//! JSON Schema as TypeScript types, for a model to read.
//!
//! The first rule that matches decides; what no rule covers is `unknown`. References
//! are followed as [`MAX_EXPANSIONS`] and [`MAX_EXPANSIONS_ON_PATH`] allow, and a
//! schema whose type would be too long is `unknown` as a whole: a tool's schema comes
//! from the author of the tool, and must not be able to fill a model's context.

use super::names::is_identifier;
use crate::json;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Bytes that the type of one schema may have.
pub const MAX_TYPE_BYTES: usize = 16_000;
/// Bytes that may be rendered on the way to a type, inner types counted at every level.
pub const MAX_RENDERED_BYTES: usize = 64_000;
/// How often a `$ref` may be replaced by its target on the way to one place.
pub const MAX_EXPANSIONS_ON_PATH: usize = 2;
/// How often a `$ref` may be replaced by its target in all.
pub const MAX_EXPANSIONS: usize = 32;
/// Levels of schemas below one another, references followed; a deeper one is `unknown`.
const MAX_DEPTH: usize = 128;

/// Keywords from which a type can be made.
const KEYWORDS: [&str; 11] = [
    "const",
    "enum",
    "anyOf",
    "oneOf",
    "allOf",
    "type",
    "properties",
    "additionalProperties",
    "required",
    "items",
    "prefixItems",
];

/// Who reads a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reader {
    /// A model. The type of `additionalProperties` is written as it is.
    #[default]
    Model,
    /// A compiler, which wants an index signature to cover the named properties too:
    /// beside those it is `unknown`.
    Compiler,
}

/// The TypeScript type of what a JSON Schema accepts.
///
/// ```
/// use cellblock::model::{Reader, typescript_type};
/// use serde_json::json;
///
/// let schema = json!({
///     "type": "object",
///     "properties": {
///         "path": { "type": "string" },
///         "lines": { "type": ["integer", "null"] },
///     },
///     "required": ["path"],
///     "additionalProperties": false,
/// });
/// assert_eq!(
///     typescript_type(&schema, Reader::Model),
///     "{ lines?: number | null; path: string; }"
/// );
/// ```
pub fn typescript_type(schema: &Value, reader: Reader) -> String {
    if !json::is_shallow(schema, json::MAX_DEPTH) {
        return "unknown".to_owned();
    }
    let mut renderer = Renderer {
        root: schema,
        reader,
        rendered: 0,
        expansions: HashMap::new(),
        path: Vec::new(),
    };
    match renderer.schema(schema, Place::default()) {
        Ok(text) if text.len() <= MAX_TYPE_BYTES => text,
        _ => "unknown".to_owned(),
    }
}

/// The type would take more work than a type may.
struct TooLarge;

/// Where in the schema the renderer is.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Schemas above this one.
    depth: usize,
    /// A schema above has an `$id` of its own, so that references start elsewhere.
    foreign: bool,
}

struct Renderer<'a> {
    root: &'a Value,
    reader: Reader,
    /// Bytes of every type that was made so far.
    rendered: usize,
    /// How often each reference was followed.
    expansions: HashMap<&'a str, usize>,
    /// The references that are being followed.
    path: Vec<&'a str>,
}

impl<'a> Renderer<'a> {
    fn schema(&mut self, schema: &'a Value, place: Place) -> Result<String, TooLarge> {
        let text = match schema {
            Value::Bool(false) => "never".to_owned(),
            Value::Object(map) if place.depth < MAX_DEPTH => {
                let nested = !std::ptr::eq(schema, self.root) && map.contains_key("$id");
                let foreign = place.foreign || nested;
                self.object_schema(map, Place { depth: place.depth + 1, foreign })?
            }
            _ => "unknown".to_owned(),
        };
        self.rendered += text.len();
        if self.rendered > MAX_RENDERED_BYTES { Err(TooLarge) } else { Ok(text) }
    }

    fn object_schema(
        &mut self,
        map: &'a Map<String, Value>,
        place: Place,
    ) -> Result<String, TooLarge> {
        let Some(reference) = map.get("$ref") else { return self.keywords(map, place) };
        let target = match reference.as_str() {
            Some(reference) => self.reference(reference, place)?,
            None => None,
        };
        let has_siblings = KEYWORDS.iter().any(|keyword| map.contains_key(*keyword));
        let siblings = if has_siblings { Some(self.keywords(map, place)?) } else { None };
        Ok(match (target, siblings) {
            (Some(target), Some(siblings)) => format!("({target}) & ({siblings})"),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => "unknown".to_owned(),
        })
    }

    /// The type of what a reference points at; `None` when it is not followed.
    fn reference(&mut self, reference: &'a str, place: Place) -> Result<Option<String>, TooLarge> {
        let Some(pointer) = reference.strip_prefix('#').filter(|_| !place.foreign) else {
            return Ok(None);
        };
        let Ok(pointer) = percent_decode_str(pointer).decode_utf8() else { return Ok(None) };
        let Some(target) = self.root.pointer(&pointer) else { return Ok(None) };
        let on_path = self.path.iter().filter(|each| **each == reference).count();
        let total = self.expansions.entry(reference).or_default();
        if on_path >= MAX_EXPANSIONS_ON_PATH || *total >= MAX_EXPANSIONS {
            return Ok(None);
        }
        *total += 1;
        self.path.push(reference);
        let text = self.schema(target, place);
        self.path.pop();
        text.map(Some)
    }

    fn keywords(&mut self, map: &'a Map<String, Value>, place: Place) -> Result<String, TooLarge> {
        let members = |keyword| map.get(keyword).and_then(Value::as_array);
        let some = |keyword| members(keyword).filter(|members| !members.is_empty());
        if let Some(literal) = map.get("const") {
            return Ok(literal.to_string());
        }
        if let Some(literals) = some("enum") {
            let literals: Vec<_> = literals.iter().map(Value::to_string).collect();
            return Ok(literals.join(" | "));
        }
        if let Some(schemas) = some("anyOf").or_else(|| some("oneOf")) {
            return Ok(self.schemas(schemas, place)?.join(" | "));
        }
        if let Some(schemas) = some("allOf") {
            let mut parts = self.schemas(schemas, place)?;
            for part in parts.iter_mut().filter(|part| part.contains(" | ")) {
                *part = format!("({part})");
            }
            return Ok(parts.join(" & "));
        }
        if let Some(types) = some("type") {
            let mut parts = Vec::with_capacity(types.len());
            for each in types {
                parts.push(self.keyword_type(each.as_str().unwrap_or_default(), map, place)?);
            }
            return Ok(parts.join(" | "));
        }
        if let Some(each) = map.get("type").and_then(Value::as_str) {
            return self.keyword_type(each, map, place);
        }
        let has = |keywords: &[&str]| keywords.iter().any(|keyword| map.contains_key(*keyword));
        if has(&["properties", "additionalProperties", "required"]) {
            return self.object(map, place);
        }
        if has(&["items", "prefixItems"]) {
            return self.array(map, place);
        }
        Ok("unknown".to_owned())
    }

    fn schemas(&mut self, schemas: &'a [Value], place: Place) -> Result<Vec<String>, TooLarge> {
        schemas.iter().map(|schema| self.schema(schema, place)).collect()
    }

    /// The type of one value of the keyword `type`.
    fn keyword_type(
        &mut self,
        keyword: &str,
        map: &'a Map<String, Value>,
        place: Place,
    ) -> Result<String, TooLarge> {
        Ok(match keyword {
            "number" | "integer" => "number".to_owned(),
            "string" | "boolean" | "null" => keyword.to_owned(),
            "array" => return self.array(map, place),
            "object" => return self.object(map, place),
            _ => "unknown".to_owned(),
        })
    }

    fn array(&mut self, map: &'a Map<String, Value>, place: Place) -> Result<String, TooLarge> {
        if let Some(items) = map.get("items") {
            return Ok(format!("Array<{}>", self.schema(items, place)?));
        }
        let prefix = map.get("prefixItems").and_then(Value::as_array);
        match prefix.filter(|prefix| !prefix.is_empty()) {
            Some(prefix) => Ok(format!("[{}]", self.schemas(prefix, place)?.join(", "))),
            None => Ok("unknown[]".to_owned()),
        }
    }

    fn object(&mut self, map: &'a Map<String, Value>, place: Place) -> Result<String, TooLarge> {
        let required: HashSet<_> = map
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let properties: BTreeMap<_, _> =
            map.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
        let mut members = Vec::with_capacity(properties.len() + 1);
        for (name, schema) in &properties {
            let optional = if required.contains(name.as_str()) { "" } else { "?" };
            let key = if is_identifier(name) {
                (*name).clone()
            } else {
                Value::from(name.as_str()).to_string()
            };
            let member = format!("{key}{optional}: {};", self.schema(schema, place)?);
            members.push((comment(schema), member));
        }
        if let Some(index) = self.index_type(map, properties.is_empty(), place)? {
            members.push((Vec::new(), format!("[key: string]: {index};")));
        }
        if members.is_empty() {
            return Ok("{}".to_owned());
        }
        if members.iter().all(|(comment, _)| comment.is_empty()) {
            let members: Vec<_> = members.into_iter().map(|(_, member)| member).collect();
            return Ok(format!("{{ {} }}", members.join(" ")));
        }
        let mut text = "{\n".to_owned();
        for (comment, member) in members {
            for line in comment {
                text.push_str("  // ");
                text.push_str(line);
                text.push('\n');
            }
            text.push_str("  ");
            text.push_str(&member);
            text.push('\n');
        }
        text.push('}');
        Ok(text)
    }

    /// The type of the properties that are not named, where there may be any.
    fn index_type(
        &mut self,
        map: &'a Map<String, Value>,
        alone: bool,
        place: Place,
    ) -> Result<Option<String>, TooLarge> {
        Ok(match map.get("additionalProperties") {
            None if alone => Some("unknown".to_owned()),
            None | Some(Value::Bool(false)) => None,
            Some(_) if self.reader == Reader::Compiler && !alone => Some("unknown".to_owned()),
            Some(schema) => Some(self.schema(schema, place)?),
        })
    }
}

/// The lines of a property's description.
fn comment(schema: &Value) -> Vec<&str> {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    // TypeScript ends a comment at each of these, and what follows must not be code.
    let lines = description.split(['\n', '\r', '\u{2028}', '\u{2029}']);
    lines.map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model(schema: &Value) -> String {
        typescript_type(schema, Reader::Model)
    }

    #[test]
    fn each_rule_has_its_type() {
        for (schema, expected) in [
            (json!(true), "unknown"),
            (json!(false), "never"),
            (json!(7), "unknown"),
            (json!({}), "unknown"),
            (json!({ "const": { "a": [1, "x"] } }), r#"{"a":[1,"x"]}"#),
            (json!({ "enum": ["a", 1, null] }), r#""a" | 1 | null"#),
            (json!({ "enum": [], "type": "string" }), "string"),
            (json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }), "string | null"),
            (json!({ "oneOf": [{ "type": "string" }, true] }), "string | unknown"),
            (json!({ "allOf": [{ "enum": [1, 2] }, { "type": "number" }] }), "(1 | 2) & number"),
            (json!({ "type": ["integer", "array"] }), "number | unknown[]"),
            (json!({ "type": "file" }), "unknown"),
            (json!({ "type": "array" }), "unknown[]"),
            (json!({ "items": { "type": "boolean" } }), "Array<boolean>"),
            (
                json!({ "type": "array", "prefixItems": [{ "type": "string" }, {}] }),
                "[string, unknown]",
            ),
            (json!({ "type": "object" }), "{ [key: string]: unknown; }"),
            (json!({ "type": "object", "additionalProperties": false }), "{}"),
            (json!({ "additionalProperties": { "type": "number" } }), "{ [key: string]: number; }"),
            (
                json!({ "properties": { "b": {}, "a-b": { "type": "string" } }, "required": ["b"] }),
                r#"{ "a-b"?: string; b: unknown; }"#,
            ),
            (
                json!({ "properties": { "a": { "type": "string" } }, "additionalProperties": true }),
                "{ a?: string; [key: string]: unknown; }",
            ),
        ] {
            assert_eq!(model(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn descriptions_become_comments_and_never_code() {
        let schema = json!({ "properties": {
            "a": { "type": "string", "description": " one \n\n two\u{2028}}; evil(); {\rthree" },
            "b": { "properties": { "c": { "description": "deep" } } },
        } });
        let expected = "{\n  // one\n  // two\n  // }; evil(); {\n  // three\n  a?: string;\n  \
                        b?: {\n  // deep\n  c?: unknown;\n};\n}";
        assert_eq!(model(&schema), expected);
    }

    #[test]
    fn a_compiler_gets_an_index_signature_that_covers_the_properties() {
        let schema = json!({
            "properties": { "a": { "type": "string" } },
            "additionalProperties": { "type": "number" },
        });
        assert_eq!(model(&schema), "{ a?: string; [key: string]: number; }");
        let compiled = typescript_type(&schema, Reader::Compiler);
        assert_eq!(compiled, "{ a?: string; [key: string]: unknown; }");
    }

    #[test]
    fn references_are_followed_in_the_schema_and_nowhere_else() {
        let defs = json!({ "a b": { "type": "string" }, "own": { "$id": "x", "$ref": "#" } });
        for (reference, expected) in [
            ("#/$defs/a%20b", "string"),
            ("#/$defs/missing", "unknown"),
            ("other.json#/x", "unknown"),
            ("#%ff", "unknown"),
            ("#/$defs/own", "unknown"),
        ] {
            assert_eq!(
                model(&json!({ "$ref": reference, "$defs": defs })),
                expected,
                "{reference}"
            );
        }
        let beside = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "string" } },
            "description": "alone", "enum": ["x"] });
        assert_eq!(model(&beside), r#"(string) & ("x")"#);
        assert_eq!(model(&json!({ "$ref": "#/none", "type": "null" })), "null");
    }

    #[test]
    fn a_reference_to_itself_is_followed_twice() {
        let list = json!({ "type": "object", "properties": { "next": { "$ref": "#" } } });
        let expected = "{ next?: { next?: { next?: unknown; }; }; }";
        assert_eq!(model(&list), expected);
    }

    #[test]
    fn a_reference_is_followed_a_bounded_number_of_times() {
        let members: Vec<_> = (0..40).map(|_| json!({ "$ref": "#/$defs/s" })).collect();
        let schema = json!({ "prefixItems": members, "$defs": { "s": { "type": "string" } } });
        let rendered = model(&schema);
        assert_eq!(rendered.matches("string").count(), MAX_EXPANSIONS);
        assert_eq!(rendered.matches("unknown").count(), 40 - MAX_EXPANSIONS);
    }

    #[test]
    fn what_is_too_large_is_unknown_as_a_whole() {
        let literals = |count: usize| json!({ "enum": vec!["x".repeat(97); count] });
        let widest = MAX_TYPE_BYTES / 102;
        assert_ne!(model(&literals(widest)), "unknown");
        assert_eq!(model(&literals(widest + 2)), "unknown");
        // Small results with much work on the way: 40 levels around 2 000 bytes.
        let mut deep = literals(19);
        for _ in 0..40 {
            deep = json!({ "items": deep });
        }
        assert_eq!(model(&deep), "unknown");
        // References that double at each level.
        let mut defs = Map::new();
        for level in 0..30 {
            let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
            defs.insert(level.to_string(), json!({ "prefixItems": [next, next] }));
        }
        defs.insert("30".to_owned(), json!({ "type": "string" }));
        assert_eq!(model(&json!({ "$ref": "#/$defs/0", "$defs": defs })), "unknown");
    }

    #[test]
    fn nesting_without_end_is_unknown() {
        let mut schema = json!({ "type": "string" });
        for _ in 0..100_000 {
            schema = Value::Object(Map::from_iter([("items".to_owned(), schema)]));
        }
        assert_eq!(typescript_type(&schema, Reader::Model), "unknown");
        json::dismantle(schema);
    }
}
