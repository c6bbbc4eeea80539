//! Patterns of ranges: ICU's `DateIntervalFormat`, which finds the pattern for the
//! largest field in which two dates differ.

use super::calendar::{Calendar, Fields};
use super::generator::{Asker, Generator};
use super::pattern::{fields, join, repeat};
use super::skeleton::Skeleton;
use crate::data::{Data, NAME, RECORD, UNIT};

/// Fields in which dates differ, from the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Era,
    Year,
    Month,
    Day,
    DayPeriod,
    Hour,
    Minute,
    Second,
    Millisecond,
}

impl Field {
    /// The letter that stands for it in skeletons and in the tables.
    const fn letter(self) -> char {
        match self {
            Self::Era => 'G',
            Self::Year => 'y',
            Self::Month => 'M',
            Self::Day => 'd',
            Self::DayPeriod => 'a',
            Self::Hour => 'h',
            Self::Minute => 'm',
            Self::Second => 's',
            Self::Millisecond => 'S',
        }
    }

    /// How fine it is; a letter of a pattern is as fine or finer, or shows nothing of it.
    const fn level(self) -> u32 {
        level(self.letter())
    }

    fn largest(start: &Fields, end: &Fields) -> Option<Self> {
        let differs = [
            (start.era != end.era, Self::Era),
            (start.year != end.year, Self::Year),
            (start.month != end.month, Self::Month),
            (start.day != end.day, Self::Day),
            (start.hour / 12 != end.hour / 12, Self::DayPeriod),
            (start.hour != end.hour, Self::Hour),
            (start.minute != end.minute, Self::Minute),
            (start.second != end.second, Self::Second),
            (start.millisecond != end.millisecond, Self::Millisecond),
        ];
        differs.into_iter().find(|(differs, _)| *differs).map(|(_, field)| field)
    }
}

const fn level(letter: char) -> u32 {
    match letter {
        'y' | 'Y' | 'u' | 'U' | 'r' => 10,
        'M' | 'L' | 'Q' | 'q' | 'w' | 'W' | 'D' => 20,
        'd' | 'E' | 'e' | 'c' | 'F' => 30,
        'a' | 'b' | 'B' | 'A' => 40,
        'h' | 'H' | 'k' | 'K' => 50,
        'm' => 60,
        's' => 70,
        'S' => 80,
        _ => 0,
    }
}

/// How a range is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As one date, the start.
    Single(String),
    /// The first pattern of one end, the second of the other.
    Halves {
        first: String,
        second: String,
        /// Whether the end comes first.
        later_first: bool,
    },
    /// The same pattern twice, joined.
    Twice { pattern: String, glue: &'static str },
    /// A date, and a range of times on it.
    OneDay {
        date: String,
        time: String,
        /// Joins the two: `{1}` is the date.
        outer: &'static str,
        glue: &'static str,
    },
}

#[derive(Clone, Debug)]
enum Found {
    Halves(String, String, bool),
    Fallback(String),
}

/// The patterns of ranges for the fields of a format.
#[derive(Clone, Debug)]
pub(super) struct Intervals {
    found: [Option<Found>; 9],
    /// The pattern of the fields themselves.
    plain: String,
    glue: &'static str,
    outer: &'static str,
    /// The patterns of the date and of the time, where there are both.
    split: Option<(String, String)>,
}

