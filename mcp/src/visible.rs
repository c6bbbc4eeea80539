//! Text of servers and programs for the eyes of a person: what cannot be seen in it, or is
//! not what it looks like, is written as an escape.

/// A text in which every character can be seen.
pub(crate) fn visible(text: &str) -> String {
    escaped(text, |c| c.is_control() || is_format(c))
}

/// A text as it is, without characters that a model reads and a person does not see: they
/// carry instructions that nobody has looked at.
pub(crate) fn without_hidden(text: &str) -> String {
    let hides = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}')
    };
    text.chars().filter(|c| !hides(*c)).collect()
}

/// A name in which no character is taken for another: letters that look like those of ASCII
/// are escaped, as all others beyond ASCII are.
pub(crate) fn visible_name(name: &str) -> String {
    escaped(name, |c| c.is_control() || !c.is_ascii())
}

fn escaped(text: &str, hides: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hides(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Characters that change how text is laid out, or that cannot be seen.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}'
        | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        assert_eq!(visible("a\u{202e}b\n\u{e0041}"), "a\\u{202e}b\\u{a}\\u{e0041}");
        assert_eq!(visible("caf\u{e9} \u{65e5}\u{672c}"), "caf\u{e9} \u{65e5}\u{672c}");
        let hidden: String =
            "hi".chars().map(|c| char::from_u32(0xe0000 + c as u32).expect("a tag")).collect();
        assert_eq!(without_hidden(&format!("a{hidden}\u{202e}\r\n\u{200d}b")), "a\n\u{200d}b");
        assert_eq!(visible_name("del\u{435}te\t x"), "del\\u{435}te\\u{9} x");
    }
}
