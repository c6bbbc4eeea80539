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
    let find = || context.get_key_value(&config.bucket);
    let make =
        |num_replicas| context.create_key_value(kv::Config { num_replicas, ..config.clone() });
    found_or_made(config.num_replicas, find, make).await
}

/// A bucket of objects, as [`records`].
pub(crate) async fn objects(
    context: &Context,
    config: object_store::Config,
) -> Result<ObjectStore, NatsError> {
    let find = || context.get_object_store(&config.bucket);
    let make = |num_replicas| {
        let config = object_store::Config { num_replicas, ..config.clone() };
        context.create_object_store(config)
    };
    found_or_made(config.num_replicas, find, make).await
}

/// A bucket that is there, or is made.
async fn found_or_made<B, NotFound, NotMade, Finding, Making>(
    replicas: usize,
    find: impl Fn() -> Finding,
    make: impl Fn(usize) -> Making,
) -> Result<B, NatsError>
where
    NotMade: fmt::Display,
    Finding: Future<Output = Result<B, NotFound>>,
    Making: Future<Output = Result<B, NotMade>>,
{
    let mut why = String::new();
    for replicas in [replicas, 1] {
        if let Ok(bucket) = find().await {
            return Ok(bucket);
        }
        match make(replicas).await {
            Ok(bucket) => return Ok(bucket),
            Err(error) => why = error.to_string(),
        }
    }
    // It was made, by another or by this, and the answer was lost.
    find().await.map_err(|_| NatsError::Failed(why))
}
