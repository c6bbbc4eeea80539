//! `Intl.DateTimeFormat`.

pub mod calendar;
mod format;
mod generator;
mod interval;
mod options;
mod pattern;
mod skeleton;
pub mod zone;
mod zone_names;

pub use options::{HourCycle, Options, Shown, Style};
pub use zone_names::Naming;

use crate::data::{Data, UNIT, supplement};
use crate::locale::Tag;
use crate::number::symbols::Symbols;
use crate::part::{self, Part};
use calendar::Calendar;
use generator::{Asker, Generator, hour_letter, styles};
use interval::{Intervals, Shape};
use std::cell::{Cell, OnceCell};
use zone::Zone;

/// A date and time format: everything that its options and its locale decide.
#[derive(Clone, Debug)]
pub struct DateTimeFormat {
    data: Data,
    calendar: Calendar,
    symbols: Symbols,
    zone: Zone,
    pattern: String,
    /// The cycle that was asked for or that the locale has.
    hour_cycle: HourCycle,
    intervals: OnceCell<Intervals>,
}

impl DateTimeFormat {
    /// A format for a locale that is held.
    #[must_use]
    pub fn new(data: Data, default_cycle: HourCycle, options: &Options) -> Self {
        let Options { calendar, system, zone, hour_cycle, shown } = options;
        let symbols = Symbols::of(data, system, false);
        let generator = Generator::of(data, *calendar);
        let asker =
            Asker { hour: default_cycle.letter(), decimal: symbols.decimal, match_hour: true };
        let pattern = match shown {
            Shown::Styles(date, time) => {
                let pattern = style_pattern(&generator, data, *calendar, *date, *time);
                let letter = hour_letter(&pattern);
                if time.is_none() || letter == Some(hour_cycle.letter()) {
                    pattern
                } else {
                    let skeleton = skeleton::Skeleton::of(&pattern).text();
                    let skeleton: String = skeleton
                        .chars()
                        .filter(|letter| !matches!(letter, 'a' | 'b' | 'B'))
                        .map(|letter| match letter {
                            'h' | 'H' | 'K' | 'k' => hour_cycle.letter(),
                            other => other,
                        })
                        .collect();
                    with_cycle(&generator.best(&skeleton, asker), *hour_cycle)
                }
            }
            // An hour that nobody asked for keeps the letter that the locale's pattern has.
            Shown::Fields(skeleton) if skeleton.contains('J') => {
                let letter = if hour_cycle.is_twelve() { "h" } else { "H" };
                generator.best(&skeleton.replace('J', letter), asker)
            }
            Shown::Fields(skeleton) => {
                let skeleton = skeleton.replace('j', &hour_cycle.letter().to_string());
                with_cycle(&generator.best(&skeleton, asker), *hour_cycle)
            }
        };
        Self {
            data,
            calendar: *calendar,
            symbols,
            zone: zone.clone(),
            pattern,
            hour_cycle: *hour_cycle,
            intervals: OnceCell::new(),
        }
    }

    /// The pattern, as CLDR writes it.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The time zone.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The calendar.
    #[must_use]
    pub fn calendar(&self) -> Calendar {
        self.calendar
    }

    /// How hours are counted, where any are shown.
    #[must_use]
    pub fn hour_cycle(&self) -> Option<HourCycle> {
        hour_letter(&self.pattern).and_then(HourCycle::of_letter)
    }

    /// A moment, in milliseconds since 1970, as text.
    #[must_use]
    pub fn format(&self, moment: i64) -> String {
        part::text(&self.format_to_parts(moment))
    }

    /// A moment in parts.
    #[must_use]
    pub fn format_to_parts(&self, moment: i64) -> Vec<Part> {
        let mut pieces = Vec::new();
        self.write(&self.pattern, moment, &mut pieces);
        format::join(pieces)
    }

    /// A range in parts.
    #[must_use]
    pub fn format_range_to_parts(&self, start: i64, end: i64) -> Vec<Part> {
        let asker = Asker {
            hour: self.hour_cycle.letter(),
            decimal: self.symbols.decimal,
            match_hour: false,
        };
        let intervals = self
            .intervals
            .get_or_init(|| Intervals::new(self.data, self.calendar, &self.pattern, asker));
        let mut pieces = Vec::new();
        let mut later = false;
        match intervals.shape(&self.fields(start), &self.fields(end)) {
            Shape::Single(_) => return self.format_to_parts(start),
            Shape::Halves { first, second, later_first } => {
                later = later_first;
                let (one, two) = if later { (end, start) } else { (start, end) };
                self.write(&first, one, &mut pieces);
                self.write(&second, two, &mut pieces);
            }
            Shape::Twice { pattern, glue } => self.twice(&pattern, glue, start, end, &mut pieces),
            Shape::OneDay { date, time, outer, glue } => fill(outer, &mut pieces, |at, pieces| {
                if at == 0 {
                    self.twice(&time, glue, start, end, pieces);
                } else {
                    self.write(&date, start, pieces);
                }
            }),
        }
        format::mark(pieces, later)
    }

