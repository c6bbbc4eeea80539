//! A cell that waits gives its sandbox up, and takes one when something comes for it.
//!
//! Between two steps the guest's stack is empty, so its memory is all there is of it: the bytes
//! in which that differs from a fresh guest's, compressed. The program cannot notice, for
//! neither its fuel nor its time counts what moving takes.

use super::super::engine::Engine;
use super::super::park::{Image, Packed};
use super::super::sandbox::{Finished, Sandbox};
use super::Cell;
use super::busy::timed;
use super::end::Stage;
use super::guest::{Armed, Body, Guest, Working};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// Guests with more memory are packed, and images with more bytes unpacked, where that holds
/// nobody up.
pub(super) const LARGE: usize = 4 << 20;

/// A guest on its way to a sandbox, or out of one.
pub(super) type Moving = Pin<Box<dyn Future<Output = Moved> + Send>>;

/// Where a guest has come to.
pub(super) struct Moved {
    /// Its place, or how it has ended on the way.
    pub(super) to: Result<Place, Finished>,
    /// How long this was at work on the cell's time, which is not the program's.
    pub(super) took: Duration,
}

/// Where a guest is.
pub(super) enum Place {
    /// It has a sandbox to begin in.
    Begun(Working),
    /// It is at rest in a sandbox.
    Awake(Box<Sandbox>, Option<Armed>),
    /// It is at rest without one.
    Asleep {
        packed: Packed,
        timer: Option<Armed>,
        /// Its session's store has the cell.
        is_kept: bool,
    },
}

/// What a guest is to be made again from.
pub(super) enum Kept {
    Packed(Packed),
    Plain(Image),
}

impl Kept {
    async fn image(self, engine: &Engine) -> wasmtime::Result<Image> {
        match self {
            Self::Plain(image) => Ok(image),
            Self::Packed(packed) if packed.plain_bytes() > LARGE => {
                let engine = engine.clone();
                Ok(spawn_blocking(move || packed.image(engine.dictionary())).await??)
            }
            Self::Packed(packed) => Ok(packed.image(engine.dictionary())?),
        }
    }
}

impl Cell {
    /// The guest is at rest in its sandbox, which it keeps for a while.
    pub(super) fn rest(&mut self, sandbox: Box<Sandbox>, timer: Option<Armed>) {
        let engine = &self.session.engine;
        let sleeps_at = engine.sleeps_after().and_then(|after| {
            let keeps = if engine.slots().are_wanted() { Duration::ZERO } else { after };
            Instant::now().checked_add(keeps)
        });
        self.guest = Guest::Resting { body: Body::Awake { sandbox, sleeps_at }, timer };
    }

    /// The guest gives its sandbox up, if it is at rest in one, and is kept where the session has
    /// a store.
    pub(super) fn fall_asleep(&mut self) {
        let began = std::time::Instant::now();
        match std::mem::replace(&mut self.guest, Guest::Gone) {
            Guest::Resting { body: Body::Awake { sandbox, .. }, timer } => {
                let keeper = self.keeper(timer);
                let engine = self.session.engine.clone();
                let pack = move || pack(sandbox, timer, &engine);
                let packing: Moving = if self.outbox.spent().peak_memory > LARGE {
                    let packing = spawn_blocking(pack);
                    Box::pin(async move {
                        match packing.await {
                            Ok(moved) => moved,
                            // The runtime is shutting down, and the cell with it.
                            Err(_) => std::future::pending().await,
                        }
                    })
                } else {
                    Box::pin(std::future::ready(pack()))
                };
                self.guest = Guest::Moving(match keeper {
                    None => packing,
                    Some(keeper) => Box::pin(async move { keeper.keep(packing.await).await }),
                });
            }
            Guest::Resting { body: Body::Asleep(packed), timer } => match self.keeper(timer) {
                None => self.guest = Guest::Resting { body: Body::Asleep(packed), timer },
                Some(keeper) => {
                    let to = Ok(Place::Asleep { packed, timer, is_kept: false });
                    let keeping = keeper.keep(Moved { to, took: Duration::ZERO });
                    self.guest = Guest::Moving(Box::pin(keeping));
                }
            },
            guest => self.guest = guest,
        }
        // It is not the program's time. It does count for when the task lets others run.
        self.busy.exclude(began.elapsed());
    }

    /// The guest of an image takes a sandbox. With a seed, its `Math.random` goes on from there.
    pub(super) fn rouse(&mut self, kept: Kept, seed: Option<u64>, timer: Option<Armed>) {
        let (engine, imports) = (self.session.engine.clone(), self.imports());
        let (fuel, taking) = (self.outbox.fuel_of_steps(), self.taking());
        let rousing = async move {
            if let Some(taking) = taking {
                taking.await.map_err(|error| cannot_wake(&error))?;
            }
            let slot = engine.slots().take().await.map_err(Finished::stopped_at)?;
            let woken = async {
                let image = kept.image(&engine).await?;
                Sandbox::wake(&engine, imports, slot, image, fuel, seed).await
            };
            match woken.await {
                Ok(sandbox) => Ok(Place::Awake(Box::new(sandbox), timer)),
                Err(error) => Err(cannot_wake(&error)),
            }
        };
        self.guest = Guest::Moving(Box::pin(async move {
            let (to, took) = timed(rousing).await;
            Moved { to, took }
        }));
    }

    /// The guest has come to where it was on its way to.
    pub(super) fn moved(&mut self, moved: Moved) -> Stage {
        let Moved { to, took } = moved;
        self.busy.exclude(took);
        match to {
            Ok(Place::Begun(working)) => self.guest = Guest::Running(working),
            Ok(Place::Awake(sandbox, timer)) => {
                self.note_kept(false);
                self.rest(sandbox, timer);
            }
            Ok(Place::Asleep { packed, timer, is_kept }) => {
                self.note_kept(is_kept);
                self.guest = Guest::Resting { body: Body::Asleep(packed), timer };
            }
            Err(finished) => return self.finish(finished),
        }
        Stage::Running
    }
}

/// How a cell ends that cannot be woken.
fn cannot_wake(error: &wasmtime::Error) -> Finished {
    tracing::error!("a cell cannot be woken: {error:#}");
    let error_text = format!("failed to wake the cell: {error:#}");
    Finished::Failed { error_text, stored: Vec::new(), hint: None }
}

/// Packs a guest and gives its sandbox up.
fn pack(mut sandbox: Box<Sandbox>, timer: Option<Armed>, engine: &Engine) -> Moved {
    let to = match sandbox.image(engine.pristine()) {
        Ok(image) => {
            drop(sandbox);
            let packed = Packed::of(&image, engine.dictionary());
            Ok(Place::Asleep { packed, timer, is_kept: false })
        }
        Err(error) => {
            tracing::error!("the guest broke when it was to sleep: {error:#}");
            Err(Finished::Broken)
        }
    };
    Moved { to, took: Duration::ZERO }
}
