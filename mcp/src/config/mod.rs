//! The configuration: which servers there are, and what may be called on them.
//!
//! The file has the form that MCP clients share, `mcpServers`, with comments and variables.
//! What is only for Cellblock stands under keys named `cellblock`, which other clients pass
//! over.

mod edit;
mod error;
mod expand;
mod find;
mod listed;
mod pattern;
mod read;
mod settings;

pub use edit::{EditError, add_server};
pub use error::ConfigError;
pub use find::{PROJECT_FILE, find, user_file};
pub use pattern::Pattern;

use crate::policy::Rule;
use cellblock::model::SavedScript;
use cellblock::normalize_identifier;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Servers that a configuration may have.
pub const MAX_SERVERS: usize = 100;
/// Saved scripts that a configuration may have.
pub const MAX_SCRIPTS: usize = 100;
/// Bytes that a configuration file may have, and that a saved script may have.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// How long a server may take to start, unless its configuration says otherwise. Servers
/// that `npx` or `uvx` downloads first take that long.
pub const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a call may take without progress, unless its server's configuration says
/// otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_mins(5);

/// What a configuration file says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The servers, in the order of the file, without those that are disabled.
    pub servers: Vec<ServerConfig>,
    /// Servers that are left out, each with the reason.
    pub left_out: Vec<(String, String)>,
    /// Rules about calls; the first that matches counts.
    pub policy: Vec<Rule>,
    /// Programs that are kept under names, so that a model need not send them again.
    pub scripts: Vec<SavedScript>,
}

/// One server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its name in the file.
    pub name: String,
    /// Its name in programs: an identifier.
    pub alias: String,
    /// How it is reached.
    pub transport: Transport,
    /// How long it may take to start.
    pub start_timeout: Duration,
    /// How long a call may take without progress.
    pub call_timeout: Duration,
    /// Tools whose results may hold text of strangers.
    pub untrusted: Vec<Pattern>,
    /// Tools that can carry data away or do harm with it.
    pub sinks: Vec<Pattern>,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A command that speaks the protocol on its standard streams.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables of its environment, beside the few that every server inherits.
        env: BTreeMap<String, String>,
        /// Its folder; this process's when not given.
        cwd: Option<PathBuf>,
    },
    /// Streamable HTTP.
    Http {
        /// Where it is.
        url: String,
        /// Headers of every request.
        headers: BTreeMap<String, String>,
    },
    /// It cannot be reached as it is configured; the text says why.
    Unusable(String),
}

/// The name of a server in programs; `None` when nothing of it can stand in an identifier.
///
/// Underscores are never doubled and never last, so that the first `__` of `server__tool`
/// is where the server's name ends: no tool can be taken for that of another server.
pub(crate) fn alias(name: &str) -> Option<String> {
    let mut alias = String::new();
    for c in normalize_identifier(name).chars() {
        if c != '_' || !alias.ends_with('_') {
            alias.push(c);
        }
    }
    let alias = alias.trim_end_matches('_');
    (!alias.is_empty()).then(|| alias.to_owned())
}

/// The name of a tool in programs, behind that of its server: a leading digit stays.
pub(crate) fn tool_identifier(tool: &str) -> String {
    normalize_identifier(&format!("_{tool}"))[1..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_underscores_end_the_name_of_a_server() {
        for (name, expected) in [
            ("files", Some("files")),
            ("my-files", Some("my_files")),
            ("a__b", Some("a_b")),
            ("a--b-", Some("a_b")),
            ("__proto__", Some("_proto")),
            ("3d", Some("_d")),
            ("$", Some("$")),
            ("", None),
            ("-", None),
            ("\u{65e5}\u{672c}", None),
        ] {
            assert_eq!(alias(name).as_deref(), expected, "{name}");
        }
        assert_eq!(tool_identifier("3d-view"), "3d_view");
        assert_eq!(tool_identifier("del\u{435}te"), "del_te");
    }
}
