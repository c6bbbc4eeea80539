//! The pattern for any set of fields: ICU's `DateTimePatternGenerator`, whose choices
//! ECMA-402 leaves to the implementation and programs know from V8.

use super::calendar::Calendar;
use super::pattern::{fields, join, map, repeat};
use super::skeleton::{
    COUNT, DAY_PERIOD, FRACTION, HOUR, MINUTE, MONTH, SECOND, Skeleton, WEEKDAY, YEAR, ZONE, row_of,
};
use crate::data::{Data, NAME, UNIT};
use std::cell::RefCell;
use std::rc::Rc;

/// A pattern that the locale has for some fields.
#[derive(Debug)]
struct Entry {
    skeleton: Skeleton,
    pattern: &'static str,
    /// Whether the locale names the skeleton, and does not only use the pattern.
    named: bool,
}

/// The patterns of a locale and a calendar.
#[derive(Debug)]
pub(super) struct Generator {
    entries: Vec<Entry>,
    data: Data,
    calendar: Calendar,
}

/// Who asks for a pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// The letter of hours that the locale is used to.
    pub(super) hour: char,
    /// The sign between seconds and their fraction.
    pub(super) decimal: &'a str,
    /// Whether hours get as many digits as were asked for.
    pub(super) match_hour: bool,
}

thread_local! {
    static MADE: RefCell<Vec<Rc<Generator>>> = const { RefCell::new(Vec::new()) };
}

/// Generators that are kept.
const KEPT: usize = 4;

const APPENDED: [(usize, &str); COUNT] = [
    (0, "era"),
    (1, "year"),
    (2, "quarter"),
    (3, "month"),
    (4, "week"),
    (usize::MAX, "weekOfMonth"),
    (5, "weekday"),
    (usize::MAX, "dayOfYear"),
    (usize::MAX, "weekdayOfMonth"),
    (6, "day"),
    (usize::MAX, "dayperiod"),
    (7, "hour"),
    (8, "minute"),
    (9, "second"),
    (usize::MAX, ""),
    (10, "zone"),
];

impl Generator {
    /// The generator of a locale and a calendar.
    pub(super) fn of(data: Data, calendar: Calendar) -> Rc<Self> {
        MADE.with_borrow_mut(|made| {
            let known = made.iter().find(|one| one.data == data && one.calendar == calendar);
            if let Some(known) = known {
                return Rc::clone(known);
            }
            let new = Rc::new(Self::new(data, calendar));
            if made.len() == KEPT {
                made.remove(0);
            }
            made.push(Rc::clone(&new));
            new
        })
    }

    fn new(data: Data, calendar: Calendar) -> Self {
        let mut generator = Self { entries: Vec::new(), data, calendar };
        for item in ["G", "y", "Q", "M", "w", "W", "E", "d", "D", "F", "a", "H", "m", "s", "S", "v"]
        {
            generator.add(item, None);
        }
        let (dates, times) = (styles(data, calendar, "df"), styles(data, calendar, "tf"));
        for (date, time) in dates.iter().zip(&times) {
            generator.add(date, None);
            generator.add(time, None);
        }
        let available = list(data, calendar, "af");
        for (skeleton, pattern) in available.split(UNIT).filter_map(|entry| entry.split_once(NAME))
        {
            generator.add(pattern, Some(skeleton));
        }
        generator.entries.sort_by_key(|entry| entry.skeleton.first());
        generator
    }

    fn add(&mut self, pattern: &'static str, named: Option<&str>) {
        let skeleton = Skeleton::of(named.unwrap_or(pattern));
        let same_base = self.entries.iter().find(|entry| entry.skeleton.base == skeleton.base);
        if named.is_none() && same_base.is_some_and(|entry| !entry.named) {
            return;
        }
        let same = self.entries.iter().find(|entry| entry.skeleton.written == skeleton.written);
        if same.is_some_and(|entry| named.is_none() || entry.named) {
            return;
        }
        let duplicate = self.entries.iter_mut().find(|entry| {
            entry.skeleton.base == skeleton.base && entry.skeleton.kinds == skeleton.kinds
        });
        match duplicate {
            Some(entry) => (entry.pattern, entry.named) = (pattern, named.is_some()),
            None => self.entries.push(Entry { skeleton, pattern, named: named.is_some() }),
        }
    }

    /// The pattern for the fields of a skeleton.
    pub(super) fn best(&self, skeleton: &str, asker: Asker<'_>) -> String {
        let mut wanted = Skeleton::of(skeleton);
        let (entry, missing, extra) = self.nearest(&wanted, u32::MAX);
        if missing == 0 && extra == 0 {
            return adjust(entry.pattern, entry, &wanted, asker);
        }
        let needed = wanted.mask();
        let dates = (1 << DAY_PERIOD) - 1;
        let date = self.appending(&mut wanted, needed & dates, asker);
        let time = self.appending(&mut wanted, needed & !dates, asker);
        if date.is_empty() {
            return time;
        }
        if time.is_empty() {
            return date;
        }
        let style = match (wanted.length(MONTH), wanted.has(WEEKDAY)) {
            (4, true) => 0,
            (4, false) => 1,
            (3, _) => 2,
            _ => 3,
        };
        join(self.glue(style), &time, &date)
    }

