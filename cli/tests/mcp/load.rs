//! Many clients at one time. `.ci/run` runs this in a step of its own.

use crate::over_http::Served;
use crate::{configure, installed, wrong};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

const CLIENTS: usize = 50;
const CELLS: usize = 10_000;
const TOOLS: usize = 20;
/// Cells after which everything is as warm and as full as it gets.
const WARM: usize = 3_000;

/// Resident memory of a process, in MiB.
fn resident(id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") >> 10
}

#[test]
#[ignore = "it takes a minute or two"]
fn fifty_clients_run_ten_thousand_cells() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    configure(dir.path(), &json!({ "mcpServers": { "many": wrong("many", &[]) } }));
    let served = Served::start_in(dir, &[]);
    let (next, warm) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                // Half of the programs share the session of their client.
                let mut session = None;
                loop {
                    let cell = next.fetch_add(1, Ordering::SeqCst);
                    if cell >= CELLS {
                        return;
                    }
                    if cell == WARM {
                        warm.store(resident(served.id()), Ordering::SeqCst);
                    }
                    let tool = cell % TOOLS;
                    let code = format!(
                        "const {{ n }} = await tools.many.t{tool}({{ n: {cell} }});
                         store('last', n); text(n)"
                    );
                    let mut arguments = json!({ "code": code });
                    if let Some(session) = session.as_ref().filter(|_| cell % 2 == 0) {
                        arguments["session"] = json!(session);
                    }
                    let ran = served.exec(&[], arguments);
                    let structured = &ran["structuredContent"];
                    assert_eq!(structured["status"], "completed", "{ran}");
                    let printed = structured["output"].as_str().expect("a text");
                    assert_eq!(printed, cell.to_string());
                    if session.is_none() {
                        session = structured["session"].as_str().map(str::to_owned);
                    }
                }
            });
        }
    });
    let (warm, end) = (warm.into_inner(), resident(served.id()));
    println!("{CELLS} cells of {CLIENTS} clients: {warm} MiB after {WARM}, {end} MiB at the end");
    assert!(end < warm + warm / 4 + 64, "{warm} MiB after {WARM} cells, {end} MiB at the end");
}
