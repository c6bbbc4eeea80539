//! Patterns of CLDR, such as `MMM d, y 'at' h:mm a`, piece by piece.

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A letter, and how often it stands in a row.
    Field(char, usize),
    /// Text as the pattern writes it, with its apostrophes.
    Text(&'a str),
}

/// The pieces of a pattern.
pub(super) fn items(pattern: &str) -> Vec<Item<'_>> {
    let mut out = Vec::new();
    let mut quoted = false;
    let mut start = 0;
    let mut characters = pattern.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character == '\'' {
            quoted = !quoted;
        }
        if quoted || !character.is_ascii_alphabetic() {
            continue;
        }
        if start < at {
            out.push(Item::Text(&pattern[start..at]));
        }
        let mut count = 1;
        while characters.next_if(|(_, next)| *next == character).is_some() {
            count += 1;
        }
        out.push(Item::Field(character, count));
        start = at + count;
    }
    if start < pattern.len() {
        out.push(Item::Text(&pattern[start..]));
    }
    out
}

/// The letters of a pattern's fields, each as often as it stands in a row.
pub(super) fn fields(pattern: &str) -> impl Iterator<Item = (char, usize)> {
    items(pattern).into_iter().filter_map(|item| match item {
        Item::Field(letter, count) => Some((letter, count)),
        Item::Text(_) => None,
    })
}

/// Writes a pattern again with other fields.
pub(super) fn map(pattern: &str, mut field: impl FnMut(char, usize, &mut String)) -> String {
    let mut out = String::with_capacity(pattern.len() + 4);
    for item in items(pattern) {
        match item {
            Item::Field(letter, count) => field(letter, count, &mut out),
            Item::Text(text) => out.push_str(text),
        }
    }
    out
}

/// Appends a letter so often.
pub(super) fn repeat(out: &mut String, letter: char, count: usize) {
    out.extend(std::iter::repeat_n(letter, count));
}

/// Fills `{0}` and `{1}` of a pattern, which keeps its apostrophes.
pub(super) fn join(glue: &str, first: &str, second: &str) -> String {
    let mut out = String::with_capacity(glue.len() + first.len() + second.len());
    let mut rest = glue;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        match rest.get(open..open + 3) {
            Some("{0}") => out.push_str(first),
            Some("{1}") => out.push_str(second),
            _ => {}
        }
        rest = rest.get(open + 3..).unwrap_or_default();
    }
    out + rest
}
