//! From fields to text, letter by letter of a pattern.

use super::DateTimeFormat;
use super::calendar::{Calendar, Fields};
use super::pattern::{Item, fields, items};
use super::zone_names::{self, Naming};
use crate::data::{Data, UNIT, supplement};
use crate::part::{Part, Source, push, unquote};

/// A formatted field: its part, and the letter that it comes from.
pub(super) struct Piece {
    pub(super) part: Part,
    pub(super) letter: char,
}

impl Piece {
    pub(super) fn new(kind: &'static str, text: String, letter: char) -> Self {
        // V8 takes back the narrow spaces that ICU 72 put before AM and into ranges.
        let text = if text.is_ascii() { text } else { text.replace(['\u{202f}', '\u{2009}'], " ") };
        Self { part: Part::new(kind, text), letter }
    }
}

impl DateTimeFormat {
    /// Writes a moment by a pattern.
    pub(super) fn write(&self, pattern: &str, moment: i64, out: &mut Vec<Piece>) {
        let shown = self.fields(moment);
        for item in items(pattern) {
            let (kind, text, letter) = match item {
                Item::Text(text) => ("literal", unquote(text), '\0'),
                Item::Field(letter, count) => {
                    let (kind, text) = self.field(letter, count, &shown, moment, pattern);
                    (kind, text, letter)
                }
            };
            out.push(Piece::new(kind, text, letter));
        }
    }

    /// What a calendar and a clock in the format's zone show.
    pub(super) fn fields(&self, moment: i64) -> Fields {
        let offset = self.zone.offset_at(moment.div_euclid(1000));
        Fields::of(moment + i64::from(offset.seconds) * 1000, self.calendar)
    }

    fn field(
        &self,
        letter: char,
        count: usize,
        shown: &Fields,
        moment: i64,
        pattern: &str,
    ) -> (&'static str, String) {
        let number = |number: u32, least: usize| self.symbols.integer(i64::from(number), least);
        match letter {
            'G' => ("era", self.era(shown, count)),
            'y' if count == 2 => ("year", self.symbols.integer(shown.year % 100, 2)),
            'y' | 'u' | 'Y' => ("year", self.symbols.integer(shown.year, count)),
            'r' => ("relatedYear", self.symbols.integer(shown.year, count)),
            'M' | 'L' if count < 3 => ("month", number(shown.month as u32 + 1, count)),
            'M' => ("month", self.name("m", 'f', count, shown.month)),
            'L' => ("month", self.name("m", 's', count, shown.month)),
            'd' => ("day", number(shown.day, count)),
            'E' => ("weekday", self.name("d", 'f', count.max(3), shown.weekday)),
            'c' | 'e' if count < 3 => ("weekday", number(shown.weekday as u32 + 1, count)),
            'c' => ("weekday", self.name("d", 's', count, shown.weekday)),
            'e' => ("weekday", self.name("d", 'f', count, shown.weekday)),
            'a' | 'b' => ("dayPeriod", self.name("p", 'f', count, (shown.hour / 12) as usize)),
            'B' => ("dayPeriod", self.day_period(shown, count, pattern)),
            'h' => ("hour", number((shown.hour + 11) % 12 + 1, count)),
            'K' => ("hour", number(shown.hour % 12, count)),
            'H' => ("hour", number(shown.hour, count)),
            'k' => ("hour", number((shown.hour + 23) % 24 + 1, count)),
            'm' => ("minute", number(shown.minute, count)),
            's' => ("second", number(shown.second, count)),
            'S' => {
                let digits = count.min(3);
                let fraction = shown.millisecond / 10_u32.pow(3 - digits as u32);
                ("fractionalSecond", number(fraction, digits))
            }
            'Q' | 'q' => ("quarter", number(shown.month as u32 / 3 + 1, count)),
            'z' | 'v' | 'O' => {
                let naming = match letter {
                    'z' => Naming::Specific,
                    'v' => Naming::Generic,
                    _ => Naming::Offset,
                };
                let seconds = moment.div_euclid(1000);
                let (data, symbols) = (self.data, &self.symbols);
                let name = zone_names::name(data, symbols, &self.zone, seconds, naming, count >= 4);
                ("timeZoneName", name)
            }
            _ => ("literal", String::new()),
        }
    }

    fn era(&self, shown: &Fields, count: usize) -> String {
        let width = match count {
            4 => "w",
            5 => "n",
            _ => "a",
        };
        let names = self.list(&format!("e.{width}"));
        names.split(UNIT).nth(shown.era).unwrap_or_default().to_owned()
    }

