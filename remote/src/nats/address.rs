//! Where NATS is, and how to connect to it.

use async_nats::{Client, ConnectOptions, Event};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an answer of `JetStream` may take. One that is lost with a server never comes.
const REQUEST: Duration = Duration::from_secs(5);

/// Messages of one subscription that may wait: they are moved to the queues of their links,
/// which are bounded in bytes, as soon as they come.
const SUBSCRIPTION: usize = 4_096;

/// The servers of a NATS system, and what proves who this side is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsAddress {
    /// URLs such as `nats://10.0.0.1:4222` or `tls://nats.example.com`, more than one with commas
    /// between them. A user and a password, or a token, may stand in the first as they are.
    pub url: String,
    /// A file of credentials, as `nsc generate creds` writes it.
    pub credentials: Option<PathBuf>,
    /// A PEM file with the authorities that may have signed the servers' certificates, in
    /// addition to those of this machine.
    pub authorities: Option<PathBuf>,
}

/// A connection to NATS, which is opened again when it is lost. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct NatsConnection {
    pub(crate) client: Client,
    /// How often it was opened.
    pub(crate) opened: watch::Receiver<u64>,
}

/// Why NATS cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// The file of credentials cannot be read, or is something else.
    #[error("cannot use the credentials in {}: {error}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What happened.
        error: std::io::Error,
    },
    /// No server answers, or it does not let this side in.
    #[error("cannot connect to NATS at {url}: {error}")]
    Connect {
        /// The servers, without passwords.
        url: String,
        /// What happened.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection is closed, or a right is missing.
    #[error("cannot use NATS: {0}")]
    Failed(String),
    /// A name cannot stand in a subject.
    #[error("{0:?} is not a name of at most 64 letters, digits, `-` and `_`")]
    Name(String),
    /// An address off this machine is not encrypted.
    #[error(
        "{0} is not encrypted and not on this machine: use tls://, or allow it for a network that \
         encrypts by itself"
    )]
    NotEncrypted(String),
}

impl NatsAddress {
    /// Servers by their URLs, with commas between them.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Refuses servers that are neither on this machine nor addressed with `tls://`.
    ///
    /// # Errors
    /// [`NatsError::NotEncrypted`].
    pub fn check_encrypted(&self) -> Result<(), NatsError> {
        for url in self.urls() {
            let (scheme, place) = url.split_once("://").unwrap_or(("nats", url));
            let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
            let host = match place.strip_prefix('[') {
                Some(rest) => rest.split(']').next().unwrap_or_default(),
                None => place.split([':', '/']).next().unwrap_or_default(),
            };
            let is_here = host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
            if scheme != "tls" && !is_here {
                return Err(NatsError::NotEncrypted(without_user(url)));
            }
        }
        Ok(())
    }

    fn urls(&self) -> impl Iterator<Item = &str> {
        self.url.split(',').map(str::trim).filter(|url| !url.is_empty())
    }

    /// The user and the password, or a token alone, of the first URL that has them.
    fn user(&self) -> Option<(String, Option<String>)> {
        self.urls().find_map(|url| {
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            let (user, _) = rest.rsplit_once('@')?;
            Some(match user.split_once(':') {
                Some((user, password)) => (user.to_owned(), Some(password.to_owned())),
                None => (user.to_owned(), None),
            })
        })
    }

    /// The servers, without users and passwords.
    pub(crate) fn shown(&self) -> String {
        self.urls().map(without_user).collect::<Vec<_>>().join(",")
    }

    /// Connects; from then on a lost connection is opened again, without end. Answers come to
    /// subjects that begin with `inbox`.
    pub(crate) async fn connect(
        &self,
        name: &str,
        inbox: &str,
    ) -> Result<NatsConnection, NatsError> {
        let (opening, mut opened) = watch::channel(0);
        let on_event = move |event| {
            if matches!(event, Event::Connected) {
                opening.send_modify(|times| *times += 1);
            }
            async {}
        };
        let mut options = ConnectOptions::new()
            .name(name)
            .custom_inbox_prefix(inbox)
            .connection_timeout(CONNECT)
            .subscription_capacity(SUBSCRIPTION)
            .request_timeout(Some(REQUEST))
            .event_callback(on_event);
        // The library leaves what stands in a URL to its user.
        if let Some((user, password)) = self.user() {
            options = match password {
                Some(password) => options.user_and_password(user, password),
                None => options.token(user),
            };
        }
        if let Some(path) = &self.credentials {
            let failed = |error| NatsError::Credentials { path: path.clone(), error };
            options = options.credentials_file(path).await.map_err(failed)?;
        }
        if let Some(path) = &self.authorities {
            options = options.add_root_certificates(path.clone());
        }
        let urls: Vec<_> = self.urls().map(without_user).collect();
        let connected = options.connect(urls).await;
        let client = connected
            .map_err(|error| NatsError::Connect { url: self.shown(), error: error.into() })?;
        // So that what follows is a connection that was lost in between.
        let _ = opened.wait_for(|times| *times > 0).await;
        Ok(NatsConnection { client, opened })
    }
}

/// A URL without its user and password.
fn without_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        (None, Some((_, place))) => place.to_owned(),
        (_, None) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let address = NatsAddress::new("nats://me:secret@10.0.0.1:4222, tls://b@c.example");
        assert_eq!(address.shown(), "nats://10.0.0.1:4222,tls://c.example");
    }

    #[test]
    fn users_and_tokens_are_read_as_they_stand() {
        let user = |url: &str| NatsAddress::new(url).user();
        let both = Some(("me".to_owned(), Some("a:b@c".to_owned())));
        assert_eq!(user("nats://127.0.0.1,nats://me:a:b@c@127.0.0.1:4222"), both);
        assert_eq!(user("nats://secret@127.0.0.1"), Some(("secret".to_owned(), None)));
        assert_eq!(user("tls://nats.example.com"), None);
    }

    #[test]
    fn addresses_off_this_machine_must_be_encrypted() {
        for (url, is_fine) in [
            ("nats://127.0.0.1:4222", true),
            ("localhost:4222", true),
            ("nats://u:p@[::1]:4222", true),
            ("tls://nats.example.com,nats://127.0.0.2", true),
            ("nats://10.0.0.1:4222", false),
            ("tls://a.example,nats://b.example", false),
            ("nats://localhost@evil.example", false),
        ] {
            assert_eq!(NatsAddress::new(url).check_encrypted().is_ok(), is_fine, "{url}");
        }
    }
}
