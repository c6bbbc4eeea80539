//! Instants as fields of a calendar.

/// A calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calendar {
    /// The Gregorian calendar, for all time.
    #[default]
    Gregorian,
    /// The Buddhist calendar: years are counted from 543 BC.
    Buddhist,
}

impl Calendar {
    /// The calendar of an identifier, if it is one of those here.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "gregory" => Some(Self::Gregorian),
            "buddhist" => Some(Self::Buddhist),
            _ => None,
        }
    }

    /// Its identifier.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gregorian => "gregory",
            Self::Buddhist => "buddhist",
        }
    }

    /// The letter of its keys in the tables.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Gregorian => "g",
            Self::Buddhist => "b",
        }
    }
}

/// What a clock and a calendar on the wall show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// 1 after the start of the calendar's era, 0 before.
    pub era: usize,
    /// Year of the era, from 1.
    pub year: i64,
    /// Month, from 0.
    pub month: usize,
    /// Day of the month, from 1.
    pub day: u32,
    /// Day of the week, from Sunday, 0.
    pub weekday: usize,
    /// Hour, from 0 to 23.
    pub hour: u32,
    /// Minute.
    pub minute: u32,
    /// Second.
    pub second: u32,
    /// Millisecond.
    pub millisecond: u32,
}

const DAY: i64 = 86_400_000;

impl Fields {
    /// The fields of milliseconds since 1970, local time.
    #[must_use]
    pub fn of(local: i64, calendar: Calendar) -> Self {
        let days = local.div_euclid(DAY);
        let time = local.rem_euclid(DAY) as u32;
        let (year, month, day) = civil(days);
        let (era, year) = match calendar {
            Calendar::Gregorian if year > 0 => (1, year),
            Calendar::Gregorian => (0, 1 - year),
            // There is one era, which years before it belong to as well.
            Calendar::Buddhist => (0, year + 543),
        };
        Self {
            era,
            year,
            month,
            day,
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: time / 3_600_000,
            minute: time / 60_000 % 60,
            second: time / 1000 % 60,
            millisecond: time % 1000,
        }
    }
}

/// Year, month from 0, and day of a count of days since 1970.
#[must_use]
pub fn civil(days: i64) -> (i64, usize, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = (of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 2 } else { shifted - 10 };
    let year = year + era * 400 + i64::from(month < 2);
    (year, month as usize, date)
}

/// The count of days since 1970 of a year, a month from 0 and a day.
#[must_use]
pub fn days_of(year: i64, month: usize, day: u32) -> i64 {
    let year = year - i64::from(month < 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let shifted = (month as i64 + 10) % 12;
    let of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree() {
        for days in (-900_000_000..900_000_000).step_by(1_234_567) {
            let (year, month, day) = civil(days);
            assert_eq!(days_of(year, month, day), days);
        }
        assert_eq!(civil(0), (1970, 0, 1));
        assert_eq!(civil(11_016), (2000, 1, 29));
    }
}
