//! What a client and a worker of a fleet have in common: how they reach NATS, which subjects
//! they use, and the stream of bytes between them.
//!
//! A *link* is a stream of bytes between one client and one worker, for one cell, made of
//! NATS messages. It carries the framed protocol as a socket does; `client` and `server` speak
//! it with the code that they have for sockets.

mod address;
pub(crate) mod buckets;
mod link;
pub(crate) mod listing;
mod queue;
mod subjects;

pub(crate) use address::NatsConnection;
pub use address::{NatsAddress, NatsError};
pub(crate) use buckets::REPLICAS;
pub(crate) use link::{Link, LinkEnd, Opening, dismiss};
pub(crate) use queue::{Feed, Queue, queue};
pub(crate) use subjects::{Subjects, is_token, random_id};

use std::time::Duration;

/// How often each side of a link says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a worker keeps a cell whose client is silent.
pub const ORPHAN_GRACE: Duration = Duration::from_mins(1);

/// Bytes of a link that may be on their way in one direction, [`MESSAGE_COST`] for each message
/// included.
pub(crate) const WINDOW: usize = 2 << 20;

/// Bytes that a message counts in addition to those that it carries.
pub(crate) const MESSAGE_COST: usize = 1 << 10;

/// Bytes of a link in one NATS message, unless the server takes less.
pub(crate) const CHUNK: usize = 512 << 10;

/// What the subjects begin with at which a client of NATS receives answers.
pub(crate) const INBOX: &str = "_INBOX";

/// The class of workers that clients ask for when they name none.
pub const DEFAULT_CLASS: &str = "main";

/// Headers of the messages of a link.
pub(crate) mod header {
    /// Number of a message that carries bytes, from 1 in each direction.
    pub(crate) const SEQUENCE: &str = "cb-seq";
    /// Number of the newest message that carried bytes, on a message that carries none.
    pub(crate) const SENT: &str = "cb-sent";
    /// What of the other side's messages was taken, as their cost in all.
    pub(crate) const TAKEN: &str = "cb-ack";
    /// Number of the newest message before which none is missing: what came after it is to be
    /// sent again.
    pub(crate) const AGAIN: &str = "cb-again";
    /// The sender has closed the link; the value says why, or nothing.
    pub(crate) const END: &str = "cb-end";
    /// The worker and its name of the link, `WORKER.LINK`: on every message of a worker.
    pub(crate) const LINK: &str = "cb-link";
    /// The worker has not taken the cell; the value says why.
    pub(crate) const BUSY: &str = "cb-busy";
    /// The trace that the client's work is part of, as W3C Trace Context has it.
    pub(crate) const TRACE: &str = "traceparent";
}
