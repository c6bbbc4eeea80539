//! Which calls are allowed, which need the approval of a person, and which are refused.

use crate::config::Pattern;
use serde::Deserialize;

/// What is done about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is made.
    Allow,
    /// A person is asked first.
    Ask,
    /// It is refused.
    Deny,
}

/// A rule. It matches a call when everything that it gives does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// What is done about the calls that match.
    pub action: Action,
    /// Servers, by their names in the configuration or in programs.
    pub server: Option<Pattern>,
    /// Tools, by the names that their server gives them or by those in programs.
    pub tool: Option<Pattern>,
    /// Whether the tool says that it changes nothing; a tool that does not say counts as
    /// one that changes something.
    pub read_only: Option<bool>,
    /// Whether the tool says that it may destroy something.
    pub destructive: Option<bool>,
    /// Whether the tool says that calling it again has no further effect.
    pub idempotent: Option<bool>,
    /// Whether the tool says that it deals with an open world, such as the web.
    pub open_world: Option<bool>,
}

/// What a tool says of itself. These are claims of its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// It changes nothing.
    pub read_only: Option<bool>,
    /// It may destroy something.
    pub destructive: Option<bool>,
    /// Calling it again has no further effect.
    pub idempotent: Option<bool>,
    /// It deals with an open world.
    pub open_world: Option<bool>,
}

impl Annotations {
    /// Whether the tool says that it may destroy something. The protocol takes a tool that
    /// says nothing for destructive; but most servers say nothing of harmless tools.
    pub fn says_destructive(self) -> bool {
        self.destructive == Some(true) && self.read_only != Some(true)
    }
}

/// What is done about a call of a tool: what the first rule that matches says; without one,
/// a tool that says it may destroy something needs approval, and others are allowed.
///
/// ```
/// use cellblock_mcp::policy::{Action, Annotations, decide};
///
/// let rules = serde_json::from_str::<Vec<_>>(r#"[
///     { "action": "allow", "server": "files", "tool": "write_*" },
///     { "action": "deny", "server": "files", "readOnly": false }
/// ]"#).unwrap();
/// let claims = Annotations::default();
/// assert_eq!(decide(&rules, "files", "write_file", claims), Action::Allow);
/// assert_eq!(decide(&rules, "files", "move_file", claims), Action::Deny);
/// let destructive = Annotations { destructive: Some(true), ..claims };
/// assert_eq!(decide(&rules, "other", "drop", destructive), Action::Ask);
/// ```
pub fn decide(rules: &[Rule], server: &str, tool: &str, claims: Annotations) -> Action {
    let rule = rules.iter().find(|rule| rule.matches(server, tool, claims));
    match rule {
        Some(rule) => rule.action,
        None if claims.says_destructive() => Action::Ask,
        None => Action::Allow,
    }
}

impl Rule {
    /// Whether a call of a tool is meant.
    pub(crate) fn matches(&self, server: &str, tool: &str, claims: Annotations) -> bool {
        let says = |wanted: Option<bool>, claim: Option<bool>| {
            wanted.is_none_or(|wanted| claim.unwrap_or(false) == wanted)
        };
        self.server.as_ref().is_none_or(|pattern| pattern.matches_server(server))
            && self.tool.as_ref().is_none_or(|pattern| pattern.matches_tool(tool))
            && says(self.read_only, claims.read_only)
            && says(self.destructive, Some(claims.says_destructive()))
            && says(self.idempotent, claims.idempotent)
            && says(self.open_world, claims.open_world)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(value: serde_json::Value) -> Vec<Rule> {
        serde_json::from_value(value).expect("rules")
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules = rules(json!([
            { "action": "ask", "tool": "delete_*" },
            { "action": "allow", "server": "git" },
            { "action": "deny", "openWorld": true },
            { "action": "deny", "server": "git" },
        ]));
        let open = Annotations { open_world: Some(true), ..Annotations::default() };
        for (server, tool, claims, action) in [
            ("git", "delete_branch", Annotations::default(), Action::Ask),
            ("git", "log", open, Action::Allow),
            ("web", "get", open, Action::Deny),
            ("web", "get", Annotations::default(), Action::Allow),
        ] {
            assert_eq!(decide(&rules, server, tool, claims), action, "{server} {tool}");
        }
    }

    #[test]
    fn names_are_those_of_servers_and_those_in_programs() {
        for (server, tool) in [("my-files", "delete-file"), ("my_files", "delete_file")] {
            let rules = rules(json!([{ "action": "deny", "server": server, "tool": tool }]));
            let action = decide(&rules, "my-files", "delete-file", Annotations::default());
            assert_eq!(action, Action::Deny, "{server} {tool}");
        }
    }

    #[test]
    fn only_tools_that_say_so_are_destructive() {
        let claims = |destructive, read_only| Annotations {
            read_only,
            destructive,
            ..Annotations::default()
        };
        for (destructive, read_only, action) in [
            (None, None, Action::Allow),
            (None, Some(false), Action::Allow),
            (Some(false), None, Action::Allow),
            (Some(true), None, Action::Ask),
            (Some(true), Some(true), Action::Allow),
        ] {
            assert_eq!(decide(&[], "s", "t", claims(destructive, read_only)), action);
        }
        assert!(serde_json::from_value::<Rule>(json!({ "action": "ask", "tol": "x" })).is_err());
    }
}
