//! What `Intl.NumberFormat` is asked for, in ECMA-402's words.

use crate::decimal::Mode;

/// Kind of number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum Style {
    #[default]
    Decimal,
    Percent,
    Currency,
    Unit,
}

/// How a currency is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum CurrencyDisplay {
    Code,
    #[default]
    Symbol,
    NarrowSymbol,
    Name,
}

/// Width of units and of other names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum Width {
    Long,
    #[default]
    Short,
    Narrow,
}

impl Width {
    /// The letter that marks it in the tables.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Long => 'l',
            Self::Short => 's',
            Self::Narrow => 'n',
        }
    }
}

/// How large numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum Notation {
    #[default]
    Standard,
    Scientific,
    Engineering,
    CompactShort,
    CompactLong,
}

impl Notation {
    /// Whether it is either compact notation.
    #[must_use]
    pub const fn is_compact(self) -> bool {
        matches!(self, Self::CompactShort | Self::CompactLong)
    }
}

/// When a sign is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum SignDisplay {
    #[default]
    Auto,
    Never,
    Always,
    ExceptZero,
    Negative,
}

/// When whole digits are grouped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum Grouping {
    Never,
    #[default]
    Auto,
    Always,
    Min2,
}

/// Which digits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Least and most digits after the point.
    Fraction(u32, u32),
    /// Least and most significant digits.
    Significant(u32, u32),
    /// Both, and whether the more precise of the two results is taken.
    Both {
        /// Least and most digits after the point.
        fraction: (u32, u32),
        /// Least and most significant digits.
        significant: (u32, u32),
        /// Whether the more precise result is taken, not the less precise one.
        more: bool,
    },
}

impl Precision {
    /// What compact notation has by itself.
    pub const COMPACT: Self = Self::Both { fraction: (0, 0), significant: (1, 2), more: true };
}

/// Everything about digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits {
    /// Least digits before the point.
    pub min_integer: u32,
    /// Digits that are kept.
    pub precision: Precision,
    /// Multiple of the last digit that is rounded to.
    pub increment: u32,
    /// How to round.
    pub mode: Mode,
    /// Whether a whole number is written without its fraction of zeros.
    pub strip_if_integer: bool,
}

impl Default for Digits {
    fn default() -> Self {
        Self {
            min_integer: 1,
            precision: Precision::Fraction(0, 3),
            increment: 1,
            mode: Mode::HalfExpand,
            strip_if_integer: false,
        }
    }
}

/// Everything that a number format is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Kind of number.
    pub style: Style,
    /// ISO code of the currency, in capitals.
    pub currency: String,
    /// How the currency is written.
    pub currency_display: CurrencyDisplay,
    /// Whether negative amounts of money are written as accountants do.
    pub accounting: bool,
    /// The unit.
    pub unit: String,
    /// How the unit is written.
    pub unit_display: Width,
    /// How large numbers are written.
    pub notation: Notation,
    /// When a sign is written.
    pub sign: SignDisplay,
    /// When whole digits are grouped.
    pub grouping: Grouping,
    /// Everything about digits.
    pub digits: Digits,
}
