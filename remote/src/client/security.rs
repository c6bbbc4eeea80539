//! TLS and the token of a connection over a network.

use super::connection::ConnectError;
use std::fmt;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// How a host's identity is checked, and how this side proves its own. All of it is PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// The name that the host's certificate must have.
    pub server_name: String,
    /// Certificates of the authorities that may have signed the host's.
    pub authorities: Vec<u8>,
    /// This side's certificate and its key, for hosts that ask for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .field("has_identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Shakes hands on a stream.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<TlsStream<S>, ConnectError> {
        let failed = |error: &dyn fmt::Display| ConnectError::Handshake(format!("TLS: {error}"));
        let name =
            ServerName::try_from(self.server_name.clone()).map_err(|error| failed(&error))?;
        let connector = self.connector().map_err(|why| failed(&why))?;
        connector.connect(name, stream).await.map_err(|error| failed(&error))
    }

    fn connector(&self) -> Result<TlsConnector, Box<dyn std::error::Error>> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&self.authorities) {
            roots.add(authority?)?;
        }
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificates, key)) => {
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(certificates).collect();
                config.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_slice(key)?)?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// A bearer token, which is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Adds the token to every request.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    pub(super) fn new(secret: Option<&Secret>) -> Result<Self, ConnectError> {
        let value = secret.map(|Secret(secret)| format!("Bearer {secret}").parse()).transpose();
        let invalid = |_| ConnectError::Handshake("the token is not valid in a header".to_owned());
        let mut value: Option<MetadataValue<Ascii>> = value.map_err(invalid)?;
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        Ok(Self(value))
    }

    /// The value of the header `authorization`, if there is a token.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(self.0.as_ref()?.as_encoded_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}
