//! The pages of one locale, from the files of npm's `cldr-*-full`.

use super::chromium;
use super::page::Values;
use super::source::Source;
use anyhow::Result;
use serde_json::Value;

/// Separates the members of a list.
pub const UNIT: char = '\u{1f}';
/// Separates the entries of a list of lists.
pub const RECORD: char = '\u{1e}';
/// Separates the name of an entry from what it holds.
pub const NAME: char = '\u{1d}';

/// The sections that a locale's values are cut into, each a page of its own.
pub const SECTIONS: [char; 4] = ['c', 'u', 'z', 'n'];

/// Locales with the Buddhist calendar.
const BUDDHIST: [&str; 2] = ["en", "th"];

/// Everything of one locale, by section.
pub struct Locale {
    /// Numbers, dates, lists, relative time.
    pub core: Values,
    /// Patterns of units.
    pub units: Values,
    /// Names of time zones.
    pub zones: Values,
    /// Names of regions, languages, scripts, currencies.
    pub names: Values,
    /// The language tag.
    tag: String,
}

impl Locale {
    /// Reads a locale.
    pub fn read(source: &Source, tag: &str) -> Result<Self> {
        let mut locale = Self {
            core: Values::new(),
            units: Values::new(),
            zones: Values::new(),
            names: Values::new(),
            tag: tag.to_owned(),
        };
        let numbers = source.main("numbers", tag, "numbers.json")?;
        locale.numbers(&numbers["numbers"]);
        let currencies = source.main("numbers", tag, "currencies.json")?;
        locale.currencies(&currencies["numbers"]["currencies"]);
        let dates = source.main("dates", tag, "ca-gregorian.json")?;
        let formats = |tag: &str| -> Result<Value> {
            let mut dates = source.main("dates", tag, "ca-gregorian.json")?;
            let calendar = &mut dates["dates"]["calendars"]["gregorian"];
            Ok(calendar["dateTimeFormats"]["availableFormats"].take())
        };
        let ancestors: Vec<Value> =
            source.ancestors(tag)?.iter().map(|tag| formats(tag)).collect::<Result<_>>()?;
        let mut dates = dates;
        if tag == "ko" {
            // The package has the root's AM and PM here, ICU the locale's own.
            let periods = &mut dates["dates"]["calendars"]["gregorian"]["dayPeriods"]["format"];
            for half in ["am", "pm"] {
                periods["abbreviated"][half] = periods["wide"][half].clone();
            }
        }
        locale.calendar("g", &dates["dates"]["calendars"]["gregorian"], &ancestors);
        if BUDDHIST.contains(&tag) {
            locale.calendar("b", &source.buddhist(tag)?, &[]);
        }
        let fields = source.main("dates", tag, "dateFields.json")?;
        locale.fields(&fields["dates"]["fields"]);
        let zones = source.main("dates", tag, "timeZoneNames.json")?;
        locale.time_zones(&zones["dates"]["timeZoneNames"]);
        let units = source.main("units", tag, "units.json")?;
        locale.unit_patterns(&units["units"]);
        let lists = source.main("misc", tag, "listPatterns.json")?;
        locale.lists(&lists["listPatterns"]);
        let layout = source.main("misc", tag, "layout.json")?;
        let rtl = layout["layout"]["orientation"]["characterOrder"] == "right-to-left";
        put(&mut locale.core, "rtl", if rtl { "1" } else { "" });
        locale.display_names(source, tag)?;
        Ok(locale)
    }

    /// Symbols and patterns that Arabic digits have in every locale without its own:
    /// those of CLDR's root, which npm's packages leave out.
    pub fn add_arabic_digits(&mut self, source: &Source) -> Result<()> {
        let arabic = Self::read(source, "ar-EG")?;
        let symbols = String::from_utf8_lossy(&arabic.core["sym.arab"]).replace("أس", "اس");
        put(&mut self.core, "sym.arab", symbols);
        let patterns =
            ["#,##0.###", "#,##0%", "#,##0.00\u{a0}¤", "#,##0.00\u{a0}¤", "#E0", "{0}–{1}", "~{0}"];
        put(&mut self.core, "pat.arab", list(patterns));
        Ok(())
    }

