//! A connection to one server.

use super::child::{Server, Words};
use super::counted::{Counted, MAX_REQUESTS};
use super::lines::MAX_MESSAGE_BYTES;
use super::listing::{ListError, list};
use crate::config::{ServerConfig, Transport};
use crate::upstream::{CallError, ListedTool, Progress, ProgressSink};
use crate::visible::without_hidden;
use cellblock::support::lock;
use http::{HeaderName, HeaderValue};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, CancelledNotification,
    CancelledNotificationParam, ClientCapabilities, ClientConfig, ClientRequest,
    ElicitRequestParams, ElicitResult, ErrorData, Implementation, JsonObject,
    ProgressNotificationParam, ProgressToken, ProtocolVersion, RequestId, ServerResult,
    SubscriptionFilter,
};
use rmcp::service::{
    ClientInitializeError, NotificationContext, Peer, PeerRequestOptions, RequestContext,
    RoleClient, RunningService, RunningServiceCancellationToken,
};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{IntoTransport, StreamableHttpClientTransport};
use rmcp::{ClientHandler, ClientLifecycleMode, ServiceError, serve_client_with_lifecycle};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Calls that may run out of time one after the other; then the server counts as stuck, and
/// the connection is closed.
const MAX_TIMEOUTS: u32 = 3;
/// Calls over HTTP that may be under way at one time; others wait.
const MAX_HTTP_CALLS: usize = 128;
/// How long a cancellation may take to be sent.
const CANCEL_SEND: Duration = Duration::from_secs(5);

/// A connection to a server.
pub(crate) struct Connection {
    peer: Peer<RoleClient>,
    /// Ends the connection, until it was used.
    stop: Mutex<Option<RunningServiceCancellationToken>>,
    /// Is cancelled once the connection has ended.
    closed: CancellationToken,
    calls: Arc<Calls>,
    /// The command, unless it was ended.
    server: Mutex<Option<Server>>,
    /// There is no command: requests are answered one by one.
    over_http: bool,
    /// What the command has printed; nothing of a server that is none.
    words: Words,
    /// Is cancelled when the server has asked for too much.
    flooded: CancellationToken,
    /// Calls that ran out of time one after the other.
    timeouts: Mutex<u32>,
}

/// The calls in flight, by the tokens of their progress.
type Calls = Mutex<HashMap<ProgressToken, ProgressSink>>;

/// This side of the connection.
struct Client {
    calls: Arc<Calls>,
    changed: Arc<Notify>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let name = Implementation::new("cellblock", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), name)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let message = "questions to the user are not passed on: this client runs programs";
        Err(ErrorData::invalid_request(message, None))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let sink = lock(&self.calls).get(&params.progress_token).cloned();
        if let Some(sink) = sink {
            sink(Progress { done: params.progress, total: params.total, message: params.message });
        }
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

impl Connection {
    /// Connects to a server. `changed` is notified when its list of tools has changed.
    pub(crate) async fn open(config: &ServerConfig, changed: &Arc<Notify>) -> Result<Self, String> {
        // Every server with a handshake can do this, and most of the others.
        match Self::open_by(config, changed, ClientLifecycleMode::Initialize).await {
            Err(Refused { without_handshake: true, .. }) => {
                let preferred_versions = vec![ProtocolVersion::LATEST];
                let mode = ClientLifecycleMode::Discover { preferred_versions };
                Self::open_by(config, changed, mode).await
            }
            opened => opened,
        }
        .map_err(|refused| refused.why)
    }

    async fn open_by(
        config: &ServerConfig,
        changed: &Arc<Notify>,
        mode: ClientLifecycleMode,
    ) -> Result<Self, Refused> {
        let calls = Arc::new(Calls::default());
        let client = Client { calls: Arc::clone(&calls), changed: Arc::clone(changed) };
        let flooded = CancellationToken::new();
        let client = Counted::new(client, flooded.clone());
        let start = config.start_timeout;
        let (service, server) = match &config.transport {
            Transport::Stdio { command, args, env, cwd } => {
                let (server, (output, input)) = Server::start(command, args, env, cwd.as_ref())?;
                // The lines are bounded where they are read.
                let transport = AsyncRwTransport::new_client(output, input)
                    .with_max_line_length(MAX_MESSAGE_BYTES + 1);
                match serve(client, transport, mode, start).await {
                    Ok(service) => (service, Some(server)),
                    Err(refused) => {
                        let why = format!("{}{}", refused.why, server.words().last().await);
                        tokio::spawn(server.end());
                        return Err(Refused { why, ..refused });
                    }
                }
            }
            Transport::Http { url, headers } => {
                let transport = http_transport(url, headers)?;
                (serve(client, transport, mode, start).await?, None)
            }
            Transport::Unusable(why) => return Err(why.clone().into()),
        };
        let peer = service.peer().clone();
        if peer.peer_info().is_some_and(|info| !info.protocol_version.has_initialize()) {
            tokio::spawn(follow_list(peer, Arc::clone(changed)));
        }
        let peer = service.peer().clone();
        let stop = Mutex::new(Some(service.cancellation_token()));
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        let (stop_flood, too_much) = (service.cancellation_token(), flooded.clone());
        tokio::spawn(async move {
            let waiting = service.waiting();
            tokio::pin!(waiting);
            tokio::select! {
                // However it ended, it has.
                _ = &mut waiting => {}
                () = too_much.cancelled() => {
                    stop_flood.cancel();
                    let _ = waiting.await;
                }
            }
            drop(ended);
        });
        let over_http = server.is_none();
        let words = server.as_ref().map(Server::words).unwrap_or_default();
        let (server, timeouts) = (Mutex::new(server), Mutex::new(0));
        Ok(Self { peer, stop, closed, calls, server, over_http, words, flooded, timeouts })
    }

