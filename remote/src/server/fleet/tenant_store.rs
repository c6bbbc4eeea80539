//! The store as a worker uses it for one tenant: who has each of its cells, and how a cell changes
//! hands.
//!
//! A record changes hands by compare-and-swap alone, and each time its epoch grows by one. So of
//! two workers that want a cell one has it, and a worker that was paused finds that it has the
//! cell no more: what it would write names a record that is not the newest.

use super::super::session::{Held, KeepError, Keeper};
use super::bounds::Share;
use super::store::{ATTEMPT, NotWritten, Record, State, Store};
use crate::nats::is_token;
use crate::nats::listing::KeptCell;
use crate::protocol::SeamKeep;
use async_trait::async_trait;
use cellblock::{ParkError, ParkedCell};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long something is tried: a new leader takes some seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before something is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Stands in names for a tenant or a session that has none: no name has it.
const NOBODY: &str = "=";

/// Longest id that a client may give a cell, in bytes.
const MAX_ID_BYTES: usize = 64;

/// The store, as a worker uses it for a tenant.
pub(super) struct TenantStore {
    store: Arc<Store>,
    tenant: String,
    /// Cancelled when a client has chosen this worker.
    chosen: CancellationToken,
}

impl TenantStore {
    /// The store, for a tenant. Cells are taken for a client that has `chosen` this worker.
    pub(super) fn new(store: &Arc<Store>, tenant: &str, chosen: CancellationToken) -> Self {
        Self { store: Arc::clone(store), tenant: name(Some(tenant)).to_owned(), chosen }
    }

    /// The name of a cell's record.
    fn key(&self, keep: &SeamKeep) -> Result<String, KeepError> {
        let session = name(keep.session.as_deref());
        let is_sound = is_token(&keep.cell) && (session == NOBODY || is_token(session));
        if !is_sound || !is_token(&keep.client) || keep.id.as_ref().len() > MAX_ID_BYTES {
            return Err(ParkError::NotKept.into());
        }
        Ok(format!("{}.{session}.{}", self.tenant, keep.cell))
    }

    /// The names of a session's cells that have records.
    pub(super) async fn names(&self, session: &str) -> Result<Vec<String>, String> {
        self.store.names(&format!("{}.{session}", self.tenant)).await
    }

    /// A cell of a session, if it is kept.
    pub(super) async fn kept(
        &self,
        session: &str,
        cell: String,
    ) -> Result<Option<KeptCell>, String> {
        let key = format!("{}.{session}.{cell}", self.tenant);
        let record = self.store.read(&key).await?.map(|(record, _)| record);
        let record = record.filter(|record| record.state == State::Parked);
        Ok(record.map(|Record { id, class, .. }| KeptCell { cell, id, class }))
    }

    /// A record that this worker writes.
    fn record(&self, keep: &SeamKeep, state: State, epoch: u64) -> Record {
        Record {
            state,
            epoch,
            worker: self.store.worker.clone(),
            client: keep.client.clone(),
            id: keep.id.clone(),
            class: self.store.class.clone(),
            object: None,
            bytes: 0,
        }
    }

    /// The cell in an object that a record names. A server that is behind may not have it yet.
    async fn parked(&self, object: &str) -> Result<ParkedCell, KeepError> {
        let until = Instant::now() + ATTEMPT;
        loop {
            match self.store.bytes(object).await {
                Ok(Some(bytes)) => return Ok(ParkedCell::from_bytes(bytes)?),
                Ok(None) if Instant::now() > until => return Err(ParkError::NotKept.into()),
                Err(error @ KeepError::Park(_)) => return Err(error),
                Err(error) if Instant::now() > until => return Err(error),
                Ok(None) | Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn make_room(&self, more: Share) -> Result<(), KeepError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.store.make_room(&self.tenant, more).await {
                Err(KeepError::Failed(_)) if Instant::now() < until => sleep(PAUSE).await,
                made => return made,
            }
        }
    }

    async fn put(&self, object: &str, cell: &ParkedCell) -> Result<(), KeepError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.store.put(object, cell.as_bytes()).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(KeepError::Failed(error)),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Writes a record until it is known whether it was written. After a failure it may have
    /// been, so a conflict is looked into then.
    async fn write(
        &self,
        key: &str,
        record: &Record,
        after: Option<u64>,
    ) -> Result<u64, KeepError> {
        let (until, mut is_first) = (Instant::now() + PATIENCE, true);
        loop {
            let error = match self.store.write(key, record, after).await {
                Ok(revision) => return Ok(revision),
                Err(NotWritten::Conflict) if is_first => return Err(ParkError::NotKept.into()),
                Err(NotWritten::Conflict) => match self.store.read(key).await {
                    Ok(Some((now, revision))) if now == *record => return Ok(revision),
                    // A server that is behind has an older one.
                    Ok(now)
                        if now.as_ref().map_or(0, |(_, revision)| *revision)
                            > after.unwrap_or(0) =>
                    {
                        return Err(ParkError::NotKept.into());
                    }
                    Ok(_) => "the newest record cannot be read".to_owned(),
                    Err(error) => error,
                },
                Err(NotWritten::Failed(error)) => error,
            };
            if Instant::now() > until {
                return Err(KeepError::Failed(error));
            }
            is_first = false;
            sleep(PAUSE).await;
        }
    }

    /// Tries once to take a cell; `None` where another has changed its record meanwhile. `tried`
    /// is what an attempt before has written, if it has written it.
    async fn try_take(
        &self,
        key: &str,
        keep: &SeamKeep,
        own: Option<&ParkedCell>,
        tried: &mut Option<(Record, ParkedCell)>,
    ) -> Result<Option<(ParkedCell, Option<Held>)>, KeepError> {
        let (before, after) = self.store.read(key).await.map_err(KeepError::Failed)?.unzip();
        if let (Some(before), Some(revision), Some((record, cell))) = (&before, after, &*tried)
            && before == record
        {
            return Ok(Some((cell.clone(), Some(held(record, revision)))));
        }
        if before.is_none() {
            let one = Share { cells: 1, bytes: 0 };
            match (self.store.make_room(&self.tenant, one).await, own) {
                (Err(KeepError::Full), Some(own)) => return Ok(Some((own.clone(), None))),
                (Err(KeepError::Full), None) => return Err(ParkError::NotKept.into()),
                (made, _) => made?,
            }
        }
        let is_clients = before.as_ref().is_none_or(|record| record.client == keep.client);
        let epoch = before.as_ref().map_or(0, |record| record.epoch) + 1;
        let object = before.as_ref().and_then(|record| record.object.clone());
        let bytes = before.as_ref().map_or(0, |record| record.bytes);
        let cell = match (before.map(|record| record.state), own) {
            (Some(State::Lost), _) => return Err(ParkError::NotKept.into()),
            (Some(State::Awake), _) if !is_clients => return Err(ParkError::NotKept.into()),
            (_, Some(own)) => Some(own.clone()),
            (Some(State::Parked), None) => match &object {
                Some(object) => Some(self.parked(object).await?),
                None => return Err(ParkError::NotKept.into()),
            },
            // Its client has lost the worker that has it.
            (Some(State::Awake) | None, None) => None,
        };
        let state = if cell.is_some() { State::Awake } else { State::Lost };
        let record = Record { object, bytes, ..self.record(keep, state, epoch) };
        *tried = cell.clone().map(|cell| (record.clone(), cell));
        match (self.store.write(key, &record, after).await, cell) {
            (Ok(revision), Some(cell)) => Ok(Some((cell, Some(held(&record, revision))))),
            (Ok(_), None) => Err(ParkError::NotKept.into()),
            (Err(NotWritten::Conflict), _) => Ok(None),
            (Err(NotWritten::Failed(error)), _) => Err(KeepError::Failed(error)),
        }
    }
}

#[async_trait]
impl Keeper for TenantStore {
    fn class(&self) -> &str {
        &self.store.class
    }

