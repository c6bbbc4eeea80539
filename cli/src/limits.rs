//! Limits as arguments: what `run` and `host` have in common.

use anyhow::{Context, Result, bail};
use cellblock::CellLimits;
use clap::Args;
use std::time::Duration;

/// Limits of every cell.
#[derive(Args)]
pub struct LimitArguments {
    /// Fuel, about one unit for each WebAssembly instruction.
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
    /// Memory for JavaScript, such as 64MiB.
    #[arg(long, value_name = "SIZE")]
    memory: Option<bytesize::ByteSize>,
    /// Time until the script is stopped, waiting for tools included, such as 30s.
    #[arg(long, value_name = "TIME")]
    timeout: Option<humantime::Duration>,
    /// Any other limit, such as `calls=100`; may be given more than once.
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    limits: Vec<String>,
}

impl LimitArguments {
    /// What `--timeout` gave.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Into::into)
    }

    /// The limits: the defaults, and what was given.
    pub fn cell(&self) -> Result<CellLimits> {
        let mut limits = CellLimits::default();
        if let Some(fuel) = self.fuel {
            limits.fuel = fuel;
            limits.step_fuel = fuel;
        }
        if let Some(memory) = self.memory {
            limits.memory_bytes = usize::try_from(memory.as_u64()).unwrap_or(usize::MAX);
        }
        if let Some(timeout) = self.timeout {
            let timeout: Duration = timeout.into();
            if timeout > limits.total_time {
                bail!("--timeout must be at most {} s", limits.total_time.as_secs());
            }
            limits.total_time = timeout;
            limits.running_time = timeout;
        }
        for limit in &self.limits {
            set_limit(&mut limits, limit)?;
        }
        if let Err(why) = limits.check() {
            bail!("{why}");
        }
        Ok(limits)
    }
}

/// Sets a limit given as `NAME=VALUE`: sizes as in `--memory`, times as in `--timeout`.
fn set_limit(limits: &mut CellLimits, limit: &str) -> Result<()> {
    let (name, value) = limit
        .split_once('=')
        .with_context(|| format!("--limit {limit} must have the form NAME=VALUE"))?;
    let size = || -> Result<usize> {
        let size: bytesize::ByteSize = value
            .parse()
            .map_err(|_| anyhow::anyhow!("--limit {name}: {value} is no number or size"))?;
        Ok(usize::try_from(size.as_u64()).unwrap_or(usize::MAX))
    };
    let time = || -> Result<Duration> {
        let time: humantime::Duration =
            value.parse().with_context(|| format!("--limit {name}: {value} is no time"))?;
        Ok(time.into())
    };
    match name {
        "fuel" => limits.fuel = size()? as u64,
        "step_fuel" => limits.step_fuel = size()? as u64,
        "running_time" => limits.running_time = time()?,
        "total_time" => limits.total_time = time()?,
        "memory_bytes" => limits.memory_bytes = size()?,
        "stack_bytes" => limits.stack_bytes = size()?,
        "output_bytes" => limits.output_bytes = size()?,
        "output_items" => limits.output_items = size()?,
        "calls" => limits.calls = size()? as u64,
        "calls_in_flight" => limits.calls_in_flight = size()?,
        "input_bytes" => limits.input_bytes = size()?,
        "result_bytes" => limits.result_bytes = size()?,
        "timers" => limits.timers = size()?,
        "stored_bytes" => limits.stored_bytes = size()?,
        "stored_keys" => limits.stored_keys = size()?,
        "source_bytes" => limits.source_bytes = size()?,
        "cancel_grace" => limits.cancel_grace = time()?,
        _ => bail!("--limit {name}: there is no such limit; docs/cli.md lists them"),
    }
    Ok(())
}
