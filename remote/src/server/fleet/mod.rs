//! A worker of a fleet: it takes cells over NATS, each over a link of its own.
//!
//! A link is served as a connection of the framed protocol with room for one cell, by the code
//! that serves sockets. `places` counts cells and tenants, `report` is what others see of the
//! worker.

mod places;
mod report;

pub use report::{WorkerReport, survey};

use super::admission::Arrival;
use super::{AskedLimits, Server, ServerLimits, framed};
use crate::nats::{
    DEFAULT_CLASS, Feed, HEARTBEAT, Link, LinkEnd, NatsAddress, NatsConnection, NatsError,
    ORPHAN_GRACE, Subjects, header, is_token, queue, random_id,
};
use async_nats::service::{Service, endpoint::Endpoint};
use async_nats::{HeaderMap, Message, Subject, Subscriber};
use cellblock::support::lock;
use cellblock::{CodeModeBackend, CodeModeError};
use futures_util::future::join_all;
use futures_util::stream::{SelectAll, StreamExt};
use places::{NoPlace, Place, Places};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The queue group in which workers take cells: each goes to one of them.
const GROUP: &str = "workers";

/// How long the last messages may take to leave.
const GOODBYE: Duration = Duration::from_secs(5);

/// What a worker does for its tenants. A tenant is named by the NATS server; the name is empty
/// for clients in the worker's own account.
pub trait Tenants: Send + Sync + 'static {
    /// Cells that a tenant may have on this worker at one time.
    fn cells(&self, tenant: &str) -> usize;

    /// Makes the backend of a cell, with the limits that its client asks for where they are
    /// narrower than the tenant's.
    ///
    /// # Errors
    /// [`CodeModeError::InvalidRequest`] refuses the limits.
    fn open(
        &self,
        tenant: &str,
        asked: AskedLimits,
    ) -> Result<Arc<dyn CodeModeBackend>, CodeModeError>;
}

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Its name in subjects; `None` for one that nobody can guess.
    pub id: Option<String>,
    /// The classes whose cells it takes.
    pub classes: Vec<String>,
    /// Cells that it runs at one time.
    pub cells: usize,
    /// As [`HEARTBEAT`]; clients are to have the same.
    pub heartbeat: Duration,
    /// As [`ORPHAN_GRACE`].
    pub orphan_grace: Duration,
    /// SHA-256 of its sandbox, in hexadecimal digits, for those who look at the fleet.
    pub guest: String,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            id: None,
            classes: vec![DEFAULT_CLASS.to_owned()],
            cells: ServerLimits::default().cells,
            heartbeat: HEARTBEAT,
            orphan_grace: ORPHAN_GRACE,
            guest: String::new(),
        }
    }
}

/// A worker of a fleet.
pub struct Worker {
    nats: NatsConnection,
    id: String,
    options: WorkerOptions,
    tenants: Box<dyn Tenants>,
    places: Arc<Places>,
    /// The links that are open, by tenant and name.
    links: Mutex<HashMap<(String, String), OpenLink>>,
    tasks: TaskTracker,
}

/// A link that is open.
struct OpenLink {
    feed: Feed,
    server: Arc<Server>,
}

/// What is subscribed to.
struct Subscriptions {
    /// Messages of links.
    links: SelectAll<Subscriber>,
    /// New cells; none while there is no place.
    starts: Option<SelectAll<Subscriber>>,
    /// Subscriptions that were ended, and may still bring new cells.
    ended: SelectAll<Subscriber>,
    /// Questions about the worker.
    questions: Endpoint,
    /// Answers `$SRV`.
    _service: Service,
}

