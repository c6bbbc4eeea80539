//! Where a host is, and the one connection to it.

use super::child::{self, HostCommand, RunningChild};
use super::connection::{ConnectError, Failure, HostConnection};
use super::framed::FramedConnection;
use super::grpc::GrpcConnection;
use super::security::{Bearer, ClientTls, Secret};
use crate::protocol::Protocol;
use cellblock::support::lock;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How long a host may take to accept a connection, and as long again to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// How a host is reached, and what it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    transport: Transport,
    protocol: Protocol,
    /// Encryption, over a network.
    tls: Option<ClientTls>,
    /// What proves who this side is, over a network.
    token: Option<Secret>,
}

/// What carries bytes to and from a host.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Transport {
    /// The standard streams of a child of this process.
    Child(HostCommand),
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl HostAddress {
    /// A child of this process, reached on its standard streams.
    pub fn child(protocol: Protocol, command: HostCommand) -> Self {
        Self::new(Transport::Child(command), protocol)
    }

    /// A Unix socket.
    pub fn unix(protocol: Protocol, path: impl Into<PathBuf>) -> Self {
        Self::new(Transport::Unix(path.into()), protocol)
    }

    /// A TCP port that speaks gRPC. Without [`HostAddress::with_tls`] it is for this machine
    /// and trusted networks.
    pub fn grpc(address: SocketAddr) -> Self {
        Self::new(Transport::Tcp(address), Protocol::Grpc)
    }

    /// A TCP port that speaks framed JSON over `WebSocket`s. Without [`HostAddress::with_tls`] it
    /// is for this machine and trusted networks.
    pub fn websocket(address: SocketAddr) -> Self {
        Self::new(Transport::Tcp(address), Protocol::Framed)
    }

    /// Encrypts the connection to a port.
    #[must_use]
    pub fn with_tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sends this bearer token with every request to a port.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret(token.into()));
        self
    }

    fn new(transport: Transport, protocol: Protocol) -> Self {
        Self { transport, protocol, tls: None, token: None }
    }
}

/// A host process: how it is reached, and the connection to it.
///
/// The first session that needs it connects, or starts it, and all sessions share
/// it. When the connection fails, all their cells are closed, and the next program
/// opens a new *generation* of it. Dropping the last handle ends the connection, and
/// a child with it. Clones are handles to the same host.
#[derive(Clone)]
pub struct HostProcess(Arc<Host>);

struct Host {
    address: HostAddress,
    slot: Mutex<Slot>,
}

/// The newest generation.
#[derive(Clone, Default)]
struct Slot {
    /// From 1; 0 before the first.
    number: u64,
    connection: Arc<OnceCell<Arc<dyn HostConnection>>>,
}

impl Slot {
    /// Whether the generation is over. One that is being started is not.
    fn is_over(&self) -> bool {
        let closed =
            |connection: &Arc<dyn HostConnection>| connection.lifeline().closed().is_cancelled();
        self.number == 0 || self.connection.get().is_some_and(closed)
    }
}

impl HostProcess {
    /// A host at an address. Starts nothing yet.
    pub fn new(address: HostAddress) -> Self {
        Self(Arc::new(Host { address, slot: Mutex::default() }))
    }

    /// Whether the host could be started, as far as is known without doing so.
    pub(super) fn availability(&self) -> Result<(), ConnectError> {
        match &self.0.address.transport {
            Transport::Child(command) => command.check(),
            Transport::Unix(_) | Transport::Tcp(_) => Ok(()),
        }
    }

    /// Number of the generation that the next cell will run in.
    pub(super) fn generation(&self) -> u64 {
        let slot = lock(&self.0.slot);
        if slot.is_over() { slot.number + 1 } else { slot.number }
    }

    /// The connection, opened when there is none.
    pub(super) async fn connection(&self) -> Result<(u64, Arc<dyn HostConnection>), Failure> {
        let slot = {
            let mut slot = lock(&self.0.slot);
            if slot.is_over() {
                *slot = Slot { number: slot.number + 1, connection: Arc::default() };
            }
            slot.clone()
        };
        let opened = slot.connection.get_or_try_init(|| connect(&self.0.address)).await;
        let connection = opened.map_err(Failure::Unavailable)?;
        Ok((slot.number, Arc::clone(connection)))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(connection) = lock(&self.slot).connection.get() {
            connection.fail(super::connection::ConnectionError::Dropped);
        }
    }
}

impl fmt::Debug for HostProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostProcess")
            .field("address", &self.0.address)
            .field("generation", &lock(&self.0.slot).number)
            .finish_non_exhaustive()
    }
}

/// Opens a connection.
async fn connect(address: &HostAddress) -> Result<Arc<dyn HostConnection>, ConnectError> {
    match &address.transport {
        Transport::Child(command) => {
            let RunningChild { child, input, output } = command.spawn()?;
            let connection = shake_hands(address.protocol, output, input).await?;
            watch(child, &connection);
            Ok(connection)
        }
        Transport::Unix(path) => {
            let socket = reached(path.display(), UnixStream::connect(path)).await?;
            let (input, output) = socket.into_split();
            shake_hands(address.protocol, input, output).await
        }
        Transport::Tcp(place) => {
            let connecting = async {
                let socket = TcpStream::connect(place).await?;
                socket.set_nodelay(true)?;
                Ok(socket)
            };
            let socket = reached(place, connecting).await?;
            let Some(tls) = &address.tls else {
                return over_network(address, place, socket).await;
            };
            let late = || ConnectError::Handshake("TLS: no answer".to_owned());
            let stream = timeout(HANDSHAKE, tls.connect(socket)).await.map_err(|_| late())??;
            over_network(address, place, stream).await
        }
    }
}

/// Shakes hands on a stream to a port, where a token says who this side is.
async fn over_network(
    address: &HostAddress,
    place: &SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Arc<dyn HostConnection>, ConnectError> {
    let bearer = Bearer::new(address.token.as_ref())?;
    Ok(match address.protocol {
        Protocol::Framed => {
            Arc::new(FramedConnection::over_websocket(stream, place, bearer, HANDSHAKE).await?)
        }
        Protocol::Grpc => Arc::new(GrpcConnection::start(stream, bearer, HANDSHAKE).await?),
    })
}

async fn reached<S>(
    place: impl fmt::Display,
    connecting: impl Future<Output = std::io::Result<S>>,
) -> Result<S, ConnectError> {
    let why = match timeout(HANDSHAKE, connecting).await {
        Ok(Ok(socket)) => return Ok(socket),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    Err(ConnectError::Connect { place: place.to_string(), why })
}

/// Shakes hands on a stream between processes of one machine.
async fn shake_hands(
    protocol: Protocol,
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<Arc<dyn HostConnection>, ConnectError> {
    Ok(match protocol {
        Protocol::Framed => Arc::new(FramedConnection::over_bytes(input, output, HANDSHAKE).await?),
        Protocol::Grpc => {
            let (stream, bearer) = (tokio::io::join(input, output), Bearer::new(None)?);
            Arc::new(GrpcConnection::start(stream, bearer, HANDSHAKE).await?)
        }
    })
}

/// Ends the connection with its child, and the child with the connection.
fn watch(child: tokio::process::Child, connection: &Arc<dyn HostConnection>) {
    let closed = connection.lifeline().closed().clone();
    let connection = Arc::downgrade(connection);
    tokio::spawn(child::supervise(child, closed, move |reason| {
        if let Some(connection) = connection.upgrade() {
            connection.fail(reason);
        }
    }));
}
