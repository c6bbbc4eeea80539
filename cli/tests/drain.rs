//! A host that is asked to end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use serde_json::json;
use std::process::Command;
use std::time::Instant;
use support::{PATIENCE, Served, execute};

/// At SIGTERM a host admits no more cells, and those that live may end.
#[test]
fn a_host_that_drains_ends_with_its_cells() {
    let mut served = Served::start("unix", &["--drain-timeout", "30s"]);
    let (mut client, mut late) = (served.session(), served.session());
    let source =
        "text('up'); yield_control(); await new Promise((r) => setTimeout(r, 1500)); text('end')";
    let response = client.execute(source, 60_000);
    assert!(response["value"]["Yielded"].is_object(), "{response}");
    let pid = served.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let began = Instant::now();
    loop {
        late.ask(&execute("text(1)", 60_000));
        let answer = late.until("operation/response");
        if let Some(why) = answer["result"]["message"].as_str() {
            assert!(why.contains("shutting down"), "{why}");
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the host admits cells");
    }
    let wait = client.request(&json!({ "method": "session/wait", "sessionId": "s",
        "request": { "cell_id": "1", "yield_time_ms": 60_000 } }));
    assert_eq!(wait["value"]["outcome"]["LiveCell"]["Result"]["content_items"][0]["text"], "end");
    assert_eq!(served.child.wait().unwrap().code(), Some(130));
}
