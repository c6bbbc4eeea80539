//! Programs checked against the declarations of their tools before they run, with the user's
//! own TypeScript compiler.
//!
//! A compiler knows more than any schema: a misspelt member of a result, a key that no tool
//! takes, a call without its arguments. It also complains of much that runs well. So only what
//! is proof of a mistake blocks a program, and everything else is a note that is worth reading
//! once the program has failed:
//!
//! - proof: text that does not parse; a name that is not there where another is one slip away;
//!   a tool's argument that is missing, or a key that the tool does not declare;
//! - notes: all else, such as a value that may be `undefined`.
//!
//! The compiler is npm's `typescript`, 7 or newer, as `tsc --lsp --stdio`: one process that
//! stays, so that a check takes a few milliseconds where the compiler alone takes a tenth of a
//! second. It sees the program and the declarations, and no other file: modules and
//! references to files are not resolved.
//!
//! ```no_run
//! use cellblock::type_check::{TypeChecker, find_tsc};
//! use cellblock::{Language, ToolDefinition, model::ToolCatalog};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tsc = find_tsc(&std::env::current_dir()?).ok_or("npm install --save-dev typescript")?;
//! let catalog = ToolCatalog::new([ToolDefinition::function("ping", "Answers.")]);
//! let checker = TypeChecker::new(&tsc, &catalog);
//! let report = checker.check("text(await tools.pong({}))", Language::Auto).await?;
//! if let Some(refusal) = report.refusal() {
//!     println!("{refusal}"); // 1:18: Property 'pong' does not exist ... Did you mean 'ping'?
//! }
//! # Ok(())
//! # }
//! ```

mod problem;
mod server;

pub use problem::{TypeProblem, TypeReport};

use crate::backend::Language;
use crate::model::{ToolCatalog, compiler_declarations};
use server::Server;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Checks that wait for the compiler; further ones wait to be taken.
const QUEUED_CHECKS: usize = 16;

/// Checks programs with one compiler process, which starts at the first check, ends with the
/// checker, and is started anew when it fails. Clones share it.
#[derive(Clone, Debug)]
pub struct TypeChecker {
    /// To the task that owns the process.
    checks: mpsc::Sender<Check>,
}

/// A program to check.
struct Check {
    source: String,
    language: Language,
    /// Where the report goes.
    reply: oneshot::Sender<Result<TypeReport, TypeCheckError>>,
}

/// Why a program was not checked. This says nothing of the program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypeCheckError {
    /// The compiler did not start.
    #[error("the TypeScript compiler {} cannot be started: {error}", .tsc.display())]
    Start {
        /// The compiler.
        tsc: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What was started ended, or does not speak the language server protocol.
    #[error(
        "{} does not answer as the TypeScript compiler: {why}. It must be of npm's \
         `typescript`, 7.0 or newer: npm install --save-dev typescript", .tsc.display()
    )]
    Protocol {
        /// The compiler.
        tsc: PathBuf,
        /// What was seen.
        why: String,
    },
    /// The check took too long; the compiler was ended.
    #[error("the TypeScript compiler took longer than {} seconds", .0.as_secs())]
    Timeout(Duration),
    /// The checker ended before it answered: its tokio runtime was shut down.
    #[error("the type checker ended before it answered")]
    Ended,
    /// The program is longer than what is checked.
    #[error("the program has {bytes} bytes, and at most {} are checked", TypeChecker::SOURCE_BYTES)]
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
}

impl TypeChecker {
    /// Bytes of a program that is checked.
    pub const SOURCE_BYTES: usize = 256 << 10;
    /// How long a check may take, the compiler's start included.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// A checker of programs that call the tools of a catalog, with the compiler `tsc`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(tsc: &Path, catalog: &ToolCatalog) -> Self {
        let (checks, queue) = mpsc::channel(QUEUED_CHECKS);
        let declarations = compiler_declarations(catalog);
        let tools = catalog.tools().iter().map(|tool| tool.global_name.clone()).collect();
        tokio::spawn(serve(queue, tsc.to_owned(), declarations, tools));
        Self { checks }
    }

    /// Checks a program.
    ///
    /// # Errors
    ///
    /// When the compiler could not check it. That is no reason not to run it.
    pub async fn check(
        &self,
        source: &str,
        language: Language,
    ) -> Result<TypeReport, TypeCheckError> {
        if source.len() > Self::SOURCE_BYTES {
            return Err(TypeCheckError::TooLong { bytes: source.len() });
        }
        let (reply, report) = oneshot::channel();
        let check = Check { source: source.to_owned(), language, reply };
        // The task ends with the runtime alone, or with the last handle.
        self.checks.send(check).await.map_err(|_| TypeCheckError::Ended)?;
        report.await.map_err(|_| TypeCheckError::Ended)?
    }
}

/// Owns the compiler's process and checks one program after the other.
async fn serve(
    mut queue: mpsc::Receiver<Check>,
    tsc: PathBuf,
    declarations: String,
    tools: Arc<[String]>,
) {
    let mut server = None;
    while let Some(Check { source, language, reply }) = queue.recv().await {
        let check = async {
            let running = match &mut server {
                Some(running) => running,
                none => none.insert(Server::start(&tsc, &declarations).await?),
            };
            running.check(&source, language, &tools).await
        };
        let report = tokio::time::timeout(TypeChecker::TIMEOUT, check)
            .await
            .unwrap_or(Err(TypeCheckError::Timeout(TypeChecker::TIMEOUT)));
        if report.is_err() {
            server = None;
        }
        // Whoever asked may have gone.
        let _ = reply.send(report);
    }
}

/// The TypeScript compiler of a folder: `node_modules/.bin/tsc` there or in a folder above it,
/// else `tsc` of the `PATH`. `None` when there is none.
pub fn find_tsc(folder: &Path) -> Option<PathBuf> {
    let local = folder.ancestors().map(|above| above.join("node_modules/.bin/tsc"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let global = std::env::split_paths(&path).map(|folder| folder.join("tsc"));
    local.chain(global).find(|tsc| tsc.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checker_whose_runtime_has_gone_says_so() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let ended = runtime();
        let checker =
            ended.block_on(async { TypeChecker::new(Path::new("tsc"), &ToolCatalog::default()) });
        drop(ended);
        let checked = runtime().block_on(checker.check("1", Language::Js));
        assert!(matches!(checked, Err(TypeCheckError::Ended)), "{checked:?}");
    }
}
