//! From a number to its pieces: scale, round, sign, digits, and what stands around.

use super::NumberFormat;
use super::options::{Digits, Notation, Precision, SignDisplay, Style};
use super::unit::LongName;
use crate::decimal::{Decimal, Kind};
use crate::number::pattern::{Pattern, Sign, Words};
use crate::number::symbols::Symbols;
use crate::part::{Part, push};
use crate::plural::{Category, Operands};

/// A formatted number, from the inside out.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Digits and exponent.
    pub(super) number: Vec<Part>,
    /// Whether there is an exponent.
    pub(super) exponent: bool,
    /// The power of ten that the notation took out.
    pub(super) power: i32,
    /// Digits that are shown after the point at least.
    pub(super) fraction: u32,
    /// Sign, currency, percent sign, compact suffix.
    pub(super) middle: (Vec<Part>, Vec<Part>),
    /// Names of units and currencies.
    pub(super) outer: LongName,
    /// Plural category.
    pub(super) category: Category,
    /// The number after rounding.
    pub(super) rounded: Decimal,
    /// Whether a space was put between a currency's letters and the digits after them.
    pub(super) spaced: bool,
}

impl Pieces {
    pub(super) fn join(self) -> Vec<Part> {
        let mut parts = Vec::new();
        let (before, after) = self.middle;
        let inner = [before, self.number, after].into_iter().flatten();
        let inner = inner.filter(|_| !self.outer.alone);
        for part in self.outer.before.into_iter().chain(inner).chain(self.outer.after) {
            push(&mut parts, part);
        }
        parts
    }
}

impl NumberFormat {
    pub(super) fn pieces(&self, number: &Decimal, approximately: bool) -> Pieces {
        let mut number = number.clone();
        if self.options.style == Style::Percent {
            number.shift(2);
        }
        let digits = &self.options.digits;
        let whole = number.clone();
        let mut exponent = 0;
        let mut fraction = 0;
        if number.kind == Kind::Finite {
            exponent = if number.is_zero() { 0 } else { self.exponent(number.magnitude()) };
            let mut scaled = number.clone();
            scaled.shift(-exponent);
            fraction = round(&mut scaled, digits);
            if !scaled.is_zero() && scaled.magnitude() + exponent != number.magnitude() {
                // Rounded up to one more digit, which may have another exponent.
                let other = self.exponent(scaled.magnitude() + exponent);
                if other != exponent {
                    exponent = other;
                    scaled = number.clone();
                    scaled.shift(-exponent);
                    fraction = round(&mut scaled, digits);
                }
            }
            number = scaled;
            if digits.strip_if_integer && number.last_power() >= 0 {
                fraction = 0;
            }
        }
        let operands =
            operands(&number, fraction, if self.compact.is_some() { exponent } else { 0 });
        let category = self.rules.select(&operands);
        // A name's form follows the number as it is before it is shortened.
        let named =
            if exponent == 0 { category } else { super::category(self.rules, &whole, digits) };
        let compact =
            self.compact.as_ref().filter(|_| number.kind == Kind::Finite && !number.is_zero());
        let compact_pattern = compact.and_then(|compact| {
            let exact = (number.last_power() >= 0).then_some(operands.i);
            compact.pattern(number.magnitude() + exponent, category, exact)
        });
        let pattern = compact_pattern.as_ref().unwrap_or(&self.pattern);
        let words = Words {
            symbols: &self.symbols,
            currency: self.currency(),
            text: if compact_pattern.is_some() { "compact" } else { "literal" },
            percent: if self.options.style == Style::Unit { "unit" } else { "percentSign" },
        };
        let middle = pattern.write(self.sign(&number), approximately, &words);
        let scientific =
            matches!(self.options.notation, Notation::Scientific | Notation::Engineering);
        let mut body = Vec::new();
        if pattern.has_digits {
            self.write_number(&mut body, &number, fraction, pattern);
            if scientific && number.kind == Kind::Finite {
                write_exponent(&mut body, exponent, &self.symbols);
            }
        }
        let mut pieces = Pieces {
            number: body,
            exponent: scientific,
            power: exponent,
            fraction,
            middle,
            outer: self.long_name(named),
            category: named,
            rounded: number,
            spaced: false,
        };
        pieces.rounded.shift(exponent);
        if self.options.style == Style::Currency {
            space_currency(&mut pieces);
        }
        pieces
    }

    /// The power of ten that the notation takes out of a number.
    fn exponent(&self, magnitude: i32) -> i32 {
        match self.options.notation {
            Notation::Standard => 0,
            Notation::Scientific => magnitude,
            Notation::Engineering => magnitude - magnitude.rem_euclid(3),
            Notation::CompactShort | Notation::CompactLong => {
                self.compact.as_ref().map_or(0, |compact| compact.shift(magnitude))
            }
        }
    }

    fn sign(&self, number: &Decimal) -> Sign {
        let zero = number.is_zero() || number.kind == Kind::Nan;
        let own = if number.negative { Sign::Minus } else { Sign::None };
        match self.options.sign {
            SignDisplay::Never => Sign::None,
            SignDisplay::Always if number.negative => Sign::Minus,
            SignDisplay::Always => Sign::Plus,
            SignDisplay::ExceptZero | SignDisplay::Negative if zero => Sign::None,
            SignDisplay::ExceptZero if !number.negative => Sign::Plus,
            SignDisplay::Auto | SignDisplay::ExceptZero | SignDisplay::Negative => own,
        }
    }

