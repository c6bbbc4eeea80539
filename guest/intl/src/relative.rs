//! `Intl.RelativeTimeFormat`.

use crate::data::{Data, NAME, UNIT};
use crate::decimal::{Decimal, Mode};
use crate::number::{self, Digits, NumberFormat, Options, Width};
use crate::part::{Part, fill};
use crate::plural::Rules;

/// Units of relative time, in ECMA-402's words.
pub const UNITS: [&str; 8] =
    ["second", "minute", "hour", "day", "week", "month", "quarter", "year"];

/// How relative time is written in a locale.
#[derive(Clone, Debug)]
pub struct RelativeTimeFormat {
    data: Data,
    width: Width,
    /// Whether words such as `yesterday` are written where there are any.
    words: bool,
    number: NumberFormat,
    rules: Rules,
}

impl RelativeTimeFormat {
    /// The format of a locale that is held.
    #[must_use]
    pub fn new(data: Data, system: &str, width: Width, words: bool) -> Self {
        let digits = Digits { mode: Mode::HalfEven, ..Digits::default() };
        let number = NumberFormat::new(data, system, Options { digits, ..Options::default() });
        Self { data, width, words, number, rules: Rules::of(data, false) }
    }

    /// So many units from now in parts. The unit is one of [`UNITS`].
    #[must_use]
    pub fn format_to_parts(&self, value: f64, unit: &'static str) -> Vec<Part> {
        let entries: Vec<_> = field(self.data, unit, self.width).split(UNIT).collect();
        if self.words && value.abs() < 2.1 {
            // ICU takes what is within a hundredth of a whole number for it.
            let whole = (value * 100.0).round();
            let word = (whole % 100.0 == 0.0).then(|| format!("r{}{NAME}", (whole / 100.0) as i32));
            let word =
                word.and_then(|start| entries.iter().find_map(|entry| entry.strip_prefix(&start)));
            if let Some(word) = word.filter(|word| !word.is_empty()) {
                return vec![Part::new("literal", word)];
            }
        }
        let direction = if value.is_sign_negative() { 'p' } else { 'f' };
        let number = Decimal::from_f64(value.abs());
        let category = number::category(self.rules, &number, &self.number.options().digits);
        let of = |letter: char| {
            let start = [direction, letter].iter().collect::<String>();
            entries.iter().find_map(|entry| entry.strip_prefix(&start))
        };
        let pattern = of(category.letter()).or_else(|| of('x')).unwrap_or("{0}");
        let mut parts = Vec::new();
        fill(pattern, &mut parts, |_, parts| {
            let digits = self.number.format_to_parts(&number);
            parts.extend(digits.into_iter().map(|part| Part { unit, ..part }));
        });
        parts
    }
}

/// What the tables say of a field of dates: the name after `n`, words after `r` and the
/// offset, and patterns after `f` or `p` and the letter of a plural category.
pub(crate) fn field(data: Data, field: &str, width: Width) -> &'static str {
    let width = match width {
        Width::Long => "",
        Width::Short => "-short",
        Width::Narrow => "-narrow",
    };
    data.core(&format!("rt.{field}{width}"))
}
