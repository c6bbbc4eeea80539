//! The time zone database: a table for each area, a value for each zone.
//!
//! A value is the number of types; for each its offset in seconds and whether it is
//! daylight saving time; the number of transitions; for each its time in seconds
//! since 1970, as the difference from the one before, and its type; and the rule
//! that holds after the last, as POSIX writes it. Numbers are LEB128, signed ones
//! in zigzag.

use super::page::{Values, leb128};
use super::source::Source;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;

/// Reads the zones that CLDR knows, under CLDR's names.
pub fn read(source: &Source, supplement: &Values) -> Result<Values> {
    let mut names: BTreeSet<(String, String)> = BTreeSet::new();
    for (key, value) in supplement {
        if key.starts_with("zi.") {
            let value = std::str::from_utf8(value)?;
            let (canonical, name) = value.split_once('\u{1f}').context("a zone has two names")?;
            names.insert((canonical.to_owned(), name.to_owned()));
        }
    }
    let mut out = Values::new();
    for (canonical, name) in &names {
        let path = source.zones().join(name);
        if out.contains_key(canonical) && name != canonical {
            continue;
        }
        if let Ok(file) = std::fs::read(path) {
            out.insert(
                canonical.clone(),
                zone(&file, canonical).with_context(|| format!("{name} is malformed"))?,
            );
        }
    }
    Ok(out)
}

/// Zones whose standard time the database writes as negative daylight saving time.
const NEGATIVE: [&str; 3] = ["Europe/Dublin", "Africa/Casablanca", "Africa/El_Aaiun"];

fn zone(file: &[u8], name: &str) -> Result<Vec<u8>> {
    ensure!(file.starts_with(b"TZif") && file.get(4).is_some_and(|version| *version >= b'2'));
    let number = |at: usize| -> Result<usize> {
        let bytes = file.get(at..at + 4).context("short file")?;
        Ok(u32::from_be_bytes(bytes.try_into()?) as usize)
    };
    let counts = |at: usize| -> Result<[usize; 6]> {
        let mut counts = [0; 6];
        for (index, count) in counts.iter_mut().enumerate() {
            *count = number(at + 20 + 4 * index)?;
        }
        Ok(counts)
    };
    let [utc, std, leap, times, types, chars] = counts(0)?;
    let second = 44 + times * 5 + types * 6 + chars + leap * 8 + std + utc;
    let [utc, std, leap, times, types, chars] = counts(second)?;
    let body = second + 44;
    let mut out = Vec::new();
    leb128(&mut out, types as u64);
    for index in 0..types {
        let at = body + times * 9 + index * 6;
        let offset = i32::from_be_bytes(file.get(at..at + 4).context("short file")?.try_into()?);
        let mut daylight = file[at + 4] == 1;
        if NEGATIVE.contains(&name) && matches!(offset, 0 | 3600) {
            daylight = offset == 3600;
        }
        leb128(&mut out, zigzag(i64::from(offset)));
        out.push(u8::from(daylight));
    }
    leb128(&mut out, times as u64);
    let mut last = 0;
    for index in 0..times {
        let at = body + index * 8;
        let time = i64::from_be_bytes(file.get(at..at + 8).context("short file")?.try_into()?);
        leb128(&mut out, zigzag(time - last));
        out.push(file[body + times * 8 + index]);
        last = time;
    }
    let footer = body + times * 9 + types * 6 + chars + leap * 12 + std + utc;
    let rule = std::str::from_utf8(file.get(footer + 1..).context("short file")?)?;
    out.extend(rule.trim_end().as_bytes());
    Ok(out)
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}
