//! `cargo xtask profile` runs this: the programs of `tests/training`, in a guest that counts.

#![allow(clippy::print_stdout, reason = "a report")]

use cellblock_tests::guest::{CallEnd, Compiled, Did, Event, Guest, Outcome, START, Script, Step};
use cellblock_tests::repository;
use std::error::Error;
use std::path::Path;

/// What each call of a tool returns: twenty rows.
fn rows() -> String {
    let row = |id: u32| {
        let name = ["Alice", "Bob", "Carol \\u00e9", "Dan"][id as usize % 4];
        let (active, score) = (id.is_multiple_of(3), f64::from(id) * 0.75);
        format!(
            "{{\"id\":{id},\"name\":\"{name}\",\"score\":{score},\"active\":{active},\
             \"tags\":[\"x{id}\",\"b\"],\"note\":null}}"
        )
    };
    format!("[{}]", (0..20).map(row).collect::<Vec<_>>().join(","))
}

/// Runs a program to its end and returns the counters, in hexadecimal.
fn counters(compiled: &Compiled, source: &str) -> Result<String, Box<dyn Error>> {
    let mut guest = Guest::of(compiled, Script { now: START, ..Script::default() });
    let mut answered = 0;
    let mut step = guest.execute(&format!("{source}\nprofile();\n"));
    loop {
        match step {
            Step::Finished(end) if matches!(end.outcome, Outcome::Completed) => break,
            Step::Finished(end) => return Err(format!("{end:?}").into()),
            Step::Pending(timer) => {
                let script = guest.script();
                let call = |did: &Did| match did {
                    Did::Call(id, ..) => Some(*id),
                    _ => None,
                };
                let calls: Vec<_> = script.did[answered..].iter().filter_map(call).collect();
                answered = script.did.len();
                let mut events: Vec<_> = calls
                    .into_iter()
                    .map(|id| Event::CallSucceeded(CallEnd { id, text: rows() }))
                    .collect();
                if events.is_empty() {
                    let timer = timer.ok_or("the program waits for nothing")?;
                    script.now = timer.due;
                    events.push(Event::TimerFired(timer.id));
                }
                step = guest.wait(&events);
            }
        }
    }
    guest.texts().pop().ok_or_else(|| "no counters".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [component, folder] = arguments.as_slice() else {
        return Err("usage: training COMPONENT FOLDER".into());
    };
    let compiled = Compiled::read(Path::new(component));
    let programs = std::fs::read_dir(repository("tests/training"))?;
    let mut programs =
        programs.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    programs.sort();
    for program in programs {
        let name = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = counters(&compiled, &std::fs::read_to_string(&program)?)
            .map_err(|error| format!("{name}: {error}"))?;
        println!("{name}");
        std::fs::write(Path::new(folder).join(name).with_extension("hex"), text)?;
    }
    Ok(())
}
