//! Event batches given to `wait`: any ids, any texts, any order.
#![no_main]

use arbitrary::Arbitrary;
use cellblock_tests::guest::{CallEnd, Event, Guest, Step};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Happening {
    Succeeded(u8, String),
    SucceededOdd(u64, String),
    Failed(u8, String),
    Cancelled(u8),
    Timer(u8),
    TimerOdd(u64),
}

impl From<Happening> for Event {
    fn from(happening: Happening) -> Self {
        let end = |id: u64, text| CallEnd { id, text };
        match happening {
            Happening::Succeeded(id, text) => Event::CallSucceeded(end(u64::from(id % 8), text)),
            Happening::SucceededOdd(id, text) => Event::CallSucceeded(end(id, text)),
            Happening::Failed(id, text) => Event::CallFailed(end(u64::from(id % 8), text)),
            Happening::Cancelled(id) => Event::CallCancelled(u64::from(id % 8)),
            Happening::Timer(id) => Event::TimerFired(u64::from(id % 8)),
            Happening::TimerOdd(id) => Event::TimerFired(id),
        }
    }
}

const PROGRAM: &str = "
    for (let i = 0; i < 5; i++) {
        setTimeout(() => { text('timer' + i); if (i % 2) tools.first(i) }, i);
        tools.second({ i }).then((v) => { text(v); store('k' + i, v ?? null); return tools.first(v) })
            .then((v) => text(v), (e) => text('' + e));
    }
    await tools.first();";

fuzz_target!(|batches: Vec<Vec<Happening>>| {
    let mut guest = Guest::new();
    let mut step = guest.execute(PROGRAM);
    for batch in batches {
        if matches!(step, Step::Finished(_)) {
            return;
        }
        let events: Vec<Event> = batch.into_iter().map(Event::from).collect();
        // A trap panics inside.
        step = guest.wait(&events);
    }
});
