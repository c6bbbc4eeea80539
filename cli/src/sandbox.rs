//! Where a command's cells run: in this process, or on a fleet.

use anyhow::{Context, Result};
use cellblock::{
    CellStore, CodeModeBackend, Engine, EngineConfig, Parking, SessionLimits, WasmBackend,
};
use clap::Args;
use std::sync::Arc;

/// Arguments that say where cells run.
#[derive(Args, Clone, Default)]
pub struct SandboxArguments {
    #[cfg(feature = "nats")]
    #[command(flatten)]
    fleet: crate::fleet::FleetArguments,
}

/// Where cells run.
pub enum Sandbox {
    /// In this process.
    Here(Engine),
    /// On the workers of a fleet.
    #[cfg(feature = "nats")]
    Fleet(cellblock_remote::NatsFleet),
}

impl SandboxArguments {
    /// A session with these limits on a fleet, if cells are to run there.
    #[cfg(feature = "nats")]
    pub fn elsewhere(&self, limits: SessionLimits) -> Result<Option<Arc<dyn CodeModeBackend>>> {
        let fleet = self.fleet.fleet()?;
        Ok(fleet.map(|fleet| Arc::new(crate::fleet::session(&fleet, limits)) as _))
    }

    /// Without the feature `nats` cells run here.
    #[cfg(not(feature = "nats"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with the feature")]
    pub fn elsewhere(&self, _limits: SessionLimits) -> Result<Option<Arc<dyn CodeModeBackend>>> {
        Ok(None)
    }

    /// Sets it up; the engine is for cells that run here.
    #[cfg_attr(not(feature = "nats"), allow(clippy::unused_self, reason = "as with the feature"))]
    pub fn open(&self, config: &EngineConfig) -> Result<Sandbox> {
        #[cfg(feature = "nats")]
        if let Some(fleet) = self.fleet.fleet()? {
            return Ok(Sandbox::Fleet(fleet));
        }
        Engine::new(config).map(Sandbox::Here).context("no sandbox on this machine")
    }
}

impl Sandbox {
    /// Whether cells run in this process.
    pub fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    /// A session with these limits, whose cells are parked like this and kept there. A fleet's own
    /// limits count where they are narrower, and its workers say how cells are parked.
    pub fn session(
        &self,
        limits: SessionLimits,
        parking: Option<&Parking>,
        store: Option<&Arc<dyn CellStore>>,
    ) -> Arc<dyn CodeModeBackend> {
        match self {
            Self::Here(engine) => {
                let backend = WasmBackend::with_limits(engine, limits);
                if let Some(parking) = parking {
                    backend.set_parking(parking.clone());
                }
                backend.set_store(store.cloned());
                Arc::new(backend)
            }
            #[cfg(feature = "nats")]
            Self::Fleet(fleet) => Arc::new(crate::fleet::session(fleet, limits)),
        }
    }
}
