//! What is known about a locale, and what `Intl` supports, as V8 answers.

use crate::data::{Data, Section, UNIT, section_keys, supplement, supplement_keys};
use crate::date::default_hour_cycle;
use crate::locale::{Tag, best_available};

/// Calendars, which V8 lists whether or not dates can be written in them.
const CALENDARS: &[&str] = &[
    "buddhist",
    "chinese",
    "coptic",
    "dangi",
    "ethioaa",
    "ethiopic",
    "gregory",
    "hebrew",
    "indian",
    "islamic",
    "islamic-civil",
    "islamic-rgsa",
    "islamic-tbla",
    "islamic-umalqura",
    "iso8601",
    "japanese",
    "persian",
    "roc",
];

/// Orders of words.
const COLLATIONS: &[&str] = &[
    "compat", "emoji", "eor", "phonebk", "pinyin", "searchjl", "stroke", "trad", "unihan", "zhuyin",
];

/// Languages with orders of words other than those of every language.
const OWN_COLLATIONS: [(&str, &[&str]); 11] = [
    ("ar", &["compat"]),
    ("bn", &["trad"]),
    ("de", &["phonebk"]),
    ("es", &["trad"]),
    ("fi", &["trad"]),
    ("ja", &["unihan"]),
    ("kn", &["trad"]),
    ("ko", &["searchjl", "unihan"]),
    ("sv", &["trad"]),
    ("vi", &["trad"]),
    ("zh", &["pinyin", "stroke", "zhuyin"]),
];

/// Languages whose data is not held here, with the digits they are written with.
const OTHER_DIGITS: [(&str, &str); 3] = [("bn", "beng"), ("fa", "arabext"), ("mr", "deva")];

/// Scripts that are written from right to left.
const RIGHT_TO_LEFT: &str = "Adlm Arab Armi Avst Chrs Cprt Elym Hatr Hebr Hung Khar Lydi Mand \
     Mani Mend Merc Mero Narb Nbat Nkoo Orkh Ougr Palm Phli Phlp Phnx Prti Rohg Samr Sarb Sogd \
     Sogo Syrc Thaa Yezi";

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The number of a day of the week, Monday being 1.
fn day(name: &str) -> Option<u32> {
    DAYS.iter().position(|day| *day == name).map(|at| at as u32 + 1)
}

/// The region whose customs a locale follows: that of its keyword `rg`, its own, that of
/// its subdivision, or the likely one; empty where none is known.
fn region(tag: &Tag) -> String {
    let of = |key: &str| tag.keyword(key).and_then(|value| value.get(..2));
    let own = Some(tag.region.as_str()).filter(|region| !region.is_empty());
    if let Some(region) = of("rg").or(own).or_else(|| of("sd")) {
        return region.to_ascii_uppercase();
    }
    let mut full = tag.clone();
    full.maximize();
    full.region
}

/// A value of the supplement for a region, or for the world.
fn of_region(mark: &str, region: &str) -> &'static str {
    let own = supplement(&format!("{mark}.{region}"));
    own.or_else(|| supplement(&format!("{mark}.001"))).unwrap_or_default()
}

/// The value of a keyword, as the only answer.
fn asked(tag: &Tag, key: &str) -> Option<Vec<String>> {
    tag.keyword(key).map(|value| vec![if value.is_empty() { "true" } else { value }.to_owned()])
}

/// Calendars in use, the most usual first.
#[must_use]
pub fn calendars(tag: &Tag) -> Vec<String> {
    asked(tag, "ca")
        .unwrap_or_else(|| of_region("cp", &region(tag)).split(' ').map(str::to_owned).collect())
}

/// Orders of words.
#[must_use]
pub fn collations(tag: &Tag) -> Vec<String> {
    asked(tag, "co").unwrap_or_else(|| {
        let own = OWN_COLLATIONS.iter().find(|(language, _)| *language == tag.language);
        let mut all: Vec<_> = own.map_or(&[][..], |(_, own)| own).to_vec();
        all.extend(["emoji", "eor"]);
        all.sort_unstable();
        all.into_iter().map(str::to_owned).collect()
    })
}

/// How hours are counted.
#[must_use]
pub fn hour_cycles(tag: &Tag) -> Vec<String> {
    asked(tag, "hc").unwrap_or_else(|| {
        let mut tag = tag.clone();
        tag.set_keyword("sd", None);
        let local = Tag { language: tag.language.clone(), region: region(&tag), ..Tag::default() };
        vec![default_hour_cycle(&local.to_string()).name().to_owned()]
    })
}

/// Numbering systems.
#[must_use]
pub fn numbering_systems(tag: &Tag) -> Vec<String> {
    asked(tag, "nu").unwrap_or_else(|| {
        let other = OTHER_DIGITS.iter().find(|(language, _)| *language == tag.language);
        let own = best_available(tag).map(|held| held.data.core("ns"));
        vec![own.or(other.map(|(_, digits)| *digits)).unwrap_or("latn").to_owned()]
    })
}

/// Time zones of the region that the tag names.
#[must_use]
pub fn time_zones(tag: &Tag) -> Option<Vec<&'static str>> {
    if tag.region.is_empty() {
        return None;
    }
    let of = |zone: &&str| supplement(&format!("zr.{zone}")) == Some(tag.region.as_str());
    Some(supplement("zones").unwrap_or_default().split(' ').filter(of).collect())
}

/// Whether text runs from right to left.
#[must_use]
pub fn is_right_to_left(tag: &Tag) -> bool {
    let mut full = tag.clone();
    full.maximize();
    RIGHT_TO_LEFT.split(' ').any(|script| script == full.script)
}

/// The first day of the week, and those of the weekend; Monday is 1.
#[must_use]
pub fn week(tag: &Tag) -> (u32, Vec<u32>) {
    let region = region(tag);
    let of = |mark: &str| day(of_region(mark, &region));
    let first = tag.keyword("fw").and_then(day).or_else(|| of("wf")).unwrap_or(1);
    let (start, end) = (of("ws").unwrap_or(6), of("we").unwrap_or(7));
    let length = (end + 7 - start) % 7;
    (first, (start..=start + length).map(|day| (day - 1) % 7 + 1).collect())
}

/// The values of a kind that can be asked for, sorted; `None` where there is no such kind.
#[must_use]
pub fn supported_values(kind: &str) -> Option<Vec<&'static str>> {
    Some(match kind {
        "calendar" => CALENDARS.to_vec(),
        "collation" => COLLATIONS.to_vec(),
        "currency" => section_keys(Section::Names, "y.")
            .filter(|code| Data::english().get(Section::Names, &format!("y.{code}")).is_some())
            .collect(),
        "numberingSystem" => supplement_keys("nd.").collect(),
        "timeZone" => {
            let zones = supplement("zones").unwrap_or_default().split(' ');
            zones.filter(|zone| supplement(&format!("zr.{zone}")).is_some()).collect()
        }
        "unit" => {
            let mut units: Vec<_> = supplement("units").unwrap_or_default().split(UNIT).collect();
            units.sort_unstable();
            units
        }
        _ => return None,
    })
}
