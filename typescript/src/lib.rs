//! Makes JavaScript of TypeScript.
//!
//! Types become blanks, so that every line and column stays. What has meaning at run time,
//! enums, namespaces and parameter properties, is written in JavaScript on the same lines;
//! where that moves the rest of a line, the list of shifts says by how much.
//!
//! [`strip`] is all there is. `edits` changes a text and keeps its lines; `erase` blanks
//! types; `classes`, `enums`, `namespaces` and `modules` do what their names say; `names`
//! knows what a name refers to.

mod classes;
#[cfg(target_arch = "wasm32")]
mod component;
mod edits;
mod enums;
mod erase;
mod modules;
mod names;
mod namespaces;
#[cfg(target_arch = "wasm32")]
mod wasi;

pub use edits::{Edited, Shift};

use erase::Eraser;
use oxc_allocator::Allocator;
use oxc_ast_visit::Visit;
use oxc_parser::{ParseOptions, Parser};
use oxc_span::SourceType;

/// Why there is no JavaScript of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, in UTF-16 units from 1.
    pub column: u32,
}

/// What the eraser refuses, and where.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    message: String,
    at: u32,
}

/// The JavaScript of a module in TypeScript.
///
/// # Errors
/// The first syntax error, or what of TypeScript has no JavaScript here: JSX, decorators.
pub fn strip(source: &str) -> Result<Edited, Refusal> {
    let refuse = |problem: Problem| {
        let (line, column) = edits::place(source, problem.at);
        Refusal { message: problem.message, line, column }
    };
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, SourceType::ts().with_module(true))
        .with_options(ParseOptions {
            // A host that asks for the value of a program allows it.
            allow_return_outside_function: true,
            ..ParseOptions::default()
        })
        .parse();
    if let Some(error) = parsed.diagnostics.errors().next() {
        let at = error.labels.first().map_or(0, oxc_span::LabeledSpan::offset);
        let message = if is_jsx(source) {
            "JSX is not supported; build text with template literals".to_owned()
        } else {
            error.message.to_string()
        };
        return Err(refuse(Problem { message, at }));
    }
    let names = names::Names::of(&parsed.program, source);
    let mut eraser = Eraser::new(source, names);
    eraser.visit_program(&parsed.program);
    let (edits, problem) = eraser.done();
    if let Some(problem) = problem {
        return Err(refuse(problem));
    }
    edits.apply(source).ok_or_else(|| {
        refuse(Problem { message: "this TypeScript has no JavaScript here".to_owned(), at: 0 })
    })
}

/// Whether a text is TypeScript once JSX is allowed.
fn is_jsx(source: &str) -> bool {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, SourceType::tsx().with_module(true)).parse();
    !parsed.diagnostics.has_errors()
}
