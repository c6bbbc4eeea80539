//! Buckets of `JetStream`, made where there are none.

use super::NatsError;
use async_nats::jetstream::Context;
use async_nats::jetstream::kv::{self, Store};
use async_nats::jetstream::object_store::{self, ObjectStore};
use std::fmt;

/// Copies that are kept, where there are so many servers.
pub(crate) const REPLICAS: usize = 3;

/// A bucket of records, with as many copies as `config` asks for; with one where there are not
/// so many servers.
pub(crate) async fn records(context: &Context, config: kv::Config) -> Result<Store, NatsError> {
    if let Ok(bucket) = context.get_key_value(&config.bucket).await {
        return Ok(bucket);
    }
    let single = kv::Config { num_replicas: 1, ..config.clone() };
    match context.create_key_value(config).await {
        Ok(bucket) => Ok(bucket),
        Err(_) => context.create_key_value(single).await.map_err(failed),
    }
}

/// A bucket of objects, as [`records`].
pub(crate) async fn objects(
    context: &Context,
    config: object_store::Config,
) -> Result<ObjectStore, NatsError> {
    if let Ok(bucket) = context.get_object_store(&config.bucket).await {
        return Ok(bucket);
    }
    let single = object_store::Config { num_replicas: 1, ..config.clone() };
    match context.create_object_store(config).await {
        Ok(bucket) => Ok(bucket),
        Err(_) => context.create_object_store(single).await.map_err(failed),
    }
}

fn failed(error: impl fmt::Display) -> NatsError {
    NatsError::Failed(error.to_string())
}
