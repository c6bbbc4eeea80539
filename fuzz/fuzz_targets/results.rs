//! Tool results: JSON and what is nearly JSON. The guest takes exactly what
//! serde_json takes as UTF-8 JSON, or ends the program; it never traps.
#![no_main]

use cellblock_tests::guest::{CallEnd, Event, Guest, Outcome, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &str| {
    let mut guest = Guest::new();
    guest.execute("text(JSON.stringify(await tools.first()))");
    let event = Event::CallSucceeded(CallEnd { id: 1, text: json.to_owned() });
    let Step::Finished(end) = guest.wait(&[event]) else { panic!("the program waits for nothing") };
    if let (Outcome::Completed, Ok(expected)) =
        (&end.outcome, serde_json::from_str::<serde_json::Value>(json))
    {
        let printed = guest.texts();
        let read: serde_json::Value =
            serde_json::from_str(&printed[0]).expect("what JSON.stringify wrote is JSON");
        assert!(alike(&expected, &read), "{expected} became {read}");
    }
});

/// Equal, but for numbers: JavaScript has doubles only, and writes the infinite as null.
fn alike(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Null, Number, Object};
    match (one, other) {
        (Number(a), Number(b)) => a.as_f64() == b.as_f64(),
        (Number(a), Null) => a.as_f64().is_none_or(f64::is_infinite),
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| alike(v, w)))
        }
        (a, b) => a == b,
    }
}
