//! Signals that ask the command to end: the first ends the program and what it started,
//! the second ends the command at once.

use crate::Exit;
use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// What the command has been asked, so far.
#[derive(Clone)]
pub struct Signals(watch::Receiver<Option<Exit>>);

impl Signals {
    /// Listens on a thread of its own, so that a signal is served whatever the command's
    /// other threads wait for.
    pub fn listen() -> Result<Self> {
        let context = "cannot listen for signals";
        let runtime = Builder::new_current_thread().enable_io().build().context(context)?;
        let streams = register(&runtime).context(context)?;
        let (asked, signals) = watch::channel(None);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(serve(streams, asked)))
            .context(context)?;
        Ok(Self(signals))
    }

    /// Returns the exit code that the first signal asks for, once it has come.
    pub async fn received(&mut self) -> Exit {
        loop {
            if let Some(exit) = *self.0.borrow_and_update() {
                return exit;
            }
            if self.0.changed().await.is_err() {
                // The thread has ended with the process.
                std::future::pending::<()>().await;
            }
        }
    }
}

struct Streams {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

fn register(runtime: &Runtime) -> std::io::Result<Streams> {
    let _context = runtime.enter();
    Ok(Streams {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        // `nohup` ignores it for the command, which is to stay so.
        hang_up: if is_ignored(SignalKind::hangup()) {
            None
        } else {
            Some(signal(SignalKind::hangup())?)
        },
    })
}

async fn serve(mut streams: Streams, asked: watch::Sender<Option<Exit>>) {
    loop {
        let exit = tokio::select! {
            Some(()) = streams.interrupt.recv() => Exit::Interrupted,
            Some(()) = streams.terminate.recv() => Exit::Terminated,
            Some(()) = async { streams.hang_up.as_mut()?.recv().await } => Exit::HungUp,
            else => return,
        };
        if asked.send_replace(Some(exit)).is_some() {
            std::process::exit(i32::from(exit.code()));
        }
    }
}

/// Whether the process was started with the signal ignored. Linux says so.
fn is_ignored(kind: SignalKind) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (kind.as_raw_value() - 1)) != 0)
}
