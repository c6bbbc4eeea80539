//! JSON as text or as values, which may nest without end, handled without recursion.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;

/// Nesting that a value may have: what serde_json reads back.
pub const MAX_DEPTH: usize = 127;

/// Why a text or a value is not taken as JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It nests more than [`MAX_DEPTH`] levels deep, which could not be read back.
    #[error("nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// It is not valid JSON; the error says where.
    #[error("not valid JSON: {0}")]
    Invalid(#[from] serde_json::Error),
    /// It is longer than it may be.
    #[error("too large: {bytes} bytes of JSON, and the limit is {limit}; ask the tool for less")]
    TooLarge {
        /// Bytes of its text.
        bytes: usize,
        /// Bytes that it may have.
        limit: usize,
    },
}

/// A JSON value: as text that was checked, or parsed.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    /// Shared, because the cell keeps the input of a call that is pending.
    Text(Arc<Box<RawValue>>),
    Value(Value),
}

impl Json {
    /// Takes JSON text that nests at most [`MAX_DEPTH`] levels deep.
    pub(crate) fn from_text(text: String) -> Result<Self, JsonError> {
        if !is_shallow_text(&text, MAX_DEPTH) {
            return Err(JsonError::TooDeep);
        }
        Ok(Self::Text(Arc::new(RawValue::from_string(text)?)))
    }

    /// The parsed value.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            // The text was checked when it was taken, so it parses.
            Self::Text(text) => serde_json::from_str(text.get()).unwrap_or_default(),
        }
    }

    /// The text, of at most `limit` bytes.
    pub(crate) fn into_text(self, limit: usize) -> Result<String, JsonError> {
        let text = match self {
            Self::Text(text) => Arc::unwrap_or_clone(text),
            Self::Value(value) => text_of(value)?,
        };
        let text = Box::<str>::from(text).into_string();
        let bytes = text.len();
        if bytes > limit { Err(JsonError::TooLarge { bytes, limit }) } else { Ok(text) }
    }

    /// The same as text, of which copies are cheap.
    pub(crate) fn into_shared(self) -> Result<Self, JsonError> {
        match self {
            Self::Text(_) => Ok(self),
            Self::Value(value) => Ok(Self::Text(text_of(value)?.into())),
        }
    }

    /// Bytes of its text; of a value, about so many.
    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::Text(text) => text.get().len(),
            Self::Value(value) => value.to_string().len(),
        }
    }

    /// Whether it nests at most `depth` levels deep.
    pub(crate) fn is_shallow(&self, depth: usize) -> bool {
        match self {
            Self::Value(value) => is_shallow(value, depth),
            Self::Text(text) => is_shallow_text(text.get(), depth),
        }
    }
}

/// The text of a value that nests at most [`MAX_DEPTH`] levels deep.
fn text_of(value: Value) -> Result<Box<RawValue>, JsonError> {
    if is_shallow(&value, MAX_DEPTH) {
        return Ok(to_raw_value(&value)?);
    }
    dismantle(value);
    Err(JsonError::TooDeep)
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.clone().into_value() == other.clone().into_value()
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

/// Whether a value nests at most `depth` levels deep. Looks without recursion: a
/// hostile tool may nest without end.
pub fn is_shallow(value: &Value, depth: usize) -> bool {
    let mut level: Vec<_> = Some(value).filter(|value| is_nested(value)).into_iter().collect();
    for _ in 0..depth {
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
    level.is_empty()
}

/// Whether JSON text nests at most `depth` levels deep. Reads it without recursion, and
/// does not check it otherwise.
pub fn is_shallow_text(json: &str, depth: usize) -> bool {
    let (mut level, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                level += 1;
                if level > depth {
                    return false;
                }
            }
            b']' | b'}' if !in_string => level = level.saturating_sub(1),
            _ => {}
        }
    }
    true
}

fn is_nested(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

/// Bytes of a text inside a JSON string.
pub(crate) fn escaped_len(text: &str) -> usize {
    let extra = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(extra).sum::<usize>()
}

/// Drops a value without recursion, which nesting without end would overflow.
pub fn dismantle(value: Value) {
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
    fn escaped_length_is_what_is_written() {
        let text: String = (0..0x250).filter_map(char::from_u32).collect();
        assert_eq!(escaped_len(&text) + 2, serde_json::to_string(&text).unwrap().len());
    }

    #[test]
    fn text_and_value_are_as_deep_as_each_other() {
        for (json, depth) in [
            ("1", 0),
            (r#""[[[""#, 0),
            (r#""\"[[""#, 0),
            ("[]", 1),
            (r#"{"a":[1,{}],"b":[[[]]]}"#, 4),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            for limit in 0..6 {
                assert_eq!(is_shallow_text(json, limit), depth <= limit, "{json} {limit}");
                assert_eq!(is_shallow(&value, limit), depth <= limit, "{json} {limit}");
            }
        }
    }
}
