//! What the compiler complains of, and what of it is proof.

use crate::backend::RuntimeResponse;
use serde::Serialize;
use std::fmt;

/// Problems of one kind that a report keeps.
const PROBLEMS: usize = 20;
/// Characters of a problem's message.
const MESSAGE_CHARS: usize = 500;

/// Codes of text that does not parse, whatever the types. The compiler's other codes from 1000
/// to 1999 are for rules of types and of modules, which programs that run well may break.
const SYNTAX: [u32; 78] = [
    1002, 1003, 1005, 1009, 1010, 1011, 1012, 1013, 1014, 1034, 1049, 1054, 1068, 1091, 1104, 1105,
    1107, 1109, 1110, 1111, 1113, 1114, 1115, 1116, 1121, 1123, 1124, 1125, 1126, 1127, 1128, 1129,
    1130, 1131, 1132, 1134, 1135, 1136, 1137, 1138, 1139, 1140, 1141, 1142, 1144, 1146, 1155, 1160,
    1161, 1163, 1177, 1178, 1179, 1180, 1181, 1182, 1185, 1186, 1188, 1197, 1198, 1199, 1200, 1308,
    1312, 1351, 1352, 1353, 1357, 1359, 1389, 1390, 1434, 1435, 1440, 1441, 1442, 1472,
];

/// A complaint of the compiler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TypeProblem {
    /// The compiler's number for it: 2551 is TS2551.
    pub code: u32,
    /// Line of the program, from 1.
    pub line: u32,
    /// Column in UTF-16 units, as JavaScript counts, from 1.
    pub column: u32,
    /// The compiler's words, shortened when long.
    pub message: String,
}

/// What the compiler said of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TypeReport {
    /// What is proof of a mistake; at most 20.
    pub proofs: Vec<TypeProblem>,
    /// What may be a mistake; at most 20.
    pub notes: Vec<TypeProblem>,
}

impl TypeReport {
    /// Sorts the compiler's complaints about a program that calls the tools of these names.
    pub(super) fn new(problems: Vec<TypeProblem>, source: &str, tools: &[String]) -> Self {
        let lines: Vec<_> = source.split('\n').collect();
        let mut report = Self::default();
        for mut problem in problems {
            let line = lines.get(problem.line as usize - 1).copied().unwrap_or_default();
            let is_proof = problem.is_proof(line, tools);
            let kind = if is_proof { &mut report.proofs } else { &mut report.notes };
            if kind.len() < PROBLEMS {
                problem.shorten();
                kind.push(problem);
            }
        }
        report
    }

    /// Why the program should not run, for its author; `None` when nothing is proof.
    pub fn refusal(&self) -> Option<String> {
        if self.proofs.is_empty() {
            return None;
        }
        let lines = lines(&self.proofs);
        Some(format!("The program was not run: the TypeScript compiler found mistakes.\n{lines}"))
    }

    /// Adds the notes to the hint of a response whose program has failed. Leaves every other
    /// response as it is.
    pub fn annotate(&self, response: &mut RuntimeResponse) {
        let RuntimeResponse::Result { error_text: Some(_), report, .. } = response else {
            return;
        };
        if self.notes.is_empty() {
            return;
        }
        let notes = format!(
            "The TypeScript compiler noted, before the program ran:\n{}",
            lines(&self.notes)
        );
        report.hint = Some(match report.hint.take() {
            Some(hint) => format!("{hint}\n{notes}"),
            None => notes,
        });
    }
}

