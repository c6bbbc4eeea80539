//! `cargo xtask soak`: mixed hostile and honest cells for a given time, and whether
//! anything of this process grew.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use cellblock::{
    CellLimits, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, Engine, ExecuteRequest,
    RuntimeResponse, SessionLimits, ToolDefinition, ToolResult, WaitRequest, WasmBackend,
};
use clap::Parser;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Arguments {
    /// Seconds to run.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Cells at one time.
    #[arg(long, default_value_t = 16)]
    cells: usize,
}

/// Time before the first measurement, in which pools fill.
const WARM_UP: Duration = Duration::from_secs(30);
/// Growth of resident memory that is noise.
const NOISE_KIB: u64 = 48 << 10;

const HONEST: [&str; 5] = [
    "text(1 + 1)",
    "const r = await Promise.all([1, 2, 3].map((i) => tools.echo({ i }))); text(r)",
    "store('k' + Math.floor(Math.random() * 10), 'x'.repeat(100)); text(load('k1'))",
    "text('a'); yield_control(); await new Promise((r) => setTimeout(r, 20)); text('b')",
    "const a = Array.from({ length: 50000 }, (_, i) => ({ i, s: 's' + i })); text(JSON.stringify(a).length)",
];

struct Tools;

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        tokio::task::yield_now().await;
        Ok(call.input.map_or_else(|| Value::Null.into(), ToolResult::from))
    }
}

/// What of this process may grow.
#[derive(Clone, Copy, Debug)]
struct Size {
    rss_kib: u64,
    handles: usize,
    threads: u64,
    cells: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    let (before, after, ran) = runtime.block_on(soak(&arguments))?;
    println!("| | RSS KiB | handles | threads | cells |\n|---|---|---|---|---|");
    for (when, size) in [("start", before), ("end", after)] {
        let Size { rss_kib, handles, threads, cells } = size;
        println!("| {when} | {rss_kib} | {handles} | {threads} | {cells} |");
    }
    println!("\n{ran} cells in {} s", arguments.seconds);
    let grew = after.rss_kib > before.rss_kib + NOISE_KIB
        || after.handles > before.handles
        || after.threads > before.threads
        || after.cells > 0;
    if grew {
        bail!("something grew");
    }
    Ok(())
}

async fn soak(arguments: &Arguments) -> Result<(Size, Size, u64)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hostile/programs.json");
    let hostile: BTreeMap<String, String> = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let programs: Vec<String> =
        hostile.into_values().flat_map(|program| [program, String::new()]).collect();
    let cell = CellLimits {
        running_time: Duration::from_millis(100),
        total_time: Duration::from_millis(300),
        memory_bytes: 32 << 20,
        cancel_grace: Duration::from_millis(50),
        ..CellLimits::default()
    };
    let limits = SessionLimits { cell, ..SessionLimits::default() };
    let service =
        CodeModeService::new(Arc::new(WasmBackend::with_limits(&Engine::shared()?, limits)));
    let _turn = service.start_turn_worker(Arc::new(Tools));
    let (programs, next) = (Arc::from(programs), Arc::new(AtomicU64::new(0)));
    let run = async |until: Instant| -> Result<()> {
        let mut lanes = tokio::task::JoinSet::new();
        for _ in 0..arguments.cells {
            lanes.spawn(lane(service.clone(), Arc::clone(&programs), Arc::clone(&next), until));
        }
        while let Some(done) = lanes.join_next().await {
            done??;
        }
        Ok(())
    };
    run(Instant::now() + WARM_UP).await?;
    let before = measure(&service)?;
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    while Instant::now() < end {
        run(end.min(Instant::now() + Duration::from_secs(30))).await?;
        println!("{} KiB after {} cells", measure(&service)?.rss_kib, next.load(Ordering::Relaxed));
    }
    let after = measure(&service)?;
    Ok((before, after, next.load(Ordering::Relaxed)))
}

async fn lane(
    service: CodeModeService,
    programs: Arc<[String]>,
    next: Arc<AtomicU64>,
    until: Instant,
) -> Result<()> {
    while Instant::now() < until {
        let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
        let program = match programs[number % programs.len()].as_str() {
            "" => HONEST[number % HONEST.len()],
            hostile => hostile,
        };
        let request = ExecuteRequest {
            enabled_tools: [ToolDefinition::function("echo", "")].into(),
            ..ExecuteRequest::new(program)
        };
        let mut response = service.execute(request).await?;
        while let RuntimeResponse::Yielded { cell_id, .. } = response {
            // Every seventh is given up instead.
            response = if number.is_multiple_of(7) {
                service.terminate(cell_id).await?.into()
            } else {
                service.wait(WaitRequest { cell_id, yield_time_ms: 1000 }).await?.into()
            };
        }
    }
    Ok(())
}

fn measure(service: &CodeModeService) -> Result<Size> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find(|line| line.starts_with(name)).context("no such field")?;
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    };
    Ok(Size {
        rss_kib: field("VmRSS")?,
        handles: std::fs::read_dir("/proc/self/fd")?.count(),
        threads: field("Threads")?,
        cells: service.cells().len(),
    })
}
