//! The two protocols that a code-mode host in another process speaks: framed JSON,
//! version 1, and gRPC. Here is what is sent; `client` and `server` send it.
//!
//! `docs/protocol.md` describes how a conversation goes.

pub mod frame;
pub mod grpc;
mod message;
mod refusal;

pub use message::{
    Base64, ClientMessage, DelegateRequest, DelegateValue, ExecutionLimits, HostMessage,
    OperationRequest, OperationResult, OperationValue, Outcome, Regional, RejectionReason,
    SeamExecute, SeamKeep, SeamOpen, SeamParked, SeamResponse, SeamResume, SeamWake, StoredDelta,
    TimedResponse, TimedWaitOutcome,
};
pub use refusal::Refusal;

use cellblock::support::MAX_DEPTH;

/// What a client and a host speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Framed JSON, version 1.
    Framed,
    /// gRPC, `codex.code_mode.v1`.
    Grpc,
}

/// The one version of the framed protocol that there is.
pub const VERSION: u32 = 1;

/// The capability of taking [`ExecutionLimits`] when a session is opened.
pub const LIMITS_CAPABILITY: &str = "session-cell-execution-resource-limits";

/// The capability of everything that [`CodeModeBackend`](cellblock::CodeModeBackend) offers
/// and the contract's protocol lacks: stored values that belong to the client, reports,
/// frozen cells, all limits, and the news that a cell has ended. docs/protocol.md has it.
pub const SEAM_CAPABILITY: &str = "cellblock-seam-v1";

/// Bytes of stored values, keys included, that a session may have on a host.
pub const MAX_STORED_BYTES: usize = 64 << 20;

/// Bytes of a parked cell: in base64, and with the message around it, it fits into one
/// message. A server's backends must [park](cellblock::Parking::limited_to) none that is
/// larger.
pub const MAX_PARKED_BYTES: usize = 44 << 20;

pub(crate) use cellblock::support::{CALL_CANCELLED, NOTIFICATION_CANCELLED};

/// The contract's text for a nested call that is one too many.
pub(crate) const TOO_MANY_DELEGATES: &str = "code-mode host has too many pending delegate calls";

/// Nested calls and notifications that may await an answer on one connection.
pub const MAX_DELEGATE_CALLS: usize = 1_024;

/// Longest identifier of a session, a cell, an execution, a wait or a call, in bytes.
pub const MAX_IDENTIFIER_BYTES: usize = 256;

/// Longest description of all tools of a program together, in bytes: names, texts and
/// schemas as JSON. The program's tool call id counts with them.
pub const MAX_TOOL_BYTES: usize = 8 << 20;

/// Levels that a value in a framed message may nest: what a reader takes, less the four
/// that the message around it takes.
pub const MAX_VALUE_DEPTH: usize = MAX_DEPTH - 4;
