//! Where cells that sleep are kept, so that they outlive their process.

use super::ParkedCell;
use async_trait::async_trait;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Names a cell for as long as it lives, whatever process it is in. It cannot be guessed, and
/// whoever knows it may let the cell go on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeptName([u8; 16]);

impl KeptName {
    /// A new name, at random.
    ///
    /// # Errors
    /// The system has no randomness to give.
    #[cfg(feature = "wasm")]
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut name = [0; 16];
        getrandom::fill(&mut name)?;
        Ok(Self(name))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for KeptName {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for KeptName {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is a secret between a host and its client.
        f.write_str("KeptName(..)")
    }
}

/// A text is not the name of a kept cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a kept cell has 32 hexadecimal digits")]
pub struct ParseKeptNameError;

impl FromStr for KeptName {
    type Err = ParseKeptNameError;

    fn from_str(text: &str) -> Result<Self, ParseKeptNameError> {
        let is_name = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_name);
        number.map(|number| Self(number.to_be_bytes())).ok_or(ParseKeptNameError)
    }
}

/// A store did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of cells failed: {0}")]
pub struct CellStoreError(pub String);

/// Where a session keeps its cells while they sleep: see
/// [`WasmBackend::set_store`](crate::WasmBackend::set_store).
///
/// A cell is kept when it has fallen asleep, and removed before its program runs on, so that
/// nothing runs twice. A process that ends between the two loses nothing of it. What is asked
/// for one name is done in the order in which it was asked for, also when its future is
/// dropped.
#[async_trait]
pub trait CellStore: Send + Sync {
    /// Keeps a cell, in place of what was kept under its name before. It can be dropped after
    /// `time_left`, for its total time is over then. Returns when the cell will outlive the
    /// process.
    ///
    /// # Errors
    /// It was not kept: it sleeps in memory alone.
    async fn keep(
        &self,
        name: KeptName,
        cell: ParkedCell,
        time_left: Duration,
    ) -> Result<(), CellStoreError>;

    /// Removes a cell whose program is to run on, as [`remove`](Self::remove) does. A store whose
    /// process is to end may leave the cell to the next one: it never returns then.
    ///
    /// # Errors
    /// A later process may find it: its program does not run on here, and the cell ends.
    async fn take(&self, name: KeptName) -> Result<(), CellStoreError> {
        self.remove(name).await
    }

    /// Removes a cell that ends here or is parked, if it is there. Returns when no later process
    /// will find it.
    ///
    /// # Errors
    /// A later process may find it.
    async fn remove(&self, name: KeptName) -> Result<(), CellStoreError>;

    /// Finds a cell that an earlier process has kept, and says how long ago that was. One that
    /// this process has kept, or found before, is not found: it is alive. It stays in the store.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn find(&self, name: KeptName) -> Result<Option<(ParkedCell, Duration)>, CellStoreError>;

    /// A cell that was found does not go on here: it may be found again.
    fn release(&self, name: KeptName);
}

/// A cell that an earlier process has kept, and that is to go on:
/// see [`CodeModeBackend::resume`](super::CodeModeBackend::resume).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeRequest {
    /// Its name.
    pub name: KeptName,
    /// How many pieces of output its caller has received since the cell was started, or woken.
    /// It does not receive them again.
    pub received: u64,
    /// As [`ExecuteRequest::yield_time_ms`](super::ExecuteRequest::yield_time_ms).
    pub yield_time_ms: Option<u64>,
}

/// What becomes of a cell in its store, for
/// [`CodeModeTurnHost::cell_kept`](super::CodeModeTurnHost::cell_kept).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It is kept under this name.
    Kept(KeptName),
    /// It runs on, and is not kept.
    Removed,
}

impl Keeping {
    /// The name under which the cell is kept, if it is.
    pub fn name(self) -> Option<KeptName> {
        match self {
            Self::Kept(name) => Some(name),
            Self::Removed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_texts_of_32_digits() {
        let name = KeptName::from([0xa7; 16]);
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!(KeptName::from([0; 16]).to_string(), "0".repeat(32));
        for text in ["", "1", &"+".repeat(32), &"0".repeat(33), &format!("+{}", "0".repeat(31))] {
            assert_eq!(text.parse::<KeptName>(), Err(ParseKeptNameError), "{text}");
        }
    }
}
