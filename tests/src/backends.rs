//! The backends under test, each behind the seam.

use cellblock::{CodeModeBackend, Engine, SessionLimits, WasmBackend};
use std::sync::Arc;

/// Makes sessions of one kind of backend.
#[derive(Clone, Copy, Debug)]
pub enum Backends {
    /// In this process.
    Wasm,
}

impl Backends {
    /// A new session.
    ///
    /// # Panics
    /// When the backend cannot be had: a test cannot go on without it.
    pub fn session(self, limits: SessionLimits) -> Arc<dyn CodeModeBackend> {
        match self {
            Self::Wasm => {
                let engine = Engine::shared().expect("an engine");
                Arc::new(WasmBackend::with_limits(&engine, limits))
            }
        }
    }
}
