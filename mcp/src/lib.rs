//! Code mode over the servers of the Model Context Protocol: one server in front of many.
//!
//! A client sees `exec` and `wait`. The program that it sends runs in a sandbox and calls the
//! tools of all servers behind, each call authorised by itself.
//!
//! - [`config`] reads the `mcpServers` that clients share.
//! - [`policy`] decides which calls are made, which a person is asked about, and which are
//!   refused.
//! - A [`Gateway`] holds the servers and the sessions. [`serve_stdio`] and
//!   [`serve_http`] serve clients with it.

#![warn(unreachable_pub)]

mod answer;
mod approval;
mod arguments;
mod catalog;
mod check;
pub mod config;
mod flow;
mod gateway;
mod host;
mod inspect;
mod options;
pub mod policy;
mod prelude;
mod protocol;
mod replace;
mod resume;
mod session;
mod state;
mod tasks;
mod tools;
mod upstream;
mod visible;
mod visit;

pub use check::{Checked, CheckedServer};
pub use gateway::Gateway;
pub use options::{Disclosure, MakeBackend, Options, waits};
pub use protocol::{Authenticate, HTTP_PATH, HttpAccess, serve_http, serve_inspector, serve_stdio};

/// The variable that is set for every server, with which a gateway sees that it was started
/// by another one.
pub const SERVER_MARK: &str = protocol::MARK;
