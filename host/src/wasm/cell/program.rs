//! How a program is started: as JavaScript, or as TypeScript.

use super::super::bindings::cellblock::code_mode::types;
use super::super::engine::Engine;
use super::super::sandbox::{Finished, Sandbox, Step};
use super::super::typescript::{Refusal, Unread};
use crate::backend::Language;

/// What the author should know of a syntax error in TypeScript.
const READ_AS_TYPESCRIPT: &str = "The program was read as TypeScript.";

/// What the author should know of a program that was too much.
const TOO_MUCH: &str = "The program is too long, or nests too deeply, to be read as TypeScript.";

/// How the guest's hint begins that TypeScript is not allowed.
const ONLY_JAVASCRIPT: &str = "This looks like TypeScript.";

/// A program that is to be started.
pub(in super::super) struct Program {
    pub(in super::super) language: Language,
    pub(in super::super) request: types::ExecuteRequest,
    /// The longest text that is read as TypeScript.
    pub(in super::super) typescript_bytes: usize,
}

impl Program {
    /// Starts the program. One that does not parse as JavaScript has run nothing, and is
    /// read as TypeScript, where that may be.
    pub(super) async fn start(mut self, engine: &Engine, sandbox: &mut Sandbox) -> Step {
        let unparsed = match self.language {
            Language::Ts => None,
            language => match sandbox.execute(&self.request).await {
                Step::Finished(Finished::Unparsed { error_text, hint })
                    if language != Language::Js =>
                {
                    Some((error_text, hint))
                }
                step => return step,
            },
        };
        match self.read(engine, sandbox, unparsed).await {
            Ok(()) => sandbox.execute(&self.request).await,
            Err(finished) => Step::Finished(finished),
        }
    }

    /// Reads the program as TypeScript, or says how one ends that is not that either:
    /// `unparsed` are the error and the hint of JavaScript, where it was read as that first.
    pub(in super::super) async fn read(
        &mut self,
        engine: &Engine,
        sandbox: &mut Sandbox,
        unparsed: Option<(String, Option<String>)>,
    ) -> Result<(), Finished> {
        let Err(unread) = self.translate(engine, sandbox).await else { return Ok(()) };
        let Some((error_text, hint)) = unparsed else { return Err(self.refused(unread, sandbox)) };
        let is_allowed = |hint: &String| !hint.starts_with(ONLY_JAVASCRIPT);
        let hint = match unread {
            Unread::OutOfFuel => return Err(sandbox.out_of_fuel()),
            // The language that the program was understood in for longer is its author's.
            Unread::Refused(refusal) if (refusal.line, refusal.column) > place_of(&error_text) => {
                return Err(syntax_error(&refusal));
            }
            Unread::Broken(why) => {
                tracing::error!("TypeScript cannot be read: {why}");
                hint
            }
            Unread::Refused(_) => hint.filter(is_allowed),
            Unread::TooMuch => Some(hint.filter(is_allowed).unwrap_or(TOO_MUCH.to_owned())),
        };
        Err(Finished::Unparsed { error_text, hint })
    }

    /// Makes JavaScript of the program.
    async fn translate(&mut self, engine: &Engine, sandbox: &mut Sandbox) -> Result<(), Unread> {
        if self.request.source.len() > self.typescript_bytes {
            return Err(Unread::TooMuch);
        }
        let program = sandbox.javascript(engine, &self.request.source).await?;
        self.request.source = program.text;
        let shift = |shift: &super::super::typescript::Shift| types::Shift {
            line: shift.line,
            column: shift.column,
            original: shift.original,
        };
        self.request.shifts = program.shifts.iter().map(shift).collect();
        Ok(())
    }

    /// The end of a program that had to be TypeScript and is not.
    fn refused(&self, unread: Unread, sandbox: &Sandbox) -> Finished {
        let failed = |error_text| Finished::Unparsed { error_text, hint: None };
        match unread {
            Unread::Refused(refusal) => syntax_error(&refusal),
            Unread::OutOfFuel => sandbox.out_of_fuel(),
            Unread::TooMuch if self.request.source.len() > self.typescript_bytes => {
                failed(format!(
                    "SyntaxError: the program has {} bytes, and at most {} are read as TypeScript",
                    self.request.source.len(),
                    self.typescript_bytes
                ))
            }
            Unread::TooMuch => failed(
                "SyntaxError: the program nests too deeply to be read as TypeScript".to_owned(),
            ),
            Unread::Broken(why) => {
                tracing::error!("TypeScript cannot be read: {why}");
                failed(format!("failed to read the program as TypeScript: {why}"))
            }
        }
    }
}

fn syntax_error(refusal: &Refusal) -> Finished {
    let Refusal { message, line, column } = refusal;
    Finished::Unparsed {
        error_text: format!("SyntaxError: {message}\n    at exec_main.mjs:{line}:{column}"),
        hint: Some(READ_AS_TYPESCRIPT.to_owned()),
    }
}

/// Line and column of a syntax error, of its first frame.
fn place_of(error_text: &str) -> (u32, u32) {
    let frame = error_text.split_once("exec_main.mjs:").map_or("", |(_, rest)| rest);
    let mut numbers = frame.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or(u32::MAX);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_syntax_error_is_that_of_its_first_frame() {
        let text = "SyntaxError: Unexpected token ':'\n    at exec_main.mjs:12:7";
        assert_eq!(place_of(text), (12, 7));
        assert_eq!(place_of("SyntaxError: no place"), (u32::MAX, u32::MAX));
    }
}
