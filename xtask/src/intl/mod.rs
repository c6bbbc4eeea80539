//! `cargo xtask intl`: from CLDR and the time zone database to the tables of guest/intl.

mod chromium;
mod icu;
mod locale;
mod page;
mod source;
mod supplement;
mod zones;

use crate::manifest::hash;
use crate::root;
use anyhow::{Context, Result, bail};
use locale::Locale;
use page::{Kind, Values};
use serde::{Deserialize, Serialize};
use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Locales whose pages are compressed, each after the one it may be a variant of,
/// whose values it then leaves out.
const LOCALES: [(&str, Option<&str>); 51] = [
    ("en-GB", Some("en")),
    ("en-AU", Some("en")),
    ("en-CA", Some("en")),
    ("en-IN", Some("en")),
    ("de", None),
    ("de-AT", Some("de")),
    ("de-CH", Some("de")),
    ("fr", None),
    ("fr-CA", Some("fr")),
    ("fr-CH", Some("fr")),
    ("es", None),
    ("es-419", Some("es")),
    ("es-MX", Some("es")),
    ("es-AR", Some("es")),
    ("es-US", Some("es")),
    ("it", None),
    ("pt", None),
    ("pt-PT", Some("pt")),
    ("pt-AO", Some("pt-PT")),
    ("nl", None),
    ("sv", None),
    ("da", None),
    ("nb", None),
    ("no", Some("nb")),
    ("fi", None),
    ("pl", None),
    ("cs", None),
    ("sk", None),
    ("hu", None),
    ("ro", None),
    ("bg", None),
    ("uk", None),
    ("ru", None),
    ("tr", None),
    ("el", None),
    ("he", None),
    ("ar", None),
    ("ar-EG", Some("ar")),
    ("ar-SA", Some("ar")),
    ("hi", None),
    ("th", None),
    ("vi", None),
    ("id", None),
    ("ja", None),
    ("ko", None),
    ("zh", None),
    ("zh-Hant", None),
    ("zh-Hant-HK", Some("zh-Hant")),
    ("hr", None),
    ("ca", None),
    ("sr-Latn", None),
];

/// What `guest/intl/data/manifest.json` says. Hashes are SHA-256, in hex.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Release of each of npm's CLDR packages.
    cldr: BTreeMap<String, String>,
    /// Release of PyPI's `tzdata`.
    tzdata: String,
    /// Hash of each generated file.
    files: BTreeMap<String, String>,
}

/// Generates the tables; with `check`, compares them with the committed ones instead.
pub fn intl(check: bool) -> Result<()> {
    let folder = root().join("guest/intl/data");
    let downloads = downloads()?;
    let (mut files, time_zones) = generate(&Source::fetch(&downloads)?)?;
    files.extend(icu::packs(&downloads)?);
    let host = root().join("host/src/time-zones.txt");
    if !check {
        std::fs::write(host, time_zones)?;
    } else if std::fs::read_to_string(host)? != time_zones {
        bail!("host/src/time-zones.txt is stale; run `cargo xtask intl`");
    }
    let manifest = Manifest {
        cldr: source::PACKAGES
            .iter()
            .map(|(name, release)| (format!("cldr-{name}"), (*release).to_owned()))
            .collect(),
        tzdata: source::TZDATA.to_owned(),
        files: files.iter().map(|(name, bytes)| (name.clone(), hash(bytes))).collect(),
    };
    let manifest = serde_json::to_string_pretty(&manifest)? + "\n";
    files.insert("manifest.json".to_owned(), manifest.into_bytes());
    if check {
        let committed: BTreeSet<_> = std::fs::read_dir(&folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        let wanted: BTreeSet<_> = files.keys().cloned().collect();
        if committed != wanted {
            bail!("guest/intl/data holds other files than `cargo xtask intl` makes");
        }
    } else if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let mut size = 0;
    for (name, bytes) in &files {
        let path = folder.join(name);
        size += bytes.len();
        if !check {
            std::fs::write(path, bytes)?;
        } else if std::fs::read(path)? != *bytes {
            bail!("guest/intl/data/{name} is stale; run `cargo xtask intl`");
        }
    }
    println!("intl: {} files, {size} bytes", files.len());
    Ok(())
}

fn downloads() -> Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let folder = target.join("intl");
    std::fs::create_dir_all(&folder)?;
    folder.canonicalize().context("no folder for downloads")
}

