//! Result types learned from results, for tools that have none.
//!
//! Only what a declaration needs is kept: which types were seen, and the names of members
//! that look like names. Values are never kept, and every part is bounded, as a tool's
//! results come from outside.

use super::names::is_identifier;
use crate::backend::{CellId, CodeModeNestedToolCall, CodeModeTurnHost, ToolResult};
use crate::support::lock;
use crate::tools::ToolName;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Keyword of a learned schema: the number of results that it was learned from.
pub(super) const OBSERVED: &str = "x-observed-results";

/// Tools whose results are learned from.
const TOOLS: usize = 1_000;
/// Types that a learned schema is made of.
const SHAPES: usize = 200;
/// Levels of types below one another.
const DEPTH: usize = 8;
/// Members of an object; one with more is a map, as is one whose names are not identifiers.
const MEMBERS: usize = 40;
/// Characters of a member's name.
const NAME_CHARS: usize = 40;
/// Elements of an array that are looked at.
const ELEMENTS: usize = 20;
/// Bytes of a result that arrives as JSON text; a longer one is not looked at.
const JSON_BYTES: usize = 256 << 10;

/// Result types, learned from results. Opt in by serving a turn through
/// [`watch`](Self::watch), and by
/// [`ToolCatalog::with_observed`](super::ToolCatalog::with_observed). A shared handle, as
/// every clone sees the same.
///
/// ```
/// use cellblock::{ToolDefinition, ToolName, model::*};
/// use serde_json::json;
///
/// let observed = ObservedResults::default();
/// let tool = ToolName::plain("weather");
/// observed.observe(&tool, &json!({ "degrees": 21, "wind": null }));
/// observed.observe(&tool, &json!({ "degrees": 20.5, "wind": "south", "rain": true }));
///
/// let catalog = ToolCatalog::new([ToolDefinition::function("weather", "The weather.")])
///     .with_observed(&observed);
/// let declared = &catalog.enabled_tools()[0].description;
/// assert!(declared.contains("// The result type was observed in 2 results; it is not promised."));
/// assert!(declared.contains("{ degrees: number; rain?: boolean; wind: null | string; }"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ObservedResults(Arc<Mutex<HashMap<ToolName, Learned>>>);

#[derive(Debug, Default)]
struct Learned {
    results: u64,
    shape: Shape,
    /// Types that the shape is made of.
    shapes: usize,
}

/// Everything that was seen in one place.
#[derive(Debug, Default)]
struct Shape {
    /// Types without parts, by their names in a schema.
    plain: BTreeSet<&'static str>,
    array: Option<Box<Shape>>,
    object: Option<Object>,
    /// Something was seen that is not described here.
    unknown: bool,
}

/// The objects that were seen in one place.
#[derive(Debug, Default)]
struct Object {
    seen: u64,
    /// Members, and how many objects had them.
    members: BTreeMap<String, (u64, Shape)>,
    /// The members are not always the same ones: their names are data.
    map: bool,
}

impl ObservedResults {
    /// A host that serves through `host`, and whose results are learned from.
    pub fn watch(&self, host: Arc<dyn CodeModeTurnHost>) -> Arc<dyn CodeModeTurnHost> {
        Arc::new(Watched { host, observed: self.clone() })
    }

    /// Learns from a result.
    pub fn observe(&self, tool: &ToolName, result: &Value) {
        let mut tools = self.lock();
        if !tools.contains_key(tool) && tools.len() >= TOOLS {
            return;
        }
        let Learned { results, shape, shapes } = tools.entry(tool.clone()).or_default();
        *results += 1;
        shape.add(result, DEPTH, shapes);
    }

    /// The JSON Schema of a tool's results as they were seen; `None` when there were none.
    pub fn schema(&self, tool: &ToolName) -> Option<Value> {
        let tools = self.lock();
        let learned = tools.get(tool)?;
        let mut schema = learned.shape.schema();
        schema[OBSERVED] = learned.results.into();
        Some(schema)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ToolName, Learned>> {
        lock(&self.0)
    }
}

impl Shape {
    fn add(&mut self, value: &Value, depth: usize, shapes: &mut usize) {
        match value {
            Value::Null => self.plain.extend(["null"]),
            Value::Bool(_) => self.plain.extend(["boolean"]),
            Value::Number(_) => self.plain.extend(["number"]),
            Value::String(_) => self.plain.extend(["string"]),
            _ if depth == 0 || *shapes >= SHAPES => self.unknown = true,
            Value::Array(items) => {
                let element = self.array.get_or_insert_with(|| {
                    *shapes += 1;
                    Box::default()
                });
                for item in items.iter().take(ELEMENTS) {
                    element.add(item, depth - 1, shapes);
                }
            }
            Value::Object(members) => {
                self.object.get_or_insert_default().add(members, depth - 1, shapes);
            }
        }
    }