    fn twice(
        &self,
        pattern: &str,
        glue: &str,
        start: i64,
        end: i64,
        pieces: &mut Vec<format::Piece>,
    ) {
        fill(glue, pieces, |at, pieces| {
            self.write(pattern, if at == 0 { start } else { end }, pieces);
        });
    }
}

/// Fills `{0}` and `{1}` of a pattern, whose own text becomes literals.
fn fill(
    glue: &str,
    pieces: &mut Vec<format::Piece>,
    mut each: impl FnMut(usize, &mut Vec<format::Piece>),
) {
    let mut rest = glue;
    let literal = |text: &str, pieces: &mut Vec<format::Piece>| {
        if !text.is_empty() {
            pieces.push(format::Piece::new("literal", text.to_owned(), '\0'));
        }
    };
    while let Some(open) = rest.find('{') {
        literal(&rest[..open], pieces);
        match rest.get(open..open + 3) {
            Some("{0}") => each(0, pieces),
            Some("{1}") => each(1, pieces),
            _ => {}
        }
        rest = rest.get(open + 3..).unwrap_or_default();
    }
    literal(rest, pieces);
}

fn style_pattern(
    generator: &Generator,
    data: Data,
    calendar: Calendar,
    date: Option<Style>,
    time: Option<Style>,
) -> String {
    let of = |style: Option<Style>, key: &str| {
        style.map_or("", |style| styles(data, calendar, key)[style as usize])
    };
    match (date, time) {
        (Some(style), Some(_)) => {
            pattern::join(generator.glue(style as usize), of(time, "tf"), of(date, "df"))
        }
        _ => format!("{}{}", of(date, "df"), of(time, "tf")),
    }
}

/// Counts the hours of a pattern as asked; V8 parts them from a day that they follow.
fn with_cycle(pattern: &str, cycle: HourCycle) -> String {
    let mut last = '\0';
    pattern::map(pattern, |letter, count, out| {
        if matches!(letter, 'h' | 'H' | 'K' | 'k') {
            if last == 'd' && out.ends_with('d') {
                out.push(' ');
            }
            pattern::repeat(out, cycle.letter(), count);
        } else {
            pattern::repeat(out, letter, count);
        }
        last = letter;
    })
}

thread_local! {
    /// What was asked last of [`customs`]: programs ask for one locale, again and again.
    static LAST: Cell<Option<(&'static str, HourCycle, Calendar)>> = const { Cell::new(None) };
}

/// How hours are counted where a locale is at home, and the calendar there.
#[must_use]
pub fn customs(tag: &'static str) -> (HourCycle, Calendar) {
    if let Some((known, cycle, calendar)) = LAST.get()
        && known == tag
    {
        return (cycle, calendar);
    }
    let (cycle, calendar) = (default_hour_cycle(tag), default_calendar(tag));
    LAST.set(Some((tag, cycle, calendar)));
    (cycle, calendar)
}

/// How hours are counted where a locale is at home.
#[must_use]
pub fn default_hour_cycle(tag: &str) -> HourCycle {
    let mut tag = Tag::parse(tag).unwrap_or_default();
    let own = tag.language.clone();
    tag.maximize();
    let keys =
        [format!("td.{own}-{}", tag.region), format!("td.{}", tag.region), "td.001".to_owned()];
    let hours = keys.iter().find_map(|key| supplement(key));
    let preferred = hours.and_then(|hours| hours.split(UNIT).next()).unwrap_or("H");
    preferred.chars().next().and_then(HourCycle::of_letter).unwrap_or(HourCycle::H23)
}

/// The cycle of twelve or of twenty-four hours, as `hour12` asks for it.
#[must_use]
pub fn cycle_of(twelve: bool, default: HourCycle, region: &str) -> HourCycle {
    match (twelve, default) {
        (true, cycle) if cycle.is_twelve() => cycle,
        (true, _) if region == "JP" => HourCycle::H11,
        (true, _) => HourCycle::H12,
        (false, cycle) if !cycle.is_twelve() => cycle,
        (false, _) => HourCycle::H23,
    }
}

/// The calendar that a locale has by default.
fn default_calendar(tag: &str) -> Calendar {
    let mut tag = Tag::parse(tag).unwrap_or_default();
    tag.maximize();
    let list = supplement(&format!("cp.{}", tag.region)).unwrap_or_default();
    list.split(' ').next().and_then(Calendar::of).unwrap_or_default()
}