    /// Whether the server has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || self.peer.is_transport_closed()
    }

    /// Returns when the server has gone.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    fn stop(&self) {
        if let Some(stop) = lock(&self.stop).take() {
            stop.cancel();
        }
    }

    /// What the server says of itself for models.
    pub(crate) fn instructions(&self) -> Option<String> {
        let info = self.peer.peer_info()?;
        info.instructions.as_deref().map(without_hidden)
    }

    /// The revision of the protocol that is spoken.
    pub(crate) fn revision(&self) -> Option<String> {
        let info = self.peer.peer_info()?;
        Some(info.protocol_version.as_str().to_owned())
    }

    /// The tools that the server lists.
    pub(crate) async fn tools(&self, timeout: Duration) -> Result<Vec<ListedTool>, String> {
        match tokio::time::timeout(timeout, list(&self.peer)).await {
            Ok(Ok(tools)) => Ok(tools),
            Ok(Err(ListError::Refused(error))) => {
                Err(format!("it cannot list its tools: {}", self.why(&error).await))
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it did not list its tools within {timeout:?}")),
        }
    }

    /// Calls a tool. `timeout` is how long it may take without progress.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: Option<JsonObject>,
        timeout: Duration,
        cancellation: &CancellationToken,
        progress: ProgressSink,
    ) -> Result<Returned, CallError> {
        let mut params = CallToolRequestParams::new(tool.to_owned());
        params.arguments = arguments;
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let peer = &self.peer;
        let sent = tokio::select! {
            sent = peer.send_request_with_option(request, PeerRequestOptions::no_options()) => sent,
            () = cancellation.cancelled() => return Err(CallError::Cancelled),
        };
        let mut handle = match sent {
            Ok(handle) => handle,
            Err(error) => return Err(CallError::Lost(self.why(&error).await)),
        };
        let moved = Arc::new(Notify::new());
        let sink: ProgressSink = {
            let moved = Arc::clone(&moved);
            Arc::new(move |each| {
                moved.notify_one();
                progress(each);
            })
        };
        lock(&self.calls).insert(handle.progress_token.clone(), sink);
        let _registered = Registered { calls: &self.calls, token: handle.progress_token.clone() };
        let mut deadline = Instant::now() + timeout;
        let response = loop {
            tokio::select! {
                response = &mut handle.rx => break response,
                () = cancellation.cancelled() => {
                    cancel(peer, handle.id.clone(), "the program that called has ended");
                    return Err(CallError::Cancelled);
                }
                () = moved.notified() => deadline = Instant::now() + timeout,
                () = tokio::time::sleep_until(deadline) => {
                    cancel(peer, handle.id.clone(), "out of time");
                    self.ran_out_of_time();
                    return Err(CallError::TimedOut(timeout));
                }
            }
        };
        *lock(&self.timeouts) = 0;
        match response.unwrap_or(Err(ServiceError::TransportClosed)) {
            Ok(ServerResult::CallToolResult(result)) => Ok(returned(result)),
            Ok(ServerResult::EmptyResult(_)) => Ok(returned(CallToolResult::success(Vec::new()))),
            Ok(ServerResult::InputRequiredResult(_)) => Err(CallError::AskedForInput),
            Ok(_) => Err(CallError::NotAResult),
            Err(ServiceError::McpError(error)) => Err(CallError::Refused {
                message: error.message.into_owned(),
                bad_arguments: error.code == rmcp::model::ErrorCode::INVALID_PARAMS,
            }),
            Err(error) => Err(CallError::Lost(self.why(&error).await)),
        }
    }

    /// Ends the connection, and the server if it is a command.
    pub(crate) async fn close(&self) {
        self.stop();
        let server = lock(&self.server).take();
        if let Some(server) = server {
            server.end().await;
        }
    }

    fn ran_out_of_time(&self) {
        let mut timeouts = lock(&self.timeouts);
        *timeouts += 1;
        if *timeouts >= MAX_TIMEOUTS {
            tracing::warn!("{MAX_TIMEOUTS} calls ran out of time: the server counts as stuck");
            self.stop();
        }
    }

    /// Why a request was not answered.
    async fn why(&self, error: &ServiceError) -> String {
        match error {
            ServiceError::McpError(error) => error.message.to_string(),
            _ if self.flooded.is_cancelled() => {
                format!(
                    "the server was ended: it sent more than {MAX_REQUESTS} requests in a minute"
                )
            }
            ServiceError::TransportSend(error) if self.over_http => {
                format!("its answer cannot be had: {}", causes(&*error.error))
            }
            ServiceError::TransportClosed if self.over_http => {
                "its answer cannot be had: the connection ended before the answer did".to_owned()
            }
            ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
                format!("the server has gone{}", self.words.last().await)
            }
            error => error.to_string(),
        }
    }
}

