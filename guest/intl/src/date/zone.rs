//! Time zones: their names, and what they are ahead of UTC at any moment.

use super::calendar::{civil, days_of};
use crate::data::{self, leb128, supplement};
use std::cell::RefCell;
use std::rc::Rc;

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its identifier, as `resolvedOptions` returns it.
    pub name: String,
    /// What it is made of.
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Always the same seconds ahead of UTC.
    Fixed(i32),
    /// UTC by the name of Greenwich, which ICU keeps apart in the names of zones.
    Greenwich,
    /// A zone of the database.
    Placed(Rc<History>),
}

/// What a zone was and will be.
#[derive(Debug, PartialEq, Eq)]
struct History {
    /// Seconds ahead of UTC, and whether that is daylight saving time.
    types: Vec<Offset>,
    /// When each type begins, in seconds since 1970.
    transitions: Vec<(i64, u8)>,
    /// What holds after the last transition.
    rule: Option<Rule>,
}

/// What clocks of a zone show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Seconds ahead of UTC.
    pub seconds: i32,
    /// Whether it is daylight saving time.
    pub daylight: bool,
}

/// A rule as POSIX writes it: standard time, and when daylight saving time begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    standard: i32,
    daylight: Option<(i32, Change, Change)>,
}

/// When clocks change each year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    day: Day,
    /// Seconds after midnight, by the clock before the change.
    time: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// Month from 0, week from 1 (5 is the last), weekday from Sunday.
    Weekday(usize, u32, u32),
    /// Day of the year, from 1, without the leap day.
    Julian(i64),
    /// Day of the year, from 0.
    OfYear(i64),
}

thread_local! {
    /// Zones read last: a program uses few, again and again.
    static READ: RefCell<Vec<(&'static str, Rc<History>)>> = const { RefCell::new(Vec::new()) };
}

/// Zones that are kept read.
const KEPT: usize = 8;

impl Zone {
    /// Coordinated Universal Time.
    #[must_use]
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), kind: Kind::Fixed(0) }
    }

    /// The zone of an identifier: one of the database in any case of letters, or an
    /// offset such as `+05:30`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(minutes) = offset_of(name) {
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
            let name = format!("{sign}{hours:02}:{rest:02}");
            return Some(Self { name, kind: Kind::Fixed(minutes * 60) });
        }
        if name.len() > 40 || !name.is_ascii() {
            return None;
        }
        let canonical = supplement(&format!("zi.{}", name.to_ascii_lowercase()))?;
        if matches!(canonical, "Etc/UTC" | "Etc/GMT" | "GMT" | "UTC") {
            let mut zone = Self::utc();
            if ["Etc/GMT0", "Etc/GMT-0", "Etc/GMT+0", "Etc/Greenwich", "Greenwich"]
                .iter()
                .any(|greenwich| greenwich.eq_ignore_ascii_case(name))
            {
                zone.kind = Kind::Greenwich;
            }
            return Some(zone);
        }
        let history = history(canonical)?;
        Some(Self { name: canonical.to_owned(), kind: Kind::Placed(history) })
    }

    /// The identifier under which CLDR has its names.
    pub(super) fn id(&self) -> &str {
        match self.kind {
            Kind::Greenwich => "Etc/GMT",
            Kind::Fixed(0) if self.name == "UTC" => "Etc/UTC",
            _ => &self.name,
        }
    }

    /// What clocks show at a moment, in seconds since 1970.
    #[must_use]
    pub fn offset_at(&self, seconds: i64) -> Offset {
        match &self.kind {
            Kind::Fixed(fixed) => Offset { seconds: *fixed, daylight: false },
            Kind::Greenwich => Offset::default(),
            Kind::Placed(history) => history.offset_at(seconds),
        }
    }

    /// What clocks show when they show a local time. A time that was skipped counts as
    /// before the change, and one that came twice is the first.
    #[must_use]
    pub fn offset_of_local(&self, local: i64) -> Offset {
        const DAY: i64 = 86_400;
        let before = self.offset_at(local - DAY);
        let after = self.offset_at(local + DAY);
        let fits = |offset: Offset| self.offset_at(local - i64::from(offset.seconds)) == offset;
        if fits(before) || !fits(after) { before } else { after }
    }

    /// The same where a time that came twice is the second.
    pub(super) fn last_offset_of_local(&self, local: i64) -> Offset {
        let after = self.offset_at(local + 86_400);
        let fits = self.offset_at(local - i64::from(after.seconds)) == after;
        if fits { after } else { self.offset_of_local(local) }
    }

    /// The last change at or before a moment and the first one after it: when, and the
    /// offset on the far side.
    pub(super) fn changes(&self, seconds: i64) -> [Option<(i64, Offset)>; 2] {
        const NEAR: i64 = 190 * 86_400;
        // Only changes within half a year matter, and no zone changes twice in a day.
        let find = |from: i64, to: i64, before: bool| {
            let (mut low, mut high) = (from, to);
            let (first, last) = (self.offset_at(low), self.offset_at(high));
            if first == last {
                return None;
            }
            while high - low > 1 {
                let middle = i64::midpoint(low, high);
                if self.offset_at(middle) == first { low = middle } else { high = middle }
            }
            Some((high, if before { first } else { last }))
        };
        let step = NEAR / 10;
        let previous =
            (0..10).find_map(|at| find(seconds - (at + 1) * step, seconds - at * step, true));
        let next =
            (0..10).find_map(|at| find(seconds + at * step, seconds + (at + 1) * step, false));
        [previous, next]
    }
}

