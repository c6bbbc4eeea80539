//! Where the data comes from: npm's CLDR packages and PyPI's tzdata, at pinned versions.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Release of the CLDR packages.
pub const CLDR: &str = "48.2.0";
/// Release of the Python package `tzdata`, which is the time zone database 2025c.
pub const TZDATA: &str = "2025.3";

/// Release of the last package that had the eras of the Buddhist calendar.
pub const BUDDHIST: &str = "39.0.0";

const PACKAGES: [(&str, &str); 8] = [
    ("core", CLDR),
    ("bcp47", CLDR),
    ("numbers-full", CLDR),
    ("dates-full", CLDR),
    ("units-full", CLDR),
    ("localenames-full", CLDR),
    ("misc-full", CLDR),
    ("cal-buddhist-full", BUDDHIST),
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
            if target.exists() {
                continue;
            }
            let part = folder.join(format!("{name}.part"));
            std::fs::create_dir_all(&part)?;
            let archive = format!("{name}-{release}.tgz");
            run(folder, &["npm", "pack", "--silent", &format!("{name}@{release}")])?;
            let part_name = part.to_string_lossy().into_owned();
            run(folder, &["tar", "xzf", &archive, "-C", &part_name, "--strip-components=1"])?;
            std::fs::rename(&part, &target)?;
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
        let names = ["eras", "dateFormats", "dateTimeFormats"];
        for name in if tag == "th" { &names[..] } else { &names[..1] } {
            calendar[*name] = own[*name].take();
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