fn lines(problems: &[TypeProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl TypeProblem {
    /// Whether a program with this problem is wrong in every run that comes to it. `line` is the
    /// line of the program that it is on.
    fn is_proof(&self, line: &str, tools: &[String]) -> bool {
        match self.code {
            // "Did you mean": of a property, unless it is being added, and of a name.
            2551 => !self.is_assigned(line),
            2552 => true,
            // An unknown key of a literal, and a missing one, in the arguments of a tool.
            2353 | 2561 | 2739 | 2740 | 2741 => self.names_arguments(),
            2345 => {
                let missing = self.message.contains(" is missing in type ")
                    || self.message.contains(" is missing the following properties ");
                missing && self.names_arguments()
            }
            // A call without its arguments.
            2554 => tools.iter().any(|tool| self.calls(line, tool)),
            code => SYNTAX.contains(&code),
        }
    }

    /// Whether the message is about the type of some tool's arguments.
    fn names_arguments(&self) -> bool {
        self.message.contains(&format!("'{}", crate::model::ARGUMENTS_TYPE))
    }

    /// The text of the line before the problem and from it on.
    fn split<'a>(&self, line: &'a str) -> (&'a str, &'a str) {
        let mut units = 0;
        let at = line.char_indices().find(|(_, character)| {
            units += character.len_utf16();
            units >= self.column as usize
        });
        line.split_at(at.map_or(line.len(), |(at, _)| at))
    }

    /// Whether the problem is the name of a tool that is called.
    fn calls(&self, line: &str, tool: &str) -> bool {
        let (before, name) = self.split(line);
        let before = before.trim_end().trim_end_matches(['.', '?']).trim_end();
        let rest = name.strip_prefix(tool).unwrap_or_default().trim_start();
        before.ends_with("tools") && rest.starts_with(['(', '?'])
    }

    /// Whether the problem is the name of a property that a value is assigned to.
    fn is_assigned(&self, line: &str) -> bool {
        let (_, name) = self.split(line);
        let is_name = |character: char| character.is_alphanumeric() || "_$#".contains(character);
        let rest = name.trim_start_matches(is_name).trim_start();
        rest.starts_with('=') && !rest.starts_with("==") && !rest.starts_with("=>")
    }

    fn shorten(&mut self) {
        if let Some((end, _)) = self.message.char_indices().nth(MESSAGE_CHARS) {
            self.message.truncate(end);
            self.message.push('…');
        }
    }
}

impl fmt::Display for TypeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.replace('\n', "\n    ");
        write!(f, "{}:{}: {message} (TS{})", self.line, self.column, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proofs(source: &str, code: u32, at: &str, message: &str) -> usize {
        let at = source.find(at).expect("the place is in the program");
        let before = &source[..at];
        let line = u32::try_from(before.matches('\n').count()).unwrap() + 1;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = u32::try_from(before[start..].encode_utf16().count()).unwrap() + 1;
        let problem = TypeProblem { code, line, column, message: message.to_owned() };
        TypeReport::new(vec![problem], source, &["echo".to_owned()]).proofs.len()
    }

    #[test]
    fn a_property_that_is_added_is_not_proof() {
        assert_eq!(proofs("a.b\nx.lenght = 1", 2551, "lenght", ""), 0);
        assert_eq!(proofs("a.b\n'😀', x.lenght == 1", 2551, "lenght", ""), 1);
        assert_eq!(proofs("x.lenght", 2551, "lenght", ""), 1);
        assert_eq!(proofs("x.lenght => 1", 2551, "lenght", ""), 1);
    }

    #[test]
    fn only_arguments_of_tools_are_proof() {
        let message = "Property 'a' is missing in type '{}' but required in type ";
        let of = |name: &str| format!("{message}'{name}'.");
        assert_eq!(proofs("x", 2741, "x", &of("ArgumentsOf_echo")), 1);
        assert_eq!(proofs("x", 2741, "x", &of("Mine")), 0);
        assert_eq!(proofs("😀; tools.echo()", 2554, "echo", ""), 1);
        assert_eq!(proofs("tools . echo ()", 2554, "echo", ""), 1);
        assert_eq!(proofs("tools.echoes()", 2554, "echoes", ""), 0);
        assert_eq!(proofs("mine.echo()", 2554, "echo", ""), 0);
    }

    #[test]
    fn a_report_is_bounded() {
        let message = "é".repeat(10_000);
        let problem =
            |line| TypeProblem { code: 1005, line, column: 9_000, message: message.clone() };
        let report = TypeReport::new((1..1000).map(problem).collect(), "one line", &[]);
        assert_eq!(report.proofs.len(), PROBLEMS);
        assert_eq!(report.proofs[0].message.chars().count(), MESSAGE_CHARS + 1);
    }
}
