//! Error texts of a bounded length.

use std::fmt::Write;

/// Bytes of an error text, of a program or of a tool: 64 KiB, at which the guest cuts, and
/// room for its mark. A longer text is cut, with a mark.
pub(super) const ERROR_TEXT_BYTES: usize = (64 << 10) + 256;

/// Cuts a text at [`ERROR_TEXT_BYTES`], and says so.
pub(super) fn shorten(mut text: String) -> String {
    if text.len() > ERROR_TEXT_BYTES {
        let cut = text.len() - text.floor_char_boundary(ERROR_TEXT_BYTES);
        text.truncate(text.len() - cut);
        text.shrink_to_fit();
        // Writing to a string cannot fail.
        let _ = write!(text, "... ({cut} more bytes were cut)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten("short".to_owned()), "short");
        let text = shorten("€".repeat(ERROR_TEXT_BYTES));
        assert!(
            text.ends_with("€... (131586 more bytes were cut)"),
            "{}",
            &text[text.len() - 40..]
        );
        assert!(text.len() < ERROR_TEXT_BYTES + 64);
    }
}
