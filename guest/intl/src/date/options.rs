//! What `Intl.DateTimeFormat` is asked for.

use super::calendar::Calendar;
use super::zone::Zone;

/// How hours are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum HourCycle {
    H11,
    H12,
    H23,
    H24,
}

impl HourCycle {
    /// ECMA-402's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::H11 => "h11",
            Self::H12 => "h12",
            Self::H23 => "h23",
            Self::H24 => "h24",
        }
    }

    /// The letter of patterns that counts so.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::H11 => 'K',
            Self::H12 => 'h',
            Self::H23 => 'H',
            Self::H24 => 'k',
        }
    }

    /// The cycle of a letter of patterns.
    #[must_use]
    pub const fn of_letter(letter: char) -> Option<Self> {
        match letter {
            'K' => Some(Self::H11),
            'h' => Some(Self::H12),
            'H' => Some(Self::H23),
            'k' => Some(Self::H24),
            _ => None,
        }
    }

    /// Whether hours are counted to twelve.
    #[must_use]
    pub const fn is_twelve(self) -> bool {
        matches!(self, Self::H11 | Self::H12)
    }
}

/// How wide a date or a time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the standard")]
pub enum Style {
    Full,
    Long,
    Medium,
    Short,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Styles of the date and of the time.
    Styles(Option<Style>, Option<Style>),
    /// A skeleton of fields. Its hour is `j`, or `J` where none was asked for.
    Fields(String),
}

/// Everything that a format is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The calendar.
    pub calendar: Calendar,
    /// The numbering system.
    pub system: String,
    /// The time zone.
    pub zone: Zone,
    /// How hours are counted.
    pub hour_cycle: HourCycle,
    /// What is shown.
    pub shown: Shown,
}
