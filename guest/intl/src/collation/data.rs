//! Which pieces of ICU4X's data a collation is made of.

use super::Options;
use super::locales::is_traditional;
use crate::icu::{Pack, load, piece};
use icu_collator::provider::{
    CollationDiacriticsV1, CollationJamoV1, CollationMetadataV1, CollationReorderingV1,
    CollationRootV1, CollationSpecialPrimariesV1, CollationTailoringV1,
};
use icu_normalizer::provider::{NormalizerNfdDataV1, NormalizerNfdTablesV1};
use icu_provider::prelude::*;

/// Languages whose data for searching begins with their data for sorting. German
/// searches by its phone books, and other languages by the root alone.
const SEARCHED: [&str; 9] = ["da", "es", "fi", "hr", "nb", "no", "sk", "sv", "tr"];

/// The data of one collation.
#[derive(Debug)]
pub(super) struct Source {
    /// `LOCALE/TYPE`, as ICU4X names its data.
    id: String,
}

impl Source {
    /// The data for a collation.
    pub(super) fn of(options: &Options) -> Self {
        Self { id: id(options) }
    }

    fn own(&self, mark: char) -> String {
        format!("{mark}.{}", self.id)
    }
}

fn id(options: &Options) -> String {
    let language = options.locale.split('-').next().unwrap_or_default();
    if options.search {
        return match language {
            "de" => "de/phonebk".to_owned(),
            _ if SEARCHED.contains(&language) || options.locale.starts_with("sr-Latn") => {
                plain(options.locale)
            }
            _ => "und/".to_owned(),
        };
    }
    match (options.kind.as_deref(), language) {
        (Some(kind @ ("emoji" | "eor")), _) => format!("und/{kind}"),
        (Some(kind @ ("pinyin" | "stroke")), "zh") => format!("und-Hani/{kind}"),
        (None, "zh") if is_traditional(options.locale) => "und-Hani/stroke".to_owned(),
        (None, "zh") => "und-Hani/pinyin".to_owned(),
        (Some("phonebk"), "de") if options.locale == "de-AT" => "de-AT/phonebk".to_owned(),
        (Some(kind), _) => format!("{language}/{kind}"),
        (None, _) => plain(options.locale),
    }
}

/// The data of a locale's own collation, the root's where it has none.
fn plain(locale: &str) -> String {
    let locale = match locale {
        "nb" | "nb-NO" => "no",
        _ if locale.starts_with("sr-Latn") => "sr-Latn",
        _ => locale,
    };
    let language = locale.split('-').next().unwrap_or_default();
    [locale, language]
        .iter()
        .map(|locale| format!("{locale}/"))
        .find(|id| piece(Pack::Root, &format!("m.{id}")).is_some())
        .unwrap_or_else(|| "und/".to_owned())
}

macro_rules! singleton {
    ($marker:ty, $name:literal) => {
        impl DataProvider<$marker> for Source {
            fn load(&self, _: DataRequest<'_>) -> Result<DataResponse<$marker>, DataError> {
                load(Pack::Root, $name)
            }
        }
    };
}

singleton!(CollationRootV1, "root");
singleton!(CollationJamoV1, "jamo");
singleton!(CollationSpecialPrimariesV1, "primaries");
singleton!(NormalizerNfdDataV1, "nfd");
singleton!(NormalizerNfdTablesV1, "tables");

impl DataProvider<CollationMetadataV1> for Source {
    fn load(&self, _: DataRequest<'_>) -> Result<DataResponse<CollationMetadataV1>, DataError> {
        let language = self.id.replace("-AT/", "/");
        load(Pack::Root, &format!("m.{language}")).or_else(|_| load(Pack::Root, "m.und/"))
    }
}

impl DataProvider<CollationReorderingV1> for Source {
    fn load(&self, _: DataRequest<'_>) -> Result<DataResponse<CollationReorderingV1>, DataError> {
        load(Pack::Root, &self.own('r'))
    }
}

impl DataProvider<CollationDiacriticsV1> for Source {
    /// A collation without diacritics of its own asks for the root's.
    fn load(&self, _: DataRequest<'_>) -> Result<DataResponse<CollationDiacriticsV1>, DataError> {
        load(Pack::Root, &self.own('d')).or_else(|_| load(Pack::Root, "d.und/"))
    }
}

impl DataProvider<CollationTailoringV1> for Source {
    fn load(&self, _: DataRequest<'_>) -> Result<DataResponse<CollationTailoringV1>, DataError> {
        let pack = match self.id.as_str() {
            "und-Hani/pinyin" => Pack::Pinyin,
            "und-Hani/stroke" => Pack::Stroke,
            "ja/" => Pack::Japanese,
            "ko/" => Pack::Korean,
            "und/emoji" => Pack::Emoji,
            _ => Pack::Tailorings,
        };
        load(pack, &self.own('t'))
    }
}
