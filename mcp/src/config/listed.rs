//! The file as it is written.

use super::Pattern;
use crate::policy::Rule;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the file says for Cellblock alone.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Rules about calls.
    #[serde(default)]
    pub(super) policy: Vec<Rule>,
    /// Saved scripts, by their names.
    #[serde(default)]
    pub(super) scripts: BTreeMap<String, Script>,
}

/// A saved script as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Script {
    /// Where the program is, from the folder of the configuration.
    pub(super) file: String,
    /// What it does, for the model.
    pub(super) description: String,
    /// JSON Schema of its input.
    pub(super) input_schema: Option<Value>,
    /// JSON Schema of its result.
    pub(super) output_schema: Option<Value>,
}

/// A server as the file has it. What other clients keep there is passed over.
#[derive(Deserialize)]
pub(super) struct Listed {
    /// The transport, where it is named.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    /// The program of a server that is a command.
    pub(super) command: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub(super) args: Vec<String>,
    /// Variables of its environment.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Its folder.
    pub(super) cwd: Option<String>,
    /// Where a server of streamable HTTP is.
    pub(super) url: Option<String>,
    /// Headers of every request to it.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// It is left out.
    #[serde(default)]
    pub(super) disabled: bool,
    /// What is only for Cellblock.
    #[serde(default)]
    pub(super) cellblock: ServerSettings,
}

/// What the file says of a server for Cellblock alone.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ServerSettings {
    /// How long it may take to start.
    #[serde(default, deserialize_with = "time")]
    pub(super) start_timeout: Option<Duration>,
    /// How long a call may take without progress.
    #[serde(default, deserialize_with = "time")]
    pub(super) call_timeout: Option<Duration>,
    /// Tools whose results may hold text of strangers.
    #[serde(default)]
    pub(super) untrusted: Marked,
    /// Tools that can carry data away or do harm with it.
    #[serde(default)]
    pub(super) sink: Marked,
}

/// Which tools are marked: all of them, or those that match.
#[derive(Deserialize)]
#[serde(untagged, expecting = "true, false, or a list of patterns")]
pub(super) enum Marked {
    /// Every tool, or none.
    All(bool),
    /// Those whose names match.
    Some(Vec<Pattern>),
}

impl Default for Marked {
    fn default() -> Self {
        Self::All(false)
    }
}

impl From<Marked> for Vec<Pattern> {
    fn from(marked: Marked) -> Self {
        match marked {
            Marked::All(true) => vec![Pattern::new("*")],
            Marked::All(false) => Vec::new(),
            Marked::Some(patterns) => patterns,
        }
    }
}

/// A time such as `30s` or `5m`, not zero.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = humantime::parse_duration(&text)
        .map_err(|_| serde::de::Error::custom(format!("{text:?} is not a time such as \"30s\"")))?;
    if time.is_zero() {
        return Err(serde::de::Error::custom("it must be more than zero"));
    }
    Ok(Some(time))
}
