//! Where a fleet keeps cells that wait: their bytes are objects, and a record for each says who
//! has it.

use super::super::session::KeepError;
use super::bounds::{Bounds, Share};
use crate::nats::{NatsError, buckets, random_id};
use crate::protocol::MAX_PARKED_BYTES;
use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, UpdateErrorKind};
use async_nats::jetstream::object_store::{self, GetErrorKind, ObjectStore};
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use cellblock::{CellId, ParkError};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The bucket of the records.
const CELLS: &str = "cb-cells";

/// The bucket of the cells' bytes.
const PARKED: &str = "cb-parked";

/// How long one attempt may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(3);

/// Records that are read at one time.
const BATCH: usize = 500;

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
    /// The worker's name.
    pub(super) worker: String,
    /// The class of workers that can wake what this one keeps.
    pub(super) class: String,
    bounds: Bounds,
    /// Looks at what a tenant has, of which there is one at a time.
    looks: Semaphore,
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
pub(super) enum NotWritten {
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

    /// The newest record of a name, and its number.
    pub(super) async fn read(&self, key: &str) -> Result<Option<(Record, u64)>, String> {
        let entry = attempt(self.records.entry(key)).await?;
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&entry.value).map_err(|error| error.to_string())?;
        Ok(Some((record, entry.revision)))
    }

    /// Writes a record after the one with the number `after`, or as the first; its number.
    pub(super) async fn write(
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
    pub(super) async fn bytes(&self, object: &str) -> Result<Option<Vec<u8>>, KeepError> {
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
    pub(super) async fn delete(&self, object: &str) {
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

    /// Puts an object, whose name no other has had.
    pub(super) async fn put(&self, object: &str, mut bytes: &[u8]) -> Result<(), String> {
        attempt(self.objects.put(object, &mut bytes)).await.map(drop)
    }

    /// Removes a record without a trace.
    pub(super) async fn remove(&self, key: &str) {
        let purging = self.records.stream.purge().filter(format!("$KV.{CELLS}.{key}"));
        // What is left ends with its time.
        if let Err(error) = attempt(async { purging.await }).await {
            tracing::debug!("the record of a cell that has ended was not removed: {error}");
        }
    }

    /// The last parts of the names of the records whose names begin with `prefix`.
    pub(super) async fn names(&self, prefix: &str) -> Result<Vec<String>, String> {
        let prefix = format!("$KV.{CELLS}.{prefix}.");
        let stream = &self.records.stream;
        let mut info = attempt(stream.info_with_subjects(format!("{prefix}*"))).await?;
        let mut names = Vec::new();
        while let Some((subject, _)) = attempt(info.try_next()).await? {
            names.extend(subject.strip_prefix(&prefix).map(str::to_owned));
        }
        Ok(names)
    }

    /// Makes room for what a tenant is about to add, or says that there is none.
    pub(super) async fn make_room(&self, tenant: &str, more: Share) -> Result<(), KeepError> {
        let mut has_room = self.bounds.add(tenant, more);
        if has_room.is_none() {
            // Who waits for another's look finds what it has seen.
            let _look = attempt(self.looks.acquire()).await.map_err(KeepError::Failed)?;
            has_room = self.bounds.add(tenant, more);
            if has_room.is_none() {
                let share = self.share(tenant).await.map_err(KeepError::Failed)?;
                self.bounds.learn(tenant, share);
                has_room = self.bounds.add(tenant, more);
            }
        }
        if has_room == Some(true) { Ok(()) } else { Err(KeepError::Full) }
    }

    /// What a tenant has, by its records.
    async fn share(&self, tenant: &str) -> Result<Share, String> {
        // A consumer ends by itself soon after it was read.
        let config = pull::Config {
            // With a name, what it may read is in the subject by which it is made.
            name: Some(random_id()),
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

/// One attempt, and why it failed.
async fn attempt<T, E: fmt::Display>(
    trying: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match timeout(ATTEMPT, trying).await {
        Ok(tried) => tried.map_err(|error| error.to_string()),
        Err(late) => Err(late.to_string()),
    }
}
