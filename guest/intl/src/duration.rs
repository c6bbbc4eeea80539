//! `Intl.DurationFormat`.

use crate::data::Data;
use crate::decimal::{Decimal, Mode};
use crate::list::{Kind, ListFormat};
use crate::number::symbols::Symbols;
use crate::number::{
    Digits, Grouping, NumberFormat, Options, Precision, SignDisplay, Style, Width,
};
use crate::part::{Part, push};

/// Units of a duration, from the largest to the smallest, in ECMA-402's words.
pub const UNITS: [&str; 10] = [
    "year",
    "month",
    "week",
    "day",
    "hour",
    "minute",
    "second",
    "millisecond",
    "microsecond",
    "nanosecond",
];

const HOURS: usize = 4;
const MINUTES: usize = 5;
const SECONDS: usize = 6;

/// How the amount of a unit is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitStyle {
    /// With the name of the unit.
    Named(Width),
    /// As digits; below a second, as a fraction of the unit before.
    Numeric,
    /// As at least two digits.
    TwoDigit,
}

impl UnitStyle {
    fn is_numeric(self) -> bool {
        !matches!(self, Self::Named(_))
    }
}

/// What is asked for one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitOptions {
    /// How its amount is written.
    pub style: UnitStyle,
    /// Whether it is written when it is zero.
    pub always: bool,
}

/// A duration: an amount of each of [`UNITS`], all whole and none of another sign.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Duration(pub [f64; 10]);

impl Duration {
    /// Whether signs agree and amounts are within ECMA-402's bounds.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        const YEARS_END: f64 = 4_294_967_296.0;
        const SECONDS_END: i128 = 1 << 53;
        /// More than a valid amount of any unit.
        const MOST: f64 = 1e26;
        /// Nanoseconds of each unit from the day on.
        const NANOSECONDS: [i128; 7] = [
            86_400_000_000_000,
            3_600_000_000_000,
            60_000_000_000,
            1_000_000_000,
            1_000_000,
            1000,
            1,
        ];
        let Self(amounts) = self;
        let signs = (amounts.iter().any(|n| *n > 0.0), amounts.iter().any(|n| *n < 0.0));
        if signs == (true, true)
            || amounts[..3].iter().any(|n| n.abs() >= YEARS_END)
            || amounts.iter().any(|n| n.abs() >= MOST)
        {
            return false;
        }
        let total: i128 = amounts[3..].iter().zip(NANOSECONDS).fold(0_i128, |sum, (n, one)| {
            sum.saturating_add((n.abs() as i128).saturating_mul(one))
        });
        total / NANOSECONDS[3] < SECONDS_END
    }

    fn is_negative(&self) -> bool {
        self.0.iter().any(|n| *n < 0.0)
    }

    /// The amount of a unit, of a second at most, with what the smaller ones add to it as
    /// a fraction.
    fn with_fraction(&self, at: usize) -> Decimal {
        let mut below: i128 = 0;
        for n in &self.0[at + 1..] {
            below = below * 1000 + n.abs() as i128;
        }
        // V8 counts nanoseconds in 64 bits.
        below = below.min(1 << 63);
        let places = 3 * (9 - at) as u32;
        let one = 10_i128.pow(places);
        let whole = self.0[at].abs() as i128 + below / one;
        let text = format!("{whole}.{:0width$}", below % one, width = places as usize);
        let mut number = Decimal::parse(&text).unwrap_or_else(|| Decimal::zero(false));
        number.negative = self.is_negative();
        number
    }
}

/// How durations are written in a locale.
#[derive(Clone, Debug)]
pub struct DurationFormat {
    data: Data,
    system: String,
    separator: &'static str,
    units: [UnitOptions; 10],
    /// Digits after the point of a second or a smaller unit.
    fraction: Option<u32>,
    list: ListFormat,
}

