//! The `cellblock` program: runs model-written JavaScript in a sandbox.

mod run;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cellblock",
    version,
    about = "Runs untrusted JavaScript that calls tools, in a sandbox with limits that hold"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one program.
    Run(run::Arguments),
}

/// What the program's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// The script completed.
    Completed = 0,
    /// The script failed.
    Failed = 1,
    /// Bad usage: an argument or a file that it names.
    Usage = 2,
    /// The script reached a limit.
    Limit = 3,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("CELLBLOCK_LOG")
                .unwrap_or_else(|_| "error".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let Command::Run(arguments) = Arguments::parse().command;
    run::main(&arguments).into()
}
