//! Reads a configuration. Every error says where in the file it is.

use super::expand::expand;
use super::listed::{Listed, Settings};
use super::{
    CALL_TIMEOUT, Config, ConfigError, MAX_FILE_BYTES, MAX_SERVERS, START_TIMEOUT, ServerConfig,
    Transport, alias,
};
use jsonc_parser::ast::{Object, Value as Ast};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Levels to which a configuration nests.
const DEPTH: usize = 64;

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be read or is not a configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let whole = |what: String| ConfigError {
            file: path.to_owned(),
            place: None,
            key: String::new(),
            what,
        };
        let text = read_text(path)
            .map_err(|why| whole(format!("the configuration cannot be read: {why}")))?;
        Self::parse(path, &text, &|name| std::env::var(name).ok())
    }

    /// Takes the text of a file. `variable` gives the value of a variable.
    ///
    /// ```
    /// use cellblock_mcp::config::Config;
    ///
    /// let text = r#"{
    ///     // What every client of the protocol reads.
    ///     "mcpServers": { "files": { "command": "server", "args": ["${HOME}"] } }
    /// }"#;
    /// let config = Config::parse("x.json".as_ref(), text, &|_| Some("/home/me".into())).unwrap();
    /// assert_eq!(config.servers[0].name, "files");
    ///
    /// let wrong = r#"{ "mcpServers": { "files": { "args": [] } } }"#;
    /// let error = Config::parse("x.json".as_ref(), wrong, &|_| None).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "x.json:1:28: mcpServers.files: it needs `command`, or `url`"
    /// );
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] when it is not a configuration.
    pub fn parse(
        path: &Path,
        text: &str,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Reader { path, text }.config(variable)
    }
}

/// Reads one file.
pub(super) struct Reader<'a> {
    /// The file, as it was named.
    pub(super) path: &'a Path,
    /// What is in it.
    text: &'a str,
}

/// The text of a file, which is not read further than it may be long.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it has more than {MAX_FILE_BYTES} bytes"));
    }
    Ok(text)
}

