//! Where a fleet keeps cells that wait: their bytes are objects, and a record for each says who
//! has it.
//!
//! A record changes hands by compare-and-swap alone, and each time its epoch grows by one. So of
//! two workers that want a cell one has it, and a worker that was paused finds that it has the
//! cell no more: what it would write names a record that is not the newest.

use super::super::session::{Held, KeepError, Keeper};
use super::bounds::{Bounds, Share};
use crate::nats::listing::KeptCell;
use crate::nats::{NatsError, buckets, is_token};
use crate::protocol::{MAX_PARKED_BYTES, SeamKeep};
use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, UpdateErrorKind};
use async_nats::jetstream::object_store::{self, GetErrorKind, ObjectStore};
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use cellblock::{CellId, ParkError, ParkedCell};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// The bucket of the records.
const CELLS: &str = "cb-cells";

/// The bucket of the cells' bytes.
const PARKED: &str = "cb-parked";

/// How long something is tried: a new leader takes some seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(3);

/// How long to wait before something is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Records that are read at one time.
const BATCH: usize = 500;

/// Stands in names for a tenant or a session that has none: no name has it.
const NOBODY: &str = "=";

/// How a fleet keeps cells.
#[derive(Clone, Debug)]
pub struct FleetParking {
    /// The class of the workers that can wake each other's cells: they have the same sandbox and
    /// the same key.
    pub class: String,
    /// Copies of each cell, where there are so many NATS servers.
    pub replicas: usize,
    /// Bytes that the parked cells of all tenants may take on each server; NATS reserves them.
    pub bytes: u64,
    /// Bytes that the parked cells of a tenant may take on each server. Those of a cell that was
    /// woken count until it has ended, or is parked again.
    pub bytes_per_tenant: u64,
    /// Cells of a tenant that are parked, were woken and have not ended, or were lost and are
    /// remembered. As each worker counts for itself, a few more are possible.
    pub cells_per_tenant: usize,
    /// How long a cell is kept that nobody wakes: as long as a cell may live.
    pub keeps_for: Duration,
    /// How long nothing of a cell may have begun or ended before it is kept.
    pub parks_after: Duration,
}

/// The store, as a worker uses it.
pub(super) struct Store {
    records: kv::Store,
    objects: ObjectStore,
    /// The stream of the objects.
    chunks: Stream,
    worker: String,
    class: String,
    bounds: Bounds,
    /// Looks at what a tenant has, of which there is one at a time.
    looks: Semaphore,
}

/// The store, as a worker uses it for a tenant.
pub(super) struct TenantStore {
    store: Arc<Store>,
    tenant: String,
}

/// Who has a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) state: State,
    /// How often the cell has changed hands.
    pub(super) epoch: u64,
    /// The worker that has written this.
    pub(super) worker: String,
    /// The client whose cell it is.
    pub(super) client: String,
    /// The client's id of the cell.
    pub(super) id: CellId,
    /// The class of workers that can wake it.
    pub(super) class: String,
    /// The object with its bytes, of one that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) object: Option<String>,
    /// The length of the object.
    #[serde(default)]
    pub(super) bytes: u64,
}

/// What is known of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// The store has it.
    Parked,
    /// The worker has it.
    Awake,
    /// Its client has lost it: no worker may bring it back.
    Lost,
}

/// Why a record was not written.
enum NotWritten {
    /// Another one was.
    Conflict,
    Failed(String),
}

impl Store {
    /// Makes the buckets where there are none.
    pub(super) async fn open(
        client: &Client,
        worker: &str,
        parking: &FleetParking,
    ) -> Result<Arc<Self>, NatsError> {
        let context = async_nats::jetstream::new(client.clone());
        let records = kv::Config {
            bucket: CELLS.to_owned(),
            description: "Who has which of Cellblock's cells".to_owned(),
            num_replicas: parking.replicas,
            max_age: parking.keeps_for,
            ..kv::Config::default()
        };
        let objects = object_store::Config {
            bucket: PARKED.to_owned(),
            description: Some("Cellblock's parked cells".to_owned()),
            max_bytes: i64::try_from(parking.bytes).unwrap_or(i64::MAX),
            num_replicas: parking.replicas,
            max_age: parking.keeps_for,
            ..object_store::Config::default()
        };
        let failed = |error: &dyn fmt::Display| NatsError::Failed(error.to_string());
        let records = buckets::records(&context, records).await?;
        let objects = buckets::objects(&context, objects).await?;
        let chunks = context.get_stream(format!("OBJ_{PARKED}")).await;
        let chunks = chunks.map_err(|error| failed(&error))?;
        Ok(Arc::new(Self {
            records,
            objects,
            chunks,
            worker: worker.to_owned(),
            class: parking.class.clone(),
            bounds: Bounds::new(Share {
                cells: parking.cells_per_tenant,
                bytes: parking.bytes_per_tenant,
            }),
            looks: Semaphore::new(1),
        }))
    }

    /// The store, for a tenant.
    pub(super) fn of(self: &Arc<Self>, tenant: &str) -> TenantStore {
        TenantStore { store: Arc::clone(self), tenant: name(Some(tenant)).to_owned() }
    }

