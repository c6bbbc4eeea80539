//! Skeletons: which fields a pattern has and how wide they are, and how far two of
//! them are apart, as ICU's `DateTimePatternGenerator` measures it.

use super::pattern::fields;

/// Fields, in ICU's order.
pub(super) const ERA: usize = 0;
pub(super) const YEAR: usize = 1;
pub(super) const MONTH: usize = 3;
pub(super) const WEEKDAY: usize = 6;
pub(super) const DAY_PERIOD: usize = 10;
pub(super) const HOUR: usize = 11;
pub(super) const MINUTE: usize = 12;
pub(super) const SECOND: usize = 13;
pub(super) const FRACTION: usize = 14;
pub(super) const ZONE: usize = 15;
/// How many fields there are.
pub(super) const COUNT: usize = 16;

const NARROW: i32 = -0x101;
const SHORTER: i32 = -0x102;
const SHORT: i32 = -0x103;
const LONG: i32 = -0x104;
const NUMERIC: i32 = 0x100;
const DELTA: i32 = 0x10;
/// What a field costs that only the other skeleton has.
const EXTRA: i32 = 0x1_0000;
/// What a field costs that the other skeleton lacks.
const MISSING: i32 = 0x1000;

/// A letter of patterns: its field, its kind, and from which length on it is so.
pub(super) struct Row {
    letter: char,
    pub(super) field: usize,
    pub(super) kind: i32,
    least: usize,
}

const fn row(letter: char, field: usize, kind: i32, least: usize) -> Row {
    Row { letter, field, kind, least }
}

/// ICU's table of letters, those of a letter together and by length.
static ROWS: &[Row] = &[
    row('G', ERA, SHORT, 1),
    row('G', ERA, LONG, 4),
    row('G', ERA, NARROW, 5),
    row('y', YEAR, NUMERIC, 1),
    row('Y', YEAR, NUMERIC + DELTA, 1),
    row('u', YEAR, NUMERIC + 2 * DELTA, 1),
    row('r', YEAR, NUMERIC + 3 * DELTA, 1),
    row('U', YEAR, SHORT, 1),
    row('U', YEAR, LONG, 4),
    row('U', YEAR, NARROW, 5),
    row('Q', 2, NUMERIC, 1),
    row('Q', 2, SHORT, 3),
    row('Q', 2, LONG, 4),
    row('Q', 2, NARROW, 5),
    row('q', 2, NUMERIC + DELTA, 1),
    row('q', 2, SHORT - DELTA, 3),
    row('q', 2, LONG - DELTA, 4),
    row('q', 2, NARROW - DELTA, 5),
    row('M', MONTH, NUMERIC, 1),
    row('M', MONTH, SHORT, 3),
    row('M', MONTH, LONG, 4),
    row('M', MONTH, NARROW, 5),
    row('L', MONTH, NUMERIC + DELTA, 1),
    row('L', MONTH, SHORT - DELTA, 3),
    row('L', MONTH, LONG - DELTA, 4),
    row('L', MONTH, NARROW - DELTA, 5),
    row('l', MONTH, NUMERIC + DELTA, 1),
    row('w', 4, NUMERIC, 1),
    row('W', 5, NUMERIC, 1),
    row('E', WEEKDAY, SHORT, 1),
    row('E', WEEKDAY, LONG, 4),
    row('E', WEEKDAY, NARROW, 5),
    row('E', WEEKDAY, SHORTER, 6),
    row('c', WEEKDAY, NUMERIC + 2 * DELTA, 1),
    row('c', WEEKDAY, SHORT - 2 * DELTA, 3),
    row('c', WEEKDAY, LONG - 2 * DELTA, 4),
    row('c', WEEKDAY, NARROW - 2 * DELTA, 5),
    row('c', WEEKDAY, SHORTER - 2 * DELTA, 6),
    row('e', WEEKDAY, NUMERIC + DELTA, 1),
    row('e', WEEKDAY, SHORT - DELTA, 3),
    row('e', WEEKDAY, LONG - DELTA, 4),
    row('e', WEEKDAY, NARROW - DELTA, 5),
    row('e', WEEKDAY, SHORTER - DELTA, 6),
    row('d', 9, NUMERIC, 1),
    row('g', 9, NUMERIC + DELTA, 1),
    row('D', 7, NUMERIC, 1),
    row('F', 8, NUMERIC, 1),
    row('a', DAY_PERIOD, SHORT, 1),
    row('a', DAY_PERIOD, LONG, 4),
    row('a', DAY_PERIOD, NARROW, 5),
    row('b', DAY_PERIOD, SHORT - DELTA, 1),
    row('b', DAY_PERIOD, LONG - DELTA, 4),
    row('b', DAY_PERIOD, NARROW - DELTA, 5),
    row('B', DAY_PERIOD, SHORT - 3 * DELTA, 1),
    row('B', DAY_PERIOD, LONG - 3 * DELTA, 4),
    row('B', DAY_PERIOD, NARROW - 3 * DELTA, 5),
    row('H', HOUR, NUMERIC + 10 * DELTA, 1),
    row('k', HOUR, NUMERIC + 11 * DELTA, 1),
    row('h', HOUR, NUMERIC, 1),
    row('K', HOUR, NUMERIC + DELTA, 1),
    row('m', MINUTE, NUMERIC, 1),
    row('s', SECOND, NUMERIC, 1),
    row('A', SECOND, NUMERIC + DELTA, 1),
    row('S', FRACTION, NUMERIC, 1),
    row('v', ZONE, SHORT - 2 * DELTA, 1),
    row('v', ZONE, LONG - 2 * DELTA, 4),
    row('z', ZONE, SHORT, 1),
    row('z', ZONE, LONG, 4),
    row('O', ZONE, SHORT - DELTA, 1),
    row('O', ZONE, LONG - DELTA, 4),
];