/// Minutes of `+05:30`, `+0530` or `+05`.
fn offset_of(name: &str) -> Option<i32> {
    let (sign, rest) = match name.as_bytes().first()? {
        b'+' => (1, &name[1..]),
        b'-' => (-1, &name[1..]),
        _ => return None,
    };
    let digits: Vec<i32> = match rest.as_bytes() {
        [a, b] => vec![*a, *b],
        [a, b, c, d] | [a, b, b':', c, d] => vec![*a, *b, *c, *d],
        _ => return None,
    }
    .into_iter()
    .map(|digit| digit.is_ascii_digit().then(|| i32::from(digit - b'0')))
    .collect::<Option<_>>()?;
    let number = |at: usize| digits.get(at..at + 2).map_or(0, |two| two[0] * 10 + two[1]);
    let (hours, minutes) = (number(0), number(2));
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn history(canonical: &'static str) -> Option<Rc<History>> {
    let known = READ.with_borrow(|read| {
        read.iter().find(|(name, _)| *name == canonical).map(|(_, zone)| Rc::clone(zone))
    });
    if known.is_some() {
        return known;
    }
    let history = Rc::new(History::read(data::zone(canonical)?));
    READ.with_borrow_mut(|read| {
        if read.len() == KEPT {
            read.remove(0);
        }
        read.push((canonical, Rc::clone(&history)));
    });
    Some(history)
}

impl History {
    fn read(bytes: &[u8]) -> Self {
        let mut at = 0;
        let signed = |at: &mut usize| {
            let number = leb128(bytes, at);
            (number >> 1) as i64 ^ -((number & 1) as i64)
        };
        let byte = |at: &mut usize| {
            *at += 1;
            bytes.get(*at - 1).copied().unwrap_or(0)
        };
        let types = leb128(bytes, &mut at).min(256);
        let types = (0..types)
            .map(|_| Offset { seconds: signed(&mut at) as i32, daylight: byte(&mut at) == 1 })
            .collect();
        let count = leb128(bytes, &mut at).min(bytes.len() as u64);
        let mut time = 0;
        let transitions = (0..count)
            .map(|_| {
                time += signed(&mut at);
                (time, byte(&mut at))
            })
            .collect();
        let rule = bytes.get(at..).and_then(|rule| std::str::from_utf8(rule).ok());
        Self { types, transitions, rule: rule.and_then(Rule::parse) }
    }

    fn offset_at(&self, seconds: i64) -> Offset {
        let next = self.transitions.partition_point(|(time, _)| *time <= seconds);
        if next == self.transitions.len()
            && let Some(rule) = &self.rule
        {
            return rule.offset_at(seconds);
        }
        let index = if next == 0 { 0 } else { self.transitions[next - 1].1 };
        self.types.get(usize::from(index)).copied().unwrap_or_default()
    }
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        skip_name(&mut rest)?;
        let standard = -time(&mut rest)?;
        if rest.is_empty() {
            return Some(Self { standard, daylight: None });
        }
        skip_name(&mut rest)?;
        let daylight = if rest.starts_with(',') { standard + 3600 } else { -time(&mut rest)? };
        let start = Change::parse(&mut rest)?;
        let end = Change::parse(&mut rest)?;
        Some(Self { standard, daylight: Some((daylight, start, end)) })
    }

    fn offset_at(&self, seconds: i64) -> Offset {
        // Ireland's standard time is that of summer, which is what ICU calls daylight time.
        let summer = self.daylight.is_some_and(|(daylight, ..)| daylight < self.standard);
        let standard = Offset { seconds: self.standard, daylight: summer };
        let Some((daylight, start, end)) = self.daylight else { return standard };
        let (year, _, _) = civil((seconds + i64::from(self.standard)).div_euclid(86_400));
        let start = start.at(year) - i64::from(self.standard);
        let end = end.at(year) - i64::from(daylight);
        let within = if start < end {
            seconds >= start && seconds < end
        } else {
            seconds >= start || seconds < end
        };
        if within {
            Offset { seconds: daylight, daylight: daylight > self.standard }
        } else {
            standard
        }
    }
}