    fn write_number(
        &self,
        out: &mut Vec<Part>,
        number: &Decimal,
        fraction: u32,
        pattern: &Pattern,
    ) {
        match number.kind {
            Kind::Nan => return out.push(Part::new("nan", self.symbols.nan)),
            Kind::Infinite => return out.push(Part::new("infinity", self.symbols.infinity)),
            Kind::Finite => {}
        }
        let whole = number.point.max(self.options.digits.min_integer as i32).max(0);
        let (primary, secondary) = (pattern.primary as i32, pattern.secondary.max(1) as i32);
        let grouped =
            primary > 0 && self.pattern.primary > 0 && whole >= primary + self.min_grouping as i32;
        let mut digits = String::new();
        for power in (0..whole).rev() {
            self.symbols.push_digit(&mut digits, number.digit(power));
            let ends = power == primary || power > primary && (power - primary) % secondary == 0;
            if grouped && power > 0 && ends {
                out.push(Part::new("integer", std::mem::take(&mut digits)));
                out.push(Part::new("group", self.symbols.group));
            }
        }
        push(out, Part::new("integer", digits));
        let shown = (fraction as i32).max(-number.last_power());
        if !number.digits.is_empty() && shown > 0 || fraction > 0 {
            out.push(Part::new("decimal", self.symbols.decimal));
            let mut digits = String::new();
            for power in 1..=shown.max(fraction as i32) {
                self.symbols.push_digit(&mut digits, number.digit(-power));
            }
            out.push(Part::new("fraction", digits));
        }
    }
}

fn write_exponent(out: &mut Vec<Part>, exponent: i32, symbols: &Symbols) {
    out.push(Part::new("exponentSeparator", symbols.exponential));
    if exponent < 0 {
        out.push(Part::new("exponentMinusSign", symbols.minus));
    }
    out.push(Part::new("exponentInteger", symbols.integer(i64::from(exponent).abs(), 1)));
}

/// Rounds a number and says how many digits are shown after the point at least.
pub(crate) fn round(number: &mut Decimal, digits: &Digits) -> u32 {
    let significant = |number: &Decimal, count: u32| {
        if number.is_zero() { 1 - count as i32 } else { number.magnitude() + 1 - count as i32 }
    };
    match digits.precision {
        Precision::Fraction(least, most) => {
            number.round(-(most as i32), digits.increment, digits.mode);
            least
        }
        Precision::Significant(least, most) => {
            let power = significant(number, most);
            number.round(power, 1, digits.mode);
            (-significant(number, least)).max(0) as u32
        }
        Precision::Both { fraction, significant: (least, most), more } => {
            let by_fraction = -(fraction.1 as i32);
            let mut by_significant = significant(number, most);
            let power = if more {
                by_fraction.min(by_significant)
            } else {
                by_fraction.max(by_significant)
            };
            if !number.is_zero() {
                let before = number.magnitude();
                number.round(power, 1, digits.mode);
                if !number.is_zero()
                    && number.magnitude() != before
                    && by_fraction == by_significant
                {
                    by_significant += 1;
                }
            }
            let shown = significant(number, least);
            let takes_significant = (by_significant <= by_fraction) == more;
            if takes_significant { (-shown).max(0) as u32 } else { fraction.0 }
        }
    }
}

/// What plural rules ask of a rounded number, as it is shown.
pub(crate) fn operands(number: &Decimal, fraction: u32, exponent: i32) -> Operands {
    let shown = (fraction as i32).max(-number.last_power()).max(0);
    let shown = if number.digits.is_empty() { fraction as i32 } else { shown };
    let mut operands =
        Operands { v: shown as u64, e: exponent.max(0) as u64, ..Operands::default() };
    for power in (0..number.point.clamp(0, 15)).rev() {
        operands.i = operands.i * 10 + u64::from(number.digit(power));
    }
    for power in 1..=shown.min(15) {
        operands.f = operands.f * 10 + u64::from(number.digit(-power));
    }
    operands.t = operands.f;
    while operands.t > 0 && operands.t.is_multiple_of(10) {
        operands.t /= 10;
    }
    operands.n = operands.i as f64 + operands.f as f64 / 10_f64.powi(shown.min(15));
    if number.kind != Kind::Finite || number.point > 15 {
        // Whole and large: no rule singles it out but by its last digits.
        operands.n = if number.kind == Kind::Finite { operands.i as f64 } else { f64::NAN };
    }
    operands
}

/// Puts a space between a currency's letters and the digits that they meet.
fn space_currency(pieces: &mut Pieces) {
    // Chinese numerals are letters, which need no space.
    let numeral = |part: &Part| part.value.starts_with(|first| matches!(first, '〇' | '一'..='龥'));
    let digit =
        |part: Option<&Part>| part.is_some_and(|part| part.kind == "integer" && !numeral(part));
    let meets = |character: Option<char>| character.is_some_and(|character| !is_symbol(character));
    let space = || Part::new("literal", "\u{a0}");
    let (before, after) = &mut pieces.middle;
    if digit(pieces.number.first())
        && before
            .last()
            .is_some_and(|part| part.kind == "currency" && meets(part.value.chars().last()))
    {
        before.push(space());
        pieces.spaced = true;
    }
    let last = pieces.number.last();
    let ends = last
        .is_some_and(|part| (part.kind == "integer" || part.kind == "fraction") && !numeral(part));
    if ends
        && after
            .first()
            .is_some_and(|part| part.kind == "currency" && meets(part.value.chars().next()))
    {
        after.insert(0, space());
    }
}

/// Whether a character is a symbol or a space, of those that currencies are written with.
fn is_symbol(character: char) -> bool {
    character.is_whitespace()
        || matches!(character, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~' | '¢'..='¥' | '฿' | '֏' | '؋' | '৲' | '৳' | '૱' | '௹' | '៛' | '₠'..='⃏' | '﷼' | '﹩' | '＄' | '￠' | '￡' | '￥' | '￦')
}