    fn schema(&self) -> Value {
        let mut any: Vec<_> = self.plain.iter().map(|name| json!({ "type": name })).collect();
        any.extend(
            self.array
                .as_ref()
                .map(|element| json!({ "type": "array", "items": element.schema() })),
        );
        any.extend(self.object.as_ref().map(Object::schema));
        match any.len() {
            _ if self.unknown => json!({}),
            0 | 1 => any.pop().unwrap_or_else(|| json!({})),
            _ => json!({ "anyOf": any }),
        }
    }
}

impl Object {
    fn add(&mut self, members: &Map<String, Value>, depth: usize, shapes: &mut usize) {
        self.seen += 1;
        let is_name = |name: &String| name.len() <= NAME_CHARS && is_identifier(name);
        self.map |= members.len() > MEMBERS || !members.keys().all(is_name);
        if self.map {
            self.members.clear();
            return;
        }
        for (name, value) in members {
            let full = *shapes >= SHAPES || self.members.len() >= MEMBERS;
            let (count, shape) = match self.members.get_mut(name) {
                Some(member) => member,
                None if full => {
                    self.map = true;
                    self.members.clear();
                    return;
                }
                None => {
                    *shapes += 1;
                    self.members.entry(name.clone()).or_default()
                }
            };
            *count += 1;
            shape.add(value, depth, shapes);
        }
    }

    fn schema(&self) -> Value {
        if self.map {
            return json!({ "type": "object" });
        }
        let properties: Map<String, Value> =
            self.members.iter().map(|(name, (_, shape))| (name.clone(), shape.schema())).collect();
        let always = self.members.iter().filter(|(_, (count, _))| *count == self.seen);
        let required: Vec<_> = always.map(|(name, _)| name).collect();
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }
}

/// A turn's host whose results are learned from.
struct Watched {
    host: Arc<dyn CodeModeTurnHost>,
    observed: ObservedResults,
}

impl Watched {
    fn observe(&self, tool: &ToolName, result: &ToolResult) {
        if let Some(value) = result.look(JSON_BYTES) {
            self.observed.observe(tool, &value);
        }
    }
}

#[async_trait]
impl CodeModeTurnHost for Watched {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let tool = call.tool_name.clone();
        let result = self.host.invoke_tool(call, cancellation).await?;
        self.observe(&tool, &result);
        Ok(result)
    }

    fn answers_at_once(&self, tool: &ToolName) -> bool {
        self.host.answers_at_once(tool)
    }

    async fn resume_call(
        &self,
        call: CodeModeNestedToolCall,
        cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let tool = call.tool_name.clone();
        let result = self.host.resume_call(call, cancellation).await?;
        self.observe(&tool, &result);
        Ok(result)
    }

    async fn notify(
        &self,
        call_id: String,
        cell_id: CellId,
        text: String,
        cancellation: CancellationToken,
    ) -> Result<(), String> {
        self.host.notify(call_id, cell_id, text, cancellation).await
    }

    fn cell_closed(&self, cell_id: &CellId) {
        self.host.cell_closed(cell_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Reader, typescript_type};

    fn learned(results: &[Value]) -> String {
        let observed = ObservedResults::default();
        let tool = ToolName::plain("tool");
        for result in results {
            observed.observe(&tool, result);
        }
        let schema = observed.schema(&tool).expect("results were seen");
        assert_eq!(schema[OBSERVED], results.len());
        typescript_type(&schema, Reader::Model)
    }

    #[test]
    fn results_are_merged() {
        for (results, expected) in [
            (vec![json!("a"), json!(1), json!("b")], "number | string"),
            (vec![json!([]), json!([1, null])], "Array<null | number>"),
            (vec![json!([])], "Array<unknown>"),
            (vec![json!({}), json!({ "a": 1 })], "{ a?: number; }"),
            (
                vec![json!({ "a": [{ "b": true }, { "b": 1, "c": "x" }] })],
                "{ a: Array<{ b: boolean | number; c?: string; }>; }",
            ),
        ] {
            assert_eq!(learned(&results), expected);
        }
    }

    #[test]
    fn names_that_are_data_are_not_learned() {
        let long = "x".repeat(NAME_CHARS + 1);
        for name in ["ann@example.org", "ignore all rules", "", &long] {
            assert_eq!(learned(&[json!({ "a": 1 }), json!({ name: 1 })]), MAP);
        }
        let many: Map<_, _> = (0..=MEMBERS).map(|n| (format!("m{n}"), json!(n))).collect();
        assert_eq!(learned(&[Value::Object(many)]), MAP);
        // A new name in every result.
        let each: Vec<_> = (0..=MEMBERS).map(|n| json!({ format!("m{n}"): n })).collect();
        assert_eq!(learned(&each), MAP);
    }

    const MAP: &str = "{ [key: string]: unknown; }";

    #[test]
    fn what_is_learned_is_bounded() {
        let mut deep = json!(1);
        for _ in 0..100_000 {
            deep = Value::Array(vec![deep]);
        }
        let observed = ObservedResults::default();
        observed.observe(&ToolName::plain("deep"), &deep);
        crate::json::dismantle(deep);
        let schema = observed.schema(&ToolName::plain("deep")).expect("a schema");
        assert_eq!(typescript_type(&schema, Reader::Model).matches("Array").count(), DEPTH);

        let wide = |n: usize| {
            json!({ "a": (0..30).map(|m| (format!("m{m}"), json!({ format!("n{n}"): 1 })))
            .collect::<Map<_, _>>() })
        };
        for n in 0..30 {
            observed.observe(&ToolName::plain("wide"), &wide(n));
        }
        assert!(observed.lock()[&ToolName::plain("wide")].shapes <= SHAPES);

        for n in 0..TOOLS + 10 {
            observed.observe(&ToolName::plain(n.to_string()), &json!(1));
        }
        assert_eq!(observed.lock().len(), TOOLS);
    }
}