impl Intervals {
    /// The patterns for the fields of a pattern.
    pub(super) fn new(data: Data, calendar: Calendar, pattern: &str, asker: Asker<'_>) -> Self {
        let skeleton = Skeleton::of(pattern).text();
        let generator = Generator::of(data, calendar);
        let best = |skeleton: &str| generator.best(skeleton, asker);
        let table = Table::of(data, calendar);
        let (date, time) = parts(&one_hour(&skeleton));
        let mut intervals = Self {
            found: Default::default(),
            plain: best(&skeleton),
            glue: table.glue,
            // ICU takes the pattern of the medium style here, whatever the date.
            outer: generator.plain_glue(2),
            split: None,
        };
        let wanted = if time.plain.is_empty() { &date.plain } else { &time.plain };
        let nearest = table.nearest(wanted);
        if nearest.is_some() && !date.plain.is_empty() && !time.plain.is_empty() {
            intervals.split = Some((best(&date.plain), best(&time.plain)));
        }
        let Some((near, apart)) = nearest.filter(|(_, apart)| *apart != Apart::Fields) else {
            if !time.full.is_empty() && date.full.is_empty() {
                intervals.with_date(&time.full, &best);
            }
            return intervals;
        };
        if time.full.is_empty() {
            intervals.dates(&table, wanted, near, apart);
            return intervals;
        }
        for field in [Field::Minute, Field::Hour, Field::DayPeriod] {
            intervals.set(&table, field, wanted, near, apart);
        }
        if date.full.is_empty() {
            intervals.with_date(&time.full, &best);
            return intervals;
        }
        let mut full = skeleton.clone();
        for field in [Field::Day, Field::Month, Field::Year, Field::Era] {
            if !date.full.contains(field.letter()) {
                full.insert(0, field.letter());
                intervals.found[field as usize] = Some(Found::Fallback(best(&full)));
            }
        }
        let single = best(&date.full);
        for field in [Field::DayPeriod, Field::Hour, Field::Minute] {
            if let Some(Found::Halves(first, second, later)) = &intervals.found[field as usize] {
                let range = join(intervals.outer, &format!("{first}{second}"), &single);
                intervals.found[field as usize] = Some(halves(&range, *later));
            }
        }
        intervals
    }

    /// Times on different days get the whole date.
    fn with_date(&mut self, time: &str, best: &dyn Fn(&str) -> String) {
        let pattern = best(&format!("yMd{time}"));
        for field in [Field::Day, Field::Month, Field::Year] {
            self.found[field as usize] = Some(Found::Fallback(pattern.clone()));
        }
        let pattern = best(&format!("GyMd{time}"));
        self.found[Field::Era as usize] = Some(Found::Fallback(pattern));
    }

    fn dates(&mut self, table: &Table, wanted: &str, near: &'static str, apart: Apart) {
        let (mut wanted, mut near) = (wanted.to_owned(), near.to_owned());
        for field in [Field::Day, Field::Month, Field::Year, Field::Era] {
            let extended = self.set_extending(table, field, &wanted, &near, apart);
            if field == Field::Month && extended {
                wanted.insert(0, field.letter());
                near.insert(0, field.letter());
            }
        }
    }

    fn set(&mut self, table: &Table, field: Field, wanted: &str, near: &str, apart: Apart) {
        let mut pattern = table.pattern(near, field);
        if pattern.is_none() && !ignores(near, field) && field == Field::DayPeriod {
            pattern = table.pattern(near, Field::Hour);
        }
        if let Some(pattern) = pattern {
            self.take(field, pattern, wanted, near, apart);
        }
    }

    /// As `set`, but looks for a skeleton that has the field too.
    fn set_extending(
        &mut self,
        table: &Table,
        field: Field,
        wanted: &str,
        near: &str,
        apart: Apart,
    ) -> bool {
        if let Some(pattern) = table.pattern(near, field) {
            self.take(field, pattern, wanted, near, apart);
            return false;
        }
        if ignores(near, field) {
            return false;
        }
        let longer = format!("{}{near}", field.letter());
        let (mut pattern, mut near, mut apart) =
            (table.pattern(&longer, field), near.to_owned(), apart);
        if pattern.is_none()
            && apart == Apart::Same
            && let Some((best, other)) = table.nearest(&longer)
        {
            apart = other;
            if apart != Apart::Fields {
                pattern = table.pattern(best, field);
                best.clone_into(&mut near);
            }
        }
        let Some(pattern) = pattern else { return false };
        self.take(field, pattern, wanted, &near, apart);
        true
    }

    fn take(&mut self, field: Field, pattern: &str, wanted: &str, near: &str, apart: Apart) {
        let pattern = match apart {
            Apart::Same => pattern.to_owned(),
            _ => widen(pattern, wanted, near, apart),
        };
        self.found[field as usize] = Some(halves(&pattern, false));
    }

