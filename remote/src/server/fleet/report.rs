//! What others see of a worker, by the conventions of NATS services (`$SRV`).

use super::Worker;
use crate::nats::{INBOX, NatsAddress, NatsError, random_id};
use async_nats::service::endpoint::Endpoint;
use async_nats::service::{Request, Service, ServiceExt, Stats};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_util::bytes::Bytes;

/// Name of the service of a worker.
const SERVICE: &str = "cellblock";

/// Name of its one endpoint, which answers with a [`WorkerReport`].
const ENDPOINT: &str = "info";

/// Subject of the endpoint.
const SUBJECT: &str = "cb.info";

/// Answers that are read from one survey.
const MOST_WORKERS: usize = 10_000;

/// What a worker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its name in subjects.
    pub worker: String,
    /// Version of this crate.
    pub version: String,
    /// SHA-256 of its sandbox, in hexadecimal digits.
    pub guest: String,
    /// The classes whose cells it takes.
    pub classes: Vec<String>,
    /// Cells that it runs now.
    pub cells: usize,
    /// Cells that it may run.
    pub max_cells: usize,
    /// Cells of each tenant that has some; the empty name is the fleet's own account.
    pub tenants: BTreeMap<String, usize>,
    /// Cells that it has taken since it started.
    pub started: u64,
    /// Cells that it has refused.
    pub refused: u64,
    /// Links to clients that were lost.
    pub lost: u64,
    /// It takes no cells any more.
    pub draining: bool,
}

impl Worker {
    /// What it says of itself.
    pub fn report(&self) -> WorkerReport {
        let counts = self.places.counts();
        WorkerReport {
            worker: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            guest: self.options.guest.clone(),
            classes: self.options.classes.clone(),
            cells: counts.cells,
            max_cells: self.options.cells,
            tenants: counts.tenants.into_iter().collect(),
            started: counts.started,
            refused: counts.refused,
            lost: counts.lost,
            draining: counts.draining,
        }
    }
}

/// Makes the worker known as a service.
pub(super) async fn announce(worker: &Arc<Worker>) -> Result<(Service, Endpoint), NatsError> {
    let failed = |error: &dyn fmt::Display| NatsError::Failed(error.to_string());
    let reporting = Arc::downgrade(worker);
    let metadata = HashMap::from([
        ("worker".to_owned(), worker.id.clone()),
        ("guest".to_owned(), worker.options.guest.clone()),
        ("classes".to_owned(), worker.options.classes.join(",")),
    ]);
    let service = worker
        .nats
        .client
        .service_builder()
        .description("Runs cells of Cellblock")
        .metadata(metadata)
        .stats_handler(move |_, _| {
            let report = reporting.upgrade().map(|worker| worker.report());
            serde_json::to_value(report).unwrap_or_default()
        })
        .start(SERVICE, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(|error| failed(&error))?;
    let endpoint = service.endpoint_builder().name(ENDPOINT).add(SUBJECT).await;
    let endpoint = endpoint.map_err(|error| failed(&error))?;
    Ok((service, endpoint))
}

/// Answers a question about the worker.
pub(super) async fn answer(worker: &Worker, question: Request) {
    let report = serde_json::to_vec(&worker.report()).unwrap_or_default();
    // Whoever has asked and gone needs no answer.
    let _ = question.respond(Ok(report.into())).await;
}

/// Asks all workers of a fleet for what they say of themselves, and returns what came within
/// `patience`, by name.
///
/// # Errors
/// [`NatsError`].
pub async fn survey(
    address: &NatsAddress,
    patience: Duration,
) -> Result<Vec<WorkerReport>, NatsError> {
    let failed = |error: &dyn fmt::Display| NatsError::Failed(error.to_string());
    let client = address.connect("cellblock top", INBOX).await?.client;
    let inbox = format!("{INBOX}.{}", random_id());
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
    let question = format!("$SRV.STATS.{SERVICE}");
    let asked = client.publish_with_reply(question, inbox, Bytes::new()).await;
    asked.map_err(|error| failed(&error))?;
    let until = Instant::now() + patience;
    let mut reports = BTreeMap::new();
    while let Ok(Some(message)) = timeout_at(until, answers.next()).await {
        let stats = serde_json::from_slice::<Stats>(&message.payload).ok();
        let data = stats.and_then(|stats| stats.endpoints.into_iter().next()?.data);
        if let Some(Ok(report)) = data.map(serde_json::from_value::<WorkerReport>)
            && reports.len() < MOST_WORKERS
        {
            reports.insert(report.worker.clone(), report);
        }
    }
    Ok(reports.into_values().collect())
}
