//! Cells on a fleet of machines: its workers, its clients, and a look at it.

mod policy;
pub mod top;
pub mod worker;

use anyhow::Result;
use cellblock::SessionLimits;
use cellblock_remote::{NatsAddress, NatsBackend, NatsFleet, ProcessLimits};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Where the fleet is.
#[derive(Args, Clone, Default)]
pub struct NatsArguments {
    /// The NATS servers of the fleet, such as `tls://nats.example.com`, more than one with commas
    /// between them.
    #[arg(long = "nats", value_name = "URL")]
    url: Option<String>,
    /// Credentials for NATS, as `nsc generate creds` writes them.
    #[arg(long = "creds", value_name = "FILE", requires = "url")]
    credentials: Option<PathBuf>,
    /// Authorities that may have signed the certificates of the NATS servers, as PEM, in addition
    /// to those of this machine.
    #[arg(long = "nats-ca", value_name = "FILE", requires = "url")]
    authorities: Option<PathBuf>,
    /// Use NATS servers off this machine without TLS.
    #[arg(long = "nats-plain", requires = "url")]
    plain: bool,
}

/// Which workers of the fleet run this command's cells.
#[derive(Args, Clone, Default)]
pub struct FleetArguments {
    #[command(flatten)]
    nats: NatsArguments,
    /// The class of workers: a name that they were given, or the first eight digits of their
    /// sandbox's SHA-256.
    #[arg(long, value_name = "NAME", default_value = cellblock_remote::DEFAULT_CLASS)]
    class: String,
    /// How often clients and workers say that they are alive; workers are to have the same.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    heartbeat: Duration,
}

impl NatsArguments {
    /// The servers, if a fleet is to be used.
    fn address(&self) -> Result<Option<NatsAddress>> {
        let Some(url) = &self.url else { return Ok(None) };
        let address = NatsAddress {
            url: url.clone(),
            credentials: self.credentials.clone(),
            authorities: self.authorities.clone(),
        };
        if !self.plain {
            address.check_encrypted()?;
        }
        Ok(Some(address))
    }

    /// The servers.
    fn required(&self) -> Result<NatsAddress> {
        self.address()?.ok_or_else(|| anyhow::anyhow!("--nats URL says where the fleet is"))
    }
}

impl FleetArguments {
    /// The fleet, if one is to be used.
    pub fn fleet(&self) -> Result<Option<NatsFleet>> {
        let Some(address) = self.nats.address()? else { return Ok(None) };
        let fleet = NatsFleet::new(address).with_class(&*self.class)?;
        Ok(Some(fleet.with_heartbeat(self.heartbeat).with_trace(crate::telemetry::traceparent)))
    }
}

/// A session on a fleet with these limits, where they are narrower than the workers'.
pub fn session(fleet: &NatsFleet, limits: SessionLimits) -> NatsBackend {
    let limits = ProcessLimits {
        max_yield_time_ms: limits.max_yield_time_ms,
        cancel_grace: limits.cell.cancel_grace,
        cell: Some(limits.cell),
        cells: Some(limits.cells),
        unread_results: limits.unread_results,
        unread_bytes: limits.unread_bytes,
        ..ProcessLimits::default()
    };
    NatsBackend::with_limits(fleet, limits)
}
