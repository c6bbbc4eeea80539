//! Plural categories, by CLDR's rules, which are read as they are written.

use crate::data::{Data, UNIT, supplement};

/// A plural category, as the tables mark it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of CLDR")]
pub enum Category {
    Zero,
    One,
    Two,
    Few,
    Many,
    Other,
}

impl Category {
    /// In the order of `resolvedOptions().pluralCategories`.
    pub const ALL: [Self; 6] =
        [Self::Zero, Self::One, Self::Two, Self::Few, Self::Many, Self::Other];

    /// CLDR's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::One => "one",
            Self::Two => "two",
            Self::Few => "few",
            Self::Many => "many",
            Self::Other => "other",
        }
    }

    /// The letter that marks it in the tables.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Zero => 'z',
            Self::One => 'o',
            Self::Two => 't',
            Self::Few => 'f',
            Self::Many => 'm',
            Self::Other => 'x',
        }
    }

    fn of_letter(letter: char) -> Self {
        match letter {
            'z' => Self::Zero,
            'o' => Self::One,
            't' => Self::Two,
            'f' => Self::Few,
            'm' => Self::Many,
            _ => Self::Other,
        }
    }
}

/// What rules ask of a formatted number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operands {
    /// The absolute value.
    pub n: f64,
    /// Its whole part, modulo 10^15 where it is longer.
    pub i: u64,
    /// Count of visible digits after the point.
    pub v: u64,
    /// Visible digits after the point as a number.
    pub f: u64,
    /// The same without zeros at the end.
    pub t: u64,
    /// Exponent of compact notation.
    pub e: u64,
}

/// The rules of a language.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    rules: &'static str,
    ranges: &'static str,
}

impl Rules {
    /// The rules of a locale's language for counting, or for ordering.
    #[must_use]
    pub fn of(data: Data, ordinal: bool) -> Self {
        let kind = if ordinal { "po" } else { "pc" };
        let language = data.tag().split('-').next().unwrap_or_default();
        let rules =
            [data.tag(), language].iter().find_map(|tag| supplement(&format!("{kind}.{tag}")));
        let ranges = supplement(&format!("pr.{language}"));
        Self { rules: rules.unwrap_or("x"), ranges: ranges.unwrap_or_default() }
    }

    /// The category of a number.
    #[must_use]
    pub fn select(self, operands: &Operands) -> Category {
        for rule in self.rules.split(UNIT) {
            let mut characters = rule.chars();
            let category = Category::of_letter(characters.next().unwrap_or('x'));
            let condition = characters.as_str();
            if category != Category::Other && holds(condition, operands) {
                return category;
            }
        }
        Category::Other
    }

    /// The category of a range of numbers, from those of its ends; `Other` where the
    /// language says nothing.
    #[must_use]
    pub fn select_range(self, start: Category, end: Category) -> Category {
        let wanted = [start.letter(), end.letter()];
        self.ranges
            .split(' ')
            .find(|range| range.chars().take(2).eq(wanted))
            .and_then(|range| range.chars().nth(2))
            .map_or(Category::Other, Category::of_letter)
    }

    /// The categories that there are.
    #[must_use]
    pub fn categories(self) -> Vec<Category> {
        let has = |category: &Category| {
            self.rules.split(UNIT).any(|rule| rule.starts_with(category.letter()))
        };
        Category::ALL
            .into_iter()
            .filter(|category| *category == Category::Other || has(category))
            .collect()
    }
}

/// Picks the pattern of a category from a list in which each is led by its letter.
#[must_use]
pub fn pick(patterns: &'static str, category: Category) -> &'static str {
    let find = |letter: char| patterns.split(UNIT).find_map(|pattern| pattern.strip_prefix(letter));
    find(category.letter()).or_else(|| find('x')).unwrap_or_default()
}

fn holds(condition: &str, operands: &Operands) -> bool {
    condition
        .split(" or ")
        .any(|all| all.split(" and ").all(|relation| relation_holds(relation, operands)))
}

/// `n % 100 != 11..14,21`
fn relation_holds(relation: &str, operands: &Operands) -> bool {
    let Some((left, negated, right)) = relation
        .split_once("!=")
        .map(|(left, right)| (left, true, right))
        .or_else(|| relation.split_once('=').map(|(left, right)| (left, false, right)))
    else {
        return false;
    };
    let (name, modulus) = left.split_once('%').unwrap_or((left, ""));
    let value = match name.trim() {
        "n" => operands.n,
        "i" => operands.i as f64,
        "v" => operands.v as f64,
        "w" => {
            if operands.t == 0 {
                0.0
            } else {
                digits_of(operands.t)
            }
        }
        "f" => operands.f as f64,
        "t" => operands.t as f64,
        _ => operands.e as f64,
    };
    let value = modulus.trim().parse::<f64>().map_or(value, |modulus| value % modulus);
    let within = right.split(',').any(|range| {
        let (low, high) = range.trim().split_once("..").unwrap_or((range.trim(), range.trim()));
        let low = low.parse::<f64>().unwrap_or(f64::NAN);
        let high = high.parse::<f64>().unwrap_or(f64::NAN);
        value.fract() == 0.0 && value >= low && value <= high
    });
    within != negated
}

fn digits_of(number: u64) -> f64 {
    f64::from(number.checked_ilog10().map_or(1, |power| power + 1))
}
