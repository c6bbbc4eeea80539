//! `cellblock check`: types of a script against the declarations of its tools.

use crate::Exit;
use crate::run::{input, language_of, parse_language};
use crate::terminal;
use crate::tools::ToolsFile;
use anyhow::{Context, Result, anyhow};
use cellblock::Language;
use cellblock::model::ToolCatalog;
use cellblock::type_check::{TypeChecker, TypeReport, find_tsc};
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Arguments of `cellblock check`.
#[derive(Args)]
pub struct Arguments {
    /// The script; `-` reads it from standard input.
    script: PathBuf,
    /// The tools that the script may call, as for `tools`; see docs/cli.md.
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    #[command(flatten)]
    compiler: CompilerArguments,
    /// What the script is written in: `js`, `ts`, or `auto`, TypeScript where it has types.
    /// Without it, the ending of the file's name says.
    #[arg(long, value_name = "LANGUAGE", value_parser = parse_language)]
    language: Option<Language>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Which compiler checks.
#[derive(Args)]
pub struct CompilerArguments {
    /// The TypeScript compiler, 7.0 or newer; without it, `node_modules/.bin/tsc` here or in a
    /// folder above, else `tsc` of the PATH.
    #[arg(long, value_name = "FILE")]
    tsc: Option<PathBuf>,
}

impl CompilerArguments {
    /// Where the compiler is.
    pub fn find(&self) -> Result<PathBuf> {
        let here = || std::env::current_dir().ok();
        let found = self.tsc.clone().or_else(|| find_tsc(&here()?));
        found.ok_or_else(|| {
            anyhow!(
                "there is no TypeScript compiler here to check types with. Install it, \
                 `npm install --save-dev typescript`, or name it with --tsc"
            )
        })
    }
}

/// Checks the script and prints what is wrong with it.
pub fn main(arguments: &Arguments) -> Exit {
    let checked = check(arguments).and_then(|report| {
        print(arguments, &report)?;
        Ok(report)
    });
    match checked {
        Ok(report) if report.proofs.is_empty() => Exit::Completed,
        Ok(_) => Exit::Failed,
        Err(error) => {
            crate::complain(&format!("{error:#}"));
            Exit::Usage
        }
    }
}

fn check(arguments: &Arguments) -> Result<TypeReport> {
    let source = input::script(&arguments.script, TypeChecker::SOURCE_BYTES)?;
    let tools = arguments.tools.as_deref().map(ToolsFile::read).transpose()?;
    let catalog = tools.map_or_else(ToolCatalog::default, ToolsFile::catalog);
    let language = arguments.language.unwrap_or_else(|| language_of(&arguments.script));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let tsc = arguments.compiler.find()?;
    runtime.block_on(async {
        let checker = TypeChecker::new(&tsc, &catalog);
        Ok(checker.check(&source, language).await?)
    })
}

fn print(arguments: &Arguments, report: &TypeReport) -> Result<()> {
    let mut text = String::new();
    if arguments.json {
        text = serde_json::to_string_pretty(report)?;
        text.push('\n');
    } else {
        let script = arguments.script.display();
        for problem in &report.proofs {
            writeln!(text, "{script}:{problem}")?;
        }
        for problem in &report.notes {
            writeln!(text, "note: {script}:{problem}")?;
        }
    }
    terminal::print(&text)
}
