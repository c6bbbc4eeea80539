//! Upper and lower case in the languages that have rules of their own for them.

use crate::icu::{Pack, load};
use icu_casemap::provider::CaseMapV1;
use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_locale_core::LanguageIdentifier;
use icu_provider::prelude::*;

/// Whether a language has rules of its own, as V8 has it.
#[must_use]
pub fn is_special(language: &str) -> bool {
    matches!(language, "az" | "el" | "lt" | "tr")
}

/// A text in upper case, or in lower case, in a language; lone surrogates stay.
#[must_use]
pub fn map(language: &str, upper: bool, text: &[u16]) -> Vec<u16> {
    let language =
        LanguageIdentifier::try_from_str(language).unwrap_or(LanguageIdentifier::UNKNOWN);
    let Ok(mapper) = CaseMapper::try_new_unstable(&Source) else { return text.to_vec() };
    let mapper = mapper.as_borrowed();
    let mut out = Vec::with_capacity(text.len());
    let mut run = String::new();
    for unit in char::decode_utf16(text.iter().copied()) {
        match unit {
            Ok(character) => run.push(character),
            // It has no case, so what stands on either side of it is a text of its own.
            Err(lone) => {
                write(mapper, &language, upper, &mut run, &mut out);
                out.push(lone.unpaired_surrogate());
            }
        }
    }
    write(mapper, &language, upper, &mut run, &mut out);
    out
}

/// Moves a text to the end of another, mapped.
fn write(
    mapper: CaseMapperBorrowed<'_>,
    language: &LanguageIdentifier,
    upper: bool,
    text: &mut String,
    out: &mut Vec<u16>,
) {
    let mapped = if upper {
        mapper.uppercase_to_string(text, language)
    } else {
        mapper.lowercase_to_string(text, language)
    };
    out.extend(mapped.encode_utf16());
    text.clear();
}

/// The data of [`Pack::Case`].
struct Source;

impl DataProvider<CaseMapV1> for Source {
    fn load(&self, _: DataRequest<'_>) -> Result<DataResponse<CaseMapV1>, DataError> {
        load(Pack::Case, "case")
    }
}