    /// How a date and a time are joined, by style from full, 0, to short, 3.
    pub(super) fn glue(&self, style: usize) -> &'static str {
        let glue = styles(self.data, self.calendar, "da")[style];
        if glue.is_empty() { self.plain_glue(style) } else { glue }
    }

    /// The same without words such as "at".
    pub(super) fn plain_glue(&self, style: usize) -> &'static str {
        let glue = styles(self.data, self.calendar, "dt")[style];
        if glue.is_empty() { "{1} {0}" } else { glue }
    }

    fn nearest(&self, wanted: &Skeleton, mask: u32) -> (&Entry, u32, u32) {
        let mut best = &self.entries[0];
        let (mut distance, mut found) = (i32::MAX, (0, 0));
        let mut least = None;
        for entry in &self.entries {
            let (far, missing, extra) = wanted.distance(mask, &entry.skeleton);
            if far < distance || far == distance && least.is_some_and(|least: u32| least < missing)
            {
                (best, distance, found, least) = (entry, far, (missing, extra), Some(missing));
                if far == 0 {
                    break;
                }
            }
        }
        (best, found.0, found.1)
    }

    /// The pattern for some of the fields, made of several where no single one has them all.
    fn appending(&self, wanted: &mut Skeleton, needed: u32, asker: Asker<'_>) -> String {
        if needed == 0 {
            return String::new();
        }
        let (mut entry, mut missing, _) = self.nearest(wanted, needed);
        let mut result = adjust(entry.pattern, entry, wanted, asker);
        let mut last = 0;
        while missing != 0 && missing != last {
            const FRACTIONS: u32 = 1 << FRACTION;
            const SECONDS: u32 = 1 << SECOND | FRACTIONS;
            if missing & SECONDS == FRACTIONS && needed & SECONDS == SECONDS {
                result = with_fraction(&result, wanted, asker.decimal);
                missing &= !FRACTIONS;
                continue;
            }
            let before = missing;
            (entry, missing, _) = self.nearest(wanted, before);
            let next = adjust(entry.pattern, entry, wanted, asker);
            let found = before & !missing;
            let top = found.checked_ilog2().unwrap_or(0).min(ZONE as u32) as usize;
            let (item, field) = APPENDED[top];
            let format = list(self.data, self.calendar, "ai").split(UNIT).nth(item);
            let format = format.filter(|format| !format.is_empty()).unwrap_or("{0} ├{2}: {1}┤");
            let name = match field_name(self.data, field) {
                "" => format!("'F{top}'"),
                name => format!("'{name}'"),
            };
            result = join(&format.replace("{2}", &name), &result, &next);
            last = missing;
        }
        result
    }
}

fn list(data: Data, calendar: Calendar, key: &str) -> &'static str {
    data.core(&format!("{}.{key}", calendar.key()))
}

/// Four patterns, from full to short.
pub(super) fn styles(data: Data, calendar: Calendar, key: &str) -> [&'static str; 4] {
    let mut own = list(data, calendar, key);
    if own.split(UNIT).all(str::is_empty) {
        own = list(data, Calendar::Gregorian, key);
    }
    let mut patterns = own.split(UNIT);
    std::array::from_fn(|_| patterns.next().unwrap_or_default())
}

fn field_name(data: Data, field: &str) -> &'static str {
    let entries = data.core(&format!("rt.{field}"));
    entries.split(UNIT).next().and_then(|name| name.strip_prefix('n')).unwrap_or_default()
}

/// Appends the fraction to the seconds of a pattern.
fn with_fraction(pattern: &str, wanted: &Skeleton, decimal: &str) -> String {
    map(pattern, |letter, count, out| {
        repeat(out, letter, count);
        if letter == 's' {
            out.push_str(decimal);
            repeat(out, 'S', wanted.length(FRACTION));
        }
    })
}

/// Gives the fields of a pattern the widths that were asked for.
fn adjust(pattern: &str, entry: &Entry, wanted: &Skeleton, asker: Asker<'_>) -> String {
    map(pattern, |letter, count, out| {
        let asked = row_of(letter, count).map(|row| (row, wanted.written[row.field]));
        let Some((row, Some((asked, length)))) = asked else {
            repeat(out, letter, count);
            return;
        };
        let length = if asked == 'E' { length.max(3) } else { length };
        let keeps = row.field == HOUR && !asker.match_hour || matches!(row.field, MINUTE | SECOND);
        let mut width = length;
        if keeps {
            width = count;
        } else if entry.named && !matches!(asked, 'c' | 'e') {
            let numeric = entry.skeleton.kinds[row.field] > 0;
            if entry.skeleton.length(row.field) == length || (row.kind > 0) != numeric {
                width = count;
            }
        }
        let own = matches!(row.field, HOUR | MONTH | WEEKDAY) || row.field == YEAR && asked != 'Y';
        let mut adjusted = if own { letter } else { asked };
        if adjusted == 'E' && width < 3 {
            adjusted = 'e';
        }
        if row.field == HOUR {
            adjusted = match (asked, asker.hour) {
                (asked, hour) if asked == hour => hour,
                ('h', 'K') => 'K',
                ('H', 'k') => 'k',
                ('k', 'H') => 'H',
                ('K', 'h') => 'h',
                _ => adjusted,
            };
        }
        repeat(out, adjusted, width);
    })
}

/// The letter of the hours of a pattern, if it has any.
pub(super) fn hour_letter(pattern: &str) -> Option<char> {
    fields(pattern).map(|(letter, _)| letter).find(|letter| matches!(letter, 'h' | 'H' | 'k' | 'K'))
}
