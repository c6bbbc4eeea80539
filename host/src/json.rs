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
