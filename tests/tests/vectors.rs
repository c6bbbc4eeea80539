//! Every recorded vector on every backend: the same answer, or a listed difference.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock::SessionLimits;
use cellblock_tests::backends::Backends;
use cellblock_tests::repository;
use cellblock_tests::vectors::{File, Vector};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A vector whose answer is known to differ.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// Why.
    reason: String,
    /// Our steps, as JSON.
    steps: String,
}

fn vectors() -> Vec<Vector> {
    let text = std::fs::read_to_string(repository("tests/vectors/vectors.json")).unwrap();
    serde_json::from_str::<File>(&text).unwrap().vectors
}

fn differences() -> BTreeMap<String, Difference> {
    let text = std::fs::read_to_string(repository("tests/vectors/differences.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

async fn compare(backends: Backends) {
    let differences = differences();
    let mut problems = Vec::new();
    for vector in vectors() {
        let difference = differences.get(&vector.name);
        let recorded = vector.steps.clone();
        let expected = match difference {
            None => recorded.clone(),
            Some(difference) => serde_json::from_str::<Vec<Value>>(&difference.steps).unwrap(),
        };
        let answered = vector.run(backends.session(SessionLimits::default())).await;
        let (steps, notifications) = answered.unwrap();
        if difference.is_some() && steps == recorded {
            problems.push(format!("{}: no longer differs; unlist it", vector.name));
        } else if steps != expected || notifications != vector.notifications {
            problems.push(format!(
                "{}: {}\n  expected {}\n  answered {}\n  notified {notifications:?}",
                vector.name,
                vector.source,
                serde_json::to_string(&expected).unwrap(),
                serde_json::to_string(&steps).unwrap(),
            ));
        }
    }
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}

#[tokio::test]
async fn wasm_answers_as_recorded() {
    compare(Backends::Wasm).await;
}

#[test]
fn every_difference_names_a_vector() {
    let names: Vec<_> = vectors().into_iter().map(|vector| vector.name).collect();
    assert_eq!(names.len(), 182);
    for (name, difference) in &differences() {
        assert!(difference.reason.len() > 20, "differences.toml: {name} gives no reason");
        assert!(names.contains(name), "differences.toml: there is no vector {name}");
    }
}

/// Programs from public reports, each with the right answer.
fn cases() -> Vec<Vector> {
    let text = std::fs::read_to_string(repository("tests/vectors/cases.json")).unwrap();
    serde_json::from_str::<File>(&text).unwrap().vectors
}

/// Cases that are not answered rightly yet, with reasons.
fn open_cases() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(repository("tests/vectors/cases-open.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

/// Steps without the place of a syntax error, which V8 does not report.
fn without_places(steps: &[Value]) -> Vec<Value> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        let text = step.pointer_mut("/execute/value/Result/error_text");
        if let Some(Value::String(text)) = text
            && text.starts_with("SyntaxError: ")
            && let Some(at) = text.find("\n    at exec_main.mjs:")
        {
            text.truncate(at);
        }
    }
    steps
}

#[tokio::test]
async fn cases_from_public_reports_are_answered_rightly() {
    let open = open_cases();
    let mut problems = Vec::new();
    for case in cases() {
        let answered = case.run(Backends::Wasm.session(SessionLimits::default())).await;
        let right = answered.as_ref().is_ok_and(|(steps, _)| without_places(steps) == case.steps);
        match (right, open.contains_key(&case.name)) {
            (true, true) => problems.push(format!("{}: is right now; unlist it", case.name)),
            (false, false) => problems.push(format!(
                "{}: {}\n  expected {}\n  answered {}",
                case.name,
                case.source,
                serde_json::to_string(&case.steps).unwrap(),
                answered.map_or_else(|e| e, |(steps, _)| serde_json::to_string(&steps).unwrap()),
            )),
            _ => {}
        }
    }
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}
