//! JSON as text or as values, which may nest without end, handled without recursion.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Nesting that a value may have: what serde_json reads back.
pub(crate) const MAX_DEPTH: usize = 127;

/// A JSON value: as text that was checked, or parsed.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Text(Box<RawValue>),
    Value(Value),
}

impl Json {
    /// Takes JSON text that nests at most [`MAX_DEPTH`] levels deep.
    pub(crate) fn from_text(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self::Text)
    }

    /// The parsed value.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            // The text was checked when it was taken, so it parses.
            Self::Text(text) => serde_json::from_str(text.get()).unwrap_or_default(),
        }
    }

    /// The text. A value that nests without end must have been refused before.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Value(value) => value.to_string(),
            Self::Text(text) => Box::<str>::from(text).into_string(),
        }
    }

    /// Levels of nesting.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Value(value) => depth_of_value(value),
            Self::Text(text) => depth_of_text(text.get()),
        }
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.clone().into_value() == other.clone().into_value()
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    /// Reads a value: text cannot be kept inside an internally tagged message.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::Value)
    }
}

/// Levels of nesting of valid JSON text.
fn depth_of_text(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
            }
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Levels of nesting of a value.
pub(crate) fn depth_of_value(value: &Value) -> usize {
    let mut level: Vec<_> = Some(value).filter(|value| is_nested(value)).into_iter().collect();
    let mut depth = 0;
    while !level.is_empty() {
        depth += 1;
        let mut below = Vec::new();
        for value in level {
            match value {
                Value::Array(items) => below.extend(items.iter().filter(|item| is_nested(item))),
                Value::Object(members) => {
                    below.extend(members.values().filter(|member| is_nested(member)));
                }
                _ => {}
            }
        }
        level = below;
    }
    depth
}

fn is_nested(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

/// Drops a value without recursion, which nesting without end would overflow.
pub(crate) fn dismantle(value: Value) {
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(members) => rest.extend(members.into_iter().map(|(_, member)| member)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_the_same_for_text_and_values() {
        for (text, depth) in [
            ("1", 0),
            ("[]", 1),
            (r#""[[[""#, 0),
            (r#"{"a\"[[":[1,{"b":[]}]}"#, 4),
            ("[[1],[[2]]]", 3),
        ] {
            assert_eq!(depth_of_text(text), depth, "{text}");
            let value = serde_json::from_str(text).unwrap();
            assert_eq!(depth_of_value(&value), depth, "{text}");
        }
    }
}
