//! A worker of a fleet: it takes cells over NATS, each over a link of its own.
//!
//! A link is served as a connection of the framed protocol with room for one cell, by the code
//! that serves sockets. `places` counts cells and tenants, `report` is what others see of the
//! worker.

mod bounds;
mod lists;
mod places;
mod report;
mod store;
mod tenant_store;

pub use report::{WorkerReport, survey};
pub use store::FleetParking;

use super::admission::Arrival;
use super::session::Keeper;
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
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::Store;
use tenant_store::TenantStore;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The queue group in which workers take cells: each goes to one of them.
const GROUP: &str = "workers";

/// What the subjects begin with at which a worker receives answers of `JetStream`: its name
/// follows, so that its rights can be its own.
const WORKER_INBOX: &str = "_INBOX_cb";

/// The least time between two looks at a cell that may be idle.
const MIN_TICK: Duration = Duration::from_millis(100);
/// Answers to clients that have no link here that may wait to be sent at one time.
const ANSWERS: usize = 1_024;

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
    /// How it keeps cells that wait; `None` where it keeps none.
    pub parking: Option<FleetParking>,
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
            parking: None,
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
    /// Keeps cells that wait.
    store: Option<Arc<Store>>,
    /// Questions for kept cells that may be answered at one time.
    lists: Arc<Semaphore>,
    /// The links that are open, by tenant and name.
    links: Mutex<HashMap<(String, String), OpenLink>>,
    tasks: TaskTracker,
    /// Taken by each answer to a client that has no link here.
    answers: Arc<Semaphore>,
}

/// A link that is open.
struct OpenLink {
    feed: Feed,
    server: Arc<Server>,
    /// Cancelled when its client goes on with this worker, and with no other.
    chosen: CancellationToken,
}

