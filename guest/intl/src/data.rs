//! The generated tables. `xtask/src/intl/page.rs` describes their form.

use crate::packed::unpack;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Separates the members of a list.
pub const UNIT: char = '\u{1f}';
/// Separates the entries of a list of lists.
pub const RECORD: char = '\u{1e}';
/// Separates the name of an entry from what it holds.
pub const NAME: char = '\u{1d}';

const ABSENT: u32 = 1 << 31;

/// A locale whose pages are compressed.
#[derive(Debug)]
pub struct Locale {
    /// Its language tag.
    pub tag: &'static str,
    /// The locale that has what this one leaves out.
    pub base: Option<&'static str>,
    /// Its four pages, one after the other.
    pub pack: &'static [u8],
    /// Where each page ends.
    pub ends: [usize; 4],
}

/// Every locale but English.
pub static LOCALES: &[Locale] = include!("../data/locales.in");

/// The parts that a locale's values are cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Numbers, dates, lists and relative time.
    Core,
    /// Patterns of units.
    Units,
    /// Names of time zones.
    Zones,
    /// Names of regions, languages, scripts and currencies.
    Names,
}

static KEYS: [&[u8]; 4] = [
    include_bytes!("../data/keys.c.bin"),
    include_bytes!("../data/keys.u.bin"),
    include_bytes!("../data/keys.z.bin"),
    include_bytes!("../data/keys.n.bin"),
];
static ENGLISH: [&[u8]; 4] = [
    include_bytes!("../data/en.c.bin"),
    include_bytes!("../data/en.u.bin"),
    include_bytes!("../data/en.z.bin"),
    include_bytes!("../data/en.n.bin"),
];
static SUPPLEMENT_KEYS: &[u8] = include_bytes!("../data/keys.s.bin");
static SUPPLEMENT: &[u8] = include_bytes!("../data/page.s.bin");
/// Tables of zones, by area.
static ZONES: &[(&str, &[u8])] = include!("../data/zones.in");
static ZONE_NAMES: &[u8] = include_bytes!("../data/zone-names.bin");
static SUBTAGS: &[u8] = include_bytes!("../data/subtags.bin");

thread_local! {
    /// Pages unpacked so far. They live as long as the program: a cell asks for few.
    static PAGES: RefCell<BTreeMap<(&'static str, Section), &'static [u8]>> =
        const { RefCell::new(BTreeMap::new()) };
    /// Tables unpacked so far, by name.
    static TABLES: RefCell<BTreeMap<&'static str, &'static [u8]>> =
        const { RefCell::new(BTreeMap::new()) };
    static SUBTAG_LINES: RefCell<Option<&'static str>> = const { RefCell::new(None) };
}

/// A locale whose values can be looked up; `en` where no other is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    tag: &'static str,
}

impl Data {
    /// The data of a locale, by the exact tag of one that is held.
    #[must_use]
    pub fn of(tag: &str) -> Option<Self> {
        if tag == "en" {
            return Some(Self { tag: "en" });
        }
        find(tag).map(|locale| Self { tag: locale.tag })
    }

    /// English.
    #[must_use]
    pub const fn english() -> Self {
        Self { tag: "en" }
    }

    /// The tag under which the data is held.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        self.tag
    }

    /// A value, from this locale or the one it is a variant of.
    #[must_use]
    pub fn get(self, section: Section, key: &str) -> Option<&'static str> {
        let keys = keys_of(section);
        let at = index_of(keys, key)?;
        let mut tag = self.tag;
        loop {
            if tag == "en" {
                return value(english(section), count(keys), at).map(text);
            }
            let locale = find(tag)?;
            let page = unpacked(locale, section);
            if let Some(found) = value(page, count(keys), at) {
                return Some(text(found));
            }
            tag = locale.base?;
        }
    }

    /// A value of the core section, empty where there is none.
    #[must_use]
    pub fn core(self, key: &str) -> &'static str {
        self.get(Section::Core, key).unwrap_or_default()
    }

    /// A list of the core section.
    #[must_use]
    pub fn list(self, key: &str) -> Vec<&'static str> {
        self.core(key).split(UNIT).collect()
    }
}

/// A value that belongs to no locale.
#[must_use]
pub fn supplement(key: &str) -> Option<&'static str> {
    supplement_entry(key).map(|(_, value)| value)
}

/// A key of the supplement as the tables hold it, with its value.
#[must_use]
pub fn supplement_entry(key: &str) -> Option<(&'static str, &'static str)> {
    if is_of_zones(key) {
        return table("names", ZONE_NAMES, key).map(|(key, value)| (key, text(value)));
    }
    let at = index_of(SUPPLEMENT_KEYS, key)?;
    let value = value(SUPPLEMENT, count(SUPPLEMENT_KEYS), at)?;
    Some((key_at(SUPPLEMENT_KEYS, at), text(value)))
}

/// The keys of the supplement that begin so, without that beginning.
pub fn supplement_keys(prefix: &str) -> impl Iterator<Item = &'static str> {
    let first = lower_bound(SUPPLEMENT_KEYS, prefix);
    (first..count(SUPPLEMENT_KEYS))
        .map_while(move |at| key_at(SUPPLEMENT_KEYS, at).strip_prefix(prefix))
}

