//! The configuration: which servers there are, and what may be called on them.
//!
//! The file has the form that MCP clients share, `mcpServers`, with comments and variables.
//! What is only for Cellblock stands under keys named `cellblock`, which other clients pass
//! over.

mod edit;
mod expand;
mod find;
mod pattern;
mod read;

pub use edit::{EditError, add_server};
pub use find::{PROJECT_FILE, find, user_file};
pub use pattern::Pattern;
pub use read::ConfigError;

use crate::policy::Rule;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Servers that a configuration may have.
pub const MAX_SERVERS: usize = 100;
/// Bytes that a configuration file may have.
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