/// The files of the guest, and the names of time zones that the host takes.
fn generate(source: &Source) -> Result<(BTreeMap<String, Vec<u8>>, String)> {
    let mut files = BTreeMap::new();
    let mut english = Locale::read(source, "en")?;
    english.add_arabic_digits(source)?;
    let mut locales: BTreeMap<&str, Locale> = BTreeMap::from([("en", english)]);
    for (tag, _) in LOCALES {
        locales.insert(tag, Locale::read(source, tag)?);
    }
    let mut trimmed: BTreeMap<&str, [Values; 4]> = BTreeMap::new();
    for (tag, base) in LOCALES {
        let own = sections(&locales[tag]);
        let base = base.map(|base| sections(&locales[base]));
        let sections: [Values; 4] =
            std::array::from_fn(|at| difference(own[at], base.map(|base| base[at])));
        trimmed.insert(tag, sections);
    }
    let english = sections(&locales["en"]);
    let mut keys: [BTreeSet<String>; 4] =
        std::array::from_fn(|at| english[at].keys().cloned().collect());
    for locale in trimmed.values() {
        for (keys, values) in keys.iter_mut().zip(locale) {
            keys.extend(values.keys().cloned());
        }
    }
    let mut code = String::from("// Generated by `cargo xtask intl`; do not edit.\n\n&[\n");
    for (at, section) in locale::SECTIONS.iter().enumerate() {
        let (list, page) = (page::key_list(&keys[at]), page::plain(&keys[at], english[at]));
        // Names are many and seldom asked for.
        let pack = |bytes: Vec<u8>| {
            if *section == 'n' { page::pack(&bytes, Kind::Text) } else { Ok(bytes) }
        };
        files.insert(format!("keys.{section}.bin"), pack(list)?);
        files.insert(format!("en.{section}.bin"), pack(page)?);
    }
    for (tag, base) in LOCALES {
        let mut pack = Vec::new();
        let mut ends = Vec::new();
        for (at, values) in trimmed[tag].iter().enumerate() {
            if !values.is_empty() {
                pack.extend(page::compressed(&keys[at], values)?);
            }
            ends.push(pack.len());
        }
        writeln!(
            code,
            "    Locale {{ tag: {tag:?}, base: {base:?}, pack: include_bytes!(\"../data/{tag}.bin\"), ends: {ends:?} }},"
        )?;
        files.insert(format!("{tag}.bin"), pack);
    }
    code.push_str("]\n");
    files.insert("locales.in".to_owned(), code.into_bytes());
    let languages: Vec<_> = ["en", "no", "sr"]
        .into_iter()
        .chain(LOCALES.iter().map(|(tag, _)| *tag))
        .filter(|tag| !tag.contains('-') || *tag == "pt-PT" || *tag == "es-419")
        .collect();
    let mut supplement = supplement::read(source, &languages)?;
    supplement::verify(&supplement)?;
    for (tag, held) in available(source, &locales)? {
        supplement.insert(format!("av.{tag}"), held.into_bytes());
    }
    let zones = zones::read(source, &supplement)?;
    let (subtags, supplement): (Values, Values) =
        supplement.into_iter().partition(|(key, _)| supplement::is_subtag(key));
    let time_zones = time_zones(&supplement, &zones)?;
    let (zone_names, mut supplement): (Values, Values) =
        supplement.into_iter().partition(|(key, _)| supplement::is_of_zones(key));
    for (_, value) in supplement.iter_mut().filter(|(key, _)| key.starts_with("zi.")) {
        // The name in the database has done its work; the canonical one stays.
        let end = value.iter().position(|byte| *byte == 0x1f).unwrap_or(value.len());
        value.truncate(end);
    }
    let keys = supplement.keys().cloned().collect();
    files.insert("keys.s.bin".to_owned(), page::key_list(&keys));
    files.insert("page.s.bin".to_owned(), page::plain(&keys, &supplement));
    files.insert("zone-names.bin".to_owned(), page::table(&zone_names)?);
    let mut areas: BTreeMap<String, Values> = BTreeMap::new();
    for (zone, value) in zones {
        let area = zone.split_once('/').map_or("Etc", |(area, _)| area).to_owned();
        areas.entry(area).or_default().insert(zone, value);
    }
    let mut code = String::from("// Generated by `cargo xtask intl`; do not edit.\n\n&[\n");
    for (area, values) in &areas {
        let file = format!("zones.{area}.bin");
        writeln!(code, "    ({area:?}, include_bytes!(\"../data/{file}\")),")?;
        files.insert(file, page::table(values)?);
    }
    code.push_str("]\n");
    files.insert("zones.in".to_owned(), code.into_bytes());
    files.insert("subtags.bin".to_owned(), page::pack(&page::lines(&subtags), Kind::Text)?);
    Ok((files, time_zones))
}