    fn numbers(&mut self, numbers: &Value) {
        put(&mut self.core, "ns", text(&numbers["defaultNumberingSystem"]));
        put(&mut self.core, "mgd", text(&numbers["minimumGroupingDigits"]));
        put(&mut self.core, "native", text(&numbers["otherNumberingSystems"]["native"]));
        for (key, symbols) in members(numbers) {
            let Some(system) = key.strip_prefix("symbols-numberSystem-") else { continue };
            let names = [
                "decimal",
                "group",
                "minusSign",
                "plusSign",
                "percentSign",
                "exponential",
                "infinity",
                "nan",
                "approximatelySign",
                "timeSeparator",
                "currencyDecimal",
                "currencyGroup",
            ];
            put(
                &mut self.core,
                format!("sym.{system}"),
                list(names.map(|name| text(&symbols[name]))),
            );
            let of = |kind: &str| &numbers[format!("{kind}-numberSystem-{system}")];
            let currency = of("currencyFormats");
            let patterns = [
                text(&of("decimalFormats")["standard"]),
                text(&of("percentFormats")["standard"]),
                text(&currency["standard"]),
                text(&currency["accounting"]),
                text(&of("scientificFormats")["standard"]),
                text(&of("miscPatterns")["range"]),
                text(&of("miscPatterns")["approximately"]),
            ];
            put(&mut self.core, format!("pat.{system}"), list(patterns));
            put(&mut self.core, format!("ccy.{system}"), plurals(currency, "unitPattern-count-"));
            let decimals = of("decimalFormats");
            for (key, patterns) in [
                ("cs", &decimals["short"]["decimalFormat"]),
                ("cl", &decimals["long"]["decimalFormat"]),
                ("cc", &currency["short"]["standard"]),
            ] {
                let mut magnitudes: Vec<_> = (3..=19)
                    .map(|zeros| {
                        let prefix = format!("1{}-count-", "0".repeat(zeros));
                        plurals(patterns, &prefix)
                    })
                    .collect();
                while magnitudes.last().is_some_and(String::is_empty) {
                    magnitudes.pop();
                }
                if !magnitudes.is_empty() {
                    let joined = magnitudes.join(&RECORD.to_string());
                    put(&mut self.core, format!("{key}.{system}"), joined);
                }
            }
        }
    }

    fn currencies(&mut self, currencies: &Value) {
        for (code, currency) in members(currencies) {
            if !chromium::has_currency(code) {
                continue;
            }
            let (symbol, narrow) =
                (text(&currency["symbol"]), text(&currency["symbol-alt-narrow"]));
            let symbol = if symbol.is_empty() { code } else { symbol };
            let narrow = if narrow.is_empty() { symbol } else { narrow };
            if symbol != code || narrow != code {
                put(&mut self.core, format!("cur.{code}"), list([symbol, narrow]));
            }
            let name = text(&currency["displayName"]);
            if name.is_empty() || name == code {
                continue;
            }
            let counts = plurals(currency, "displayName-count-");
            let value = if counts.is_empty() { name.to_owned() } else { list([name, &counts]) };
            put(&mut self.names, format!("y.{code}"), value);
        }
    }