impl DurationFormat {
    /// The format of a locale that is held; `width` is of the list.
    #[must_use]
    pub fn new(
        data: Data,
        system: &str,
        width: Width,
        units: [UnitOptions; 10],
        fraction: Option<u32>,
    ) -> Self {
        let separator = Symbols::of(data, system, false).time_separator;
        let list = ListFormat::new(data, Kind::Unit, width);
        Self { data, system: system.to_owned(), separator, units, fraction, list }
    }

    /// What was asked for each unit.
    #[must_use]
    pub fn units(&self) -> &[UnitOptions; 10] {
        &self.units
    }

    /// Digits after the point, where they were asked for.
    #[must_use]
    pub fn fraction(&self) -> Option<u32> {
        self.fraction
    }

    /// A duration in parts.
    #[must_use]
    pub fn format_to_parts(&self, duration: &Duration) -> Vec<Part> {
        let mut elements: Vec<Vec<Part>> = Vec::new();
        let mut signed = true;
        for (at, unit) in UNITS.into_iter().enumerate() {
            let UnitOptions { style, always } = self.units[at];
            let fractional = self.is_fractional(at, style);
            let zero = if fractional {
                duration.with_fraction(at).is_zero()
            } else {
                duration.0[at] == 0.0
            };
            let between = at == MINUTES && self.stands_between(duration);
            if !zero || always || between {
                let mut number = if fractional {
                    duration.with_fraction(at)
                } else {
                    Decimal::from_f64(duration.0[at])
                };
                number.negative = duration.is_negative();
                let format = self.number(unit, style, fractional, signed);
                signed = false;
                let parts = format.format_to_parts(&number);
                let parts = parts.into_iter().map(|part| Part { unit, ..part }).collect();
                match elements.last_mut() {
                    // V8 puts numeric minutes and seconds behind whatever comes before.
                    Some(last) if self.follows(at) => {
                        push(last, Part::new("literal", self.separator));
                        last.extend::<Vec<Part>>(parts);
                    }
                    _ => elements.push(parts),
                }
            }
            if fractional {
                break;
            }
        }
        self.list.join(elements)
    }

    /// Whether smaller units are written as a fraction of this one.
    fn is_fractional(&self, at: usize, style: UnitStyle) -> bool {
        let next = self.units.get(at + 1);
        at == SECONDS && style.is_numeric()
            || at >= SECONDS && next.is_some_and(|next| next.style == UnitStyle::Numeric)
    }

    /// Whether zero minutes are written between hours and seconds.
    fn stands_between(&self, duration: &Duration) -> bool {
        let shown = |at: usize, zero: bool| !zero || self.units[at].always;
        self.units[HOURS].style.is_numeric()
            && shown(HOURS, duration.0[HOURS] == 0.0)
            && shown(SECONDS, duration.with_fraction(SECONDS).is_zero())
    }

    /// Whether a unit is written behind a separator.
    fn follows(&self, at: usize) -> bool {
        match at {
            MINUTES => self.units[HOURS].style.is_numeric(),
            SECONDS => self.units[SECONDS].style.is_numeric(),
            _ => false,
        }
    }

    fn number(&self, unit: &str, style: UnitStyle, fractional: bool, signed: bool) -> NumberFormat {
        let mut options = Options::default();
        let mut digits = Digits::default();
        match style {
            UnitStyle::Named(width) => {
                options.style = Style::Unit;
                unit.clone_into(&mut options.unit);
                options.unit_display = width;
            }
            UnitStyle::Numeric => options.grouping = Grouping::Never,
            UnitStyle::TwoDigit => {
                options.grouping = Grouping::Never;
                digits.min_integer = 2;
            }
        }
        if fractional {
            digits.precision =
                Precision::Fraction(self.fraction.unwrap_or(0), self.fraction.unwrap_or(9));
            digits.mode = Mode::Trunc;
        }
        if !signed {
            options.sign = SignDisplay::Never;
        }
        options.digits = digits;
        NumberFormat::new(self.data, &self.system, options)
    }
}
