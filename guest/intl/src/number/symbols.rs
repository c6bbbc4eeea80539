//! Digits and symbols of a numbering system in a locale.

use crate::data::{Data, UNIT, supplement};

/// What numbers are written with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of CLDR")]
pub struct Symbols {
    pub decimal: &'static str,
    pub group: &'static str,
    pub minus: &'static str,
    pub plus: &'static str,
    pub percent: &'static str,
    pub exponential: &'static str,
    pub infinity: &'static str,
    pub nan: &'static str,
    pub approximately: &'static str,
    pub time_separator: &'static str,
    /// Digits of ASCII are written as they are.
    pub ascii: bool,
    pub digits: [char; 10],
}

impl Symbols {
    /// The symbols of a numbering system; those of a currency's amounts may differ.
    #[must_use]
    pub fn of(data: Data, system: &str, money: bool) -> Self {
        let list = table(data, "sym", system);
        let mut list = list.split(UNIT);
        let mut next = || list.next().unwrap_or_default();
        let mut symbols = Self {
            decimal: next(),
            group: next(),
            minus: next(),
            plus: next(),
            percent: next(),
            exponential: next(),
            infinity: next(),
            nan: next(),
            approximately: next(),
            time_separator: next(),
            ascii: true,
            digits: ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'],
        };
        let (decimal, group) = (next(), next());
        if money && !decimal.is_empty() {
            symbols.decimal = decimal;
        }
        if money && !group.is_empty() {
            symbols.group = group;
        }
        if let Some(digits) = supplement(&format!("nd.{system}")).filter(|_| system != "latn") {
            symbols.ascii = false;
            for (digit, character) in symbols.digits.iter_mut().zip(digits.chars()) {
                *digit = character;
            }
        }
        symbols
    }

    /// Appends a digit.
    pub fn push_digit(&self, out: &mut String, digit: u8) {
        if self.ascii {
            out.push(char::from(b'0' + digit));
        } else {
            out.push(self.digits[usize::from(digit.min(9))]);
        }
    }

    /// A whole number, with at least so many digits.
    #[must_use]
    pub fn integer(&self, number: i64, least: usize) -> String {
        let text = format!("{:0least$}", number.unsigned_abs());
        let mut out = String::new();
        if number < 0 {
            out.push_str(self.minus);
        }
        for digit in text.bytes() {
            self.push_digit(&mut out, digit - b'0');
        }
        out
    }
}

/// A value of a numbering system: the locale's own, else the common one, else that
/// of the locale's western digits.
#[must_use]
pub fn table(data: Data, kind: &str, system: &str) -> &'static str {
    let key = format!("{kind}.{system}");
    let own = data.core(&key);
    if !own.is_empty() {
        return own;
    }
    let common = Data::english().core(&key);
    if common.is_empty() || system == "latn" { data.core(&format!("{kind}.latn")) } else { common }
}

/// Whether a numbering system has digits to write numbers with.
#[must_use]
pub fn is_numeric(system: &str) -> bool {
    supplement(&format!("nd.{system}")).is_some()
}
