//! The locales that have a collation, as V8 names them, and their types of collation.

use crate::data::Data;
use crate::locale::{Held, Tag};

/// Every locale that a collator can be resolved to, as V8 has them.
const LOCALES: &str = "af am ar ar-SA bg bn ca cs da de de-AT el en en-US es et fa fa-AF fi fil fr \
    fr-CA gu he he-IL hi hr hu id id-ID it ja kn ko lt lv ml mr ms nb nb-NO nl no pl pt ro ru sk \
    sl sr sr-BA sr-Cyrl sr-Cyrl-BA sr-Cyrl-ME sr-Cyrl-RS sr-Latn sr-Latn-BA sr-Latn-RS sr-ME \
    sr-RS sv sw ta te th tr uk ur vi zh zh-CN zh-HK zh-Hans zh-Hans-CN zh-Hans-SG zh-Hant \
    zh-Hant-HK zh-Hant-MO zh-Hant-TW zh-MO zh-SG zh-TW";

/// The locale whose collation serves a language tag.
#[must_use]
pub fn best_available(tag: &Tag) -> Option<Held> {
    let base_name = tag.base_name();
    let mut name = base_name.as_str();
    loop {
        if let Some(tag) = LOCALES.split_ascii_whitespace().find(|locale| *locale == name) {
            // A collation uses none of a locale's other data.
            return Some(Held { tag, data: Data::english() });
        }
        name = &name[..name.rfind('-')?];
    }
}

/// The types of collation that can be asked for in a locale, in order.
#[must_use]
pub fn types(locale: &str) -> &'static [&'static str] {
    match locale.split('-').next().unwrap_or_default() {
        "ar" => &["compat", "emoji", "eor"],
        "de" => &["emoji", "eor", "phonebk"],
        "es" | "fi" | "sv" | "vi" => &["emoji", "eor", "trad"],
        "zh" => &["emoji", "eor", "pinyin", "stroke"],
        _ => &["emoji", "eor"],
    }
}

/// Whether a locale writes Chinese in traditional characters.
pub(super) fn is_traditional(locale: &str) -> bool {
    ["Hant", "TW", "HK", "MO"].iter().any(|part| locale.split('-').any(|own| own == *part))
}
