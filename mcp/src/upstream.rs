//! The servers behind this one: each is started when it is first needed, and again when it
//! has gone.

use crate::config::{Config, ServerConfig};
use crate::policy::Annotations;
use crate::protocol::{Connection, Returned};
use cellblock::support::lock;
use futures_util::future::{BoxFuture, FutureExt, Shared, join_all};
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long after a failed start a server is not started again: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The least time between two looks at a list of tools that its server says has changed.
const LIST_PAUSE: Duration = Duration::from_millis(500);

/// A tool as its server lists it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListedTool {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) input_schema: Value,
    pub(crate) output_schema: Option<Value>,
    pub(crate) annotations: Annotations,
}

/// How far a call has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    pub(crate) done: f64,
    pub(crate) total: Option<f64>,
    pub(crate) message: Option<String>,
}

/// Receives the progress of a call. It must not block.
pub(crate) type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// Why a call was not answered with a result. The texts are for the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the call was cancelled")]
    Cancelled,
    #[error(
        "the server did not answer within {0:?} and was asked to stop; the call may have taken \
         effect"
    )]
    TimedOut(Duration),
    #[error("{message}")]
    Refused { message: String, bad_arguments: bool },
    #[error("{0}; the call may have taken effect")]
    Lost(String),
    #[error("the server asked for input from the user, which is not passed on from programs")]
    AskedForInput,
    #[error("the server answered with something that is not the result of a tool")]
    NotAResult,
    #[error("{0}")]
    NotStarted(Arc<str>),
}

/// One server.
pub(crate) struct Upstream {
    pub(crate) config: ServerConfig,
    state: Mutex<State>,
    /// The server has said that its list of tools has changed.
    list_changed: Arc<Notify>,
    /// Counts the changes of what is known of any server.
    changes: watch::Sender<u64>,
}

/// The start of a server, and what became of it.
type Start = Shared<BoxFuture<'static, Result<Arc<Connection>, Arc<str>>>>;

#[derive(Default)]
struct State {
    start: Option<Start>,
    /// Starts that have failed one after the other.
    failures: u32,
    /// Until then it is not started again.
    pause: Option<Instant>,
    tools: Arc<[ListedTool]>,
    instructions: Option<Arc<str>>,
    /// What is wrong with it, when something is.
    problem: Option<Arc<str>>,
    closed: bool,
}

/// What is known of a server.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) tools: Arc<[ListedTool]>,
    /// What it says of itself for models.
    pub(crate) instructions: Option<Arc<str>>,
    pub(crate) problem: Option<Arc<str>>,
    /// Its start is under way.
    pub(crate) starting: bool,
}

