//! Parked cells that were authenticated and say anything: the payload is the fuzzer's, or a
//! real one that the fuzzer has changed.
#![no_main]

use arbitrary::Arbitrary;
use cellblock::{
    CellLimits, CodeModeBackend, Engine, EngineConfig, ExecuteRequest, ParkKey, ParkedCell, Parking,
    SessionLimits, StoredValues, ToolDefinition, WakeRequest, WasmBackend,
};
use hmac::{Hmac, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::runtime::Runtime;

const SECRET: [u8; 32] = [1; 32];
const PAYLOAD: usize = 92;

const PROGRAM: &str = "
    const all = []; for (let i = 0; i < 50; i++) all.push({ i, text: 'x'.repeat(i) });
    store('k', all.length); text('before');
    await Promise.all([tools.a({ n: 1 }), tools.b('x'), new Promise((r) => setTimeout(r, 1))]);
    text(all.map((each) => each.text.length).join()); text(load('k'));";

struct Fixture {
    runtime: Runtime,
    backend: WasmBackend,
    authentication: Hmac<Sha256>,
    whole: Vec<u8>,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut config = EngineConfig::default();
    config.max_cells = 2;
    let cell = CellLimits {
        fuel: 50_000_000,
        running_time: Duration::from_millis(500),
        total_time: Duration::from_secs(2),
        memory_bytes: 8 << 20,
        cancel_grace: Duration::ZERO,
        ..CellLimits::default()
    };
    let limits = SessionLimits { cell, ..SessionLimits::default() };
    let backend = WasmBackend::with_limits(&Engine::new(&config).unwrap(), limits);
    backend.set_parking(Parking::new(&ParkKey::new(SECRET)));
    let whole = runtime.block_on(async {
        let id = backend.allocate_cell_id().unwrap();
        let request = ExecuteRequest {
            enabled_tools: ["a", "b"].map(|name| ToolDefinition::function(name, name)).into(),
            yield_time_ms: Some(0),
            ..ExecuteRequest::new(PROGRAM)
        };
        backend.execute(id.clone(), request, StoredValues::new()).await.unwrap();
        backend.park(id).await.unwrap().cell.as_bytes().to_vec()
    });
    let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).unwrap();
    let derived = keyed(&SECRET).chain_update(b"cellblock park: authentication").finalize();
    Fixture { runtime, backend, authentication: keyed(&derived.into_bytes()), whole }
});

#[derive(Arbitrary, Debug)]
enum Made<'a> {
    Payload(&'a [u8]),
    Changed(Vec<(u16, u8)>),
}

fuzz_target!(|made: Made<'_>| {
    let Fixture { runtime, backend, authentication, whole } = &*FIXTURE;
    let mut bytes = whole[..whole.len() - 32].to_vec();
    match made {
        Made::Payload(payload) => {
            bytes.truncate(PAYLOAD);
            bytes.extend_from_slice(payload);
        }
        Made::Changed(changes) => {
            let length = bytes.len() - PAYLOAD;
            for (at, byte) in changes {
                bytes[PAYLOAD + usize::from(at) % length] = byte;
            }
        }
    }
    let tag = authentication.clone().chain_update(&bytes).finalize().into_bytes();
    bytes.extend_from_slice(&tag);
    runtime.block_on(async {
        let cell = ParkedCell::from_bytes(bytes).unwrap();
        let id = backend.allocate_cell_id().unwrap();
        let mut request = WakeRequest { yield_time_ms: Some(0), ..WakeRequest::new(cell) };
        if let Ok(info) = backend.parked_info(&request.cell) {
            for call in info.calls {
                request.calls.insert(call.runtime_tool_call_id, Ok(serde_json::json!([1]).into()));
            }
        }
        if backend.wake(id.clone(), request, StoredValues::new()).await.is_ok() {
            let _ = backend.terminate(id).await;
        }
    });
});
