//! The `cellblock` program: runs model-written JavaScript in a sandbox.

mod access;
mod check;
#[cfg(feature = "nats")]
mod fleet;
mod limits;
mod mcp;
mod metrics;
mod park_key;
mod replay;
mod run;
mod sandbox;
mod serve;
mod state;
mod telemetry;
mod terminal;
mod tools;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use terminal::complain;

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
    /// Go on with a program that was parked.
    Wake(run::WakeArguments),
    /// Run a recorded program again, and compare.
    Replay(replay::Arguments),
    /// Check the types of a program against its tools, with the TypeScript compiler.
    Check(check::Arguments),
    /// Serve code-mode sessions to another process, such as Codex.
    Host(serve::Arguments),
    /// Print what a model sees of a set of tools.
    Tools(tools::Arguments),
    /// Serve MCP clients: their programs call the tools of all MCP servers of a configuration.
    Mcp(mcp::Arguments),
    /// Run cells of a fleet of machines, taken from NATS.
    #[cfg(feature = "nats")]
    Worker(fleet::worker::Arguments),
    /// List the workers of a fleet.
    #[cfg(feature = "nats")]
    Top(fleet::top::Arguments),
    /// End the commands of a `cellblock run` once it has gone: the run starts this itself.
    #[command(name = run::GUARD, hide = true)]
    Guard(run::GuardArguments),
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
    /// Ended by SIGHUP: 128 and the signal's number, as shells count.
    HungUp = 129,
    /// Ended by Ctrl-C (SIGINT).
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// The number.
    fn code(self) -> u8 {
        self as u8
    }

    /// Whether a signal ended the command.
    fn is_signal(self) -> bool {
        matches!(self, Self::HungUp | Self::Interrupted | Self::Terminated)
    }

    /// Whether the script did not end by itself.
    fn was_stopped(self) -> bool {
        self.is_signal() || self == Self::Limit
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The exit code of a command; why it could not do what it was asked goes to standard error.
fn exit_of(ended: anyhow::Result<Exit>) -> Exit {
    ended.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        Exit::Usage
    })
}

fn main() -> ExitCode {
    let _telemetry = telemetry::start();
    match Arguments::parse_from(arguments()).command {
        Command::Run(arguments) => run::main(&arguments).into(),
        Command::Wake(arguments) => run::wake(&arguments).into(),
        Command::Replay(arguments) => replay::main(&arguments).into(),
        Command::Check(arguments) => check::main(&arguments).into(),
        Command::Host(arguments) => serve::main(arguments).into(),
        Command::Tools(arguments) => tools::main(&arguments).into(),
        Command::Mcp(arguments) => mcp::main(arguments).into(),
        #[cfg(feature = "nats")]
        Command::Worker(arguments) => fleet::worker::main(arguments).into(),
        #[cfg(feature = "nats")]
        Command::Top(arguments) => fleet::top::main(&arguments).into(),
        Command::Guard(arguments) => run::guard(&arguments).into(),
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
