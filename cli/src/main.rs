//! The `cellblock` program: runs model-written JavaScript in a sandbox.

mod host;
mod limits;
mod run;
mod tools;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The name under which Codex starts its host.
const HOST_NAME: &str = "codex-code-mode-host";

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
    /// Serve code-mode sessions to another process, such as Codex.
    Host(host::Arguments),
    /// Print what a model sees of a set of tools.
    Tools(tools::Arguments),
}

/// What the program's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// The script completed.
    Completed = 0,
    /// The script failed, or the host could not serve.
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
    match Arguments::parse_from(arguments()).command {
        Command::Run(arguments) => run::main(&arguments).into(),
        Command::Host(arguments) => host::main(arguments).into(),
        Command::Tools(arguments) => tools::main(&arguments).into(),
    }
}

/// The arguments, with `host` in front when the program goes by the name of Codex's host.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_stem);
    if name.is_some_and(|name| name == HOST_NAME) {
        arguments.insert(1, "host".into());
    }
    arguments
}

/// An error that is not a script's.
#[expect(clippy::print_stderr, reason = "this is what the program says")]
fn complain(text: &str) {
    eprintln!("cellblock: {text}");
}
