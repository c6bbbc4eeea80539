//! Names of time zones, as ICU chooses among those that CLDR has.

use super::zone::{Offset, Zone};
use crate::data::{Data, NAME, Section, UNIT, supplement};
use crate::number::symbols::Symbols;

/// How a zone is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// With standard and daylight saving time told apart.
    Specific,
    /// The same all year.
    Generic,
    /// By the offset from UTC.
    Offset,
}

/// The name of a zone at a moment, in seconds since 1970.
pub(super) fn name(
    data: Data,
    symbols: &Symbols,
    zone: &Zone,
    seconds: i64,
    naming: Naming,
    long: bool,
) -> String {
    let offset = zone.offset_at(seconds);
    let id = zone.id();
    let own = match naming {
        Naming::Offset => String::new(),
        _ if id.starts_with(['+', '-']) => String::new(),
        Naming::Specific => {
            let kind = if offset.daylight { DAYLIGHT } else { STANDARD };
            display(data, id, seconds, kind, long).unwrap_or_default().to_owned()
        }
        Naming::Generic => generic(data, zone, id, seconds, offset, long)
            .or_else(|| location(data, id))
            .unwrap_or_default(),
    };
    if own.is_empty() { by_offset(data, symbols, offset.seconds, long) } else { own }
}

impl Zone {
    /// The long name that it has nowadays, of standard or daylight saving time as it is at
    /// a moment, in seconds since 1970. V8 puts it behind dates.
    #[must_use]
    pub fn long_name(&self, data: Data, seconds: i64) -> String {
        // Whatever the moment: late enough for the last group of zones.
        const NOWADAYS: i64 = 1 << 32;
        let offset = self.offset_at(seconds);
        let id = self.id();
        let kind = if offset.daylight { DAYLIGHT } else { STANDARD };
        let symbols = Symbols::of(data, data.core("ns"), false);
        let own =
            if id.starts_with(['+', '-']) { None } else { display(data, id, NOWADAYS, kind, true) };
        own.map_or_else(|| by_offset(data, &symbols, offset.seconds, true), str::to_owned)
    }
}

const GENERIC: usize = 0;
const STANDARD: usize = 1;
const DAYLIGHT: usize = 2;

/// A name of the list that the tables hold for a zone or a group of zones.
fn pick(list: Option<&'static str>, kind: usize, long: bool) -> Option<&'static str> {
    let at = kind + if long { 0 } else { 3 };
    list?.split(UNIT).nth(at).filter(|name| !name.is_empty() && *name != "∅∅∅")
}

fn of_zone(data: Data, id: &str, kind: usize, long: bool) -> Option<&'static str> {
    pick(data.get(Section::Zones, &format!("n.{id}")), kind, long)
}

fn of_metazone(data: Data, metazone: &str, kind: usize, long: bool) -> Option<&'static str> {
    pick(data.get(Section::Zones, &format!("m.{metazone}")), kind, long)
}

fn display(data: Data, id: &str, seconds: i64, kind: usize, long: bool) -> Option<&'static str> {
    of_zone(data, id, kind, long).or_else(|| of_metazone(data, metazone(id, seconds)?, kind, long))
}

/// The group of zones that one belongs to at a moment.
fn metazone(id: &str, seconds: i64) -> Option<&'static str> {
    let minutes = seconds.div_euclid(60);
    supplement(&format!("zm.{id}"))?.split(NAME).find_map(|period| {
        let mut parts = period.split(UNIT);
        let name = parts.next()?;
        // Before 1970, no zone belongs to a group.
        let from = parts.next().and_then(|from| from.parse().ok()).unwrap_or(0);
        let to = parts.next().and_then(|to| to.parse().ok()).unwrap_or(i64::MAX);
        (from <= minutes && minutes < to).then_some(name)
    })
}

