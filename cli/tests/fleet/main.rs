//! Cells on a fleet: three NATS servers, workers and two tenants, all of them real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cells;
mod cluster;
mod commands;
mod contract;
mod faults;
mod figures;
mod keeping;
mod kept;
#[allow(dead_code, reason = "another test uses the rest of it")]
#[allow(clippy::needless_pass_by_value, reason = "values that a test writes out are its own")]
#[path = "../mcp/raw.rs"]
mod mcp_client;
mod park;
mod raw;
mod schedule;
mod servers;
mod tenants;
mod values;
