//! Runs untrusted, model-written JavaScript programs ("cells") that call many
//! tools, in a WebAssembly sandbox with limits that hold. It keeps the contract
//! of Codex's code mode.
//!
//! # The seam in twenty lines
//!
//! - A [`CodeModeBackend`] runs cells: [`WasmBackend`] in this process. It is
//!   chosen when it is made, and nothing above it knows which it is.
//! - A [`CodeModeService`] is what a host holds for each conversation. It owns a
//!   backend and the [`StoredValues`] that cells leave behind.
//! - [`execute`](CodeModeService::execute) starts a program and answers with the
//!   first [`RuntimeResponse`]: it yielded and runs on, or it ended.
//!   [`wait`](CodeModeService::wait) fetches the next, and
//!   [`terminate`](CodeModeService::terminate) ends the cell.
//! - A [`CodeModeTurnHost`] is what a turn offers: tools, and a sink for
//!   notifications. [`start_turn_worker`](CodeModeService::start_turn_worker)
//!   lets it serve until the [`CodeModeTurnWorker`] is dropped. Cells live on
//!   between turns; what they call meanwhile waits for the next.
//! - [`SessionLimits`] and [`CellLimits`] bound everything. A cell that meets a
//!   limit ends with a text that names it, and a [`LimitKind`] in its report.
//! - Errors of a program are part of a response. [`CodeModeError`] is for
//!   requests that were not carried out.
//!
//! # A program and its tools
//!
//! ```
//! use cellblock::*;
//! use serde_json::json;
//! use std::sync::Arc;
//! use tokio_util::sync::CancellationToken;
//!
//! struct Weather;
//!
//! #[async_trait::async_trait]
//! impl CodeModeTurnHost for Weather {
//!     async fn invoke_tool(
//!         &self,
//!         call: CodeModeNestedToolCall,
//!         _cancellation: CancellationToken,
//!     ) -> Result<ToolResult, String> {
//!         let city = call.input.ok_or("which city?")?.into_value();
//!         Ok(json!({ "city": city, "degrees": 21 }).into())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = CodeModeService::new(Arc::new(WasmBackend::new()?));
//! let _turn = service.start_turn_worker(Arc::new(Weather));
//!
//! let request = ExecuteRequest {
//!     enabled_tools: [ToolDefinition::function("weather", "The weather in a city.")].into(),
//!     ..ExecuteRequest::new(
//!         "const all = await Promise.all(['Bern', 'Oslo'].map(tools.weather));
//!          store('cities', all.length);
//!          text(all.map((w) => `${w.city}: ${w.degrees}°`).join());",
//!     )
//! };
//! let response = service.execute(request).await?;
//! let text = ContentItem::InputText { text: "Bern: 21°,Oslo: 21°".to_owned() };
//! assert_eq!(response.content_items(), [text]);
//! assert_eq!(service.stored_values()["cities"], 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! ```
//! use cellblock::*;
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cell = CellLimits { fuel: 100_000_000, ..CellLimits::default() };
//! let limits = SessionLimits { cell, ..SessionLimits::default() };
//! let backend = WasmBackend::with_limits(&Engine::shared()?, limits);
//! let service = CodeModeService::new(Arc::new(backend));
//!
//! let response = service.execute(ExecuteRequest::new("while (true) {}")).await?;
//! assert_eq!(response.report().limit, Some(LimitKind::Fuel));
//! # Ok(())
//! # }
//! ```

#![warn(unreachable_pub)]

mod backend;
pub mod cells;
mod clock;
mod json;
mod limits;
pub mod model;
mod recent;
mod regional;
mod service;
mod stored;
pub mod support;
mod tools;
mod turns;
#[cfg(feature = "type-checks")]
pub mod type_check;
#[cfg(feature = "wasm")]
mod wasm;

pub use backend::*;
pub use cells::PendingCalls;
pub use clock::{Clock, Random, SystemClock, SystemRandom};
pub use json::JsonError;
pub use limits::{CellLimits, DEFAULT_YIELD_TIME_MS, LimitsError, OverLimit, SessionLimits};
pub use regional::{Locale, RegionalError, RegionalSettings, TimeZone};
pub use service::CodeModeService;
pub use stored::StoredValues;
pub use tools::{ToolDefinition, ToolKind, ToolName, normalize_identifier};
#[cfg(feature = "wasm")]
pub use wasm::{Engine, EngineConfig, EngineError, ParkKey, Parking, WasmBackend, recording};

#[cfg(all(doctest, feature = "wasm"))]
#[doc = include_str!("../../README.md")]
struct Readme;
