//! Serves code-mode sessions to clients in other processes.
//!
//! `listen` is where clients come from, `framed` and `grpc` what they speak, and
//! `session` what they have opened.

mod framed;
mod grpc;
mod listen;
mod session;

pub use listen::{Listen, serve};
pub use session::{CELLS, Host, OpenBackend};
