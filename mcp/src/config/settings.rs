//! Reads what the file says for Cellblock alone.

use super::listed::Script;
use super::read::{Reader, read_text};
use super::{ConfigError, MAX_SCRIPTS, tool_identifier};
use crate::policy::Rule;
use cellblock::model::SavedScript;
use jsonc_parser::ast::Value as Ast;
use jsonc_parser::common::Ranged;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

impl Reader<'_> {
    /// Refuses a rule for a server that is not there: what was meant by it would not hold.
    pub(super) fn check_policy(
        &self,
        rules: &[Rule],
        servers: &[&str],
        settings: &Ast<'_>,
    ) -> Result<(), ConfigError> {
        for (index, rule) in rules.iter().enumerate() {
            let Some(pattern) = &rule.server else { continue };
            if pattern.is_literal() && !servers.iter().any(|name| pattern.matches_server(name)) {
                let rule = member(settings, "policy")
                    .and_then(|rules| rules.as_array()?.elements.get(index));
                let start = rule.map_or(settings.start(), |rule| {
                    member(rule, "server").map_or(rule.start(), Ranged::start)
                });
                let key = format!("cellblock.policy[{index}].server");
                return Err(self.error(start, &key, "no server has this name"));
            }
        }
        Ok(())
    }

    /// Reads the saved scripts.
    pub(super) fn scripts(
        &self,
        listed: BTreeMap<String, Script>,
        settings: &Ast<'_>,
    ) -> Result<Vec<SavedScript>, ConfigError> {
        let all = member(settings, "scripts");
        if listed.len() > MAX_SCRIPTS {
            let start = all.map_or(0, Ranged::start);
            let what = format!("there may be {MAX_SCRIPTS} scripts");
            return Err(self.error(start, "cellblock.scripts", what));
        }
        let mut taken: HashMap<String, String> = HashMap::new();
        let mut scripts = Vec::new();
        for (name, script) in listed {
            let key = format!("cellblock.scripts.{name}");
            let written = all.and_then(|all| member(all, &name));
            let start = written.map_or(0, Ranged::start);
            if let Some(other) = taken.insert(tool_identifier(&name), name.clone()) {
                let what = format!("programs would call it and `{other}` by the same name");
                return Err(self.error(start, &key, what));
            }
            let path = self.path.parent().unwrap_or(Path::new("")).join(&script.file);
            let source = read_text(&path).map_err(|why| {
                let start =
                    written.and_then(|each| member(each, "file")).map_or(start, Ranged::start);
                let what = format!("{} cannot be read: {why}", path.display());
                self.error(start, &format!("{key}.file"), what)
            })?;
            scripts.push(SavedScript {
                name,
                description: script.description,
                input_schema: script.input_schema,
                output_schema: script.output_schema,
                source,
            });
        }
        Ok(scripts)
    }
}

/// A member of an object.
fn member<'a>(of: &'a Ast<'a>, name: &str) -> Option<&'a Ast<'a>> {
    of.as_object()?.get(name).map(|property| &property.value)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn scripts_are_read_from_where_the_configuration_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("c.json");
        std::fs::write(dir.path().join("double.js"), "1").expect("a file");
        let read = |file: &str| {
            let script = serde_json::json!({ "file": file, "description": "Doubles." });
            let text = serde_json::json!({ "mcpServers": {},
                "cellblock": { "scripts": { "double": script } } });
            Config::parse(&path, &text.to_string(), &|_| None)
        };
        let scripts = read("double.js").expect("a configuration").scripts;
        assert_eq!((scripts[0].name.as_str(), scripts[0].source.as_str()), ("double", "1"));
        let error = read("none.js").expect_err("none");
        assert_eq!(
            (error.place, error.key.as_str()),
            (Some((1, 59)), "cellblock.scripts.double.file")
        );
        assert!(error.what.contains("none.js cannot be read: "), "{error}");
    }
}
