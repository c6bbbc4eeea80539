//! JSON values that may nest without end, handled without recursion.

use serde_json::Value;

/// Nesting that a value may have: what serde_json reads back.
pub const MAX_DEPTH: usize = 127;

/// Whether a value nests at most `depth` levels deep. Looks without recursion: a
/// hostile tool may nest without end.
pub fn is_shallow(value: &Value, depth: usize) -> bool {
    let mut level = vec![value];
    for _ in 0..=depth {
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
        if below.is_empty() {
            return true;
        }
        level = below;
    }
    false
}

fn is_nested(value: &Value) -> bool {
    value.is_array() || value.is_object()
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