    /// A name of a month, a weekday or half a day, in the width that a count asks for.
    fn name(&self, kind: &str, context: char, count: usize, at: usize) -> String {
        let widths: &[char] = match count {
            4 => &['w', 'a'],
            5 => &['n', 'a'],
            6 => &['h', 'a'],
            _ => &['a', 'w'],
        };
        let contexts: &[char] = if context == 's' { &['s', 'f'] } else { &['f', 's'] };
        for width in widths {
            for context in contexts {
                let names = self.list(&format!("{kind}.{context}{width}"));
                if let Some(name) = names.split(UNIT).nth(at).filter(|name| !name.is_empty()) {
                    return name.to_owned();
                }
            }
        }
        String::new()
    }

    /// A value of the calendar, or of the Gregorian one, whose names others share.
    fn list(&self, key: &str) -> &'static str {
        let own = self.data.core(&format!("{}.{key}", self.calendar.key()));
        if own.is_empty() && self.calendar != Calendar::Gregorian {
            return self.data.core(&format!("g.{key}"));
        }
        own
    }

    /// The part of the day, such as "in the morning".
    fn day_period(&self, shown: &Fields, count: usize, pattern: &str) -> String {
        const PERIODS: [&str; 12] = [
            "am",
            "pm",
            "midnight",
            "noon",
            "morning1",
            "morning2",
            "afternoon1",
            "afternoon2",
            "evening1",
            "evening2",
            "night1",
            "night2",
        ];
        let has = |wanted: char| fields(pattern).any(|(letter, _)| letter == wanted);
        let minute = if has('m') { shown.minute } else { 0 };
        let second = if has('s') { shown.second } else { 0 };
        let sharp = minute == 0 && second == 0;
        let names = |period: &str| {
            let at = PERIODS.iter().position(|known| *known == period)?;
            let name = self.name("p", 'f', count, at);
            (!name.is_empty()).then_some(name)
        };
        let (exact, hourly) = periods(self.data, shown.hour);
        let exact = exact.filter(|_| sharp).and_then(names);
        exact
            .or_else(|| hourly.and_then(names))
            .unwrap_or_else(|| self.name("p", 'f', count, (shown.hour / 12) as usize))
    }
}

/// The part of the day that is exactly that hour, and the one that the hour lies in.
fn periods(data: Data, hour: u32) -> (Option<&'static str>, Option<&'static str>) {
    let tag = data.tag();
    let language = tag.split('-').next().unwrap_or(tag);
    let rules = supplement(&format!("dp.{tag}")).or_else(|| supplement(&format!("dp.{language}")));
    let (mut exact, mut within) = (None, None);
    let of = |time: &str| time.split(':').next().and_then(|hour| hour.parse::<u32>().ok());
    for rule in rules.unwrap_or_default().split(' ') {
        let Some((period, times)) = rule.split_once('=') else { continue };
        match times.split_once('-') {
            // ICU does not say midnight.
            None if period == "midnight" => {}
            None if of(times) == Some(hour) => exact = Some(period),
            None => {}
            Some((from, before)) => {
                let (Some(from), Some(before)) = (of(from), of(before)) else { continue };
                let inside = if from < before {
                    hour >= from && hour < before
                } else {
                    hour >= from || hour < before
                };
                if inside {
                    within = Some(period);
                }
            }
        }
    }
    (exact, within)
}

/// Joins pieces to parts.
pub(super) fn join(pieces: Vec<Piece>) -> Vec<Part> {
    let mut parts = Vec::new();
    for piece in pieces {
        push(&mut parts, piece.part);
    }
    parts
}

/// Marks where the parts of a range come from: fields that are there twice belong to an
/// end each, and so does what stands between the first and the last of them.
pub(super) fn mark(pieces: Vec<Piece>, later_first: bool) -> Vec<Part> {
    let mut spans: [Option<(usize, usize)>; 2] = [None, None];
    let mut grow = |which: usize, at: usize| {
        let span = spans[which].get_or_insert((at, at));
        *span = (span.0.min(at), span.1.max(at));
    };
    for (at, piece) in pieces.iter().enumerate() {
        let again = pieces[at + 1..]
            .iter()
            .position(|other| piece.letter != '\0' && other.letter == piece.letter);
        if let Some(again) = again {
            grow(0, at);
            grow(1, at + 1 + again);
        }
    }
    let (first, second) =
        if later_first { (Source::End, Source::Start) } else { (Source::Start, Source::End) };
    let within = |span: Option<(usize, usize)>, at: usize| {
        span.is_some_and(|(from, to)| from <= at && at <= to)
    };
    let mut parts = Vec::new();
    for (at, piece) in pieces.into_iter().enumerate() {
        let source = if within(spans[0], at) {
            first
        } else if within(spans[1], at) {
            second
        } else {
            Source::Shared
        };
        push(&mut parts, Part { source, ..piece.part });
    }
    parts
}
