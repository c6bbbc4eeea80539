//! Developer chores: `cargo xtask --help`.

mod component;
mod intl;
mod manifest;
mod mcp_listing;
mod profile;
mod proto;
mod quickjs;
mod snapshot;
mod toolchain;
mod vectors;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer chores of Cellblock")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Rebuild the guest component and its manifest in guest/prebuilt.
    Guest {
        /// Change nothing; fail when the prebuilt component is not what the sources make.
        #[arg(long)]
        check: bool,
    },
    /// Generate the tables of guest/intl from CLDR and the time zone database, which npm
    /// and pip download.
    Intl {
        /// Change nothing; fail when the committed tables are not what the sources make.
        #[arg(long)]
        check: bool,
    },
    /// Compare `JSON` with that of Node, which must be installed, on values made from seeds.
    JsonFuzz(Fuzz),
    /// List the tools of published MCP servers again, from npm, into tests/fixtures.
    McpListing,
    /// Compare objects, maps and sets with those of Node, which must be installed, in programs
    /// made from seeds.
    ObjectFuzz(Fuzz),
    /// Measure how cost grows, and draw the pictures of docs/plots.
    Plots,
    /// Count what the engine does in the programs of tests/training, and keep the counts in
    /// guest/quickjs/engine.proftext, by which the guest is compiled.
    Profile,
    /// Generate the Rust of the gRPC protocol from its definition.
    Proto {
        /// Change nothing; fail when the committed code is not what the definition makes.
        #[arg(long)]
        check: bool,
    },
    /// Run hostile and honest programs on two host processes, and fail when an answer is
    /// wrong or a process grows.
    Soak {
        /// Seconds to run.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Run test262, the tests of the language's standard, and print a table; fail when other
    /// tests fail than tests/test262/known-failures.toml lists.
    Test262 {
        /// A checkout of tc39/test262.
        path: PathBuf,
        /// Folders of its `test`; `language` and `built-ins` when none is given.
        folders: Vec<String>,
    },
    /// Rebuild the component that reads TypeScript, and its manifest in typescript/prebuilt.
    Typescript {
        /// Change nothing; fail when the prebuilt component is not what the sources make.
        #[arg(long)]
        check: bool,
    },
    /// Ask a code-mode host the recorded vectors again, and report what differs.
    Vectors {
        /// The host: a program that speaks the stdio protocol.
        #[arg(long, value_name = "PATH")]
        against: PathBuf,
        /// Replace the recording by the answers.
        #[arg(long)]
        record: bool,
        /// Arguments for the host, such as `--listen stdio`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

/// How long to compare programs with Node.
#[derive(Args)]
struct Fuzz {
    /// Seconds to run.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u32,
}

impl Fuzz {
    /// Runs the programs that a folder of `tests` makes.
    fn run(&self, folder: &str) -> Result<()> {
        tests("node_fuzz", &[folder.to_owned(), self.seconds.to_string(), self.seed.to_string()])
    }
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Guest { check } => component(&component::GUEST, check),
        Chore::Typescript { check } => component(&component::TYPESCRIPT, check),
        Chore::Intl { check } => intl::intl(check),
        Chore::Profile => profile::profile(),
        Chore::Proto { check } => proto::proto(check),
        Chore::McpListing => mcp_listing::record(),
        Chore::Plots => bench("curves", &[]),
        Chore::Soak { seconds } => {
            cargo(&["build", "--release", "--quiet", "-p", "cellblock-cli"])?;
            bench("soak", &["--seconds", &seconds.to_string()])
        }
        Chore::JsonFuzz(fuzz) => fuzz.run("json-fuzz"),
        Chore::ObjectFuzz(fuzz) => fuzz.run("object-fuzz"),
        Chore::Test262 { path, folders } => {
            let path = path
                .canonicalize()
                .with_context(|| format!("no checkout at {}", path.display()))?;
            let mut arguments = vec![path.display().to_string()];
            arguments.extend(folders);
            tests("test262", &arguments)
        }
        Chore::Vectors { against, record, arguments } => {
            vectors::vectors(&against, &arguments, record)
        }
    }
}

/// Rebuilds a component, or checks that it is current.
fn component(part: &component::Part, check: bool) -> Result<()> {
    if check { part.check() } else { part.rebuild() }
}

/// Runs a program of the bench: what measures is there, so that chores stay small to build.
fn bench(program: &str, arguments: &[&str]) -> Result<()> {
    let run = ["run", "--release", "--quiet", "-p", "cellblock-bench", "--bin", program, "--"];
    cargo(&[&run, arguments].concat())
}

/// Runs cargo in the workspace.
fn cargo(arguments: &[&str]) -> Result<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    if status.success() { Ok(()) } else { bail!("cargo {} failed", arguments.join(" ")) }
}

/// Runs a program of the tests' package, which has the backends.
fn tests(program: &str, arguments: &[String]) -> Result<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--release", "--quiet", "-p", "cellblock-tests", "--bin", program, "--"])
        .args(arguments)
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    if status.success() { Ok(()) } else { bail!("{program} failed; its output is above") }
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
