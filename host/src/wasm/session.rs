//! What the cells of one session share.

use super::engine::Engine;
use super::registry::Registry;
use crate::clock::{Clock, Random};
use crate::limits::{CellLimits, SessionLimits};
use crate::tools::{ToolDefinition, normalize_identifier};
use crate::turns::TurnWorkers;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the cells of one session share.
pub(super) struct Session {
    pub(super) engine: Engine,
    pub(super) limits: SessionLimits,
    pub(super) cell_limits: Arc<CellLimits>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) registry: Registry,
    pub(super) turns: TurnWorkers,
    pub(super) shutdown: CancellationToken,
    pub(super) tasks: TaskTracker,
    names: Mutex<Option<PreparedNames>>,
}

/// Property names of the tool set that was used last.
struct PreparedNames {
    tools: Weak<[ToolDefinition]>,
    names: Vec<String>,
}

impl Session {
    pub(super) fn new(
        engine: Engine,
        limits: SessionLimits,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            engine,
            cell_limits: Arc::new(limits.cell.clone()),
            limits,
            clock,
            random,
            registry: Registry::default(),
            turns: TurnWorkers::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            names: Mutex::new(None),
        }
    }

    /// Admits no cell from now on, and ends those that live.
    pub(super) fn end(&self) {
        self.registry.close();
        self.shutdown.cancel();
    }

    /// Property names of a tool set, prepared once for each set.
    pub(super) fn tool_names(&self, tools: &Arc<[ToolDefinition]>) -> Vec<String> {
        let mut prepared = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = prepared.as_ref()
            && prepared.tools.upgrade().is_some_and(|known| Arc::ptr_eq(&known, tools))
        {
            return prepared.names.clone();
        }
        let names: Vec<_> = tools.iter().map(|tool| normalize_identifier(&tool.name)).collect();
        *prepared = Some(PreparedNames { tools: Arc::downgrade(tools), names: names.clone() });
        names
    }
}
