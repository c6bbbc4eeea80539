//! `Intl.NumberFormat`.

mod compact;
mod format;
mod options;
mod pattern;
mod range;
pub mod symbols;
mod unit;

pub use options::{
    CurrencyDisplay, Digits, Grouping, Notation, Options, Precision, SignDisplay, Style, Width,
};
pub use unit::currency_name;

use crate::data::{Data, UNIT, supplement};
use crate::decimal::Decimal;
use crate::part::{self, Part};
use crate::plural::{Category, Rules};
use compact::Compact;
use pattern::Pattern;
use symbols::{Symbols, table};

/// A number format: everything that its options and its locale decide.
#[derive(Clone, Debug)]
pub struct NumberFormat {
    options: Options,
    data: Data,
    symbols: Symbols,
    system: String,
    pattern: Pattern,
    compact: Option<Compact>,
    rules: Rules,
    /// The currency as its pattern writes it.
    currency: &'static str,
    code: String,
    /// Groups have at least this many digits before them.
    min_grouping: usize,
}

impl NumberFormat {
    /// A format for a locale that is held and a numbering system.
    #[must_use]
    pub fn new(data: Data, system: &str, options: Options) -> Self {
        let money = options.style == Style::Currency;
        let name = options.currency_display == CurrencyDisplay::Name;
        let patterns: Vec<_> = table(data, "pat", system).split(UNIT).collect();
        let of = |at: usize| patterns.get(at).copied().unwrap_or_default();
        let percent_unit = options.style == Style::Unit
            && options.unit == "percent"
            && options.unit_display != Width::Long;
        let compact = options.notation.is_compact();
        let pattern = match options.style {
            Style::Currency if name => of(0),
            Style::Currency if options.accounting => of(3),
            Style::Currency => of(2),
            Style::Percent if !compact => of(1),
            Style::Unit if percent_unit && !compact => of(1),
            _ => of(0),
        };
        let mut pattern = Pattern::parse(pattern);
        let least: usize = data.core("mgd").parse().unwrap_or(1);
        let min_grouping = match options.grouping {
            Grouping::Never => {
                pattern.primary = 0;
                1
            }
            Grouping::Auto if !compact => least,
            Grouping::Always => {
                if pattern.primary == 0 {
                    (pattern.primary, pattern.secondary) = (3, 3);
                }
                1
            }
            Grouping::Auto | Grouping::Min2 => least.max(2),
        };
        let symbol = data.core(&format!("cur.{}", options.currency));
        let (symbol, narrow) = symbol.split_once(UNIT).unwrap_or_default();
        let currency = match options.currency_display {
            CurrencyDisplay::Symbol => symbol,
            CurrencyDisplay::NarrowSymbol => narrow,
            CurrencyDisplay::Code | CurrencyDisplay::Name => "",
        };
        Self {
            compact: compact.then(|| Compact::new(data, system, &options)),
            symbols: Symbols::of(data, system, money),
            rules: Rules::of(data, false),
            data,
            system: system.to_owned(),
            pattern,
            currency,
            code: options.currency.clone(),
            min_grouping,
            options,
        }
    }

    /// What was asked for.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The number as text.
    #[must_use]
    pub fn format(&self, number: &Decimal) -> String {
        part::text(&self.format_to_parts(number))
    }

    /// The number in parts.
    #[must_use]
    pub fn format_to_parts(&self, number: &Decimal) -> Vec<Part> {
        self.pieces(number, false).join()
    }

    /// The plural category of a number as it is written, by other rules than those for
    /// counting.
    #[must_use]
    pub fn category(&self, rules: Rules, number: &Decimal) -> Category {
        let pieces = self.pieces(number, false);
        let fraction = i64::from(pieces.fraction) - i64::from(pieces.power);
        rules.select(&format::operands(&pieces.rounded, fraction.max(0) as u32, pieces.power))
    }

    fn currency(&self) -> &str {
        if self.currency.is_empty() { &self.code } else { self.currency }
    }
}

/// Digits after the point that a currency's amounts have.
#[must_use]
pub fn currency_digits(code: &str) -> u32 {
    supplement(&format!("cf.{code}")).and_then(|digits| digits.parse().ok()).unwrap_or(2)
}

/// Whether a unit can be asked for.
#[must_use]
pub fn is_sanctioned(unit: &str) -> bool {
    let simple =
        |unit: &str| supplement("units").unwrap_or_default().split(UNIT).any(|one| one == unit);
    simple(unit) || unit.split_once("-per-").is_some_and(|(unit, per)| simple(unit) && simple(per))
}

/// The plural category of a number as it is rounded for reading.
#[must_use]
pub fn category(rules: Rules, number: &Decimal, digits: &Digits) -> Category {
    let mut number = number.clone();
    let fraction = format::round(&mut number, digits);
    rules.select(&format::operands(&number, fraction, 0))
}
