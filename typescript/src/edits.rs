//! Edits to a text that keep its lines, and that know where a column came from.
//!
//! What is replaced keeps its line ends, and is filled up with blanks, so that everything
//! after it stays where it is. Where more is written than was there, the rest of that
//! line moves to the right; the next blanks take that back, and the next line at the
//! latest does. What has moved is in the list of shifts.

/// From a column of a line on, columns belong to others of the author's text, up to the
/// next shift of the line. Columns count UTF-16 units from 1, lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The line.
    pub line: u32,
    /// The first column in the program that runs.
    pub column: u32,
    /// Where that is in the author's text.
    pub original: u32,
}

/// A program as it runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Edited {
    /// Its text.
    pub text: String,
    /// Where its columns are not its author's, in order.
    pub shifts: Vec<Shift>,
}

struct Edit {
    start: u32,
    end: u32,
    text: String,
}

/// A list of edits to one text.
#[derive(Default)]
pub(crate) struct Edits(Vec<Edit>);

impl Edits {
    /// Replaces a piece by blanks.
    pub(crate) fn blank(&mut self, start: u32, end: u32) {
        self.replace(start, end, "");
    }

    /// Replaces a piece by a text without line ends, and blanks.
    pub(crate) fn replace(&mut self, start: u32, end: u32, text: impl Into<String>) {
        let text = text.into();
        if start < end || !text.is_empty() {
            self.0.push(Edit { start, end, text });
        }
    }

    /// Writes a text before what is at a place.
    pub(crate) fn insert(&mut self, at: u32, text: impl Into<String>) {
        self.replace(at, at, text);
    }

    /// Carries the edits out. `None` when two of them are about the same piece.
    pub(crate) fn apply(mut self, source: &str) -> Option<Edited> {
        // What was written first at a place stays first there.
        self.0.sort_by_key(|edit| edit.start);
        let mut out = Output {
            text: String::with_capacity(source.len() + source.len() / 8),
            shifts: Vec::new(),
            line: 1,
            column: 1,
            original: 1,
            noted: 0,
        };
        let mut done = 0;
        for edit in self.0 {
            let (start, end) = (edit.start as usize, edit.end as usize);
            out.keep(source.get(done..start)?);
            out.write(&edit.text);
            out.erase(source.get(start..end)?);
            done = end;
        }
        out.keep(source.get(done..)?);
        Some(Edited { text: out.text, shifts: out.shifts })
    }
}

struct Output {
    text: String,
    shifts: Vec<Shift>,
    line: u32,
    /// The next column that is written.
    column: u32,
    /// The next column of the author's.
    original: u32,
    /// How far the last shift of this line moves.
    noted: u32,
}

impl Output {
    /// Copies what stays.
    fn keep(&mut self, piece: &str) {
        if piece.is_empty() {
            return;
        }
        self.note();
        self.text.push_str(piece);
        let last_line = match piece.rfind(is_line_end) {
            None => piece,
            Some(at) => {
                let ends = line_ends(piece);
                // A carriage return at the end of a piece may have its line feed in the next.
                self.line += ends;
                self.start_line();
                &piece[at + piece[at..].chars().next().map_or(1, char::len_utf8)..]
            }
        };
        let units = units(last_line);
        self.column += units;
        self.original += units;
    }

    /// Writes what the author did not.
    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.note();
        self.text.push_str(text);
        self.column += units(text);
    }

    /// Blanks instead of a piece, as many as leave the rest of the line in its place.
    fn erase(&mut self, piece: &str) {
        let mut chars = piece.chars().peekable();
        while let Some(char) = chars.next() {
            if is_line_end(char) {
                self.text.push(char);
                if char != '\r' || chars.peek() != Some(&'\n') {
                    self.line += 1;
                }
                self.start_line();
                continue;
            }
            for _ in 0..char.len_utf16() {
                self.original += 1;
                if self.column < self.original {
                    self.text.push(' ');
                    self.column += 1;
                }
            }
        }
    }

    fn start_line(&mut self) {
        (self.column, self.original, self.noted) = (1, 1, 0);
    }

    /// Notes where the next column comes from, if that is not where the last one says.
    fn note(&mut self) {
        let shift = self.column - self.original;
        if shift != self.noted {
            self.noted = shift;
            let Self { line, column, original, .. } = *self;
            self.shifts.push(Shift { line, column, original });
        }
    }
}

fn is_line_end(char: char) -> bool {
    matches!(char, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

fn line_ends(text: &str) -> u32 {
    let mut ends = 0;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if is_line_end(char) && (char != '\r' || chars.peek() != Some(&'\n')) {
            ends += 1;
        }
    }
    ends
}

fn units(text: &str) -> u32 {
    u32::try_from(text.encode_utf16().count()).unwrap_or(u32::MAX)
}

/// Line and column of a place, from 1.
pub(crate) fn place(source: &str, at: u32) -> (u32, u32) {
    let before = source.get(..at as usize).unwrap_or(source);
    let start = before
        .rfind(is_line_end)
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    (1 + line_ends(before), 1 + units(&before[start..]))
}
