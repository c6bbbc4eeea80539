//! Patterns of names: `*` stands for any characters, `?` for one.

use super::{alias, tool_identifier};
use serde::Deserialize;

/// A pattern that a whole name has to match.
///
/// ```
/// use cellblock_mcp::config::Pattern;
///
/// let pattern = Pattern::new("delete_*");
/// assert!(pattern.matches("delete_file"));
/// assert!(!pattern.matches("undelete_file"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether the pattern stands for one name alone.
    pub(crate) fn is_literal(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether a server is meant: by its name in the configuration, or by that in programs.
    pub(crate) fn matches_server(&self, name: &str) -> bool {
        self.matches(name) || alias(name).is_some_and(|alias| self.matches(&alias))
    }

    /// Whether a tool is meant: by the name that its server gives it, or by that in programs.
    pub(crate) fn matches_tool(&self, name: &str) -> bool {
        self.matches(name) || self.matches(&tool_identifier(name))
    }

    /// Whether the whole name matches. The time is at most the product of both lengths.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) =
            (self.0.chars().collect(), name.chars().collect());
        let (mut at, mut in_name) = (0, 0);
        // Where to go on after the last `*` has taken one character more.
        let mut star: Option<(usize, usize)> = None;
        while in_name < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at + 1, in_name));
                    at += 1;
                }
                Some(c) if *c == '?' || *c == name[in_name] => {
                    at += 1;
                    in_name += 1;
                }
                _ => match &mut star {
                    Some((after, taken)) => {
                        *taken += 1;
                        (at, in_name) = (*after, *taken);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|c| *c == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, matches) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*_file", "read_file", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("lé*", "lée", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), matches, "{pattern} on {name}");
        }
    }
}
