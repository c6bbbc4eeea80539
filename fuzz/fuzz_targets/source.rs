//! Source text: whatever it says, the cell ends and the host lives on.
#![no_main]

use cellblock::{
    CellLimits, CodeModeService, Engine, ExecuteRequest, RuntimeResponse, SessionLimits, WasmBackend,
};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

fuzz_target!(|source: &str| {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    });
    runtime.block_on(async {
        let cell = CellLimits {
            fuel: 50_000_000,
            total_time: Duration::from_millis(500),
            memory_bytes: 16 << 20,
            ..CellLimits::default()
        };
        let limits = SessionLimits { cell, ..SessionLimits::default() };
        let engine = Engine::shared().expect("an engine");
        let service =
            CodeModeService::new(Arc::new(WasmBackend::with_limits(&engine, limits)));
        let request = ExecuteRequest { yield_time_ms: Some(60_000), ..ExecuteRequest::new(source) };
        match service.execute(request).await.expect("admitted") {
            RuntimeResponse::Yielded { cell_id, .. } => {
                service.terminate(cell_id).await.expect("terminated");
            }
            RuntimeResponse::Result { error_text, .. } => {
                let broken = error_text.as_deref() == Some("exec runtime ended unexpectedly");
                assert!(!broken, "the guest broke");
            }
            RuntimeResponse::Terminated { .. } => panic!("nobody terminated it"),
        }
        // The next cell on the same engine runs as if nothing had been.
        let next = service.execute(ExecuteRequest::new("text(1 + 1)")).await.expect("admitted");
        assert_eq!(next.content_items().len(), 1);
    });
});
