//! The arguments of this server's own tools.

use cellblock::Language;
use cellblock::model::{DEFAULT_MAX_OUTPUT_TOKENS, ExecArguments, WaitArguments};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

/// The arguments of `exec`.
pub(crate) struct ExecCall {
    /// The program: what was sent, or a call of the script.
    pub(crate) code: String,
    /// The saved script that it calls, when it is nothing else.
    pub(crate) script: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) yield_time_ms: Option<u64>,
    pub(crate) max_output_tokens: usize,
    /// What the program is written in.
    pub(crate) language: Language,
}

/// What `exec` takes here beyond the contract.
#[derive(Deserialize)]
struct Beyond {
    session: Option<String>,
    language: Option<String>,
    code: Option<IgnoredAny>,
    script: Option<String>,
    input: Option<IgnoredAny>,
}

/// The arguments of `wait`.
pub(crate) struct WaitCall {
    pub(crate) cell_id: String,
    pub(crate) session: Option<String>,
    pub(crate) yield_time_ms: Option<u64>,
    pub(crate) max_tokens: usize,
    pub(crate) terminate: bool,
}

/// How much is shown of a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Detail {
    /// Its name.
    Names,
    /// Its name and the first line about it.
    #[default]
    Brief,
    /// Its declaration.
    Full,
}

/// The arguments of `search_tools`.
#[derive(Deserialize)]
pub(crate) struct SearchCall {
    #[serde(default)]
    pub(crate) query: String,
    pub(crate) limit: Option<usize>,
    #[serde(default)]
    pub(crate) detail: Detail,
}

/// The arguments of `describe_tools`.
#[derive(Deserialize)]
pub(crate) struct DescribeCall {
    pub(crate) names: Vec<String>,
}

impl ExecCall {
    /// Reads the arguments. The error is for the model.
    pub(crate) fn read(arguments: &Value) -> Result<Self, String> {
        let beyond: Beyond = read(arguments)?;
        let language = match beyond.language.as_deref() {
            None | Some("auto") => Language::Auto,
            Some("javascript" | "js") => Language::Js,
            Some("typescript" | "ts") => Language::Ts,
            Some(other) => {
                return Err(format!(
                    "programs are JavaScript or TypeScript: {other:?} is not run here"
                ));
            }
        };
        if beyond.code.is_some() && beyond.input.is_some() {
            return Err("`input` is that of a saved script: a program has its data in its `code`"
                .to_owned());
        }
        // Its errors name the argument, which those of the text do not.
        let _: ExecArguments = read(arguments)?;
        let parsed =
            ExecArguments::parse(&arguments.to_string()).map_err(|error| error.to_string())?;
        Ok(Self {
            code: parsed.code,
            script: beyond.script,
            session: beyond.session,
            yield_time_ms: parsed.yield_time_ms,
            max_output_tokens: parsed.max_output_tokens.unwrap_or(DEFAULT_MAX_OUTPUT_TOKENS),
            language,
        })
    }
}

impl WaitCall {
    /// Reads the arguments. The error is for the model.
    pub(crate) fn read(arguments: &Value) -> Result<Self, String> {
        let beyond: Beyond = read(arguments)?;
        let _: WaitArguments = read(arguments)?;
        let call =
            WaitArguments::parse(&arguments.to_string()).map_err(|error| error.to_string())?;
        Ok(Self {
            cell_id: call.cell_id.to_string(),
            session: beyond.session,
            yield_time_ms: call.yield_time_ms,
            max_tokens: call.max_tokens.unwrap_or(DEFAULT_MAX_OUTPUT_TOKENS),
            terminate: call.terminate,
        })
    }
}

/// Reads arguments. The error is for the model.
pub(crate) fn read<T: DeserializeOwned>(arguments: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(arguments)
        .map_err(|error| format!("failed to parse function arguments: {error}"))
}
