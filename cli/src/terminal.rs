//! Text on its way to a terminal: control characters are shown, not obeyed.
//!
//! What a program prints could otherwise set the window's title, write to the
//! clipboard, clear the screen, or look like something that it is not.

use anyhow::{Context, Result};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

/// The text with every control character but newline and tab as a JavaScript escape,
/// such as `\u001b`. In JSON that is the same string.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_control) else { return Cow::Borrowed(text) };
    let (plain, rest) = text.split_at(first);
    let mut escaped = String::with_capacity(text.len() + 64);
    escaped.push_str(plain);
    for c in rest.chars() {
        if is_control(c) {
            // All of them have four hexadecimal digits at most.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Whether a terminal would act on the character, or write in another direction.
fn is_control(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Unicode's directional marks, embeddings, overrides and isolates.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Line and paragraph separators, which some terminals take for a new line.
        | '\u{2028}' | '\u{2029}' => true,
        // C0, DEL and C1.
        _ => c.is_control(),
    }
}

/// Prints the result of a command to standard output. Names and descriptions in it come from
/// servers and the makers of tools.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let shown = if out.is_terminal() { escape_controls(text) } else { Cow::Borrowed(text) };
    out.write_all(shown.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// Says why the command itself could not do what it was asked. A standard error that
/// cannot be written changes nothing: the exit code says the rest.
pub fn complain(text: &str) {
    let mut stream = std::io::stderr();
    let text = if stream.is_terminal() { escape_controls(text) } else { Cow::Borrowed(text) };
    let _ = stream.write_all(format!("cellblock: {text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::escape_controls;

    #[test]
    fn controls_are_shown_and_text_is_left_alone() {
        for (text, shown) in [
            ("plain, tab\t, line\n, é, 日本, 👍🏽", "plain, tab\t, line\n, é, 日本, 👍🏽"),
            ("\u{1b}]52;c;aGk=\u{7}", "\\u001b]52;c;aGk=\\u0007"),
            ("a\rb\0c\u{8}", "a\\u000db\\u0000c\\u0008"),
            ("\u{7f}\u{80}\u{9b}31m\u{9f}\u{a0}", "\\u007f\\u0080\\u009b31m\\u009f\u{a0}"),
            ("\u{202e}gpj.exe\u{2066}\u{200f}", "\\u202egpj.exe\\u2066\\u200f"),
        ] {
            assert_eq!(escape_controls(text), shown);
        }
    }

    /// A JSON text on a terminal stays the same JSON.
    #[test]
    fn escaped_json_is_the_same_json() {
        let json = serde_json::json!({ "text": "\u{1b}[2J\u{9b}\u{202e}\n" });
        let shown = escape_controls(&json.to_string()).into_owned();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json);
    }
}
