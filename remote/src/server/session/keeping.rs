//! Cells that are kept in a store while they wait, from which another host can wake them.

use super::request::wake_request;
use super::{CellRequest, Session};
use crate::protocol::{Base64, Refusal, SeamKeep, SeamWake, TimedWaitOutcome};
use async_trait::async_trait;
use cellblock::support::lock;
use cellblock::{
    CellId, CodeModeError, ExecuteRequest, ParkError, ParkedCell, RuntimeResponse, StoredValues,
};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// A store of parked cells that hosts share, as one of those has it whom they serve.
///
/// The store knows at any time who has a cell: it, or one host. A host that was paused, or cut
/// off, finds that it has the cell no more when it tries to give it back.
#[async_trait]
pub(in super::super) trait Keeper: Send + Sync {
    /// The class of hosts that can wake what this one keeps.
    fn class(&self) -> &str;

    /// Keeps a cell. `held` is what it was taken with, of one that was kept before.
    async fn keep(
        &self,
        keep: &SeamKeep,
        held: Option<Held>,
        cell: &ParkedCell,
    ) -> Result<(), KeepError>;

    /// Gives a cell to this host, and to nobody else from then on. `cell` is the cell, where its
    /// client has it because it could not be kept; nothing is held of one that the store has no
    /// room for, and it is not kept again. `gone` is cancelled when the client has left.
    async fn take(
        &self,
        keep: &SeamKeep,
        cell: Option<ParkedCell>,
        gone: &CancellationToken,
    ) -> Result<(ParkedCell, Option<Held>), KeepError>;

    /// A cell that was taken goes on.
    async fn woken(&self, held: &Held);

    /// A cell that was taken could not be woken here.
    async fn put_back(&self, keep: &SeamKeep, held: Held);

    /// A cell that was taken has ended.
    async fn ended(&self, keep: &SeamKeep);
}

/// What a host has of a cell that it has taken.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "a fleet's store reads it"))]
pub(in super::super) struct Held {
    /// Number of the record that says so.
    pub(in super::super) revision: u64,
    /// How often the cell has changed hands.
    pub(in super::super) epoch: u64,
    /// Where its bytes are, until it goes on.
    pub(in super::super) object: Option<String>,
    /// How many there are.
    pub(in super::super) bytes: u64,
}

/// Why a store did not keep or give a cell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "a fleet's store makes it"))]
pub(in super::super) enum KeepError {
    /// It has no such cell, or another host has it.
    #[error(transparent)]
    Park(#[from] ParkError),
    /// Its tenant has as much in the store as it may.
    #[error("its tenant may have no more parked cells")]
    Full,
    /// The store does not work; the text says what happened.
    #[error("the store of parked cells cannot be used: {0}")]
    Failed(String),
}

/// Where a cell may be kept.
pub(super) struct StorePlace {
    pub(super) keep: SeamKeep,
    /// What it was taken with, of one that was kept before.
    held: Option<Held>,
    /// Its client was asked to have it kept: it may ask for that once then.
    pub(super) asked: bool,
}

impl From<KeepError> for Refusal {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::Park(error) => CodeModeError::from(error).into(),
            KeepError::Full | KeepError::Failed(_) => CodeModeError::Host(error.to_string()).into(),
        }
    }
}

impl Session {
    /// Something of a cell has begun or ended.
    pub(in super::super) fn touch(&self, cell_id: &CellId) {
        if let Some(entry) = lock(&self.cells).get_mut(cell_id) {
            entry.touched = Instant::now();
        }
    }

    /// Is cancelled when nobody takes the session's notifications any more.
    pub(in super::super) fn abandoned(&self) -> &CancellationToken {
        &self.abandoned
    }

    /// The cell has ended, and no host has it any more.
    pub(super) fn give_up(&self, keeping: Option<StorePlace>) {
        let Some(StorePlace { keep, held: Some(_), .. }) = keeping else { return };
        if let Some(keeper) = self.server.keeper.clone() {
            // The session closes after it.
            self.requests.spawn(async move { keeper.ended(&keep).await });
        }
    }
}

