//! What others see of a cell.

use crate::backend::{CellId, CellInfo, CellState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use tokio::time::Instant;

/// What others see of a cell, written by the cell's task.
#[derive(Debug)]
pub struct CellStatus {
    /// When the cell was admitted.
    started: Instant,
    /// A [`CellState`].
    state: AtomicU8,
    /// Where a program waits that nothing can wake: a stuck cell stays so.
    stuck_at: OnceLock<Option<String>>,
    /// Nested calls that have not ended.
    calls_in_flight: AtomicUsize,
}

impl Default for CellStatus {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            state: AtomicU8::new(CellState::Running as u8),
            stuck_at: OnceLock::new(),
            calls_in_flight: AtomicUsize::new(0),
        }
    }
}

impl CellStatus {
    /// Sets the state that others see.
    pub fn set_state(&self, state: CellState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Notes that the program waits for something that cannot come, and where.
    pub fn note_stuck_at(&self, place: Option<String>) {
        // The first place stays: it cannot have moved.
        let _ = self.stuck_at.set(place);
    }

    /// Whether [`CellStatus::note_stuck_at`] was called.
    pub fn is_stuck(&self) -> bool {
        self.stuck_at.get().is_some()
    }

    /// Counts a nested call that starts.
    pub fn call_started(&self) {
        self.calls_in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a nested call that has ended.
    pub fn call_ended(&self) {
        self.calls_in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nested calls that have not ended.
    pub fn calls_in_flight(&self) -> usize {
        self.calls_in_flight.load(Ordering::Relaxed)
    }

    /// The cell as a list shows it.
    pub(super) fn info(&self, cell_id: CellId, has_ended: bool) -> CellInfo {
        CellInfo {
            cell_id,
            state: if has_ended { CellState::Finished } else { self.state() },
            age: self.started.elapsed(),
            calls_in_flight: self.calls_in_flight(),
            stuck_at: self.stuck_at.get().cloned().flatten(),
        }
    }

    fn state(&self) -> CellState {
        match self.state.load(Ordering::Relaxed) {
            state if state == CellState::Running as u8 => CellState::Running,
            state if state == CellState::Waiting as u8 => CellState::Waiting,
            state if state == CellState::Stuck as u8 => CellState::Stuck,
            _ => CellState::Ending,
        }
    }
}
