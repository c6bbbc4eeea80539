//! Cells on a fleet: three NATS servers, workers and two tenants, all of them real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cells;
mod cluster;
mod commands;
mod contract;
mod faults;
mod figures;
#[allow(dead_code, reason = "another test uses the rest of it")]
#[path = "../mcp/raw.rs"]
mod mcp_client;
mod raw;
mod schedule;
mod servers;
mod tenants;
mod values;
