//! Texts of programs, tools and models, cut at a bound.

use serde::Serialize;

/// The beginning of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Text {
    text: String,
    /// Bytes after it that were not kept.
    #[serde(skip_serializing_if = "is_zero")]
    cut: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Text {
    /// At most `bytes` of a text, ending between two characters.
    pub(crate) fn new(text: &str, bytes: usize) -> Self {
        let kept = &text[..text.floor_char_boundary(bytes)];
        Self { text: kept.to_owned(), cut: text.len() - kept.len() }
    }

    /// Bytes that are kept.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The first characters of the first line that says something.
    pub(crate) fn first_line(&self, chars: usize) -> String {
        let lines = self.text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
        lines.next().unwrap_or_default().chars().take(chars).collect()
    }

    /// Keeps nothing but the number of bytes.
    pub(crate) fn clear(&mut self) {
        self.cut += self.text.len();
        self.text = String::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = Text::new("€€", 5);
        assert_eq!(text, Text { text: "€".to_owned(), cut: 3 });
        assert_eq!(Text::new("ab", 2), Text { text: "ab".to_owned(), cut: 0 });
    }
}