/// What is subscribed to.
struct Subscriptions {
    /// Messages of links.
    links: SelectAll<Subscriber>,
    /// New cells; none while there is no place.
    starts: Option<SelectAll<Subscriber>>,
    /// Clients that ask which cells are kept.
    lists: SelectAll<Subscriber>,
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
        mut options: WorkerOptions,
        tenants: impl Tenants,
    ) -> Result<Arc<Self>, NatsError> {
        options.classes.extend(options.parking.as_ref().map(|parking| parking.class.clone()));
        let id = options.id.clone().unwrap_or_else(random_id);
        for name in options.classes.iter().chain([&id]) {
            if !is_token(name) {
                return Err(NatsError::Name(name.clone()));
            }
        }
        let inbox = format!("{WORKER_INBOX}.{id}");
        let nats = address.connect("cellblock worker", &inbox).await?;
        let store = match &options.parking {
            Some(parking) => Some(Store::open(&nats.client, &id, parking).await?),
            None => None,
        };
        let places = Places::new(options.cells);
        Ok(Arc::new(Self {
            nats,
            id,
            options,
            tenants: Box::new(tenants),
            places,
            store,
            lists: Arc::new(Semaphore::new(lists::AT_ONCE)),
            links: Mutex::default(),
            tasks: TaskTracker::new(),
            answers: Arc::new(Semaphore::new(ANSWERS)),
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
        let mut lists = SelectAll::new();
        if self.store.is_some() {
            for subject in self.options.classes.iter().flat_map(|class| Subjects::lists(class)) {
                let subscribed = self.nats.client.queue_subscribe(subject, GROUP.to_owned()).await;
                lists.push(subscribed.map_err(|error| failed(&error))?);
            }
        }
        let (service, questions) = report::announce(self).await?;
        let ended = SelectAll::new();
        let mut subscriptions =
            Subscriptions { links, starts: None, lists, ended, questions, _service: service };
        loop {
            self.take_or_leave(&mut subscriptions).await?;
            let Subscriptions { links, starts, lists, ended, questions, .. } = &mut subscriptions;
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
                Some(message) = lists.next(), if !lists.is_empty() => self.list(message),
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

    /// A message for a link. One for another tenant's is one for none.
    fn receive(&self, message: Message) {
        let Some(Subjects { tenant, name }) = Subjects::read(&message.subject) else { return };
        let key = (tenant, name);
        let link = lock(&self.links).get(&key).map(|link| (link.feed.clone(), link.chosen.clone()));
        let Some((feed, chosen)) = link else { return self.deny(message, &key.1) };
        if !ends(&message) {
            chosen.cancel();
        }
        if feed.push(message).is_err() {
            // The link ends when its feed is dropped.
            lock(&self.links).remove(&key);
        }
    }

    /// Tells a client that this worker does not have its cell: it was started again under its
    /// name, or has taken the client for lost.
    fn deny(&self, message: Message, link: &str) {
        if ends(&message) {
            return;
        }
        let Some(reply) = message.reply else { return };
        let mut headers = HeaderMap::new();
        headers.insert(header::LINK, format!("{}.{link}", self.id));
        headers.insert(header::END, "it does not have the cell");
        self.answer(reply, headers);
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
        let mut headers = HeaderMap::new();
        headers.insert(header::BUSY, why.to_string());
        self.answer(reply, headers);
    }

    /// Answers a client that has no link here. One that receives nothing, because too many are
    /// answered, asks again some time.
    fn answer(&self, reply: Subject, headers: HeaderMap) {
        let Ok(permit) = Arc::clone(&self.answers).try_acquire_owned() else { return };
        let client = self.nats.client.clone();
        self.tasks.spawn(async move {
            let _ = client.publish_with_headers(reply, headers, Bytes::new()).await;
            drop(permit);
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
        let (limits, chosen) =
            (ServerLimits { cells: 1, cells_per_session: 1 }, CancellationToken::new());
        let keeper = self.store.as_ref().map(|store| {
            Arc::new(TenantStore::new(store, &tenant, chosen.clone())) as Arc<dyn Keeper>
        });
        let server = Arc::new(Server::new(backend, limits).with_keeper(keeper));
        let key = (tenant, name);
        let open = OpenLink { feed, server: Arc::clone(&server), chosen };
        lock(&self.links).insert(key.clone(), open);
        let worker = Arc::clone(self);
        let serving = async move {
            let (input, output) = tokio::io::split(pipe);
            let serving =
                framed::serve_stream(Arc::clone(&server), Arrival::alone(), input, output);
            let carrying = async {
                let end = tokio::select! {
                    end = link.run() => end,
                    never = worker.park_idle(&server) => match never {},
                };
                if matches!(end, LinkEnd::Lost(_)) {
                    server.keep_left(true).await;
                }
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

    /// Asks the client of a cell to have it kept, whenever nothing has happened for so long.
    async fn park_idle(&self, server: &Server) -> Infallible {
        let Some(FleetParking { parks_after, .. }) = self.options.parking else {
            return std::future::pending().await;
        };
        let mut ticks = interval((parks_after / 4).max(MIN_TICK));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            server.ask_to_leave(Some(parks_after));
        }
    }

    /// Takes no cell from now on and keeps those that wait, where it can; lets the others end
    /// for at most `patience`, ends what is left, and returns when all that was answered is
    /// sent. True if every cell had ended by itself or is kept.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.places.close();
        let servers: Vec<_> =
            lock(&self.links).values().map(|link| Arc::clone(&link.server)).collect();
        let draining = servers.iter().map(async |server| {
            server.ask_to_leave(None);
            let is_empty = server.is_empty(patience).await;
            if !is_empty {
                server.keep_left(false).await;
            }
            server.drain(Duration::ZERO).await
        });
        let ended = join_all(draining).await;
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

/// Whether a client ends its link with a message.
fn ends(message: &Message) -> bool {
    message.headers.as_ref().is_some_and(|all| all.get(header::END).is_some())
}

/// The next new cell; none comes while nothing is subscribed to.
async fn next(starts: &mut Option<SelectAll<Subscriber>>) -> Option<Message> {
    match starts {
        Some(starts) => starts.next().await,
        None => std::future::pending().await,
    }
}