    /// How a range is written.
    pub(super) fn shape(&self, start: &Fields, end: &Fields) -> Shape {
        let Some(field) = Field::largest(start, end) else {
            return Shape::Single(self.plain.clone());
        };
        match &self.found[field as usize] {
            Some(Found::Halves(first, second, later_first)) => Shape::Halves {
                first: first.clone(),
                second: second.clone(),
                later_first: *later_first,
            },
            Some(Found::Fallback(pattern)) => {
                Shape::Twice { pattern: pattern.clone(), glue: self.glue }
            }
            None if ignores(&self.plain, field) => Shape::Single(self.plain.clone()),
            None => match &self.split {
                Some((date, time)) if field >= Field::DayPeriod => Shape::OneDay {
                    date: date.clone(),
                    time: time.clone(),
                    outer: self.outer,
                    glue: self.glue,
                },
                _ => Shape::Twice { pattern: self.plain.clone(), glue: self.glue },
            },
        }
    }
}

/// Whether nothing of a pattern is as fine as a field.
fn ignores(pattern: &str, field: Field) -> bool {
    fields(pattern).all(|(letter, _)| level(letter) < field.level())
}

/// The skeleton with a single letter for the hour, and a day period no wider than ICU
/// leaves it.
fn one_hour(skeleton: &str) -> String {
    let period = match skeleton.matches('B').count() {
        0..3 => 1,
        3 | 4 => 3,
        _ => 5,
    };
    let mut out = String::new();
    for letter in skeleton.chars() {
        match letter {
            'h' | 'H' | 'k' | 'K' | 'B' if out.ends_with(letter) => {}
            'B' => repeat(&mut out, 'B', period),
            _ => out.push(letter),
        }
    }
    out
}

/// A part of a skeleton as it is, and in the form in which the tables have it.
#[derive(Default)]
struct Half {
    full: String,
    plain: String,
}

/// The date and the time of a skeleton.
fn parts(skeleton: &str) -> (Half, Half) {
    let (mut date, mut time) = (Half::default(), Half::default());
    let count = |letter: char| skeleton.matches(letter).count();
    let mut hour = None;
    for letter in skeleton.chars() {
        match letter {
            'E' | 'd' | 'M' | 'y' => date.full.push(letter),
            'h' | 'H' | 'k' | 'K' => {
                time.full.push(letter);
                hour.get_or_insert(letter);
            }
            'a' | 'm' | 'z' | 'v' => time.full.push(letter),
            'b' | 'B' | 'V' | 'Z' | 'j' | 's' | 'S' | 'A' => {
                time.full.push(letter);
                time.plain.push(letter);
            }
            'O' => {}
            other => {
                date.full.push(other);
                date.plain.push(other);
            }
        }
    }
    repeat(&mut date.plain, 'y', count('y'));
    repeat(
        &mut date.plain,
        'M',
        if count('M') < 3 { count('M').min(1) } else { count('M').min(5) },
    );
    repeat(
        &mut date.plain,
        'E',
        if count('E') <= 3 { count('E').min(1) } else { count('E').min(5) },
    );
    repeat(&mut date.plain, 'd', count('d').min(1));
    time.plain.extend(hour);
    for letter in ['m', 'z', 'v'] {
        repeat(&mut time.plain, letter, count(letter).min(1));
    }
    (date, time)
}

/// In what two skeletons differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Apart {
    /// In nothing.
    Same,
    /// In the width of fields.
    Width,
    /// In the letters of the hour or the zone.
    Letters,
    /// In the fields themselves.
    Fields,
}

/// What a locale has of ranges.
struct Table {
    entries: Vec<(&'static str, &'static str)>,
    glue: &'static str,
}

impl Table {
    fn of(data: Data, calendar: Calendar) -> Self {
        let key = |name: &str| data.core(&format!("{}.{name}", calendar.key()));
        let entries = key("iv").split(RECORD).filter_map(|entry| entry.split_once(NAME)).collect();
        let glue = key("if");
        Self { entries, glue: if glue.is_empty() { "{0} – {1}" } else { glue } }
    }

