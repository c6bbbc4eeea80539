//! Where a command's cells run: in this process, or on a fleet.

use anyhow::{Context, Result};
use cellblock::{CodeModeBackend, Engine, EngineConfig, SessionLimits, WasmBackend};
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
    /// Sets it up: for so many cells at one time, if they run here.
    pub fn open(&self, max_cells: usize) -> Result<Sandbox> {
        #[cfg(feature = "nats")]
        if let Some(fleet) = self.fleet.fleet()? {
            return Ok(Sandbox::Fleet(fleet));
        }
        let mut config = EngineConfig::default();
        config.max_cells = u32::try_from(max_cells).unwrap_or(u32::MAX);
        Engine::new(&config).map(Sandbox::Here).context("no sandbox on this machine")
    }
}

impl Sandbox {
    /// Whether cells run in this process, where all that happens to them can be followed.
    pub fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    /// A session with these limits; a fleet's own count where they are narrower.
    pub fn session(&self, limits: SessionLimits) -> Arc<dyn CodeModeBackend> {
        match self {
            Self::Here(engine) => Arc::new(WasmBackend::with_limits(engine, limits)),
            #[cfg(feature = "nats")]
            Self::Fleet(fleet) => Arc::new(crate::fleet::session(fleet, limits)),
        }
    }
}