/// What a letter in a row stands for.
pub(super) fn row_of(letter: char, count: usize) -> Option<&'static Row> {
    let of_letter = ROWS.iter().filter(|row| row.letter == letter);
    of_letter.take_while(|row| row.least <= count).last()
}

/// A letter and how often it stands; none where there is no such field.
pub(super) type Run = Option<(char, usize)>;

/// The fields of a pattern or of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Skeleton {
    /// The kind of each field, zero where there is none.
    pub(super) kinds: [i32; COUNT],
    /// The fields as they were written.
    pub(super) written: [Run; COUNT],
    /// The fields at their least length.
    pub(super) base: [Run; COUNT],
    /// Whether `a` was added for an hour of twelve.
    pub(super) added_day_period: bool,
}

impl Skeleton {
    pub(super) fn of(pattern: &str) -> Self {
        let mut skeleton = Self::default();
        for (letter, count) in fields(pattern) {
            skeleton.set(letter, count);
        }
        if skeleton.has(MINUTE) && skeleton.has(FRACTION) && !skeleton.has(SECOND) {
            skeleton.set('s', 1);
        }
        match skeleton.written[HOUR] {
            Some(('h' | 'K', _)) if !skeleton.has(DAY_PERIOD) => {
                skeleton.set('a', 1);
                // ICU gives the added one the kind without its length.
                skeleton.kinds[DAY_PERIOD] = SHORT;
                skeleton.added_day_period = true;
            }
            Some(('H' | 'k', _)) => {
                skeleton.kinds[DAY_PERIOD] = 0;
                skeleton.written[DAY_PERIOD] = None;
                skeleton.base[DAY_PERIOD] = None;
            }
            _ => {}
        }
        skeleton
    }

    fn set(&mut self, letter: char, count: usize) {
        let Some(row) = row_of(letter, count) else { return };
        self.written[row.field] = Some((letter, count));
        self.base[row.field] = Some((letter, row.least));
        self.kinds[row.field] = if row.kind > 0 { row.kind + count as i32 } else { row.kind };
    }

    pub(super) fn has(&self, field: usize) -> bool {
        self.written[field].is_some()
    }

    /// How often the letter of a field stands.
    pub(super) fn length(&self, field: usize) -> usize {
        self.written[field].map_or(0, |(_, count)| count)
    }

    /// One bit for each field that there is.
    pub(super) fn mask(&self) -> u32 {
        (0..COUNT).filter(|field| self.kinds[*field] != 0).map(|field| 1 << field).sum()
    }

    /// How far another skeleton is from the fields of this one that `mask` has: the
    /// distance, the fields that are missing there, and those it has besides.
    pub(super) fn distance(&self, mask: u32, other: &Self) -> (i32, u32, u32) {
        let (mut sum, mut missing, mut extra) = (0, 0, 0);
        for field in 0..COUNT {
            let mine = if mask & (1 << field) == 0 { 0 } else { self.kinds[field] };
            let theirs = other.kinds[field];
            if mine == theirs {
            } else if mine == 0 {
                sum += EXTRA;
                extra |= 1 << field;
            } else if theirs == 0 {
                sum += MISSING;
                missing |= 1 << field;
            } else {
                sum += (mine - theirs).abs();
            }
        }
        (sum, missing, extra)
    }

    /// The letters, in the order of the fields.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (field, run) in self.written.iter().enumerate() {
            if let Some((letter, count)) = run
                && !(field == DAY_PERIOD && self.added_day_period)
            {
                super::pattern::repeat(&mut out, *letter, *count);
            }
        }
        out
    }

    /// The first letter, by which ICU files patterns.
    pub(super) fn first(&self) -> char {
        self.base.iter().flatten().next().map_or('\0', |(letter, _)| *letter)
    }
}
