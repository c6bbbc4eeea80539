//! A host process: where it is, and the one connection to it.

use super::cell::lock;
use super::child::{self, HostCommand};
use super::connection::{Failure, Link};
use super::framed::FramedLink;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How long a host may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostAddress {
    /// A child of this process that speaks framed JSON on its standard streams.
    Child(HostCommand),
    /// A child of this process that speaks gRPC on its standard streams.
    GrpcChild(HostCommand),
    /// A Unix socket that speaks framed JSON.
    Unix(PathBuf),
    /// A Unix socket that speaks gRPC.
    GrpcUnix(PathBuf),
    /// `IP:PORT` that speaks gRPC, without TLS: for this machine and trusted networks.
    Grpc(std::net::SocketAddr),
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
    number: u64,
    link: Arc<OnceCell<Arc<dyn Link>>>,
}

impl Slot {
    /// Whether the generation is over. One that is being started is not.
    fn is_over(&self) -> bool {
        self.number == 0 || self.link.get().is_some_and(|link| link.gone().is_cancelled())
    }
}

impl HostProcess {
    /// A host at an address. Starts nothing yet.
    pub fn new(address: HostAddress) -> Self {
        Self(Arc::new(Host { address, slot: Mutex::default() }))
    }

    /// Whether the host could be started, as far as can be told without doing so.
    pub(super) fn availability(&self) -> Result<(), String> {
        match &self.0.address {
            HostAddress::Child(command) => command.check(),
            HostAddress::GrpcChild(command) => command.check(),
            _ => Ok(()),
        }
    }

    /// Number of the generation that the next cell will run in.
    pub(super) fn generation(&self) -> u64 {
        let slot = lock(&self.0.slot);
        if slot.is_over() { slot.number + 1 } else { slot.number }
    }

    /// The connection, opened when there is none.
    pub(super) async fn link(&self) -> Result<(u64, Arc<dyn Link>), Failure> {
        let slot = {
            let mut slot = lock(&self.0.slot);
            if slot.is_over() {
                *slot = Slot { number: slot.number + 1, link: Arc::default() };
            }
            slot.clone()
        };
        let opened = slot.link.get_or_try_init(|| connect(&self.0.address)).await;
        let link = opened.map_err(Failure::Unavailable)?;
        Ok((slot.number, Arc::clone(link)))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(link) = lock(&self.slot).link.get() {
            link.fail("code-mode host connection was closed");
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
async fn connect(address: &HostAddress) -> Result<Arc<dyn Link>, String> {
    let unix = async |path: &PathBuf| {
        let socket = timeout(HANDSHAKE, tokio::net::UnixStream::connect(path)).await;
        let socket = socket.map_err(|_| "no answer".to_owned());
        socket
            .and_then(|socket| socket.map_err(|error| error.to_string()))
            .map_err(|why| format!("cannot connect to code-mode host at {}: {why}", path.display()))
    };
    match address {
        HostAddress::Child(command) => {
            let child::Running { child, input, output } = command.spawn()?;
            let link: Arc<dyn Link> = Arc::new(FramedLink::start(output, input, HANDSHAKE).await?);
            watch(child, &link);
            Ok(link)
        }
        HostAddress::Unix(path) => {
            let (input, output) = unix(path).await?.into_split();
            Ok(Arc::new(FramedLink::start(input, output, HANDSHAKE).await?))
        }
        HostAddress::GrpcChild(command) => {
            let child::Running { child, input, output } = command.spawn()?;
            let stream = tokio::io::join(output, input);
            let link: Arc<dyn Link> =
                Arc::new(super::grpc::GrpcLink::start(stream, HANDSHAKE).await?);
            watch(child, &link);
            Ok(link)
        }
        HostAddress::GrpcUnix(path) => {
            Ok(Arc::new(super::grpc::GrpcLink::start(unix(path).await?, HANDSHAKE).await?))
        }
        HostAddress::Grpc(address) => {
            let socket = timeout(HANDSHAKE, tokio::net::TcpStream::connect(address)).await;
            let socket = socket
                .map_err(|_| "no answer".to_owned())
                .and_then(|socket| socket.map_err(|error| error.to_string()))
                .map_err(|why| format!("cannot connect to code-mode host at {address}: {why}"))?;
            socket.set_nodelay(true).map_err(|error| error.to_string())?;
            Ok(Arc::new(super::grpc::GrpcLink::start(socket, HANDSHAKE).await?))
        }
    }
}

/// Ties a child's life to its connection's.
fn watch(child: tokio::process::Child, link: &Arc<dyn Link>) {
    let (gone, link) = (link.gone().clone(), Arc::downgrade(link));
    tokio::spawn(child::supervise(child, gone, move |why| {
        if let Some(link) = link.upgrade() {
            link.fail(&why);
        }
    }));
}