impl CellRequest {
    /// Notes where the cell may be kept.
    pub(super) fn note_keep(&self, keep: Option<SeamKeep>) {
        if self.session.server.keeper.is_none() {
            return;
        }
        if let Some(entry) = lock(&self.session.cells).get_mut(&self.cell_id) {
            entry.keeping = keep.map(|keep| StorePlace { keep, held: None, asked: false });
        }
    }

    /// Where the cell may be kept.
    fn keeping(&self) -> Result<(Arc<dyn Keeper>, SeamKeep), Refusal> {
        let keeper = self.session.server.keeper.clone();
        let cells = lock(&self.session.cells);
        let keeping = cells.get(&self.cell_id).and_then(|entry| entry.keeping.as_ref());
        let keep = keeping.map(|keeping| keeping.keep.clone());
        keeper.zip(keep).ok_or(KeepError::Park(ParkError::NotKept).into())
    }

    /// What the cell was taken with.
    fn held(&self, change: impl FnOnce(&mut Option<Held>) -> Option<Held>) -> Option<Held> {
        let mut cells = lock(&self.session.cells);
        let keeping = cells.get_mut(&self.cell_id)?.keeping.as_mut()?;
        change(&mut keeping.held)
    }

    /// Does what a client asks for that was asked to have the cell kept.
    pub(super) async fn keep_asked(
        &self,
        cancelled: &CancellationToken,
    ) -> Result<TimedWaitOutcome, Refusal> {
        let was_asked = lock(&self.session.cells)
            .get_mut(&self.cell_id)
            .and_then(|entry| entry.keeping.as_mut())
            .is_some_and(|place| std::mem::take(&mut place.asked));
        if !was_asked {
            return Err(CodeModeError::Unsupported("cells that leave unasked").into());
        }
        self.keep(cancelled).await
    }

    /// Parks the cell, and keeps it. Where that fails, its client receives it.
    pub(super) async fn keep(
        &self,
        cancelled: &CancellationToken,
    ) -> Result<TimedWaitOutcome, Refusal> {
        let (keeper, keep) = self.keeping()?;
        let (cell, mut parked) = self.leave(cancelled).await?;
        let held = self.held(Option::take);
        match keeper.keep(&keep, held, &cell).await {
            Ok(()) => parked.kept = Some(keeper.class().to_owned()),
            Err(error @ KeepError::Park(_)) => {
                self.taken(true);
                return Err(error.into());
            }
            Err(error @ (KeepError::Full | KeepError::Failed(_))) => {
                tracing::warn!("a cell goes to its client: {error}");
                parked.cell = Base64(cell.as_bytes().into());
            }
        }
        Ok(self.left(parked))
    }

    /// Wakes a parked cell: one that is kept, where `is_named` says that its client has named it,
    /// or that its client has.
    pub(super) async fn wake(
        &self,
        request: ExecuteRequest,
        mut wake: SeamWake,
        values: StoredValues,
        is_named: bool,
    ) -> Result<RuntimeResponse, Refusal> {
        let bytes = std::mem::take(&mut wake.cell).0;
        let is_elsewhere = is_named && bytes.is_empty();
        let own = (!is_elsewhere).then(|| ParkedCell::from_bytes(bytes));
        let own = own.transpose().map_err(CodeModeError::from)?;
        let (cell, taken) = match (self.keeping(), own) {
            (Ok((keeper, keep)), own) => {
                let (cell, held) = keeper.take(&keep, own, &self.session.closing).await?;
                if held.is_none() {
                    self.note_keep(None);
                }
                (cell, held.map(|held| (keeper, keep, held)))
            }
            (Err(_), Some(cell)) => (cell, None),
            (Err(error), None) => return Err(error),
        };
        let (id, request) = (self.cell_id.clone(), wake_request(request, wake, cell));
        let woken = self.session.service.backend().wake(id, request, values).await;
        if let Some((keeper, keep, held)) = taken {
            match &woken {
                Ok(_) => {
                    self.held(|own| own.replace(held.clone()));
                    self.session.requests.spawn(async move { keeper.woken(&held).await });
                }
                Err(_) => keeper.put_back(&keep, held).await,
            }
        }
        Ok(woken?)
    }
}
