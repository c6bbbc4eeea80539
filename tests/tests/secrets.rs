//! Nothing of the host or of an earlier tenant is reachable.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock::{
    CodeModeService, ContentItem, Engine, EngineConfig, ExecuteRequest, RuntimeResponse,
    SessionLimits, WasmBackend,
};
use std::sync::Arc;

async fn texts(service: &CodeModeService, source: &str) -> Vec<String> {
    let request = ExecuteRequest { yield_time_ms: Some(600_000), ..ExecuteRequest::new(source) };
    let response = service.execute(request).await.unwrap();
    assert!(matches!(response, RuntimeResponse::Result { error_text: None, .. }), "{response:?}");
    let text = |item| match item {
        ContentItem::InputText { text } => text,
        other => panic!("not a text: {other:?}"),
    };
    response.into_content().into_iter().map(text).collect()
}

/// One tenant fills its memory with a pattern; the next, in the same slot, allocates
/// buffers without initialising them wherever the language lets it, and looks for it.
#[tokio::test]
async fn a_fresh_cell_holds_no_byte_of_the_last_tenant() {
    // One slot, so that every cell gets the memory of the last.
    let mut config = EngineConfig::default();
    config.max_cells = 1;
    let engine = Engine::new(&config).unwrap();
    assert!(engine.is_pooled(), "the pool is what keeps memory resident");
    let service =
        CodeModeService::new(Arc::new(WasmBackend::with_limits(&engine, SessionLimits::default())));
    let poison = "
        const kept = [];
        for (let i = 0; i < 24; i++) kept.push(new Uint32Array(1 << 18).fill(0xDEADBEEF));
        for (let i = 0; i < 20000; i++) kept.push('POISON-' + i + '-POISON');
        text(kept.length)";
    let scan = "
        let found = 0, seen = 0;
        const kept = [];
        for (const size of [16, 64, 256, 1024, 1 << 14, 1 << 20])
            for (let i = 0; i < (size > 1e5 ? 24 : 400); i++) {
                // The engine need not clear what `resize` and `transfer` give.
                const buffer = new ArrayBuffer(8, { maxByteLength: size });
                buffer.resize(size);
                const words = new Uint32Array(buffer.transfer(size));
                kept.push(words);
                for (const word of words) { seen++; if (word === 0xDEADBEEF) found++; }
            }
        text(seen > 6e6); text(found);";
    for _ in 0..3 {
        assert_eq!(texts(&service, poison).await, ["20024"]);
        assert_eq!(texts(&service, scan).await, ["true", "0"]);
    }
}

/// No environment, path, address or other session's value is in reach.
#[tokio::test]
async fn nothing_of_the_host_is_in_the_global_scope() {
    let engine = Engine::shared().unwrap();
    let session = || {
        CodeModeService::new(Arc::new(WasmBackend::with_limits(&engine, SessionLimits::default())))
    };
    let (mine, other) = (session(), session());
    texts(&other, "store('secret', 'of the other session')").await;
    let walk = "
        const seen = new Set(), found = [];
        const walk = (value, depth) => {
            if (typeof value === 'string') found.push(value);
            if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value) || depth > 8) return;
            seen.add(value);
            for (const key of Reflect.ownKeys(value)) {
                found.push(String(key));
                try { walk(value[key], depth + 1) } catch (e) { found.push(String(e?.stack)) }
            }
            walk(Object.getPrototypeOf(value), depth + 1);
        };
        walk(globalThis, 0);
        try { null.x } catch (e) { found.push(e.stack) }
        found.push(String(load('secret')), String(new Error().stack), Function.prototype.toString.call(text));
        text(found.join('\\n'));";
    let found = texts(&mine, walk).await.remove(0);
    assert!(found.lines().count() > 500, "the walk went nowhere");
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    for secret in
        [home.as_str(), "/cellblock", "/cargo", "wasm32", "of the other session", "PATH=", "0x"]
    {
        assert!(!found.contains(secret), "{secret} is in reach");
    }
}