/// A call whose progress is followed, until it is dropped.
struct Registered<'a> {
    calls: &'a Calls,
    token: ProgressToken,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        lock(self.calls).remove(&self.token);
    }
}

/// What a tool returned.
#[derive(Debug)]
pub(crate) struct Returned {
    /// The whole result, as the protocol has it.
    pub(crate) whole: Value,
    /// Its structured content.
    pub(crate) structured: Option<Value>,
    /// The tool says that it failed.
    pub(crate) is_error: bool,
}

fn returned(mut result: CallToolResult) -> Returned {
    // Of what a program sees, this is no part.
    result.result_type = None;
    Returned {
        is_error: result.is_error == Some(true),
        structured: result.structured_content.clone(),
        whole: serde_json::to_value(result).unwrap_or_default(),
    }
}

/// Why there is no connection.
struct Refused {
    why: String,
    /// The server may be one of the revisions that have no handshake.
    without_handshake: bool,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, without_handshake: false }
    }
}

async fn serve<T, E, A>(
    client: Counted<Client>,
    transport: T,
    mode: ClientLifecycleMode,
    timeout: Duration,
) -> Result<RunningService<RoleClient, Counted<Client>>, Refused>
where
    T: IntoTransport<RoleClient, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::time::timeout(timeout, serve_client_with_lifecycle(client, transport, mode)).await
    {
        Ok(Ok(service)) => Ok(service),
        Ok(Err(error)) => Err(Refused {
            without_handshake: matches!(&error, ClientInitializeError::JsonRpcError(_)),
            why: match error {
                ClientInitializeError::ConnectionClosed(_) => {
                    "it ended before it was ready".to_owned()
                }
                ClientInitializeError::JsonRpcError(error) => {
                    format!("it refused to start: {}", error.message)
                }
                ClientInitializeError::TransportError { error, .. } => {
                    format!("it cannot be reached: {}", causes(&*error.error))
                }
                error => format!("it does not keep to the protocol: {error}"),
            },
        }),
        Err(_) => Err(format!("it was not ready within {timeout:?}").into()),
    }
}

/// An error and what is behind it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn http_transport(
    url: &str,
    headers: &std::collections::BTreeMap<String, String>,
) -> Result<StreamableHttpClientTransport<reqwest::Client>, Refused> {
    // That there is one already is as well.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let mut custom = HashMap::new();
    for (name, value) in headers {
        let name: HeaderName =
            name.parse().map_err(|_| format!("its header {name:?} is not a header's name"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("the value of its header {name} cannot be sent"))?;
        custom.insert(name, value);
    }
    let mut config = StreamableHttpClientTransportConfig::with_uri(url)
        .custom_headers(custom)
        .max_sse_event_size(MAX_MESSAGE_BYTES)
        .max_json_response_size(MAX_MESSAGE_BYTES)
        .reinit_on_expired_session(true);
    config.max_concurrent_requests = MAX_HTTP_CALLS;
    Ok(StreamableHttpClientTransport::from_config(config))
}

/// Says when the list of tools has changed, where the server has to be asked for that.
async fn follow_list(peer: Peer<RoleClient>, changed: Arc<Notify>) {
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    if let Ok(mut subscription) = peer.listen(filter).await {
        while let Ok(Some(_)) = subscription.next().await {
            changed.notify_one();
        }
    }
}

/// Sends a cancellation, without waiting for a server that reads nothing.
fn cancel(peer: &Peer<RoleClient>, id: RequestId, reason: &str) {
    let params = CancelledNotificationParam::new(Some(id), Some(reason.to_owned()));
    let notification = CancelledNotification::new(params);
    let peer = peer.clone();
    tokio::spawn(async move {
        let send = peer.send_notification(notification.into());
        let _ = tokio::time::timeout(CANCEL_SEND, send).await;
    });
}
