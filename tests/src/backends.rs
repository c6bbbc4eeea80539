//! The backends under test, each behind the seam.

use cellblock::{CellLimits, CodeModeBackend, Engine, SessionLimits, WasmBackend};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostCommand, HostProcess, ProcessBackend, ProcessLimits};
use std::path::Path;
use std::sync::Arc;

/// Makes sessions of one kind of backend.
#[derive(Clone, Copy, Debug)]
pub enum Backends {
    /// In this process.
    Wasm,
    /// In a child: the program at this path, `host`, by framed JSON.
    Framed(&'static Path),
    /// In a child: the program at this path, `host`, by gRPC.
    Grpc(&'static Path),
    /// In another make's host at this path, by framed JSON.
    Oracle(&'static Path),
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
        }
    }

    /// Whether cells run on this process's clock, which a test may pause.
    pub fn share_the_clock(self) -> bool {
        matches!(self, Self::Wasm)
    }
}

fn child(address: HostAddress, limits: &SessionLimits) -> Arc<dyn CodeModeBackend> {
    let limits = ProcessLimits {
        max_yield_time_ms: limits.max_yield_time_ms,
        cancel_grace: limits.cell.cancel_grace,
        ..ProcessLimits::default()
    };
    Arc::new(ProcessBackend::with_limits(&HostProcess::new(address), limits))
}

/// Our host, with the limits that a client cannot set as its arguments.
fn host(program: &Path, listen: &str, limits: &SessionLimits) -> HostCommand {
    let CellLimits { running_time, total_time, cancel_grace, .. } = limits.cell;
    let cell = &limits.cell;
    let cells = limits.cells.to_string();
    let mut command =
        HostCommand::new(program).args(["host", "--listen", listen, "--max-cells", &cells]);
    command = command.args(["--max-cells-per-session", &cells]);
    for (name, value) in [
        ("fuel", cell.fuel.to_string()),
        ("step_fuel", cell.step_fuel.to_string()),
        ("running_time", format!("{}ms", running_time.as_millis())),
        ("total_time", format!("{}ms", total_time.as_millis())),
        ("memory_bytes", cell.memory_bytes.to_string()),
        ("stack_bytes", cell.stack_bytes.to_string()),
        ("output_bytes", cell.output_bytes.to_string()),
        ("output_items", cell.output_items.to_string()),
        ("calls", cell.calls.to_string()),
        ("calls_in_flight", cell.calls_in_flight.to_string()),
        ("input_bytes", cell.input_bytes.to_string()),
        ("result_bytes", cell.result_bytes.to_string()),
        ("timers", cell.timers.to_string()),
        ("stored_bytes", cell.stored_bytes.to_string()),
        ("stored_keys", cell.stored_keys.to_string()),
        ("source_bytes", cell.source_bytes.to_string()),
        ("cancel_grace", format!("{}ms", cancel_grace.as_millis())),
    ] {
        command = command.args(["--limit".to_owned(), format!("{name}={value}")]);
    }
    command
}
