//! What `Intl` answers, against answers recorded from Codex's host (V8 over ICU 78).

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
