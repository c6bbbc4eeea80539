//! What the cells of one session share.

use super::engine::Engine;
use super::park::{Opened, Parking};
use super::recording::Recordings;
use crate::backend::{CellStore, CodeModeError, ParkedCell};
use crate::cells::Registry;
use crate::clock::{Clock, Random};
use crate::limits::{CellLimits, SessionLimits};
use crate::support::lock;
use crate::tools::{ToolDefinition, normalize_identifier};
use crate::turns::TurnWorkers;
use std::sync::{Arc, Mutex, Weak};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Parked cells above this are opened where they hold nobody up.
const LARGE: usize = 64 << 10;

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
    /// How cells are parked and woken.
    parking: Mutex<Parking>,
    /// Whether cells are recorded from here on.
    recordings: Mutex<Option<Recordings>>,
    /// Where cells are kept while they sleep.
    store: Mutex<Option<Arc<dyn CellStore>>>,
    /// The set of tools that was used last.
    tools: Mutex<Option<(Weak<[ToolDefinition]>, ToolSet)>>,
}

/// What the cells of a session need to know of a set of tools.
#[derive(Clone)]
pub(super) struct ToolSet {
    /// Property names, in the order of the set.
    pub(super) names: Vec<String>,
    /// Bytes that the definitions take, about.
    pub(super) bytes: usize,
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
            registry: Registry::new(&limits),
            limits,
            clock,
            random,
            turns: TurnWorkers::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            parking: Mutex::default(),
            recordings: Mutex::default(),
            store: Mutex::default(),
            tools: Mutex::new(None),
        }
    }

    /// Admits no cell from now on, and ends those that live.
    pub(super) fn end(&self) {
        self.registry.close();
        self.shutdown.cancel();
    }

    /// How cells are parked and woken.
    pub(super) fn parking(&self) -> Parking {
        lock(&self.parking).clone()
    }

    /// Opens a parked cell.
    pub(super) async fn open_parked(
        self: &Arc<Self>,
        parking: &Parking,
        cell: ParkedCell,
    ) -> Result<Opened, CodeModeError> {
        let is_large = cell.as_bytes().len() > LARGE;
        let (session, parking) = (Arc::clone(self), parking.clone());
        let open = move || parking.open(&cell, session.engine.dictionary(), &session.limits);
        if !is_large {
            return Ok(open()?);
        }
        // It is decompressed where that holds nobody up.
        match tokio::task::spawn_blocking(open).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(CodeModeError::ShuttingDown),
        }
    }

    /// Sets how cells are parked and woken from here on.
    pub(super) fn set_parking(&self, parking: Parking) {
        *lock(&self.parking) = parking;
    }

    /// Whether cells are recorded, and where their recordings go.
    pub(super) fn recordings(&self) -> Option<Recordings> {
        lock(&self.recordings).clone()
    }

    /// Sets whether cells are recorded from here on.
    pub(super) fn set_recordings(&self, recordings: Option<Recordings>) {
        *lock(&self.recordings) = recordings;
    }

    /// Where cells are kept while they sleep, if anywhere but in memory.
    pub(super) fn store(&self) -> Option<Arc<dyn CellStore>> {
        lock(&self.store).clone()
    }

    /// Sets where cells that are admitted from here on are kept while they sleep.
    pub(super) fn set_store(&self, store: Option<Arc<dyn CellStore>>) {
        *lock(&self.store) = store;
    }

    /// What there is to know of a set of tools, found out once for each set.
    pub(super) fn tool_set(&self, tools: &Arc<[ToolDefinition]>) -> ToolSet {
        let mut last = lock(&self.tools);
        if let Some((known, set)) = last.as_ref()
            && known.upgrade().is_some_and(|known| Arc::ptr_eq(&known, tools))
        {
            return set.clone();
        }
        let set = ToolSet {
            names: tools.iter().map(|tool| normalize_identifier(&tool.name)).collect(),
            bytes: tools.iter().map(ToolDefinition::byte_len).sum(),
        };
        *last = Some((Arc::downgrade(tools), set.clone()));
        set
    }
}