    /// Reads a calendar; `ancestors` are the available formats of the locale's parents.
    fn calendar(&mut self, prefix: &str, calendar: &Value, ancestors: &[Value]) {
        let days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"].map(str::to_owned).to_vec();
        let count = |n: usize| (1..=n).map(|at| at.to_string()).collect::<Vec<_>>();
        let periods = [
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
        let periods = periods.map(str::to_owned).to_vec();
        let kinds = [
            ("m", "months", count(12)),
            ("d", "days", days),
            ("q", "quarters", count(4)),
            ("p", "dayPeriods", periods),
        ];
        for (short, kind, keys) in kinds {
            for context in ["format", "stand-alone"] {
                for (width, names) in members(&calendar[kind][context]) {
                    let key = format!("{prefix}.{short}.{}{}", &context[..1], &width[..1]);
                    let key = if width == "short" {
                        key.replace(".fs", ".fh").replace(".ss", ".sh")
                    } else {
                        key
                    };
                    put(&mut self.core, key, list(keys.iter().map(|key| text(&names[key]))));
                }
            }
        }
        for (key, kind) in [("w", "eraNames"), ("a", "eraAbbr"), ("n", "eraNarrow")] {
            let eras = &calendar["eras"][kind];
            put(
                &mut self.core,
                format!("{prefix}.e.{key}"),
                list([text(&eras["0"]), text(&eras["1"])]),
            );
        }
        let styles = ["full", "long", "medium", "short"];
        let times = &calendar["timeFormats"];
        let formats = &calendar["dateTimeFormats"];
        let at_time = &calendar["dateTimeFormats-atTime"]["standard"];
        for (key, patterns) in
            [("df", &calendar["dateFormats"]), ("tf", times), ("dt", formats), ("da", at_time)]
        {
            put(
                &mut self.core,
                format!("{prefix}.{key}"),
                list(styles.map(|style| text(&patterns[style]))),
            );
        }
        // ICU reads a locale's own formats before those of its parents, and takes the
        // first of those that are equally near.
        let depth = |skeleton: &str, pattern: &Value| {
            ancestors.iter().take_while(|formats| formats[skeleton] == *pattern).count()
        };
        // ICU's English counts bare hours without a letter, CLDR's root with one.
        let english = Value::from("HH v");
        let mut available: Vec<_> = members(&formats["availableFormats"])
            .map(|(skeleton, pattern)| match skeleton {
                "Hv" if self.tag.starts_with("en") => (skeleton, &english),
                _ => (skeleton, pattern),
            })
            .collect();
        available.sort_by_key(|(skeleton, pattern)| (depth(skeleton, pattern), *skeleton));
        let available = available
            .into_iter()
            .filter(|(skeleton, _)| !skeleton.contains("-alt-"))
            .filter(|(skeleton, _)| {
                !skeleton.contains("-count-") || skeleton.ends_with("-count-other")
            })
            .map(|(skeleton, pattern)| {
                format!("{}{NAME}{}", skeleton.trim_end_matches("-count-other"), text(pattern))
            });
        put(&mut self.core, format!("{prefix}.af"), list(available));
        let items = [
            "Era",
            "Year",
            "Quarter",
            "Month",
            "Week",
            "Day-Of-Week",
            "Day",
            "Hour",
            "Minute",
            "Second",
            "Timezone",
        ];
        put(
            &mut self.core,
            format!("{prefix}.ai"),
            list(items.map(|item| text(&formats["appendItems"][item]))),
        );
        let intervals = &formats["intervalFormats"];
        let fallback = text(&intervals["intervalFormatFallback"]);
        put(&mut self.core, format!("{prefix}.if"), fallback);
        let skeletons: Vec<String> = members(intervals)
            .filter(|(skeleton, _)| *skeleton != "intervalFormatFallback")
            .map(|(skeleton, patterns)| {
                let patterns = members(patterns)
                    .filter(|(field, _)| !field.contains("-alt-"))
                    .map(|(field, pattern)| format!("{field}{}", text(pattern)));
                format!("{skeleton}{NAME}{}", list(patterns))
            })
            .collect();
        put(&mut self.core, format!("{prefix}.iv"), skeletons.join(&RECORD.to_string()));
    }

    fn fields(&mut self, fields: &Value) {
        for (field, value) in members(fields) {
            let mut entries = vec![format!("n{}", text(&value["displayName"]))];
            for (key, word) in members(value) {
                if let Some(offset) = key.strip_prefix("relative-type-") {
                    entries.push(format!("r{offset}{NAME}{}", text(word)));
                }
                if let Some(direction) = key.strip_prefix("relativeTime-type-") {
                    let mark = if direction == "future" { 'f' } else { 'p' };
                    let patterns = plural_entries(word, "relativeTimePattern-count-");
                    entries.extend(patterns.iter().map(|pattern| format!("{mark}{pattern}")));
                }
            }
            put(&mut self.core, format!("rt.{field}"), list(entries));
        }
    }

    fn time_zones(&mut self, names: &Value) {
        let formats = [
            "hourFormat",
            "gmtFormat",
            "gmtZeroFormat",
            "regionFormat",
            "regionFormat-type-standard",
            "regionFormat-type-daylight",
            "fallbackFormat",
        ];
        put(&mut self.core, "tz", list(formats.map(|format| text(&names[format]))));
        for (metazone, names) in members(&names["metazone"]) {
            let names = zone_names(names);
            let names = if self.tag == "ko" { as_in_icu(&names) } else { names };
            put(&mut self.zones, format!("m.{metazone}"), names);
        }
        let mut open = vec![(String::new(), &names["zone"])];
        while let Some((path, value)) = open.pop() {
            if value["_type"] == "zone" {
                // Chromium leaves out the cities that it knew of when it made its list.
                let city = text(&value["exemplarCity"]);
                let newer = ["America/Ciudad_Juarez", "America/Coyhaique"];
                if newer.contains(&path.as_str()) && !city.is_empty() {
                    put(&mut self.zones, format!("c.{path}"), city);
                }
                if value["long"].is_object() || value["short"].is_object() {
                    put(&mut self.zones, format!("n.{path}"), zone_names(value));
                }
                continue;
            }
            for (name, value) in members(value) {
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                open.push((path, value));
            }
        }
    }

    fn unit_patterns(&mut self, units: &Value) {
        for (width, mark) in [("long", 'l'), ("short", 's'), ("narrow", 'n')] {
            let per = text(&units[width]["per"]["compoundUnitPattern"]);
            put(&mut self.units, format!("{mark}.per"), per);
            for (unit, patterns) in members(&units[width]) {
                let Some((_, name)) = unit.split_once('-') else { continue };
                if !super::supplement::is_unit(name) {
                    continue;
                }
                let mut entries = plural_entries(patterns, "unitPattern-count-");
                let per = text(&patterns["perUnitPattern"]);
                if !per.is_empty() {
                    entries.push(format!("p{per}"));
                }
                put(&mut self.units, format!("{mark}.{name}"), list(entries));
            }
        }
        for kind in ["hm", "hms", "ms"] {
            let pattern = text(&units[format!("durationUnit-type-{kind}")]["durationUnitPattern"]);
            put(&mut self.units, format!("d.{kind}"), pattern);
        }
    }

    fn lists(&mut self, patterns: &Value) {
        for (kind, pattern) in members(patterns) {
            let Some(kind) = kind.strip_prefix("listPattern-type-") else { continue };
            let parts = ["start", "middle", "end", "2"].map(|part| text(&pattern[part]));
            put(&mut self.core, format!("lp.{kind}"), list(parts));
        }
    }

    fn display_names(&mut self, source: &Source, tag: &str) -> Result<()> {
        for (file, kind, mark) in [
            ("territories.json", "territories", 'r'),
            ("languages.json", "languages", 'l'),
            ("scripts.json", "scripts", 's'),
        ] {
            let names = source.main("localenames", tag, file)?;
            for (code, name) in members(&names["localeDisplayNames"][kind]) {
                let code = code.replace("-alt-", "~");
                if !chromium::has_name(mark, &code) || text(name) == code {
                    continue;
                }
                // Chromium says Hong Kong, Macao and Palestine, and both names of the Falklands.
                let other = match (mark, code.as_str()) {
                    ('r', "HK" | "MO" | "PS") => "short",
                    ('r', "FK") => "variant",
                    _ => "",
                };
                let other = &names["localeDisplayNames"][kind][format!("{code}-alt-{other}")];
                let name = if other.is_string() { other } else { name };
                put(&mut self.names, format!("{mark}.{code}"), text(name));
            }
        }
        let names = source.main("localenames", tag, "localeDisplayNames.json")?;
        let names = &names["localeDisplayNames"];
        let pattern = &names["localeDisplayPattern"];
        let parts = ["localePattern", "localeSeparator", "localeKeyTypePattern"];
        put(&mut self.names, "pattern", list(parts.map(|part| text(&pattern[part]))));
        for (calendar, name) in members(&names["types"]["calendar"]) {
            let calendar = calendar.replace("gregorian", "gregory");
            if calendar == "ethiopic-amete-alem" {
                put(&mut self.names, "k.ethioaa", text(name));
            }
            put(&mut self.names, format!("k.{calendar}"), text(name));
        }
        Ok(())
    }
}

/// Generic, standard and daylight names, long and then short.
fn zone_names(names: &Value) -> String {
    let kinds = ["generic", "standard", "daylight"];
    list(["long", "short"].iter().flat_map(|width| kinds.map(|kind| text(&names[width][kind]))))
}

/// ICU's Korean names of American zones, which are not those of the package.
fn as_in_icu(names: &str) -> String {
    let names = names.replace("미 산지", "미 로키 산맥").replace("미 산악", "미 로키 산맥");
    let other = |name: &str| match name.strip_prefix("미 ") {
        Some(rest) => format!("북미 {rest}"),
        None => name.to_owned(),
    };
    list(names.split(UNIT).map(other))
}

/// Patterns by plural category, each led by the letter of its category.
fn plurals(patterns: &Value, prefix: &str) -> String {
    list(plural_entries(patterns, prefix))
}

fn plural_entries(patterns: &Value, prefix: &str) -> Vec<String> {
    let categories = [
        ("zero", 'z'),
        ("one", 'o'),
        ("two", 't'),
        ("few", 'f'),
        ("many", 'm'),
        ("other", 'x'),
        ("0", '0'),
        ("1", '1'),
    ];
    categories
        .iter()
        .filter_map(|(category, mark)| {
            let pattern = text(&patterns[format!("{prefix}{category}")]);
            (!pattern.is_empty()).then(|| format!("{mark}{pattern}"))
        })
        .collect()
}

fn put(values: &mut Values, key: impl Into<String>, value: impl AsRef<str>) {
    values.insert(key.into(), value.as_ref().as_bytes().to_vec());
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(parts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let parts: Vec<_> = parts.into_iter().map(|part| part.as_ref().to_owned()).collect();
    parts.join(&UNIT.to_string())
}
