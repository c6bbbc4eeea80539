//! The Model Context Protocol, both as a client and as a server: the only place that knows
//! `rmcp`.

mod child;
mod connections;
mod counted;
mod http;
mod lines;
mod listing;
mod server;
mod subscriptions;
mod surrogates;
mod upstream;

pub use http::{Authenticate, HttpAccess, PATH as HTTP_PATH, serve_http, serve_inspector};
pub use server::serve_stdio;

pub(crate) use child::MARK;
pub(crate) use upstream::{Connection, Returned};
