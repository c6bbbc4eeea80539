//! A cell that sleeps outlives its process, if its session has a store.
//!
//! The store has the cell only while nothing of its program runs: it is kept once it sleeps,
//! and removed before it wakes, ends or leaves.

use super::super::engine::Engine;
use super::super::park::{Head, Image, Packed, Parking};
use super::Cell;
use super::guest::{Armed, Body, Guest};
use super::park::seal;
use super::sleep::{LARGE, Moved, Place};
use crate::backend::{CellId, CellStore, CellStoreError, Keeping, KeptName};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long after an attempt to keep a cell that failed the next one is made.
const KEEP_AGAIN: Duration = Duration::from_mins(1);

/// A cell in its session's store.
pub(super) struct InStore {
    store: Arc<dyn CellStore>,
    /// What the store knows the cell by.
    name: KeptName,
    /// Whether the store has the cell, or may have it.
    is_kept: bool,
    /// Whether the turn's host was told so.
    is_reported: bool,
    /// When a cell that sleeps and is not kept is to be kept.
    keep_at: Instant,
}

impl InStore {
    /// A new cell, which is not kept yet.
    pub(super) fn new(store: Arc<dyn CellStore>) -> Option<Self> {
        // Without randomness for a name, the cell is not kept.
        let name = KeptName::random().ok()?;
        let keep_at = Instant::now();
        Some(Self { store, name, is_kept: false, is_reported: false, keep_at })
    }
}

/// What keeps a cell that falls asleep.
pub(super) struct Keeper {
    store: Arc<dyn CellStore>,
    name: KeptName,
    id: CellId,
    head: Head,
    parking: Parking,
    engine: Engine,
}

impl Keeper {
    /// Keeps the cell once its guest is packed. One that cannot be kept sleeps all the same.
    pub(super) async fn keep(self, moved: Moved) -> Moved {
        let Moved { to: Ok(Place::Asleep { packed, timer, .. }), took } = moved else {
            return moved;
        };
        let Self { store, name, id, head, parking, engine } = self;
        let time_left = Duration::from_nanos(head.time_left);
        let keeping = async {
            let sealed = seal(&parking, &engine, id.clone(), head, packed.clone()).await;
            let sealed = sealed.map_err(|error| CellStoreError(error.to_string()))?;
            store.keep(name, sealed, time_left).await
        };
        let is_kept = match keeping.await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("cell {id} sleeps in memory alone: {error}");
                false
            }
        };
        Moved { to: Ok(Place::Asleep { packed, timer, is_kept }), took }
    }
}

impl Cell {
    /// Whether the cell may be kept: one that is frozen would run on when it is woken, and a
    /// notification would be lost.
    fn may_be_kept(&self) -> bool {
        !self.frozen && self.parker.is_none() && !self.callbacks.is_notifying()
    }

    /// When the cell is to be kept, if it sleeps and is not.
    pub(super) fn keeps_at(&self) -> Option<Instant> {
        let in_store = self.in_store.as_ref().filter(|in_store| !in_store.is_kept)?;
        let is_asleep = matches!(self.guest, Guest::Resting { body: Body::Asleep(_), .. });
        (is_asleep && self.may_be_kept()).then_some(in_store.keep_at)
    }

    /// What keeps the cell, which sleeps from here on, if it is to be kept.
    pub(super) fn keeper(&mut self, timer: Option<Armed>) -> Option<Keeper> {
        let may_be_kept = self.may_be_kept();
        let in_store = self.in_store.as_mut().filter(|_| may_be_kept)?;
        // It may end before it is known whether it was kept.
        in_store.is_kept = true;
        in_store.keep_at = Instant::now() + KEEP_AGAIN;
        let (store, name) = (Arc::clone(&in_store.store), in_store.name);
        self.take_back_unreceived();
        Some(Keeper {
            store,
            name,
            id: self.id.clone(),
            head: self.head(timer.map(|armed| armed.timer)),
            parking: self.session.parking(),
            engine: self.session.engine.clone(),
        })
    }

    /// Notes whether the store has the cell, and reports it.
    pub(super) fn note_kept(&mut self, is_kept: bool) {
        let Some(in_store) = &mut self.in_store else { return };
        in_store.is_kept = is_kept;
        if in_store.is_reported != is_kept {
            in_store.is_reported = is_kept;
            let name = in_store.name;
            let keeping = if is_kept { Keeping::Kept(name) } else { Keeping::Removed };
            self.callbacks.cell_kept(keeping);
        }
    }

    /// What takes the cell out of its store before it wakes, if it is there.
    pub(super) fn taking(
        &mut self,
    ) -> Option<impl Future<Output = wasmtime::Result<()>> + Send + 'static> {
        let in_store = self.in_store.as_ref().filter(|in_store| in_store.is_kept)?;
        let (store, name) = (Arc::clone(&in_store.store), in_store.name);
        Some(async move { Ok(store.take(name).await?) })
    }

    /// The cell is to end: it is not to be found in the store once that is known.
    pub(super) async fn leave_store(&mut self) {
        let Some(in_store) = self.in_store.take().filter(|in_store| in_store.is_kept) else {
            return;
        };
        if let Err(error) = in_store.store.remove(in_store.name).await {
            tracing::error!("a cell that has ended may be found again: {error}");
        }
    }

    /// The cell may leave as bytes: it is not to be found in the store then. If it stays, it is
    /// kept again.
    pub(super) async fn step_out_of_store(&mut self) -> Result<(), CellStoreError> {
        if let Some(in_store) = self.in_store.as_ref().filter(|in_store| in_store.is_kept) {
            in_store.store.remove(in_store.name).await?;
            self.note_kept(false);
            if let Some(in_store) = &mut self.in_store {
                in_store.keep_at = Instant::now();
            }
        }
        Ok(())
    }

    /// A cell that was kept goes on asleep.
    pub(super) fn sleep_on(&mut self, name: KeptName, image: Image, timer: Option<Armed>) {
        let store = self.session.store();
        let keep_at = Instant::now();
        self.in_store =
            store.map(|store| InStore { store, name, is_kept: true, is_reported: false, keep_at });
        let engine = self.session.engine.clone();
        let is_large = image.memory() > LARGE as u64;
        let pack = move || Packed::of(&image, engine.dictionary());
        self.guest = Guest::Moving(Box::pin(async move {
            let packed = if is_large {
                match tokio::task::spawn_blocking(pack).await {
                    Ok(packed) => packed,
                    // The runtime is shutting down, and the cell with it.
                    Err(_) => std::future::pending().await,
                }
            } else {
                pack()
            };
            let to = Ok(Place::Asleep { packed, timer, is_kept: true });
            Moved { to, took: Duration::ZERO }
        }));
    }
}