    fn pattern(&self, skeleton: &str, field: Field) -> Option<&'static str> {
        let (_, patterns) = self.entries.iter().find(|(name, _)| *name == skeleton)?;
        let of = |letter: char| patterns.split(UNIT).find_map(|one| one.strip_prefix(letter));
        match field {
            Field::Hour => of('h').or_else(|| of('H')).or_else(|| of('k')).or_else(|| of('K')),
            Field::DayPeriod => of('B').or_else(|| of('a')),
            other => of(other.letter()),
        }
    }

    fn nearest(&self, wanted: &str) -> Option<(&'static str, Apart)> {
        let letters = wanted.contains(['z', 'k', 'K', 'a', 'b']);
        let asked = wanted.replace('z', "v").replace('k', "H").replace('K', "h");
        let asked = widths(&asked.replace(['a', 'b'], ""));
        let mut best: Option<(&'static str, Apart)> = None;
        let mut least = i32::MAX;
        for &(name, _) in &self.entries {
            let (far, apart) = distance(&asked, &widths(name));
            if far < least {
                (best, least) = (Some((name, apart)), far);
            }
            if far == 0 {
                break;
            }
        }
        best.map(|(name, apart)| match apart {
            Apart::Fields => (name, apart),
            _ if letters => (name, Apart::Letters),
            _ => (name, apart),
        })
    }
}

/// How often each letter stands, from `A` to `z`.
type Widths = [u8; 58];

fn widths(skeleton: &str) -> Widths {
    let mut widths = [0; 58];
    for letter in skeleton.bytes().filter(u8::is_ascii_alphabetic) {
        let width: &mut u8 = &mut widths[usize::from(letter - b'A')];
        *width = width.saturating_add(1);
    }
    widths
}

fn distance(asked: &Widths, other: &Widths) -> (i32, Apart) {
    let (mut sum, mut apart) = (0, Apart::Same);
    for (at, (one, two)) in asked.iter().zip(other).enumerate() {
        if one == two {
            continue;
        }
        if apart == Apart::Same {
            apart = Apart::Width;
        }
        if *one == 0 || *two == 0 {
            apart = Apart::Fields;
            sum += 0x1000;
        } else if at == usize::from(b'M' - b'A') && (*one <= 2) != (*two <= 2) {
            sum += 0x100;
        } else {
            sum += (i32::from(*one) - i32::from(*two)).abs();
        }
    }
    (sum, apart)
}

/// Gives the fields of a pattern the widths that were asked for.
fn widen(pattern: &str, wanted: &str, near: &str, apart: Apart) -> String {
    let (asked, mut had) = (widths(wanted), widths(near));
    let index = |letter: char| (letter as usize - 'A' as usize).min(57);
    for letter in ['a', 'b'] {
        if pattern.contains(letter) && had[index(letter)] == 0 {
            had[index(letter)] = 1;
        }
    }
    super::pattern::map(pattern, |letter, count, out| {
        let letter = match letter {
            'v' if apart == Apart::Letters && wanted.contains('z') => 'z',
            'h' if apart == Apart::Letters && wanted.contains('K') => 'K',
            'H' if apart == Apart::Letters && wanted.contains('k') => 'k',
            'a' if apart == Apart::Letters && wanted.contains('b') => 'b',
            other => other,
        };
        let at = index(if letter == 'L' { 'M' } else { letter });
        let (had, asked) = (usize::from(had[at]), usize::from(asked[at]));
        repeat(out, letter, if had == count && asked > had { asked } else { count });
    })
}

/// Cuts a pattern where a letter comes again.
fn halves(pattern: &str, later_first: bool) -> Found {
    let mut seen = Vec::new();
    let mut at = 0;
    for item in super::pattern::items(pattern) {
        match item {
            super::pattern::Item::Field(letter, count) => {
                if seen.contains(&letter) {
                    break;
                }
                seen.push(letter);
                at += count;
            }
            super::pattern::Item::Text(text) => at += text.len(),
        }
    }
    Found::Halves(pattern[..at].to_owned(), pattern[at..].to_owned(), later_first)
}
