//! Adds a server to a configuration file, and leaves everything else in it as it is.

use super::ConfigError;
use crate::replace::replace_file;
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstRootNode};
use serde_json::Value;
use std::path::Path;

/// Why a server was not added.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file is not a configuration, or would not be one afterwards.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A server of this name is there.
    #[error("{file} has a server `{name}` already: give the new one another name, or use --force")]
    Taken {
        /// The file.
        file: String,
        /// The name.
        name: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
}

/// Adds a server, or with `replace` puts it in the place of the one of its name. The file is
/// made when it is missing, and replaced in one go.
///
/// # Errors
/// [`EditError`], and the file is as it was.
pub fn add_server(path: &Path, name: &str, server: &Value, replace: bool) -> Result<(), EditError> {
    let io = |error| EditError::Io { file: path.display().to_string(), error };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io(error)),
    };
    let wrong = |place, what: String| ConfigError {
        file: path.to_owned(),
        place,
        key: "mcpServers".to_owned(),
        what,
    };
    let root = CstRootNode::parse(&text, &ParseOptions::default()).map_err(|error| {
        let place = Some((error.line_display(), error.column_display()));
        wrong(place, format!("it is not valid JSON: {}", error.kind()))
    })?;
    let servers = root
        .object_value_or_create()
        .and_then(|root| root.object_value_or_create("mcpServers"))
        .ok_or_else(|| wrong(None, "it must be an object".to_owned()))?;
    match servers.get(name) {
        Some(_) if !replace => {
            let file = path.display().to_string();
            return Err(EditError::Taken { file, name: name.to_owned() });
        }
        Some(property) => property.set_value(input(server)),
        None => {
            servers.append(name, input(server));
        }
    }
    let mut edited = root.to_string();
    if !edited.ends_with('\n') {
        edited.push('\n');
    }
    super::Config::parse(path, &edited, &|name| std::env::var(name).ok())?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io)?;
    // What a link leads to is replaced, not the link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let permissions = target.metadata().ok().map(|data| data.permissions());
    replace_file(&target, &edited, permissions).map_err(io)
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(members) => CstInputValue::Object(
            members.iter().map(|(name, value)| (name.clone(), input(value))).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn comments_and_order_stay_and_a_name_is_taken_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("new").join("mcp.json");
        let server = json!({ "command": "npx", "args": ["-y", "x"] });
        add_server(&path, "first", &server, false).expect("a new file");
        let text = std::fs::read_to_string(&path).expect("the file");
        std::fs::write(&path, text.replacen('{', "{ // mine", 1)).expect("the file");
        add_server(&path, "second", &json!({ "url": "http://localhost/mcp" }), false)
            .expect("a second");
        let text = std::fs::read_to_string(&path).expect("the file");
        assert!(text.starts_with("{ // mine\n"), "{text}");
        let config = super::super::Config::read(&path).expect("a configuration");
        assert_eq!(config.servers.len(), 2);

        let taken = add_server(&path, "first", &server, false).expect_err("it is there");
        assert!(matches!(taken, EditError::Taken { .. }), "{taken}");
        add_server(&path, "first", &json!({ "command": "other" }), true).expect("replaced");
        let wrong = add_server(&path, "third", &json!({}), false).expect_err("no server");
        assert!(wrong.to_string().contains("it needs `command`, or `url`"), "{wrong}");
        let config = super::super::Config::read(&path).expect("a configuration");
        assert_eq!(config.servers.len(), 2);
        std::fs::write(&path, "[1]").expect("the file");
        assert!(add_server(&path, "x", &server, false).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "[1]");
    }
}
