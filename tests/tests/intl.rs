//! What `Intl` answers, against answers recorded from Codex's host (V8 over ICU 78).

use cellblock::{
    CodeModeService, ContentItem, ExecuteRequest, RegionalSettings, SessionLimits, TimeZone,
};
use cellblock_tests::backends::Backends;
use cellblock_tests::guest::{Guest, Outcome, Step};
use serde::Deserialize;
use std::fmt::Write;

/// An expression and what it is worth: a string as it is, anything else as JSON.
#[derive(Deserialize)]
struct Golden {
    /// The expression.
    expr: String,
    /// Its value.
    want: String,
}

/// Expressions that share one program.
const BATCH: usize = 100;

#[test]
fn numbers_and_plurals_are_written_as_recorded() {
    assert_answers("numbers.json");
}

#[test]
fn dates_and_lists_are_written_as_recorded() {
    assert_answers("dates.json");
}

#[test]
fn words_are_compared_cut_and_cased_as_recorded() {
    assert_answers("words.json");
}

#[test]
fn names_lists_durations_and_locales_are_as_recorded() {
    assert_answers("names.json");
}

fn assert_answers(file: &str) {
    let path = format!("{}/intl/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the goldens are there");
    let goldens: Vec<Golden> = serde_json::from_str(&text).expect("the goldens are JSON");
    let mut differing = Vec::new();
    for batch in goldens.chunks(BATCH) {
        for (golden, got) in batch.iter().zip(values(batch)) {
            if golden.want != got {
                differing.push(format!("{}\n  want {}\n  got  {got}", golden.expr, golden.want));
            }
        }
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
}

fn values(batch: &[Golden]) -> Vec<String> {
    let mut source = String::new();
    for golden in batch {
        let _ = writeln!(
            source,
            "try {{ const v = ({}); text(typeof v === 'string' ? v : String(JSON.stringify(v))) }} \
             catch (e) {{ text(`!${{e.name}}: ${{e.message}}`) }}",
            golden.expr
        );
    }
    let mut guest = Guest::new();
    match guest.execute(&source) {
        Step::Finished(end) if matches!(end.outcome, Outcome::Completed) => guest.texts(),
        other => panic!("the program did not complete: {other:?}"),
    }
}

/// What a program prints under regional settings.
async fn printed(locale: &str, zone: &str, source: &str) -> Vec<String> {
    let service = CodeModeService::new(Backends::Wasm.session(SessionLimits::default()));
    let regional = RegionalSettings {
        locale: Some(locale.parse().expect("a locale")),
        time_zone: Some(zone.parse().expect("a zone")),
    };
    let request = ExecuteRequest { regional, ..ExecuteRequest::new(source) };
    let response = service.execute(request).await.expect("a cell");
    let text = |item| match item {
        ContentItem::InputText { text } => text,
        other => panic!("not text: {other:?}"),
    };
    response.into_content().into_iter().map(text).collect()
}

/// The expectations are V8's under the same `TZ`.
#[tokio::test]
async fn dates_and_formats_follow_the_settings_of_the_host() {
    let source = "
        const show = (...dates) => text(dates.map(String).join('|'));
        show(new Date(0), new Date(2024, 6, 1), new Date(1850, 0, 1));
        text(new Date(2024, 2, 10, 2, 30).toISOString());
        text(new Date(2024, 10, 3, 1, 30).toISOString());
        text([0, 6].map((month) => new Date(2024, month, 1).getTimezoneOffset()).join());
        text(new Date('2024-07-01T00:00').getTime() - Date.UTC(2024, 6, 1));
        text(new Date(0).toLocaleString());
        text((1234.5).toLocaleString());
        text(JSON.stringify(Intl.DateTimeFormat().resolvedOptions()));";
    let texts = printed("en-US", "America/New_York", source).await;
    assert_eq!(
        texts,
        [
            "Wed Dec 31 1969 19:00:00 GMT-0500 (Eastern Standard Time)|\
             Mon Jul 01 2024 00:00:00 GMT-0400 (Eastern Daylight Time)|\
             Tue Jan 01 1850 00:00:00 GMT-0456 (Eastern Standard Time)",
            "2024-03-10T07:30:00.000Z",
            "2024-11-03T05:30:00.000Z",
            "300,240",
            "14400000",
            "12/31/1969, 7:00:00 PM",
            "1,234.5",
            r#"{"locale":"en-US","calendar":"gregory","numberingSystem":"latn","timeZone":"America/New_York","year":"numeric","month":"numeric","day":"numeric"}"#,
        ]
    );
    let texts = printed("de-CH", "europe/zurich", source).await;
    assert_eq!(texts[5], "1.1.1970, 01:00:00");
    assert_eq!(texts[6], "1'234.5");
    assert!(texts[0].contains("GMT+0200 (Mitteleuropäische Sommerzeit)"), "{}", texts[0]);
    let texts = printed("xx", "+05:30", "text(new Date(0)); text((1.5).toLocaleString())").await;
    assert_eq!(texts, ["\"1970-01-01T00:00:00.000Z\"", "1.5"]);
}

/// The host and the guest know the same zones.
#[tokio::test]
async fn every_zone_that_a_host_can_set_is_known_to_programs() {
    let names = include_str!("../../host/src/time-zones.txt");
    let mut source = String::from("let unknown = [];\n");
    for name in names.lines() {
        name.parse::<TimeZone>().expect("a zone");
        let _ = writeln!(
            source,
            "try {{ new Intl.DateTimeFormat('en', {{ timeZone: '{name}' }}).format(0) }} \
             catch {{ unknown.push('{name}') }}"
        );
    }
    source.push_str("text(unknown.join())");
    let texts = printed("en", "UTC", &source).await;
    assert_eq!(texts, [""]);
    assert!(names.lines().count() > 500);
}