impl Worker {
    /// Connects to the fleet. It takes cells once it serves.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn connect(
        address: &NatsAddress,
        options: WorkerOptions,
        tenants: impl Tenants,
    ) -> Result<Arc<Self>, NatsError> {
        let id = options.id.clone().unwrap_or_else(random_id);
        for name in options.classes.iter().chain([&id]) {
            if !is_token(name) {
                return Err(NatsError::Name(name.clone()));
            }
        }
        let nats = address.connect("cellblock worker").await?;
        let places = Places::new(options.cells);
        Ok(Arc::new(Self {
            nats,
            id,
            options,
            tenants: Box::new(tenants),
            places,
            links: Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Its name in subjects.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes cells until the connection is closed for good.
    ///
    /// # Errors
    /// [`NatsError::Failed`].
    pub async fn serve(self: &Arc<Self>) -> Result<(), NatsError> {
        let failed = |error: &dyn fmt::Display| NatsError::Failed(error.to_string());
        let mut links = SelectAll::new();
        for subject in Subjects::links(&self.id) {
            links.push(self.nats.client.subscribe(subject).await.map_err(|error| failed(&error))?);
        }
        let (service, questions) = report::announce(self).await?;
        let ended = SelectAll::new();
        let mut subscriptions =
            Subscriptions { links, starts: None, ended, questions, _service: service };
        loop {
            self.take_or_leave(&mut subscriptions).await?;
            let Subscriptions { links, starts, ended, questions, .. } = &mut subscriptions;
            tokio::select! {
                biased;
                message = links.next() => match message {
                    Some(message) => self.receive(message),
                    None => return Err(failed(&"the connection was closed")),
                },
                Some(message) = next(starts) => self.start(message),
                Some(message) = ended.next(), if !ended.is_empty() => {
                    self.refuse(message, NoPlace::Full);
                }
                Some(question) = questions.next() => report::answer(self, question).await,
                () = self.places.changed() => {}
            }
        }
    }

    /// Subscribes to new cells when there is room for them, and ends that when there is not,
    /// so that they go to other workers, or to none.
    async fn take_or_leave(&self, subscriptions: &mut Subscriptions) -> Result<(), NatsError> {
        let failed = |error: &dyn fmt::Display| NatsError::Failed(error.to_string());
        match subscriptions.starts.take() {
            None if self.places.has_room() => {
                let mut starts = SelectAll::new();
                for subject in self.options.classes.iter().flat_map(|class| Subjects::starts(class))
                {
                    let subscribed =
                        self.nats.client.queue_subscribe(subject, GROUP.to_owned()).await;
                    starts.push(subscribed.map_err(|error| failed(&error))?);
                }
                subscriptions.starts = Some(starts);
            }
            Some(starts) if self.places.is_full() => {
                for mut subscriber in starts {
                    subscriber.drain().await.map_err(|error| failed(&error))?;
                    subscriptions.ended.push(subscriber);
                }
            }
            as_it_is => subscriptions.starts = as_it_is,
        }
        Ok(())
    }

    /// A message for a link. One of another tenant's, or of none, does nothing.
    fn receive(&self, message: Message) {
        let Some(Subjects { tenant, name }) = Subjects::read(&message.subject) else { return };
        let key = (tenant, name);
        let mut links = lock(&self.links);
        if let Some(link) = links.get(&key)
            && link.feed.push(message).is_err()
        {
            // The link ends when its feed is dropped.
            links.remove(&key);
        }
    }

    /// A new cell.
    fn start(self: &Arc<Self>, message: Message) {
        let Some(Subjects { tenant, .. }) = Subjects::read(&message.subject) else { return };
        let Some(reply) = message.reply.clone() else { return };
        match self.places.take(&tenant, self.tenants.cells(&tenant)) {
            Ok(place) => self.open(tenant, reply, message, place),
            Err(why) => self.refuse(message, why),
        }
    }

    fn refuse(&self, message: Message, why: NoPlace) {
        let Some(reply) = message.reply else { return };
        let client = self.nats.client.clone();
        self.tasks.spawn(async move {
            let mut headers = HeaderMap::new();
            headers.insert(header::BUSY, why.to_string());
            // A client that receives nothing asks another worker some time.
            let _ = client.publish_with_headers(reply, headers, Bytes::new()).await;
        });
    }

    fn open(self: &Arc<Self>, tenant: String, reply: Subject, message: Message, place: Place) {
        let trace = message.headers.as_ref().and_then(|headers| headers.get(header::TRACE));
        let trace = trace.map(|trace| trace.as_str().to_owned()).filter(|trace| is_token(trace));
        let span = tracing::info_span!("cell of the fleet", tenant, traceparent = trace);
        let (name, (feed, queue)) = (random_id(), queue());
        // The queue is empty, and a message is smaller.
        let _ = feed.push(message);
        let (link, pipe) = Link::accept(
            &self.nats,
            queue,
            reply,
            format!("{}.{name}", self.id),
            self.options.heartbeat,
            self.options.orphan_grace,
        );
        let mut link = link.with_trace(trace);
        let worker = Arc::downgrade(self);
        let of_tenant = tenant.clone();
        let backend = move |asked| match worker.upgrade() {
            Some(worker) => worker.tenants.open(&of_tenant, asked),
            None => Err(CodeModeError::ShuttingDown),
        };
        let limits = ServerLimits { cells: 1, cells_per_session: 1 };
        let server = Arc::new(Server::new(backend, limits));
        let key = (tenant, name);
        let open = OpenLink { feed, server: Arc::clone(&server) };
        lock(&self.links).insert(key.clone(), open);
        let worker = Arc::clone(self);
        let serving = async move {
            let (input, output) = tokio::io::split(pipe);
            let serving = framed::serve_stream(server, Arrival::alone(), input, output);
            let carrying = async {
                let end = link.run().await;
                // The end of the pipe ends the connection.
                link.finish().await;
                end
            };
            let (served, end) = tokio::join!(serving, carrying);
            lock(&worker.links).remove(&key);
            if let LinkEnd::Lost(why) = end {
                worker.places.lost();
                tracing::warn!("the link to a client was lost: {why}");
            } else if let Err(error) = served {
                tracing::warn!("a client's connection was ended: {error}");
            }
            drop(place);
        };
        self.tasks.spawn(serving.instrument(span));
    }

    /// Takes no cell from now on, lets those that run end for at most `patience`, ends what is
    /// left, and returns when all that was answered is sent. True if every cell had ended by
    /// itself.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.places.close();
        let servers: Vec<_> =
            lock(&self.links).values().map(|link| Arc::clone(&link.server)).collect();
        let ended = join_all(servers.iter().map(|server| server.drain(patience))).await;
        self.tasks.close();
        if timeout(GOODBYE, self.tasks.wait()).await.is_err() {
            tracing::warn!("links were still open at the end");
        }
        if !matches!(timeout(GOODBYE, self.nats.client.flush()).await, Ok(Ok(()))) {
            tracing::warn!("the last messages may not have been sent");
        }
        ended.into_iter().all(|ended| ended)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The next new cell; none comes while nothing is subscribed to.
async fn next(starts: &mut Option<SelectAll<Subscriber>>) -> Option<Message> {
    match starts {
        Some(starts) => starts.next().await,
        None => std::future::pending().await,
    }
}
