//! Halves of characters in JSON.
//!
//! JavaScript writes the escape of one half of a surrogate pair wherever a text was cut between
//! the two, as in `text.slice(0, 100)`. No text of Rust can hold that, and `rmcp` ignores a
//! message that has it, so that its request would never be answered.

/// Bytes of an escape such as `\ud83d`.
const ESCAPE: usize = 6;

/// Puts U+FFFD in the place of every half of a character without its other half. Returns how
/// many bytes were looked at: what follows them is the start of an escape whose end is missing.
pub(super) fn replace_lone_surrogates(json: &mut [u8]) -> usize {
    let mut at = 0;
    while let Some(next) = json[at..].iter().position(|byte| *byte == b'\\') {
        at += next;
        at += match unit(&json[at..]) {
            Unit::Cut => return at,
            Unit::Other(length) => length,
            Unit::Low => replace(json, at),
            Unit::High => match unit(&json[at + ESCAPE..]) {
                Unit::Cut => return at,
                Unit::Low => 2 * ESCAPE,
                Unit::High | Unit::Other(_) => replace(json, at),
            },
        };
    }
    json.len()
}

/// What a text begins with.
enum Unit {
    /// The first half of a character.
    High,
    /// The second half.
    Low,
    /// Something else, of so many bytes.
    Other(usize),
    /// An escape whose end is missing, or nothing.
    Cut,
}

fn unit(text: &[u8]) -> Unit {
    match text {
        [b'\\', b'u', digits @ ..] => {
            let Some(digits) = digits.get(..ESCAPE - 2) else { return Unit::Cut };
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            match u16::from_str_radix(digits, 16) {
                Ok(0xd800..=0xdbff) => Unit::High,
                Ok(0xdc00..=0xdfff) => Unit::Low,
                _ => Unit::Other(2),
            }
        }
        [] | [b'\\'] => Unit::Cut,
        [b'\\', ..] => Unit::Other(2),
        _ => Unit::Other(1),
    }
}

fn replace(json: &mut [u8], at: usize) -> usize {
    json[at..at + ESCAPE].copy_from_slice(b"\\ufffd");
    ESCAPE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_alone_are_replaced_and_nothing_else() {
        for (text, expected) in [
            (r#""\ud83d\ude00 \uD83D\uDE00""#, r#""\ud83d\ude00 \uD83D\uDE00""#),
            (r#""a\ud83d""#, r#""a\ufffd""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ud83d\n\ude00""#, r#""\ufffd\n\ufffd""#),
            (r#""\\ud83d \\\ud83d""#, r#""\\ud83d \\\ufffd""#),
            (r#""\u00e9 \uzzzz é""#, r#""\u00e9 \uzzzz é""#),
        ] {
            let mut json = text.as_bytes().to_vec();
            assert_eq!(replace_lone_surrogates(&mut json), json.len(), "{text}");
            assert_eq!(String::from_utf8(json).expect("text"), expected);
        }
    }

    #[test]
    fn what_is_cut_is_left_for_the_rest() {
        let text = r#""é\\\ud83d\ude00\ud83d.""#.as_bytes();
        for cut in 0..text.len() {
            let mut json = text[..cut].to_vec();
            let done = replace_lone_surrogates(&mut json);
            json.extend_from_slice(&text[cut..]);
            let rest = replace_lone_surrogates(&mut json[done..]);
            assert_eq!(done + rest, json.len(), "{cut}");
            assert_eq!(json, r#""é\\\ud83d\ude00\ufffd.""#.as_bytes(), "{cut}");
        }
    }
}
