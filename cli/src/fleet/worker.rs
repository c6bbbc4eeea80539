//! `cellblock worker`: takes cells of a fleet over NATS.

use super::NatsArguments;
use super::policy::Policy;
use crate::Exit;
use crate::limits::LimitArguments;
use anyhow::{Context, Result, ensure};
use bytesize::ByteSize;
use cellblock::support::lock;
use cellblock::{
    CellLimits, CodeModeBackend, CodeModeError, Engine, EngineConfig, ParkKey, Parking,
    SessionLimits, WasmBackend,
};
use cellblock_remote::protocol::MAX_PARKED_BYTES;
use cellblock_remote::server::{
    AskedLimits, FleetParking, ServerLimits, Tenants, Worker, WorkerOptions,
};
use clap::Args;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Digits of the guest's SHA-256 that are the name of a class.
const CLASS_DIGITS: usize = 8;

/// Arguments of `cellblock worker`.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    nats: NatsArguments,
    /// Cells that it runs at one time.
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().cells)]
    max_cells: usize,
    /// Cells that a tenant may have here at one time, where the policy says nothing; half of all
    /// unless it is given.
    #[arg(long, value_name = "N")]
    max_cells_per_tenant: Option<usize>,
    /// A class whose cells it takes, in addition to that of its sandbox; may be given more than
    /// once.
    #[arg(long = "class", value_name = "NAME", default_value = cellblock_remote::DEFAULT_CLASS)]
    classes: Vec<String>,
    /// What tenants may have: a JSON file, see docs/fleet.md.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Its name in NATS's subjects, for rights of its own; a random one unless it is given.
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// How often clients and workers say that they are alive; clients are to have the same.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    heartbeat: Duration,
    /// How long a cell is kept whose client is silent.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    orphan_grace: Duration,
    /// After SIGTERM, how long cells that run may take to end; no new ones are taken.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    drain: Duration,
    /// The key that parked cells are encrypted with, the same on all workers; see
    /// docs/parking.md. Made when missing. With it cells that wait are kept by NATS when this
    /// worker ends; without it a cell is woken where it was parked alone.
    #[arg(long, value_name = "FILE")]
    park_key: Option<PathBuf>,
    /// How long nothing of a cell may have happened before NATS keeps it, and this worker has it
    /// no more.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration, requires = "park_key")]
    park_after: Duration,
    /// Copies of parked cells, where there are so many NATS servers.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5), requires = "park_key")]
    park_replicas: u8,
    /// What the parked cells of all tenants may take on each NATS server, which reserves it.
    #[arg(long, value_name = "SIZE", default_value = "2GiB", requires = "park_key")]
    park_bytes: ByteSize,
    /// What the parked cells of one tenant may take on each NATS server; half of that of all
    /// unless it is given.
    #[arg(long, value_name = "SIZE", requires = "park_key")]
    park_bytes_per_tenant: Option<ByteSize>,
    /// Cells of one tenant that NATS may keep at one time.
    #[arg(long, value_name = "N", default_value_t = 20_000, requires = "park_key")]
    max_parked_per_tenant: usize,
    #[command(flatten)]
    limits: LimitArguments,
}

/// What a worker does for its tenants.
struct OverWasm {
    engine: Engine,
    limits: CellLimits,
    policy: Policy,
    /// From which the key of each tenant is made.
    key: ParkKey,
    /// How cells of each tenant that had some are parked.
    parking: Mutex<HashMap<String, Parking>>,
    /// Cells of a tenant, where the policy says nothing.
    cells: usize,
}

impl Tenants for OverWasm {
    fn cells(&self, tenant: &str) -> usize {
        self.policy.cells(tenant).unwrap_or(self.cells)
    }

