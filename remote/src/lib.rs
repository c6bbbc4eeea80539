//! Code-mode hosts in another process: the two protocols, a backend that is their client,
//! and a server for any backend.

#![warn(unreachable_pub)]

mod client;
mod in_flight;
pub mod protocol;
pub mod server;

pub use client::{ClientTls, HostAddress, HostCommand, HostProcess, ProcessBackend, ProcessLimits};
