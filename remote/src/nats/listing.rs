//! How a client asks which cells of a session a fleet keeps.

use cellblock::CellId;
use serde::{Deserialize, Serialize};

/// Cells in one answer.
pub(crate) const CELLS: usize = 1_000;

/// Bytes that a question may have.
pub(crate) const QUESTION: usize = 1_024;

/// The question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Question {
    /// The session, by what workers know it by.
    pub(crate) session: String,
    /// The last cell of the answer before, by its name in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<String>,
}

/// The answer.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listing {
    /// Cells by their names.
    pub(crate) cells: Vec<KeptCell>,
    /// There may be more after the last one.
    pub(crate) has_more: bool,
}

/// A cell that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeptCell {
    /// Its name in the store.
    pub(crate) cell: String,
    /// Its client's id of it.
    pub(crate) id: CellId,
    /// The class of workers that can wake it.
    pub(crate) class: String,
}