    fn open(
        &self,
        tenant: &str,
        asked: AskedLimits,
    ) -> Result<Arc<dyn CodeModeBackend>, CodeModeError> {
        let limits = SessionLimits {
            cells: 1,
            unread_results: 1,
            cell: self.policy.limits(tenant, &self.limits),
            ..SessionLimits::default()
        };
        let limits = crate::serve::narrowed(&limits, asked)?;
        let backend = WasmBackend::with_limits(&self.engine, limits);
        backend.set_parking(self.parking(tenant));
        Ok(Arc::new(backend))
    }
}

impl OverWasm {
    /// How a tenant's cells are parked: with a key of its own.
    fn parking(&self, tenant: &str) -> Parking {
        // Tenants are accounts of the fleet's operator: there are not too many to remember.
        let mut parking = lock(&self.parking);
        let parking = parking.entry(tenant.to_owned()).or_insert_with(|| {
            // Another worker may wake the same cell.
            let parking = Parking::new(&self.key.derived(tenant)).reseeding();
            parking.limited_to(MAX_PARKED_BYTES)
        });
        parking.clone()
    }
}

/// Takes cells until a signal.
pub fn main(arguments: Arguments) -> Exit {
    run(arguments).unwrap_or_else(|error| {
        crate::complain(&format!("{error:#}"));
        Exit::Failed
    })
}

fn run(arguments: Arguments) -> Result<Exit> {
    let address = arguments.nats.required()?;
    ensure!(
        arguments.orphan_grace > arguments.heartbeat,
        "--orphan-grace must be longer than --heartbeat"
    );
    let policy = arguments.policy.as_deref().map(Policy::read).transpose()?.unwrap_or_default();
    let limits = arguments.limits.cell()?;
    let mut config = EngineConfig::default();
    let most = u32::try_from(arguments.max_cells).unwrap_or(u32::MAX);
    config.max_cells = most.min(crate::serve::MOST_RUNNING);
    let engine = Engine::new(&config).context("no sandbox on this machine")?;
    let guest = engine.guest_digest();
    let mut classes = arguments.classes;
    classes.push(guest[..CLASS_DIGITS].to_owned());
    classes.sort();
    classes.dedup();
    let key = match &arguments.park_key {
        Some(path) => ParkKey::encrypting(crate::park_key::secret(path)?),
        None => ParkKey::random().context("no randomness for a key")?,
    };
    let park_bytes = arguments.park_bytes.as_u64();
    let parking = arguments.park_key.is_some().then(|| FleetParking {
        class: format!("{}-{}", &guest[..CLASS_DIGITS], key.name()),
        replicas: arguments.park_replicas.into(),
        bytes: park_bytes,
        bytes_per_tenant: arguments
            .park_bytes_per_tenant
            .map_or(park_bytes / 2, |all| all.as_u64()),
        cells_per_tenant: arguments.max_parked_per_tenant,
        keeps_for: limits.total_time,
        parks_after: arguments.park_after,
    });
    let options = WorkerOptions {
        id: arguments.id,
        classes,
        cells: arguments.max_cells,
        heartbeat: arguments.heartbeat,
        orphan_grace: arguments.orphan_grace,
        guest,
        parking,
    };
    let cells = arguments.max_cells_per_tenant.unwrap_or(arguments.max_cells.div_ceil(2));
    let tenants = OverWasm { engine, limits, policy, key, parking: Mutex::default(), cells };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the event loop")?;
    let exit = runtime.block_on(async {
        let worker = Worker::connect(&address, options, tenants).await?;
        tokio::select! {
            served = worker.serve() => served.map(|()| Exit::Completed).map_err(Into::into),
            drained = drain(&worker, arguments.drain) => drained.map(|()| Exit::Interrupted),
        }
    });
    runtime.shutdown_background();
    exit
}

/// Returns when the process is to end: at Ctrl-C or a second signal at once, and after SIGTERM
/// when its cells have ended, or their time is over.
async fn drain(worker: &Worker, patience: Duration) -> Result<()> {
    crate::serve::until_drained(async {
        if !worker.drain(patience).await {
            crate::complain("cells were still running when the time to drain was over");
        }
    })
    .await
}
