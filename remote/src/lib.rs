//! Code-mode hosts in another process: the two protocols, a backend that is their client,
//! and a server for any backend.

#![warn(unreachable_pub)]

mod client;
mod in_flight;
#[cfg(feature = "nats")]
mod nats;
pub mod protocol;
pub mod server;

pub use client::{ClientTls, HostAddress, HostCommand, HostProcess, ProcessBackend, ProcessLimits};
#[cfg(feature = "nats")]
pub use client::{NatsBackend, NatsFleet};
#[cfg(feature = "nats")]
pub use nats::{DEFAULT_CLASS, HEARTBEAT, NatsAddress, NatsError, ORPHAN_GRACE};