/// The keys of a section that begin so, without that beginning, whichever locale has them.
pub fn section_keys(section: Section, prefix: &str) -> impl Iterator<Item = &'static str> {
    let keys = keys_of(section);
    let first = lower_bound(keys, prefix);
    (first..count(keys)).map_while(move |at| key_at(keys, at).strip_prefix(prefix))
}

/// Transitions of a time zone, by its CLDR name.
#[must_use]
pub fn zone(name: &str) -> Option<&'static [u8]> {
    let area = name.split_once('/').map_or("Etc", |(area, _)| area);
    let (area, packed) = ZONES.iter().find(|(known, _)| *known == area)?;
    table(area, packed, name).map(|(_, value)| value)
}

/// Whether a key of the supplement is of the names of zones.
fn is_of_zones(key: &str) -> bool {
    ["zm.", "mz.", "zr.", "zc.", "pz."].iter().any(|prefix| key.starts_with(prefix))
        || key == "zones"
}

/// A key of a compressed table, with its value.
fn table(
    name: &'static str,
    packed: &'static [u8],
    key: &str,
) -> Option<(&'static str, &'static [u8])> {
    let bytes = unpacked_once(name, packed);
    let length = number(bytes, 0) as usize;
    let (keys, page) = bytes.get(4..)?.split_at_checked(length)?;
    let at = index_of(keys, key)?;
    Some((key_at(keys, at), value(page, count(keys), at)?))
}

fn unpacked_once(name: &'static str, packed: &'static [u8]) -> &'static [u8] {
    TABLES.with_borrow_mut(|tables| *tables.entry(name).or_insert_with(|| unpack(packed)))
}

/// The keys of a section. Those of names are compressed, for they are many.
fn keys_of(section: Section) -> &'static [u8] {
    let keys = KEYS[section as usize];
    if section == Section::Names { unpacked_once("keys of names", keys) } else { keys }
}

/// A page of English.
fn english(section: Section) -> &'static [u8] {
    let page = ENGLISH[section as usize];
    if section == Section::Names { unpacked_once("English names", page) } else { page }
}

/// A likely subtag or an alias of one.
#[must_use]
pub fn subtag(key: &str) -> Option<&'static str> {
    let lines =
        SUBTAG_LINES.with_borrow_mut(|lines| *lines.get_or_insert_with(|| text(unpack(SUBTAGS))));
    // Binary search over the bytes; a probe moves back to the start of its line.
    let (mut low, mut high) = (0, lines.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let start = lines[..middle].rfind('\n').map_or(0, |at| at + 1).max(low);
        let end = lines[start..].find('\n').map_or(lines.len(), |at| start + at);
        let (found, value) = lines[start..end].split_once('\t')?;
        match found.cmp(key) {
            std::cmp::Ordering::Equal => return Some(value),
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    None
}

fn find(tag: &str) -> Option<&'static Locale> {
    LOCALES.iter().find(|locale| locale.tag == tag)
}

fn unpacked(locale: &'static Locale, section: Section) -> &'static [u8] {
    PAGES.with_borrow_mut(|pages| {
        *pages.entry((locale.tag, section)).or_insert_with(|| {
            let at = section as usize;
            let start = if at == 0 { 0 } else { locale.ends[at - 1] };
            page(&locale.pack[start..locale.ends[at]], count(keys_of(section)))
        })
    })
}

/// Turns a compressed page into the form of a plain one.
fn page(packed: &'static [u8], keys: usize) -> &'static [u8] {
    let raw = if packed.is_empty() { &[] } else { unpack(packed) };
    let mut at = 0;
    let mut ends = 0_u32;
    let mut page = Vec::with_capacity(raw.len() + 4 * keys);
    for _ in 0..keys {
        let length = if packed.is_empty() { 0 } else { leb128(raw, &mut at) as u32 };
        let mark = if length == 0 { ABSENT } else { 0 };
        page.extend((ends | mark).to_le_bytes());
        ends += length.saturating_sub(1);
    }
    page.extend(ends.to_le_bytes());
    page.extend(&raw[at..]);
    page.leak()
}

/// Reads a number in LEB128 and moves past it.
pub(crate) fn leb128(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut number, mut shift) = (0, 0);
    while let Some(byte) = bytes.get(*at) {
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(4 * at..4 * at + 4)
        .map_or(0, |four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

fn count(keys: &[u8]) -> usize {
    number(keys, 0) as usize
}

fn key_at(keys: &'static [u8], at: usize) -> &'static str {
    let start = 4 * (count(keys) + 2);
    text(&keys[start + number(keys, at + 1) as usize..start + number(keys, at + 2) as usize])
}

/// Where a key is or would be.
fn lower_bound(keys: &'static [u8], key: &str) -> usize {
    let (mut low, mut high) = (0, count(keys));
    while low < high {
        let middle = usize::midpoint(low, high);
        if key_at(keys, middle) < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn index_of(keys: &'static [u8], key: &str) -> Option<usize> {
    let at = lower_bound(keys, key);
    (at < count(keys) && key_at(keys, at) == key).then_some(at)
}

fn value(page: &'static [u8], keys: usize, at: usize) -> Option<&'static [u8]> {
    let start = number(page, at);
    if start & ABSENT != 0 {
        return None;
    }
    let bytes = 4 * (keys + 1);
    Some(&page[bytes + start as usize..bytes + (number(page, at + 1) & !ABSENT) as usize])
}

fn text(bytes: &'static [u8]) -> &'static str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
