//! Limits as arguments: what `run` and `host` have in common.

use anyhow::{Context, Result, bail};
use cellblock::{CellLimits, OverLimit};
use clap::Args;
use std::time::Duration;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

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
        limits.check()?;
        Ok(limits)
    }
}

/// Sets a limit given as `NAME=VALUE`: sizes as in `--memory`, times as in `--timeout`.
fn set_limit(limits: &mut CellLimits, limit: &str) -> Result<()> {
    let (name, value) = limit
        .split_once('=')
        .with_context(|| format!("--limit {limit} must have the form NAME=VALUE"))?;
    let mut all = serde_json::to_value(&*limits)?;
    let slot = all.get_mut(name).with_context(|| {
        format!("--limit {name}: there is no such limit; docs/cli.md lists them")
    })?;
    // Times are texts in JSON, everything else is a number.
    *slot = if slot.is_string() {
        let time: humantime::Duration = value
            .parse()
            .with_context(|| format!("--limit {name}: {value} is not a time such as 1500ms"))?;
        format!("{}ms", time.as_millis()).into()
    } else {
        let size: bytesize::ByteSize = value.parse().map_err(|_| {
            anyhow::anyhow!("--limit {name}: {value} is not a number or a size such as 16MiB")
        })?;
        size.as_u64().into()
    };
    *limits = serde_json::from_value(all).with_context(|| format!("--limit {name}: {value}"))?;
    Ok(())
}

/// What to do about a limit of a cell, which is `what`, that is above the one that was given.
pub fn over_limit(what: &str, over: &OverLimit) -> String {
    let OverLimit { name, value, allowed } = over;
    let option = match name.as_str() {
        "fuel" | "step_fuel" => "--fuel".to_owned(),
        "memory_bytes" => "--memory".to_owned(),
        // It may be at most a day.
        "running_time" | "total_time" if milliseconds(value) <= Some(DAY_MS) => {
            "--timeout".to_owned()
        }
        // What is not a field of the limits has no option of its own.
        name if name.contains(' ') => {
            return format!("the {what} cell's {name} are {value}, and {allowed} are allowed");
        }
        name => format!("--limit {name}"),
    };
    let (value, allowed) = (legible(value), legible(allowed));
    format!(
        "the {what} cell's {name} is {value}, and {option} allows {allowed}; give at least that"
    )
}

/// A limit's value, with times such as `120000ms` as `2m`.
fn legible(value: &str) -> String {
    match milliseconds(value) {
        Some(ms) => humantime::format_duration(Duration::from_millis(ms)).to_string(),
        None => value.to_owned(),
    }
}

/// The time of a text such as `1500ms`.
fn milliseconds(value: &str) -> Option<u64> {
    value.strip_suffix("ms").and_then(|number| number.parse().ok())
}
