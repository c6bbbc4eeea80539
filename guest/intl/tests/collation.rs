//! The order of ASCII without tables is that of the tables.

use cellblock_intl::collation::{CaseFirst, Collation, Options, Sensitivity};

const LOCALES: &str = "af am ar ar-SA bg bn ca cs da de de-AT el en en-US es et fa fa-AF fi fil fr \
    fr-CA gu he hi hr hu id it ja kn ko lt lv ml mr ms nb nl no pl pt ro ru sk sl sr sr-Latn sv sw \
    ta te th tr uk ur vi zh zh-TW";

/// Every string of up to two characters of ASCII, some with something behind that needs
/// the tables, and words.
fn texts() -> Vec<String> {
    let all: Vec<char> = ('\0'..='\u{7f}').collect();
    let one = all.iter().flat_map(|a| [a.to_string(), format!("{a}\u{301}"), format!("x{a}é")]);
    let two = all.iter().flat_map(|a| all.iter().map(move |b| format!("{a}{b}")));
    let words = ["", "co-op", "coop", "Coop", "CO-OP", "item 10", "item 9", "chata", "llama", "aa"];
    one.chain(two).chain(words.map(str::to_owned)).collect()
}

#[test]
fn ascii_is_ordered_as_the_tables_order_it() {
    let kinds = [
        (false, Sensitivity::Variant, None, None),
        (true, Sensitivity::Case, Some(CaseFirst::Upper), Some(false)),
        (false, Sensitivity::Base, Some(CaseFirst::Lower), Some(true)),
        (false, Sensitivity::Accent, None, None),
        (false, Sensitivity::Variant, Some(CaseFirst::Upper), None),
    ];
    for locale in LOCALES.split_ascii_whitespace() {
        for (numeric, sensitivity, case_first, ignore_punctuation) in kinds {
            let options = Options {
                locale,
                numeric,
                sensitivity,
                case_first,
                ignore_punctuation,
                ..Options::default()
            };
            let fast = Collation::new(options.clone());
            let full = Collation::with_tables(options.clone());
            let mut texts = texts();
            texts.sort_by(|a, b| full.compare(a.as_bytes(), b.as_bytes()).then(a.cmp(b)));
            for step in [1, 7, 100] {
                for pair in texts.windows(step + 1) {
                    let (a, b) = (pair[0].as_bytes(), pair[step].as_bytes());
                    let orders = (fast.compare(a, b), full.compare(a, b));
                    assert_eq!(orders.0, orders.1, "{options:?} {:?} {:?}", pair[0], pair[step]);
                }
            }
        }
    }
}
