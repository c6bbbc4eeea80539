//! What is wrong with a text that is not JSON, in V8's words.

/// UTF-16 units of the text that a message shows on each side of the fault.
const CONTEXT: usize = 10;

/// Texts that something made which is not a string.
const SPECIAL: [&str; 4] = ["NaN", "Infinity", "undefined", "[object Object]"];

/// The message for a text; `None` when it is valid.
pub(super) fn message(text: &str) -> Option<String> {
    let mut check = Check { text, at: 0, open: Vec::new() };
    let fault = check.document().err()?;
    let at = check.at.min(text.len());
    match fault {
        Fault::End => Some("Unexpected end of JSON input".to_owned()),
        Fault::Place(what) => Some(placed(text, at, what)),
        Fault::Token if SPECIAL.contains(&text) => Some(format!("\"{text}\" is not valid JSON")),
        Fault::Token => Some(token(text, at)),
    }
}

enum Fault {
    /// The text ends too early.
    End,
    /// A character that begins no value.
    Token,
    /// A fault with a name and a place.
    Place(&'static str),
}

/// A fault with its place: position in UTF-16 units, line and column.
fn placed(text: &str, at: usize, what: &str) -> String {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let (position, column) = (units(before), units(&before[line_start..]) + 1);
    format!("{what} in JSON at position {position} (line {line} column {column})")
        .replace("character after JSON in JSON", "character after JSON")
}

/// A character that begins no value, with what is around it.
fn token(text: &str, at: usize) -> String {
    let found = text[at..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
    let found = if found.len_utf16() > 1 { char::REPLACEMENT_CHARACTER } else { found };
    let (position, length) = (units(&text[..at]), units(text));
    let all: Vec<u16> = text.encode_utf16().collect();
    let shown = |from: usize, to: usize| String::from_utf16_lossy(&all[from..to.min(length)]);
    let excerpt = if length <= 2 * CONTEXT {
        format!("\"{text}\"")
    } else if position < CONTEXT {
        format!("\"{}\"...", shown(0, position + CONTEXT))
    } else if position < length - CONTEXT {
        format!("...\"{}\"...", shown(position - CONTEXT, position + CONTEXT))
    } else {
        format!("...\"{}\"", shown(position - CONTEXT, length))
    };
    format!("Unexpected token '{found}', {excerpt} is not valid JSON")
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Follows a text up to its first fault.
struct Check<'a> {
    text: &'a str,
    at: usize,
    /// Brackets that are open, outermost first.
    open: Vec<u8>,
}

impl Check<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn document(&mut self) -> Result<(), Fault> {
        loop {
            // A value begins here.
            self.skip_space();
            match self.peek().ok_or(Fault::End)? {
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    self.open.push(bracket);
                    self.skip_space();
                    let empty = self.peek() == Some(bracket + 2);
                    if bracket == b'{' && !empty {
                        self.property("Expected property name or '}'")?;
                    }
                    if !empty {
                        continue;
                    }
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => return Err(Fault::Token),
            }
            if !self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Goes on behind a value; false at the end of the text.
    fn after_value(&mut self) -> Result<bool, Fault> {
        loop {
            self.skip_space();
            let Some(bracket) = self.open.last().copied() else {
                return match self.peek() {
                    None => Ok(false),
                    Some(_) => Err(Fault::Place("Unexpected non-whitespace character after JSON")),
                };
            };
            match self.peek() {
                Some(close) if close == bracket + 2 => {
                    self.at += 1;
                    self.open.pop();
                }
                Some(b',') => {
                    self.at += 1;
                    if bracket == b'{' {
                        self.skip_space();
                        self.property("Expected double-quoted property name")?;
                    }
                    return Ok(true);
                }
                _ if bracket == b'{' => {
                    return Err(Fault::Place("Expected ',' or '}' after property value"));
                }
                _ => return Err(Fault::Place("Expected ',' or ']' after array element")),
            }
        }
    }

    fn property(&mut self, expected: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(b'"') {
            return Err(Fault::Place(expected));
        }
        self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(Fault::Place("Expected ':' after property name"));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        for expected in word.bytes() {
            match self.peek() {
                Some(found) if found == expected => self.at += 1,
                Some(_) => return Err(Fault::Token),
                None => return Err(Fault::End),
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(Fault::Place("Unterminated string")),
                Some(b'"') => break,
                Some(0..0x20) => {
                    return Err(Fault::Place("Bad control character in string literal"));
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        None => return Err(Fault::Place("Unterminated string")),
                        Some(b'u') => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.peek().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                                    return Err(Fault::Place("Bad Unicode escape"));
                                }
                            }
                        }
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        Some(_) => return Err(Fault::Place("Bad escaped character")),
                    }
                    self.at += 1;
                }
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
            if !self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
                return Err(Fault::Place("No number after minus sign"));
            }
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
                return Err(Fault::Place("Unexpected number"));
            }
        }
        while self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
            self.at += 1;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("Unterminated fractional number")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits("Exponent part is missing a number")?;
        }
        Ok(())
    }

    fn digits(&mut self, expected: &'static str) -> Result<(), Fault> {
        if !self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
            return Err(Fault::Place(expected));
        }
        while self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }
}
