//! The two protocols that a code-mode host in another process speaks: framed
//! JSON, version 1, and gRPC. What is sent is here; who sends it is not.
//!
//! `docs/protocol.md` tells how a conversation goes.

pub mod frame;
mod message;

pub mod grpc;

pub use message::{
    ClientMessage, DelegateRequest, DelegateValue, ExecutionLimits, HostMessage, OperationRequest,
    OperationResult, OperationValue, Outcome, RejectionReason, TimedResponse, TimedWaitOutcome,
};

/// The one version of the framed protocol that there is.
pub const VERSION: u32 = 1;

/// The capability of taking [`ExecutionLimits`] when a session is opened.
pub const LIMITS_CAPABILITY: &str = "session-cell-execution-resource-limits";

/// Nested calls and notifications that may await an answer on one connection.
pub const MAX_DELEGATE_CALLS: usize = 1_024;

/// Longest identifier of the gRPC protocol, in bytes.
pub const MAX_IDENTIFIER_BYTES: usize = 256;
