//! What `Intl` costs a program, warm: a loop of calls in one cell, without the loop.

use crate::figures::Figures;
use crate::host::Bench;
use anyhow::{Result, ensure};
use cellblock::{ContentItem, SessionLimits};
use std::time::Instant;

/// Runs of each loop; the fastest counts.
const RUNS: usize = 5;
/// Calls in a loop.
const CALLS: u32 = 20_000;

/// What is called, with the microseconds that are the target.
const CALLED: [(&str, &str, f64); 6] = [
    ("n.toLocaleString()", "(i * 1.5).toLocaleString()", 5.0),
    (
        "n.toLocaleString, currency",
        "(i * 1.5).toLocaleString('en-US', { style: 'currency', currency: 'USD' })",
        15.0,
    ),
    ("NumberFormat.format", "number.format(i * 1.5)", 5.0),
    ("date.toLocaleString()", "new Date(i * 1e8).toLocaleString()", 15.0),
    (
        "date.toLocaleDateString, fields",
        "new Date(i * 1e8).toLocaleDateString('en-US', \
         { year: 'numeric', month: 'long', day: 'numeric', timeZone: 'America/New_York' })",
        15.0,
    ),
    ("DateTimeFormat.format", "date.format(i * 1e8)", 15.0),
];

/// Words that are sorted: random ones, so that most comparisons are of their first letters.
const WORDS: &str = "let seed = 12345; \
     const random = (most) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % most; \
     const letters = 'abcdefghijklmnopqrstuvwxyzABC'; \
     const word = () => Array.from({ length: 4 + random(8) }, () => letters[random(29)]).join(''); \
     const words = Array.from({ length: 10000 }, word); ";

/// A call of each kind, and a sort.
pub fn intl(figures: &mut Figures) -> Result<()> {
    let bench = Bench::new(0, SessionLimits::default())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let fastest = |source: &str| -> Result<f64> {
        let mut fastest = f64::INFINITY;
        for _ in 0..RUNS {
            let started = Instant::now();
            let response = runtime.block_on(bench.run(source))?;
            fastest = fastest.min(started.elapsed().as_secs_f64());
            let expected = [ContentItem::InputText { text: "true".to_owned() }];
            ensure!(response.content_items() == expected, "{source}: {response:?}");
        }
        Ok(fastest)
    };
    let looped = |expression: &str| {
        fastest(&format!(
            "const number = new Intl.NumberFormat('en-US'); \
             const date = new Intl.DateTimeFormat('en-US', {{ dateStyle: 'medium', timeStyle: 'short' }}); \
             let length = 0; \
             for (let i = 0; i < {CALLS}; i++) length += ({expression}).length; \
             text(length > 0)"
        ))
    };
    let empty = looped("'x'")?;
    for (name, expression, target) in CALLED {
        let each = (looped(expression)? - empty) / f64::from(CALLS) * 1e6;
        figures.add(format!("{name}, warm"), each, "µs", Some(target));
    }
    let made = fastest(&format!("{WORDS} text(words.length > 0)"))?;
    let sorted = fastest(&format!(
        "{WORDS} words.sort((a, b) => a.localeCompare(b)); text(words.length > 0)"
    ))?;
    let milliseconds = (sorted - made) * 1e3;
    figures.add("sort of 10,000 words, localeCompare", milliseconds, "ms", Some(60.0));
    Ok(())
}
