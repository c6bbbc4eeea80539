//! This server over streamable HTTP. Requests stand alone: what a client has to keep is in
//! the handles of its sessions, which work only for who has made them.

use super::connections::serve;
use super::server::{Authenticated, Handler};
use super::subscriptions::{OWN_METHOD, renamed};
use super::surrogates::replace_lone_surrogates;
use crate::gateway::Gateway;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Where the protocol is served.
pub const PATH: &str = "/mcp";
/// Bytes that a request may have.
const MAX_REQUEST_BYTES: usize = 8 << 20;
/// How long a client may take to send the body of a request.
const BODY: Duration = Duration::from_secs(30);

/// Says whose a bearer token is; `None` when it is nobody's.
pub type Authenticate = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Who may use a gateway over HTTP.
#[derive(Clone, Default)]
pub struct HttpAccess {
    /// Encrypts connections.
    pub tls: Option<TlsAcceptor>,
    /// Asks every request for a bearer token.
    pub authenticate: Option<Authenticate>,
    /// Names by which clients may address this server, with or without a port, beside those
    /// of this machine itself (`localhost` and its addresses).
    pub hosts: Vec<String>,
    /// Origins of web pages that may use it, such as `https://example.com:443`; none may
    /// when there are none.
    pub origins: Vec<String>,
}

/// Serves clients over HTTP, at [`PATH`]. Returns only when that is not possible.
///
/// # Errors
/// When connections cannot be accepted any more.
pub async fn serve_http(
    gateway: &Gateway,
    listener: TcpListener,
    access: HttpAccess,
) -> io::Result<()> {
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    // Whatever a web page finds out of this address, its name is not one of these.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_max_request_body_bytes(MAX_REQUEST_BYTES)
        .with_allowed_hosts(own.into_iter().chain(access.hosts))
        .with_allowed_origins(access.origins)
        .enforce_origin_validation()
        .with_cancellation_token(CancellationToken::new());
    let listed = Arc::default();
    let handler = Handler { gateway: gateway.clone(), implicit_session: false, listed };
    let service = StreamableHttpService::new(
        move || Ok(handler.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let router = Router::new()
        .nest_service(PATH, service)
        .layer(from_fn(with_whole_body))
        .layer(from_fn_with_state(access.authenticate, authenticated))
        .route("/healthz", get(|| async { StatusCode::OK }));
    serve(listener, access.tls, router).await
}

/// Reads the body of a request before anything is done about it, in bounded time.
async fn with_whole_body(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY, to_bytes(body, MAX_REQUEST_BYTES)).await {
        Ok(Ok(body)) => {
            let mut body = Vec::from(body);
            replace_lone_surrogates(&mut body);
            body
        }
        Ok(Err(_)) => {
            let text = format!("the request has more than {MAX_REQUEST_BYTES} bytes");
            return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
        }
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let body = match renamed(&body) {
        Some(renamed) => {
            if let Some(method) = parts.headers.get_mut("mcp-method") {
                *method = header::HeaderValue::from_static(OWN_METHOD);
            }
            Body::from(renamed)
        }
        None => Body::from(body),
    };
    next.run(Request::from_parts(parts, body)).await
}

/// Serves the page of an inspector, with what
/// [`Inspector::router`](cellblock_inspect::Inspector::router) returned. Returns only when
/// that is not possible.
///
/// # Errors
/// When connections cannot be accepted any more.
pub async fn serve_inspector(listener: TcpListener, router: Router) -> io::Result<()> {
    serve(listener, None, router).await
}

/// Refuses a request without a token, and keeps whose it is.
async fn authenticated(
    State(authenticate): State<Option<Authenticate>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(authenticate) = authenticate {
        let value = request.headers().get(header::AUTHORIZATION);
        let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let Some(name) = token.and_then(|token| authenticate(token)) else {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            return (StatusCode::UNAUTHORIZED, challenge).into_response();
        };
        request.extensions_mut().insert(Authenticated(name.into()));
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::options::Options;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn answer(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a port");
        let no_backend =
            Arc::new(|| Err(cellblock::CodeModeError::Unavailable("in this test".to_owned())));
        let gateway =
            Gateway::new(&Config::default(), Options::new(no_backend)).expect("no folder");
        tokio::spawn(async move { serve_http(&gateway, listener, HttpAccess::default()).await });
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // It may stop reading what is too much.
        let _ = stream.write_all(request).await;
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.expect("a status");
        String::from_utf8(answer).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_bounded_in_time_and_bytes() {
        let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length";
        let slow = format!("{head}: 100\r\n\r\nslow");
        assert_eq!(answer(slow.as_bytes()).await, "HTTP/1.1 408");
        let mut long = format!("{head}: {}\r\n\r\n", MAX_REQUEST_BYTES + 1).into_bytes();
        long.resize(long.len() + MAX_REQUEST_BYTES + 1, b' ');
        assert_eq!(answer(&long).await, "HTTP/1.1 413");
    }
}