impl Upstream {
    /// The connection to the server, which is started if it must be.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, Arc<str>> {
        self.start().await
    }

    /// Calls a tool.
    pub(crate) async fn call(
        self: &Arc<Self>,
        tool: &str,
        arguments: Option<Map<String, Value>>,
        cancellation: &CancellationToken,
        progress: ProgressSink,
    ) -> Result<Returned, CallError> {
        let connection = tokio::select! {
            connection = self.connection() => connection.map_err(CallError::NotStarted)?,
            () = cancellation.cancelled() => return Err(CallError::Cancelled),
        };
        let timeout = self.config.call_timeout;
        connection.call(tool, arguments, timeout, cancellation, progress).await
    }

    /// What is known of the server now.
    pub(crate) fn known(&self) -> Known {
        let state = lock(&self.state);
        let starting = state.start.as_ref().is_some_and(|start| start.peek().is_none());
        Known {
            tools: Arc::clone(&state.tools),
            instructions: state.instructions.clone(),
            problem: state.problem.clone(),
            starting,
        }
    }

    fn start(self: &Arc<Self>) -> Start {
        let mut state = lock(&self.state);
        if state.closed {
            let why: Arc<str> = "this server is shutting down".into();
            return async move { Err(why) }.boxed().shared();
        }
        let paused = state.pause.is_some_and(|until| Instant::now() < until);
        if let Some(start) = &state.start {
            match start.peek() {
                None => return start.clone(),
                Some(Ok(connection)) if !connection.is_closed() => return start.clone(),
                Some(Err(_)) if paused => return start.clone(),
                Some(_) => {}
            }
        }
        let this = Arc::clone(self);
        // A task of its own: nobody who waits and goes away ends it, and a panic ends no one else.
        let task = tokio::spawn(async move {
            let opened = this.open().await;
            this.settle(opened)
        });
        let name = self.config.name.clone();
        let start = async move {
            task.await.unwrap_or_else(|_| Err(format!("{name} could not be started").into()))
        };
        let start = start.boxed().shared();
        state.start = Some(start.clone());
        drop(state);
        // That it is starting is known, too.
        self.changes.send_modify(|changes| *changes += 1);
        start
    }

    async fn open(self: &Arc<Self>) -> Result<(Connection, Vec<ListedTool>), String> {
        let connection = Connection::open(&self.config, &self.list_changed).await?;
        match connection.tools(self.config.start_timeout).await {
            Ok(tools) => Ok((connection, tools)),
            Err(why) => {
                connection.close().await;
                Err(why)
            }
        }
    }

    /// Keeps what became of a start.
    fn settle(
        self: &Arc<Self>,
        opened: Result<(Connection, Vec<ListedTool>), String>,
    ) -> Result<Arc<Connection>, Arc<str>> {
        let settled = {
            let mut state = lock(&self.state);
            match opened {
                Ok((connection, tools)) => {
                    state.failures = 0;
                    state.pause = None;
                    state.problem = None;
                    state.tools = tools.into();
                    state.instructions = connection.instructions().map(Into::into);
                    Ok(Arc::new(connection))
                }
                Err(why) => {
                    let pause = FIRST_PAUSE * 2_u32.saturating_pow(state.failures.min(10));
                    state.failures += 1;
                    state.pause = Some(Instant::now() + pause.min(LONGEST_PAUSE));
                    let why: Arc<str> =
                        format!("the server {} could not be started: {why}", self.config.name)
                            .into();
                    tracing::warn!("{why}");
                    state.problem = Some(Arc::clone(&why));
                    Err(why)
                }
            }
        };
        if let Ok(connection) = &settled {
            tokio::spawn(Arc::clone(self).follow(Arc::clone(connection)));
        }
        self.changes.send_modify(|changes| *changes += 1);
        settled
    }

    /// Follows the list of tools while the connection lasts, and reaps the server after it.
    async fn follow(self: Arc<Self>, connection: Arc<Connection>) {
        let lists = async {
            loop {
                self.list_changed.notified().await;
                // However often it says so, it is asked only so often.
                tokio::time::sleep(LIST_PAUSE).await;
                self.list(&connection).await;
            }
        };
        tokio::select! {
            () = lists => {}
            () = connection.closed() => {}
        }
        connection.close().await;
    }

    async fn list(&self, connection: &Connection) {
        match connection.tools(self.config.start_timeout).await {
            Ok(tools) => {
                let mut state = lock(&self.state);
                state.tools = tools.into();
                state.problem = None;
            }
            Err(why) => {
                let why = format!("the server {}: {why}", self.config.name);
                tracing::warn!("{why}");
                lock(&self.state).problem = Some(why.into());
            }
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    async fn close(&self) {
        let start = {
            let mut state = lock(&self.state);
            state.closed = true;
            state.start.take()
        };
        if let Some(Ok(connection)) = start.as_ref().and_then(Shared::peek) {
            connection.close().await;
        }
    }
}

/// All servers of a configuration.
pub(crate) struct Upstreams {
    pub(crate) servers: Vec<Arc<Upstream>>,
    changes: watch::Sender<u64>,
}

impl Upstreams {
    /// The servers of a configuration; none is started.
    pub(crate) fn new(config: &Config) -> Self {
        let changes = watch::Sender::new(0);
        let server = |config: &ServerConfig| {
            Arc::new(Upstream {
                config: config.clone(),
                state: Mutex::default(),
                list_changed: Arc::new(Notify::new()),
                changes: changes.clone(),
            })
        };
        Self { servers: config.servers.iter().map(server).collect(), changes }
    }

    /// Starts those servers that are meant and not there, at the same time, and returns when
    /// each has started or failed, or when the time is over.
    pub(crate) async fn ready(&self, patience: Duration, is_meant: impl Fn(&ServerConfig) -> bool) {
        let meant = self.servers.iter().filter(|server| is_meant(&server.config));
        let starts = meant.map(Upstream::start);
        let _ = tokio::time::timeout(patience, join_all(starts)).await;
    }

    /// Counts the changes of what is known of the servers.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Ends all servers.
    pub(crate) async fn close(&self) {
        join_all(self.servers.iter().map(|server| server.close())).await;
    }
}
