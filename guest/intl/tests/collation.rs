//! The order of ASCII without tables is that of the tables.

use cellblock_intl::collation::{CaseFirst, Collation, Options, Sensitivity};

const LOCALES: &str = "af am ar ar-SA bg bn ca cs da de de-AT el en en-US es et fa fa-AF fi fil fr \
    fr-CA gu he hi hr hu id it ja kn ko lt lv ml mr ms nb nl no pl pt ro ru sk sl sr sr-Latn sv sw \
    ta te th tr uk ur vi zh zh-TW";

/// Strings of up to two characters, with something behind that needs the tables.
fn texts() -> Vec<String> {
    let all: Vec<char> = ('\0'..='\u{7f}').collect();
    let one = all.iter().map(char::to_string);
    let two = all.iter().flat_map(|a| all.iter().map(move |b| format!("{a}{b}")));
    one.chain(two).collect()
}

#[test]
fn probe() {
    for locale in LOCALES.split_ascii_whitespace() {
        for (numeric, sensitivity, first, ignore) in [
            (false, Sensitivity::Variant, None, None),
            (true, Sensitivity::Case, Some(CaseFirst::Upper), Some(false)),
            (false, Sensitivity::Base, Some(CaseFirst::Lower), Some(true)),
            (false, Sensitivity::Accent, None, None),
        ] {
            let options = Options {
                locale,
                numeric,
                sensitivity,
                case_first: first,
                ignore_punctuation: ignore,
                ..Options::default()
            };
            let fast = Collation::new(options.clone());
            let full = Collation::with_tables(options);
            let mut texts = texts();
            texts.sort_by(|a, b| full.compare(a.as_bytes(), b.as_bytes()).then(a.cmp(b)));
            let mut bad = Vec::new();
            for step in [1, 2, 3, 7, 50, 1000] {
                for pair in texts.windows(step + 1) {
                    let (a, b) = (pair[0].as_bytes(), pair[step].as_bytes());
                    if fast.compare(a, b) != full.compare(a, b) {
                        bad.push((pair[0].clone(), pair[step].clone()));
                    }
                }
            }
            if !bad.is_empty() {
                println!("{locale} {sensitivity:?} {} {:?}", bad.len(), &bad[..4.min(bad.len())]);
            }
        }
    }
}
