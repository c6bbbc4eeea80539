//! Variables in a configuration: `${NAME}` and `${NAME:-default}`.

/// Replaces the variables of a text. Anything else with a `$` is left as it is.
///
/// The error names the variable that is not set.
pub(super) fn expand(
    text: &str,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        let inside = &rest[start + 2..start + length];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        expanded.push_str(&rest[..start]);
        if is_name(name) {
            // An empty variable has the default, as in shells.
            let value = variable(name).filter(|value| default.is_none() || !value.is_empty());
            match value.as_deref().or(default) {
                Some(value) => expanded.push_str(value),
                None => return Err(name.to_owned()),
            }
        } else {
            expanded.push_str(&rest[start..=start + length]);
        }
        rest = &rest[start + length + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn variables_and_defaults() {
        let variable = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expanded) in [
            ("plain $A", Ok("plain $A")),
            ("${A}/${A}", Ok("1/1")),
            ("${EMPTY}", Ok("")),
            ("${EMPTY:-x}", Ok("x")),
            ("${NONE:-a b}", Ok("a b")),
            ("${NONE:-}", Ok("")),
            ("${NONE}", Err("NONE")),
            ("${not a name} ${A", Ok("${not a name} ${A")),
        ] {
            let expected = expanded.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(expand(text, &variable), expected, "{text}");
        }
    }
}
