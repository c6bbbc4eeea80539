//! What a cell answers those who ask it, with what the cell is charged until the answer
//! has been received.

use super::account::Charge;
use crate::backend::{CodeModeError, ContentItem, Parked, RuntimeResponse};
use std::time::Duration;
use tokio::sync::oneshot;

/// Output that nobody has received yet.
#[derive(Debug, Default)]
pub struct Content {
    /// The items, oldest first.
    pub items: Vec<ContentItem>,
    /// What the cell is charged for the items.
    pub charge: Charge,
}

impl Content {
    /// Adds an item.
    pub fn push(&mut self, item: ContentItem, charge: Charge) {
        self.items.push(item);
        self.charge.add(charge);
    }

    /// Puts earlier output in front.
    pub fn prepend(&mut self, mut earlier: Self) {
        earlier.append(std::mem::take(self));
        *self = earlier;
    }

    /// Puts later output behind.
    pub fn append(&mut self, mut later: Self) {
        self.items.append(&mut later.items);
        self.charge.add(later.charge);
    }
}

/// An answer to an observer.
#[derive(Debug)]
pub enum Answer {
    /// The cell still runs. The response's content is charged for.
    Yielded(RuntimeResponse, Charge),
    /// The program waits, frozen: output, and the calls since the last frontier.
    Pending(Content, Vec<u64>),
    /// The cell has ended. The response's content is charged for.
    Ended(RuntimeResponse, Charge),
}

impl Answer {
    /// The output, which stays in the answer.
    pub fn items(&self) -> &[ContentItem] {
        match self {
            Self::Yielded(response, _) | Self::Ended(response, _) => response.content_items(),
            Self::Pending(content, _) => &content.items,
        }
    }

    /// The output alone.
    pub fn into_content(self) -> Content {
        match self {
            Self::Yielded(response, charge) | Self::Ended(response, charge) => {
                Content { items: response.into_content(), charge }
            }
            Self::Pending(content, _) => content,
        }
    }
}

/// Where an answer, or the reason why there is none, goes.
pub type Reply = oneshot::Sender<Result<Answer, CodeModeError>>;

/// A cell that can be parked: it is once the caller has accepted it.
#[derive(Debug)]
pub struct Offer {
    /// The cell.
    pub parked: Parked,
    /// Accepts it. Dropped, the cell runs on.
    pub accept: oneshot::Sender<()>,
}

/// Where a cell that can be parked goes, or the reason why it cannot.
pub type ParkReply = oneshot::Sender<Result<Offer, CodeModeError>>;

/// What an observer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// A yield of the program's, or this time.
    Yield(Duration),
    /// The program waits for something outside.
    Frontier,
}

/// A request to a living cell.
#[derive(Debug)]
pub enum Command {
    /// A caller waits for the cell.
    Observe(Until, Reply),
    /// A caller terminates the cell.
    Terminate(Reply),
    /// A caller parks the cell, once its program waits.
    Park(ParkReply),
}
