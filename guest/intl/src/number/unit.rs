//! Names of units and currencies around a number.

use super::NumberFormat;
use super::options::{CurrencyDisplay, Style, Width};
use crate::data::{Data, Section, UNIT};
use crate::number::pattern::push_trimmed;
use crate::number::symbols::table;
use crate::part::{Part, push};
use crate::plural::{Category, pick};

/// The name of a unit or of a currency, around a number.
#[derive(Debug, Default)]
pub(super) struct LongName {
    pub(super) before: Vec<Part>,
    pub(super) after: Vec<Part>,
    /// Whether the name says the number, as Arabic and Hebrew do of two.
    pub(super) alone: bool,
}

impl NumberFormat {
    /// What stands before and after the number for its unit or the name of its currency.
    pub(super) fn long_name(&self, category: Category) -> LongName {
        match self.options.style {
            Style::Currency if self.options.currency_display == CurrencyDisplay::Name => {
                self.currency_name(category)
            }
            Style::Percent if self.compact.is_some() => {
                self.unit("percent", Width::Short, category)
            }
            Style::Unit
                if self.options.unit != "percent"
                    || self.options.unit_display == Width::Long
                    || self.compact.is_some() =>
            {
                self.unit(&self.options.unit, self.options.unit_display, category)
            }
            _ => LongName::default(),
        }
    }

    fn currency_name(&self, category: Category) -> LongName {
        let patterns = table(self.data, "ccy", &self.system);
        let name = currency_name(self.data, &self.code, Some(category));
        let name = name.unwrap_or(&self.code);
        around(
            pick(patterns, category),
            |text| text.replace("{1}", "\u{0}"),
            |out, text| {
                let (before, after) = text.split_once('\u{0}').unwrap_or((text, ""));
                push(out, Part::new("literal", before));
                if text.contains('\u{0}') {
                    push_trimmed(out, "currency", name);
                }
                push(out, Part::new("literal", after));
            },
        )
    }

    fn unit(&self, unit: &str, width: Width, category: Category) -> LongName {
        let pattern = unit_pattern(self.data, unit, width, category);
        around(&pattern, str::to_owned, |out, text| push_trimmed(out, "unit", text))
    }
}

/// Splits a pattern at its number and writes both sides.
fn around(
    pattern: &str,
    prepare: impl Fn(&str) -> String,
    write: impl Fn(&mut Vec<Part>, &str),
) -> LongName {
    let (before, after) = pattern.split_once("{0}").unwrap_or(("", pattern));
    let mut name = LongName { alone: !pattern.contains("{0}"), ..LongName::default() };
    write(&mut name.before, &prepare(before));
    write(&mut name.after, &prepare(after));
    name
}

/// The name of a currency, in the form of a plural category where one is asked for.
#[must_use]
pub fn currency_name(data: Data, code: &str, category: Option<Category>) -> Option<&'static str> {
    let names = data.get(Section::Names, &format!("y.{code}"))?;
    let (name, counts) = names.split_once(UNIT).unwrap_or((names, ""));
    let count = category.map_or("", |category| pick(counts, category));
    Some(if count.is_empty() { name } else { count })
}

/// The pattern of a unit with `{0}` for the number.
#[must_use]
pub fn unit_pattern(data: Data, unit: &str, width: Width, category: Category) -> String {
    let find = |unit: &str| {
        let key = format!("{}.{unit}", width.letter());
        data.get(Section::Units, &key)
    };
    if let Some(patterns) = find(unit) {
        return pick(patterns, category).to_owned();
    }
    let Some((unit, per)) = unit.split_once("-per-") else { return "{0}".to_owned() };
    let above = pick(find(unit).unwrap_or_default(), category);
    let below = find(per).unwrap_or_default();
    if let Some(per) = below.split(UNIT).find_map(|pattern| pattern.strip_prefix('p')) {
        return per.replace("{0}", above);
    }
    let below = pick(below, Category::One).replace("{0}", "");
    let pattern = find("per").unwrap_or("{0}/{1}");
    pattern.replace("{1}", below.trim()).replace("{0}", above)
}
