//! Tokens as the contract counts them, and text that is cut to them.

/// Bytes that count as one token.
pub const BYTES_PER_TOKEN: usize = 4;

/// Tokens of a text: one for every four bytes, rounded up. The contract's measure for
/// budgets of output; a model's own count differs.
///
/// ```
/// assert_eq!(cellblock::model::approximate_tokens("abcde"), 2);
/// ```
pub fn approximate_tokens(text: &str) -> usize {
    text.len().div_ceil(BYTES_PER_TOKEN)
}

/// Cuts the middle out of a text that has more than `tokens` tokens: what is left are at
/// most that many, half of them from the start and half from the end, and a mark between
/// that says how many are gone.
///
/// ```
/// use cellblock::model::truncate_middle;
///
/// assert_eq!(truncate_middle("abcdefghi", 3), "abcdefghi");
/// assert_eq!(truncate_middle("abcdefghi", 2), "abcd…1 tokens truncated…fghi");
/// assert_eq!(truncate_middle("abcdefghi", 1), "ab…2 tokens truncated…hi");
/// assert_eq!(truncate_middle("abcdefghi", 0), "…3 tokens truncated…");
/// ```
pub fn truncate_middle(text: &str, tokens: usize) -> String {
    let budget = tokens.saturating_mul(BYTES_PER_TOKEN);
    let Some(over) = text.len().checked_sub(budget).filter(|over| *over > 0) else {
        return text.to_owned();
    };
    let front = budget / 2;
    let head = &text[..text.floor_char_boundary(front)];
    let tail = &text[text.ceil_char_boundary(text.len() - (budget - front))..];
    format!("{head}…{} tokens truncated…{tail}", over.div_ceil(BYTES_PER_TOKEN))
}
