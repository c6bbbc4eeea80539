//! Who may connect to a port: TLS, client certificates, and bearer tokens.

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cellblock::support::lock;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use subtle::ConstantTimeEq;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tonic::Status;

/// Tokens that a file may have.
const TOKENS: usize = 10_000;

/// Bytes that a token must have at least: fewer can be guessed.
const TOKEN_BYTES: usize = 16;

/// Who may connect to a port of a [`Server`](super::Server). By default everybody may.
///
/// Clones are handles to the same tokens.
#[derive(Clone, Default)]
pub struct Access {
    tls: Option<TlsAcceptor>,
    asks_for_certificates: bool,
    tokens: Option<Arc<Mutex<Vec<Token>>>>,
}

/// A token, and the tenant that it stands for.
struct Token {
    tenant: String,
    secret: String,
}

/// Why TLS or tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A certificate or a key is not valid PEM.
    #[error("{what} cannot be read: {why}")]
    Pem {
        /// Which file.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be set up with the certificates.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A line of a file of tokens is not `TENANT TOKEN`.
    #[error(
        "line {0} of the tokens is not `TENANT TOKEN`, with a token of at least {TOKEN_BYTES} bytes"
    )]
    Token(usize),
    /// There are no tokens, or too many.
    #[error("there must be between 1 and {TOKENS} tokens")]
    Tokens,
}

impl Access {
    /// Encrypts connections, with a certificate chain and its key as PEM. With the
    /// certificates of authorities, clients must have one that one of these has signed.
    ///
    /// # Errors
    /// [`AccessError::Pem`] and [`AccessError::Tls`].
    pub fn with_tls(
        mut self,
        certificates: &[u8],
        key: &[u8],
        client_authorities: Option<&[u8]>,
    ) -> Result<Self, AccessError> {
        let failed = |error: &dyn fmt::Display| AccessError::Tls(error.to_string());
        let chain = read_certificates("the certificate", certificates)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| AccessError::Pem { what: "the key", why: error.to_string() })?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?;
        let config = match client_authorities {
            None => config.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in read_certificates("the authorities of clients", pem)? {
                    roots.add(authority).map_err(|error| failed(&error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| failed(&error))?;
                config.with_client_cert_verifier(verifier)
            }
        };
        let config = config.with_single_cert(chain, key).map_err(|error| failed(&error))?;
        self.tls = Some(TlsAcceptor::from(Arc::new(config)));
        self.asks_for_certificates = client_authorities.is_some();
        Ok(self)
    }

    /// Asks clients for a bearer token, from lines `TENANT TOKEN`; empty lines and those that
    /// begin with `#` are comments.
    ///
    /// # Errors
    /// [`AccessError::Token`] and [`AccessError::Tokens`].
    pub fn with_tokens(mut self, lines: &str) -> Result<Self, AccessError> {
        self.tokens = Some(Arc::new(Mutex::new(read_tokens(lines)?)));
        Ok(self)
    }

    /// Replaces the tokens, in all clones. Connections that are open stay so.
    ///
    /// # Errors
    /// As for [`Access::with_tokens`]; the tokens stay as they were.
    pub fn replace_tokens(&self, lines: &str) -> Result<(), AccessError> {
        let read = read_tokens(lines)?;
        if let Some(tokens) = &self.tokens {
            *lock(tokens) = read;
        }
        Ok(())
    }

    /// Whether connections are encrypted and clients are known, by a token or a certificate.
    pub fn is_safe(&self) -> bool {
        self.tls.is_some() && (self.asks_for_certificates || self.tokens.is_some())
    }

    /// What encrypts connections, if anything does.
    pub fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref()
    }

    /// Whether clients are asked for a token.
    pub fn asks_for_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// What asks the requests of a new connection for a token.
    pub(super) fn guard(&self) -> Guard {
        Guard(Arc::new(Known { access: self.clone(), tenant: OnceLock::new() }))
    }

    /// The tenant that a token stands for. Every token is compared, and each in a time that
    /// says nothing of it. `None` when there is no such token, or none is asked for.
    pub fn tenant(&self, secret: &str) -> Option<String> {
        let tokens = lock(self.tokens.as_ref()?);
        let mut tenant = None;
        for token in &*tokens {
            if bool::from(token.secret.as_bytes().ct_eq(secret.as_bytes())) {
                tenant = Some(token.tenant.clone());
            }
        }
        tenant
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("tls", &self.tls.is_some())
            .field("asks_for_certificates", &self.asks_for_certificates)
            .field("asks_for_tokens", &self.tokens.is_some())
            .finish()
    }
}

/// Asks the requests of one connection for a token. The connection, and the sessions that
/// are opened on it, belong to the tenant of the first.
#[derive(Clone)]
pub(super) struct Guard(Arc<Known>);

struct Known {
    access: Access,
    tenant: OnceLock<String>,
}

impl Guard {
    /// Refuses a request without a token of the connection's tenant; a layer around what
    /// serves them.
    pub(super) async fn ask(self, request: Request, next: Next) -> Response {
        if self.admits(&request) {
            return next.run(request).await;
        }
        let kind = request.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return Status::unauthenticated("a valid bearer token is needed").into_http();
        }
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response()
    }

    fn admits(&self, request: &Request) -> bool {
        let Known { access, tenant } = &*self.0;
        if access.tokens.is_none() {
            return true;
        }
        let value = request.headers().get(header::AUTHORIZATION);
        let secret = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let Some(known) = secret.and_then(|secret| access.tenant(secret)) else { return false };
        *tenant.get_or_init(|| known.clone()) == known
    }
}

fn read_certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(AccessError::Pem { what, why: "it has no certificate".to_owned() })
        }
        read => read.map_err(|error| AccessError::Pem { what, why: error.to_string() }),
    }
}

fn read_tokens(lines: &str) -> Result<Vec<Token>, AccessError> {
    let mut tokens = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(char::is_whitespace) {
            Some((tenant, secret)) if secret.trim().len() >= TOKEN_BYTES => {
                let secret = secret.trim().to_owned();
                tokens.push(Token { tenant: tenant.to_owned(), secret });
            }
            _ => return Err(AccessError::Token(number + 1)),
        }
    }
    if tokens.is_empty() || tokens.len() > TOKENS { Err(AccessError::Tokens) } else { Ok(tokens) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_lines_with_a_tenant() {
        let access = Access::default()
            .with_tokens("# ours\nacme  0123456789abcdef\n\nother fedcba9876543210\n")
            .unwrap();
        assert_eq!(access.tenant("0123456789abcdef").as_deref(), Some("acme"));
        assert_eq!(access.tenant("fedcba9876543210").as_deref(), Some("other"));
        assert_eq!(access.tenant("0123456789abcdeg"), None);
        access.replace_tokens("acme aaaaaaaaaaaaaaaa").unwrap();
        assert_eq!(access.tenant("0123456789abcdef"), None);
        assert!(access.replace_tokens("").is_err());
        assert_eq!(access.tenant("aaaaaaaaaaaaaaaa").as_deref(), Some("acme"));
        for (lines, line) in [("acme short", 1), ("acme 0123456789abcdef\nalone", 2)] {
            let error = Access::default().with_tokens(lines).unwrap_err();
            assert!(error.to_string().starts_with(&format!("line {line} ")), "{error}");
        }
    }

    #[test]
    fn what_is_not_pem_is_named() {
        let error = Access::default().with_tls(b"x", b"y", None).unwrap_err();
        assert_eq!(error.to_string(), "the certificate cannot be read: it has no certificate");
    }
}
