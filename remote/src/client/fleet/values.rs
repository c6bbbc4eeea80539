//! The stored values of a session, kept by NATS in the account of its client.
//!
//! What a cell wrote is one *commit*: a record under the cell's own random name, made with the
//! condition that there is none. So it is made once, however often it is tried, and the numbers
//! that `JetStream` gives to records are the order of the commits. After it each key is written,
//! with the commit's number, unless a later commit has written it; then the record is removed.
//! A client that dies in between leaves the record, and the next reader finishes the work.

use crate::nats::{NatsError, REPLICAS, buckets};
use async_nats::Client;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::object_store::{self, ObjectStore};
use cellblock::support::lock;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

/// The bucket of keys and commits.
const BUCKET: &str = "cb-store";

/// The bucket of bodies that are too large for a record.
const BODIES: &str = "cb-store-bodies";

/// Bytes of a record; a longer body is an object.
const INLINE: usize = 512 << 10;

/// Bytes of a body, as they may be read.
const BODY: usize = crate::protocol::MAX_STORED_BYTES * 2;

/// How long a commit or a reading is tried: a new leader takes some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one attempt to read all values may take.
const READ: Duration = Duration::from_secs(10);

/// How long to wait before something is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// The values of a session.
pub(super) struct SessionValues {
    keys: Store,
    bodies: ObjectStore,
    session: String,
    /// The values as this client knows them: what it has committed it sees, also where it reads
    /// from a server that is behind.
    known: Mutex<HashMap<String, Value>>,
}

/// A value, and the number of the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Value {
    commit: u64,
    json: Arc<str>,
}

/// A record of a key. Its name in NATS is made of the key's hash.
#[derive(Debug, Serialize, Deserialize)]
struct KeyRecord {
    key: String,
    commit: u64,
    body: Body<Arc<str>>,
}

/// A record of a commit.
#[derive(Debug, Serialize, Deserialize)]
struct CommitRecord {
    body: Body<BTreeMap<String, Arc<str>>>,
}

/// What a record carries, or where it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Body<T> {
    Inline(T),
    /// An object, and the SHA-256 of its bytes.
    Object {
        name: String,
        digest: String,
    },
}

