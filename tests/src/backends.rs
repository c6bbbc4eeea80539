//! The backends under test, each behind the seam.

use cellblock::{CodeModeBackend, Engine, EngineConfig, SessionLimits, WasmBackend};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostCommand, HostProcess, ProcessBackend, ProcessLimits};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Makes sessions of one kind of backend.
#[derive(Clone, Copy, Debug)]
pub enum Backends {
    /// In this process.
    Wasm,
    /// In this process, where cells that wait sleep at once.
    Sleeping,
    /// In a child: the program at this path, `host`, by framed JSON.
    Framed(&'static Path),
    /// In a child: the program at this path, `host`, by gRPC.
    Grpc(&'static Path),
    /// In another make's host at this path, by framed JSON.
    Oracle(&'static Path),
    /// Where this function says.
    Elsewhere(fn(SessionLimits) -> Arc<dyn CodeModeBackend>),
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
            Self::Sleeping => {
                static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
                    let mut config = EngineConfig::default();
                    config.max_cells = 256;
                    config.sleeps_after = Some(Duration::ZERO);
                    Engine::new(&config).expect("an engine")
                });
                Arc::new(WasmBackend::with_limits(&ENGINE, limits))
            }
            Self::Framed(program) => {
                let command = host(program, "stdio", &limits);
                child(HostAddress::child(Protocol::Framed, command), &limits)
            }
            Self::Grpc(program) => {
                let command = host(program, "grpc+stdio://", &limits);
                child(HostAddress::child(Protocol::Grpc, command), &limits)
            }
            Self::Oracle(program) => {
                let command = HostCommand::new(program).args(["--listen", "stdio"]);
                child(HostAddress::child(Protocol::Framed, command), &limits)
            }
            Self::Elsewhere(session) => session(limits),
        }
    }

    /// Whether cells run on this process's clock, which a test may pause.
    pub fn share_the_clock(self) -> bool {
        matches!(self, Self::Wasm | Self::Sleeping)
    }
}

fn child(address: HostAddress, limits: &SessionLimits) -> Arc<dyn CodeModeBackend> {
    let limits = ProcessLimits {
        max_yield_time_ms: limits.max_yield_time_ms,
        cancel_grace: limits.cell.cancel_grace,
        cells: Some(limits.cells),
        unread_results: limits.unread_results,
        unread_bytes: limits.unread_bytes,
        ..ProcessLimits::default()
    };
    Arc::new(ProcessBackend::with_limits(&HostProcess::new(address), limits))
}

/// Our host, with the limits that a client cannot set as its arguments.
fn host(program: &Path, listen: &str, limits: &SessionLimits) -> HostCommand {
    let cells = limits.cells.to_string();
    let mut command = HostCommand::new(program)
        .args(["host", "--listen", listen, "--max-cells", &cells])
        .args(["--max-cells-per-session", &cells]);
    let cell = serde_json::to_value(&limits.cell).expect("limits are JSON");
    for (name, value) in
        cell.as_object().into_iter().flatten().filter(|(_, limit)| !limit.is_null())
    {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        command = command.args(["--limit".to_owned(), format!("{name}={value}")]);
    }
    command
}