/// A name that does not tell standard and daylight saving time apart.
fn generic(
    data: Data,
    zone: &Zone,
    id: &str,
    seconds: i64,
    offset: Offset,
    long: bool,
) -> Option<String> {
    if let Some(name) = of_zone(data, id, GENERIC, long) {
        return Some(name.to_owned());
    }
    let metazone = metazone(id, seconds)?;
    let name = of_metazone(data, metazone, GENERIC, long);
    if !offset.daylight && !changes_soon(zone, seconds) {
        let standard = display(data, id, seconds, STANDARD, long);
        let same = |standard: &&str| {
            name.is_some_and(|name| name.to_lowercase() == standard.to_lowercase())
        };
        if let Some(standard) = standard.filter(|standard| !same(standard)) {
            return Some(standard.to_owned());
        }
    }
    let name = name?;
    let region = region_of(data);
    let golden = reference(metazone, &region)?;
    if golden != id && Zone::parse(golden).is_some_and(|golden| differs(&golden, seconds, offset)) {
        return partial(data, id, metazone, name);
    }
    Some(name.to_owned())
}

fn differs(golden: &Zone, seconds: i64, offset: Offset) -> bool {
    golden.last_offset_of_local(seconds + i64::from(offset.seconds)) != offset
}

/// Whether the zone has daylight saving time within half a year of a moment.
fn changes_soon(zone: &Zone, seconds: i64) -> bool {
    const NEAR: i64 = 184 * 86_400;
    zone.changes(seconds)
        .iter()
        .flatten()
        .any(|(time, offset)| offset.daylight && (time - seconds).abs() < NEAR)
}

/// The zone that stands for a group in a region.
fn reference(metazone: &str, region: &str) -> Option<&'static str> {
    supplement(&format!("mz.{metazone}.{region}"))
        .or_else(|| supplement(&format!("mz.{metazone}.001")))
}

/// The region that a locale is meant for.
fn region_of(data: Data) -> String {
    let mut tag = crate::locale::Tag::parse(data.tag()).unwrap_or_default();
    tag.maximize();
    tag.region
}

/// The name of a group, with the place where its time differs from the group's.
fn partial(data: Data, id: &str, metazone: &str, name: &str) -> Option<String> {
    let region = supplement(&format!("zr.{id}"));
    let place = match region {
        Some(region) if reference(metazone, region) == Some(id) => region_name(data, region),
        _ => city(data, id),
    };
    Some(formats(data, 6)?.replace("{0}", &place).replace("{1}", name))
}

/// A name that says where the zone is.
fn location(data: Data, id: &str) -> Option<String> {
    let region = supplement(&format!("zr.{id}"))?;
    let only = supplement(&format!("zc.{region}")) == Some("1");
    let primary = only || supplement(&format!("pz.{region}")) == Some(id);
    let place = if primary { region_name(data, region) } else { city(data, id) };
    Some(formats(data, 3)?.replace("{0}", &place))
}

fn region_name(data: Data, region: &str) -> String {
    data.get(Section::Names, &format!("r.{region}")).unwrap_or(region).to_owned()
}

/// The city of a zone, from its identifier where CLDR's name is left out, as Chromium does.
fn city(data: Data, id: &str) -> String {
    if let Some(city) = data.get(Section::Zones, &format!("c.{id}")) {
        return city.to_owned();
    }
    id.rsplit('/').next().unwrap_or(id).replace('_', " ")
}

fn formats(data: Data, at: usize) -> Option<&'static str> {
    data.core("tz").split(UNIT).nth(at).filter(|format| !format.is_empty())
}

/// `GMT+05:30`
fn by_offset(data: Data, symbols: &Symbols, seconds: i32, long: bool) -> String {
    let hours = formats(data, 0).unwrap_or("+HH:mm;-HH:mm");
    let (positive, negative) = hours.split_once(';').unwrap_or((hours, hours));
    let pattern = if seconds < 0 { negative } else { positive };
    let total = i64::from(seconds.abs());
    let (hour, minute, second) = (total / 3600, total / 60 % 60, total % 60);
    let start = pattern.find('H').unwrap_or(0);
    let end = pattern.rfind('H').map_or(start, |at| at + 1);
    let minutes = pattern.find("mm").unwrap_or(pattern.len());
    let between = &pattern[end..minutes];
    let mut text = pattern[..start].to_owned();
    text += &symbols.integer(hour, if long { 2 } else { 1 });
    if long || minute != 0 || second != 0 {
        text += between;
        text += &symbols.integer(minute, 2);
    }
    if second != 0 {
        text += between;
        text += &symbols.integer(second, 2);
    }
    if long || minute != 0 || second != 0 {
        text += pattern.get(minutes + 2..).unwrap_or_default();
    }
    formats(data, 1).unwrap_or("GMT{0}").replace("{0}", &text)
}
