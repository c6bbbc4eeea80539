//! What every backend does for its cells in the same way: who waits for a cell's answer and
//! what becomes of one that no caller received, how its nested calls and notifications run
//! and end, and which bytes it is charged for.
//!
//! A cell is one task of its backend's. The task owns the cell's [`Callbacks`], receives
//! [`Command`]s, and keeps the cell's [`LiveEntry`] in the session's [`Registry`], where
//! callers find it. The backend in this crate runs a sandbox in that task; the one of
//! `cellblock-remote` speaks to a host in another process.

mod account;
mod answer;
mod callbacks;
mod ends;
mod pending;
mod registry;
mod requests;
mod serving;
mod span;
mod status;

pub use account::{Account, Charge};
pub use answer::{Answer, Command, Content, Offer, ParkReply, Reply, Until};
pub use callbacks::{Callbacks, Delivered, Handover, Next};
pub use pending::PendingCalls;
pub use registry::{Conclusion, LiveEntry, Registry};
pub use requests::Asked;
pub use status::CellStatus;
