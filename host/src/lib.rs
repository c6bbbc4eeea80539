//! Runs untrusted, model-written JavaScript programs ("cells") that call many
//! tools, in a WebAssembly sandbox with limits that hold.

#![warn(unreachable_pub)]

mod backend;
mod clock;
mod limits;
mod service;
mod stored;
mod tools;
mod wasm;

pub use backend::*;
pub use clock::{Clock, Random, SystemClock, SystemRandom};
pub use limits::{CellLimits, DEFAULT_YIELD_TIME_MS, SessionLimits};
pub use service::CodeModeService;
pub use stored::StoredValues;
pub use tools::{ToolDefinition, ToolKind, ToolName, normalize_identifier};
pub use wasm::{Engine, EngineConfig, EngineError, WasmBackend};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