impl Reader<'_> {
    fn config(&self, variable: &impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        self.check_depth()?;
        let options = ParseOptions {
            allow_comments: true,
            allow_trailing_commas: true,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
        };
        let parsed =
            parse_to_ast(self.text, &CollectOptions::default(), &options).map_err(|error| {
                let place = Some((error.line_display(), error.column_display()));
                let what = format!("it is not valid JSON: {}", error.kind());
                ConfigError { place, ..self.error(0, "", what) }
            })?;
        let Some(Ast::Object(root)) = parsed.value else {
            return Err(self.error(0, "", "it must be a JSON object with `mcpServers`"));
        };
        self.check_duplicates(&root, "")?;
        let mut config = Config::default();
        let Some(servers) = root.get("mcpServers") else {
            return Err(self.error(root.range.start, "", "it has no `mcpServers`"));
        };
        let Ast::Object(servers) = &servers.value else {
            return Err(self.error(
                servers.value.start(),
                "mcpServers",
                "it must be an object, with a server under each name",
            ));
        };
        if servers.properties.len() > MAX_SERVERS {
            let what = format!("there may be {MAX_SERVERS} servers");
            return Err(self.error(servers.range.start, "mcpServers", what));
        }
        if let Some(property) = root.get("cellblock") {
            let settings: Settings = self.typed(&property.value, "cellblock")?;
            let names: Vec<_> = servers.properties.iter().map(|each| each.name.as_str()).collect();
            self.check_policy(&settings.policy, &names, &property.value)?;
            config.policy = settings.policy;
            config.scripts = self.scripts(settings.scripts, &property.value)?;
        }
        let mut taken: HashMap<String, String> = HashMap::new();
        for property in &servers.properties {
            let name = property.name.as_str();
            let key = format!("mcpServers.{name}");
            let start = property.range.start;
            let Some(alias) = alias(name) else {
                let what = "its name needs a letter or a digit of ASCII, as programs call it by it";
                return Err(self.error(start, &key, what));
            };
            if alias == "scripts" || alias == "search" {
                let what = format!("`tools.{alias}` is something else in programs: rename it");
                return Err(self.error(start, &key, what));
            }
            if let Some(other) = taken.insert(alias.clone(), name.to_owned()) {
                let what = format!("programs would call it and `{other}` by the name `{alias}`");
                return Err(self.error(start, &key, what));
            }
            let listed: Listed = self.typed(&property.value, &key)?;
            if listed.disabled {
                config.left_out.push((name.to_owned(), "it is disabled".to_owned()));
                continue;
            }
            if is_this_program(&listed) {
                let why = "it is Cellblock itself, which would start itself without end";
                config.left_out.push((name.to_owned(), why.to_owned()));
                continue;
            }
            let transport = self.transport(&listed, property.value.start(), &key, variable)?;
            config.servers.push(ServerConfig {
                name: name.to_owned(),
                alias,
                transport,
                start_timeout: listed.cellblock.start_timeout.unwrap_or(START_TIMEOUT),
                call_timeout: listed.cellblock.call_timeout.unwrap_or(CALL_TIMEOUT),
                untrusted: listed.cellblock.untrusted.into(),
                sinks: listed.cellblock.sink.into(),
            });
        }
        Ok(config)
    }

    fn transport(
        &self,
        listed: &Listed,
        start: usize,
        key: &str,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Transport, ConfigError> {
        let url = match (&listed.command, &listed.url) {
            (Some(_), None) => None,
            (None, Some(url)) => Some(url),
            (None, None) => return Err(self.error(start, key, "it needs `command`, or `url`")),
            (Some(_), Some(_)) => {
                return Err(self.error(start, key, "it has both `command` and `url`"));
            }
        };
        let http = ["http", "streamable-http", "streamableHttp"];
        match (listed.kind.as_deref(), url) {
            (None, _) | (Some("stdio"), None) => {}
            (Some(kind), Some(_)) if http.contains(&kind) => {}
            (Some("sse"), _) => {
                let what = "the transport `sse` is not supported, as the protocol has given it \
                            up: use the server's address for streamable HTTP, with the type `http`";
                return Err(self.error(start, &format!("{key}.type"), what));
            }
            (Some(kind), _) => {
                let fits = if url.is_some() { "`http`" } else { "`stdio`" };
                let what = format!("{kind:?} does not fit the other keys, which are of {fits}");
                return Err(self.error(start, &format!("{key}.type"), what));
            }
        }
        let text = |text: &String| expand(text, variable);
        let texts = |texts: &Vec<String>| texts.iter().map(text).collect::<Result<Vec<_>, _>>();
        let map = |map: &BTreeMap<String, String>| {
            let expanded = |(name, value): (&String, &String)| Ok((name.clone(), text(value)?));
            map.iter().map(expanded).collect::<Result<BTreeMap<_, _>, String>>()
        };
        let transport = || -> Result<Transport, String> {
            Ok(match (&listed.command, url) {
                (_, Some(url)) => {
                    Transport::Http { url: text(url)?, headers: map(&listed.headers)? }
                }
                (command, None) => Transport::Stdio {
                    command: text(command.as_ref().unwrap_or(&String::new()))?,
                    args: texts(&listed.args)?,
                    env: map(&listed.env)?,
                    cwd: listed.cwd.as_ref().map(text).transpose()?.map(PathBuf::from),
                },
            })
        };
        // One server whose secret is not there does not keep the others from working.
        Ok(transport().unwrap_or_else(|name| {
            Transport::Unusable(format!(
                "its configuration uses the variable {name}, which is not set"
            ))
        }))
    }

    /// A value of a type. The error says where in the value it is.
    fn typed<T: DeserializeOwned>(&self, ast: &Ast<'_>, key: &str) -> Result<T, ConfigError> {
        let value: Value = ast.clone().into();
        serde_path_to_error::deserialize(value).map_err(|error| {
            let mut place = ast;
            let mut key = key.to_owned();
            for segment in error.path() {
                match segment {
                    Segment::Map { key: name } => {
                        key = format!("{key}.{name}");
                        let found = place.as_object().and_then(|object| object.get(name));
                        place = found.map_or(place, |property| &property.value);
                    }
                    Segment::Seq { index } => {
                        key = format!("{key}[{index}]");
                        let found = place.as_array().and_then(|array| array.elements.get(*index));
                        place = found.unwrap_or(place);
                    }
                    Segment::Enum { .. } | Segment::Unknown => {}
                }
            }
            self.error(place.start(), &key, error.inner().to_string())
        })
    }

    /// Refuses what would make the parser recurse too deeply.
    fn check_depth(&self) -> Result<(), ConfigError> {
        let mut depth = 0_usize;
        for (at, byte) in self.text.bytes().enumerate() {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEPTH {
                return Err(self.error(at, "", format!("it nests deeper than {DEPTH} levels")));
            }
        }
        Ok(())
    }

    fn check_duplicates(&self, object: &Object<'_>, key: &str) -> Result<(), ConfigError> {
        let mut seen = std::collections::HashSet::new();
        for property in &object.properties {
            let name = property.name.as_str();
            let key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            if !seen.insert(name) {
                return Err(self.error(property.range.start, &key, "it is there twice"));
            }
            if let Ast::Object(inner) = &property.value {
                self.check_duplicates(inner, &key)?;
            }
        }
        Ok(())
    }

    pub(super) fn error(&self, at: usize, key: &str, what: impl Into<String>) -> ConfigError {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = before.split(|byte| *byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        ConfigError {
            file: self.path.to_owned(),
            place: Some((line, column)),
            key: key.to_owned(),
            what: what.into(),
        }
    }
}

/// Whether a server is this one: clients and Cellblock may read the same file.
fn is_this_program(listed: &Listed) -> bool {
    let stem = listed.command.as_deref().map(Path::new).and_then(Path::file_stem);
    stem.is_some_and(|stem| stem == "cellblock")
        && listed.args.first().is_some_and(|argument| argument == "mcp")
        && !listed.args.iter().any(|argument| argument.starts_with("--config"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("c.json"), text, &|name| {
            (name == "SET").then(|| "value".to_owned())
        })
    }

    #[test]
    fn what_clients_write_is_read() {
        let config = parse(
            r#"{
                // A comment, and commas at ends.
                "mcpServers": {
                    "my-files": { "type": "stdio", "command": "npx", "args": ["-y", "x", "${SET}"],
                        "env": { "KEY": "${SET:-none}" }, "alwaysAllow": ["read"], },
                    "web": { "type": "http", "url": "https://example.com/mcp",
                        "headers": { "Authorization": "Bearer ${SET}" },
                        "cellblock": { "untrusted": true, "sink": ["post_*"], "callTimeout": "90s" } },
                    "off": { "command": "x", "disabled": true },
                    "self": { "command": "/usr/bin/cellblock", "args": ["mcp"] },
                    "secret": { "command": "x", "env": { "TOKEN": "${UNSET}" } },
                },
                "cellblock": { "policy": [{ "action": "deny", "tool": "drop_*" }] },
            }"#,
        )
        .expect("a configuration");
        let names: Vec<_> = config.servers.iter().map(|server| server.alias.as_str()).collect();
        assert_eq!(names, ["my_files", "web", "secret"]);
        let Transport::Stdio { args, env, .. } = &config.servers[0].transport else {
            panic!("{:?}", config.servers[0])
        };
        assert_eq!((args[2].as_str(), env["KEY"].as_str()), ("value", "value"));
        let web = &config.servers[1];
        assert!(web.untrusted[0].matches("anything"));
        assert!(web.sinks[0].matches("post_message") && !web.sinks[0].matches("get"));
        assert_eq!(web.call_timeout, Duration::from_secs(90));
        assert!(matches!(&config.servers[2].transport,
            Transport::Unusable(why) if why.contains("the variable UNSET, which is not set")));
        let left_out: Vec<_> = config.left_out.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(left_out, ["off", "self"]);
        assert_eq!(config.policy.len(), 1);
    }

    #[test]
    fn every_error_says_where_it_is() {
        for (text, expected) in [
            ("", "c.json:1:1: it must be a JSON object with `mcpServers`"),
            ("{\n  \"mcpServers\": {,}\n}", "c.json:2:18: it is not valid JSON: "),
            (
                "{\"mcpServers\": {\"a\": {\"command\": 'x'}}}",
                "c.json:1:34: it is not valid JSON: ",
            ),
            ("{}", "c.json:1:1: it has no `mcpServers`"),
            ("{\"mcpServers\": []}", "c.json:1:16: mcpServers: it must be an object"),
            (
                "{\"mcpServers\": {\n  \"a\": {\"command\": \"x\", \"args\": [\"y\", 5]}}}",
                "c.json:2:39: mcpServers.a.args[1]: invalid type: integer `5`, expected a string",
            ),
            (
                "{\"mcpServers\": {\"a\": {\"command\": \"x\", \"env\": {\"K\": true}}}}",
                "c.json:1:52: mcpServers.a.env.K: invalid type: boolean `true`, expected a string",
            ),
            (
                "{\"mcpServers\": {\"a\": {\"command\": \"x\", \"url\": \"y\"}}}",
                "c.json:1:22: mcpServers.a: it has both",
            ),
            (
                "{\"mcpServers\": {\"a\": {\"type\": \"sse\", \"url\": \"y\"}}}",
                "c.json:1:22: mcpServers.a.type: the transport `sse` is not supported",
            ),
            (
                "{\"mcpServers\": {\"a\": {\"type\": \"http\", \"command\": \"y\"}}}",
                "c.json:1:22: mcpServers.a.type: \"http\" does not fit",
            ),
            (
                "{\"mcpServers\": {\"a\": {\"command\": \"x\"},\n\"a\": {\"command\": \"y\"}}}",
                "c.json:2:1: mcpServers.a: it is there twice",
            ),
            (
                "{\"mcpServers\": {\"a-b\": {\"command\": \"x\"}, \"a.b\": {\"command\": \"y\"}}}",
                "c.json:1:42: mcpServers.a.b: programs would call it and `a-b` by the name `a_b`",
            ),
            (
                "{\"mcpServers\": {\"--\": {\"command\": \"x\"}}}",
                "c.json:1:17: mcpServers.--: its name needs a letter or a digit",
            ),
            (
                "{\"mcpServers\": {}, \"cellblock\": {\"policy\": [\n{\"action\": \"deny\", \"server\": \"x\"}]}}",
                "c.json:2:30: cellblock.policy[0].server: no server has this name",
            ),
            (
                "{\"mcpServers\": {}, \"cellblock\": {\"scripts\": {\n\"x\": {\"file\": \"no\", \"description\": \"\"}}}}",
                "c.json:2:15: cellblock.scripts.x.file: no cannot be read: ",
            ),
            (
                "{\"mcpServers\": {\"a\": {\"command\": \"x\", \"cellblock\": {\"callTimeout\": \"1 x\"}}}}",
                "c.json:1:68: mcpServers.a.cellblock.callTimeout: \"1 x\" is not a time",
            ),
            (
                "{\"mcpServers\": {}, \"cellblock\": {\"polcy\": []}}",
                "c.json:1:43: cellblock.polcy: unknown field `polcy`",
            ),
            (
                "{\"mcpServers\": {}, \"cellblock\": {\"policy\": [{\"action\": \"permit\"}]}}",
                "c.json:1:56: cellblock.policy[0].action: unknown variant `permit`",
            ),
            (
                "{\"mcpServers\": {\"scripts\": {\"command\": \"x\"}}}",
                "c.json:1:17: mcpServers.scripts: ",
            ),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}\n  {error}\n  {expected}");
        }
        let deep = format!("{{\"mcpServers\": {}", "[".repeat(100_000));
        assert!(parse(&deep).expect_err("deep").what.contains("64 levels"));
    }
}
