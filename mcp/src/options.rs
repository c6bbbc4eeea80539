//! What can be set about a gateway beside its servers.

use cellblock::model::{NewOutput, WaitPolicy};
use cellblock::{CellLimits, CodeModeBackend, CodeModeError};
use cellblock_inspect::Inspector;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Makes the backend of a new session.
pub type MakeBackend =
    Arc<dyn Fn() -> Result<Arc<dyn CodeModeBackend>, CodeModeError> + Send + Sync>;

/// What can be set about a [`Gateway`](crate::Gateway) beside its servers.
#[derive(Clone)]
pub struct Options {
    /// Makes the backend of a new session; its limits are those of [`limits`](Self::limits).
    pub backend: MakeBackend,
    /// The limits of every cell, which the description of `exec` states.
    pub limits: CellLimits,
    /// How much the model reads of the tools before it looks for them.
    pub disclosure: Disclosure,
    /// How long `exec` and `wait` wait.
    pub waits: WaitPolicy,
    /// How long the first answers wait for servers that are still starting.
    pub start_wait: Duration,
    /// Where people look at what programs do, and answer for calls; nowhere when this is
    /// `None`.
    pub inspector: Option<Inspector>,
    /// Where sessions are kept over restarts; they are not when this is `None`.
    pub state: Option<PathBuf>,
}

impl Options {
    /// The options that are used when none are given.
    pub fn new(backend: MakeBackend) -> Self {
        Self {
            backend,
            limits: CellLimits::default(),
            disclosure: Disclosure::default(),
            waits: waits(Duration::from_secs(50)),
            start_wait: Duration::from_secs(10),
            inspector: None,
            state: None,
        }
    }
}

/// How `exec` and `wait` wait for clients whose own patience is a little more than
/// `longest`: the calls of common clients end after a minute.
pub fn waits(longest: Duration) -> WaitPolicy {
    WaitPolicy {
        first: Duration::from_secs(25).min(longest),
        default: longest,
        floor: Duration::from_secs(5).min(longest),
        longest,
        new_output: NewOutput::Soon,
        ..WaitPolicy::default()
    }
}

/// How much a model reads of the tools before it looks for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disclosure {
    /// Every declaration, in the description of `exec`.
    Catalog,
    /// The names alone; `search_tools` and `describe_tools` show the rest.
    Search,
    /// The declarations of the servers whose declarations fit into five hundredths of a
    /// model's context, and of the others the names.
    #[default]
    Auto,
}