impl Change {
    /// `,M3.2.0/2`
    fn parse(rest: &mut &str) -> Option<Self> {
        *rest = rest.strip_prefix(',')?;
        let day = if let Some(after) = rest.strip_prefix('M') {
            *rest = after;
            let month = number(rest)?.clamp(1, 12) as usize - 1;
            *rest = rest.strip_prefix('.')?;
            let week = number(rest)?.clamp(1, 5) as u32;
            *rest = rest.strip_prefix('.')?;
            Day::Weekday(month, week, number(rest)?.clamp(0, 6) as u32)
        } else if let Some(after) = rest.strip_prefix('J') {
            *rest = after;
            Day::Julian(number(rest)?)
        } else {
            Day::OfYear(number(rest)?)
        };
        let time = match rest.strip_prefix('/') {
            Some(after) => {
                *rest = after;
                time(rest)?
            }
            None => 7200,
        };
        Some(Self { day, time })
    }

    /// Local seconds since 1970.
    fn at(self, year: i64) -> i64 {
        let days = match self.day {
            Day::Weekday(month, week, weekday) => {
                let first = days_of(year, month, 1);
                let ahead = (i64::from(weekday) - (first + 4)).rem_euclid(7);
                let next =
                    if month == 11 { days_of(year + 1, 0, 1) } else { days_of(year, month + 1, 1) };
                let day = first + ahead + 7 * (i64::from(week) - 1);
                if day >= next { day - 7 } else { day }
            }
            Day::Julian(day) => {
                let leap = days_of(year, 2, 1) - days_of(year, 1, 1) == 29;
                days_of(year, 0, 1) + day - 1 + i64::from(leap && day > 59)
            }
            Day::OfYear(day) => days_of(year, 0, 1) + day,
        };
        days * 86_400 + i64::from(self.time)
    }
}

fn skip_name(rest: &mut &str) -> Option<()> {
    let end = if rest.starts_with('<') {
        rest.find('>')? + 1
    } else {
        rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())
    };
    *rest = &rest[end..];
    Some(())
}

fn number(rest: &mut &str) -> Option<i64> {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number = rest[..end].parse().ok()?;
    *rest = &rest[end..];
    Some(number)
}

/// `-1:30` in seconds
fn time(rest: &mut &str) -> Option<i32> {
    let negative = rest.starts_with('-');
    *rest = rest.trim_start_matches(['+', '-']);
    let mut seconds = number(rest)? as i32 * 3600;
    for unit in [60, 1] {
        let Some(after) = rest.strip_prefix(':') else { break };
        *rest = after;
        seconds += number(rest)? as i32 * unit;
    }
    Some(if negative { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(name: &str, seconds: i64) -> i32 {
        Zone::parse(name).expect("a zone").offset_at(seconds).seconds / 60
    }

    #[test]
    fn zones_have_their_history_and_their_rules() {
        assert_eq!(minutes("Europe/Berlin", 1_700_000_000), 60);
        assert_eq!(minutes("europe/berlin", 1_720_000_000), 120);
        // The rule that holds after the last change of the tables.
        assert_eq!(minutes("America/New_York", 4_000_000_000), -240);
        assert_eq!(minutes("Australia/Sydney", 4_000_000_000), 600);
        assert_eq!(minutes("Asia/Kathmandu", 0), 330);
        assert_eq!(minutes("Pacific/Apia", 1_325_000_000), -600);
        assert_eq!(minutes("Pacific/Apia", 1_330_000_000), 840);
        assert_eq!(minutes("-08:30", 0), -510);
    }

    #[test]
    fn what_is_no_zone_is_none() {
        for name in ["", "Mars/Olympus", "+24:00", "+5", "+05:60", "UTC+1", "\u{2212}05", "zi."] {
            assert_eq!(Zone::parse(name), None, "{name}");
        }
        assert_eq!(Zone::parse("gmt").map(|zone| zone.name), Some("UTC".to_owned()));
        assert_eq!(
            Zone::parse("pst").map(|zone| zone.name),
            Some("America/Los_Angeles".to_owned())
        );
    }

    #[test]
    fn local_times_that_are_skipped_or_come_twice_have_an_offset() {
        let zone = Zone::parse("America/New_York").expect("a zone");
        let seconds = |days: i64, hour: i64| days * 86_400 + hour * 3600 + 1800;
        let spring = days_of(2024, 2, 10);
        assert_eq!(zone.offset_of_local(seconds(spring, 1)).seconds, -5 * 3600);
        assert_eq!(zone.offset_of_local(seconds(spring, 2)).seconds, -5 * 3600);
        assert_eq!(zone.offset_of_local(seconds(spring, 3)).seconds, -4 * 3600);
        let autumn = days_of(2024, 10, 3);
        assert_eq!(zone.offset_of_local(seconds(autumn, 1)).seconds, -4 * 3600);
        assert_eq!(zone.last_offset_of_local(seconds(autumn, 1)).seconds, -5 * 3600);
    }

    #[test]
    fn every_zone_can_be_read_at_any_time() {
        let times = [i64::MIN / 4, -8_640_000_000_000, -1, 0, 1 << 31, 8_640_000_000_000];
        for name in supplement("zones").expect("a list").split(' ') {
            let Some(zone) = Zone::parse(name) else { panic!("{name}") };
            for time in times {
                assert!(zone.offset_at(time).seconds.abs() < 86_400, "{name}");
                zone.offset_of_local(time);
            }
        }
    }
}