/// The names of the zones that there are, one a line.
fn time_zones(supplement: &Values, zones: &Values) -> Result<String> {
    let mut names = BTreeSet::new();
    for (_, value) in supplement.iter().filter(|(key, _)| key.starts_with("zi.")) {
        let value = std::str::from_utf8(value)?;
        let (canonical, name) = value.split_once('\u{1f}').context("a zone has two names")?;
        if zones.contains_key(canonical) {
            names.insert(format!("{name}\n"));
        }
    }
    Ok(names.into_iter().collect())
}

/// Every locale whose data is held to the letter, with the tag under which it is:
/// those held, those that CLDR gives no data other than their language's, and the
/// forms without a script.
fn available(source: &Source, held: &BTreeMap<&str, Locale>) -> Result<BTreeMap<String, String>> {
    let list =
        |path: &str, of: fn(&serde_json::Value) -> &serde_json::Value| -> Result<Vec<String>> {
            let file = source.json(path)?;
            let tags = of(&file).as_array().into_iter().flatten();
            Ok(tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect())
        };
    let full = list("cldr-core/availableLocales.json", |file| &file["availableLocales"]["full"])?;
    let default = list("cldr-core/defaultContent.json", |file| &file["defaultContent"])?;
    let mut out: BTreeMap<String, String> =
        held.keys().map(|tag| ((*tag).to_owned(), (*tag).to_owned())).collect();
    for tag in default.iter().chain(&full) {
        let base = std::iter::successors(Some(tag.as_str()), |tag| {
            tag.rsplit_once('-').map(|(head, _)| head)
        })
        .find(|tag| held.contains_key(tag));
        let Some(base) =
            base.filter(|base| base != tag && source.exists(tag) || default.contains(tag))
        else {
            continue;
        };
        let same = default.contains(tag) || {
            // A locale that lacks some file has too little to be told apart from its base.
            Locale::read(source, tag).is_ok_and(|locale| {
                sections(&locale)
                    .iter()
                    .zip(sections(&held[base]))
                    .all(|(own, base)| **own == *base)
            })
        };
        if same {
            out.insert(tag.clone(), base.to_owned());
        }
    }
    // V8 answers for Norway in the name of the language.
    out.remove("nb-NO");
    let short: Vec<_> = out
        .iter()
        .filter_map(|(tag, held)| {
            let parts: Vec<_> = tag.split('-').collect();
            let [language, script, region] = parts[..] else { return None };
            (script.len() == 4).then(|| (format!("{language}-{region}"), held.clone()))
        })
        .collect();
    for (tag, held) in short {
        out.entry(tag).or_insert(held);
    }
    Ok(out)
}

fn sections(locale: &Locale) -> [&Values; 4] {
    [&locale.core, &locale.units, &locale.zones, &locale.names]
}

/// What a locale has other than its base.
fn difference(own: &Values, base: Option<&Values>) -> Values {
    let same =
        |key: &String, value: &Vec<u8>| base.is_some_and(|base| base.get(key) == Some(value));
    own.iter()
        .filter(|(key, value)| !same(key, value))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}
