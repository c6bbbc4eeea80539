//! The page over HTTP, for a browser on this machine.
//!
//! Every request needs the token, and a `Host` that is this machine; one that comes from a
//! page needs to come from this page. So neither another user's process, nor a web page, nor
//! a name that leads here, can look at programs or answer for the user.

use crate::inspector::Inspector;
use crate::page;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Characters that a token has at least.
const TOKEN_CHARS: usize = 16;
/// How long a request for changes waits for one.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long changes are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(100);
/// Recordings that are being sent at one time. Further requests wait until one has been read,
/// so that browsers that read slowly make the process hold no more than these.
const MAX_UNSENT: usize = 8;
/// Bytes that an answer to a question may have.
const MAX_ANSWER_BYTES: usize = 1 << 10;

/// Why an inspector cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Other machines could connect.
    #[error(
        "{0} can be reached from other machines, and what the page shows and answers is for this \
         user alone: use 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// The token can be guessed.
    #[error("a token needs at least {TOKEN_CHARS} characters, each a letter, a digit, - or _")]
    WeakToken,
    /// The system has no random numbers.
    #[error("no random number can be had for a token")]
    NoRandom,
}

/// What shows that a browser is this user's: it stands in the URL.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// 128 random bits.
    ///
    /// # Errors
    /// [`InspectError::NoRandom`].
    pub fn random() -> Result<Self, InspectError> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(|_| InspectError::NoRandom)?;
        Ok(Self(hex::encode(bits).into()))
    }

    /// A token that the user chose.
    ///
    /// # Errors
    /// [`InspectError::WeakToken`].
    pub fn given(text: &str) -> Result<Self, InspectError> {
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if text.len() < TOKEN_CHARS || !text.bytes().all(is_plain) {
            return Err(InspectError::WeakToken);
        }
        Ok(Self(text.into()))
    }

    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Who may connect.
struct Access {
    token: Token,
    /// This server as a `Host` names it.
    hosts: Vec<String>,
    /// What a browser may do with what it gets.
    policy: HeaderValue,
}

/// What the handlers need.
#[derive(Clone)]
struct Served {
    inspector: Inspector,
    /// Places for recordings that are being sent.
    unsent: Arc<Semaphore>,
}

impl Inspector {
    /// What serves the page at an address of this machine, and the page's URL.
    ///
    /// # Errors
    /// [`InspectError::NotLoopback`].
    pub fn router(
        &self,
        address: SocketAddr,
        token: &Token,
    ) -> Result<(Router, String), InspectError> {
        if !address.ip().is_loopback() {
            return Err(InspectError::NotLoopback(address));
        }
        let port = address.port();
        let hosts = vec![address.to_string(), format!("localhost:{port}")];
        let policy = format!("{}; frame-ancestors 'none'", page::live_policy());
        let nothing = HeaderValue::from_static("default-src 'none'");
        let policy = HeaderValue::try_from(policy).unwrap_or(nothing);
        let access = Arc::new(Access { token: token.clone(), hosts, policy });
        let served =
            Served { inspector: self.clone(), unsent: Arc::new(Semaphore::new(MAX_UNSENT)) };
        let router = Router::new()
            .route("/", get(|| async { Html(page::live()) }))
            .route("/changes", get(changes))
            .route("/cells/{number}", get(saved))
            .route("/answers", post(answer))
            .layer(DefaultBodyLimit::max(MAX_ANSWER_BYTES))
            .layer(from_fn_with_state(access, admit))
            .with_state(served);
        Ok((router, format!("http://{address}/?token={}", token.0)))
    }
}

/// Refuses who may not connect, and says what a browser may do with what it gets.
async fn admit(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let refusal = access.refusal(&request);
    let mut response = match refusal {
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(name, HeaderValue::from_static("same-origin"));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, access.policy.clone());
    response
}

impl Access {
    /// Why a request is refused; `None` when it is not.
    fn refusal(&self, request: &Request) -> Option<&'static str> {
        let headers = request.headers();
        let host = text(headers, header::HOST.as_str());
        if !host.is_some_and(|host| self.hosts.iter().any(|own| own == host)) {
            return Some("the request is for another host\n");
        }
        let changes = request.method() != Method::GET && request.method() != Method::HEAD;
        let is_own = |origin: &str| {
            origin.strip_prefix("http://").is_some_and(|origin| Some(origin) == host)
        };
        let from = text(headers, header::ORIGIN.as_str());
        if headers.contains_key(header::ORIGIN) != from.is_some()
            || from.map_or(changes, |origin| !is_own(origin))
        {
            return Some("the request comes from another page\n");
        }
        // Who follows a link to the page comes from elsewhere, and has the token.
        if changes && text(headers, "sec-fetch-site").is_some_and(|site| site != "same-origin") {
            return Some("the request comes from another page\n");
        }
        let bearer = text(headers, header::AUTHORIZATION.as_str())
            .and_then(|value| value.strip_prefix("Bearer "));
        let token = match bearer {
            Some(token) => Some(token),
            // A URL may be kept in many places: it is enough to look, not to change anything.
            None if changes => None,
            None => {
                let query = request.uri().query().unwrap_or_default();
                query.split('&').find_map(|pair| pair.strip_prefix("token="))
            }
        };
        let is_known = token.is_some_and(|token| self.token.is(token));
        (!is_known).then_some("the token is missing or wrong: open the URL that was printed\n")
    }
}

/// The one value of a header, as text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[derive(Deserialize)]
struct Wanted {
    /// The count of changes that the page has seen.
    #[serde(default)]
    seen: u64,
    /// The cell that it shows.
    cell: Option<u64>,
    /// The version of its recording that the page has.
    #[serde(default)]
    since: u64,
}

impl Served {
    /// A response with a body that is made once there is a place for it, which it has until it
    /// was read.
    async fn send(&self, kind: &'static str, make: impl FnOnce(&Inspector) -> String) -> Response {
        let place = Arc::clone(&self.unsent).acquire_owned().await;
        let body = stream::unfold((Some(make(&self.inspector)), place), async |(body, place)| {
            Some((Ok::<_, Infallible>(body?), (None, place)))
        });
        ([(header::CONTENT_TYPE, kind)], Body::from_stream(body)).into_response()
    }
}

/// What there is, once anything has changed.
async fn changes(State(served): State<Served>, Query(wanted): Query<Wanted>) -> Response {
    let mut changes = served.inspector.changes();
    if *changes.borrow() == wanted.seen {
        let changed = changes.wait_for(|count| *count != wanted.seen);
        if tokio::time::timeout(PATIENCE, changed).await.is_ok() {
            tokio::time::sleep(GATHER).await;
        }
    }
    let json = |inspector: &Inspector| inspector.to_json(wanted.cell, wanted.since);
    served.send("application/json", json).await
}

/// A recording as a file.
async fn saved(State(served): State<Served>, Path(number): Path<u64>) -> Response {
    let Some(recording) = served.inspector.recording(number) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let disposition = format!("attachment; filename=\"cell-{number}.html\"");
    let page = served.send("text/html; charset=utf-8", |_| recording.page()).await;
    ([(header::CONTENT_DISPOSITION, disposition)], page).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    cell: u64,
    question: u64,
    approved: bool,
}

/// Answers a question; 409 when it does not wait for an answer, or no longer.
async fn answer(State(served): State<Served>, Json(answer): Json<Answer>) -> StatusCode {
    let recording = served.inspector.recording(answer.cell);
    if recording.is_some_and(|cell| cell.answer(answer.question, answer.approved)) {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::CONFLICT
    }
}
