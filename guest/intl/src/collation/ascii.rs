//! The order of ASCII, without the tables: most of what programs sort is ASCII, and
//! most locales order it as the root does.

use super::{CaseFirst, Options};
use std::cmp::Ordering;

/// ASCII in the root's order, without the control characters that do not count and
/// without capitals, which differ from small letters in case alone.
const ORDER: &[u8] =
    b"\t\n\x0b\x0c\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789abcdefghijklmnopqrstuvwxyz";

/// The place of each character in [`ORDER`], from one; zero for what is not there.
const RANKS: [u8; 128] = {
    let mut ranks = [0; 128];
    let mut at = 0;
    while at < ORDER.len() {
        let byte = ORDER[at];
        ranks[byte as usize] = at as u8 + 1;
        ranks[byte.to_ascii_uppercase() as usize] = at as u8 + 1;
        at += 1;
    }
    ranks
};

/// Languages that order ASCII in a way of their own, by letters that are written with
/// two or by letters that stand elsewhere.
const OWN: [&str; 13] =
    ["cs", "da", "et", "fil", "hr", "hu", "lt", "lv", "nb", "no", "sk", "sr", "tr"];

/// How ASCII is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ascii {
    numeric: bool,
    letters_only: bool,
    /// What a small letter is to its capital.
    small: Ordering,
}

impl Ascii {
    /// `None` where the locale or the options have an order of their own.
    pub(super) fn of(options: &Options) -> Option<Self> {
        let language = options.locale.split('-').next().unwrap_or_default();
        if OWN.contains(&language) || options.kind.is_some() || options.search {
            return None;
        }
        use super::Sensitivity::{Accent, Base};
        Some(Self {
            numeric: options.numeric,
            letters_only: options
                .ignore_punctuation
                .unwrap_or_else(|| super::ignores_punctuation(options.locale)),
            small: match options.sensitivity {
                Base | Accent => Ordering::Equal,
                _ if options.case_first == Some(CaseFirst::Upper) => Ordering::Greater,
                _ => Ordering::Less,
            },
        })
    }

    /// Compares two strings; `None` where what decides is more than ASCII.
    pub(super) fn compare(self, left: &[u8], right: &[u8]) -> Option<Ordering> {
        let mut case = Ordering::Equal;
        for (at, (one, other)) in left.iter().zip(right).enumerate() {
            let (rank, other_rank) = (self.rank(*one)?, self.rank(*other)?);
            if rank != other_rank {
                return self.decided(rank.cmp(&other_rank), at + 1, left, right);
            }
            if one != other && case == Ordering::Equal {
                case = if one.is_ascii_lowercase() { self.small } else { self.small.reverse() };
            }
        }
        let common = left.len().min(right.len());
        match left.len().cmp(&right.len()) {
            Ordering::Equal => Some(case),
            longer => {
                let next = if longer == Ordering::Less { right[common] } else { left[common] };
                self.rank(next)?;
                self.decided(longer, common + 1, left, right)
            }
        }
    }

    /// A decision holds unless a character follows that could belong to the one that
    /// decided, as a combining accent does.
    fn decided(self, order: Ordering, next: usize, left: &[u8], right: &[u8]) -> Option<Ordering> {
        let follows = |text: &[u8]| text.get(next).is_some_and(|byte| !byte.is_ascii());
        (!follows(left) && !follows(right)).then_some(order)
    }

    fn rank(self, byte: u8) -> Option<u8> {
        let rank = *RANKS.get(usize::from(byte))?;
        let counts = byte.is_ascii_alphanumeric() || !self.letters_only;
        let single = !byte.is_ascii_digit() || !self.numeric;
        (rank != 0 && counts && single).then_some(rank)
    }
}
