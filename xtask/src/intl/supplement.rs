//! Data that belongs to no locale: one page, section `s`.

use super::locale::{NAME, UNIT};
use super::page::Values;
use super::source::Source;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Units that ECMA-402 sanctions.
pub const UNITS: [&str; 45] = [
    "acre",
    "bit",
    "byte",
    "celsius",
    "centimeter",
    "day",
    "degree",
    "fahrenheit",
    "fluid-ounce",
    "foot",
    "gallon",
    "gigabit",
    "gigabyte",
    "gram",
    "hectare",
    "hour",
    "inch",
    "kilobit",
    "kilobyte",
    "kilogram",
    "kilometer",
    "liter",
    "megabit",
    "megabyte",
    "meter",
    "microsecond",
    "mile",
    "mile-scandinavian",
    "milliliter",
    "millimeter",
    "millisecond",
    "minute",
    "month",
    "nanosecond",
    "ounce",
    "percent",
    "petabyte",
    "pound",
    "second",
    "stone",
    "terabit",
    "terabyte",
    "week",
    "yard",
    "year",
];

/// Names of zones that only ICU knows, each with the zone it stands for.
const ICU_ZONES: [(&str, &str); 27] = [
    ("Factory", "Factory"),
    ("ACT", "Australia/Darwin"),
    ("AET", "Australia/Sydney"),
    ("AGT", "America/Buenos_Aires"),
    ("ART", "Africa/Cairo"),
    ("AST", "America/Anchorage"),
    ("BET", "America/Sao_Paulo"),
    ("BST", "Asia/Dhaka"),
    ("CAT", "Africa/Maputo"),
    ("CNT", "America/St_Johns"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("EAT", "Africa/Nairobi"),
    ("ECT", "Europe/Paris"),
    ("IET", "America/Indianapolis"),
    ("IST", "Asia/Calcutta"),
    ("JST", "Asia/Tokyo"),
    ("MIT", "Pacific/Apia"),
    ("NET", "Asia/Yerevan"),
    ("NST", "Pacific/Auckland"),
    ("PLT", "Asia/Karachi"),
    ("PNT", "America/Phoenix"),
    ("PRT", "America/Puerto_Rico"),
    ("PST", "America/Los_Angeles"),
    ("SST", "Pacific/Guadalcanal"),
    ("VST", "Asia/Saigon"),
    ("US/Pacific-New", "America/Los_Angeles"),
];

/// Whether a unit of CLDR can be asked for: sanctioned, or one sanctioned unit per another.
pub fn is_unit(name: &str) -> bool {
    UNITS.contains(&name)
        || name
            .split_once("-per-")
            .is_some_and(|(unit, per)| UNITS.contains(&unit) && UNITS.contains(&per))
}

/// Whether a key is of the subtags that programs seldom ask for: likely subtags and
/// the aliases of languages, scripts, regions and variants.
pub fn is_subtag(key: &str) -> bool {
    ["lk.", "la.", "sa.", "ta.", "va.", "ua."].iter().any(|prefix| key.starts_with(prefix))
}

/// Whether a key is of the names of zones, for which the zones themselves do not ask.
pub fn is_of_zones(key: &str) -> bool {
    ["zm.", "mz.", "zr.", "zc.", "pz."].iter().any(|prefix| key.starts_with(prefix))
        || key == "zones"
}

/// Reads everything but the locales and the zones' transitions.
pub fn read(source: &Source, languages: &[&str]) -> Result<Values> {
    let mut out = Supplement(Values::new());
    out.subtags(source)?;
    out.aliases(source)?;
    out.numbers(source)?;
    out.regions(source)?;
    out.day_periods(source, languages)?;
    out.plurals(source, languages)?;
    out.zones(source)?;
    out.keywords(source)?;
    Ok(out.0)
}

struct Supplement(Values);

impl Supplement {
    fn put(&mut self, key: impl Into<String>, value: impl AsRef<str>) {
        self.0.insert(key.into(), value.as_ref().as_bytes().to_vec());
    }

    fn subtags(&mut self, source: &Source) -> Result<()> {
        for (from, to) in entries(&source.supplemental("likelySubtags")?["likelySubtags"]) {
            self.put(format!("lk.{from}"), text(to));
        }
        let parents = source.supplemental("parentLocales")?;
        for (child, parent) in entries(&parents["parentLocales"]["parentLocale"]) {
            self.put(format!("pa.{child}"), text(parent));
        }
        Ok(())
    }

    fn aliases(&mut self, source: &Source) -> Result<()> {
        let aliases = source.supplemental("aliases")?;
        let aliases = &aliases["metadata"]["alias"];
        for (kind, mark) in [
            ("languageAlias", "la"),
            ("scriptAlias", "sa"),
            ("territoryAlias", "ta"),
            ("variantAlias", "va"),
            ("subdivisionAlias", "ua"),
        ] {
            for (from, to) in entries(&aliases[kind]) {
                self.put(
                    format!("{mark}.{}", from.replace('_', "-").to_lowercase()),
                    text(&to["_replacement"]),
                );
            }
        }
        Ok(())
    }

    fn numbers(&mut self, source: &Source) -> Result<()> {
        let systems = source.supplemental("numberingSystems")?;
        for (name, system) in entries(&systems["numberingSystems"]) {
            if system["_type"] == "numeric" {
                self.put(format!("nd.{name}"), text(&system["_digits"]));
            }
        }
        let currencies = source.supplemental("currencyData")?;
        for (code, fraction) in entries(&currencies["currencyData"]["fractions"]) {
            if text(&fraction["_digits"]) != "2" {
                self.put(format!("cf.{code}"), text(&fraction["_digits"]));
            }
        }
        let units = UNITS.join(&UNIT.to_string());
        self.put("units", units);
        Ok(())
    }

    fn regions(&mut self, source: &Source) -> Result<()> {
        let times = source.supplemental("timeData")?;
        for (region, hours) in entries(&times["timeData"]) {
            let value = format!("{}{UNIT}{}", text(&hours["_preferred"]), text(&hours["_allowed"]));
            self.put(format!("td.{}", region.replace('_', "-")), value);
        }
        let weeks = source.supplemental("weekData")?;
        let weeks = &weeks["weekData"];
        for (kind, mark) in
            [("minDays", "wm"), ("firstDay", "wf"), ("weekendStart", "ws"), ("weekendEnd", "we")]
        {
            for (region, value) in
                entries(&weeks[kind]).filter(|(region, _)| !region.contains("alt"))
            {
                self.put(format!("{mark}.{region}"), text(value));
            }
        }
        let calendars = source.supplemental("calendarPreferenceData")?;
        for (region, list) in entries(&calendars["calendarPreferenceData"]) {
            let list: Vec<_> = list.as_array().into_iter().flatten().map(text).collect();
            let list = list.join(" ").replace("gregorian", "gregory");
            self.put(format!("cp.{region}"), list);
        }
        Ok(())
    }

    fn day_periods(&mut self, source: &Source, languages: &[&str]) -> Result<()> {
        let rules = source.supplemental("dayPeriods")?;
        for (language, periods) in entries(&rules["dayPeriodRuleSet"]) {
            if !languages.contains(&language) {
                continue;
            }
            let rules: Vec<_> = entries(periods)
                .map(|(period, rule)| match rule["_at"].as_str() {
                    Some(at) => format!("{period}={at}"),
                    None => format!("{period}={}-{}", text(&rule["_from"]), text(&rule["_before"])),
                })
                .collect();
            self.put(format!("dp.{language}"), rules.join(" "));
        }
        Ok(())
    }

    fn plurals(&mut self, source: &Source, languages: &[&str]) -> Result<()> {
        for (file, kind, mark) in
            [("plurals", "plurals-type-cardinal", "pc"), ("ordinals", "plurals-type-ordinal", "po")]
        {
            let rules = source.supplemental(file)?;
            for (language, rules) in entries(&rules[kind]) {
                if !languages.contains(&language) {
                    continue;
                }
                let rules: Vec<_> = entries(rules)
                    .map(|(category, rule)| {
                        let category = category.trim_start_matches("pluralRule-count-");
                        let rule = text(rule).split('@').next().unwrap_or_default().trim();
                        format!("{}{rule}", letter(category))
                    })
                    .collect();
                self.put(format!("{mark}.{language}"), rules.join(&UNIT.to_string()));
            }
        }
        let ranges = source.supplemental("pluralRanges")?;
        for (language, ranges) in entries(&ranges["plurals"]) {
            if !languages.contains(&language) {
                continue;
            }
            let ranges: String = entries(ranges)
                .filter_map(|(range, result)| {
                    let (start, end) =
                        range.trim_start_matches("pluralRange-start-").split_once("-end-")?;
                    Some([letter(start), letter(end), letter(text(result)), ' '])
                })
                .flatten()
                .collect();
            self.put(format!("pr.{language}"), ranges);
        }
        Ok(())
    }

    fn zones(&mut self, source: &Source) -> Result<()> {
        let metazones = source.supplemental("metaZones")?;
        let metazones = &metazones["metaZones"];
        let mut open = vec![(String::new(), &metazones["metazoneInfo"]["timezone"])];
        while let Some((path, value)) = open.pop() {
            let Some(periods) = value.as_array() else {
                for (name, value) in entries(value) {
                    open.push((
                        if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") },
                        value,
                    ));
                }
                continue;
            };
            let periods: Vec<_> = periods
                .iter()
                .map(|period| {
                    let period = &period["usesMetazone"];
                    let minutes = |time: &Value| {
                        time.as_str()
                            .and_then(minutes)
                            .map_or_else(String::new, |at| at.to_string())
                    };
                    format!(
                        "{}{UNIT}{}{UNIT}{}",
                        text(&period["_mzone"]),
                        minutes(&period["_from"]),
                        minutes(&period["_to"])
                    )
                })
                .collect();
            self.put(format!("zm.{path}"), periods.join(&NAME.to_string()));
        }
        for map in metazones["metazones"].as_array().into_iter().flatten() {
            let map = &map["mapZone"];
            let key = format!("mz.{}.{}", text(&map["_other"]), text(&map["_territory"]));
            self.put(key, text(&map["_type"]));
        }
        for (region, zone) in entries(&source.supplemental("primaryZones")?["primaryZones"]) {
            self.put(format!("pz.{region}"), text(zone));
        }
        let zones = source.json("cldr-bcp47/bcp47/timezone.json")?;
        let zones = &zones["keyword"]["u"]["tz"];
        let mut regions: BTreeMap<String, u32> = BTreeMap::new();
        let mut listed = Vec::new();
        for (code, zone) in entries(zones).filter(|(code, _)| !code.starts_with('_')) {
            let Some(aliases) = zone["_alias"].as_str() else { continue };
            if zone["_preferred"].is_string() || aliases.starts_with("Etc/Unknown") {
                continue;
            }
            let names: Vec<_> = aliases.split(' ').collect();
            let canonical = names[0];
            for name in &names {
                self.put(format!("zi.{}", name.to_lowercase()), format!("{canonical}{UNIT}{name}"));
            }
            if let Some(iana) = zone["_iana"].as_str() {
                self.put(format!("zi.{}", iana.to_lowercase()), format!("{canonical}{UNIT}{iana}"));
            }
            let region =
                zone["_region"].as_str().map_or_else(|| code[..2].to_uppercase(), str::to_owned);
            let placed = !canonical.starts_with("Etc/") && canonical.contains('/');
            if placed {
                *regions.entry(region.clone()).or_default() += 1;
                self.put(format!("zr.{canonical}"), region);
            }
            listed.push(canonical.to_owned());
        }
        for (name, canonical) in ICU_ZONES {
            self.put(format!("zi.{}", name.to_lowercase()), format!("{canonical}{UNIT}{name}"));
        }
        for (region, count) in regions {
            self.put(format!("zc.{region}"), count.to_string());
        }
        listed.sort();
        self.put("zones", listed.join(" "));
        Ok(())
    }

    /// Old values of `-u-` keywords, with what they stand for now.
    fn keywords(&mut self, source: &Source) -> Result<()> {
        for file in
            ["calendar", "collation", "number", "measure", "segmentation", "variant", "timezone"]
        {
            let keys = source.json(&format!("cldr-bcp47/bcp47/{file}.json"))?;
            for (key, values) in entries(&keys["keyword"]["u"]) {
                let mut known = Vec::new();
                for (value, about) in entries(values).filter(|(value, _)| !value.starts_with('_')) {
                    if key != "tz" {
                        known.push(value);
                    }
                    if let Some(preferred) = about["_preferred"].as_str() {
                        self.put(format!("kw.{key}.{value}"), preferred);
                        continue;
                    }
                    // Other names, but those that are longer than a subtag may be.
                    for alias in about["_alias"].as_str().unwrap_or_default().split(' ') {
                        if key != "tz"
                            && !alias.is_empty()
                            && alias.split('-').all(|part| part.len() >= 3 && part.len() <= 8)
                        {
                            self.put(format!("kw.{key}.{alias}"), value);
                        }
                    }
                }
                self.put(format!("kv.{key}"), known.join(" "));
            }
        }
        Ok(())
    }
}

/// The letter of a plural category.
fn letter(category: &str) -> char {
    match category {
        "zero" => 'z',
        "one" => 'o',
        "two" => 't',
        "few" => 'f',
        "many" => 'm',
        _ => 'x',
    }
}

/// Minutes since 1970 of `2004-06-01 03:00`.
fn minutes(time: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 719_469;
    Some(days * 1440 + number(11..13)? * 60 + number(14..16)?)
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Everything read; fails where a file has changed its form.
pub fn verify(values: &Values) -> Result<()> {
    for key in ["lk.en", "pc.en", "zi.europe/berlin", "zm.Europe/Berlin", "td.US", "nd.arab"] {
        values.get(key).with_context(|| format!("CLDR's files have no {key}"))?;
    }
    Ok(())
}
