//! Shows people what programs do: what one called, why it waits, and what it costs.
//!
//! A [`Recording`] receives what happens to a cell through the cell's monitor
//! ([`ExecuteRequest::monitor`](cellblock::ExecuteRequest::monitor)), within bounds, and is
//! shown as a page: [`Recording::page`] is one HTML file that needs no other. An
//! [`Inspector`] holds the recordings of a process, and serves them ([`Inspector::router`]) to
//! a browser on the same machine while the cells run; questions about calls are answered
//! there.
//!
//! All texts of programs, tools and models are untrusted: the page makes text of them and
//! nothing else, and its policy for content allows no script but its own.

#![warn(unreachable_pub)]

mod entries;
mod inspector;
mod page;
mod recording;
mod server;
mod shown;
mod state;
mod text;
mod totals;

pub use inspector::Inspector;
pub use recording::{About, Asked, Recording};
pub use server::{InspectError, Token};
