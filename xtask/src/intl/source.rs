//! Where the data comes from: npm's CLDR packages and PyPI's tzdata, at pinned versions.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Release of the Python package `tzdata`, which is the time zone database 2025c.
pub const TZDATA: &str = "2025.3";

/// CLDR's packages, each with its release: those of CLDR 48.1, which ICU 78 has, or the
/// nearest where there is none; 48.2 changed patterns of times. The Buddhist calendar
/// has had no package of its own since 39.
pub const PACKAGES: [(&str, &str); 8] = [
    ("core", "48.1.0"),
    ("bcp47", "48.2.0"),
    ("numbers-full", "48.1.0"),
    ("dates-full", "48.1.0"),
    ("units-full", "48.0.0"),
    ("localenames-full", "48.1.0"),
    ("misc-full", "48.1.0"),
    ("cal-buddhist-full", "39.0.0"),
];

/// The unpacked packages.
pub struct Source {
    folder: PathBuf,
}

impl Source {
    /// Downloads and unpacks what is not there yet.
    pub fn fetch(folder: &Path) -> Result<Self> {
        for (package, release) in PACKAGES {
            let name = format!("cldr-{package}");
            let target = folder.join(&name);
            let stamp = folder.join(format!("{name}.release"));
            if std::fs::read_to_string(&stamp).is_ok_and(|known| known == release) {
                continue;
            }
            let part = folder.join(format!("{name}.part"));
            std::fs::create_dir_all(&part)?;
            let archive = format!("{name}-{release}.tgz");
            run(folder, &["npm", "pack", "--silent", &format!("{name}@{release}")])?;
            let part_name = part.to_string_lossy().into_owned();
            run(folder, &["tar", "xzf", &archive, "-C", &part_name, "--strip-components=1"])?;
            if target.exists() {
                std::fs::remove_dir_all(&target)?;
            }
            std::fs::rename(&part, &target)?;
            std::fs::write(&stamp, release)?;
        }
        if !folder.join("tz").exists() {
            let pinned = format!("tzdata=={TZDATA}");
            run(folder, &["pip", "download", "--quiet", "--no-deps", &pinned])?;
            let wheel = format!("tzdata-{TZDATA}-py2.py3-none-any.whl");
            run(folder, &["python3", "-m", "zipfile", "-e", &wheel, "tz"])?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// A file of a locale, from where its contents begin.
    pub fn main(&self, package: &str, tag: &str, file: &str) -> Result<Value> {
        let path = format!("cldr-{package}-full/main/{tag}/{file}");
        Ok(self.json(&path)?["main"][tag].take())
    }

    /// The parents of a locale, from the nearest on.
    pub fn ancestors(&self, tag: &str) -> Result<Vec<String>> {
        let parents = self.supplemental("parentLocales")?;
        let parents = &parents["parentLocales"]["parentLocale"];
        let mut out = Vec::new();
        let mut tag = tag.to_owned();
        while tag != "und" {
            let parent = parents[&tag].as_str().map(str::to_owned);
            let shorter = || tag.rsplit_once('-').map(|(head, _)| head.to_owned());
            tag = parent.or_else(shorter).unwrap_or_else(|| "und".to_owned());
            out.push(tag.clone());
        }
        Ok(out)
    }

    /// Whether the packages have files of a locale.
    pub fn exists(&self, tag: &str) -> bool {
        self.folder.join(format!("cldr-numbers-full/main/{tag}")).exists()
    }

    /// The Buddhist calendar of a locale: the patterns of every calendar that is not
    /// Gregorian, with the eras of its own and, in Thai, dates of its own.
    pub fn buddhist(&self, tag: &str) -> Result<Value> {
        let mut generic = self.main("dates", tag, "ca-generic.json")?;
        let mut calendar = generic["dates"]["calendars"]["generic"].take();
        let path = format!("cldr-cal-buddhist-full/main/{tag}/ca-buddhist.json");
        let mut own = self.json(&path)?["main"][tag]["dates"]["calendars"]["buddhist"].take();
        calendar["eras"] = own["eras"].take();
        if tag == "th" {
            let generic = calendar["dateTimeFormats"]["availableFormats"].take();
            calendar["dateFormats"] = own["dateFormats"].take();
            calendar["dateTimeFormats"] = own["dateTimeFormats"].take();
            let formats = &mut calendar["dateTimeFormats"]["availableFormats"];
            for (skeleton, pattern) in generic.as_object().into_iter().flatten() {
                if formats[skeleton].is_null() {
                    formats[skeleton] = pattern.clone();
                }
            }
            // These are newer than the package.
            formats["GyM"] = Value::from("M/G y");
            formats["GyMd"] = Value::from("d/M/G y");
            formats["GyMEd"] = Value::from("E ที่ d/M/G y");
        }
        for names in ["months", "days", "quarters", "dayPeriods", "timeFormats"] {
            calendar[names].take();
        }
        Ok(calendar)
    }

    /// A file of data that belongs to no locale.
    pub fn supplemental(&self, file: &str) -> Result<Value> {
        Ok(self.json(&format!("cldr-core/supplemental/{file}.json"))?["supplemental"].take())
    }

    /// Any JSON file of the packages.
    pub fn json(&self, path: &str) -> Result<Value> {
        let path = self.folder.join(path);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is malformed", path.display()))
    }

    /// The folder of compiled time zones.
    pub fn zones(&self) -> PathBuf {
        self.folder.join("tz/tzdata/zoneinfo")
    }
}

fn run(folder: &Path, command: &[&str]) -> Result<()> {
    let status = Command::new(command[0])
        .args(&command[1..])
        .current_dir(folder)
        .stdout(std::process::Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", command[0]))?;
    if status.success() { Ok(()) } else { bail!("`{}` failed", command.join(" ")) }
}
