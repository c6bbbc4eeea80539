//! Number patterns of CLDR, such as `#,##0.00 ¤;(#,##0.00 ¤)`, without their digits.

use crate::number::symbols::Symbols;
use crate::part::{Part, push};

/// A piece of what stands before or after the digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Text(String),
    Minus,
    Plus,
    Percent,
    Currency,
}

/// What stands around the digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Affixes {
    pub(super) before: Vec<Token>,
    pub(super) after: Vec<Token>,
}

/// A pattern, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) positive: Affixes,
    /// Only where the pattern says how negative numbers look.
    pub(super) negative: Option<Affixes>,
    /// Digits of the group next to the point, or zero.
    pub(super) primary: usize,
    /// Digits of the other groups.
    pub(super) secondary: usize,
    /// Zeros in a row: the digits that compact notation shows.
    pub(super) zeros: usize,
    /// Whether it has digits at all.
    pub(super) has_digits: bool,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = split(text).into_iter();
        let mut pattern = Self::default();
        let (positive, digits) = affixes(parts.next().unwrap_or_default());
        pattern.positive = positive;
        pattern.negative = parts.next().map(|part| affixes(part).0);
        let whole = digits.split('.').next().unwrap_or_default();
        let groups: Vec<_> = whole.split(',').collect();
        if groups.len() > 1 {
            pattern.primary = groups[groups.len() - 1].len();
            pattern.secondary =
                if groups.len() > 2 { groups[groups.len() - 2].len() } else { pattern.primary };
        }
        pattern.zeros = digits.matches('0').count();
        pattern.has_digits = !digits.is_empty();
        pattern
    }
}

/// The positive and the negative half.
fn split(text: &str) -> Vec<&str> {
    let mut quoted = false;
    for (at, character) in text.char_indices() {
        match character {
            '\'' => quoted = !quoted,
            ';' if !quoted => return vec![&text[..at], &text[at + 1..]],
            _ => {}
        }
    }
    vec![text]
}

fn affixes(text: &str) -> (Affixes, String) {
    let mut affixes = Affixes::default();
    let mut digits = String::new();
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let inside = affixes.after.is_empty();
        let tokens = if digits.is_empty() { &mut affixes.before } else { &mut affixes.after };
        match character {
            '\'' if characters.peek() == Some(&'\'') => {
                characters.next();
                push_text(tokens, '\'');
            }
            '\'' => quoted = !quoted,
            _ if quoted => push_text(tokens, character),
            '#' | '0' | ',' | '.' if inside => digits.push(character),
            'E' if !digits.is_empty() && inside => digits.push(character),
            '-' => tokens.push(Token::Minus),
            '+' => tokens.push(Token::Plus),
            '%' => tokens.push(Token::Percent),
            '¤' => tokens.push(Token::Currency),
            other => push_text(tokens, other),
        }
    }
    (affixes, digits)
}

fn push_text(tokens: &mut Vec<Token>, character: char) {
    if let Some(Token::Text(text)) = tokens.last_mut() {
        text.push(character);
    } else {
        tokens.push(Token::Text(character.to_string()));
    }
}

/// The sign that a number gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    None,
    Minus,
    Plus,
}

/// What tokens are written as.
pub(super) struct Words<'a> {
    pub(super) symbols: &'a Symbols,
    pub(super) currency: &'a str,
    /// What plain text is: `literal`, or `compact` in compact notation.
    pub(super) text: &'static str,
    /// What the percent sign is.
    pub(super) percent: &'static str,
}

impl Pattern {
    /// What stands before and after a number of that sign.
    pub(super) fn write(
        &self,
        sign: Sign,
        approximately: bool,
        words: &Words<'_>,
    ) -> (Vec<Part>, Vec<Part>) {
        let has = |affixes: &Affixes, token: &Token| {
            affixes.before.contains(token) || affixes.after.contains(token)
        };
        let plus_for_minus = sign == Sign::Plus && !has(&self.positive, &Token::Plus);
        let negative = self.negative.as_ref().filter(|negative| {
            sign == Sign::Minus || has(negative, &Token::Minus) && (plus_for_minus || approximately)
        });
        let affixes = negative.unwrap_or(&self.positive);
        let mut before = Vec::new();
        if negative.is_none() && (sign == Sign::Minus || plus_for_minus || approximately) {
            write_sign(&mut before, sign, approximately, words);
        }
        for token in &affixes.before {
            write_token(&mut before, token, sign, approximately, words);
        }
        let mut after = Vec::new();
        for token in &affixes.after {
            write_token(&mut after, token, sign, approximately, words);
        }
        (before, after)
    }
}

fn write_sign(out: &mut Vec<Part>, sign: Sign, approximately: bool, words: &Words<'_>) {
    if approximately {
        push_trimmed(out, "approximatelySign", words.symbols.approximately);
    }
    match sign {
        Sign::Minus => push_trimmed(out, "minusSign", words.symbols.minus),
        Sign::Plus => push_trimmed(out, "plusSign", words.symbols.plus),
        Sign::None => {}
    }
}

fn write_token(
    out: &mut Vec<Part>,
    token: &Token,
    sign: Sign,
    approximately: bool,
    words: &Words<'_>,
) {
    match token {
        Token::Text(text) => push_trimmed(out, words.text, text),
        Token::Minus => write_sign(out, sign, approximately, words),
        Token::Plus => push_trimmed(out, "plusSign", words.symbols.plus),
        Token::Percent => push_trimmed(out, words.percent, words.symbols.percent),
        Token::Currency => push_trimmed(out, "currency", words.currency),
    }
}

/// Appends a part; spaces and invisible marks at its ends are literals.
pub(super) fn push_trimmed(out: &mut Vec<Part>, kind: &'static str, text: &str) {
    let invisible = |character: char| {
        character.is_whitespace()
            || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{ad}')
    };
    let from = text.trim_start_matches(invisible);
    let middle = from.trim_end_matches(invisible);
    push(out, Part::new("literal", &text[..text.len() - from.len()]));
    push(out, Part::new(kind, middle));
    push(out, Part::new("literal", &from[middle.len()..]));
}