    /// The newest record of a name, and its number.
    async fn read(&self, key: &str) -> Result<Option<(Record, u64)>, String> {
        let entry = attempt(self.records.entry(key)).await?;
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&entry.value).map_err(|error| error.to_string())?;
        Ok(Some((record, entry.revision)))
    }

    /// Writes a record after the one with the number `after`, or as the first; its number.
    async fn write(
        &self,
        key: &str,
        record: &Record,
        after: Option<u64>,
    ) -> Result<u64, NotWritten> {
        let failed = |error: &dyn fmt::Display| NotWritten::Failed(error.to_string());
        let json = serde_json::to_vec(record).map_err(|error| failed(&error))?;
        let writing = async {
            match after {
                None => self.records.create(key, json.into()).await.map_err(|error| {
                    match error.kind() {
                        CreateErrorKind::AlreadyExists => NotWritten::Conflict,
                        _ => failed(&error),
                    }
                }),
                Some(after) => {
                    self.records.update(key, json.into(), after).await.map_err(|error| match error
                        .kind()
                    {
                        UpdateErrorKind::WrongLastRevision => NotWritten::Conflict,
                        _ => failed(&error),
                    })
                }
            }
        };
        timeout(ATTEMPT, writing).await.unwrap_or_else(|late| Err(failed(&late)))
    }

    /// The bytes of an object; `None` where there is none.
    async fn bytes(&self, object: &str) -> Result<Option<Vec<u8>>, KeepError> {
        let failed = |error: &dyn fmt::Display| KeepError::Failed(error.to_string());
        let reading = async {
            let object = match self.objects.get(object).await {
                Ok(object) => object,
                Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(&error)),
            };
            let info = object.info();
            if info.chunks <= 1 {
                // Most have one, and are there at once without a consumer.
                let chunk = format!("$O.{PARKED}.C.{}", info.nuid);
                return match self.chunks.direct_get_last_for_subject(chunk).await {
                    Ok(message) => Ok(Some(message.payload.into())),
                    Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
                    Err(error) => Err(failed(&error)),
                };
            }
            let mut bytes = Vec::new();
            let most = MAX_PARKED_BYTES as u64 + 1;
            match object.take(most).read_to_end(&mut bytes).await {
                Ok(_) => Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    Err(ParkError::Damaged.into())
                }
                Err(error) => Err(failed(&error)),
            }
        };
        timeout(ATTEMPT, reading).await.unwrap_or_else(|late| Err(failed(&late)))
    }

    /// Removes an object without a trace: no other will have its name.
    async fn delete(&self, object: &str) {
        let deleting = async {
            let info = self.objects.info(object).await.map_err(|error| error.to_string())?;
            let name = BASE64_URL_SAFE.encode(object);
            for subject in [format!("$O.{PARKED}.M.{name}"), format!("$O.{PARKED}.C.{}", info.nuid)]
            {
                let purging = self.chunks.purge().filter(subject);
                purging.await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        };
        // What is left ends with its time.
        if let Err(error) = attempt(deleting).await {
            tracing::debug!("a cell's bytes were not removed: {error}");
        }
    }

    /// What a tenant has, by its records.
    async fn share(&self, tenant: &str) -> Result<Share, String> {
        // A consumer ends by itself soon after it was read.
        let config = pull::Config {
            filter_subject: format!("$KV.{CELLS}.{tenant}.>"),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::None,
            inactive_threshold: ATTEMPT,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = attempt(self.records.stream.create_consumer(config)).await?;
        let mut share = Share::default();
        loop {
            let batch = attempt(consumer.fetch().max_messages(BATCH).messages()).await?;
            let records = attempt(batch.try_collect::<Vec<_>>()).await?;
            for record in &records {
                let record = serde_json::from_slice::<Record>(&record.payload);
                share.cells += 1;
                share.bytes += record.map_or(0, |record| record.bytes);
            }
            if records.len() < BATCH {
                return Ok(share);
            }
        }
    }
}

impl TenantStore {
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
        let prefix = format!("$KV.{CELLS}.{}.{session}.", self.tenant);
        let stream = &self.store.records.stream;
        let mut info = attempt(stream.info_with_subjects(format!("{prefix}*"))).await?;
        let mut names = Vec::new();
        while let Some((subject, _)) = attempt(info.try_next()).await? {
            names.extend(subject.strip_prefix(&prefix).map(str::to_owned));
        }
        Ok(names)
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

    /// Makes room for what the tenant is about to add, or says that there is none.
    async fn make_room(&self, more: Share) -> Result<(), KeepError> {
        let bounds = &self.store.bounds;
        let mut has_room = bounds.add(&self.tenant, more);
        if has_room.is_none() {
            // Who waits for another's look finds what it has seen.
            let _look = self.store.looks.acquire().await;
            has_room = bounds.add(&self.tenant, more);
            if has_room.is_none() {
                let share = self.store.share(&self.tenant).await.map_err(KeepError::Failed)?;
                bounds.learn(&self.tenant, share);
                has_room = bounds.add(&self.tenant, more);
            }
        }
        if has_room == Some(true) { Ok(()) } else { Err(KeepError::Full) }
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

    async fn put(&self, object: &str, cell: &ParkedCell) -> Result<(), KeepError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut bytes = cell.as_bytes();
            match attempt(self.store.objects.put(object, &mut bytes)).await {
                Ok(_) => return Ok(()),
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
            match (self.make_room(Share { cells: 1, bytes: 0 }).await, own) {
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

/// Longest id that a client may give a cell, in bytes.
const MAX_ID_BYTES: usize = 64;

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
    ) -> Result<(ParkedCell, Option<Held>), KeepError> {
        let key = self.key(keep)?;
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
        // Without a trace: no worker has the cell now, so none can bring it back.
        let purging = self.store.records.stream.purge().filter(format!("$KV.{CELLS}.{key}"));
        // What is left ends with its time.
        if let Err(error) = attempt(async { purging.await }).await {
            tracing::debug!("the record of a cell that has ended was not removed: {error}");
        }
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

/// One attempt, and why it failed.
async fn attempt<T, E: fmt::Display>(
    trying: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match timeout(ATTEMPT, trying).await {
        Ok(tried) => tried.map_err(|error| error.to_string()),
        Err(late) => Err(late.to_string()),
    }
}