impl SessionValues {
    /// The values of a session. Makes the buckets where there are none.
    pub(super) async fn open(client: &Client, session: &str) -> Result<Self, NatsError> {
        let context = async_nats::jetstream::new(client.clone());
        let keys = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "Stored values of Cellblock's sessions".to_owned(),
            num_replicas: REPLICAS,
            ..kv::Config::default()
        };
        let bodies = object_store::Config {
            bucket: BODIES.to_owned(),
            num_replicas: REPLICAS,
            ..object_store::Config::default()
        };
        let keys = buckets::records(&context, keys).await?;
        let bodies = buckets::objects(&context, bodies).await?;
        Ok(Self { keys, bodies, session: session.to_owned(), known: Mutex::default() })
    }

    /// The values now. Finishes what others have begun.
    pub(super) async fn read(&self) -> Result<BTreeMap<String, Arc<str>>, NatsError> {
        let until = Instant::now() + PATIENCE;
        loop {
            // A consumer whose server has died may say nothing.
            let error = match timeout(READ, self.try_read()).await {
                Ok(Ok(values)) => return Ok(values),
                Ok(Err(error)) => error,
                Err(_) => failed(format!("no answer within {} s", READ.as_secs())),
            };
            if Instant::now() > until {
                return Err(error);
            }
            tracing::debug!("values are read again: {error}");
            sleep(PAUSE).await;
        }
    }

    async fn try_read(&self) -> Result<BTreeMap<String, Arc<str>>, NatsError> {
        let (keys, commits) = self.records().await?;
        for record in keys {
            let json = self.fetch(record.body).await?;
            self.learn(record.key, Value { commit: record.commit, json });
        }
        // In their order.
        for (number, (name, record)) in commits {
            let written = self.fetch(record.body).await?;
            self.finish(number, &name, &written).await?;
            self.learn_all(number, &written);
        }
        let known = lock(&self.known);
        Ok(known.iter().map(|(key, value)| (key.clone(), Arc::clone(&value.json))).collect())
    }

    /// Merges what a cell wrote. The cell's name is its own and random: so it is merged once,
    /// whatever fails.
    pub(super) async fn commit(
        &self,
        cell: &str,
        written: BTreeMap<String, Arc<str>>,
    ) -> Result<(), NatsError> {
        let name = format!("{}.commit.{cell}", self.session);
        let until = Instant::now() + PATIENCE;
        let number = loop {
            match self.try_commit(&name, cell, &written).await {
                Ok(number) => break number,
                Err(error) if Instant::now() > until => return Err(error),
                Err(error) => {
                    tracing::debug!("a commit is tried again: {error}");
                    sleep(PAUSE).await;
                }
            }
        };
        self.learn_all(number, &written);
        // It is committed: a reader finishes what fails here.
        if let Err(error) = self.finish(number, &name, &written).await {
            tracing::warn!("a commit is left for the next reader: {error}");
        }
        Ok(())
    }

    async fn try_commit(
        &self,
        name: &str,
        cell: &str,
        written: &BTreeMap<String, Arc<str>>,
    ) -> Result<u64, NatsError> {
        let object = format!("{}/commit/{cell}", self.session);
        let body = self.keep(written, &object).await?;
        let record = encode(&CommitRecord { body })?;
        match self.keys.create(name, record.into()).await {
            Ok(number) => Ok(number),
            // An earlier attempt has made it, and its answer was lost.
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
                let entry = self.keys.entry(name).await.map_err(failed)?;
                entry.map(|entry| entry.revision).ok_or_else(|| failed("a commit is gone"))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes the keys of a commit, and removes its record.
    async fn finish(
        &self,
        number: u64,
        name: &str,
        written: &BTreeMap<String, Arc<str>>,
    ) -> Result<(), NatsError> {
        for (key, json) in written {
            self.put(number, key, json).await?;
        }
        self.keys.purge(name).await.map_err(failed)?;
        let cell = name.rsplit('.').next().unwrap_or_default();
        // Most have none.
        let _ = self.bodies.delete(format!("{}/commit/{cell}", self.session)).await;
        Ok(())
    }

    /// Writes a key, unless a later commit has.
    async fn put(&self, number: u64, key: &str, json: &Arc<str>) -> Result<(), NatsError> {
        let hash = hash(key.as_bytes());
        let name = format!("{}.key.{hash}", self.session);
        loop {
            let entry = self.keys.entry(name.as_str()).await.map_err(failed)?;
            let revision = entry.as_ref().map_or(0, |entry| entry.revision);
            let before = entry.filter(|entry| entry.operation == Operation::Put);
            let before = before.map(|entry| decode::<KeyRecord>(&entry.value)).transpose()?;
            if before.as_ref().is_some_and(|before| before.commit >= number) {
                return Ok(());
            }
            let object = format!("{}/key/{hash}/{number}", self.session);
            let body = self.keep(json, &object).await?;
            let record = KeyRecord { key: key.to_owned(), commit: number, body };
            match self.keys.update(&name, encode(&record)?.into(), revision).await {
                Ok(_) => {
                    if let Some(KeyRecord { body: Body::Object { name, .. }, .. }) = before {
                        // Nobody names it any more.
                        let _ = self.bodies.delete(name).await;
                    }
                    return Ok(());
                }
                // Another client was quicker.
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// All records of the session: keys, and commits by their numbers.
    async fn records(
        &self,
    ) -> Result<(Vec<KeyRecord>, BTreeMap<u64, (String, CommitRecord)>), NatsError> {
        let prefix = format!("$KV.{BUCKET}.");
        let config = OrderedConfig {
            filter_subject: format!("{prefix}{}.>", self.session),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..OrderedConfig::default()
        };
        let consumer = self.keys.stream.create_consumer(config).await.map_err(failed)?;
        let mut pending = consumer.cached_info().num_pending;
        let (mut keys, mut commits) = (Vec::new(), BTreeMap::new());
        if pending == 0 {
            return Ok((keys, commits));
        }
        let mut messages = consumer.messages().await.map_err(failed)?;
        while pending > 0 {
            let message = messages.next().await.ok_or_else(|| failed("the records ended"))?;
            let message = message.map_err(failed)?;
            let info = message.info().map_err(failed)?;
            pending = info.pending;
            let number = info.stream_sequence;
            let is_gone = message
                .headers
                .as_ref()
                .is_some_and(|headers| headers.get("KV-Operation").is_some());
            let Some(name) = message.subject.strip_prefix(&prefix) else { continue };
            if is_gone {
                continue;
            }
            match name.split('.').nth(1) {
                Some("key") => keys.push(decode(&message.payload)?),
                Some("commit") => {
                    commits.insert(number, (name.to_owned(), decode(&message.payload)?));
                }
                _ => {}
            }
        }
        Ok((keys, commits))
    }

    /// A body as a record carries it.
    async fn keep<T>(&self, body: &T, object: &str) -> Result<Body<T>, NatsError>
    where
        T: Clone + Serialize,
    {
        let bytes = encode(body)?;
        if bytes.len() <= INLINE {
            return Ok(Body::Inline(body.clone()));
        }
        let digest = hash(&bytes);
        self.bodies.put(object, &mut bytes.as_slice()).await.map_err(failed)?;
        Ok(Body::Object { name: object.to_owned(), digest })
    }

    /// What a record carries, or names.
    async fn fetch<T: for<'de> Deserialize<'de>>(&self, body: Body<T>) -> Result<T, NatsError> {
        let (name, digest) = match body {
            Body::Inline(value) => return Ok(value),
            Body::Object { name, digest } => (name, digest),
        };
        if !name.starts_with(&format!("{}/", self.session)) {
            return Err(failed("a record names a body of another session"));
        }
        let object = self.bodies.get(&name).await.map_err(failed)?;
        let mut bytes = Vec::new();
        object.take(BODY as u64).read_to_end(&mut bytes).await.map_err(failed)?;
        if hash(&bytes) != digest {
            return Err(failed("a body is not what its record says"));
        }
        decode(&bytes)
    }

    fn learn(&self, key: String, value: Value) {
        let mut known = lock(&self.known);
        if known.get(&key).is_none_or(|known| known.commit < value.commit) {
            known.insert(key, value);
        }
    }

    fn learn_all(&self, commit: u64, written: &BTreeMap<String, Arc<str>>) {
        for (key, json) in written {
            self.learn(key.clone(), Value { commit, json: Arc::clone(json) });
        }
    }
}

impl fmt::Debug for SessionValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The session's name is what proves the right to its values.
        f.debug_struct("SessionValues").finish_non_exhaustive()
    }
}

fn failed(error: impl fmt::Display) -> NatsError {
    NatsError::Failed(error.to_string())
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, NatsError> {
    serde_json::to_vec(value).map_err(failed)
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, NatsError> {
    serde_json::from_slice(bytes).map_err(failed)
}

/// SHA-256 in hexadecimal digits.
fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
