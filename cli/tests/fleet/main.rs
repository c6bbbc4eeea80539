//! Cells on a fleet: three NATS servers, workers and two tenants, all of them real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cells;
mod cluster;
mod contract;
mod faults;
mod figures;
mod kept;
mod park;
mod raw;
mod schedule;
mod tenants;
mod values;