    async fn keep(
        &self,
        keep: &SeamKeep,
        held: Option<Held>,
        cell: &ParkedCell,
    ) -> Result<(), KeepError> {
        let key = self.key(keep)?;
        let bytes = cell.as_bytes().len() as u64;
        let more = match &held {
            Some(held) => Share { cells: 0, bytes: bytes.saturating_sub(held.bytes) },
            None => Share { cells: 1, bytes },
        };
        self.make_room(more).await?;
        let epoch = held.as_ref().map_or(0, |held| held.epoch) + 1;
        // Another name each time: a server that is behind cannot give older bytes.
        let object = format!("{}/{}/{epoch}", self.tenant, keep.cell);
        self.put(&object, cell).await?;
        let record = self.record(keep, State::Parked, epoch);
        let record = Record { object: Some(object.clone()), bytes, ..record };
        let written = self.write(&key, &record, held.map(|held| held.revision)).await;
        if matches!(written, Err(KeepError::Park(_))) {
            self.store.delete(&object).await;
        }
        written.map(drop)
    }

    async fn take(
        &self,
        keep: &SeamKeep,
        own: Option<ParkedCell>,
        gone: &CancellationToken,
    ) -> Result<(ParkedCell, Option<Held>), KeepError> {
        let key = self.key(keep)?;
        // A worker that was paused reads old messages: another may have the cell by now.
        tokio::select! {
            biased;
            () = gone.cancelled() => return Err(ParkError::NotKept.into()),
            () = self.chosen.cancelled() => {}
        }
        let (until, mut tried) = (Instant::now() + PATIENCE, None);
        loop {
            let error = match self.try_take(&key, keep, own.as_ref(), &mut tried).await {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) => "its record changes again and again".to_owned(),
                Err(KeepError::Failed(error)) => error,
                Err(error) => return Err(error),
            };
            if Instant::now() > until {
                return Err(KeepError::Failed(error));
            }
            sleep(PAUSE).await;
        }
    }

    async fn woken(&self, held: &Held) {
        if let Some(object) = &held.object {
            self.store.delete(object).await;
        }
    }

    async fn put_back(&self, keep: &SeamKeep, held: Held) {
        let (Ok(key), Some(object)) = (self.key(keep), held.object) else { return };
        let record = self.record(keep, State::Parked, held.epoch + 1);
        let record = Record { object: Some(object), bytes: held.bytes, ..record };
        if let Err(error) = self.write(&key, &record, Some(held.revision)).await {
            tracing::warn!("a cell that could not be woken was not put back: {error}");
        }
    }

    async fn ended(&self, keep: &SeamKeep) {
        let Ok(key) = self.key(keep) else { return };
        // No worker has the cell now, so none can bring it back.
        self.store.remove(&key).await;
    }
}

/// What a worker has of a cell that it has taken by a record.
fn held(record: &Record, revision: u64) -> Held {
    let Record { epoch, object, bytes, .. } = record.clone();
    Held { revision, epoch, object, bytes }
}

/// A tenant or a session in a name.
fn name(name: Option<&str>) -> &str {
    name.filter(|name| !name.is_empty()).unwrap_or(NOBODY)
}
