//! `cargo xtask soak`: two host processes, one reached over its standard streams and one
//! over gRPC, run hostile and honest programs side by side for a given time. It fails when
//! an answer is lost, doubled or swapped, when a cell does not end, and when one of the
//! processes, this one included, has grown.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

mod lane;
mod programs;
mod size;

use anyhow::{Context, Result, bail, ensure};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostCommand, HostProcess};
use clap::Parser;
use lane::{Lane, Problems};
use size::Size;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Arguments {
    /// Seconds to run.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Programs at one time on each host.
    #[arg(long, default_value_t = 12)]
    lanes: usize,
}

/// The time after which what has been filled by then may not grow.
const WARM_UP: Duration = Duration::from_mins(1);

/// The time between two measurements. Sessions are opened anew for each.
const ROUND: Duration = Duration::from_secs(20);

/// Growth of resident memory that is noise.
const NOISE_KIB: u64 = 48 << 10;

/// How long a process may take to be as small as it was, once nothing runs.
const SETTLING: Duration = Duration::from_secs(15);

/// The limits of both hosts: small, so that many hostile programs end in the time, and
/// long enough for an honest program beside so many.
const LIMITS: [&str; 9] = [
    "--timeout=5s",
    "--memory=32MiB",
    "--limit=running_time=200ms",
    "--limit=output_bytes=4MiB",
    "--limit=stored_bytes=1MiB",
    "--limit=calls=2000",
    "--limit=cancel_grace=50ms",
    "--max-cells=64",
    "--max-cells-per-session=16",
];

/// What is measured: this process and the two hosts.
struct Watched {
    names: [&'static str; 3],
    processes: [u32; 3],
}

impl Watched {
    fn sizes(&self) -> Result<[Size; 3]> {
        let [own, framed, grpc] = self.processes.map(Size::of);
        Ok([own?, framed?, grpc?])
    }
}

/// A host on a port, ended with the soak.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Runtime::new()?.block_on(soak(&arguments))
}

async fn soak(arguments: &Arguments) -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("cellblock");
    ensure!(
        program.is_file(),
        "{} is not there: `cargo build --release -p cellblock-cli` makes it",
        program.display()
    );
    let (served, grpc) = serve_grpc(&program)?;
    let framed = HostProcess::new(HostAddress::child(Protocol::Framed, command(&program)));
    let hosts = [framed, HostProcess::new(grpc)];

    let hostile: Arc<[_]> = programs::hostile()?.into();
    let (problems, numbers) = (Arc::new(Problems::default()), Arc::new(AtomicU64::new(0)));
    let run = async |until: Instant| -> Result<()> {
        let mut lanes = tokio::task::JoinSet::new();
        for host in &hosts {
            for _ in 0..arguments.lanes {
                let lane = Lane::open(host, &hostile, &numbers, &problems);
                lanes.spawn(lane.run(until));
            }
        }
        while let Some(done) = lanes.join_next().await {
            done.context("a lane panicked")?;
        }
        Ok(())
    };

    run(Instant::now() + ROUND.min(WARM_UP)).await?;
    let children = size::children()?;
    let framed = children.into_iter().find(|&id| id != served.0.id()).context("no child")?;
    let watched = Watched {
        names: ["client", "host on standard streams", "host on gRPC"],
        processes: [std::process::id(), framed, served.0.id()],
    };
    let mut before = watched.sizes()?;
    let (started, end) = (Instant::now(), Instant::now() + Duration::from_secs(arguments.seconds));
    while Instant::now() < end {
        run(end.min(Instant::now() + ROUND)).await?;
        let warm = started.elapsed() < WARM_UP;
        if warm {
            for (before, now) in before.iter_mut().zip(watched.sizes()?) {
                *before = before.max(now);
            }
        }
        println!("{} s: {problems}, {:?}", started.elapsed().as_secs(), watched.sizes()?);
    }
    let after = settled(&watched, before).await?;

    println!("\n| | RSS KiB | descriptors | threads |\n|---|---|---|---|");
    for ((name, before), after) in watched.names.iter().zip(before).zip(after) {
        for (when, Size { rss_kib, descriptors, threads }) in [("warm", before), ("end", after)] {
            println!("| {name}, {when} | {rss_kib} | {descriptors} | {threads} |");
        }
    }
    println!("\n{problems} in {} s", arguments.seconds);
    for problem in problems.texts() {
        println!("- {problem}");
    }
    let grew = before.iter().zip(after).any(|(before, after)| after.has_grown(*before, NOISE_KIB));
    if grew || !problems.texts().is_empty() {
        bail!("an answer was wrong, or a process has grown");
    }
    Ok(())
}

/// The sizes once nothing runs: sockets are closed and memory is returned a little later
/// than the last answer.
async fn settled(watched: &Watched, before: [Size; 3]) -> Result<[Size; 3]> {
    let until = Instant::now() + SETTLING;
    loop {
        let now = watched.sizes()?;
        let grew = before.iter().zip(now).any(|(before, now)| now.has_grown(*before, NOISE_KIB));
        if !grew || Instant::now() > until {
            return Ok(now);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn command(program: &PathBuf) -> HostCommand {
    HostCommand::new(program).args(["host", "--listen", "stdio"]).args(LIMITS)
}

/// A host on a port of its choice, and where it is.
fn serve_grpc(program: &Path) -> Result<(Served, HostAddress)> {
    let mut child = Command::new(program)
        .args(["host", "--listen", "grpc://127.0.0.1:0"])
        .args(LIMITS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("no standard output")?;
    let served = Served(child);
    let mut url = String::new();
    std::io::BufReader::new(output).read_line(&mut url)?;
    let address = url.trim().strip_prefix("grpc://").context("the host named no address")?;
    Ok((served, HostAddress::grpc(address.parse()?)))
}
