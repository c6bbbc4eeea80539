//! Programs whose steps never wait for anything: they share the workers with everybody
//! else, are answered in time, and their running time is counted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock::{
    CellLimits, CodeModeService, ContentItem, ExecuteRequest, LimitKind, RuntimeResponse,
    SessionLimits,
};
use cellblock_tests::backends::Backends;
use std::time::{Duration, Instant};

/// Programs that have something to do at once, always.
const NEVER_IDLE: [&str; 4] = [
    "for (;;) await new Promise((r) => setTimeout(r, 0))",
    "function f() { setTimeout(f, 0) } f(); await new Promise(() => {})",
    "for (let i = 0; i < 9000; i++) (function f() { setTimeout(f, 0) })(); await new Promise(() => {})",
    "for (;;) { yield_control(); await new Promise((r) => setTimeout(r, 0)) }",
];

/// Far more than the 50 ms that it takes on an idle machine, and far less than for ever.
const SOON: Duration = Duration::from_secs(2);

fn session(running_time: Duration) -> CodeModeService {
    let cell = CellLimits { running_time, ..CellLimits::default() };
    CodeModeService::new(Backends::Wasm.session(SessionLimits { cell, ..SessionLimits::default() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_served_beside_programs_that_never_wait() {
    for count in [2, 3, 100] {
        let busy = session(Duration::from_mins(1));
        for program in NEVER_IDLE.iter().cycle().take(count) {
            let request =
                ExecuteRequest { yield_time_ms: Some(0), ..ExecuteRequest::new(*program) };
            let began = Instant::now();
            let response = busy.execute(request).await.unwrap();
            assert!(matches!(response, RuntimeResponse::Yielded { .. }), "{response:?}");
            assert!(began.elapsed() < SOON, "yielded after {:?}", began.elapsed());
        }
        let other = session(Duration::from_mins(1));
        for _ in 0..5 {
            let began = Instant::now();
            let response = other.execute(ExecuteRequest::new("text(6 * 7)")).await.unwrap();
            assert!(began.elapsed() < SOON, "beside {count}: {:?}", began.elapsed());
            let text = ContentItem::InputText { text: "42".to_owned() };
            assert_eq!(response.content_items(), [text]);
        }
        busy.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_time_is_counted_over_all_steps() {
    for program in NEVER_IDLE {
        let limit = Duration::from_millis(200);
        let service = session(limit);
        let began = Instant::now();
        let mut response = service.execute(ExecuteRequest::new(program)).await.unwrap();
        while let RuntimeResponse::Yielded { cell_id, .. } = response {
            let wait = cellblock::WaitRequest { cell_id, yield_time_ms: 60_000 };
            response = service.wait(wait).await.unwrap().into();
        }
        assert_eq!(response.report().limit, Some(LimitKind::RunningTime), "{response:?}");
        assert!(response.report().usage.running_time >= limit);
        assert!(began.elapsed() < limit + SOON, "{:?}", began.elapsed());
    }
}
