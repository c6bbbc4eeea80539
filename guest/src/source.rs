//! The program's text, where errors point into it.
//!
//! QuickJS and V8 point at different characters of the same expression: QuickJS at
//! the dot of `o.f()` and at the class of `new C()`, V8 at `f` and at `new`. People
//! and models know V8's.

use crate::engine::MODULE;
use crate::state;

/// A place as the engine writes it, `exec_main.mjs:L:C`, moved to where V8 sees it.
pub(crate) fn place(place: &str) -> String {
    let Some((line, column)) = parse(place) else { return place.to_owned() };
    let moved = on_line(line, |text| Some(v8_column(text, column))).unwrap_or(column);
    format!("{}:{line}:{moved}", MODULE.to_string_lossy())
}

/// The expression that is called at a place that [`place`] gave, such as `o.f`.
pub(crate) fn callee(place: &str) -> Option<String> {
    let (line, column) = parse(place)?;
    on_line(line, |text| {
        let at = column.checked_sub(1)?;
        let after = text.get(at..)?.iter().take_while(|c| is_part(**c)).count();
        let chain = |c: &&char| is_part(**c) || matches!(**c, '.' | '?');
        let before = text[..at].iter().rev().take_while(chain).count();
        let callee: String = text[at - before..at + after].iter().collect();
        (after > 0).then_some(callee)
    })
}

/// The place of a member's name, looked for from a place before it on its line.
pub(crate) fn member(place: &str, name: &str) -> Option<String> {
    let (line, column) = parse(place)?;
    let column = on_line(line, |text| {
        let from = column.checked_sub(1)?;
        let rest: String = text.get(from..)?.iter().collect();
        let dot = rest.match_indices('.').find(|(at, _)| {
            let after = rest[at + 1..].trim_start();
            after.strip_prefix(name).is_some_and(|tail| !tail.starts_with(is_part))
        })?;
        let blanks = rest[dot.0 + 1..].chars().take_while(|c| c.is_whitespace()).count();
        Some(column + rest[..dot.0].chars().count() + 1 + blanks)
    })?;
    Some(format!("{}:{line}:{column}", MODULE.to_string_lossy()))
}

/// Whether a character can stand inside an identifier.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

fn v8_column(text: &[char], column: usize) -> usize {
    let Some(at) = column.checked_sub(1).filter(|at| *at < text.len()) else { return column };
    let skip = match &text[at..] {
        ['?', '.', ..] => 2,
        ['.', ..] => 1,
        _ => 0,
    };
    if skip > 0 {
        let blanks = text[at + skip..].iter().take_while(|c| c.is_whitespace()).count();
        return column + skip + blanks;
    }
    let blanks = text[..at].iter().rev().take_while(|c| c.is_whitespace()).count();
    let before = &text[..at - blanks];
    match before {
        [.., 'n', 'e', 'w'] if blanks > 0 => before.len() - 2,
        _ => column,
    }
}

/// Line and column, from 1.
fn parse(place: &str) -> Option<(usize, usize)> {
    let rest = place.strip_prefix(MODULE.to_str().ok()?)?.strip_prefix(':')?;
    let (line, column) = rest.split_once(':')?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// Looks at one line of the program.
fn on_line<T>(line: usize, look: impl FnOnce(&[char]) -> Option<T>) -> Option<T> {
    let source = state::with(|state| state.source.clone());
    let text: Vec<char> = source.split('\n').nth(line.checked_sub(1)?)?.chars().collect();
    look(&text)
}
